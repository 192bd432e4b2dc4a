"""The kinds of layers: what each is made of, as a user describes it. A layer holds no parameters; a network does.

All kinds have `kind`, `activation`, `dropout`, `trainable`, `outputs`, `parameter_shapes`, `initial` and `to_dict`: the
rest of the package asks for these, never for a class.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nnkern import _kernels, initializers, validation


@dataclass(frozen=True, eq=False)
class Dense:
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

    units: int
    activation: str = "linear"
    init: object = None
    dropout: float = 0.0
    l2: float | None = None
    use_bias: bool = True
    trainable: bool = True
    negative_slope: float = 0.01

    kind: ClassVar[str] = "dense"

    def __post_init__(self):
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

    def outputs(self, n_prev):
        """Number of outputs for n_prev inputs."""
        return self.units

    def parameter_shapes(self, n_prev):
        """{"W": (n, n_prev), "b": (n, 1)}, b only where there is a bias."""
        shapes = {"W": (self.units, n_prev), "b": (self.units, 1)}
        return shapes if self.use_bias else {"W": shapes["W"]}

    def initial(self, rng, n_prev, dtype, l):
        """{"W": array, "b": zeros} with the initial values of layer l."""
        init = _kernels.INITIALIZERS[self.activation] if self.init is None else self.init
        values = {name: np.zeros(shape, dtype) for name, shape in self.parameter_shapes(n_prev).items()}
        return values | {"W": initializers.draw(init, rng, self.units, n_prev, dtype, l)}

    def to_dict(self):
        """The numbers and names as a dict, without the initializer."""
        return {name: value for name, value in vars(self).items() if name != "init"}

    def __eq__(self, other):
        """Layers are equal when all but their initializers are."""
        return self.to_dict() == other.to_dict() if isinstance(other, Dense) else NotImplemented

    __hash__ = None


@dataclass(frozen=True)
class Scale:
    """One learnable factor per feature: A = s ⊙ A_prev, with s (n, 1), n = n_prev, starting at 1.

    Parameters
    ----------
    trainable : bool
        False freezes s.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.layers.Scale().parameter_shapes(3)
    {'s': (3, 1)}
    """

    trainable: bool = True

    kind: ClassVar[str] = "scale"
    activation: ClassVar[str] = "linear"
    dropout: ClassVar[float] = 0.0

    def __post_init__(self):
        object.__setattr__(self, "trainable", validation.flag("trainable", self.trainable))

    def outputs(self, n_prev):
        """Number of outputs for n_prev inputs."""
        return n_prev

    def parameter_shapes(self, n_prev):
        """{"s": (n_prev, 1)}"""
        return {"s": (n_prev, 1)}

    def initial(self, rng, n_prev, dtype, l):
        """{"s": ones}"""
        return {"s": np.ones((n_prev, 1), dtype)}

    def to_dict(self):
        """The numbers and names as a dict."""
        return {"kind": self.kind, **vars(self)}


KINDS = {cls.kind: cls for cls in (Dense, Scale)}


def from_dict(config):
    """The layer of what its `to_dict` returned. A Dense's says no kind, as in files from before there were others."""
    config = dict(config)
    kind = validation.choice("kind", config.pop("kind", Dense.kind), KINDS)
    return KINDS[kind](**config)
