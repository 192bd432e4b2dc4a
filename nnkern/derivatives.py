"""Derivatives that training doesn't need: by the inputs, of each example by itself, and by differences.

They are put together from the functional kernels, one layer at a time; dropout is off, and the penalty has no part in
them. Nothing here is specific to a kind of layer, an activation or a loss.
"""

import numpy as np

from nnkern import _kernels, layers, losses, validation
from nnkern.model import Model
from nnkern.state import State, of

# most entries of a Jacobian's block of seeds
_BLOCK = 1 << 20


class Derivatives:
    """The methods of Network that derive."""

    def input_gradient(self, X, Y=None, *, output=None):
        """Derivatives by the inputs: of each example's loss, or of one of its outputs.

        Parameters
        ----------
        X : (n_x, m) array
        Y : (n_y, m) array, or labels, optional
            With it, the loss is derived; without it, an output.
        output : int, or (m,) array of int, optional
            Without Y: which unit of ŷ, for all examples or for each. A network with one output needs none.

        Returns
        -------
        dX : (n_x, m) array
            Column i is ∂L(ŷ(i), y(i)) / ∂x(i), or ∂ŷ_k(i) / ∂x(i) for k = output: each example's own, without a factor
            1/m, penalty and dropout.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are no parameters yet; X or Y doesn't fit; it isn't clear which output is meant.

        Examples
        --------
        >>> import numpy as np
        >>> import nnkern as nk
        >>> net = nk.Network([nk.Dense(2)], "squared_error", n_x=2, dtype="float64")
        >>> net.set_parameters(
        ...     {"W1": np.array([[1.0, 2.0], [3.0, 4.0]]), "b1": np.zeros((2, 1))}
        ... )
        >>> net.input_gradient(np.ones((2, 1)), output=1)
        array([[3.],
               [4.]])
        """
        state = of(self)
        with state.reading():
            X = validation.examples(X, self.n_x, self.dtype, finite=False)
            if Y is not None:
                if output is not None:
                    raise ValueError("Y and output were both given: the loss is derived, or an output of ŷ")
                Y, labels = validation.targets(Y, state.loss, self.n_y, X.shape[1], self.dtype, n_x=X.shape[0])
                A, Z = layer_outputs(state, X)
                return _input_gradient(state, A, Z, _of_loss(state, A, Z, Y, labels))
            if output is None:
                if self.n_y > 1:
                    raise ValueError(
                        f"the network has {self.n_y} outputs: say which is to be derived, output=k or one for each "
                        "example, pass Y for the loss's derivative, or use jacobian(X) for all outputs"
                    )
                output = 0
            units = validation.units("output", output, self.n_y, X.shape[1])
            A, Z = layer_outputs(state, X)
            dA = np.zeros_like(A[-1])
            dA[units, np.arange(X.shape[1])] = 1
            return _input_gradient(state, A, Z, _of_outputs(state, A, Z, dA))

    def jacobian(self, X):
        """Derivatives of all outputs by all inputs.

        Parameters
        ----------
        X : (n_x, m) array

        Returns
        -------
        J : (m, n_y, n_x) array
            J[i, k, j] = ∂ŷ_k(i) / ∂x_j(i): an example's Jacobian matrix is J[i]. ŷ is A[L], after the activation.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are no parameters yet; X doesn't fit.
        """
        state = of(self)
        with state.reading():
            X = validation.examples(X, self.n_x, self.dtype, finite=False)
            m, n_y = X.shape[1], self.n_y
            J = np.empty((m, n_y, X.shape[0]), self.dtype)
            width = max(1, _BLOCK // (n_y * max(layers.outputs(state.layers, state.n_x)[1:])))
            for first in range(0, m, width):
                # each example once for each output
                A, Z = layer_outputs(state, np.repeat(X[:, first : first + width], n_y, axis=1))
                dA = np.tile(np.eye(n_y, dtype=self.dtype), A[-1].shape[1] // n_y)
                dX = _input_gradient(state, A, Z, _of_outputs(state, A, Z, dA))
                J[first : first + width] = dX.T.reshape(-1, n_y, X.shape[0])
            return J

    def example_gradients(self, X, Y):
        """The gradients of each example's own loss; their mean over the examples is `backward`'s, without penalty.

        Parameters
        ----------
        X : (n_x, m) array
        Y : (n_y, m) array, or labels

        Returns
        -------
        grads : dict
            {"dW1": (m, n[1], n_x), "db1": (m, n[1], 1), …}; without the layers that are frozen. m times the memory of
            the parameters.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            There are no parameters yet; X or Y doesn't fit.
        """
        state = of(self)
        with state.reading():
            X = validation.examples(X, self.n_x, self.dtype, finite=False)
            Y, labels = validation.targets(Y, state.loss, self.n_y, X.shape[1], self.dtype, n_x=X.shape[0])
            A, Z = layer_outputs(state, X)
            gradients = {}
            steps = _backward(state, A, Z, _of_loss(state, A, Z, Y, labels))
            parameters = state.layer_parameters()
            for l, (dA, dZ) in zip(range(self.L, 0, -1), steps, strict=False):
                layer = state.layers[l - 1]
                if layer.trainable:
                    own = layer.example_gradients(parameters[l - 1], dZ, A[l - 1])
                    if layer.mix:
                        own |= layer.mix_gradients(dA, Z[l])
                    gradients |= {f"{name}{l}": g for name, g in own.items()}
            return {f"d{name}": g for name, g in state.trained(gradients).items()}


def layer_outputs(state, X):
    """A[0] … A[L] and Z[0] … Z[L]; Z[0] is None."""
    A, Z = [X], [None]
    for layer, parameters in zip(state.layers, state.layer_parameters(), strict=True):
        A_l, Z_l = layer.forward(parameters, A[-1])
        A.append(A_l)
        Z.append(Z_l)
    return A, Z


def _backward(state, A, Z, dZ):
    """(dA[l], dZ[l]) for l = L … 1, from dZ[L], where dA[L] is None; at last (dX, None)."""
    parameters = state.layer_parameters()
    dA = None
    for l in range(len(parameters), 0, -1):
        yield dA, dZ
        dA = state.layers[l - 1].input_gradient(parameters[l - 1], dZ, A[l - 1])
        if l > 1:
            dZ = state.layers[l - 2].through_activation(parameters[l - 2], dA, A[l - 1], Z[l - 1])
    yield dA, None


def _of_loss(state, A, Z, Y, labels):
    """dZ[L], column i the derivative of example i's own loss."""
    loss = state.loss
    if loss.name == losses.Custom.name:
        _, dA = loss.native(A[-1].copy("F"), np.array(Y, order="F"))
        dA = np.asarray(dA, state.dtype)
        if dA.shape != A[-1].shape:
            raise ValueError(f"the loss function gave a derivative of shape {dA.shape} for A of shape {A[-1].shape}")
    else:
        given = A[-1] if loss.output is None else Z[-1]
        _, _, dA = _kernels.loss(loss.name, given, Y if labels is None else labels, None, loss.parameter)
        if loss.output is not None:
            return dA  # dZ already
    return _of_outputs(state, A, Z, dA)


def _of_outputs(state, A, Z, dA):
    """dZ[L] from dA[L]."""
    return state.layers[-1].through_activation(state.layer_parameters()[-1], dA, A[-1], Z[-1])


def _input_gradient(state, A, Z, dZ):
    """dX (n_x, m) from dZ[L]."""
    *_, (dX, _) = _backward(state, A, Z, dZ)
    return dX


def check_gradients(net, X, Y, *, step=1e-5, max_entries=2000):
    """Largest relative error of the gradients against central differences (J(θ+ε) - J(θ-ε)) / 2ε.

    Works on a float64 copy; dropout is off. Errors are taken array by array, relative to the array's largest entry.

    Parameters
    ----------
    net : Network
        With parameters.
    X : (n_x, m) array
    Y : (n_y, m) array, or labels
    step : float
        ε.
    max_entries : int
        So many entries of a parameter are tried at most, spread evenly.

    Returns
    -------
    error : float
        Around 1e-9 for right gradients; kinks (relu, absolute error) within ε of an example's Z can raise it.

    Examples
    --------
    >>> import numpy as np
    >>> import nnkern as nk
    >>> layers = [nk.Dense(3, "tanh"), nk.Dense(1)]
    >>> net = nk.Network(layers, "squared_error", n_x=2, seed=0)
    >>> nk.check_gradients(net, np.ones((2, 4)), np.zeros((1, 4))) < 1e-7
    True
    """
    step = validation.number("step", step, 0, low_open=True)
    max_entries = validation.integer("max_entries", max_entries, 1)
    state = of(net)
    state.fitted()
    state.check_trainable()
    copied = State(Model(state.layers, state.loss, dtype="float64", l2=state.l2, l1=state.l1))
    copied.make_engine(state.n_x)
    copied.set_parameters(state.parameters())
    data = copied.data(X, Y, n_x=state.n_x)
    engine = copied.engine

    def J():
        return engine.evaluate(*data)[0] + engine.penalty()

    engine.forward(data[0], False)
    grads = copied.trained(engine.views(engine.backward(engine.retained, *data[1:])))
    worst = 0.0
    for name, exact in grads.items():
        theta = copied.parameters()[name]
        picked = np.unique(np.linspace(0, theta.size - 1, min(theta.size, max_entries)).astype(np.intp))
        nudged = np.empty(len(picked))
        for k, flat in enumerate(picked):
            at = np.unravel_index(flat, theta.shape)
            before = theta[at]
            theta[at] = before + step
            above = J()
            theta[at] = before - step
            below = J()
            theta[at] = before
            nudged[k] = (above - below) / (2 * step)
        exact = exact.reshape(-1)[picked]
        scale = max(np.abs(exact).max(), np.abs(nudged).max())
        if scale > 0:
            worst = max(worst, float(np.abs(exact - nudged).max() / scale))
    return worst
