"""One step of mini-batch training: the whole `fit` of each side, per step."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path

import cases
import numpy as np
import precision
import reference
from reference import Disagreement, compare
from sides import Missing, Session, Side, SideError, Times, alternate, precision_of, progress

# Too small to change any float32 parameter, as long as gradients stay below 10^20.
NO_STEP = 1e-30
# So large that a parameter after one step is its gradient times this, to all digits that it has.
ALL_STEP = 2.0**20


def first_steps(case: cases.TrainingCase) -> tuple[int, int]:
    """How many batches, and how often, a side is verified on."""
    # One step of a slow case is as much work as 1000 of another.
    steps = 1 if case.full_batch else min(case.steps, 2 if case.slow else 3)
    return steps, 3 if case.full_batch else 1


def trained(side: Side, **options) -> tuple[list[float] | None, dict[str, np.ndarray]]:
    """Costs and parameters of a side's first steps."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "parameters.npz"
        costs = side.ask("first_steps", to=str(file), **options)
        with np.load(file) as came:
            return costs, dict(came)


def check_form(what: str, came: dict, expected: dict, dtype: str) -> None:
    if set(came) != set(expected):
        raise Disagreement(f"{what}: parameters {sorted(came)}")
    for name, array in came.items():
        if array.dtype != dtype:
            raise Disagreement(f"{what}, {name}: {array.dtype}, not {dtype}")


class Expected:
    """A case in float64 numpy, with bounds for each entry; computed once, compared with each side of the dtype."""

    def __init__(self, case: cases.TrainingCase, dtype: str):
        self.case, self.dtype = case, dtype
        self.steps, self.epochs = first_steps(case)
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
        costs, came = trained(side, steps=self.steps, epochs=self.epochs, **rate)
        check_form(what, came, self.parameters, self.dtype)
        for name, (value, bound) in self.parameters.items():
            compare(f"{what}, {name}", came[name], value, bound)
        if costs is not None:
            value, bound = zip(*self.costs, strict=True)
            compare(f"{what}, cost", np.array(costs), np.array(value), np.array(bound))


class Approximate:
    """A case in float64 numpy, for sides of reduced precision and random cases: tolerances in terms of the spread."""

    def __init__(self, case: cases.TrainingCase, dtype: str):
        self.case, self.dtype = case, dtype
        self.initial = cases.initial(case)
        X, labels = cases.data(case)
        # Shuffled, the first batch alone has the same examples in any order.
        self.steps, self.epochs = (1, 1) if case.shuffle else first_steps(case)

        def descend(steps: int, epochs: int):
            part = case.first(steps)
            return reference.descend(part, X[:, : part.examples], labels[: part.examples], self.initial, epochs)

        first = case.first(1)
        Y = cases.one_hot(labels[: first.examples], case.n[-1], np.float64)
        u = reference.roundoff(np.float64)
        _, gradients, _, _ = reference.step(first, X[:, : first.examples], Y, self.initial, u)
        self.gradients = {name: g.value for name, g in gradients.items()}
        self.costs, self.parameters = descend(self.steps, self.epochs)

    def verify(self, side: Side) -> dict[str, float]:
        """Raise Disagreement, or return the error of what the first steps change."""
        what, kind = f"{side.name}, {self.case.name}", precision_of(side.name)
        costs, came = trained(side, steps=self.steps, epochs=self.epochs)
        check_form(what, came, self.parameters, self.dtype)
        start, came, value = (flat(named) for named in (self.initial, came, self.parameters))
        spread = precision.root_mean_square(value - start)
        # Steps smaller than half a unit in a parameter's last place are lost: with bfloat16 the first ones, as a rule.
        reduced = side.ask("describe")["stores_reduced"]
        stored = precision.ROUNDOFF[kind] if reduced else reference.roundoff(self.dtype)
        lost = precision.STORED * stored * precision.root_mean_square(start) / spread
        tolerance = precision.of_change(kind, self.case) + lost
        # Others' costs are verified in the chosen cases: scikit-learn's has a limit, which random networks come to.
        if kind and costs is not None:
            bound = precision.of_outputs(kind, self.case) * (1 + np.abs(self.costs))
            compare(f"{what}, cost", np.array(costs), np.array(self.costs), bound)
        found = precision.measure(f"{what}, change of the parameters", came, value, spread, tolerance)
        # The change may be lost where parameters are stored narrow, and is one of signs where Adam makes it.
        _, came = trained(side, steps=1, epochs=1, optimizer="sgd", learning_rate=ALL_STEP)
        check_form(what, came, self.gradients, self.dtype)
        tolerance = precision.of_gradients(kind, self.case)
        for name, gradient in self.gradients.items():
            moved = (self.initial[name].astype(np.float64) - came[name]) / ALL_STEP
            # Where nearly all units are off, what is left is the rounding of the parameters.
            spread = max(precision.root_mean_square(gradient), 1 / ALL_STEP)
            precision.measure(f"{what}, gradient of {name}", moved, gradient, spread, tolerance)
        return found


def flat(named: dict[str, np.ndarray]) -> np.ndarray:
    """All parameters in one float64 array."""
    return np.concatenate([named[name].ravel().astype(np.float64) for name in sorted(named)])


def checker(case: cases.TrainingCase, dtype: str, exact: bool) -> Callable[[Side], dict[str, float] | None]:
    """Verifies a side; gives the error of one of reduced precision. What it compares with is computed once."""
    expected = functools.cache(lambda: Expected(case, dtype))
    approximate = functools.cache(lambda: Approximate(case, dtype))

    def verify(side: Side):
        if precision_of(side.name):
            return approximate().verify(side)
        (expected() if exact else approximate()).verify(side)

    return verify


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


def verified(
    case: cases.TrainingCase,
    session: Session,
    sides: dict[str, Side],
    verify: Callable[[Side], dict[str, float] | None],
) -> tuple[dict, dict[str, Times]]:
    """The row of a case, without times, and those of one epoch of each side that is right."""
    row = {
        "case": case.name,
        "shape": case.shape,
        "dtype": session.dtype,
        "threads": session.threads,
        "flops": case.flops,
        "sides": {},
    }
    once = {}
    for name, side in sides.items():
        entry = row["sides"][name] = {}
        with noting(entry):
            side.ask("training", case=case.name, dtype=session.dtype, threads=session.threads)
            if error := verify(side):
                entry["error"] = error
            once[name] = side.ask("ready")
            entry["form"] = side.ask("form")
    return row, once


def epochs_of(side: Side) -> Callable[[int], Times]:
    return lambda epochs: side.ask("round", epochs=epochs)


def note_times(entry: dict, measured: dict, steps: int) -> None:
    """Write what `alternate` measured of epochs into a side's entry, per step."""
    per_step = {key: [t / steps for t in measured.get(key, ())] for key in ("seconds", "cpu_seconds")}
    entry |= measured | (per_step if "failed" not in measured else {})


def measure(case: cases.TrainingCase, session: Session, exact: bool) -> dict:
    row, once = verified(case, session, session.sides, checker(case, session.dtype, exact))
    calls = {name: epochs_of(session.sides[name]) for name in once}
    if calls:
        rounds = min(session.rounds, 4) if case.slow else session.rounds
        times = alternate(calls, once, rounds, session.budget, session.settle)
        for name, measured in times.items():
            note_times(row["sides"][name], measured, case.steps)
    return row


def run(session: Session, chosen: list[str] | None) -> list[dict]:
    return run_cases(session.cases("training", cases.TRAINING, cases.TINY_TRAINING, chosen), session)


def sweep(session: Session, names: list[str]) -> list[dict]:
    # Bounds for each entry are those of plain gradient descent, and sharp in chosen cases only.
    return run_cases(map(cases.training_case, names), session, exact=False)


def run_cases(chosen: Iterable[cases.TrainingCase], session: Session, exact: bool = True) -> list[dict]:
    rows = []
    for case in chosen:
        progress(f"training {case.name}: {case.shape}")
        rows.append(measure(case, session, exact))
        session.measure_limit()
    return rows
