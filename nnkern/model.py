"""Model: a network as plain data, which is what files hold and what other formats are converted from and to.

Knows the kinds of layers and the losses; knows nothing of the engine, and not the class Network, which is made from it.
"""

from dataclasses import dataclass, field

import numpy as np

from nnkern import layers as kinds
from nnkern import losses, validation

MOMENTS = ("s1", "s2")
"""The vectors of an optimizer's state, by the engine's names."""


@dataclass(eq=False)
class Training:
    """Where a training stands: all that a resumed fit goes on from.

    `progress` has the counters and the random streams' entropy (numbers and None only); `moments` maps "s1" and "s2",
    where the optimizer has them, to {"W1": array, …} as `Model.parameters` has them.
    """

    progress: dict
    optimizer: object
    moments: dict = field(default_factory=dict)


@dataclass(eq=False)
class Model:
    """Layers, loss, parameters {"W1": (n[1], n_x) array, "b1": (n[1], 1) array, …}, and what goes with them.

    Made from what a user or a file says: a ValueError or TypeError says what doesn't make a network. The parameters'
    names and shapes aren't looked at.
    """

    layers: tuple
    loss: losses.Loss
    n_x: int | None = None
    parameters: dict = field(default_factory=dict)
    dtype: np.dtype | str = "float32"
    compute: str | None = None
    l2: float = 0.0
    l1: float = 0.0
    seed: int | None = None
    metadata: dict = field(default_factory=dict)
    training: Training | None = None

    def __post_init__(self):
        layers = self.layers
        if isinstance(layers, kinds.Layer) or not hasattr(layers, "__iter__"):
            raise TypeError(f"layers must be a list of layers; got {layers!r}")
        self.layers = tuple(layers)
        if not self.layers or not all(isinstance(layer, kinds.Layer) for layer in self.layers):
            raise ValueError(f"layers must be a list of at least one layer such as Dense(8, 'relu'); got {layers!r}")
        self.loss = losses.get(self.loss)
        last, needed = self.layers[-1], self.loss.output
        if needed is not None and last.activation != needed:
            raise ValueError(
                f"the loss {self.loss.name} needs {needed} units at the output, the last layer has {last.activation}: "
                f'use Dense({last.outputs(None) or "n_y"}, "{needed}")'
            )
        if any(layer.kind == "encode" for layer in self.layers[1:]) or last.kind == "encode":
            raise ValueError("Encode must be the first layer, and another one must follow it")
        if last.mix:
            raise ValueError("the last layer has mix=True: its outputs are what the loss is for, and aren't mixed")
        if last.dropout:
            raise ValueError(f"the last layer has dropout {last.dropout}: outputs are never dropped")
        self.l2 = validation.number("l2", self.l2, 0)
        self.l1 = validation.number("l1", self.l1, 0)
        self.dtype = validation.dtype(self.dtype)
        self.compute = validation.compute(self.compute, self.dtype)
        self.seed = None if self.seed is None else validation.integer("seed", self.seed, 0)

    @property
    def sizes(self):
        """[n_x, n[1], …, n_y]"""
        return kinds.outputs(self.layers, self.n_x)

    @property
    def n_y(self):
        """Number of outputs."""
        return self.sizes[-1]

    def numbered_layers(self):
        """(l, layer, {"W": array, …}) from l = 1 on: each layer with its parameters by the names that its kind has."""
        for l, (layer, n_prev) in enumerate(zip(self.layers, self.sizes[:-1], strict=True), start=1):
            yield l, layer, {name: self.parameters[f"{name}{l}"] for name in layer.parameter_shapes(n_prev)}

    def config(self):
        """What the network is, but for its parameters: a dict that JSON can hold."""
        config = {
            "layers": [layer.to_dict() for layer in self.layers],
            "loss": self.loss.config(),
            "l2": self.l2,
            "l1": self.l1,
            "dtype": self.dtype.name,
            "seed": self.seed,
        }
        if self.compute is not None:
            config["compute"] = self.compute
        return config

    @classmethod
    def from_config(cls, config, **more):
        """The model of what `config` returned; `more`: the other fields."""
        config = dict(config)
        layers = [kinds.from_dict(one) for one in config.pop("layers")]
        unknown = set(config) - {"loss", "l2", "l1", "dtype", "compute", "seed"}
        if unknown:
            raise ValueError(f"a network has no {', '.join(sorted(unknown))}")
        return cls(layers=layers, **config, **more)
