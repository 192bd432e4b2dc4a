"""A network in whole numbers: int8 weights and activations, sums in 32 bits, for chips that compute nothing else.

A layer's inputs are a = s q + o of int8 numbers q. A unit's sum b + Σ W q of int8 W stands for z = r (b + Σ W q), where
r is the unit's own; the offsets o, and that of the outputs, are part of b. A multiplier of 31 bits and a shift bring it
to steps of the outputs (Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference"). Ranges are those of examples, the calibration. After each layer its biases take
what its units are off by on average (Nagel et al. 2019, "Data-free quantization through weight equalization and bias
correction"). Activations other than relu are tables of 257 entries with linear interpolation.

Knows nothing of C: what is here is what the file computes, to the bit.
"""

from dataclasses import dataclass

import numpy as np

from nnkern import kernels

TOP = 127
"""The largest int8 that is used; the smallest is -127."""
LARGEST = 32767
"""The same of the int16 numbers that come in and go out."""
INTERVALS, BETWEEN = 256, 256
"""Of a table, and the steps of one interval."""
ONE_BITS = 14
"""Of probabilities: 1 is 2^14."""
LOGIT_BITS = 12
"""The most of the numbers before softmax, whose table has intervals of 1/16."""
FAR = 16
"""From here on exp(-d) is 0."""

# The table of these reaches no further: beyond they are what they tend to, but for 2^-15
_SATURATED = {"sigmoid": 11.0, "tanh": 6.0}
# so that 2^bits and 2^-bits are numbers of float64
_MOST_BITS = 1000
_LARGEST_MULTIPLIER, _LARGEST_OF_FEATURES = 2**31 - 1, 2**14 - 1


def shifted(product, shift):
    """product / 2^shift, rounded to the nearest, halves away from 0."""
    half = np.int64(1) << (np.asarray(shift, np.int64) - 1)
    return np.sign(product) * ((np.abs(product) + half) >> shift)


def looked_up(table, p):
    """256 times the value between entries of a table, at p of 256 steps an interval."""
    i, f = p // BETWEEN, p % BETWEEN
    return table[i].astype(np.int64) * (BETWEEN - f) + table[i + 1].astype(np.int64) * f


@dataclass(eq=False)
class Features:
    """How the features, int16 numbers x in units of 2^-bits, become int8: (x - center) multiplier / 2^shift."""

    bits: int
    center: np.ndarray
    multiplier: np.ndarray
    shift: np.ndarray

    @classmethod
    def of(cls, X):
        """For features like those of X (n_x, m)."""
        largest = np.abs(X).max()
        whole = largest <= LARGEST and (np.rint(X) == X).all()
        bits = 0 if whole else _bits(largest) - 1
        F = np.ldexp(X, bits)
        center = np.rint((F.min(axis=1) + F.max(axis=1)) / 2)
        reach = np.abs(F - center[:, None]).max(axis=1)
        factor = TOP / np.maximum(reach, 1)
        shift = np.floor(np.log2(_LARGEST_OF_FEATURES / factor)).astype(int)
        multiplier = np.where(reach > 0, np.rint(np.ldexp(factor, shift)), 0)
        return cls(bits, center.astype(np.int64), multiplier.astype(np.int64), shift)

    @property
    def scale_and_offset(self):
        """s and o (n_x,) of what the int8 numbers stand for."""
        step = np.zeros(len(self.shift))
        used = self.multiplier > 0
        step[used] = np.ldexp(1 / self.multiplier[used], self.shift[used] - self.bits)
        return step, np.ldexp(self.center.astype(float), -self.bits)

    def fixed(self, X):
        """Real features as the int16 numbers."""
        return np.clip(np.rint(np.ldexp(X, self.bits)), -LARGEST - 1, LARGEST).astype(np.int64)

    def __call__(self, x):
        """int8 numbers (n_x, m) of int16 numbers."""
        product = (x - self.center[:, None]) * self.multiplier[:, None]
        return np.clip(shifted(product, self.shift[:, None]), -TOP, TOP)


@dataclass(eq=False)
class Units:
    """A layer: its sums by multiplier / 2^shift, from low to high; where it has a table, what is there at that place.

    `drop`: bits that are left away of what is looked up; `unit` (n,) and `offset`: z = offset + unit · sum.
    """

    W: np.ndarray
    b: np.ndarray
    multiplier: np.ndarray
    shift: int
    low: int
    high: int
    table: np.ndarray | None = None
    drop: int = 0
    unit: np.ndarray | None = None
    offset: float = 0.0

    def sums(self, q):
        """b + W q (n, m); products in float64 are exact here."""
        return (self.W.astype(float) @ q.astype(float)).astype(np.int64) + self.b[:, None]

    def corrected(self, q, Z):
        """Has its biases take what its units are off by, on average, on the calibration."""
        missing = (Z - self.offset).mean(axis=1) / self.unit - self.sums(q).mean(axis=1)
        room = 2**31 - 1 - TOP * np.abs(self.W).sum(axis=1)  # the sum must fit, whatever q is
        self.b = np.clip(self.b + np.rint(missing), -room, room).astype(np.int64)
        return self

    def __call__(self, q):
        """Outputs (n, m)."""
        p = np.clip(shifted(self.sums(q) * self.multiplier[:, None], self.shift), self.low, self.high)
        return p if self.table is None else (looked_up(self.table, p) + (1 << self.drop >> 1)) >> self.drop


@dataclass(eq=False)
class WholeNetwork:
    """What the file computes, and how far it is off on the calibration.

    Attributes
    ----------
    features : Features
    layers : list of Units
    bits : int
        y / 2^bits are the outputs.
    logit_bits : int or None
        With softmax: what it takes is z / 2^logit_bits.
    largest_error, mean_error : float
        Of the outputs, against the network's; the second one the root of the mean square.
    agreement : float or None
        Share of the examples that are given the same class; None where there are none.
    """

    features: Features
    layers: list
    bits: int = 0
    logit_bits: int | None = None
    threshold: int | None = None
    largest_error: float = 0.0
    mean_error: float = 0.0
    agreement: float | None = None

    def numbers(self, x):
        """Outputs of the last layer, (n_y, m), for int16 features (n_x, m); before softmax where there is one."""
        q = self.features(x)
        for layer in self.layers:
            q = layer(q)
        return q

    def predict(self, x):
        """Outputs in units of 2^-bits."""
        z = self.numbers(x)
        return z if self.logit_bits is None else softmax(z, self.logit_bits)

    def classes(self, x):
        """The class of each example, or None where outputs aren't those of classes."""
        if self.logit_bits is not None:
            return self.numbers(x).argmax(axis=0)
        return None if self.threshold is None else (self.predict(x)[0] > self.threshold).astype(np.int64)

    @property
    def constant_bytes(self):
        """Of the constants."""
        total = 5 * len(self.features.shift)
        for layer in self.layers:
            total += layer.W.size + 8 * len(layer.b) + (0 if layer.table is None else 2 * len(layer.table))
        return total + (0 if self.logit_bits is None else 2 * (INTERVALS + 1))


def exponentials():
    """exp(-d) at d = 0, 1/16, … 16, where 1 is 32767."""
    return np.rint(LARGEST * np.exp(-np.arange(INTERVALS + 1) * (FAR / INTERVALS))).astype(np.int64)


def softmax(z, bits):
    """exp(z_i) / Σ exp(z_j), where 1 is 2^14, of columns of z / 2^bits."""
    d = z.max(axis=0) - z
    near = d < FAR << bits
    places = np.where(near, d, 0) << (LOGIT_BITS - bits)
    e = np.where(near, (looked_up(exponentials(), places) + BETWEEN // 2) // BETWEEN, 0)
    total = e.sum(axis=0)
    return ((e << ONE_BITS) + total // 2) // total


def quantised(model, X, export):
    """The WholeNetwork of a Model, with ranges from X (n_x, m), raw features in float64.

    Raises a ValueError for what it can't have.
    """
    maps = _dense_maps(model, export)
    net = WholeNetwork(Features.of(X), [])
    A, q = X, net.features(net.features.fixed(X))
    s, o = net.features.scale_and_offset
    for l, layer, W, b in maps:
        slope = layer.negative_slope
        A, Z = kernels.dense_forward(W, A, b[:, None], layer.activation, return_Z=True, negative_slope=slope)
        for numbers in (Z, A):
            if not np.isfinite(numbers).all():
                first = numbers[~np.isfinite(numbers)][0]
                raise ValueError(f"layer {l} comes to {first} for an example of calibration")
        make, inner = _output if l == maps[-1][0] else _hidden, (W * o).sum(axis=1) + b
        units, (s, o) = make(net, layer, _Sums(l, W * s, inner, Z))
        net.layers.append(units)
        q = units.corrected(q, Z)(q)
    return _compared(net, X, A)


def _compared(net, X, expected):
    """Notes how far it is off."""
    x = net.features.fixed(X)
    error = np.ldexp(net.predict(x).astype(float), -net.bits) - expected
    net.largest_error = largest = float(np.abs(error).max())
    net.mean_error = largest * float(np.sqrt(((error / (largest or 1)) ** 2).mean()))  # whose squares don't overflow
    found = net.classes(x)
    if found is not None:
        theirs = expected[0] > 0.5 if net.logit_bits is None else expected.argmax(axis=0)
        net.agreement = float((found == theirs).mean())
    return net


# ---- a layer ----


@dataclass(eq=False)
class _Sums:
    """What a layer's units sum up: z = V q + inner of int8 numbers q; and Z of the calibration."""

    l: int
    V: np.ndarray
    inner: np.ndarray
    Z: np.ndarray

    def step(self, low, high, count):
        """The size of one of so many steps from low to high: none so small that the sums have nothing in it."""
        finest = np.abs(self.V).max() / TOP * 2.0**-16
        return max((high - low) / count, finest, max(abs(low), abs(high)) * 2.0**-20) or 1.0

    def units(self, step, offset, low, high, **looked_up):
        """The Units whose outputs, or places in a table, are (z - offset) / step."""
        bias = self.inner - offset
        # what a bias of 30 bits can hold, where the weights are small beside it
        unit = np.maximum(np.abs(self.V).max(axis=1) / TOP, np.abs(bias) * 2.0**-30)
        unit[unit == 0] = 1
        W, b = np.rint(self.V / unit[:, None]).astype(np.int64), np.rint(bias / unit).astype(np.int64)
        if TOP * np.abs(W).sum(axis=1).max() > 2**30:
            raise ValueError(f"the sums of layer {self.l}, of {W.shape[1]} inputs, don't fit 32 bits: it is too wide")
        factor = unit / step
        shift = int(np.clip(np.floor(np.log2(_LARGEST_MULTIPLIER / factor.max())), 1, 62))
        # where the shift would have to be below 1, all comes to low or high
        multiplier = np.minimum(np.rint(np.ldexp(factor, shift)), _LARGEST_MULTIPLIER).astype(np.int64)
        return Units(W, b, multiplier, shift, low, high, **looked_up, unit=unit, offset=offset)


def _dense_maps(model, export):
    """(l, layer, W, b) of the dense layers in float64, which take in the scales and the standardisation around them."""
    maps, factor = [], np.ones(model.n_x) if export.scale is None else 1 / export.scale
    shift = np.zeros(model.n_x) if export.mean is None else export.mean
    for l, layer, parameters in model.numbered_layers():
        if layer.kind == "scale":
            factor = factor * parameters["s"].reshape(-1).astype(float)
            continue
        hidden = l < len(model.layers)
        if layer.kind != "dense" or layer.mix or (hidden and layer.activation == "softmax"):
            what = "a softmax between layers" if layer.kind == "dense" and not layer.mix else "such a layer"
            raise ValueError(
                f'layer {l}, {layer.label}: {what} can\'t be written with weights="int8": leave weights out'
            )
        W = parameters["W"].astype(float) * factor
        b = parameters["b"].reshape(-1).astype(float) if layer.use_bias else np.zeros(len(W))
        maps.append((l, layer, W, b - (W * shift).sum(axis=1)))
        factor, shift = np.ones(len(W)), np.zeros(len(W))
    l, layer, W, b = maps[-1] if maps else (0, None, None, None)
    if l < len(model.layers):
        raise ValueError(
            f'layer {len(model.layers)} is a Scale, and with weights="int8" a dense layer must be the last'
        )
    if export.target_scale is not None or export.target_mean is not None:
        if layer.activation != "linear":
            raise ValueError(f'with weights="int8" a standardised target needs a linear output; got {layer.activation}')
        by = np.ones(len(W)) if export.target_scale is None else export.target_scale
        maps[-1] = l, layer, W * by[:, None], b * by + (0 if export.target_mean is None else export.target_mean)
    return maps


def _table(layer, sums):
    """(step of a place, where places begin, the activation at the 257 entries of a table)."""
    far = _SATURATED.get(layer.activation, np.inf)
    low, high = np.clip((sums.Z.min(), sums.Z.max()), -far, far)
    step = sums.step(low, high, INTERVALS * BETWEEN)
    z = low + step * BETWEEN * np.arange(INTERVALS + 1)
    g = kernels.activation_forward(z.reshape(1, -1), layer.activation, negative_slope=layer.negative_slope)
    return step, low, g.reshape(-1)


def _hidden(net, layer, sums):
    """The Units of a hidden layer, and (s, o) of its outputs."""
    direct = layer.activation in ("relu", "linear")
    if direct:
        low, high = sums.Z.min(), sums.Z.max()
        if layer.activation == "relu":
            low, high = 0.0, max(high, 0.0)
        s = sums.step(low, high, 2 * TOP)
        o = low + TOP * s
        return sums.units(s, o, -TOP, TOP), (s, o)
    step, begin, g = _table(layer, sums)
    s = max((g.max() - g.min()) / (2 * TOP), np.abs(g).max() * 2.0**-20) or 1.0
    o = g.min() + TOP * s
    table = np.rint((g - o) / s * 256).astype(np.int64)
    return sums.units(step, begin, 0, INTERVALS * BETWEEN - 1, table=table, drop=16), (s, o)


def _output(net, layer, sums):
    """The Units of the last layer, whose outputs are int16; notes the bits of these."""
    activation, largest = layer.activation, np.abs(sums.Z).max()
    if activation in ("linear", "relu", "softmax"):
        bits = _bits(largest) - 1  # room for what the calibration hasn't seen
        if activation == "softmax":
            bits = net.logit_bits = min(max(bits, 0), LOGIT_BITS)
            net.bits = ONE_BITS
        else:
            net.bits = bits
        return sums.units(2.0**-bits, 0.0, 0 if activation == "relu" else -LARGEST, LARGEST), (None, None)
    step, begin, g = _table(layer, sums)
    net.bits = ONE_BITS if activation in ("sigmoid", "tanh") else _bits(np.abs(g).max())
    if activation == "sigmoid" and len(sums.Z) == 1:
        net.threshold = 1 << (ONE_BITS - 1)
    table = np.rint(np.ldexp(g, net.bits)).astype(np.int64)
    return sums.units(step, begin, 0, INTERVALS * BETWEEN - 1, table=table, drop=8), (None, None)


def _bits(largest):
    """The most for which largest · 2^bits is an int16."""
    if largest == 0:
        return ONE_BITS
    return int(np.clip(np.floor(np.log2(LARGEST) - np.log2(largest)), -_MOST_BITS, _MOST_BITS))
