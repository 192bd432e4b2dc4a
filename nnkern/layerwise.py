"""The methods of Network that go layer by layer: which layers learn, and what each puts out."""

from dataclasses import replace
from numbers import Integral

from nnkern import validation
from nnkern.derivatives import layer_outputs
from nnkern.layers import KINDS
from nnkern.state import of


class Layerwise:
    """What Network inherits them from."""

    def freeze(self, *layers):
        """Freezes layers: their parameters stay as they are in whatever training follows.

        The network is as it was otherwise, with the optimizer's state and all counts. Arrays that `parameters` gave
        before are no views of it any more.

        Parameters
        ----------
        *layers : int or str
            Numbers of layers, from 1 to L, or from -L to -1, counted from the output; or kinds: "dense", "scale",
            "encode". None: all.

        Returns
        -------
        Network
            Itself.

        Raises
        ------
        ValueError
            There is no such layer.
        RuntimeError
            The network is being trained or used.

        Examples
        --------
        Fine-tuning: the output learns alone, then all of it goes on with a smaller rate.

        >>> import numpy as np
        >>> import nnkern as nk
        >>> X, Y = np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 3.0, 5.0]])
        >>> layers = [nk.Dense(4, "tanh"), nk.Dense(1)]
        >>> net = nk.Network(layers, "squared_error", n_x=1, seed=0)
        >>> W1 = net.parameters["W1"].copy()
        >>> net.freeze(1).layers[0].trainable
        False
        >>> history = net.fit(X, Y, epochs=10)
        >>> bool((net.parameters["W1"] == W1).all())
        True
        >>> history = net.unfreeze().fit(X, Y, epochs=10, optimizer=nk.SGD(0.01))
        >>> bool((net.parameters["W1"] == W1).all())
        False
        """
        return _set_trainable(self, layers, False)

    def unfreeze(self, *layers):
        """Makes layers learn again; see `freeze`.

        Parameters
        ----------
        *layers : int or str
            As `freeze` has them.

        Returns
        -------
        Network
            Itself.

        Raises
        ------
        ValueError, RuntimeError
            As `freeze`.
        """
        return _set_trainable(self, layers, True)

    def activations(self, X):
        """What each layer puts out for the examples in X; dropout is off.

        Parameters
        ----------
        X : (n_x, m) array

        Returns
        -------
        activations : list of (n[l], m) arrays
            A[1], …, A[L]: the hidden ones are all but the last, which is what `predict` gives, up to rounding.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are no parameters yet; X doesn't fit. NaN is let through.

        Examples
        --------
        >>> import numpy as np
        >>> import nnkern as nk
        >>> layers = [nk.Dense(4, "tanh"), nk.Dense(2)]
        >>> net = nk.Network(layers, "squared_error", n_x=3, seed=0)
        >>> hidden, output = net.activations(np.ones((3, 5)))
        >>> hidden.shape, output.shape
        ((4, 5), (2, 5))
        """
        state = of(self)
        state.fitted()
        with state.reading():
            A, _ = layer_outputs(state, validation.examples(X, state.n_x, state.dtype, finite=False))
            return A[1:]


def _set_trainable(net, which, trainable):
    state = of(net)
    chosen = _numbers(which, state.layers)
    state.replace_layers(
        replace(layer, trainable=trainable) if l in chosen else layer for l, layer in enumerate(state.layers)
    )
    return net


def _numbers(which, layers):
    """The layers' places in the list."""
    L, found = len(layers), set()
    for one in which:
        if isinstance(one, str):
            if one not in KINDS:
                raise ValueError(
                    f"layers are given by their numbers, from 1 to {L}, or by a kind: {', '.join(KINDS)}; got {one!r}"
                )
            kind = one
            places = [l for l, layer in enumerate(layers) if layer.kind == kind]
            if not places:
                raise ValueError(f"there is no layer of kind {kind!r}: they are {', '.join(x.kind for x in layers)}")
            found.update(places)
            continue
        is_number = isinstance(one, Integral) and not isinstance(one, bool)
        if not is_number or not 1 <= abs(one) <= L:
            several = ": give each by itself, as in freeze(1, 2)" if isinstance(one, list | tuple | range) else ""
            raise ValueError(f"layers are numbered from 1 to {L}, or from -{L} to -1; got {one!r}{several}")
        found.add(one - 1 if one > 0 else L + one)
    return found if which else set(range(L))
