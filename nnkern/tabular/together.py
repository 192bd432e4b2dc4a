"""Trains a table's networks by several processes, each with a shard of the rows: every step is made together.

Columns are learnt by rank 0 of the sample that all have, and networks are made there; each process trains on its own
rows, as `nnkern.together` does it. Whatever is decided between the trainings is decided by rank 0's numbers and clock.
"""

import numpy as np

from nnkern import together
from nnkern.exceptions import DivergenceError
from nnkern.model import Model
from nnkern.network import Network
from nnkern.tabular import shards, splits
from nnkern.tabular import training as training_
from nnkern.tabular.leaks import warn_of_leaks
from nnkern.tabular.preprocessing import Preprocessing, check_entries
from nnkern.training import Options


class Table:
    """A table of which each process has a shard, and what all know of it.

    Attributes
    ----------
    ranks : nnkern.ranks.Ranks
    sizes : list of int
        Rows of each shard.
    preprocessing : Preprocessing
    sample : shards.Sample
    own : splits.Examples
        The rows of this process.
    """

    def __init__(self, ranks, shard, names, seed):
        """`shard`: whose y is as networks learn it; `names`: of the columns, in the order that all take them in."""
        self.ranks, self.seed, self._shard, self._names = ranks, seed, shard, names
        self.sizes = self._sizes(shard.m)

    def _sizes(self, m):
        sizes = np.zeros(self.ranks.size)
        sizes[self.ranks.rank] = m
        return self.ranks.sum_into(sizes).astype(int).tolist()

    def learn(self, column_types, classifies, threads):
        """Learns the columns of the sample, and makes X of it and of the shard."""
        ranks, shard, rank = self.ranks, self._shard, self.ranks.rank
        with ranks.alone():
            shard.arrays = shards.in_order(shard.arrays, self._names, "X")
            if shard.m:
                check_entries(shard.arrays, column_types)
            places = [shards.sample_places(self.sizes, number, self.seed) for number in range(ranks.size)]
            table, *target = shard.some(places[rank])
        tables = ranks.gather_bytes(table)
        y, w = self._gather_target(*target)
        with ranks.alone():
            arrays = shards.stacked(tables, self._names, "rank")
            columns = Preprocessing.fit(arrays, column_types, threads=threads).to_dict() if rank == 0 else None
        columns = ranks.of_first(columns)
        with ranks.alone():
            self.preprocessing = columns = Preprocessing.from_dict(columns)
            X = columns.transform(arrays, threads=threads)
            if rank == 0:
                warn_of_leaks(columns, X, y, classifies)
            self.sample = shards.Sample(splits.Examples(X, y, w), places)
            self.own = splits.Examples(self._encoded(shard, "X", threads), shard.y, shard.w)

    def _encoded(self, shard, what, threads):
        """X of a shard, which may have no rows. What the sample lacks isn't warned of: nobody could do anything."""
        if not shard.m:
            return np.zeros((self.preprocessing.n_x, 0), np.float32, "F")
        return self.preprocessing.transform(shard.arrays, what, threads, warn=sum(self.sizes) <= shards.SAMPLE_ROWS)

    def gather_held_out(self, given, threads):
        """(X, y, weights or None) of the rows that ranks hold out: `given` by this one, or None; a share where many."""
        ranks, n_x = self.ranks, self.preprocessing.n_x
        with ranks.alone():
            shard = shards.Shard({}, True, np.zeros(0, self.sample.examples.y.dtype), None)
            if given is not None:
                shard = shards.Shard(given[0], True, *given[1:])
        sizes = self._sizes(shard.m)
        with ranks.alone():
            X = self._encoded(shard, "eval_set's X", threads)
            places = shards.sample_places(sizes, ranks.rank, self.seed)
            rows = np.ascontiguousarray(X.T[places])
        y, w = self._gather_target(shard.y[places], None if shard.w is None else shard.w[places])
        X = np.frombuffer(b"".join(ranks.gather_bytes(rows.tobytes())), np.float32).reshape(-1, n_x).T
        return X, y, w

    def _gather_target(self, y, w):
        """(y, weights or None) of all, one rank after the other; weights of 1 where only some have weights."""
        ranks, kind = self.ranks, np.int64 if y.dtype.kind in "iu" else np.float32
        all_y = np.frombuffer(b"".join(ranks.gather_bytes(y.astype(kind).tobytes())), kind)
        if not ranks.sum([w is not None])[0]:
            return all_y, None
        w = np.ones(len(y)) if w is None else w.astype(np.float64)
        return all_y, np.frombuffer(b"".join(ranks.gather_bytes(w.tobytes())), np.float64)

    @property
    def m(self):
        """Rows of all shards."""
        return sum(self.sizes)

    @property
    def known(self):
        """The rows that bins are found from."""
        return self.sample.examples

    def parts(self, held_out, count, n_classes):
        """As splits.parts, of the sample: the parts that `count` networks of a recipe are trained on."""
        made = {}
        found = splits.parts(self.known, held_out, count, n_classes, self.seed)
        for part in found:
            if id(part) not in made:
                rows = np.zeros(0, int) if part.held_rows is None else part.held_rows
                trained = self.sample.left(self.ranks.rank, self.own.m, rows)
                own = shards.own_rows(self.own, trained)
                made[id(part)] = shards.PartOfAll(part, self.m - len(rows), own)
        return [made[id(part)] for part in found]


def train(table, session, *, recipes, n_estimators, held_out, refit, limit, progress):
    """As training.train, of a Table: all processes get the same. `limit`: None or (begun, seconds from then)."""
    ranks = table.ranks
    with ranks.alone():
        recipes, n_estimators = training_.recipes_and_count(recipes, n_estimators)
        parts = table.parts(held_out, n_estimators, session.n_classes)
        jobs = training_.jobs_of(recipes, parts, table.seed)
    if limit is not None:
        jobs = session.within(jobs, *limit)
    progress = progress if ranks.rank == 0 else False
    session.run(jobs, progress)
    trained = session.trained(jobs)
    if refit and len(parts) == 1 and parts[0].held_rows is not None:
        session.refit(jobs, trained, table, progress)
    return trained


class SessionOfRanks(training_.Session):
    """The trainings of a table by several processes, one network after the other."""

    keeps_interrupted = False  # the others are told of it

    def __init__(self, ranks, *how):
        super().__init__(*how)
        self._ranks, self._limited = ranks, False

    def network(self, recipe, known, seed):
        ranks = self._ranks
        with ranks.alone():
            config = super().network(recipe, known, seed).to_model().config() if ranks.rank == 0 else None
        config = ranks.of_first(config)
        with ranks.alone():
            return Network.from_model(Model.from_config(config))

    def within(self, jobs, begun, limit):
        """By the clock of rank 0."""
        self._limited, planned = True, None
        with self._ranks.alone():
            if self._ranks.rank == 0:
                planning = _Planning(self._ranks.size, self.rows, self.task, self.n_classes, self.metric, 1)
                planned = [(jobs.index(job), job.epochs) for job in planning.within(jobs, begun, limit)]
                self.deadline = planning.deadline
        planned = self._ranks.of_first(planned)
        for number, epochs in planned:
            jobs[number].epochs = epochs
        return [jobs[number] for number, _ in planned]

    def run(self, jobs, progress):
        bar = training_.shared_progress(progress, jobs, self.metric)
        try:
            for job in jobs:
                if self._limited and any(one.best_epoch is not None for one in jobs) and self._of_first(self.late):
                    break
                self._run_one(job, bar)
        finally:
            if bar is not None:
                bar.close()

    def _of_first(self, function):
        """What a function says on rank 0."""
        return self._ranks.of_first(function() if self._ranks.rank == 0 else None)

    def _run_one(self, job, bar):
        self.prepare(job)
        ranks, part = self._ranks, job.part
        watches = ranks.rank == 0 and (self.deadline is not None or bar is not None)
        more = [training_.SessionCallback(self, job.epochs, bar)] if watches else []
        with ranks.alone():
            held = part.held_out.take(np.arange(ranks.rank, part.held_out.m, ranks.size))
        held = self.validation_data(held) if held.m else None
        job.history = self._fit(job, part.own, part.m, job.epochs, [job.best, *more], held)
        if "diverged" in job.history and job.best_epoch is not None:
            job.best.on_fit_end(job.net, job.history)
        part.own.free()

    def _fit(self, job, own, m, epochs, callbacks, held_out=None):
        """The history of a network that all train, each on its own rows of m; with "diverged" as fit_many gives it."""

        def options():
            optimizer = job.recipe.optimizer(m)
            return Options(epochs, job.batch_size, True, optimizer, None, callbacks, threads=self.threads)

        data = own.X, self.targets(own), own.w
        fit = together.fit_of_shards(self._ranks, job.net, options, data, (held_out, 0.0))
        try:
            together.run(fit)
        except DivergenceError as error:
            fit.history["diverged"] = error
        return fit.history

    def trained(self, jobs):
        """The ensemble, as rank 0 weighs the networks."""
        jobs, told = training_.kept(jobs), None
        with self._ranks.alone():
            if self._ranks.rank == 0:
                found = training_.trained_of(jobs, self, False)
                numbers = [next(i for i, job in enumerate(jobs) if job.net is net) for net in found.networks]
                told = {"numbers": numbers, "weights": found.weights.tolist()}
                told |= {"report": found.report, "score": found.score}
        told = self._ranks.of_first(told)
        networks = [jobs[number].net for number in told["numbers"]]
        return training_.Trained(networks, np.array(told["weights"]), told["report"], told["score"], False)

    def time_for(self, group, report):
        return not self._limited or self._of_first(lambda: super(SessionOfRanks, self).time_for(group, report))

    def fit_again(self, group, table, bar):
        histories = []
        for one in group:
            one.net = self.network(one.recipe, table.known, one.seed)
            more = [] if bar is None else [training_.SessionCallback(self, one.epochs, bar)]
            histories.append(self._fit(one, table.own, table.m, one.all_epochs, [one.stop, *more]))
        return histories


class _Planning(training_.Session):
    """Tells how long the trainings of several processes take, by what one of them measures."""

    def __init__(self, processes, *how):
        super().__init__(*how)
        self._processes = processes

    def pace(self, job):
        return super().pace(job) / self._processes
