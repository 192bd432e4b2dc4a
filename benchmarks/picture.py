"""The ratios of a run as an SVG: one line for each case, one dot for each library.

It draws its own background, light or dark by the reader's system, so that it is readable on any page.
"""

from __future__ import annotations

import math
from html import escape

from report import microseconds
from sides import precision_of

# Okabe and Ito's palette, which suits every kind of colour vision, without its yellow and black.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c6d31", "#888888")
STYLE = """
.page { fill: #ffffff } text { fill: #1f2328; font: 13px system-ui, sans-serif } .bold { font-weight: 600 }
.faint { fill: #59636e } .grid { stroke: #d1d9e0 } .one { stroke: #1f2328; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117 } text { fill: #f0f6fc }
  .faint { fill: #9198a1 } .grid { stroke: #3d444d } .one { stroke: #f0f6fc }
}
"""
# as wide as the column that the documentation shows it in
LEFT, RIGHT, WIDTH = 206, 166, 736
LINE, TOP = 24, 92
TITLES = {"training": "One training step", "inference": "One prediction, × examples"}
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def element(name: str, content: str = "", **attributes) -> str:
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items())
    return f"<{name}{given}>{content}</{name}>"


def text(x: float, y: float, content: str, **attributes) -> str:
    return element("text", escape(content), x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def lines_of(result: dict, ours: str) -> list[tuple[str, str, float, dict[str, float]]]:
    """(group, label, our seconds, {library: its time / ours}) of every row that compares."""
    found = []
    for group in ("training", "inference"):
        for row in result["groups"].get(group, ()):
            # of reduced precision would be another picture
            best = {name: seconds for name, seconds in row.get("best", {}).items() if not precision_of(name)}
            if ours in best and len(best) > 1:
                ratios = {name: seconds / best[ours] for name, seconds in best.items() if name != ours}
                batch = f" × {row['batch']}" if "batch" in row else ""
                shuffled = " shuffled" * row["shape"].endswith("shuffled")
                found.append((group, row["shape"].split(",")[0] + batch + shuffled, best[ours], ratios))
    return found


def svg(result: dict, ours: str) -> str:
    lines = lines_of(result, ours)
    peers = sorted({name for *_, ratios in lines for name in ratios})
    colour = {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(peers)}
    highest = max((max(ratios.values()) for *_, ratios in lines), default=1.0)
    lowest = min((min(ratios.values()) for *_, ratios in lines), default=1.0)
    low, high = min(0.75, lowest / 1.1), max(2.0, highest * 1.1)

    def x(ratio: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(ratio / low) / math.log(high / low)

    title = f"Time of each library as a multiple of {ours}'s"
    threads = f"{result['threads']} threads" if result["threads"] > 1 else "one thread"
    machine = f"{result['machine']['cpu']}, {result['dtype']}, {threads}, {result['date'][:10]}"
    parts = [text(16, 26, title, class_="bold"), text(16, 46, machine, class_="faint")]
    at = 16.0
    for name in peers:
        parts.append(element("circle", cx=f"{at + 5:.0f}", cy=66, r=5, fill=colour[name]))
        parts.append(text(at + 15, 70, name))
        at += 30 + 7.5 * len(name)

    groups = list(dict.fromkeys(group for group, *_ in lines))
    bottom = TOP + LINE * (len(lines) + len(groups))
    for tick in TICKS:
        if low <= tick <= high:
            kind = "one" if tick == 1 else "grid"
            parts.append(element("line", x1=f"{x(tick):.1f}", x2=f"{x(tick):.1f}", y1=TOP, y2=bottom, class_=kind))
            parts.append(text(x(tick), bottom + 18, f"{tick:g}×", class_="faint", text_anchor="middle"))
    y, end = TOP, WIDTH - 16
    previous = None
    for group, label, seconds, ratios in lines:
        if group != previous:
            y += LINE
            parts.append(text(16, y - 8, TITLES[group], class_="bold"))
            parts.append(text(end - 84, y - 8, f"{ours}, µs", class_="faint", text_anchor="end"))
            parts.append(text(end, y - 8, "best peer", class_="faint", text_anchor="end"))
            previous = group
        y += LINE
        parts.append(text(LEFT - 12, y - 8, label, text_anchor="end"))
        parts.append(text(end - 84, y - 8, microseconds(seconds), text_anchor="end"))
        parts.append(text(end, y - 8, f"{min(ratios.values()):.2f}×", text_anchor="end"))
        for name, ratio in sorted(ratios.items(), key=lambda pair: -pair[1]):
            hint = element("title", escape(f"{label}: {name} takes {ratio:.2f} times as long as {ours}"))
            parts.append(element("circle", hint, cx=f"{x(ratio):.1f}", cy=f"{y - 12:.1f}", r=5, fill=colour[name]))
    legend = f"a dot right of 1× is slower than {ours}, left of it faster; a logarithmic scale"
    parts.append(text(LEFT, bottom + 40, legend, class_="faint"))
    height = bottom + 54
    page = element("rect", width=WIDTH, height=height, rx=6, class_="page")
    body = "\n".join([element("title", escape(title)), element("style", STYLE), page, *parts])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n{body}\n</svg>\n'
    )
