"""The kinds of layers: what each is made of, as a user describes it, and what the rest must know of a kind.

A layer holds no parameters and knows no network: it gets the number of its inputs, and its parameters as
{"W": array, "b": array}, from who holds them. The engine computes; `forward` and what follows it are for derivatives
that training doesn't need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from nnkern import _kernels, arguments, initializers, kernels, names, schedules, validation
from nnkern import encoders as encoders_
from nnkern.kernels import Floats

_Shapes: TypeAlias = dict[str, tuple[int | None, int | None]]
_Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


class Layer:
    """Base of the kinds of layers: what each of them answers."""

    kind: ClassVar[str] = ""
    activation: names.Activation = "linear"
    dropout: float | schedules.ByStep = 0.0
    trainable: bool = True
    mix: bool = False
    picks_columns: ClassVar[bool] = False
    """Whether it takes inputs of 0 and 1 as codes."""
    reads_codes: ClassVar[bool] = False
    """Whether rows of its inputs may be codes, of which not every number is one."""

    @property
    def label(self) -> str:
        """What stands for it in a line about a network."""
        return self.kind

    def outputs(self, n_prev: int | None) -> int | None:
        """Number of its outputs for n_prev inputs: as many, unless its kind says otherwise; None where n_prev is."""
        return n_prev

    def parameter_shapes(self, n_prev: int | None) -> _Shapes:
        """{"W": shape, …} of its parameters, in the order that the engine has them; here of one that has none."""
        return {}

    @property
    def needs_examples(self) -> bool:
        """Whether its initial values depend on examples."""
        return False

    def initial(
        self, rng: np.random.Generator, n_prev: int, dtype: npt.DTypeLike, l: int, A_prev: Floats | None = None
    ) -> _Arrays:
        """{"W": array, …}: initial values of its parameters, as layer number l.

        `A_prev` (n_prev, m), in float64, is what it reads of some examples, for one that needs them.
        """
        return {}

    def takes_codes(self, above: Sequence[Layer]) -> bool:
        """Whether inputs of 0 and 1 may come as codes: it takes them, or hands them on to the first layer above it."""
        return self.picks_columns

    def engine_config(self, n_prev: int, l2: float, l1: float, above: Sequence[Layer] = ()) -> dict[str, Any]:
        """What the engine must know of it, in a network with these penalties; here of one that carries none.

        `above` are the layers after it, the one that reads its outputs first.
        """
        return {
            "kind": self.kind,
            "n": self.outputs(n_prev),
            "n_prev": n_prev,
            "activation": _kernels.ACTIVATIONS.index(self.activation),
            "slope": 0.0,
            "dropout": self.dropout,
            "l2": 0.0,
            "l1": 0.0,
            "use_bias": False,
            "trainable": self.trainable,
            "rates": self.rates,
        }

    @property
    def rates(self) -> dict[str, float]:
        """{"W": factor, …}: the factors on the learning rate of its parameters, where these aren't 1."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """Its numbers and names as a dict, which `from_dict` makes the layer of."""
        return {"kind": self.kind} | self._settings()

    def _settings(self) -> dict[str, Any]:
        """{name: value} of its fields, keyword-only ones where they aren't their default."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {f.name: values[f.name] for f in fields(self) if not f.kw_only or values[f.name] != f.default}  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._settings().items())})"

    def __eq__(self, other: object) -> bool:
        """Layers are equal when all but their initializers are."""
        return self.to_dict() == other.to_dict() if isinstance(other, type(self)) else NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]


@arguments.named("Dense(8, {}=…)")
@dataclass(frozen=True, eq=False, repr=False)
class Dense(Layer):
    """One dense layer: A = g(W A_prev + b).

    Parameters
    ----------
    units : int
        n, at least 1.
    activation : str
        "linear", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "gelu_tanh", "silu", "softplus",
        "mish", "hard_swish", "exp" or "softmax".
    init : str, array (n, n_prev) or callable (rng, n, n_prev), optional
        Initial W: "zeros", "normal", "he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal" or
        "unit_variance", see `nnkern.initializers`. Default: he_normal for relu and its family (all but linear, sigmoid,
        tanh, exp and softmax), else glorot_uniform. b starts at zero.
    dropout : float or nnkern.schedules.ByStep
        Share of the outputs set to 0 in training, in [0, 1); the others are divided by 1 - dropout. Not for the last
        layer.
    l2 : float, optional
        This layer's l2 in place of the network's.
    use_bias : bool
    trainable : bool
        False freezes W and b.
    negative_slope : float
        leaky_relu's slope below 0.
    rate, bias_rate, mix_rate : float
        Factors, at least 0, on the optimizer's learning rate for W, b and a, as torch's parameter groups have them:
        AdamW's decay is 1 - rate · learning rate · λ too.
    ntk : bool
        Whether W learns as if W' = c W were held, c = √n_prev, in A = g(W' A_prev / c + b) (the "neural tangent"
        parametrisation; Jacot et al. 2018). Since ∂J/∂W' = g/c for g = ∂J/∂W, a step α g/c on W' is α/c² g on W; where
        the optimizer divides by the gradient's size, α (g/c)/(|g|/c + ε) on W' is α/c g/(|g| + cε) on W. So the
        learning rate of W is that of SGD / n_prev, of the others / √n_prev with ε times √n_prev; decay, penalty and
        clipping are of W itself, and the default `init` is lecun_normal, which is W' ~ N(0, 1).
    bias_init : "examples", optional
        b starts at minus a random mean of five examples' W A_prev for each unit (see `nnkern.initializers`), in place
        of zero.
    mix : bool
        A = a ⊙ g(Z) + (1 - a) ⊙ Z: each unit learns how much of g it takes, a (n, 1), which starts at 1. For hidden
        layers with an activation that is neither linear nor softmax.

    Raises
    ------
    ValueError
        A number is out of its range, or a name unknown.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Dense(128, "relu", dropout=0.1).units
    128
    >>> first = nk.Dense(128, "selu", bias_rate=0.1, ntk=True)
    """

    kind: ClassVar[str] = "dense"
    picks_columns: ClassVar[bool] = True

    units: int
    activation: names.Activation = "linear"
    init: names.Initializer | npt.NDArray[Any] | initializers.Initializer | None = None
    dropout: float | schedules.ByStep = 0.0
    l2: float | None = None
    use_bias: bool = True
    trainable: bool = True
    negative_slope: float = 0.01
    _: KW_ONLY
    rate: float = 1.0
    bias_rate: float = 1.0
    ntk: bool = False
    bias_init: Literal["examples"] | None = None
    mix: bool = False
    mix_rate: float = 1.0

    def __post_init__(self) -> None:
        def put(name, value):
            object.__setattr__(self, name, value)

        put("units", validation.size("units", self.units))
        if isinstance(self.activation, int):
            raise ValueError(
                f'activation must be a name, as in Dense(8, "relu"); got {self.activation!r}: how many inputs '
                "a layer has is known from the one before, or from X"
            )
        validation.choice("activation", self.activation, _kernels.ACTIVATIONS)
        if isinstance(self.init, str):
            validation.choice("init", self.init, initializers.NAMES)
        elif self.init is not None and not callable(self.init):
            put("init", np.array(self.init))
        if isinstance(self.dropout, dict):  # as a file has it
            put("dropout", schedules.from_json(self.dropout))
        share = validation.number("dropout", schedules.initial(self.dropout), 0, 1, high_open=True)
        put("dropout", self.dropout if isinstance(self.dropout, schedules.ByStep) else share)
        if self.l2 is not None:
            put("l2", validation.number("l2", self.l2, 0))
        put("use_bias", validation.flag("use_bias", self.use_bias))
        put("trainable", validation.flag("trainable", self.trainable))
        put("negative_slope", validation.number("negative_slope", self.negative_slope, 0))
        for name in ("rate", "bias_rate", "mix_rate"):
            put(name, validation.number(name, getattr(self, name), 0))
        put("ntk", validation.flag("ntk", self.ntk))
        if self.bias_init is not None:
            validation.choice("bias_init", self.bias_init, ("examples",))
            if not self.use_bias:
                raise ValueError("bias_init is for a layer with a bias; got use_bias=False")
        put("mix", validation.flag("mix", self.mix))
        if self.mix and self.activation in ("linear", "softmax"):
            raise ValueError(f"mix is for an activation that is neither linear nor softmax; got {self.activation}")

    @property
    def label(self) -> str:
        """Its activation."""
        return self.activation

    def outputs(self, n_prev: int | None) -> int | None:
        """Its units, whatever the number of inputs."""
        return self.units

    def parameter_shapes(self, n_prev: int | None) -> _Shapes:
        """{"W": (n, n_prev), "b": (n, 1), "a": (n, 1)}, without b or a where there is none."""
        shapes: _Shapes = {"W": (self.units, n_prev)}
        return shapes | dict.fromkeys(self._columns(), (self.units, 1))

    def _columns(self) -> list[str]:
        """The names of its parameters (n, 1)."""
        return ["b"] * self.use_bias + ["a"] * self.mix

    @property
    def needs_examples(self) -> bool:
        """Whether `init` or `bias_init` does."""
        return self.bias_init is not None or (isinstance(self.init, str) and self.init == initializers.UNIT_VARIANCE)

    def initial(
        self, rng: np.random.Generator, n_prev: int, dtype: npt.DTypeLike, l: int, A_prev: Floats | None = None
    ) -> _Arrays:
        """W drawn by the initializer; b starts at zero, or by examples, a at one."""
        init = self.init
        if init is None:
            init = "lecun_normal" if self.ntk else _kernels.INITIALIZERS[self.activation]
        values = {"W": initializers.draw(init, rng, self.units, n_prev, dtype, l, A_prev)}
        values |= {name: np.full((self.units, 1), name == "a", dtype) for name in self._columns()}
        if self.bias_init is not None:
            values["b"] = initializers.biases(rng, values["W"].astype(np.float64), dtype, l, A_prev)
        return values

    def engine_config(self, n_prev: int, l2: float, l1: float, above: Sequence[Layer] = ()) -> dict[str, Any]:
        """The same with its slope, penalties and bias."""
        return super().engine_config(n_prev, l2, l1) | {
            "slope": self.negative_slope,
            "dropout": schedules.initial(self.dropout),
            "l2": l2 if self.l2 is None else self.l2,
            "l1": l1,
            "use_bias": self.use_bias,
            "mix": self.mix,
            "held": {"W": math.sqrt(n_prev)} if self.ntk else {},
        }

    @property
    def rates(self) -> dict[str, float]:
        """The factors on the learning rate of its parameters."""
        return {"W": self.rate, "b": self.bias_rate, "a": self.mix_rate}

    def to_dict(self) -> dict[str, Any]:
        """The numbers and names as a dict, without the initializer; a function of the user's as it is."""
        config = {name: value for name, value in self._settings().items() if name not in ("init", "bias_init")}
        if callable(self.dropout):
            config["dropout"] = schedules.to_json(self.dropout) or self.dropout
        return config

    # What derivatives are put together from; dropout is off.

    def forward(self, parameters: Mapping[str, Floats], A_prev: Floats) -> tuple[Floats, Floats]:
        """A and Z (n, m)."""
        A, Z = kernels.dense_forward(
            parameters["W"],
            A_prev,
            parameters.get("b"),
            self.activation,
            return_Z=True,
            negative_slope=self.negative_slope,
        )
        return Z + parameters["a"] * (A - Z) if self.mix else A, Z

    def through_activation(self, parameters: Mapping[str, Floats], dA: Floats, A: Floats, Z: Floats) -> Floats:
        """dZ (n, m) from dA."""
        if not self.mix:
            return self._slope(dA, A, Z)
        return dA + parameters["a"] * (self._slope(dA, self._g(Z), Z) - dA)

    def _slope(self, dA: Floats, g: Floats, Z: Floats) -> Floats:
        """dA ⊙ g'"""
        return kernels.activation_backward(dA, g, self.activation, Z=Z, negative_slope=self.negative_slope)

    def _g(self, Z: Floats) -> Floats:
        return kernels.activation_forward(Z, self.activation, negative_slope=self.negative_slope)

    def input_gradient(self, parameters: Mapping[str, Floats], dZ: Floats, A_prev: Floats) -> Floats:
        """dA_prev (n_prev, m) = Wᵀ dZ."""
        return kernels.dense_forward(parameters["W"].T, dZ, None, "linear")

    def example_gradients(self, parameters: Mapping[str, Floats], dZ: Floats, A_prev: Floats) -> dict[str, Floats]:
        """{"W": (m, n, n_prev), "b": (m, n, 1)}: the gradients of each example by itself."""
        dZ = dZ.T[:, :, None]
        gradients: dict[str, Floats] = {"W": dZ * A_prev.T[:, None, :]}
        return gradients | {"b": np.ascontiguousarray(dZ)} if self.use_bias else gradients

    def mix_gradients(self, dA: Floats, Z: Floats) -> dict[str, Floats]:
        """{"a": (m, n, 1)}: those of the mix, from the gradient by its outputs."""
        return {"a": np.ascontiguousarray((dA * (self._g(Z) - Z)).T[:, :, None])}


@dataclass(frozen=True, eq=False, repr=False)
class Scale(Layer):
    """One learnable factor per feature: A = s ⊙ A_prev, with s (n, 1), n = n_prev, starting at 1.

    Parameters
    ----------
    trainable : bool
        False freezes s.
    rate : float
        Factor, at least 0, on the optimizer's learning rate for s.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Scale().parameter_shapes(3)
    {'s': (3, 1)}
    """

    kind: ClassVar[str] = "scale"

    trainable: bool = True
    _: KW_ONLY
    rate: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "trainable", validation.flag("trainable", self.trainable))
        object.__setattr__(self, "rate", validation.number("rate", self.rate, 0))

    @property
    def rates(self) -> dict[str, float]:
        """The factor on the learning rate of s."""
        return {"s": self.rate}

    def parameter_shapes(self, n_prev: int | None) -> _Shapes:
        """{"s": (n_prev, 1)}: a factor for each feature."""
        return {"s": (n_prev, 1)}

    def initial(
        self, rng: np.random.Generator, n_prev: int, dtype: npt.DTypeLike, l: int, A_prev: Floats | None = None
    ) -> _Arrays:
        """Ones."""
        return {"s": np.ones((n_prev, 1), dtype)}

    def takes_codes(self, above: Sequence[Layer]) -> bool:
        """Right before a layer that takes them, which then multiplies what they pick by s."""
        return bool(above) and above[0].picks_columns

    def forward(self, parameters: Mapping[str, Floats], A_prev: Floats) -> tuple[Floats, Floats]:
        """A and Z (n, m), which are one."""
        A = parameters["s"] * A_prev
        return A, A

    def through_activation(self, parameters: Mapping[str, Floats], dA: Floats, A: Floats, Z: Floats) -> Floats:
        """dZ (n, m) from dA."""
        return dA

    def input_gradient(self, parameters: Mapping[str, Floats], dZ: Floats, A_prev: Floats) -> Floats:
        """dA_prev (n, m) = s ⊙ dZ."""
        return parameters["s"] * dZ

    def example_gradients(self, parameters: Mapping[str, Floats], dZ: Floats, A_prev: Floats) -> dict[str, Floats]:
        """{"s": (m, n, 1)}: the gradients of each example by itself."""
        return {"s": np.ascontiguousarray((dZ * A_prev).T[:, :, None])}


@dataclass(frozen=True, eq=False, repr=False)
class Encode(Layer):
    """The first layer of a network for tables: each encoder makes features of one row of X.

    Its outputs are those of the encoders one after the other, those of `OneHot` encoders after all others; rows that no
    encoder names aren't used, and a row may have several encoders. Categories are given as codes, whole numbers; a
    code that is out of range is an error before anything is computed. Before a dense layer, also with one `Scale`
    between, a one-hot code picks a column of W, and no matrix of 0 and 1 is made.

    Parameters
    ----------
    encoders : sequence of encoder
        `Numeric`, `Periodic`, `PiecewiseLinear`, `OneHot` and `Embedding`.
    trainable : bool
        False freezes what they learn.
    rate, embedding_rate : float
        Factors, at least 0, on the optimizer's learning rate for what numbers' encoders learn, and for embeddings.

    Examples
    --------
    >>> import nnkern as nk
    >>> numbers = [nk.Numeric(0), nk.Periodic(1, units=4)]
    >>> encode = nk.Encode([*numbers, nk.OneHot(2, size=3), nk.Embedding(3, 100, 8)])
    >>> encode.outputs(4), encode.parameter_shapes(4)
    (16, {'w': (16, 1), 'b': (16, 1), 'M': (51, 1), 'E': (800, 1)})

    Each of its parameters is a column, in which those of its encoders follow each other, column by column.
    """

    kind: ClassVar[str] = "encode"
    reads_codes: ClassVar[bool] = True

    encoders: Sequence[encoders_.Encoder]
    trainable: bool = True
    _: KW_ONLY
    rate: float = 1.0
    embedding_rate: float = 1.0

    def __post_init__(self) -> None:
        given = self.encoders
        if isinstance(given, encoders_.Encoder) or not hasattr(given, "__iter__"):
            raise TypeError(f"encoders must be a list of encoders; got {given!r}")
        given = tuple(encoders_.from_dict(one) if isinstance(one, dict) else one for one in given)
        if not given or not all(isinstance(one, encoders_.Encoder) for one in given):
            raise ValueError(f"encoders must be a list of encoders, at least of one such as Numeric(0); got {given!r}")
        object.__setattr__(self, "encoders", given)
        for name in ("rate", "embedding_rate"):
            object.__setattr__(self, name, validation.number(name, getattr(self, name), 0))
        object.__setattr__(self, "trainable", validation.flag("trainable", self.trainable))

    def in_order(self, items: Sequence[Any]) -> list[Any]:
        """A list that has an item for each encoder, in the order of their outputs."""
        last = [isinstance(one, encoders_.OneHot) for one in self.encoders]
        return [items[i] for i in sorted(range(len(items)), key=last.__getitem__)]

    def outputs(self, n_prev: int | None) -> int:
        """Those of all encoders, whatever the number of inputs."""
        return sum(one.outputs for one in self.encoders)

    def parameter_shapes(self, n_prev: int | None) -> _Shapes:
        """{"w": (Σ k, 1), "b": (Σ k, 1), "M": (…, 1), "E": (…, 1)}, without those that no encoder has."""
        counts = dict.fromkeys("wbME", 0)
        for one in self.encoders:
            for name, shape in one.parameters.items():
                counts[name] += math.prod(shape)
        return {name: (count, 1) for name, count in counts.items() if count}

    def initial(
        self, rng: np.random.Generator, n_prev: int, dtype: npt.DTypeLike, l: int, A_prev: Floats | None = None
    ) -> _Arrays:
        """Drawn by the encoders, one after the other."""
        drawn: dict[str, list[Floats]] = {name: [] for name in self.parameter_shapes(n_prev)}
        for one in self.encoders:
            for name, array in one.initial(rng).items():
                drawn[name].append(array.reshape(-1, order="F"))
        return {name: np.concatenate(arrays).astype(dtype)[:, None] for name, arrays in drawn.items()}

    def engine_config(self, n_prev: int, l2: float, l1: float, above: Sequence[Layer] = ()) -> dict[str, Any]:
        """What the engine must know of it: where everything begins. Nothing carries a penalty."""
        highest = max(one.row for one in self.encoders)
        if highest >= n_prev:
            raise ValueError(f"an encoder names row {highest} of X, which has {n_prev} rows, counted from 0")
        numbers, embeddings, one_hots, out = [], [], [], 0
        codes = bool(above) and above[0].takes_codes(above[1:])
        for one in self.in_order(self.encoders):
            if isinstance(one, encoders_.OneHot):
                one_hots.append((one.row, out, one.size, int(one.unknown), 0))
            elif isinstance(one, encoders_.Embedding):
                embeddings.append((one.row, out, one.size, 0, one.units))
            else:
                numbers.append((one.row, out, *one.engine_config()))
            out += one.outputs
        ones = sum(size for _, _, size, _, _ in one_hots) if codes else 0
        if codes:
            one_hots = [(row, at - (out - ones), size, skipped, 0) for row, at, size, skipped, _ in one_hots]
        return super().engine_config(n_prev, l2, l1) | {
            "n": out - ones,
            "ones": ones,
            "encoders": (numbers, embeddings, *(([], one_hots) if codes else (one_hots, []))),
        }

    def to_dict(self) -> dict[str, Any]:
        """Its kind, encoders and numbers as a dict."""
        return super().to_dict() | {"encoders": [one.to_dict() for one in self.encoders]}

    @property
    def rates(self) -> dict[str, float]:
        """The factors on the learning rate of its parameters."""
        return {"w": self.rate, "b": self.rate, "M": self.rate, "E": self.embedding_rate}

    def parameters_of(self, parameters: Mapping[str, Floats]) -> list[tuple[encoders_.Encoder, _Arrays]]:
        """[(encoder, {"w": view, …}), …] of the layer's parameters {"w": (Σ k, 1) array, …}, in the order given."""
        taken = dict.fromkeys(parameters, 0)
        result = []
        for one in self.encoders:
            own = {}
            for name, shape in one.parameters.items():
                count = math.prod(shape)
                own[name] = parameters[name][taken[name] : taken[name] + count].reshape(shape, order="F")
                taken[name] += count
            result.append((one, own))
        return result

    def _by_outputs(self, parameters: Mapping[str, Floats]) -> Iterator[tuple[encoders_.Encoder, _Arrays, int, int]]:
        """(encoder, its parameters, first output, output after its last one), in the order of the outputs."""
        at = 0
        for one, own in self.in_order(self.parameters_of(parameters)):
            yield one, own, at, at + one.outputs
            at += one.outputs

    def forward(self, parameters: Mapping[str, Floats], A_prev: Floats) -> tuple[Floats, Floats]:
        """A and Z (n, m), which are one."""
        A = np.concatenate([one.forward(own, A_prev[one.row]) for one, own, _, _ in self._by_outputs(parameters)])
        return A, A

    def through_activation(self, parameters: Mapping[str, Floats], dA: Floats, A: Floats, Z: Floats) -> Floats:
        """dZ (n, m) from dA."""
        return dA

    def input_gradient(self, parameters: Mapping[str, Floats], dZ: Floats, A_prev: Floats) -> Floats:
        """dA_prev (n_prev, m); 0 for codes, which have no derivative, and for rows that aren't used."""
        dX = np.zeros_like(A_prev)
        for one, own, first, end in self._by_outputs(parameters):
            dX[one.row] += one.derive(own, A_prev[one.row], dZ[first:end])[1]
        return dX

    def example_gradients(self, parameters: Mapping[str, Floats], dZ: Floats, A_prev: Floats) -> dict[str, Floats]:
        """{"w": (m, Σ k, 1), …}: the gradients of each example by itself."""
        places = {id(one): (first, end) for one, _, first, end in self._by_outputs(parameters)}
        gradients: dict[str, list[Floats]] = {name: [] for name in parameters}
        for one, own in self.parameters_of(parameters):
            first, end = places[id(one)]
            for name, g in one.derive(own, A_prev[one.row], dZ[first:end])[0].items():
                gradients[name].append(g)
        return {name: np.ascontiguousarray(np.concatenate(g).T[:, :, None]) for name, g in gradients.items()}


KINDS: dict[str, type[Layer]] = {cls.kind: cls for cls in (Dense, Scale, Encode)}


def from_dict(config: Mapping[str, Any]) -> Layer:
    """The layer of what `to_dict` returned; without a kind it is Dense."""
    config = dict(config)
    return KINDS[validation.choice("kind of layer", config.pop("kind", "dense"), KINDS)](**config)


def outputs(layers: Iterable[Layer], n_x: int | None) -> list[int | None]:
    """[n_x, n[1], … n[L]]: the number of features and of each layer's outputs, None where it isn't known."""
    numbers = [n_x]
    for layer in layers:
        numbers.append(layer.outputs(numbers[-1]))
    return numbers


def parameter_shapes(layers: Iterable[Layer], n_x: int | None) -> _Shapes:
    """{"W1": (n[1], n_x), "b1": (n[1], 1), …}: the shapes of all parameters, in the order that the engine has them."""
    return {
        f"{name}{l}": shape
        for l, (layer, n_prev) in enumerate(zip(layers, outputs(layers, n_x), strict=False), start=1)
        for name, shape in layer.parameter_shapes(n_prev).items()
    }
