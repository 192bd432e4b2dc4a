"""The solver "lbfgs": the minimisation over all examples with scipy's L-BFGS-B, in float64."""

import numpy as np

from nnkern.estimators.epochs import SolverDivergenceError, constants_of, loss_scale
from nnkern.estimators.needed import check_optimize_result, scipy
from nnkern.model import Model
from nnkern.state import State, of


class Objective:
    """J and its gradient as functions of one vector of all parameters; callbacks and validation play no part."""

    def __init__(self, state, data, alpha, threads):
        self.state = State(Model(state.layers, state.loss, dtype="float64"))
        self.state.make_engine(state.n_x, 0)
        self.state.set_parameters(state.parameters())
        self.engine, self.data, self.threads = self.state.engine, data.astype(np.float64), threads
        segments = [(at, n * m, decays) for _, _, (n, m), at, decays in self.engine.segments()]
        self.entries = np.concatenate([np.arange(at, at + count) for at, count, _ in segments])
        self.penalised = np.concatenate([np.full(count, decays) for _, count, decays in segments])
        self.weight = data.weight()
        self.alpha = alpha

    @property
    def theta(self):
        """The vector of all parameters."""
        return self.engine.theta[self.entries]

    @theta.setter
    def theta(self, theta):
        self.engine.theta[self.entries] = theta

    def loss(self, theta):
        """The mean loss and its gradient."""
        self.theta = theta
        loss, gradient = 0.0, np.zeros(len(theta))
        for block in self.data.blocks():
            share = (block[0].shape[1] if block[3] is None else block[3].sum()) / self.weight
            part, dtheta = self.engine.loss_gradient(*block, threads=self.threads)
            loss += share * part
            gradient += share * dtheta[self.entries]
        return loss, gradient

    def penalty(self, theta):
        """alpha / 2 Σ‖W‖² / Σ w, and its gradient."""
        W = theta * self.penalised
        return 0.5 * self.alpha / self.weight * (W @ W), self.alpha / self.weight * W

    def __call__(self, theta):
        loss, gradient = self.loss(theta)
        penalty, its_gradient = self.penalty(theta)
        return loss + penalty, gradient + its_gradient


def minimise(mlp, net, data):
    """Trains an estimator's network; sets n_iter_ and loss_."""
    state = of(net)
    with state.training():
        J = Objective(state, data, mlp.alpha, mlp.threads)
        result = scipy.optimize.minimize(
            J,
            J.theta,
            method="L-BFGS-B",
            jac=True,
            callback=_Progress() if mlp.verbose else None,
            options={"maxfun": mlp.max_fun, "maxiter": mlp.max_iter, "gtol": mlp.tol},
        )
        if not np.isfinite(result.x).all() or not np.isfinite(result.fun):
            raise SolverDivergenceError(result.nit, 0, np.nan)
        mlp.n_iter_ = check_optimize_result("lbfgs", result, mlp.max_iter)
        J.theta = result.x
        state.set_parameters(J.state.parameters())
    penalty = J.penalty(result.x)[0]
    mlp.loss_ = float((result.fun - penalty) * loss_scale(state) + penalty)
    if (constants := constants_of(state, data.Y)) is not None:
        mlp.loss_ += float(np.average(constants, weights=data.w))


class _Progress:
    """Prints each iteration's loss."""

    n = 0

    def __call__(self, intermediate_result):
        self.n += 1
        print(f"Iteration {self.n}, loss = {intermediate_result.fun:.8f}")
