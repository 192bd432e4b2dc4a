"""Derivatives that training doesn't need: by the inputs, and of each example by itself.

They are put together from the functional kernels, one layer at a time; dropout is off, and the penalty has no part in
them. Nothing here is specific to an activation or a loss.
"""

import numpy as np

from nnkern import _kernels, kernels, losses

# most entries of a Jacobian's block of seeds
_BLOCK = 1 << 20


def forward(net, X):
    """A[0] … A[L] and Z[0] … Z[L]; Z[0] is None."""
    A, Z = [X], [None]
    for l, layer in enumerate(net.layers, start=1):
        A_l, Z_l = kernels.dense_forward(
            net.parameters[f"W{l}"],
            A[-1],
            net.parameters.get(f"b{l}"),
            layer.activation,
            return_Z=True,
            negative_slope=layer.negative_slope,
        )
        A.append(A_l)
        Z.append(Z_l)
    return A, Z


def backward(net, A, Z, dZ):
    """dZ[L], dZ[L-1], … dZ[1] and at last dX, from dZ[L]."""
    for l in range(net.L, 0, -1):
        yield dZ
        dZ = kernels.dense_forward(net.parameters[f"W{l}"].T, dZ, None, "linear")
        if l > 1:
            dZ = through_activation(net, l - 1, dZ, A[l - 1], Z[l - 1])
    yield dZ


def through_activation(net, l, dA, A, Z):
    """dZ[l] from dA[l]."""
    layer = net.layers[l - 1]
    return kernels.activation_backward(dA, A, layer.activation, Z=Z, negative_slope=layer.negative_slope)


def of_loss(net, A, Z, Y, labels):
    """dZ[L], column i the derivative of example i's own loss."""
    loss = net._loss
    if loss.name == losses.Custom.name:
        _, dA = loss.native(A[-1].copy("F"), np.array(Y, order="F"))
        dA = np.asarray(dA, net.dtype)
        if dA.shape != A[-1].shape:
            raise ValueError(f"the loss function gave a derivative of shape {dA.shape} for A of shape {A[-1].shape}")
        return through_activation(net, net.L, dA, A[-1], Z[-1])
    fused = loss.output is not None
    _, _, dA = _kernels.loss(
        loss.name, Z[-1] if fused else A[-1], Y if labels is None else labels, None, loss.parameter
    )
    return dA if fused else through_activation(net, net.L, dA, A[-1], Z[-1])


def input_gradient(net, X, Y, labels):
    """dX (n_x, m) of each example's own loss."""
    A, Z = forward(net, X)
    *_, dX = backward(net, A, Z, of_loss(net, A, Z, Y, labels))
    return dX


def output_gradient(net, X, units):
    """dX (n_x, m): column i is the derivative of unit units[i] of ŷ by x(i)."""
    A, Z = forward(net, X)
    dA = np.zeros_like(A[-1])
    dA[units, np.arange(X.shape[1])] = 1
    *_, dX = backward(net, A, Z, through_activation(net, net.L, dA, A[-1], Z[-1]))
    return dX


def jacobian(net, X):
    """(m, n_y, n_x)."""
    m, n_y = X.shape[1], net.n_y
    J = np.empty((m, n_y, X.shape[0]), net.dtype)
    width = max(1, _BLOCK // (n_y * max(layer.units for layer in net.layers)))
    for first in range(0, m, width):
        # each example once for each output
        A, Z = forward(net, np.repeat(X[:, first : first + width], n_y, axis=1))
        dA = np.tile(np.eye(n_y, dtype=net.dtype), A[-1].shape[1] // n_y)
        *_, dX = backward(net, A, Z, through_activation(net, net.L, dA, A[-1], Z[-1]))
        J[first : first + width] = dX.T.reshape(-1, n_y, X.shape[0])
    return J


def example_gradients(net, X, Y, labels):
    """{"dW1": (m, n[1], n_x), "db1": (m, n[1], 1), …} of each example's own loss, for the layers that learn."""
    A, Z = forward(net, X)
    gradients = {}
    steps = backward(net, A, Z, of_loss(net, A, Z, Y, labels))
    for l, dZ in zip(range(net.L, 0, -1), steps, strict=False):
        layer = net.layers[l - 1]
        if layer.trainable:
            dZ = dZ.T[:, :, None]
            gradients[f"dW{l}"] = dZ * A[l - 1].T[:, None, :]
            if layer.use_bias:
                gradients[f"db{l}"] = np.ascontiguousarray(dZ)
    return {f"d{name}": gradients[f"d{name}"] for name in net._trained(net.parameters)}
