"""One step of mini-batch gradient descent: the whole `fit` of each side, per step."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path

import cases
import numpy as np
import reference
from reference import Disagreement, compare
from sides import Missing, Session, Side, SideError, alternate, progress

# Too small to change any float32 parameter, as long as gradients stay below 10^20.
NO_STEP = 1e-30


class Expected:
    """A case in float64 numpy, with bounds; computed once, compared with each side."""

    def __init__(self, case: cases.TrainingCase, dtype: str):
        self.case, self.dtype = case, dtype
        # One step of a slow case is as much work as 1000 of another.
        self.steps = 1 if case.full_batch else min(case.steps, 2 if case.slow else 3)
        self.epochs = 3 if case.full_batch else 1
        self.initial = cases.initial(case)
        self.X, self.labels = cases.data(case)
        if case.shuffle:
            # Another order of the batches gives other parameters. But while no parameter changes, an
            # epoch's cost is the same in any order, if each example occurs once, with its label.
            self.steps = min(case.steps, 100)
            part = case.first(self.steps)
            Y = cases.one_hot(self.labels[: part.examples], case.n[-1], np.float64)
            u = reference.roundoff(dtype)
            exact = {name: np.asarray(array, np.float64) for name, array in self.initial.items()}
            (cost, bound), *_ = reference.step(part, self.X[:, : part.examples], Y, exact, u)
            self.costs = [(cost, bound)]
            self.parameters = {name: (array, np.zeros(array.shape)) for name, array in exact.items()}
        else:
            part = case.first(self.steps)
            self.costs, self.parameters = reference.train(
                part,
                self.X[:, : part.examples],
                self.labels[: part.examples],
                self.initial,
                self.epochs,
                dtype,
            )
            self.check_sharpness()

    def check_sharpness(self) -> None:
        """A bound as large as the change of the parameters would accept a missing update."""
        for name, (value, bound) in self.parameters.items():
            if np.linalg.norm(bound) >= np.linalg.norm(value - self.initial[name]):
                raise AssertionError(f"{self.case.name}: the bound of {name} is larger than its change")

    def verify(self, side: Side) -> None:
        """Raise Disagreement if the side's first steps give other parameters or costs."""
        what = f"{side.name}, {self.case.name}"
        rate = {"learning_rate": NO_STEP} if self.case.shuffle else {}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "parameters.npz"
            costs = side.ask("first_steps", steps=self.steps, epochs=self.epochs, to=str(file), **rate)
            with np.load(file) as came:
                if set(came.files) != set(self.parameters):
                    raise Disagreement(f"{what}: parameters {sorted(came.files)}")
                for name, (value, bound) in self.parameters.items():
                    array = came[name]
                    if array.dtype != self.dtype:
                        raise Disagreement(f"{what}, {name}: {array.dtype}, not {self.dtype}")
                    compare(f"{what}, {name}", array, value, bound)
        if costs is not None:
            value, bound = zip(*self.costs, strict=True)
            compare(f"{what}, cost", np.array(costs), np.array(value), np.array(bound))


@contextmanager
def noting(entry: dict):
    """Records why a side can't be timed, instead of ending the run."""
    try:
        yield
    except Disagreement as error:
        entry["wrong"] = str(error)
        progress(f"WRONG: {error}")
    except Missing as reason:
        entry["missing"] = str(reason)
    except SideError as error:
        entry["failed"] = str(error)
        progress(f"FAILED: {error}")


def measure(case: cases.TrainingCase, session: Session) -> dict:
    expected = Expected(case, session.dtype)
    row = {
        "case": case.name,
        "shape": case.shape,
        "dtype": session.dtype,
        "threads": session.threads,
        "flops": case.flops,
        "sides": {},
    }
    once = {}
    for name, side in session.sides.items():
        entry = row["sides"][name] = {}
        with noting(entry):
            side.ask("training", case=case.name, dtype=session.dtype, threads=session.threads)
            expected.verify(side)
            once[name] = side.ask("ready")
            entry["form"] = side.ask("form")
    del expected
    calls = {name: lambda epochs, side=session.sides[name]: side.ask("round", epochs=epochs) for name in once}
    if calls:
        rounds = min(session.rounds, 4) if case.slow else session.rounds
        times = alternate(calls, once, rounds, session.budget, session.settle)
        for name, measured in times.items():
            per_step = {key: [t / case.steps for t in measured.get(key, ())] for key in ("seconds", "cpu_seconds")}
            row["sides"][name] |= measured | (per_step if "failed" not in measured else {})
    return row


def run(session: Session, chosen: list[str] | None) -> list[dict]:
    rows = []
    for case in session.cases("training", cases.TRAINING, cases.TINY_TRAINING, chosen):
        progress(f"training {case.name}")
        rows.append(measure(case, session))
        session.measure_limit()
    return rows
