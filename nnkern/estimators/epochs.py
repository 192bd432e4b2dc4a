"""The epochs of an estimator with a stochastic solver: what scikit-learn keeps of them, and decides between them."""

import numpy as np

from nnkern import _engine
from nnkern.estimators.needed import is_classifier, xlogy
from nnkern.exceptions import DivergenceError
from nnkern.losses import r2
from nnkern.training import Fit, Options, run

# "adaptive" divides the learning rate by this, down to the smallest at which it still goes on
_ADAPTIVE_DIVISOR = 5.0
_ADAPTIVE_SMALLEST = 1e-6


class SolverDivergenceError(DivergenceError):
    """The training diverged; said in scikit-learn's words first."""

    __module__ = "nnkern.sklearn"

    def __str__(self):
        return (
            "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
            f"preprocessed. In nnkern's words: {super().__str__()}"
        )


def loss_scale(state):
    """scikit-learn averages squared errors over the outputs, where the loss is their sum."""
    return 1 / state.n_y if state.loss.name == "squared_error" else 1


def constants_of(state, Y):
    """(m,), what scikit-learn counts beyond our loss: y log y - y, for poisson; None for the others."""
    return (xlogy(Y, Y) - Y).sum(axis=0, dtype=np.float64) if state.loss.name == "poisson" else None


class EstimatorFit(Fit):
    """The training of an estimator, whose public attributes are set epoch by epoch.

    After it `no_improvement` counts the epochs without any, `enough` says whether they or a callback ended it, and
    `interrupted` whether Ctrl-C did.
    """

    def __init__(self, mlp, net, source, plan, held_out, **more):
        self.mlp, self.interrupted, self.enough = mlp, False, False
        options = Options(mlp.max_iter, None, plan.shuffle, None, None, mlp.callbacks, progress=bool(mlp.progress))
        super().__init__(net, source, plan, options, held_out=held_out, **more)
        self.constants = constants_of(self.state, source.Y)
        self.spread = None
        if held_out is not None and not self.state.loss.classifies and not is_classifier(mlp):
            self.spread = held_out.spread()

    @property
    def samples(self):
        """How many an epoch goes through."""
        return self.source.m

    def run(self):
        """Runs the epochs."""
        run([self], self.mlp.threads)

    def goes_on(self, no_improvement, best_theta, right):
        """Takes over what the last training counted, and the function for Σ w of the samples predicted rightly."""
        self.no_improvement, self.best_theta, self.right = no_improvement, best_theta, right
        self._wait()

    def _wait(self):
        """Counts epochs without improvement from here on; by held-out samples where training stops early."""
        mlp, self.patience = self.mlp, None
        if not mlp.early_stopping:
            most = int(min(mlp.n_iter_no_change, np.iinfo(np.intp).max))
            self.patience = _engine.Patience(mlp.best_loss_, mlp.tol, self.no_improvement, most)
        # where a constant is still to be added to the cost, the engine doesn't count
        self.plan.patience = self.patience if self.constants is None else None

    def prepare(self):
        """Makes the state what the first epoch begins with; the epochs of the network's life are counted on."""
        if not self.resume:
            self.state.engine.fresh_state()
        self.state.use_optimizer(self.optimizer)
        self.mlp.n_iter_ = 0

    def looks_in_engine(self):
        """Never: what an estimator records and decides isn't what the engine does."""
        return False

    def is_watched(self):
        """Whether somebody wants to know of each epoch."""
        return super().is_watched() or self.mlp.verbose or self.constants is not None

    def classifies(self):
        """Whether the score is accuracy."""
        return is_classifier(self.mlp)

    def rates(self, count):
        """The learning rates of the next epochs."""
        rates = super().rates(count)
        if self._follows("invscaling"):
            for i in range(1, count):
                rates[i] = self._inverse_scaling(self.mlp.t_ + i * self.samples)
        return rates

    def _follows(self, schedule):
        """Whether that is the schedule of the learning rate."""
        mlp = self.mlp
        return mlp.solver == "sgd" and mlp.learning_rate == schedule and not callable(self.optimizer.learning_rate)

    def _inverse_scaling(self, seen):
        return float(self.mlp.learning_rate_init) / (seen + 1) ** self.mlp.power_t

    def note(self, rates, outcome):
        """Counts the epochs, and those without improvement."""
        mlp = self.mlp
        if self.constants is not None:
            outcome.costs = [outcome.costs[0] + self.mean_constant()]
            if self.patience is not None:
                self.patience.note(outcome.costs[0])
        super().note(rates, outcome)
        mlp.loss_ = outcome.costs[-1]
        mlp.loss_curve_ += outcome.costs
        mlp.n_iter_ = self.done
        mlp.t_ += len(outcome.costs) * self.samples
        if self.patience is not None:
            mlp.best_loss_, self.no_improvement = self.patience.best, self.patience.bad
        if self._follows("invscaling"):
            self.optimizer.learning_rate = self._inverse_scaling(mlp.t_)

    def mean_constant(self):
        """Over the batches of the last epoch, as its cost is: by weight within a batch, by number among them."""
        source, size = self.source, self.plan.batch_size
        if source.w is None:
            return float(self.constants.mean())
        order = slice(None) if self.runner.order is None else self.runner.order
        c, w = self.constants[order], source.w[order].astype(np.float64)
        firsts = np.arange(0, source.m, size)
        total = np.add.reduceat(w, firsts)
        means = np.divide(np.add.reduceat(c * w, firsts), total, out=np.zeros(len(firsts)), where=total > 0)
        return float(np.average(means, weights=np.diff(firsts, append=source.m)))

    def look(self):
        """What happens after an epoch where somebody looks on."""
        if self.mlp.verbose:
            print(f"Iteration {self.done}, loss = {self.mlp.loss_:.8f}")
        super().look()

    def evaluate(self):
        """(loss, score) of the held-out examples, which may be the best so far."""
        mlp = self.mlp
        cost, score = self.measure()
        mlp.validation_loss_curve_.append(cost)
        mlp.validation_scores_.append(score)
        by_loss = mlp.early_stopping == "loss"
        if mlp.verbose:
            print(f"Validation loss: {cost:f}" if by_loss else f"Validation score: {score:f}")
        if by_loss:
            improved, is_best = cost <= mlp.best_validation_loss_ - mlp.tol, cost < mlp.best_validation_loss_
        else:
            improved, is_best = score >= mlp.best_validation_score_ + mlp.tol, score > mlp.best_validation_score_
        mlp.best_validation_loss_ = min(mlp.best_validation_loss_, cost)
        mlp.best_validation_score_ = max(mlp.best_validation_score_, score)
        if mlp.early_stopping:
            self.no_improvement = 0 if improved else self.no_improvement + 1
            if is_best:
                self.best_theta[:] = self.state.engine.theta
        return cost, score

    def measure(self):
        """(loss, score) of the held-out examples, with the parameters as they are."""
        constants = self.constants_of_held_out()
        if constants is not None:
            constants = float(np.average(constants, weights=self.held_out.w))
        return self.measured(self.held_out_sums(), constants)

    def constants_of_held_out(self):
        """What scikit-learn counts beyond our loss of each, or None."""
        return constants_of(self.state, self.held_out.Y)

    def held_out_sums(self):
        """Of the held-out examples: Σ w L, Σ w of those predicted rightly, Σ w (ŷ - y)² per output, and Σ w."""
        cost, right, squares, total = 0.0, 0.0, 0.0, 0.0
        classifier, engine = self.classifies(), self.state.engine
        for X, Y, labels, w in self.held_out.blocks():
            part, part_right, part_squares, weight = engine.evaluate(X, Y, labels, w, self.plan.threads)
            cost += weight * part
            total += weight
            if classifier and not self.state.loss.classifies:
                part_right = self.right(engine.predict(X, threads=self.plan.threads), Y, w)
            right += part_right
            squares += 0 if part_squares is None else part_squares
        return cost, right, squares, total

    def measured(self, sums, constant):
        """(loss, score) from these sums; `constant`: what scikit-learn counts beyond our loss, or None."""
        cost, right, squares, total = sums
        cost = cost / total * loss_scale(self.state) if total else 0.0
        cost += 0 if constant is None else constant
        return cost, right / total if self.classifies() else r2(squares, self.spread)

    def is_enough(self):
        """Whether a callback or a lack of improvement ends the training; "adaptive" lowers its learning rate first."""
        mlp = self.mlp
        self.enough = super().is_enough()
        if self.enough or self.no_improvement <= mlp.n_iter_no_change:
            return self.enough
        adaptive, optimizer = self._follows("adaptive"), self.optimizer
        self.enough = not adaptive or optimizer.learning_rate <= _ADAPTIVE_SMALLEST
        if not self.enough:
            optimizer.learning_rate /= _ADAPTIVE_DIVISOR
            self.no_improvement = 0
            self._wait()
        if mlp.verbose:
            what = {False: "Training loss", "loss": "Validation loss"}.get(mlp.early_stopping, "Validation score")
            then = "Stopping."
            if adaptive and self.enough:
                then = "Learning rate too small. Stopping."
            elif adaptive:
                then = f"Setting learning rate to {optimizer.learning_rate:f}"
            epochs = f"{mlp.n_iter_no_change} consecutive epochs"
            print(f"{what} did not improve more than tol={mlp.tol:f} for {epochs}. {then}")
        return self.enough

    def fail(self, failure):
        """Ctrl-C ends the training as it does in scikit-learn; the rest is raised."""
        if isinstance(failure, KeyboardInterrupt):
            self.interrupted = True
        elif isinstance(failure, BaseException):
            raise failure
        else:
            raise SolverDivergenceError(self.done, *failure)

    def end(self):
        """After the last epoch; with early stopping the best parameters come back."""
        super().end()
        if self.mlp.early_stopping:
            self.state.engine.theta[:] = self.best_theta
