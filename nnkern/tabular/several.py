"""The estimators of tables on rows that lie in several shards: by processes that train together, or by tasks of Dask.

What an estimator makes of its own rows, as everywhere, and what it agrees on with the others; the trainings are
together.py's and rounds.py's.
"""

import time

from nnkern.tabular import together
from nnkern.tabular.inputs import rows_of, times_class_weights
from nnkern.tabular.metrics import get as metric_of
from nnkern.tabular.model import TableModel
from nnkern.tabular.model_file import Stored
from nnkern.tabular.shards import Shard, refuse_other_names
from nnkern.tabular.target import Labels
from nnkern.together import compare

# parameters that each process may have for itself
_OWN = ("progress", "random_state", "threads")


class OfShards:
    """What an estimator has for it, beside what it has for a table in one place."""

    def _fit_together(self, ranks, X, y, sample_weight, eval_set):
        """The same by several processes, each with a shard of the rows."""
        begun = time.monotonic()
        with ranks.alone():
            shard = self._shard(X, y, sample_weight)
            row = self._row(shard) | {"eval_set": eval_set is not None, "seed": self._seed()}
            row["same"] = {name: repr(value) for name, value in self.get_params().items() if name not in _OWN}
        rows = ranks.gather(row)
        compare([one["same"] for one in rows])
        names, named, target, class_weights = self._agree(rows, "rank")
        seed = rows[0]["seed"]
        with ranks.alone():
            self._learn(shard, target, class_weights)
            held_out = None if eval_set is None else self._eval_set(eval_set, names, named, target, class_weights)
        table = together.Table(ranks, shard, names, seed)
        table.learn(self.column_types, isinstance(target, Labels), self.threads)
        if any(one["eval_set"] for one in rows):
            held_out = table.gather_held_out(held_out, self.threads)
        with ranks.alone():
            session = self._session(target, together.SessionOfRanks, table.preprocessing.rows, ranks)
        trained = together.train(
            table,
            session,
            recipes=self._recipes(),
            n_estimators=self.n_estimators,
            held_out=self.validation_fraction if held_out is None else held_out,
            refit=self.refit,
            limit=None if self.time_limit is None else (begun, self.time_limit),
            progress=self.progress,
        )
        self._take(table.preprocessing, trained, target, (names, named))
        return self

    def _checked(self):
        self._validate_params()
        return self

    def _session(self, target, kind, rows, *how):
        task, classes = self._task(target), len(target.labels) if isinstance(target, Labels) else 0
        return kind(*how, rows, task, classes, metric_of(self.metric, task), self.threads)

    def _take(self, preprocessing, trained, target, named_columns):
        """Remembers what was trained; what was measured of numbers as they are learnt is told in the target's units."""
        made = TableModel(preprocessing, trained.networks, trained.weights, target)
        unit = self._unit(target, self.metric)
        report = [{**one, "score": unit * one["score"]} for one in trained.report]
        self._remember(Stored(made, *named_columns, None, report, unit * trained.score, trained.interrupted))

    def _unit(self, target, metric):
        """What the value of a metric, or of the task's where it is None, is multiplied by to be in these units."""
        return target.scale if metric_of(metric, self._task(target)).has_unit else 1.0

    def _shard(self, X, y, sample_weight=None):
        """The Shard of what one process or worker has to fit; it may have no rows."""
        X, y = self._with_target(X, y, "X")
        arrays, named = self._table(X, least=0)
        return Shard(arrays, named, *self._target(y, sample_weight, rows_of(arrays)))

    def _row(self, shard):
        """What others must know of a shard before the columns are learnt, as JSON has it."""
        return {"names": shard.names, "named": shard.named, "y": self._summary(shard.y, shard.w)}

    def _agree(self, rows, noun):
        """(names of the columns, whether X has names, target, {label: weight of its class}) by the rows of all."""
        refuse_other_names([(number, row["names"], row["named"]) for number, row in enumerate(rows)], noun)
        target, class_weights = self._agreed([row["y"] for row in rows], noun)
        return rows[0]["names"], rows[0]["named"], target, class_weights

    def _learn(self, shard, target, class_weights):
        """Leaves out the rows of a shard whose weight is 0, and has its y as networks learn it."""
        weight = times_class_weights(shard.w, shard.y, class_weights)
        shard.learn(weight, lambda y: self._as_learnt(y, target, "y"))

    def _summary(self, y, weight):
        """What others must know of the target of a shard."""
        return self._target_kind.summary(y, weight)

    def _agreed(self, rows, noun):
        """(target, {label: weight}) of all shards."""
        return self._target_kind.of_all(rows, noun), {}


# ---- the same, for those who have an estimator ----


def checked(model):
    """The estimator, where its parameters are right."""
    return model._checked()


def shard_of(model, X, y, sample_weight=None):
    """The Shard of what an estimator has to fit on a worker."""
    return model._shard(X, y, sample_weight)


def row_of(model, shard):
    """What others must know of it."""
    return model._row(shard)


def agreed(model, rows):
    """(names of the columns, whether X has names, target, {label: weight of its class}) of all shards."""
    return model._agree(rows, "shard")


def learnt(model, shard, target, class_weights):
    """The Shard with y as networks learn it, a new one."""
    shard = Shard(shard.arrays, shard.named, shard.y, shard.w)
    model._learn(shard, target, class_weights)
    return shard


def eval_set_of(model, eval_set, names, named, target, class_weights):
    """({name: Arrow array}, y as learnt, weights or None) of rows that are held out."""
    return model._eval_set(eval_set, names, named, target, class_weights)


def session_of(model, target, kind, rows, *how):
    """A Session of that kind for an estimator's task."""
    return model._session(target, kind, rows, *how)


def remember(model, preprocessing, trained, target, named_columns):
    """What was trained becomes the estimator's. `named_columns`: (names, whether X has them)."""
    model._take(preprocessing, trained, target, named_columns)
