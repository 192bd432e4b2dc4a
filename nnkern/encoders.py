"""Encoders: what the first layer of a network, Encode, makes of one row of X each.

An encoder holds no parameters; it gets them as {"w": array, …} from the layer. The engine computes; `forward` and
`derive` are for derivatives that training doesn't need. Knows no layer and no network.
"""

import abc
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nnkern import validation
from nnkern._values import Value

_MOST_CODES = 1 << 24  # whole numbers up to here are exact in float32


class Encoder(Value):
    """Base of the encoders: a row of X, and what becomes of it.

    Parameters
    ----------
    row : int
        The row of X, from 0.
    """

    name: ClassVar[str] = ""
    row: int

    def __init__(self, row: int) -> None:
        self._put("row", validation.integer("row", row, 0))

    def _put(self, name, value):
        object.__setattr__(self, name, value)

    def __setattr__(self, name, value):
        raise AttributeError(f"an encoder can't be changed: make another {type(self).__name__}")

    @property
    def outputs(self):
        """Number of its outputs."""
        return 1

    @property
    def parameters(self):
        """{"w": shape, …} of its parameters."""
        return {}

    def initial(self, rng):
        """{"w": array, …}: initial values of its parameters, in float64."""
        return {}

    def forward(self, parameters, x):
        """(outputs, m) of x (m,)."""
        return x[None]

    def derive(self, parameters, x, dA):
        """Gradients of each example, {"w": (entries, m), …}, entries column by column; and dx (m,)."""
        return {}, dA[0]

    def engine_config(self):
        """(bins or None, frequencies, units of a linear map, whether x itself is kept): what the engine must know."""
        return None, 0, 0, True

    def to_dict(self):
        """Its numbers as a dict, which `from_dict` makes the encoder of."""
        return {"encoder": self.name} | vars(self)


class Numeric(Encoder):
    """A number as it is.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Numeric(3).outputs
    1
    """

    name = "numeric"


class _Number(Encoder, abc.ABC):
    """Base of what makes k features f of a number and, with `units`, a linear map of them: M f + c."""

    @property
    @abc.abstractmethod
    def features(self):
        """k, the number of features."""

    @property
    def mapped(self):
        """Outputs of the linear map; 0 where there is none."""
        return self.units or 0

    @property
    def outputs(self):
        """Number of its outputs."""
        return self.mapped or self.features

    @property
    def parameters(self):
        """M (outputs of the map, k + 1), whose last column is c."""
        return {"M": (self.mapped, self.features + 1)} if self.mapped else {}

    def initial(self, rng):
        """Uniform within ± 1/√k."""
        most = self.features**-0.5
        return {name: rng.uniform(-most, most, shape) for name, shape in _Number.parameters.fget(self).items()}

    @abc.abstractmethod
    def f_and_slope(self, parameters, x):
        """f (k, m), and its derivatives by x times the factor that they are taken by."""

    def through_map(self, parameters, f):
        """(outputs, m) of f (k, m)."""
        if not self.mapped:
            return f
        M = parameters["M"]
        return M[:, :-1] @ f + M[:, -1:]

    def forward(self, parameters, x):
        """(outputs, m) of x (m,)."""
        return self.through_map(parameters, self.f_and_slope(parameters, x)[0])

    def derive_map(self, parameters, f, dA):
        """Gradients of each example by M, and df (k, m)."""
        if not self.mapped:
            return {}, dA
        ones = np.concatenate([f, np.ones_like(f[:1])])
        gradients = {"M": (ones[:, None] * dA[None]).reshape(-1, dA.shape[1])}
        return gradients, parameters["M"][:, :-1].T @ dA


class Periodic(_Number):
    """A number's periodic embedding: x itself, and M cos(2π w x + b) + c; w, b, M and c are learnt.

    Parameters
    ----------
    row : int
        The row of X, from 0.
    frequencies : int
        k, the number of cosines.
    units : int or None
        Outputs, of which x is the first and the others are the linear map's, at least 2. None: the k cosines.
    scale : float
        Standard deviation of the initial w; b starts uniform over a turn, M and c uniform within ± 1/√k.

    Notes
    -----
    Source: Holzmüller, Grinsztajn and Steinwart, Better by default, 2024 (numerical embeddings with biases, a linear
    layer and the number itself).

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Periodic(0, frequencies=16, units=4).parameters
    {'M': (3, 17), 'w': (16, 1), 'b': (16, 1)}
    """

    name = "periodic"
    frequencies: int
    units: int | None
    scale: float

    def __init__(self, row: int, frequencies: int = 16, units: int | None = 4, scale: float = 0.1) -> None:
        super().__init__(row)
        self._put("frequencies", validation.integer("frequencies", frequencies, 1))
        self._put("units", None if units is None else validation.integer("units", units, 2))
        self._put("scale", validation.number("scale", scale, 0))

    @property
    def features(self):
        """k, the number of features."""
        return self.frequencies

    @property
    def mapped(self):
        """Outputs of the linear map; 0 where there is none."""
        return 0 if self.units is None else self.units - 1

    @property
    def outputs(self):
        """Number of its outputs."""
        return self.units or self.frequencies

    @property
    def parameters(self):
        """M, and the frequencies w and phases b (k, 1)."""
        return super().parameters | {"w": (self.frequencies, 1), "b": (self.frequencies, 1)}

    def initial(self, rng):
        """w normal, b uniform over a turn."""
        shape = (self.frequencies, 1)
        own = {"w": rng.normal(0, self.scale, shape), "b": rng.uniform(-np.pi, np.pi, shape)}
        return super().initial(rng) | own

    def engine_config(self):
        """As that of its base."""
        return None, self.frequencies, self.mapped, self.units is not None

    def f_and_slope(self, parameters, x):
        """cos and -sin of the phases."""
        phase = 2 * np.pi * parameters["w"] * x + parameters["b"]
        return np.cos(phase), -np.sin(phase)

    def forward(self, parameters, x):
        """(outputs, m) of x (m,)."""
        A = super().forward(parameters, x)
        return A if self.units is None else np.concatenate([x[None], A])

    def derive(self, parameters, x, dA):
        """Gradients of each example, and dx."""
        f, slope = self.f_and_slope(parameters, x)
        gradients, df = self.derive_map(parameters, f, dA if self.units is None else dA[1:])
        dphase = slope * df
        dx = (2 * np.pi * parameters["w"] * dphase).sum(axis=0)
        gradients |= {"w": 2 * np.pi * x * dphase, "b": dphase}
        return gradients, dx if self.units is None else dx + dA[0]


class PiecewiseLinear(_Number):
    """A number's piecewise linear encoding by bins: f_j = (x - e_j) / (e_{j+1} - e_j), kept within 0 and 1.

    Parameters
    ----------
    row : int
        The row of X, from 0.
    edges : sequence of float
        e_0 < e_1 < … < e_k.
    units : int or None
        Outputs of a learnt linear map of f; None: f itself, k outputs.

    Notes
    -----
    Source: Gorishniy, Rubachev and Babenko, On embeddings for numerical features in tabular deep learning, 2022,
    section 3.2; here the first and the last bin are bounded too.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.PiecewiseLinear(0, [0.0, 1.0, 3.0]).forward(
    ...     {}, np.array([-1.0, 0.5, 2.0])
    ... ).tolist()
    [[0.0, 0.5, 1.0], [0.0, 0.0, 0.5]]
    """

    name = "piecewise_linear"
    edges: tuple[float, ...]
    units: int | None

    def __init__(self, row: int, edges: Sequence[float] = (), units: int | None = None) -> None:
        super().__init__(row)
        given, edges_ = edges, validation.vector("edges", edges)
        # as the engine has them in float32, where 1 / width must be a number too
        with np.errstate(over="ignore", invalid="ignore"):
            widths = np.diff(edges_.astype(np.float32).astype(np.float64))
        if len(edges_) < 2 or not ((widths >= np.finfo(np.float32).tiny) & (widths < np.inf)).all():
            raise ValueError(
                "edges must be at least two numbers, each above the one before it in float32 by 1.2e-38 or more;"
                f" got {given!r}"
            )
        self._put("edges", tuple(edges_.tolist()))
        self._put("units", None if units is None else validation.integer("units", units, 1))

    @property
    def features(self):
        """k, the number of features."""
        return len(self.edges) - 1

    def engine_config(self):
        """As that of its base: its bins are their lower edges, and 1 / their widths."""
        e = np.array(self.edges)
        return np.concatenate([e[:-1], 1 / np.diff(e)]), 0, self.mapped, False

    def f_and_slope(self, parameters, x):
        """f, and its derivative by x."""
        e = np.array(self.edges, x.dtype)[:, None]
        width = e[1:] - e[:-1]
        f = (x - e[:-1]) / width
        return np.clip(f, 0, 1), ((f > 0) & (f < 1)) / width

    def derive(self, parameters, x, dA):
        """Gradients of each example, and dx."""
        f, slope = self.f_and_slope(parameters, x)
        gradients, df = self.derive_map(parameters, f, dA)
        return gradients, (slope * df).sum(axis=0)


class _Category(Encoder):
    """Base of what a code, a whole number from 0, is encoded by; a code has no derivative."""

    @property
    def codes(self):
        """How many codes there are."""
        return self.size

    def _codes(self, x):
        bad = ~((x >= 0) & (x < self.codes) & (x == np.floor(x)))
        if bad.any():
            raise ValueError(
                f"row {self.row} of X must hold codes, whole numbers from 0 to {self.codes - 1}; got {x[bad][0]}"
            )
        return x.astype(np.intp)


class OneHot(_Category):
    """A category as 0 and 1: code c gives a 1 at place c, or picks a column of W: see `Encode`.

    Parameters
    ----------
    row : int
        The row of X, from 0, that holds codes.
    size : int
        Outputs: the number of categories.
    unknown : bool
        Code 0 is "missing or unknown" and gives zeros only; code c then gives a 1 at place c - 1.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> nk.OneHot(0, 2, unknown=True).forward({}, np.array([0.0, 1.0, 2.0])).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    name = "one_hot"
    size: int
    unknown: bool

    def __init__(self, row: int, size: int = 2, unknown: bool = False) -> None:
        super().__init__(row)
        self._put("size", validation.integer("size", size, 1, _MOST_CODES))
        self._put("unknown", validation.flag("unknown", unknown))

    @property
    def codes(self):
        """How many codes there are."""
        return self.size + self.unknown

    @property
    def outputs(self):
        """Number of its outputs."""
        return self.size

    def forward(self, parameters, x):
        """(size, m) of codes x (m,)."""
        return (np.arange(self.size)[:, None] == self._codes(x) - self.unknown).astype(x.dtype)

    def derive(self, parameters, x, dA):
        """Nothing is learnt, and a code has no derivative: dx is 0."""
        return {}, np.zeros_like(x)


class Embedding(_Category):
    """A category as a vector of its own, which is learnt: code c gives column c of E.

    Parameters
    ----------
    row : int
        The row of X, from 0, that holds codes.
    size : int
        Number of codes; where the first one stands for "missing or unknown", it has a vector too.
    units : int
        Length of a vector.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.Embedding(2, size=100, units=8).parameters
    {'E': (8, 100)}
    """

    name = "embedding"
    size: int
    units: int

    def __init__(self, row: int, size: int = 2, units: int = 8) -> None:
        super().__init__(row)
        self._put("size", validation.integer("size", size, 1, _MOST_CODES))
        self._put("units", validation.integer("units", units, 1))

    @property
    def outputs(self):
        """Number of its outputs."""
        return self.units

    @property
    def parameters(self):
        """E (units, size)."""
        return {"E": (self.units, self.size)}

    def initial(self, rng):
        """Normal with standard deviation 1."""
        return {"E": rng.normal(0, 1, (self.units, self.size))}

    def forward(self, parameters, x):
        """(units, m) of codes x (m,)."""
        return parameters["E"][:, self._codes(x)]

    def derive(self, parameters, x, dA):
        """Gradients of each example; a code has no derivative: dx is 0."""
        picked = np.arange(self.size)[:, None] == self._codes(x)
        return {"E": (picked[:, None] * dA[None]).reshape(-1, len(x)).astype(dA.dtype)}, np.zeros_like(x)


ENCODERS = {cls.name: cls for cls in (Numeric, Periodic, PiecewiseLinear, OneHot, Embedding)}


def from_dict(config):
    """The encoder of what `to_dict` returned."""
    config = dict(config)
    return ENCODERS[validation.choice("encoder", config.pop("encoder", None), ENCODERS)](**config)
