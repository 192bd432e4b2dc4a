"""The kinds of layers: what each is made of, as a user describes it. A layer holds no parameters; a network does."""

from dataclasses import dataclass

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

    def to_dict(self):
        """The numbers and names as a dict, without the initializer."""
        return {name: value for name, value in vars(self).items() if name != "init"}

    def __eq__(self, other):
        """Layers are equal when all but their initializers are."""
        return self.to_dict() == other.to_dict() if isinstance(other, Dense) else NotImplemented

    __hash__ = None
