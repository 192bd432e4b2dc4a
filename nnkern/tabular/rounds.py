"""Trains a table's networks in rounds, by the tasks of an executor, each on one of several shards of the rows.

`nnkern.fit_shards` does a round; what decides between the trainings is here, where it is called.
"""

import dataclasses

import numpy as np

from nnkern.exceptions import DivergenceError
from nnkern.rounds import fit_shards
from nnkern.schedules import ByStep
from nnkern.tabular import splits
from nnkern.tabular import training as training_
from nnkern.tabular.shards import PartOfAll


class ByRound:
    """A rate that goes by step, for those who only know epochs: an epoch has what its middle has."""

    def __init__(self, rate, epochs):
        self._rate, self._epochs = rate, epochs

    def __call__(self, epoch):
        return self._rate(min((epoch + 0.5) / self._epochs, 1.0))


class ShardsOfTasks:
    """A table in shards that lie where tasks run.

    Attributes
    ----------
    sample : shards.Sample
    shards : list
        Of each what fit_shards takes for it.
    sizes : list of int
        Rows of each.
    """

    def __init__(self, sample, shards, sizes, executor, taken):
        """`taken(shard, mask)`: what fit_shards takes for those rows of a shard."""
        self.sample, self.shards, self.sizes, self.executor, self._taken = sample, shards, sizes, executor, taken

    @property
    def m(self):
        """Rows of all shards."""
        return sum(self.sizes)

    @property
    def known(self):
        """The rows that bins are found from."""
        return self.sample.examples

    def parts(self, held_out, count, n_classes, seed):
        """As splits.parts, of the sample: the parts that `count` networks of a recipe are trained on."""
        made = {}
        found = splits.parts(self.known, held_out, count, n_classes, seed)
        for part in found:
            if id(part) not in made:
                rows = np.zeros(0, int) if part.held_rows is None else part.held_rows
                made[id(part)] = PartOfAll(part, self.m - len(rows))
        return [made[id(part)] for part in found]

    def left(self, part):
        """The shards without the rows that a part holds out."""
        if part.held_rows is None:
            return self.shards
        masks = [self.sample.left(number, m, part.held_rows) for number, m in enumerate(self.sizes)]
        return [
            shard if mask.all() else self._taken(shard, mask) for shard, mask in zip(self.shards, masks, strict=True)
        ]


def train(table, session, *, recipes, n_estimators, held_out, refit, seed):
    """As training.train, of ShardsOfTasks."""
    recipes, n_estimators = training_.recipes_and_count(recipes, n_estimators)
    # of the steps of an epoch, only who makes them knows the number
    recipes = [recipe.replace(dropout_schedule=None) for recipe in recipes]
    parts = table.parts(held_out, n_estimators, session.n_classes, seed)
    jobs = training_.jobs_of(recipes, parts, seed)
    session.run(jobs, False)
    trained = training_.trained_of(training_.kept(jobs), session, False)
    for one in trained.report:
        one["epochs"] *= session.epochs_a_round
        one["best_epoch"] = (one["best_epoch"] + 1) * session.epochs_a_round - 1
    if refit and len(parts) == 1 and parts[0].held_rows is not None:
        session.refit(jobs, trained, table, False)
    return trained


class SessionOfRounds(training_.Session):
    """The trainings of a table in rounds, one network after the other."""

    keeps_interrupted = False

    def __init__(self, table, rounds, *how):
        """`rounds`: (epochs of one, fit_shards' timeout)."""
        super().__init__(*how)
        self._table, (self.epochs_a_round, self._timeout) = table, rounds

    def run(self, jobs, _progress):
        """Trains the jobs one after the other, each as far as its held-out rows say."""
        for job in jobs:
            self.prepare(job)
            held = self.validation_data(job.part.held_out)
            job.history = self._fit(job, self._table.left(job.part), job.part.m, job.epochs, job.best, held)
            if "diverged" in job.history and job.best_epoch is not None:
                job.best.on_fit_end(job.net, job.history)

    def fit_again(self, group, table, _bar):
        """The histories of networks that are trained on all rows."""
        histories = []
        for one in group:
            one.net = self.network(one.recipe, table.known, one.seed)
            histories.append(self._fit(one, table.shards, table.m, one.all_epochs, one.stop))
        return histories

    def _fit(self, job, shards, m, epochs, callback, held_out=None):
        """The history of a training in rounds; with "diverged" as fit_many gives it."""
        job.net.initialize(self._table.known.X.shape[0])
        count = len(shards)
        try:
            return fit_shards(
                job.net,
                shards,
                executor=self._table.executor,
                rounds=-(-epochs // self.epochs_a_round),
                epochs_a_round=self.epochs_a_round,
                batch_size=max(1, round(job.batch_size / count)),
                optimizer=_optimizer(job.recipe, m, count, epochs),
                validation_data=held_out,
                callbacks=callback,
                timeout=self._timeout,
            )
        except DivergenceError as error:
            return {"diverged": error}


def _optimizer(recipe, m, shards, epochs):
    """The recipe's, for the smaller batches of so many shards, whose steps are to be as long as those of all."""
    optimizer = recipe.optimizer(m)
    rate, longer = optimizer.learning_rate, shards**0.5
    if isinstance(rate, ByStep):
        rate = ByRound(dataclasses.replace(rate, initial=rate.initial * longer), epochs)
    else:
        rate *= longer
    return dataclasses.replace(optimizer, learning_rate=rate)
