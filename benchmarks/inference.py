"""Prediction of 1, 32 and 1024 examples: one call of each side."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import cases
import numpy as np
import precision
import reference
from reference import Disagreement, compare
from sides import Session, alternate, precision_of, progress
from training import noting


def measure(case: cases.InferenceCase, batch: int, session: Session) -> dict:
    row = {
        "case": case.name,
        "shape": case.shape,
        "batch": batch,
        "dtype": session.dtype,
        "threads": session.threads,
        "flops": case.flops * batch,
        "sides": {},
    }
    X = cases.examples(case.n[0], batch)
    value, bound = reference.predict(case, X, cases.initial(case), session.dtype)
    once = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "A.npy"
        for name, side in session.sides.items():
            entry = row["sides"][name] = {}
            with noting(entry):
                seconds = side.ask(
                    "inference",
                    case=case.name,
                    batch=batch,
                    dtype=session.dtype,
                    threads=session.threads,
                    to=str(file),
                )
                came = np.load(file)
                if came.dtype != session.dtype:
                    raise Disagreement(f"{name}, {case.name}: {came.dtype}, not {session.dtype}")
                what = f"{name}, {case.name} with {batch} examples"
                if kind := precision_of(name):
                    entry["error"] = precision.measure_outputs(what, came, value, kind, case)
                else:
                    compare(what, came, value, bound)
                once[name] = seconds
                entry["form"] = side.ask("form")
    calls = {name: lambda calls, side=session.sides[name]: side.ask("calls", calls=calls) for name in once}
    if calls:
        times = alternate(calls, once, session.short_rounds, session.short_budget, session.settle)
        for name, measured in times.items():
            row["sides"][name] |= measured
    return row


def run(session: Session, chosen: list[str] | None) -> list[dict]:
    return run_cases(session.cases("inference", cases.INFERENCE, cases.TINY_INFERENCE, chosen), session)


def serve(session: Session, chosen: list[str] | None) -> list[dict]:
    """The same by frozen predictors."""
    return run_cases(session.cases("serving", cases.SERVING, cases.TINY_SERVING, chosen), session)


def sweep(session: Session, names: list[str]) -> list[dict]:
    return run_cases(map(cases.inference_case, names), session)


def run_cases(chosen: Iterable[cases.InferenceCase], session: Session) -> list[dict]:
    rows = []
    for case in chosen:
        progress(f"prediction {case.name}: {case.shape}")
        rows += [measure(case, batch, session) for batch in case.batches]
        session.measure_limit()
    return rows
