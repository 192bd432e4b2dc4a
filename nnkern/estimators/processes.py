"""Who fits an estimator: this process alone, or several together, each with a shard of the samples.

Both have the same methods, so that an estimator's preparation is written once. Whatever is agreed on between processes
(classes, sizes, what counts as the best epoch) is agreed on here; the epochs are those of `nnkern.together`.
"""

import contextlib

import numpy as np

from nnkern import shards, together
from nnkern.estimators.epochs import EstimatorFit, SolverDivergenceError, loss_scale
from nnkern.estimators.examples import check_weights
from nnkern.estimators.needed import is_classifier, theirs, train_test_split
from nnkern.exceptions import DivergenceError
from nnkern.ranks import Ranks
from nnkern.runners import Plan
from nnkern.state import of
from nnkern.training import Options

# the larger of the batches that batch_size="auto" takes
_AUTO_BATCH = 200
_SMALL = "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
# parameters of an estimator that each process may have for itself
_OWN = ("callbacks", "progress", "random_state", "solver", "loss", "threads", "verbose")


class OneProcess:
    """This process alone."""

    several = False
    least = 1
    """Fewest samples that it must have."""

    @contextlib.contextmanager
    def alone(self):
        yield

    def agree_on(self, kind, classes, has_eval_set):
        """(kind of y, its classes, whether there is an eval_set)."""
        return kind, classes, has_eval_set

    def check_weights(self, name, w):
        check_weights(name, w)

    def batch_size(self, mlp, m):
        """(samples of a step, samples of an epoch)."""
        return min(_AUTO_BATCH, m) if mlp.batch_size == "auto" else mlp.batch_size, m

    def split(self, mlp, data, random_state):
        """(training samples, held-out samples), drawn as scikit-learn does."""
        stratify = data.Y[0] if is_classifier(mlp) and mlp.n_outputs_ == 1 else None
        rest, held = train_test_split(
            np.arange(data.m), random_state=random_state, test_size=mlp.validation_fraction, stratify=stratify
        )
        if len(held) < 2:
            raise ValueError(_SMALL)
        data, held_out = data.take(rest), data.take(held)
        check_weights("Sample weights of the training samples, those not held out,", data.w)
        check_weights("Sample weights of the held-out samples", held_out.w)
        return data, held_out

    def fit_of(self, mlp, net, examples, size, random_state, optimizer):
        """The training of an estimator's network. `examples`: training and held-out ones."""
        plan = Plan(size, mlp.shuffle, threads=mlp.threads, random_state=random_state if mlp.shuffle else None)
        _complete(plan, mlp, of(net))
        data, held_out = examples
        fit = EstimatorFit(mlp, net, data, plan, held_out)
        fit.optimizer = optimizer
        return fit


ALONE = OneProcess()


class Processes:
    """Several processes, by their communicator."""

    several = True
    least = 0

    def __init__(self, comm, deadline):
        self._ranks = Ranks(comm, deadline)
        self.alone, self.together = self._ranks.alone, self._ranks.together

    def agree_on(self, kind, classes, has_eval_set):
        """The same over all processes; `classes` is None where a process has no samples, or they are numbers."""
        own = None if classes is None else {"classes": classes.tolist(), "dtype": classes.dtype.str, "kind": kind}
        rows = self._ranks.gather({"y": own, "eval_set": has_eval_set})
        found = [row["y"] for row in rows if row["y"] is not None]
        has_eval_set = any(row["eval_set"] for row in rows)
        if not found:
            if kind is not None:
                raise ValueError(f"the shards of all {len(rows)} ranks have 0 examples")
            return kind, classes, has_eval_set
        labels = {row["kind"] == "multilabel-indicator" for row in found}
        if len(labels) > 1 or (labels == {True} and len({len(row["classes"]) for row in found}) > 1):
            raise ValueError(
                "y must be of the same kind on all ranks, which have "
                + ", ".join(f"{row['kind']} with {len(row['classes'])} classes" for row in found)
            )
        parts = [np.array(row["classes"], object if "O" in row["dtype"] else row["dtype"]) for row in found]
        return found[0]["kind"], np.unique(np.concatenate(parts)), has_eval_set

    def check_weights(self, name, w):
        """Nothing: those of one process may all be 0."""

    def batch_size(self, mlp, m):
        m = int(self._ranks.sum([m])[0])
        return min(_AUTO_BATCH, max(m, 1)) if mlp.batch_size == "auto" else mlp.batch_size, m

    def split(self, mlp, data, random_state):
        """A share of this process's samples, drawn without regard to classes: it may have few of one."""
        order = random_state.permutation(data.m)
        count = round(data.m * mlp.validation_fraction)
        return data.take(order[count:]), data.take(order[:count])

    def fit_of(self, mlp, net, examples, size, random_state, optimizer):
        state, ranks = of(net), self._ranks
        data, held_out = examples
        if held_out is not None and ranks.sum([held_out.m])[0] < 2:
            raise ValueError(_SMALL)
        with ranks.alone():
            if state.loss.name == "poisson" and data.w is not None:
                raise ValueError("loss 'poisson' doesn't go with comm= and sample_weight: leave one of them out")
            options = Options(mlp.max_iter, size, mlp.shuffle, None, None, threads=mlp.threads)
            settings = together.settings(state, options, optimizer, data) | _settings(mlp)
        plan, own, data, held_out = together.agree(state, options, (data, held_out), settings, ranks)
        with ranks.alone():
            _complete(plan, mlp, state)
            fit = EstimatorFitOfShards(mlp, net, data, plan, held_out, ranks=ranks, its_shards=own)
            fit.optimizer = optimizer
        fit.agree()
        return fit


def _complete(plan, mlp, state):
    """How scikit-learn counts: alpha on the sum over a batch, Adam's epsilon, costs by number of samples."""
    plan.numbers = {"l2_of_sum": mlp.alpha, "raw_eps": mlp.solver in ("adam", "adamw")}
    plan.more |= {"loss_scale": loss_scale(state), "by_count": True}


def _settings(mlp):
    """What must be the same for all processes, beyond what the network and the optimizer have."""
    of_networks = {"class_weight", "compute", "dropout", "hidden_layer_sizes", "activation"}
    names = {*theirs.MLPClassifier._parameter_constraints, *of_networks} - {*_OWN}
    return {name: repr(getattr(mlp, name)) for name in sorted(names) if hasattr(mlp, name)}


class EstimatorFitOfShards(EstimatorFit, together.FitOfShards):
    """The training of an estimator by several processes."""

    @property
    def samples(self):
        return self.shards.m

    @property
    def sums_count(self):
        return 5 + self.state.n_y

    def agree(self):
        """What scikit-learn counts beyond our loss, over all processes."""
        if self.constants is not None:
            self._constant = self._ranks.sum([self.constants.sum()])[0] / self.shards.m

    def mean_constant(self):
        return self._constant

    def begin(self):
        """All count on from what one has counted."""
        mlp, names = self.mlp, ("best_loss_", "best_validation_score_", "best_validation_loss_", "t_")
        row = {name: getattr(mlp, name) for name in names} | {"no_improvement": self.no_improvement}
        row = self._ranks.gather(row)[self.shards.root]
        for name in names:
            setattr(mlp, name, row[name])
        if mlp.early_stopping:
            self._ranks.of_root(self.best_theta, self.shards.root)
        self.goes_on(row["no_improvement"], self.best_theta, self.right)
        super().begin()

    def sums_of_held_out(self):
        if self.held_out.m == 0:
            return np.zeros(self.sums_count)
        cost, right, squares, total = self.held_out_sums()
        constants = self.constants_of_held_out()
        w = np.ones(self.held_out.m) if self.held_out.w is None else self.held_out.w.astype(np.float64)
        extra = [0.0, 0.0] if constants is None else [constants @ w, w.sum()]
        return np.array([cost, total, right, *extra, *(np.zeros(self.state.n_y) + squares)])

    def evaluation_of(self, sums):
        cost, total, right, constant, weight, *squares = sums
        return self.measured((cost, right, np.array(squares), total), constant / weight if weight else None)

    def measure(self):
        return together.FitOfShards.evaluate(self)

    def after(self, rates, outcome):
        super().after(rates, outcome)
        self.enough = self.stopped

    def run(self):
        try:
            together.run(self)
        except DivergenceError as error:
            raise SolverDivergenceError(*error.args) from None


def empty(net):
    """No samples, for a process that has none to hold out where others have."""
    return shards.nothing(of(net), net.n_x)
