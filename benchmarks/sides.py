"""The runner's side of the child processes: starting and pinning them, asking them, and timing them in alternation."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

# Settings of OpenBLAS that halve the speed of every product if they don't suit the machine.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREADS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NNKERN_NUM_THREADS",
)


# A side whose name ends in one of these computes in it, from the finer to the coarser; others in the dtype that is
# asked for, which "" stands for.
REDUCED = ("bfloat16", "int8")
PRECISIONS = ("", *REDUCED)


def precision_of(name: str) -> str:
    """What a side's name says that it computes in."""
    return next((kind for kind in REDUCED if name.endswith(f"_{kind}")), "")


class SideError(Exception):
    """A side failed; the message says where."""


class Missing(Exception):
    """A side's library isn't installed, or can't do what was asked."""


# Seconds to wait after a round on several threads: OpenBLAS's workers spin for 2^26 cycles or more, others' for less,
# and would compete with the next side for the processors.
SETTLE = 0.12

# With --quick a group starts no case later than this many seconds after the start. With numpy alone all cases are done
# by then, with all peers some of them; the run ends within a minute.
QUICK_UNTIL = {"training": 22, "inference": 34, "serving": 41, "kernels": 47}
# sides that compile for seconds in each case: not for --quick
SLOW_TO_START = ("torch_compile",)


def environment(threads: int) -> dict[str, str]:
    """The environment of the child processes; a side reads the number of threads from the variables of THREADS."""
    # The children are scripts that find their neighbours in their own folder.
    unset = (*UNSET, "PYTHONSAFEPATH")
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    return kept | dict.fromkeys(THREADS, str(threads))


def idlest_cores(count: int) -> list[int]:
    """The least busy processors over a fifth of a second; none where the system doesn't say, or can't pin."""
    if not hasattr(os, "sched_setaffinity"):
        return []

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
    return sorted(sorted(allowed, key=lambda core: after.get(core, 0) - before.get(core, 0))[:count])


def stay_on(cores: list[int]) -> None:
    """Pins this process, and the threads that it starts, to these processors."""
    if cores:
        os.sched_setaffinity(0, cores)


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def installed_sides() -> list[str]:
    """The names of the files in peers/, nnkern first."""
    names = sorted(path.stem.removeprefix("with_") for path in FOLDER.glob("peers/with_*.py"))
    return sorted(names, key=lambda name: name != "nnkern")


class Side:
    """A child process that answers JSON lines; `source` is a name, or a path to a side's file."""

    def __init__(self, source: str, threads: int, cores: list[int]):
        path = Path(source)
        if path.suffix != ".py":
            path = FOLDER / "peers" / f"with_{source}.py"
        if not path.is_file():
            raise Missing(f"there is no {path.name}")
        self.name = path.stem.removeprefix("with_")
        self.process = subprocess.Popen(
            [sys.executable, str(FOLDER / "side.py"), str(path), json.dumps(cores)],
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
            pass  # answer() reports the status with which the process ended
        return self.answer()

    def close(self, at_once: bool = False) -> None:
        if at_once:
            self.process.kill()
        # A process that has ended leaves a request in the pipe.
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
    settle: float = 0.0,
) -> dict[str, dict]:
    """Time the calls in alternation. Each takes a number of repetitions, and returns the time of all of them.

    `once` has the times of a single repetition of each, warm or cold. A round of a call lasts `budget` seconds, or one
    repetition: after equally long rounds of the others the caches are equally cold. After each, `settle` seconds pass.
    Returns for each {"seconds": [...], "cpu_seconds": [...]} per repetition, one entry a round, and the
    "repetitions" of a round; or {"failed": why}.
    """
    times = {}

    def time_one(name: str, repetitions: int) -> Times | None:
        try:
            return calls[name](repetitions)
        except SideError as error:
            times[name] = {"failed": str(error)}
            progress(f"FAILED: {error}")
        finally:
            time.sleep(settle)

    for name in calls:
        # The first repetition includes page faults and cold caches; some more give the speed.
        few = max(1, math.ceil(budget / 20 / once[name][0]))
        if took := time_one(name, few):
            repetitions = max(1, math.ceil(budget * few / took[0]))
            times[name] = {"seconds": [], "cpu_seconds": [], "repetitions": repetitions}
    for _ in range(rounds):
        for name, measured in times.items():
            repetitions = measured.get("repetitions")
            if repetitions and (took := time_one(name, repetitions)):
                measured["seconds"].append(took[0] / repetitions)
                measured["cpu_seconds"].append(took[1] / repetitions)
    return times


class Session:
    """The sides of one run, started once and driven case by case."""

    def __init__(self, sources: Iterable[str], threads: int, dtype: str, quick: bool):
        self.threads, self.dtype, self.quick = threads, dtype, quick
        self.start = time.perf_counter()
        self.left_out: list[str] = []
        self.cores = idlest_cores(threads)
        self.settle = SETTLE if threads > 1 else 0.0
        # Rounds of an epoch or more for training. A call of a kernel or of predict is timed in
        # many short rounds, so that some of them aren't interrupted by other programs.
        self.rounds, self.budget = (3, 0.05) if quick else (9, 0.2)
        self.short_rounds, self.short_budget = (10, 0.002) if quick else (50, 0.003)
        self.limits: dict[str, float] = {}
        self.sides: dict[str, Side] = {}
        self.described: dict[str, dict] = {}
        self.missing: dict[str, str] = {}
        for source in sources:
            try:
                if dtype != "float32" and precision_of(Path(source).stem):
                    raise Missing("reduced precision is for float32")
                side = Side(source, threads, self.cores)
                self.described[side.name] = side.ask("describe")
                self.sides[side.name] = side
            except (Missing, SideError) as reason:
                self.missing[source] = str(reason)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, exception, *_) -> None:
        for side in self.sides.values():
            side.close(at_once=exception is not None)

    def cases(self, group: str, usual: tuple, tiny: tuple, chosen: list[str] | None) -> Iterator:
        """The cases that were named, or the usual ones; with --quick the small ones first, while there is time."""
        if chosen:
            yield from (case for case in usual + tiny if case.name in chosen)
            return
        for case in sorted(usual, key=lambda case: case.work) if self.quick else usual:
            if self.quick and (case.slow or self.seconds_left(group) < 0):
                self.left_out.append(f"{group} {case.name}")
            else:
                yield case

    def seconds_left(self, group: str) -> float:
        return QUICK_UNTIL[group] - (time.perf_counter() - self.start)

    def measure_limit(self) -> None:
        """Called between cases, so that the limit is measured at the clock frequency of the cases."""
        # That of the dtype: nothing measures those of reduced precision yet.
        for side in (side for name, side in self.sides.items() if not precision_of(name)):
            with contextlib.suppress(Missing, SideError):
                what, rate = side.ask("limit", dtype=self.dtype, threads=self.threads)
                self.limits[what] = max(self.limits.get(what, 0.0), rate)

    @property
    def limit(self) -> float:
        """Flops per second: the best of all measurements of this run."""
        return max(self.limits.values(), default=0.0)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
