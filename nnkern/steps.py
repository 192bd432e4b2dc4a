"""Steps one at a time: what a training loop of one's own is made of."""

from collections import namedtuple

from nnkern import _engine, validation
from nnkern.state import of, take_optimizer

Gradients = namedtuple("Gradients", "cost grads")
Gradients.__doc__ = 'cost: J, penalty included; grads: its derivatives by the parameters, {"dW1": array, …}.'


class Steps:
    """The methods of Network that compute gradients, and take a step with them."""

    def gradients(self, X, Y, sample_weight=None, training=True, *, rows=False):
        """Cost and gradients of a batch in one pass: with `step`, a training loop of one's own.

        Parameters
        ----------
        X : (n_x, m) array
        Y : (n_y, m) array, or labels
        sample_weight : (m,) array, optional
        training : bool
            Whether dropout is active.
        rows : bool
            Whether examples are the rows of X and Y, as in `fit`.

        Returns
        -------
        Gradients
            Named tuple (cost, grads): J of the batch, penalty included, and its gradients as `backward` names them,
            {"dW1": (n[1], n_x), "db1": (n[1], 1), …}, without the layers that are frozen. The arrays are the caller's.

        Raises
        ------
        NotFittedError
            There are no parameters yet.
        RuntimeError
            Another thread is training the network.
        ValueError, TypeError
            X, Y or sample_weight doesn't fit. NaN in X is let through.

        Notes
        -----
        It is fastest with an X of the network's dtype, labels of int64 and a Y of the dtype, of few examples.

        Examples
        --------
        >>> import numpy as np
        >>> import nnkern as nk
        >>> X, Y = np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 3.0, 5.0]])
        >>> net = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
        >>> optimizer = nk.SGD(0.1)
        >>> for _ in range(200):
        ...     cost, grads = net.gradients(X, Y)
        ...     net.step(grads, optimizer)
        >>> bool(cost < 1e-3)
        True
        """
        state = of(self)
        engine = state.fitted()
        stepper = state.stepper
        if rows is not False and validation.flag("rows", rows):
            X, Y = state.columns(X, Y)
            with validation.told_of_columns():
                return Steps.gradients(self, X, Y, sample_weight, training)
        if sample_weight is None and (training is True or training is False):
            found = stepper.fast(X, Y, training)
            if found is not None:
                return Gradients(*found)
        state.check_trainable()
        training = validation.flag("training", training)
        X = validation.examples(X, engine.n_x, state.dtype, finite=False)
        Y, labels = validation.targets(Y, state.loss, state.n_y, X.shape[1], state.dtype, n_x=X.shape[0])
        w = validation.weights(sample_weight, X.shape[1], state.dtype)
        return Gradients(*stepper.gradients(X, Y, labels, w, training))

    def forward(self, X, training=False):
        """A[L], keeping what `backward` needs: X itself where no copy was made of it, so leave it as it is until then.

        Parameters
        ----------
        X : (n_x, m) array
        training : bool
            Whether dropout is active.

        Returns
        -------
        A : (n_y, m) array
        """
        state = of(self)
        engine = state.fitted()
        if not state.stepper.accepts(X):
            X = validation.examples(X, engine.n_x, state.dtype, finite=False)
        return engine.forward(X, validation.flag("training", training))

    def backward(self, Y, *, sample_weight=None):
        """Gradients of the cost J, penalty included, for the examples of the last `forward`.

        Parameters
        ----------
        Y : (n_y, m) array, or labels
        sample_weight : (m,) array, optional

        Returns
        -------
        grads : dict
            {"dW1": (n[1], n_x), "db1": (n[1], 1), …}; without the layers that are frozen.

        Raises
        ------
        RuntimeError
            There was no `forward` before, another thread is training the network, or another `backward` is going on.
        ValueError, TypeError
            Y or sample_weight doesn't fit.
        """
        state = of(self)
        engine = state.fitted()
        state.check_trainable()
        last = engine.retained
        if last is None:
            raise RuntimeError("backward needs a forward(X) before it")
        m = last.examples
        # what converts weights may be anybody's code, which may change Y before it is read: then Y is kept as it is now
        found = state.stepper.targets(Y, m) if sample_weight is None else None
        found = found or validation.targets(Y, state.loss, state.n_y, m, state.dtype)
        w = None if sample_weight is None else validation.weights(sample_weight, m, state.dtype)
        gradient = engine.backward(last, *found, w)
        return state.stepper.named(gradient)

    def step(self, grads, optimizer):
        """Applies gradients; the optimizer's state is kept from call to call.

        Parameters
        ----------
        grads : mapping
            As `gradients` and `backward` return it.
        optimizer : optimizer, "sgd", "adam", "adamw", "rmsprop" or "adagrad"
        """
        state = of(self)
        engine = state.fitted()
        numbers = state.steady_numbers(optimizer)
        if numbers is not None and state.stepper.update(grads, *numbers):
            return
        given, optimizer = optimizer, take_optimizer(optimizer)
        dtheta = _engine.aligned_zeros(len(engine.theta), self.dtype)
        views = {f"d{name}": view for name, view in state.trained(engine.views(dtheta)).items()}
        for name, array in validation.arrays("grads", grads, views).items():
            views[name][...] = array
        with state.stepping(optimizer):
            engine.update(dtheta, optimizer.update, optimizer.numbers, state.rate_of_step(optimizer))
        state.note_step(given)
