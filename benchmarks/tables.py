"""One step of a network for tables: the whole `fit`, beside peers, and without each of its pieces.

The pieces are what is around the dense layers of RealMLP's recipe: encoders that learn, a factor for each feature, a
share of the activation for each unit. nnkern is timed with all of them, with its dense layers alone on as many dense
inputs, and without each piece in turn, a process for each. All of these and the peers take turns in the same rounds.
What a piece costs is the difference; `GF/s` counts the products of the dense layers alone.
"""

from __future__ import annotations

import contextlib
import functools

import cases
import numpy as np
import precision
import reference
import report
from reference import compare
from sides import Session, Side, alternate, precision_of, progress
from training import check_form, epochs_of, note_times, trained, verified

OURS = "nnkern"
STEPS = 10
# Prices are small differences of best times: the rounds are shorter than elsewhere, and so many times as many.
OFTENER = 4
# How far a cost may be off, in roundings of 1 + cost: some ten times as far as sides are that are right.
ROUNDINGS = 2.0**8


class Expected:
    """Ten steps on the first batch in float64, by nnkern: the peers, and nnkern in float32, are compared with them."""

    def __init__(self, case: cases.TableCase, dtype: str):
        self.case, self.dtype = case, dtype
        self.initial = cases.initial(case)
        with contextlib.closing(Side(OURS, 1, [])) as side:
            side.ask("training", case=case.name, dtype="float64", threads=1)
            self.costs, self.parameters = trained(side, steps=1, epochs=STEPS)

    def verify(self, side: Side) -> None:
        """Raise Disagreement if a side's cost of one of the steps, or what it changed, is another."""
        what = f"{side.name}, {self.case.name}"
        costs, came = trained(side, steps=1, epochs=STEPS)
        check_form(what, came, self.parameters, self.dtype)
        expected = np.array(self.costs)
        bound = ROUNDINGS * reference.roundoff(self.dtype) * (1 + np.abs(expected))
        compare(f"{what}, cost", np.array(costs), expected, bound)
        tolerance = precision.of_change("", self.case)
        for name, value in self.parameters.items():
            spread = precision.root_mean_square(value - self.initial[name])
            precision.measure(f"{what}, change of {name}", came[name], value, spread, tolerance)


def measure(whole: cases.TableCase, session: Session) -> list[dict]:
    """Rows of the whole network, which the peers are in, and of its variants."""
    with contextlib.ExitStack() as stack:
        every = {whole: {name: side for name, side in session.sides.items() if not precision_of(name)}}
        for case in whole.variants.values() if OURS in session.sides else ():
            side = Side(OURS, session.threads, session.cores)
            every[case] = {OURS: stack.enter_context(contextlib.closing(side))}
        rows, calls, once = {}, {}, {}
        for case, sides in every.items():
            progress(f"tables {case.name}: {case.shape}")
            expected = functools.cache(lambda case=case: Expected(case, session.dtype))
            rows[case], first = verified(case, session, sides, lambda side, expected=expected: expected().verify(side))
            once |= {(case, name): times for name, times in first.items()}
            calls |= {(case, name): epochs_of(sides[name]) for name in first}
        times = alternate(calls, once, OFTENER * session.rounds, session.budget / OFTENER, session.settle)
    for (case, name), measured in times.items():
        note_times(rows[case]["sides"][name], measured, case.steps)
    for row in rows.values():
        row["sides"] = {name: {"missing": "the whole network alone"} for name in session.sides} | row["sides"]
    return list(rows.values())


def run(session: Session, chosen: list[str] | None) -> list[dict]:
    rows = []
    for case in cases.TABLES + cases.TINY_TABLES if chosen else cases.TABLES:
        if not chosen or case.name in chosen:
            rows += measure(case, session)
            session.measure_limit()
    return rows


def prices(rows: list[dict]) -> str:
    """What each piece adds to a step, in microseconds and as a share of it; of rows that have been summarised."""
    best = {row["case"]: row["best"][OURS] for row in rows if OURS in row["best"]}
    head, body = ["piece", "with it", "without", "price", "of the step"], []
    for case in cases.TABLES + cases.TINY_TABLES:
        pairs = {
            "all but the dense layers": ("", "dense layers alone"),
            "encoders and mix": ("", "scale and dense layers"),
            "dX of the first dense layer, and scale": ("scale and dense layers", "dense layers alone"),
            "scale": ("", "no scale"),
            "mix": ("", "no mix"),
            "periodic": ("", "no periodic"),
            "embedding": ("", "no embedding"),
            "embedding, over one-hot": ("", "one-hot"),
            "the same without scale": ("no scale", "one-hot, no scale"),
        }
        for piece, names in pairs.items():
            names = [f"{case.name}: {name}" if name else case.name for name in names]
            if best.keys() >= set(names):
                present, absent = (best[name] for name in names)
                share = f"{(present - absent) / present:.2f}"
                price = f"{(present - absent) * 1e6:.1f}"
                body.append([piece, report.microseconds(present), report.microseconds(absent), price, share])
    if not body:
        return ""
    return report.written("What each piece of nnkern's network adds to a step, µs", head, body, ["piece"], [])
