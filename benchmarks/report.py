"""Tables of the rows: best times, ratio to the best peer, GF/s, share of the limit."""

from __future__ import annotations

BAND = 0.03  # of noise; a ratio within it of 1 is level


def shared(row: dict, name: str) -> bool:
    """Whether another program took more than 3 % of the processor from the best round."""
    entry = row["sides"][name]
    wall, cpu = min(zip(entry["seconds"], entry["cpu_seconds"], strict=True))
    return row["threads"] == 1 and wall > (1 + BAND) * cpu


def summarise(row: dict, ours: str, limit: float, kind: str) -> None:
    """Add best times, ratio, GF/s and share, or GB/s, to a row; each only where it was measured.

    `kind` is "seconds" or "cpu_seconds".
    """
    row["best"] = {name: min(entry[kind]) for name, entry in row["sides"].items() if kind in entry}
    row["shared"] = [name for name in row["best"] if kind == "seconds" and shared(row, name)]
    peers = {name: seconds for name, seconds in row["best"].items() if name != ours}
    if ours in row["best"] and peers:
        row["best_peer"] = min(peers, key=peers.get)
        row["ratio"] = peers[row["best_peer"]] / row["best"][ours]
    if ours in row["best"] and "bytes" in row:
        row["gbytes"] = row["bytes"] / row["best"][ours] / 1e9
    if ours in row["best"] and "flops" in row:
        row["gflops"] = row["flops"] / row["best"][ours] / 1e9
        if limit:
            row["share"] = row["flops"] / row["best"][ours] / limit


def microseconds(seconds: float) -> str:
    value = seconds * 1e6
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def cell(row: dict, name: str) -> str:
    entry = row["sides"].get(name, {})
    if name in row["best"]:
        return microseconds(row["best"][name]) + "*" * (name in row["shared"])
    for key, text in (("wrong", "WRONG"), ("failed", "failed")):
        if key in entry:
            return text
    return "-"


def table(title: str, rows: list[dict], names: list[str]) -> str:
    """Times in microseconds; the ratio is the best peer's time by ours."""
    if not rows:
        return f"{title}: nothing measured\n"
    names = [name for name in names if any("missing" not in row["sides"].get(name, {}) for row in rows)]
    labels = [key for key in ("case", "direction", "shape", "activation", "batch") if key in rows[0]]
    peers = len(names) > 2
    rates = {"gbytes": "GB/s"} if "bytes" in rows[0] else {"gflops": "GF/s", "share": "of limit"}
    head = [*labels, *names, "ratio", *(["best peer"] if peers else []), *rates.values()]
    body = []
    for row in rows:
        line = [str(row[key]) for key in labels] + [cell(row, name) for name in names]
        line.append(f"{row['ratio']:.2f}" if "ratio" in row else "-")
        if peers:
            line.append(row.get("best_peer", "-"))
        line += [f"{row[key]:{'.2f' if key == 'share' else '.1f'}}" if key in row else "-" for key in rates]
        body.append(line)
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = []
    for line in (head, ["-" * width for width in widths], *body):
        cells = [
            text.ljust(width) if k < len(labels) else text.rjust(width)
            for k, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("| " + " | ".join(cells) + " |")
    if any(row["shared"] for row in rows):
        lines.append("\n* Another program used the processor in the best round too.")
    return f"{title}\n\n" + "\n".join(lines) + "\n"


def label(row: dict) -> str:
    return " ".join(str(row[key]) for key in ("case", "direction", "batch") if key in row)


def verdict(rows: list[dict], ours: str) -> str:
    """One sentence: in which rows a peer is ahead, or level."""
    compared = [row for row in rows if "ratio" in row]
    if not compared:
        return ""
    behind = [f"{label(row)} ({row['ratio']:.2f})" for row in compared if row["ratio"] < 1 - BAND]
    level = [f"{label(row)} ({row['ratio']:.2f})" for row in compared if abs(row["ratio"] - 1) <= BAND]
    ahead = len(compared) - len(behind) - len(level)
    text = f"{ours} is ahead in {ahead} of {len(compared)}"
    text += f"; level within {BAND:.0%} in " + ", ".join(level) if level else ""
    text += "; BEHIND in " + ", ".join(behind) if behind else ""
    return text + ".\n"


def wrong(rows: list[dict]) -> list[str]:
    found = []
    for row in rows:
        for entry in row["sides"].values():
            found += [entry[key] for key in ("wrong", "failed") if key in entry]
    return found
