"""Model: a network as plain data, which is what files hold and what other formats are converted from and to.

Knows the kinds of layers and the losses; knows nothing of the engine, and not the class Network, which is made from it.
"""

from dataclasses import dataclass, field

import numpy as np

from nnkern import layers as kinds
from nnkern import losses


@dataclass
class Training:
    """Where a training stands: all that a resumed fit goes on from.

    `progress` has the counters and the random streams' entropy (numbers and None only); `moments` maps "s1" and "s2",
    where the optimizer has them, to {"W1": array, …} as `Model.parameters` has them.
    """

    progress: dict
    optimizer: object
    moments: dict = field(default_factory=dict)


@dataclass
class Model:
    """Layers, loss, parameters {"W1": (n[1], n_x) array, "b1": (n[1], 1) array, …}, and what goes with them."""

    layers: tuple
    loss: losses.Loss
    n_x: int | None
    parameters: dict
    dtype: np.dtype
    l2: float = 0.0
    l1: float = 0.0
    seed: int | None = None
    metadata: dict = field(default_factory=dict)
    training: Training | None = None

    @property
    def n_y(self):
        """Number of outputs."""
        return self.layers[-1].units

    def config(self):
        """What the network is, but for its parameters: a dict that JSON can hold."""
        return {
            "layers": [layer.to_dict() for layer in self.layers],
            "loss": self.loss.config(),
            "l2": self.l2,
            "l1": self.l1,
            "dtype": self.dtype.name,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config, **more):
        """The model of what `config` returned; `more`: the other fields."""
        config = dict(config)
        layers = tuple(kinds.from_dict(one) for one in config.pop("layers"))
        loss, dtype = losses.get(config.pop("loss")), np.dtype(config.pop("dtype"))
        return cls(layers=layers, loss=loss, dtype=dtype, **config, **more)
