"""The kinds of layers: what each is made of, as a user describes it, and what the rest must know of a kind.

A layer holds no parameters and knows no network: it gets the number of its inputs, and its parameters as
{"W": array, "b": array}, from who holds them. The engine computes; `forward` and what follows it are for derivatives
that training doesn't need.
"""

import math
from dataclasses import KW_ONLY, dataclass, fields
from typing import ClassVar

import numpy as np

from nnkern import _kernels, initializers, kernels, schedules, validation


class Layer:
    """Base of the kinds of layers: what each of them answers."""

    kind = ""
    activation = "linear"
    dropout = 0.0
    trainable = True

    @property
    def label(self):
        """What stands for it in a line about a network."""
        return self.kind

    def outputs(self, n_prev):
        """Number of its outputs for n_prev inputs; None where it takes these to know."""

    def parameter_shapes(self, n_prev):
        """{"W": shape, …} of its parameters, in the order that the engine has them."""

    def initial(self, rng, n_prev, dtype, l):
        """{"W": array, …}: initial values of its parameters, as layer number l."""

    def engine_config(self, n_prev, l2, l1):
        """What the engine must know of it, in a network with these penalties."""

    def to_dict(self):
        """Its numbers and names as a dict, which `from_dict` makes the layer of."""

    def _settings(self):
        """{name: value} of its fields, keyword-only ones where they aren't their default."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {f.name: values[f.name] for f in fields(self) if not f.kw_only or values[f.name] != f.default}

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._settings().items())})"

    def __eq__(self, other):
        """Layers are equal when all but their initializers are."""
        return self.to_dict() == other.to_dict() if isinstance(other, type(self)) else NotImplemented

    __hash__ = None


@dataclass(frozen=True, eq=False, repr=False)
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
    rate, bias_rate : float
        Factors, at least 0, on the optimizer's learning rate for W and for b, as torch's parameter groups have them:
        AdamW's decay is 1 - rate · learning rate · λ too.
    ntk : bool
        Whether W learns as if W' = c W were held, c = √n_prev, in A = g(W' A_prev / c + b) (the "neural tangent"
        parametrisation; Jacot et al. 2018). Since ∂J/∂W' = g/c for g = ∂J/∂W, a step α g/c on W' is α/c² g on W; where
        the optimizer divides by the gradient's size, α (g/c)/(|g|/c + ε) on W' is α/c g/(|g| + cε) on W. So the
        learning rate of W is that of SGD / n_prev, of the others / √n_prev with ε times √n_prev; decay, penalty and
        clipping are of W itself, and the default `init` is lecun_normal, which is W' ~ N(0, 1).

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

    units: int
    activation: str = "linear"
    init: object = None
    dropout: float | schedules.ByStep = 0.0
    l2: float | None = None
    use_bias: bool = True
    trainable: bool = True
    negative_slope: float = 0.01
    _: KW_ONLY
    rate: float = 1.0
    bias_rate: float = 1.0
    ntk: bool = False

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("units", validation.size("units", self.units))
        validation.choice("activation", self.activation, _kernels.ACTIVATIONS)
        if isinstance(self.init, str):
            validation.choice("init", self.init, initializers.INITIALIZERS)
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
        put("rate", validation.number("rate", self.rate, 0))
        put("bias_rate", validation.number("bias_rate", self.bias_rate, 0))
        put("ntk", validation.flag("ntk", self.ntk))

    @property
    def label(self):
        """Its activation."""
        return self.activation

    def outputs(self, n_prev):
        """Its units, whatever the number of inputs."""
        return self.units

    def parameter_shapes(self, n_prev):
        """{"W": (n, n_prev), "b": (n, 1)}, without b where there is none."""
        shapes = {"W": (self.units, n_prev), "b": (self.units, 1)}
        return shapes if self.use_bias else {"W": shapes["W"]}

    def initial(self, rng, n_prev, dtype, l):
        """W drawn by the initializer; b starts at zero."""
        init = self.init
        if init is None:
            init = "lecun_normal" if self.ntk else _kernels.INITIALIZERS[self.activation]
        values = {"W": initializers.draw(init, rng, self.units, n_prev, dtype, l)}
        return values | {"b": np.zeros((self.units, 1), dtype)} if self.use_bias else values

    def engine_config(self, n_prev, l2, l1):
        """What the engine must know of it, in a network with these penalties."""
        return {
            "kind": self.kind,
            "n": self.units,
            "n_prev": n_prev,
            "activation": _kernels.ACTIVATIONS.index(self.activation),
            "slope": self.negative_slope,
            "dropout": schedules.initial(self.dropout),
            "l2": l2 if self.l2 is None else self.l2,
            "l1": l1,
            "use_bias": self.use_bias,
            "trainable": self.trainable,
            "rates": {"W": self.rate, "b": self.bias_rate},
            "held": {"W": math.sqrt(n_prev)} if self.ntk else {},
        }

    def to_dict(self):
        """The numbers and names as a dict, without the initializer; a function of the user's as it is."""
        config = {name: value for name, value in self._settings().items() if name != "init"}
        if callable(self.dropout):
            config["dropout"] = schedules.to_json(self.dropout) or self.dropout
        return config

    # What derivatives are put together from; dropout is off.

    def forward(self, parameters, A_prev):
        """A and Z (n, m)."""
        return kernels.dense_forward(
            parameters["W"],
            A_prev,
            parameters.get("b"),
            self.activation,
            return_Z=True,
            negative_slope=self.negative_slope,
        )

    def through_activation(self, dA, A, Z):
        """dZ (n, m) from dA."""
        return kernels.activation_backward(dA, A, self.activation, Z=Z, negative_slope=self.negative_slope)

    def input_gradient(self, parameters, dZ):
        """dA_prev (n_prev, m) = Wᵀ dZ."""
        return kernels.dense_forward(parameters["W"].T, dZ, None, "linear")

    def example_gradients(self, dZ, A_prev):
        """{"W": (m, n, n_prev), "b": (m, n, 1)}: the gradients of each example by itself."""
        dZ = dZ.T[:, :, None]
        gradients = {"W": dZ * A_prev.T[:, None, :]}
        return gradients | {"b": np.ascontiguousarray(dZ)} if self.use_bias else gradients


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

    def __post_init__(self):
        object.__setattr__(self, "trainable", validation.flag("trainable", self.trainable))
        object.__setattr__(self, "rate", validation.number("rate", self.rate, 0))

    def outputs(self, n_prev):
        """As many as inputs."""
        return n_prev

    def parameter_shapes(self, n_prev):
        """{"s": (n_prev, 1)}: a factor for each feature."""
        return {"s": (n_prev, 1)}

    def initial(self, rng, n_prev, dtype, l):
        """Ones."""
        return {"s": np.ones((n_prev, 1), dtype)}

    def engine_config(self, n_prev, l2, l1):
        """What the engine must know of it: factors carry no penalty."""
        return {
            "kind": self.kind,
            "n": n_prev,
            "n_prev": n_prev,
            "activation": _kernels.ACTIVATIONS.index(self.activation),
            "slope": 0.0,
            "dropout": self.dropout,
            "l2": 0.0,
            "l1": 0.0,
            "use_bias": False,
            "trainable": self.trainable,
            "rates": {"s": self.rate},
        }

    def to_dict(self):
        """Its kind and numbers as a dict."""
        return {"kind": self.kind} | self._settings()

    def forward(self, parameters, A_prev):
        """A and Z (n, m), which are one."""
        A = parameters["s"] * A_prev
        return A, A

    def through_activation(self, dA, A, Z):
        """dZ (n, m) from dA."""
        return dA

    def input_gradient(self, parameters, dZ):
        """dA_prev (n, m) = s ⊙ dZ."""
        return parameters["s"] * dZ

    def example_gradients(self, dZ, A_prev):
        """{"s": (m, n, 1)}: the gradients of each example by itself."""
        return {"s": np.ascontiguousarray((dZ * A_prev).T[:, :, None])}


KINDS = {cls.kind: cls for cls in (Dense, Scale)}


def from_dict(config):
    """The layer of what `to_dict` returned; without a kind it is Dense."""
    config = dict(config)
    return KINDS[validation.choice("kind of layer", config.pop("kind", "dense"), KINDS)](**config)


def outputs(layers, n_x):
    """[n_x, n[1], … n[L]]: the number of features and of each layer's outputs, None where it isn't known."""
    numbers = [n_x]
    for layer in layers:
        numbers.append(layer.outputs(numbers[-1]))
    return numbers


def parameter_shapes(layers, n_x):
    """{"W1": (n[1], n_x), "b1": (n[1], 1), …}: the shapes of all parameters, in the order that the engine has them."""
    return {
        f"{name}{l}": shape
        for l, (layer, n_prev) in enumerate(zip(layers, outputs(layers, n_x), strict=False), start=1)
        for name, shape in layer.parameter_shapes(n_prev).items()
    }
