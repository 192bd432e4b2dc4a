"""kernels.dense_forward and dense_backward against the same in numpy, layer by layer.

Both sides run in one child process, pinned to one processor, one thread each, in alternation.
The child is this file run as a script; the runner reads its JSON lines.

numpy's side is g(W @ A_prev + b), then dZ = dA g', dW = dZ @ A_prev.T / m, db, dA_prev = W.T @ dZ,
in preallocated buffers and in place, in whichever memory order is fastest for that layer. nnkern
has its examples contiguous, and W in either order, with `out=` or without, whichever is fastest. The
first layer has no dA_prev on either side. The output layer's backward pass starts from the loss's
dZ: numpy applies no derivative there, and dense_backward is called with "linear".
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cases
import numpy as np
import reference
import report
from clock import Clock
from peers.with_numpy import Form, activate, differentiate, fastest, forms
from reference import Disagreement, compare, exact
from sides import (
    FOLDER,
    Missing,
    Session,
    SideError,
    Times,
    alternate,
    environment,
    idlest_cores,
    progress,
    stay_on,
)


@dataclass(frozen=True)
class Layer:
    case: str
    number: int
    n: int
    n_prev: int
    m: int
    activation: str
    output: bool
    slow: bool

    @property
    def name(self) -> str:
        return f"{self.case} {self.number}"

    @property
    def shape(self) -> str:
        return f"({self.n}, {self.n_prev}) x {self.m}"

    @property
    def product_flops(self) -> float:
        return 2.0 * self.n * self.n_prev * self.m


def layers(case: cases.TrainingCase) -> list[Layer]:
    pairs = zip(case.n, case.n[1:], case.activations, strict=False)
    m = min(case.batch, case.examples)
    return [
        Layer(case.name, k, n, n_prev, m, name, k == len(case.activations), case.slow)
        for k, (n_prev, n, name) in enumerate(pairs, 1)
    ]


class Operands:
    """The inputs of one layer, (units, examples), in one choice of memory orders."""

    def __init__(self, layer: Layer, dtype: str, examples: str = "F", weights: str = "C"):
        rng = np.random.default_rng(4)
        n, n_prev, m = layer.n, layer.n_prev, layer.m

        def normal(rows, columns, order, scale=1.0):
            drawn = scale * rng.standard_normal((rows, columns), dtype=np.float32)
            return np.array(drawn, dtype, order=order)

        self.W = normal(n, n_prev, weights, (2 / n_prev) ** 0.5)
        self.b = normal(n, 1, "C", 0.1)
        self.A_prev = normal(n_prev, m, examples)
        self.dA = normal(n, m, examples)
        # The backward pass reads the A of a forward pass.
        Z = self.W @ self.A_prev + self.b
        A = {"relu": lambda: np.maximum(Z, 0), "tanh": lambda: np.tanh(Z)}
        self.A = np.asarray(A.get(layer.activation, lambda: Z)(), order=examples)
        self.out_A = np.empty((n, m), dtype, order=examples)
        self.dZ = np.empty((n, m), dtype, order=examples)
        self.dW = np.empty((n, n_prev), dtype, order=weights)
        self.db = np.empty((n, 1), dtype)
        self.dA_prev = np.empty((n_prev, m), dtype, order=examples) if layer.number > 1 else None


def backward_activation(layer: Layer) -> str:
    return "linear" if layer.output else layer.activation


def numpy_forward(layer: Layer, o: Operands, form: Form) -> Callable[[], object]:
    mask = np.empty(o.out_A.shape, bool, order=form.examples)
    to_A, _ = form.products()

    def call():
        to_A(o.W, o.A_prev, o.out_A)
        np.add(o.out_A, o.b, o.out_A)
        activate(o.out_A, layer.activation, form.relu, mask)

    return call


def numpy_backward(layer: Layer, o: Operands, form: Form) -> Callable[[], object]:
    mask = np.empty(o.A.shape, bool, order=form.examples)
    scaled = np.empty(o.A.shape, o.A.dtype, order=form.examples)
    over_m = o.A.dtype.type(1 / layer.m)
    ones = np.ones((layer.m, 1), o.A.dtype)
    activation = backward_activation(layer)
    to_A, to_W = form.products()
    scale_dZ = layer.m < layer.n_prev

    def call():
        if activation == "linear":
            dZ = o.dA
        else:
            dZ = o.dZ
            differentiate(o.dA, o.A, activation, dZ, mask, mask_filled=False)
        # 1/m is multiplied into the smaller of dZ and dW; dZ is also needed without it.
        if scale_dZ:
            np.multiply(dZ, over_m, scaled)
            to_W(scaled, o.A_prev.T, o.dW)
            np.dot(scaled, ones, o.db)
        else:
            to_W(dZ, o.A_prev.T, o.dW)
            np.multiply(o.dW, over_m, o.dW)
            np.dot(dZ, ones, o.db)
            np.multiply(o.db, over_m, o.db)
        if o.dA_prev is not None:
            to_A(o.W.T, dZ, o.dA_prev)

    return call


def nnkern_call(layer: Layer, o: Operands, direction: str, out: bool) -> Callable[[], object]:
    from nnkern import kernels

    if direction == "forward":
        call = partial(kernels.dense_forward, o.W, o.A_prev, o.b, layer.activation, threads=1)
        return partial(call, out=o.out_A) if out else call
    call = partial(
        kernels.dense_backward,
        o.dA,
        o.W,
        o.A_prev,
        o.A,
        backward_activation(layer),
        need_dA_prev=o.dA_prev is not None,
        threads=1,
    )
    return partial(call, out=(o.dZ, o.dW, o.db, o.dA_prev)) if out else call


class Expected:
    """Both passes of a layer in float64, with bounds."""

    def __init__(self, layer: Layer, dtype: str):
        self.layer = layer
        self.unit = reference.LAMBDA * reference.roundoff(dtype)
        o = Operands(layer, dtype)
        W, A_prev, dA, A = (exact(array) for array in (o.W, o.A_prev, o.dA, o.A))
        Z = reference.pre_activation(W, A_prev, exact(o.b))
        self.forward = {"A": reference.activation(Z, layer.activation)}
        u = reference.roundoff(dtype)
        dZ = reference.activation_backward(dA, A, None, backward_activation(layer), u)
        ones = exact(np.full((layer.m, 1), 1 / layer.m))
        dW = reference.product(dZ, A_prev.T, more=6)
        dW.value /= layer.m
        dW.V /= layer.m**2
        self.backward = {"dW": dW, "db": reference.product(dZ, ones, more=6)}
        if backward_activation(layer) != "linear":
            self.backward["dZ"] = dZ
        if layer.number > 1:
            self.backward["dA_prev"] = reference.product(W.T, dZ, more=2)

    def verify(self, who: str, direction: str, call: Callable[[], object], o: Operands) -> None:
        """Call once, and compare the results, which are returned or in the operands' buffers."""
        results = {"A": o.out_A, "dZ": o.dZ, "dW": o.dW, "db": o.db, "dA_prev": o.dA_prev}
        for array in results.values():
            if array is not None:
                array.fill(np.nan)
        returned = call()
        if returned is not None:
            results = {"A": returned} if direction == "forward" else returned._asdict()
        for name, expected in getattr(self, direction).items():
            V = np.float64(0) if expected.V is None else expected.V
            what = f"{who}, {self.layer.name} {direction}, {name}"
            compare(what, results[name], expected.value, self.unit * np.sqrt(V))


def time_calls(call: Callable[[], object], calls: int) -> Times:
    """Times of that many calls."""
    clock = Clock()
    for _ in itertools.repeat(None, calls):
        call()
    return clock.read()


def numpy_forms(layer: Layer, dtype: str, direction: str, expected: Expected):
    """((form, call), call) of every variant in numpy, verified, one at a time."""
    relu = layer.activation == "relu" and direction == "forward"
    make = numpy_forward if direction == "forward" else numpy_backward
    for form in forms(relu):
        o = Operands(layer, dtype, form.examples, form.weights)
        call = make(layer, o, form)
        expected.verify("numpy", direction, call, o)
        yield (str(form), call), call


def nnkern_forms(layer: Layer, dtype: str, direction: str, expected: Expected):
    """The same for nnkern: examples contiguous, W in either order."""
    for weights, out in itertools.product("FC", (True, False)):
        o = Operands(layer, dtype, "F", weights)
        call = nnkern_call(layer, o, direction, out)
        expected.verify("nnkern", direction, call, o)
        yield (f"W {weights}{', out=' * out}", call), call


def measure(layer: Layer, dtype: str, rounds: int, budget: float):
    """Rows of both passes of a layer."""
    expected = Expected(layer, dtype)
    products = {"forward": 1, "backward": 2 if layer.number > 1 else 1}
    for direction, count in products.items():
        row = {
            "case": layer.name,
            "shape": layer.shape,
            "activation": layer.activation,
            "direction": direction,
            "dtype": dtype,
            "threads": 1,
            "flops": count * layer.product_flops,
            "sides": {"nnkern": {}, "numpy": {}},
        }
        all_forms = {"nnkern": nnkern_forms, "numpy": numpy_forms}
        candidates = {name: forms_of(layer, dtype, direction, expected) for name, forms_of in all_forms.items()}
        time_sides(row, f"{layer.name} {direction}", candidates, rounds, budget)
        yield row


def time_sides(row: dict, what: str, candidates: dict, rounds: int, budget: float) -> None:
    """Times the fastest candidate of each side (pairs, see `fastest`) in alternation, and writes that into the row."""
    timed = {}
    for name, forms_of_side in candidates.items():
        entry = row["sides"][name]
        try:
            entry["form"], call = fastest(forms_of_side, 2 * budget, threads=1)
            timed[name] = partial(time_calls, call)
        except Disagreement as error:
            entry["wrong"] = str(error)
        except ImportError as error:
            entry["missing"] = str(error)
        except Exception as error:
            traceback.print_exc()
            entry["failed"] = f"{what}: {type(error).__name__}: {error}"
    if timed:
        once = {name: time(1) for name, time in timed.items()}
        for name, measured in alternate(timed, once, rounds, budget).items():
            row["sides"][name] |= measured


def chosen_layers(names: list[str]) -> list[Layer]:
    found: dict[tuple, Layer] = {}
    for case in map(cases.training_case, names):
        for layer in layers(case):
            # Two cases may have the same layer.
            key = (layer.n, layer.n_prev, layer.m, layer.activation, layer.number > 1)
            found.setdefault(key, layer)
    return list(found.values())


def begin(options: dict) -> bool:
    """Pins the child; whether nnkern can be imported, otherwise tells the runner."""
    stay_on(options["cores"])
    try:
        import nnkern  # noqa: F401
    except ImportError as error:
        print(json.dumps({"unsupported": str(error)}))
        return False
    return True


def child(options: dict) -> None:
    if not begin(options):
        return
    start = time.perf_counter()
    for layer in chosen_layers(options["cases"]):
        if options["seconds"] is not None and time.perf_counter() - start > options["seconds"]:
            print(json.dumps({"left_out": layer.name}))
            continue
        rounds = min(options["rounds"], 5) if layer.slow else options["rounds"]
        for row in measure(layer, options["dtype"], rounds, options["budget"]):
            print(json.dumps(row), flush=True)


def run(session: Session, chosen: list[str] | None) -> list[dict]:
    options = {
        "cores": idlest_cores(1),
        "cases": [case.name for case in session.cases("kernels", cases.TRAINING, cases.TINY_TRAINING, chosen)],
        "seconds": session.seconds_left("kernels") if session.quick and not chosen else None,
        "dtype": session.dtype,
        "rounds": session.short_rounds,
        "budget": session.short_budget,
    }
    return rows_of_child(session, "kernels", options)


def rows_of_child(session: Session, group: str, options: dict) -> list[dict]:
    """The rows that the group's script prints, one JSON line each, which may also name a case that was left out."""
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / f"{group}.py"), json.dumps(options)],
        env=environment(1),
        stdout=subprocess.PIPE,
        text=True,
    )
    rows = []
    with process:
        for line in process.stdout:
            row = json.loads(line)
            if "unsupported" in row:
                raise Missing(f"{group}: {row['unsupported']}")
            if "left_out" in row:
                session.left_out.append(f"{group} {row['left_out']}")
                continue
            progress(f"{group} {row['case']} {row['direction']}")
            for text in report.wrong([row]):
                progress(text)
            rows.append(row)
    if process.returncode:
        raise SideError(f"{group}: the process ended with status {process.returncode}")
    session.measure_limit()
    return rows


if __name__ == "__main__":
    child(json.loads(sys.argv[1]))
