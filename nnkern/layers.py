"""The kinds of layers: what each is made of, as a user describes it, and what the rest must know of a kind.

A layer holds no parameters and knows no network: it gets the number of its inputs, and its parameters as
{"W": array, "b": array}, from who holds them. The engine computes; `forward` and what follows it are for derivatives
that training doesn't need.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from nnkern import _kernels, initializers, kernels, validation
from nnkern.kernels import Floats

_Shapes: TypeAlias = dict[str, tuple[int | None, int | None]]
_Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


class Layer:
    """Base of the kinds of layers: what each of them answers."""

    kind: ClassVar[str] = ""
    activation: str = "linear"
    dropout: float = 0.0
    trainable: bool = True

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

    def initial(self, rng: np.random.Generator, n_prev: int, dtype: npt.DTypeLike, l: int) -> _Arrays:
        """{"W": array, …}: initial values of its parameters, as layer number l."""
        return {}

    def engine_config(self, n_prev: int, l2: float, l1: float) -> dict[str, Any]:
        """What the engine must know of it, in a network with these penalties; here of one that carries none."""
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
        }

    def to_dict(self) -> dict[str, Any]:
        """Its numbers and names as a dict, which `from_dict` makes the layer of."""
        return {"kind": self.kind, **vars(self)}

    def __eq__(self, other: object) -> bool:
        """Layers are equal when all but their initializers are."""
        return self.to_dict() == other.to_dict() if isinstance(other, type(self)) else NotImplemented

    __hash__: ClassVar[None] = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Dense(Layer):
    """One dense layer: A = g(W A_prev + b).

    Parameters
    ----------
    units : int
        n, at least 1.
    activation : str
        One of `nnkern.kernels.ACTIVATIONS`.
    init : str, array (n, n_prev) or callable (rng, n, n_prev), optional
        Initial W, see `nnkern.initializers`. Default: he_normal for relu and its family (all but linear, sigmoid,
        tanh, exp and softmax), else glorot_uniform. b starts at zero.
    dropout : float
        Share of the outputs set to 0 in training, in [0, 1); the others are divided by 1 - dropout. Not for the last
        layer.
    l2 : float, optional
        This layer's l2 in place of the network's.
    use_bias : bool
    trainable : bool
        False freezes W and b.
    negative_slope : float
        leaky_relu's slope below 0.

    Raises
    ------
    ValueError
        A number is out of its range, or a name unknown.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Dense(128, "relu", dropout=0.1).units
    128
    """

    kind: ClassVar[str] = "dense"

    units: int
    activation: str = "linear"
    init: str | npt.NDArray[Any] | initializers.Initializer | None = None
    dropout: float = 0.0
    l2: float | None = None
    use_bias: bool = True
    trainable: bool = True
    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        def put(name, value):
            object.__setattr__(self, name, value)

        put("units", validation.size("units", self.units))
        validation.choice("activation", self.activation, _kernels.ACTIVATIONS)
        if isinstance(self.init, str):
            validation.choice("init", self.init, initializers.INITIALIZERS)
        elif self.init is not None and not callable(self.init):
            put("init", np.array(self.init))
        put("dropout", validation.number("dropout", self.dropout, 0, 1, high_open=True))
        if self.l2 is not None:
            put("l2", validation.number("l2", self.l2, 0))
        put("use_bias", validation.flag("use_bias", self.use_bias))
        put("trainable", validation.flag("trainable", self.trainable))
        put("negative_slope", validation.number("negative_slope", self.negative_slope, 0))

    @property
    def label(self) -> str:
        """Its activation."""
        return self.activation

    def outputs(self, n_prev: int | None) -> int | None:
        """Its units, whatever the number of inputs."""
        return self.units

    def parameter_shapes(self, n_prev: int | None) -> _Shapes:
        """{"W": (n, n_prev), "b": (n, 1)}, without b where there is none."""
        shapes: _Shapes = {"W": (self.units, n_prev), "b": (self.units, 1)}
        return shapes if self.use_bias else {"W": shapes["W"]}

    def initial(self, rng: np.random.Generator, n_prev: int, dtype: npt.DTypeLike, l: int) -> _Arrays:
        """W drawn by the initializer; b starts at zero."""
        init = _kernels.INITIALIZERS[self.activation] if self.init is None else self.init
        values = {"W": initializers.draw(init, rng, self.units, n_prev, dtype, l)}
        return values | {"b": np.zeros((self.units, 1), dtype)} if self.use_bias else values

    def engine_config(self, n_prev: int, l2: float, l1: float) -> dict[str, Any]:
        """The same with its slope, penalties and bias."""
        return super().engine_config(n_prev, l2, l1) | {
            "slope": self.negative_slope,
            "l2": l2 if self.l2 is None else self.l2,
            "l1": l1,
            "use_bias": self.use_bias,
        }

    def to_dict(self) -> dict[str, Any]:
        """The numbers and names as a dict, without the initializer."""
        return {name: value for name, value in vars(self).items() if name != "init"}

    # What derivatives are put together from; dropout is off.

    def forward(self, parameters: Mapping[str, Floats], A_prev: Floats) -> tuple[Floats, Floats]:
        """A and Z (n, m)."""
        return kernels.dense_forward(
            parameters["W"],
            A_prev,
            parameters.get("b"),
            self.activation,
            return_Z=True,
            negative_slope=self.negative_slope,
        )

    def through_activation(self, dA: Floats, A: Floats, Z: Floats) -> Floats:
        """dZ (n, m) from dA."""
        return kernels.activation_backward(dA, A, self.activation, Z=Z, negative_slope=self.negative_slope)

    def input_gradient(self, parameters: Mapping[str, Floats], dZ: Floats) -> Floats:
        """dA_prev (n_prev, m) = Wᵀ dZ."""
        return kernels.dense_forward(parameters["W"].T, dZ, None, "linear")

    def example_gradients(self, dZ: Floats, A_prev: Floats) -> dict[str, Floats]:
        """{"W": (m, n, n_prev), "b": (m, n, 1)}: the gradients of each example by itself."""
        dZ = dZ.T[:, :, None]
        gradients: dict[str, Floats] = {"W": dZ * A_prev.T[:, None, :]}
        return gradients | {"b": np.ascontiguousarray(dZ)} if self.use_bias else gradients


@dataclass(frozen=True, eq=False)
class Scale(Layer):
    """One learnable factor per feature: A = s ⊙ A_prev, with s (n, 1), n = n_prev, starting at 1.

    Parameters
    ----------
    trainable : bool
        False freezes s.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Scale().parameter_shapes(3)
    {'s': (3, 1)}
    """

    kind: ClassVar[str] = "scale"

    trainable: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "trainable", validation.flag("trainable", self.trainable))

    def parameter_shapes(self, n_prev: int | None) -> _Shapes:
        """{"s": (n_prev, 1)}: a factor for each feature."""
        return {"s": (n_prev, 1)}

    def initial(self, rng: np.random.Generator, n_prev: int, dtype: npt.DTypeLike, l: int) -> _Arrays:
        """Ones."""
        return {"s": np.ones((n_prev, 1), dtype)}

    def forward(self, parameters: Mapping[str, Floats], A_prev: Floats) -> tuple[Floats, Floats]:
        """A and Z (n, m), which are one."""
        A = parameters["s"] * A_prev
        return A, A

    def through_activation(self, dA: Floats, A: Floats, Z: Floats) -> Floats:
        """dZ (n, m) from dA."""
        return dA

    def input_gradient(self, parameters: Mapping[str, Floats], dZ: Floats) -> Floats:
        """dA_prev (n, m) = s ⊙ dZ."""
        return parameters["s"] * dZ

    def example_gradients(self, dZ: Floats, A_prev: Floats) -> dict[str, Floats]:
        """{"s": (m, n, 1)}: the gradients of each example by itself."""
        return {"s": np.ascontiguousarray((dZ * A_prev).T[:, :, None])}


KINDS: dict[str, type[Layer]] = {cls.kind: cls for cls in (Dense, Scale)}


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
