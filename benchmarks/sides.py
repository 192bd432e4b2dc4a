"""The runner's end: child processes, the processor they stay on, and alternation."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

# Settings of OpenBLAS that halve the speed of every product where they don't fit the machine.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NNKERN_NUM_THREADS",
)


class SideError(Exception):
    """A side failed; the message says where."""


class Missing(Exception):
    """A side's library isn't installed, or can't do what was asked."""


def environment(threads: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return kept | dict.fromkeys(THREADS, str(threads))


def idlest_core() -> str:
    """The processor that did least over the last fifth of a second; "-" where none can be had."""
    if not hasattr(os, "sched_setaffinity"):
        return "-"

    def busy() -> dict[int, int]:
        ticks = {}
        for line in Path("/proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name.startswith("cpu") and name != "cpu":
                # user, nice, system, idle, iowait, irq, softirq, steal
                used = [int(field) for field in fields[:8]]
                ticks[int(name[3:])] = sum(used) - used[3] - used[4]
        return ticks

    before = busy()
    time.sleep(0.2)
    after = busy()
    allowed = sorted(os.sched_getaffinity(0))
    return str(min(allowed, key=lambda core: after.get(core, 0) - before.get(core, 0)))


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_sides() -> list[str]:
    """The names there are files for, nnkern first."""
    names = sorted(path.stem.removeprefix("with_") for path in FOLDER.glob("peers/with_*.py"))
    return sorted(names, key=lambda name: name != "nnkern")


class Side:
    """A child process that answers JSON lines; `source` is a name, or a path to a side's file."""

    def __init__(self, source: str, threads: int, core: str):
        path = Path(source)
        if path.suffix != ".py":
            path = FOLDER / "peers" / f"with_{source}.py"
        if not path.is_file():
            raise Missing(f"there is no {path.name}")
        self.name = path.stem.removeprefix("with_")
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / "side.py"), str(path), core],
            env=environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self.answer()
        except BaseException:
            self.close()
            raise

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SideError(f"{self.name}: the process ended, status {self.process.wait()}")
        answer = json.loads(line)
        if "unsupported" in answer:
            raise Missing(f"{self.name}: {answer['unsupported']}")
        if "error" in answer:
            raise SideError(f"{self.name}: {answer['error']}")
        return answer["ok"]

    def ask(self, do: str, **arguments):
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # answer() tells with which status the process ended
        return self.answer()

    def close(self) -> None:
        # A process that is gone leaves a request behind in the pipe.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


Times = tuple[float, float]  # seconds by the wall, seconds of the processor


def alternate(
    calls: dict[str, Callable[[int], Times]],
    once: dict[str, Times],
    rounds: int,
    budget: float,
) -> tuple[dict[str, dict], int]:
    """Time A B A B. Each call takes a number of repetitions and gives the times of all of them.

    `once` has each one's times for a single repetition, warm or not. All get the same number of
    repetitions: as many as fit the budget at the slowest's pace. Returns {"seconds": [...],
    "cpu_seconds": [...]} per repetition, one entry for each round, and the number.
    """
    # The first repetition paid for page faults and cold caches; some more tell the pace.
    few = max(1, math.ceil(budget / 20 / max(wall for wall, _ in once.values())))
    pace = max(call(few)[0] / few for call in calls.values())
    repetitions = max(1, math.ceil(budget / pace))
    times = {name: {"seconds": [], "cpu_seconds": []} for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = call(repetitions)
            times[name]["seconds"].append(wall / repetitions)
            times[name]["cpu_seconds"].append(cpu / repetitions)
    return times, repetitions


class Session:
    """The sides of one run, started once and driven case by case."""

    def __init__(self, sources: Iterable[str], threads: int, dtype: str, quick: bool):
        self.threads, self.dtype, self.quick = threads, dtype, quick
        self.core = idlest_core() if threads == 1 else "-"
        # Rounds of an epoch or more for training. A call of a kernel or of predict is timed in
        # many short rounds: some of them fall between the other programs' turns.
        self.rounds, self.budget = (3, 0.05) if quick else (9, 0.2)
        self.short_rounds, self.short_budget = (10, 0.002) if quick else (50, 0.003)
        self.limit = 0.0
        self.sides: dict[str, Side] = {}
        self.described: dict[str, dict] = {}
        self.missing: dict[str, str] = {}
        for source in sources:
            try:
                side = Side(source, threads, self.core)
                self.described[side.name] = side.ask("describe")
                self.sides[side.name] = side
            except (Missing, SideError) as reason:
                self.missing[source] = str(reason)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_) -> None:
        for side in self.sides.values():
            side.close()

    def measure_limit(self) -> None:
        """Between cases, so that the limit has seen the clock that the cases saw."""
        if "numpy" in self.sides:
            rate = self.sides["numpy"].ask("gemm_rate", dtype=self.dtype, threads=self.threads)
            self.limit = max(self.limit, rate)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
