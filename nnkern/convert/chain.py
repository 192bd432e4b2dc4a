"""The chain of maps that a network of another library is read as, and the Model that it becomes.

Knows layers and arrays, none of the formats.
"""

from dataclasses import dataclass

import numpy as np

from nnkern import losses
from nnkern.exceptions import ModelFormatError
from nnkern.layers import Dense, Encode, Scale
from nnkern.model import Model


@dataclass
class _Dense:
    """A dense layer while what follows it may still change it."""

    where: str
    W: np.ndarray
    b: np.ndarray | None
    activation: str | None = None
    slope: float = Dense.negative_slope
    dropout: float = 0.0
    mix: np.ndarray | None = None

    @property
    def n(self):
        return len(self.W)

    @property
    def n_prev(self):
        return self.W.shape[1]

    @property
    def dtype(self):
        return self.W.dtype

    def finish(self):
        """(layer, {"W": array, "b": array, "a": array})"""
        try:
            layer = Dense(
                self.n,
                self.activation or "linear",
                dropout=self.dropout,
                use_bias=self.b is not None,
                negative_slope=float(self.slope),
                mix=self.mix is not None,
            )
        except ValueError as error:
            raise ModelFormatError(f"{self.where}: {error}") from error
        columns = {
            name: column.reshape(-1, 1) for name, column in (("b", self.b), ("a", self.mix)) if column is not None
        }
        return layer, {"W": self.W} | columns


class _Encode:
    """An Encode layer, before which and between which and whose activation there is nothing."""

    activation, dropout = "linear", 0.0

    def __init__(self, found, n_x):
        self.layer = Encode([encoder for encoder, _ in found])
        self.n = self.layer.outputs(None)
        self.n_prev = n_x or 1 + max(encoder.row for encoder, _ in found)
        arrays = [own for _, own in found]
        self.dtype = next((array.dtype for own in arrays for array in own.values()), None)
        self.parameters = {
            name: np.concatenate([own[name].reshape(-1, order="F") for own in arrays if name in own])[:, None]
            for name in self.layer.parameter_shapes(None)
        }

    def finish(self):
        """(layer, {"w": array, …})"""
        return self.layer, self.parameters


class Chain:
    """Dense layers as other libraries write them, one map after another: dense, entry by entry, activation.

    What is entry by entry (standardisation, batch normalisation) is folded into the weights before or after it; a
    factor per feature that neither follows a dense layer nor precedes one becomes a Scale. `where` names the map in
    the errors.
    """

    def __init__(self):
        self._layers = []
        self._scale = self._shift = None  # what the next layer's input still has to be multiplied by, and added to

    @property
    def _pending(self):
        """Whether there are factors or terms that no layer has taken up yet."""
        return self._scale is not None or self._shift is not None

    def dense(self, W, b, where):
        """A = W A_prev + b; W (n, n_prev), b (n,) or None."""
        if W.ndim != 2 or 0 in W.shape or (b is not None and b.shape != W.shape[:1]):
            raise ModelFormatError(f"{where}: W has shape {W.shape}, b {None if b is None else b.shape}")
        dtypes = {array.dtype for array in (W, b) if array is not None}
        dtypes |= {layer.dtype for layer in self._layers[:1] if layer.dtype is not None}
        if len(dtypes) > 1 or next(iter(dtypes)) not in (np.float32, np.float64):
            names = " and ".join(sorted(map(str, dtypes)))
            raise ModelFormatError(f"{where}: the parameters are {names}; all must be float32, or all float64")
        if self._layers and self._layers[-1].n != W.shape[1]:
            raise ModelFormatError(f"{where}: it takes {W.shape[1]} numbers, but gets {self._layers[-1].n}")
        dtype = W.dtype
        if self._shift is not None:
            b = (0 if b is None else b.astype(np.float64)) + W @ _broadcast(self._shift, W.shape[1], where)
        if self._scale is not None:
            W = W * _broadcast(self._scale, W.shape[1], where)
        self._scale = self._shift = None
        self._layers.append(
            _Dense(where, W.astype(dtype, copy=False), None if b is None else b.astype(dtype, copy=False))
        )

    def affine(self, scale, shift, where):
        """A = scale A_prev + shift entry by entry; each (n,), or one number, or None."""
        scale = None if scale is None else np.asarray(scale, np.float64)
        shift = None if shift is None else np.asarray(shift, np.float64)
        if not self._layers or self._layers[-1].activation is not None:
            # scale (before_scale x + before_shift) + shift
            if scale is not None:
                self._scale = scale if self._scale is None else self._scale * scale
                self._shift = None if self._shift is None else self._shift * scale
            if shift is not None:
                self._shift = shift if self._shift is None else self._shift + shift
            self._after = where
            return
        last = self._layers[-1]
        dtype = last.W.dtype
        if scale is not None:
            last.W = (last.W * _broadcast(scale, last.n, where)[:, None]).astype(dtype)
            last.b = None if last.b is None else (last.b * scale).astype(dtype)
        if shift is not None:
            last.b = ((0 if last.b is None else last.b) + _broadcast(shift, last.n, where)).astype(dtype)

    def activate(self, name, slope, where):
        """A = g(A_prev)."""
        if name == "linear":
            return
        if self._pending or not self._layers or self._layers[-1].activation is not None:
            raise ModelFormatError(f"{where}: the activation {name} doesn't follow a dense layer")
        last = self._layers[-1]
        if last.dropout and name not in ("relu", "leaky_relu"):
            # g(0) = 0 and g(cz) = c g(z) for c > 0: dropping before or after them is the same
            raise ModelFormatError(
                f"{where}: dropout before {name}; nnkern drops what a layer gives, after its activation"
            )
        last.activation = name
        if slope is not None:
            last.slope = slope

    def encode(self, makers, n_x, where):
        """Encoders of n_x features (None: as many as they name), as first layer.

        `makers`: functions that give (encoder, its parameters).
        """
        if self._layers or self._pending:
            raise ModelFormatError(f"{where}: encoders are the first layer of a network")
        try:
            self._layers.append(_Encode([make() for make in makers], n_x))
        except ValueError as error:
            raise ModelFormatError(f"{where}: {error}") from error

    def mix(self, a, where):
        """A = a A_prev + (1 - a) Z, where A_prev = g(Z) is the last activation's."""
        last = self._layers[-1] if self._layers else None
        if not isinstance(last, _Dense) or last.activation is None or last.mix is not None or self._pending:
            raise ModelFormatError(f"{where}: a mix that doesn't follow an activation")
        if a.dtype != last.dtype:
            raise ModelFormatError(f"{where}: the parameters are {a.dtype} and {last.dtype}")
        last.mix = np.ascontiguousarray(_broadcast(a, last.n, where))

    def drop(self, p, where):
        """Dropout in training."""
        if p and (not self._layers or isinstance(self._layers[-1], _Encode) or self._layers[-1].dropout):
            raise ModelFormatError(f"{where}: dropout that doesn't follow a dense layer")
        if p:
            self._layers[-1].dropout = p

    def model(self, loss=None):
        """The Model; its loss is the one that its output's activation belongs to, where none is named."""
        if not self._layers or isinstance(self._layers[-1], _Encode):
            raise ModelFormatError("there is no dense layer in it")
        first, last = self._layers[0], self._layers[-1]
        output = None if self._pending else last.activation
        if loss is None:
            matched = (each.name for each in losses.LOSSES.values() if each.output == output)
            loss = "squared_error" if output is None else next(matched, "squared_error")
        loss = losses.get(loss)
        if last.activation is None:
            last.activation = output = loss.output
        if loss.output not in (None, output):
            raise ModelFormatError(
                f"the loss {loss.name} needs {loss.output} units at the output; this one's are {output or 'linear'}"
            )
        finished = [layer.finish() for layer in self._layers]
        if self._pending:
            finished.append(self._last_scale(last))
        return Model(
            layers=tuple(layer for layer, _ in finished),
            loss=loss,
            n_x=first.n_prev,
            parameters={
                f"{name}{l}": array
                for l, (_, parameters) in enumerate(finished, start=1)
                for name, array in parameters.items()
            },
            dtype=last.dtype,
        )

    def _last_scale(self, last):
        """(layer, {"s": array}) of the factors after the last dense layer, which none follows that could take them."""
        if self._shift is not None or self._scale.size != last.n:
            raise ModelFormatError(f"{self._after}: it has no dense layer after it or straight before it")
        return Scale(), {"s": self._scale.reshape(-1, 1).astype(last.W.dtype)}


def _broadcast(vector, n, where):
    if vector.size not in (1, n):
        raise ModelFormatError(f"{where}: {vector.size} factors or terms for {n} numbers")
    return np.broadcast_to(vector.reshape(-1), (n,))


def normalisation(scale, shift, mean, variance, eps):
    """(scale, shift) of the entry-by-entry map that batch normalisation is when it predicts."""
    factor = 1 / np.sqrt(variance.astype(np.float64) + eps)
    if scale is not None:
        factor = factor * scale
    return factor, (0 if shift is None else shift) - mean * factor
