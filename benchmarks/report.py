"""Tables of the rows: best times, ratio to the best peer, GF/s, share of the limit; errors of reduced precision.

Each precision has a table of its own. A side is compared with the peers that compute in the same precision or a finer
one: a float32 peer that is faster than our bfloat16 counts against it, an int8 peer doesn't.
"""

from __future__ import annotations

import math

from sides import PRECISIONS, precision_of

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
    row |= compared(row, ours, "")
    if ours in row["best"] and "bytes" in row:
        row["gbytes"] = row["bytes"] / row["best"][ours] / 1e9
    if "gflops" in row and limit:
        row["share"] = row["gflops"] * 1e9 / limit
    row["reduced"] = {}
    for reduced in PRECISIONS[1:]:
        found = row["reduced"][reduced] = compared(row, ours, reduced)
        if "gflops" in found and ours in row["best"]:
            found["of_whole"] = row["best"][found["own"]] / row["best"][ours]


def is_own(name: str, ours: str) -> bool:
    """Whether a side is the library itself, in whatever precision or way."""
    return name == ours or name.startswith(f"{ours}_")


def compared(row: dict, ours: str, kind: str) -> dict:
    """Our best side of a precision beside the best peer of that or a finer one; each only where it was measured."""
    finer = PRECISIONS[: PRECISIONS.index(kind) + 1]
    own = {name: seconds for name, seconds in row["best"].items() if is_own(name, ours) and precision_of(name) == kind}
    peers = {
        name: seconds for name, seconds in row["best"].items() if not is_own(name, ours) and precision_of(name) in finer
    }
    if not own:
        return {}
    found = {"own": min(own, key=own.get)}
    if peers:
        found["best_peer"] = min(peers, key=peers.get)
        found["ratio"] = peers[found["best_peer"]] / own[found["own"]]
    if "flops" in row:
        found["gflops"] = row["flops"] / own[found["own"]] / 1e9
    return found


def facts(row: dict, kind: str) -> dict:
    """What `compared` found for a precision."""
    return row["reduced"].get(kind, {}) if kind else row


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


def error_cell(row: dict, name: str) -> str:
    error = row["sides"].get(name, {}).get("error")
    return f"{error['largest']:.2g}, {error['rms']:.2g}" if error else "-"


def tables(title: str, rows: list[dict], names: list[str], ours: str, worst_first: bool = False) -> str:
    """For the dtype, and for each reduced precision of which there are sides: a table and a sentence."""
    texts = []
    for kind in PRECISIONS:
        if worst_first:
            rows = sorted(rows, key=lambda row, kind=kind: facts(row, kind).get("ratio", math.inf))
        columns = [name for name in names if precision_of(name) == kind and measured(rows, name)]
        if not kind:
            texts += [table(title, rows, columns), verdict(rows, ours)]
        elif columns:
            texts += [reduced_table(f"{title}, {kind}", rows, columns, ours, kind), verdict(rows, ours, kind)]
    return "\n".join(texts)


def reduced_table(title: str, rows: list[dict], names: list[str], ours: str, kind: str) -> str:
    """Times in microseconds; errors by the spread, the largest and the root mean square."""
    labels = labels_of(rows)
    head = [*labels, ours, *(text for name in names for text in (name, "error")), "ratio", "best peer"]
    head += ["of float32's", "GF/s"]
    body = []
    for row in rows:
        found = facts(row, kind)
        line = [str(row[key]) for key in labels] + [cell(row, ours)]
        line += [text for name in names for text in (cell(row, name), error_cell(row, name))]
        line.append(f"{found['ratio']:.2f}" if "ratio" in found else "-")
        line.append(found.get("best_peer", "-"))
        line.append(f"{found['of_whole']:.2f}" if "of_whole" in found else "-")
        line.append(f"{found['gflops']:.1f}" if "gflops" in found else "-")
        body.append(line)
    return written(title, head, body, labels, rows)


def measured(rows: list[dict], name: str) -> bool:
    return any("missing" not in row["sides"].get(name, {}) for row in rows)


def labels_of(rows: list[dict]) -> list[str]:
    return [key for key in ("case", "direction", "shape", "activation", "batch") if key in rows[0]]


def table(title: str, rows: list[dict], names: list[str]) -> str:
    """The sides of the dtype. Times in microseconds; the ratio is the best peer's time by ours."""
    if not rows:
        return f"{title}: nothing measured\n"
    labels = labels_of(rows)
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
    return written(title, head, body, labels, rows)


def written(title: str, head: list[str], body: list[list[str]], labels: list[str], rows: list[dict]) -> str:
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


def verdict(rows: list[dict], ours: str, kind: str = "") -> str:
    """One sentence: in which rows a peer is ahead, or level."""
    ratios = {label(row): facts(row, kind)["ratio"] for row in rows if "ratio" in facts(row, kind)}
    if not ratios:
        return ""
    behind = [f"{name} ({ratio:.2f})" for name, ratio in ratios.items() if ratio < 1 - BAND]
    level = [f"{name} ({ratio:.2f})" for name, ratio in ratios.items() if abs(ratio - 1) <= BAND]
    ahead = len(ratios) - len(behind) - len(level)
    text = f"{ours}{f' in {kind}' * bool(kind)} is ahead in {ahead} of {len(ratios)}"
    mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
    text += f", least {min(ratios.values()):.2f}, geometric mean {mean:.2f}"
    text += f"; level within {BAND:.0%} in " + ", ".join(level) if level else ""
    text += "; BEHIND in " + ", ".join(behind) if behind else ""
    return text + ".\n"


def wrong(rows: list[dict]) -> list[str]:
    found = []
    for row in rows:
        for entry in row["sides"].values():
            found += [entry[key] for key in ("wrong", "failed") if key in entry]
    return found
