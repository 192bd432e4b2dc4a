"""Which lines of C and Cython ran, as gcov's counts tell: `make coverage` runs it after the suite.

    python tools/coverage_lines.py BUILD OUT

Reads the counts that lie below BUILD, one file for each object, prints a table of the files of src/ and nnkern/ with
the lines that never ran, and writes to OUT each file with the count before each line. A line that is compiled several
times, for each precision, instruction set or module, ran where one of them ran; what ran for some of the instruction
sets that hold it and not for others is listed apart, so that no set's part is hidden by another's.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from itertools import groupby
from pathlib import Path

KINDS = {"Cython": (".pyx", ".pxd"), "C": (".c", ".h", ".def")}


def counts_of(notes):
    """{(file, line): count} of one object, from its .gcno and, where it ran, the .gcda beside it."""
    told = subprocess.run(["gcov", "--json-format", "--stdout", notes], check=True, capture_output=True, text=True)
    counts = defaultdict(int)
    for report in map(json.loads, told.stdout.splitlines()):
        for file in report["files"]:
            places = places_in(file["file"])
            for line in file["lines"]:
                place = places(line["line_number"])
                if place is not None:
                    counts[place] = max(counts[place], line["count"])
    return counts


def places_in(path):
    """The function from the number of a line, in a file that gcov names, to (file, line) of the repository or None."""
    name = source(path)
    if name is not None:
        return lambda number: (name, number)
    if path.startswith("build/") and Path(path).is_file():
        return lines_of_cython(path).get
    return lambda number: None


def lines_of_cython(path):
    """{line of C: (file, line)}, as the comments say that Cython writes over what it made of each line."""
    lines, place, in_comment = {}, None, False
    for number, text in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        mark = re.match(r'\s*/\* "(.+)":(\d+)$', text)
        if mark:
            name = source(mark[1])
            place, in_comment = name and (name, int(mark[2])), True
        elif in_comment:
            in_comment = not text.endswith("*/")
        elif text == "}" or text.endswith("/* function exit code */"):
            place = None
        elif place is not None:
            lines[number] = place
    return lines


def source(name):
    """The file of the repository that gcov or Cython name, or None: what Cython writes of its own, and others' headers.

    Cython copies headers to build/src, and names a .pxd as it was included.
    """
    name = name.removeprefix("build/")
    places = (place for place in (Path(name), Path("src", name)) if place.parts[0] in ("src", "nnkern"))
    return next((place.as_posix() for place in places if place.is_file()), None)


def ranges(lines):
    """[1, 2, 3, 7] → 1-3, 7"""
    groups = (list(group) for _, group in groupby(enumerate(sorted(lines)), lambda pair: pair[1] - pair[0]))
    return ", ".join(str(g[0][1]) if len(g) == 1 else f"{g[0][1]}-{g[-1][1]}" for g in groups)


def table(title, counts):
    """Prints, for each file, how many lines there are, how many ran, and which didn't."""
    files = defaultdict(dict)
    for (name, line), count in counts.items():
        files[name][line] = count
    print(f"\n{title:<28} lines  missed  cover   not run")
    total = missed_in_all = 0
    for name, lines in sorted(files.items()):
        missed = [line for line, count in lines.items() if not count]
        total += len(lines)
        missed_in_all += len(missed)
        print(row(name, len(lines), len(missed)), ranges(missed))
    print(row("all", total, missed_in_all))


def row(name, lines, missed):
    """The share is rounded down: 100 % are all."""
    return f"{name:<28} {lines:5}  {missed:6}  {1000 * (lines - missed) // max(1, lines) / 10:5.1f}%  "


def main(build, out):
    objects = {notes.stem: counts_of(notes) for notes in sorted(Path(build).rglob("*.gcno"))}
    if not objects:
        raise SystemExit(f"no .gcno below {build}: was nnkern built here with NNKERN_COVERAGE=1?")
    ran = defaultdict(int)
    for counts in objects.values():
        for at, count in counts.items():
            ran[at] = max(ran[at], count)
    for kind, suffixes in KINDS.items():
        table(kind, {at: count for at, count in ran.items() if at[0].endswith(suffixes)})

    for name, counts in objects.items():
        if name.startswith("isa_"):
            missed = defaultdict(list)
            for (file, line), count in counts.items():
                if not count and ran[file, line]:
                    missed[file].append(line)
            print(f"\n{name}: lines that other instruction sets run, and this one doesn't{'' if missed else ': none'}")
            for file, lines in sorted(missed.items()):
                print(f"{file:<28} {ranges(lines)}")

    for name in {name for name, _ in ran}:
        listing = Path(out, name + ".txt")
        listing.parent.mkdir(parents=True, exist_ok=True)
        with listing.open("w", encoding="utf-8") as file:
            for number, text in enumerate(Path(name).read_text(encoding="utf-8").splitlines(), 1):
                count = ran.get((name, number))
                file.write(f"{'' if count is None else count or '#####':>12} {number:5}  {text}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
