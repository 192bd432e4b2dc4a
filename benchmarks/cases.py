"""The list of what is timed: training cases, inference cases, their data and their work.

Every other file of this folder reads it; a case that isn't here, or drawn here from a seed, isn't
measured. Data are generated from fixed seeds, so that each side can make its own copy of the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class TrainingCase:
    """Mini-batch gradient descent on a dense network; one batch is one step.

    The output is one sigmoid unit with binary cross-entropy, or softmax with cross-entropy.
    """

    name: str
    n: tuple[int, ...]  # n[0] inputs, then the units of each layer
    activation: str  # of the hidden layers
    batch: int
    examples: int
    shuffle: bool = False
    slow: bool = False  # seconds for one epoch: left out of --quick
    optimizer: str = "sgd"  # plain, or "adam"
    # A power of two, so that it is the same number in float32 and float64.
    learning_rate: float = 0.0078125

    @property
    def output(self) -> str:
        return "sigmoid" if self.n[-1] == 1 else "softmax"

    @property
    def loss(self) -> str:
        return "binary_cross_entropy" if self.n[-1] == 1 else "cross_entropy"

    @property
    def activations(self) -> tuple[str, ...]:
        """One name per layer, the output's last."""
        return (self.activation,) * (len(self.n) - 2) + (self.output,)

    @property
    def full_batch(self) -> bool:
        return self.batch >= self.examples

    @property
    def steps(self) -> int:
        """Steps of one epoch."""
        return -(-self.examples // self.batch)

    @property
    def flops(self) -> float:
        """Of the products of an average step: forward, dW, and dA for all layers but the first."""
        weights = [n * n_prev for n_prev, n in zip(self.n, self.n[1:], strict=False)]
        per_example = 2 * (3 * sum(weights) - weights[0])
        return per_example * self.examples / self.steps

    @property
    def work(self) -> float:
        """Flops of an epoch."""
        return self.flops * self.steps

    @property
    def shape(self) -> str:
        size = f"full {self.batch}" if self.full_batch else str(self.batch)
        hidden = f" {self.activation}" if len(self.n) > 2 else ""
        adam = " Adam" * (self.optimizer == "adam")
        return "-".join(map(str, self.n)) + f"{hidden}, {size}" + " shuffled" * self.shuffle + adam

    def first(self, steps: int) -> TrainingCase:
        """The same case on the examples of its first `steps` batches alone."""
        return replace(self, examples=min(self.examples, steps * self.batch))


@dataclass(frozen=True)
class TableCase(TrainingCase):
    """A network as RealMLP's recipe for tables has it, on a table of numbers and, after them, codes from 0.

    Its encoders give `units` features of each number (the number itself, and a linear map of cosines) and a vector for
    each code, n[0] in all; then come a factor for each feature, and dense layers whose units learn how much of the
    activation they take: A = a ⊙ g(Z) + (1 - a) ⊙ Z. `variants` are without one of these pieces.
    """

    numbers: int = 30
    categories: int = 10
    codes: int = 100  # of each category
    frequencies: int = 16
    units: int = 4
    embedding: int = 8  # length of a code's vector
    encode: bool = True  # else X is n[0] numbers
    periodic: bool = True  # else the number itself, `units` times over, so that the dense layers are the same
    codes_as: str = "vectors"  # or "one-hot", or "numbers" of variance 1, `embedding` times over
    scale: bool = True
    mix: bool = True

    @property
    def n_x(self) -> int:
        """Rows of X."""
        return self.numbers + self.categories if self.encode else self.n[0]

    @property
    def before(self) -> int:
        """Layers before the first dense one."""
        return self.encode + self.scale

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{"w1": shape, ...}: how the parameters are arranged; but for W they are handed over as columns of that."""
        shapes: dict[str, tuple[int, ...]] = {}
        if self.encode and self.periodic:
            phases = (self.numbers, self.frequencies)
            # the map's bias after the frequencies
            shapes |= {"w1": phases, "b1": phases, "M1": (self.numbers, self.frequencies + 1, self.units - 1)}
        if self.encode and self.codes_as == "vectors":
            # the codes of all categories in one table
            shapes["E1"] = (self.categories * self.codes, self.embedding)
        if self.scale:
            shapes[f"s{self.before}"] = (self.n[0],)
        for layer, (n_prev, n) in enumerate(zip(self.n, self.n[1:], strict=False), self.before + 1):
            shapes |= {f"W{layer}": (n, n_prev), f"b{layer}": (n,)}
            if self.mix and layer < self.before + len(self.n) - 1:
                shapes[f"a{layer}"] = (n,)
        return shapes

    @property
    def flops(self) -> float:
        """Of the dense layers' products. One-hot codes pick columns of W, which aren't among them."""
        if not (self.encode or self.scale):
            return super().flops
        picked = self.categories * self.codes if self.codes_as == "one-hot" else 0
        n = (self.n[0] - picked, *self.n[1:])
        # encoders and Scale need dX of the first dense layer
        per_example = 6 * sum(n * n_prev for n_prev, n in pairwise(n))
        return per_example * self.examples / self.steps

    @property
    def variants(self) -> dict[str, TableCase]:
        """{what is left out: the case without it}."""
        features = self.numbers * self.units + self.categories * self.codes
        one_hot = {"codes_as": "one-hot", "n": (features, *self.n[1:])}
        changes = {
            "dense layers alone": {"encode": False, "scale": False, "mix": False},
            "scale and dense layers": {"encode": False, "mix": False},
            "no scale": {"scale": False},
            "no mix": {"mix": False},
            "no periodic": {"periodic": False},
            "no embedding": {"codes_as": "numbers"},
            "one-hot": one_hot,
            "one-hot, no scale": one_hot | {"scale": False},
        }
        return {name: replace(self, name=f"{self.name}: {name}", **changed) for name, changed in changes.items()}


@dataclass(frozen=True)
class InferenceCase:
    """Prediction of one batch by a relu network with a softmax output.

    Where it is `frozen`, nnkern's side takes a frozen predictor.
    """

    name: str
    n: tuple[int, ...]
    batches: tuple[int, ...] = (1, 32, 1024)
    activation: str = "relu"
    frozen: bool = False
    slow: ClassVar[bool] = False

    @property
    def output(self) -> str:
        return "softmax"

    @property
    def activations(self) -> tuple[str, ...]:
        return (self.activation,) * (len(self.n) - 2) + (self.output,)

    @property
    def flops(self) -> float:
        """Of the products, for one example."""
        return 2.0 * sum(n * n_prev for n_prev, n in zip(self.n, self.n[1:], strict=False))

    @property
    def work(self) -> float:
        return self.flops * sum(self.batches)

    @property
    def shape(self) -> str:
        return "-".join(map(str, self.n))


TRAINING = (
    TrainingCase("logreg", (12288, 1), "relu", 209, 209),
    TrainingCase("planar", (2, 4, 1), "tanh", 400, 400),
    TrainingCase("cat", (12288, 20, 7, 5, 1), "relu", 209, 209),
    TrainingCase("digits", (64, 64, 10), "relu", 32, 1792),
    TrainingCase("mnist128", (784, 128, 10), "relu", 64, 6400),
    TrainingCase("mnist512", (784, 512, 512, 10), "relu", 256, 5120),
    TrainingCase("wide", (1024, 4096, 4096, 1024), "relu", 1024, 2048, slow=True),
    TrainingCase("tab", (20, 256, 256, 1), "relu", 128, 6400),
    TrainingCase("tanh", (64, 256, 256, 64), "tanh", 256, 5120),
    TrainingCase("shuffled", (784, 128, 10), "relu", 64, 60000, shuffle=True),
)

INFERENCE = (
    InferenceCase("digits", (64, 64, 10)),
    InferenceCase("control", (17, 64, 64, 6)),
    InferenceCase("mnist128", (784, 128, 10)),
    InferenceCase("mnist512", (784, 512, 512, 10)),
)

# Frozen predictors; the weights of the last don't fit into L2.
SERVING = (
    *(replace(case, name=f"{case.name}-frozen", frozen=True, batches=(1, 32)) for case in INFERENCE),
    InferenceCase("large-frozen", (784, 2048, 2048, 10), (1,), frozen=True),
)


@dataclass(frozen=True)
class ElementwiseCase:
    """An array (n, m) that activations and losses are computed on."""

    name: str
    n: int
    m: int

    @property
    def shape(self) -> str:
        return f"{self.n} x {self.m}"


# in float32 an array has 8 KiB, which fits into L1, and 512 KiB
ELEMENTWISE = (ElementwiseCase("small", 64, 32), ElementwiseCase("large", 512, 256))

TABLES = (TableCase("tables", (200, 256, 256, 256, 2), "selu", 256, 5120, optimizer="adam", learning_rate=2.0**-10),)

# For the tests of the benchmarks: all code paths, little work.
TINY_TRAINING = (
    TrainingCase("tiny-relu", (7, 6, 5, 3), "relu", 8, 40),
    TrainingCase("tiny-tanh", (3, 5, 1), "tanh", 20, 20),
    TrainingCase("tiny-shuffled", (7, 6, 3), "relu", 8, 44, shuffle=True),
)
TINY_TABLES = (
    replace(
        TABLES[0],
        name="tiny-tables",
        n=(3 * 4 + 2 * 3, 8, 8, 8, 2),
        batch=16,
        examples=64,
        numbers=3,
        categories=2,
        codes=5,
        frequencies=2,
        embedding=3,
    ),
)
TINY_INFERENCE = (InferenceCase("tiny", (7, 6, 3), batches=(1, 5)),)

TINY_ELEMENTWISE = (ElementwiseCase("tiny-elementwise", 7, 5),)
TINY_SERVING = (replace(TINY_INFERENCE[0], name="tiny-frozen", frozen=True),)

ALL = (
    *(TRAINING + INFERENCE + SERVING + ELEMENTWISE + TABLES),
    *(TINY_TRAINING + TINY_INFERENCE + TINY_SERVING + TINY_ELEMENTWISE + TINY_TABLES),
)


# How many networks `sweep` draws.
SWEEP = {"training": 24, "inference": 40}


def sweep_names(kind: str, seed: int, count: int | None) -> list[str]:
    """Names that training_case or inference_case draws a case from; a smaller count gives the first of them."""
    count = SWEEP[kind] if count is None else min(count, SWEEP[kind])
    return [f"sweep-{seed}-{number}" for number in range(count)]


def drawn(name: str) -> tuple[np.random.Generator, Callable[[int, int], int], tuple[int, ...]]:
    """For sweep-SEED-NUMBER: a generator, a whole number between two drawn evenly in its logarithm, hidden units."""
    seed, number = map(int, name.split("-")[1:])
    rng = np.random.default_rng([seed, number])

    def between(low: int, high: int) -> int:
        return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))

    # Evenly in the logarithm few layers are wide: every other network draws its units evenly.
    units = between if number % 2 == 0 else lambda low, high: int(rng.integers(low, high + 1))
    return rng, between, tuple(units(4, 2048) for _ in range(rng.integers(1, 4)))


def drawn_training(name: str) -> TrainingCase:
    rng, between, hidden = drawn(name)
    activation, optimizer = str(rng.choice(["relu", "tanh"])), str(rng.choice(["sgd", "adam"]))
    batch = between(8, 1024)
    classes = 1 if rng.random() < 0.2 else between(3, 100)
    # Plain gradient descent diverges where the rate is above the reciprocal of some widths.
    rate = 2.0**-10 if optimizer == "adam" else 2.0 ** -(max(hidden).bit_length() + 1)
    case = TrainingCase(
        name,
        (between(4, 1024), *hidden, classes),
        activation,
        batch,
        # the last batch is a smaller one
        8 * batch - batch // 2,
        optimizer=optimizer,
        learning_rate=rate,
    )
    # half a second or more for an epoch
    return replace(case.first(3), slow=True) if case.work > 5e10 else case


def drawn_inference(name: str) -> InferenceCase:
    _, between, hidden = drawn(name)
    # Of a few outputs the spread, which errors are compared with, may be small by chance.
    return InferenceCase(name, (between(4, 1024), *hidden, between(10, 1000)), batches=(between(1, 1024),))


def training_case(name: str) -> TrainingCase:
    if name.startswith("sweep-"):
        return drawn_training(name)
    tables = (one for case in TABLES + TINY_TABLES for one in (case, *case.variants.values()))
    return next(case for case in (*TRAINING, *TINY_TRAINING, *tables) if case.name == name)


def inference_case(name: str) -> InferenceCase:
    if name.startswith("sweep-"):
        return drawn_inference(name)
    return next(case for case in INFERENCE + SERVING + TINY_INFERENCE + TINY_SERVING if case.name == name)


def elementwise_case(name: str) -> ElementwiseCase:
    return next(case for case in ELEMENTWISE + TINY_ELEMENTWISE if case.name == name)


def examples(n_x: int, m: int, seed: int = 1) -> np.ndarray:
    """X of shape (n_x, m), float32, examples contiguous."""
    return np.random.default_rng(seed).standard_normal((m, n_x), dtype=np.float32).T


def table_examples(case: TableCase) -> tuple[np.ndarray, np.ndarray]:
    """X (n_x, m), and the same with codes of variance 1; float32, examples contiguous."""
    codes = np.random.default_rng(4).integers(0, case.codes, (case.examples, case.categories)).astype(np.float32)
    numbers = examples(case.numbers, case.examples).T
    even = (codes - codes.mean(axis=0)) / codes.std(axis=0)
    seen = np.concatenate([numbers, even], axis=1).T
    return seen if case.codes_as == "numbers" else np.concatenate([numbers, codes], axis=1).T, seen


def data(case: TrainingCase) -> tuple[np.ndarray, np.ndarray]:
    """X (n_x, m) float32 with examples contiguous, and integer labels (m,).

    A linear teacher gives the labels; a tenth of them is random, so that no network gets to
    saturate however long it is timed.
    """
    tabular = isinstance(case, TableCase) and case.encode
    X, seen = table_examples(case) if tabular else [examples(case.n[0], case.examples)] * 2
    rng = np.random.default_rng(2)
    classes = max(case.n[-1], 2)
    teacher = rng.standard_normal((classes, len(X)), dtype=np.float32)
    labels = np.argmax(teacher @ seen, axis=0)
    random = rng.random(case.examples) < 0.1
    labels[random] = rng.integers(0, classes, np.count_nonzero(random))
    return X, labels


def initial(case: TrainingCase | InferenceCase) -> dict[str, np.ndarray]:
    """W1 (n1, n0), b1 (n1, 1), ... float32. Biases aren't zero, so that a missing one is noticed."""
    rng = np.random.default_rng(3)
    if isinstance(case, TableCase):
        return table_initial(case, rng)
    parameters = {}
    for layer, (n_prev, n) in enumerate(zip(case.n, case.n[1:], strict=False), 1):
        gain = 2.0 if case.activation == "relu" else 1.0
        W = rng.standard_normal((n, n_prev)) * np.sqrt(gain / n_prev)
        parameters[f"W{layer}"] = W.astype(np.float32)
        parameters[f"b{layer}"] = (0.1 * rng.standard_normal((n, 1))).astype(np.float32)
    return parameters


def table_initial(case: TableCase, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """As many entries as `case.shapes` says, W (n, n_prev), all others columns."""
    spread = {"w": 0.1, "b": 0.1, "M": case.frequencies**-0.5, "E": 1.0, "s": 0.1, "a": 0.1}
    parameters = {}
    for name, shape in case.shapes.items():
        values = rng.standard_normal(shape) * spread.get(name[0], shape[-1] ** -0.5)
        # phases over a turn or so; factors and shares about 1
        values = values * 20 if len(shape) == 2 and name[0] == "b" else values + (name[0] in "sa")
        parameters[name] = (values if name[0] == "W" else values.reshape(-1, 1)).astype(np.float32)
    return parameters


def one_hot(labels: np.ndarray, classes: int, dtype) -> np.ndarray:
    """Y (n_y, m) with examples contiguous; for one class the labels themselves."""
    if classes == 1:
        return labels[:, None].astype(dtype).T
    Y = np.zeros((labels.size, classes), dtype)
    Y[np.arange(labels.size), labels] = 1
    return Y.T
