"""One side of a comparison in a process of its own: python side.py FILE CORES

FILE defines the class Side (see peers/__init__.py), CORES is a JSON list of the processors to stay
on, empty for all. Each line on standard input is a JSON object whose "do" names a command; each gets
one JSON line back, {"ok": ...}, {"unsupported": reason} or {"error": text}. What the library prints
itself goes to standard error. sides.py is the other end.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import signal
import sys
import traceback
from dataclasses import replace
from itertools import repeat

from sides import stay_on

# Before the library is loaded: it may size its thread pool by the processors that it is pinned to.
stay_on(json.loads(sys.argv[2]))

import numpy as np  # noqa: E402
from cases import TableCase, data, examples, inference_case, initial, training_case  # noqa: E402
from clock import Clock  # noqa: E402
from peers import Unsupported  # noqa: E402


def load_side(path: str):
    spec = importlib.util.spec_from_file_location("peers.this_side", path)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look up their module in sys.modules
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Side()


class Commands:
    """The commands of the runner; each method takes the JSON object's other members."""

    def __init__(self, side):
        self.side = side

    def describe(self):
        return {
            "library": self.side.library,
            "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "stores_reduced": getattr(self.side, "stores_reduced", False),
            **self.side.describe(),
        }

    def form(self):
        """Which of its variants the side chose for the present case, if it has several."""
        form = getattr(self.side, "form", None)
        return form and str(form)

    def training(self, case, dtype, threads):
        self.case, self.dtype, self.threads = training_case(case), dtype, threads
        if isinstance(self.case, TableCase) and not getattr(self.side, "tables", False):
            raise Unsupported("has no network for tables")
        self.X, self.labels = data(self.case)
        self.initial = initial(self.case)

    def first_steps(self, steps, epochs, to, **changes):
        """Train on the first batches alone, the case changed; parameters go to the file `to`, costs come back."""
        case = replace(self.case.first(steps), **changes)
        X, labels = self.X[:, : case.examples], self.labels[: case.examples]
        self.side.prepare_training(case, self.dtype, self.threads, X, labels)
        self.side.load(self.initial)
        costs = self.side.train(epochs)
        np.savez(to, **self.side.parameters())
        return costs and [float(cost) for cost in costs]

    def ready(self):
        """Prepare the whole data set; times of one epoch."""
        self.side.prepare_training(self.case, self.dtype, self.threads, self.X, self.labels)
        return self.round(1)

    def round(self, epochs):
        """Times of `epochs` epochs from the initial parameters."""
        self.side.load(self.initial)
        clock = Clock()
        self.side.train(epochs)
        return clock.read()

    def inference(self, case, batch, dtype, threads, to):
        """Predict once into the file `to`; times of one call."""
        case = inference_case(case)
        X = examples(case.n[0], batch)
        self.call, result = self.side.predictor(case, dtype, threads, initial(case), X)
        np.save(to, result())
        return self.calls(1)

    def calls(self, calls):
        """Times of that many predictions, after a warm-up: another side used the caches before."""
        call = self.call
        for _ in repeat(None, calls // 10):
            call()
        clock = Clock()
        for _ in repeat(None, calls):
            call()
        return clock.read()

    def limit(self, dtype, threads):
        """What was measured, and its flops per second."""
        if not hasattr(self.side, "limit"):
            raise Unsupported("measures no limit")
        return self.side.limit, self.side.measure_limit(dtype, threads)


def main() -> None:
    # Ctrl-C is the runner's: it ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    gc.disable()
    try:
        commands = Commands(load_side(sys.argv[1]))
    except ImportError as error:
        print(json.dumps({"unsupported": str(error)}), file=answers)
        return
    print(json.dumps({"ok": None}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": getattr(commands, request.pop("do"))(**request)}
        except Unsupported as reason:
            answer = {"unsupported": str(reason)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
