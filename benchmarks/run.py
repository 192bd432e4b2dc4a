"""Verify, then time nnkern beside its peers.

`nnkern bench` runs the copy of this file in the installed package; python benchmarks/run.py runs it from the sources.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import cases
import elementwise
import footprint
import inference
import kernels
import machine
import picture
import report
import tables
import training
from sides import PRECISIONS, SLOW_TO_START, UNSET, Missing, Session, SideError, cores, installed_sides, precision_of

OURS = "nnkern"
GROUPS = {
    "training": (training.run, "One step of the whole fit, µs"),
    "inference": (inference.run, "One prediction, µs"),
    "serving": (inference.serve, "One prediction by a frozen predictor, µs"),
    "kernels": (kernels.run, "One layer, one thread, µs per call"),
    "tables": (tables.run, "One step of the whole fit of a network for tables, µs"),
    "elementwise": (elementwise.run, "One array, one thread, µs per call"),
}
# Random networks, by the names that their cases are drawn from; "sweep" is both.
SWEEPS = {
    "sweep-training": (training.sweep, "One step of the whole fit of random networks, µs"),
    "sweep-inference": (inference.sweep, "One prediction of random networks, µs"),
}
GROUPS |= SWEEPS
# groups that compare with numpy alone, both in one child process
ON_ONE_THREAD = ("kernels", "elementwise")
# run only if named
FOR_DEVELOPERS = ("tables", "elementwise", *SWEEPS)
FOOTPRINT = "footprint"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    groups = [*GROUPS, FOOTPRINT]
    named = [*groups, "sweep"]
    parser = argparse.ArgumentParser(prog="nnkern bench", description=__doc__.splitlines()[0])
    rare = ", ".join(FOR_DEVELOPERS)
    parser.add_argument(
        "groups",
        nargs="*",
        metavar="GROUP",
        help=f"of {', '.join(named)}; default: all but {rare}; tabular alone is a command of its own, see its --help",
    )
    parser.add_argument(
        "--quick", action="store_true", help="shorter rounds, and no case that takes seconds for a step"
    )
    parser.add_argument("--case", action="append", metavar="NAME", help="only this case; repeat")
    parser.add_argument(
        "--side",
        action="append",
        metavar="NAME",
        help="only these sides (a name, or the path of a side's file); repeat. "
        f"There are {', '.join(installed_sides())}",
    )
    parser.add_argument("--reduced", action="store_true", help="the sides of reduced precision too, for float32")
    parser.add_argument("--seed", type=int, default=0, help="of sweep's random networks; default 0")
    parser.add_argument("--count", type=int, metavar="N", help="at most N networks of each kind in a sweep")
    parser.add_argument("--threads", type=int, default=1, help="0: all there are; default 1")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="report processor time: for a machine that isn't idle, on one thread",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all that was measured")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="a picture of the ratios")
    options = parser.parse_args(argv)
    for group in options.groups:
        if group not in named:
            parser.error(f"unknown group {group!r}: there are {', '.join(named)}")
    known = {case.name for case in cases.ALL}
    for name in options.case or ():
        if name not in known:
            parser.error(f"unknown case {name!r}: there are {', '.join(sorted(known))}")
    if options.seed < 0 or (options.count is not None and options.count < 1):
        parser.error("--seed takes a number from 0, --count one from 1")
    if options.threads < 0:
        parser.error("--threads takes a number from 0")
    if options.cpu_time and options.threads != 1:
        parser.error("--cpu-time is for one thread: the processor time of several says nothing about their speed")
    for file in filter(None, (options.json, options.svg)):
        if not file.resolve().parent.is_dir():
            parser.error(f"there is no folder {file.parent} to write {file.name} in")
    if "sweep" in options.groups:
        options.groups = [*(group for group in options.groups if group not in ("sweep", *SWEEPS)), *SWEEPS]
    # The footprint belongs to no case.
    usual = [group for group in groups if group not in FOR_DEVELOPERS]
    options.groups = options.groups or [group for group in usual if group in GROUPS or not options.case]
    options.threads = options.threads or cores()
    if options.threads != 1:
        # These groups compare single threads.
        options.groups = [group for group in options.groups if group not in ON_ONE_THREAD]
    return options


def sides(options: argparse.Namespace) -> list[str]:
    """Those that were named, or the installed ones but for what the options leave out."""
    sweep = not SWEEPS.keys().isdisjoint(options.groups)
    precisions = PRECISIONS if options.reduced else ("", "bfloat16") if sweep else ("",)

    def wanted(name: str) -> bool:
        return precision_of(name) in precisions and not ((options.quick or sweep) and name in SLOW_TO_START)

    return options.side or list(filter(wanted, installed_sides()))


def chosen(options: argparse.Namespace, group: str) -> list[str] | None:
    """The names of a group's cases; None for the usual ones."""
    if group in SWEEPS:
        return cases.sweep_names(group.removeprefix("sweep-"), options.seed, options.count)
    return options.case


def header(result: dict) -> str:
    found = result["machine"]
    sizes = ", ".join(f"{name} {size}" for name, size in found["caches"].items())
    lines = [f"{found['cpu']}, {found['cores']} cores, {sizes}; Python {found['python']}"]
    for name, side in result["sides"].items():
        facts = ", ".join(f"{key} {value}" for key, value in side["kernels"].items())
        lines.append(f"{name} {side['version']}: {facts}; threads {side['threads']}")
    lines += [f"{name}: not measured: {reason}" for name, reason in result["missing"].items()]
    where = f"on processor {', '.join(map(str, result['cores']))}" if result["cores"] else "on any processor"
    lines.append(
        f"{result['dtype']}, {result['threads']} thread{'s' * (result['threads'] > 1)} {where}; unset for all sides: "
        + ", ".join(UNSET)
    )
    if result["limits"]:
        measured = ", ".join(f"{what} {rate / 1e9:.1f}" for what, rate in result["limits"].items())
        lines.append(f"limit: the best of {measured} GF/s, in this run")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["tabular"]:  # whole models and their errors: options, peers and tables of its own
        import tabular

        return tabular.main(argv[1:])
    options = arguments(argv)
    start = time.perf_counter()
    result = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["nnkern bench", *argv]),
        "machine": machine.describe(),
        "threads": options.threads,
        "dtype": options.dtype,
        "groups": {},
    }
    failed = False
    with Session(sides(options), options.threads, options.dtype, options.quick) as session:
        result |= {"cores": session.cores, "missing": session.missing}
        session.measure_limit()
        for group in options.groups:
            try:
                if group == FOOTPRINT:
                    result[group] = footprint.run(session)
                else:
                    result["groups"][group] = GROUPS[group][0](session, chosen(options, group))
            except (Missing, SideError) as error:
                session.missing[group] = str(error)
                failed = True
        result |= {"sides": session.described, "limits": session.limits, "limit": session.limit}
        result["left_out"] = session.left_out
        names = list(session.sides)
    # Without the library itself nothing was compared.
    failed |= OURS in session.missing
    print(header(result))
    kind = "cpu_seconds" if options.cpu_time else "seconds"
    for group, rows in result["groups"].items():
        for row in rows:
            report.summarise(row, OURS, session.limit, kind)
        columns = list(rows[0]["sides"]) if group in ON_ONE_THREAD and rows else names
        title = GROUPS[group][1] + " of processor time" * options.cpu_time
        print(report.tables(title, rows, columns, OURS, worst_first=group in SWEEPS))
        if group == "tables":
            print(tables.prices(rows))
        wrong = report.wrong(rows)
        failed |= bool(wrong)
        for text in wrong:
            print(f"not timed: {text}")
    if FOOTPRINT in result:
        print(footprint.table(result[FOOTPRINT]))
    if result["left_out"]:
        print(f"left out of --quick: {', '.join(result['left_out'])}")
    result["seconds"] = time.perf_counter() - start
    result["machine"]["load_after"] = machine.describe()["load"]
    print(f"{result['seconds']:.0f} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.svg:
        options.svg.write_text(picture.svg(result, OURS), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(128 + 2)  # as a shell reports death by SIGINT
