# Epochs of one network with all they need, and many networks side by side.

def shuffled_order(Py_ssize_t m, uint64_t key, uint64_t epoch):
    """The order of m examples in that epoch of a network with that key, as an int64 vector."""
    cdef int64_t[::1] order = np.empty(m, np.int64)
    if m:
        nnk_shuffle(&order[0], m, key, epoch)
    return np.asarray(order)


cdef class Patience:
    """Counts epochs without improvement: by more than `tol` below the `best` cost so far; `most` in a row are borne."""
    cdef PatienceCounts counts

    def __cinit__(self, double best, double tol, Py_ssize_t bad, Py_ssize_t most):
        self.counts = PatienceCounts(best, tol, bad, most)

    def note(self, double cost):
        """Counts an epoch; whether it has been enough."""
        return enough(&self.counts, cost)

    @property
    def best(self):
        return self.counts.best

    @property
    def bad(self):
        return self.counts.bad


# What the engine can choose the best epoch by, as the history names it.
MONITORS = {
    "cost": MONITOR_COST, "val_cost": MONITOR_VAL_COST, "val_score": MONITOR_VAL_SCORE,
    "val_error": MONITOR_VAL_ERROR}


def r2(squares, spread):
    """R² averaged over the outputs, from Σ w (ŷ - y)² and Σ w (y - ȳ)² of each."""
    cdef double[::1] squares_ = np.array(squares, np.float64).ravel()
    cdef const double[::1] spread_ = np.ascontiguousarray(spread, np.float64).ravel()
    if squares_.shape[0] == 0 or squares_.shape[0] != spread_.shape[0]:
        raise ValueError(f"R² of {squares_.shape[0]} outputs with {spread_.shape[0]} spreads")
    return r2_of(&squares_[0], &spread_[0], squares_.shape[0])


cdef class Between:
    """What is done between the epochs of one training, however many calls it takes.

    `held_out`: (X, Y, labels, w) to evaluate after each epoch, or None; `spread`: Σ w (y - ȳ)² per output of these
    where the score is R², else None; `rule`: how the best epoch is chosen, a dict with monitor, sign, min_delta, last,
    patience (None: it ends nothing) and keeps (whether the parameters are wanted), or None.
    """
    cdef BetweenEpochs state
    cdef Best best_
    cdef Engine engine
    cdef WorkspaceHolder workspace
    cdef tuple held_out, memory, outputs
    cdef readonly object theta      # the parameters of the best epoch, or None

    def __cinit__(self, Engine engine, held_out, spread, rule):
        cdef Best *best = &self.best_
        squares = None
        memset(&self.state, 0, sizeof(self.state))
        if held_out is not None:
            self.workspace = WorkspaceHolder(engine, predict_width(&engine.plan, max(held_out[0].shape[1], 1)))
            self.state.space = &self.workspace.space
        if spread is not None:
            squares = np.empty(engine.plan.n_y)
            self.state.spread = <const double *>vector_from("spread", spread, cnp.NPY_DOUBLE, engine.plan.n_y)
            self.state.squares = <double *>vector_from("squares", squares, cnp.NPY_DOUBLE, engine.plan.n_y)
        if rule is not None:
            best.monitor, best.sign, best.min_delta = MONITORS[rule["monitor"]], rule["sign"], rule["min_delta"]
            best.last, best.patience = rule["last"], -1 if rule["patience"] is None else rule["patience"]
            best.epoch, best.improved, best.over, best.theta = -1, 0, False, NULL
            if rule["keeps"]:
                self.theta = aligned_empty(engine.plan.count, engine.dtype)
                best.theta = address(self.theta)
            self.state.best = best
        self.engine, self.held_out = engine, held_out
        self.memory = spread, squares, held(*held_out) if held_out is not None else ()

    cdef int begin(self, Py_ssize_t epochs) except -1:
        """Before a call of so many epochs."""
        if self.held_out is not None:
            X, Y, labels, w = self.held_out
            self.state.held_out = self.engine.data_of(X, Y, labels, w)
        self.state.first += self.state.seen
        self.state.seen = 0
        costs, scores = np.empty(epochs), np.empty(epochs)
        self.state.costs, self.state.scores = <double *>address(costs), <double *>address(scores)
        self.outputs = costs, scores
        return 0

    def seen(self):
        """(costs, scores) of the held-out examples after the epochs of the last call; empty where there are none."""
        count = self.state.seen if self.state.space is not NULL else 0
        return tuple(values[:count].tolist() for values in self.outputs)

    def best(self):
        """(epoch, value) of the best one so far, or None."""
        return (self.best_.epoch, self.best_.value) if self.state.best is not NULL and self.best_.epoch >= 0 else None

    def over(self):
        """Whether there has been no better one for long enough."""
        return self.state.best is not NULL and self.best_.over


# How a training ended, as `Status` counts.
STATUSES = ("done", "diverged", "interrupted", "abandoned", "lost", "empty")


cdef const double *table_of(dict tables, str name, Py_ssize_t count) except? NULL:
    """A table of numbers by step, or NULL where there is none."""
    if tables is None or name not in tables:
        return NULL
    return <const double *>vector_from(name, tables[name], cnp.NPY_DOUBLE, count)


cdef class Average:
    """The average of θ over the steps of a training, in float64. `decay`: of a moving one; None: the mean.

    Steps count while `counts` says so.
    """
    cdef AverageOfSteps state
    cdef readonly object theta

    def __cinit__(self, Engine engine, decay):
        self.theta = np.zeros(engine.plan.count)
        self.state.theta = <double *>vector_from("theta", self.theta, cnp.NPY_DOUBLE, engine.plan.count)
        self.state.decay, self.state.steps, self.state.counts = -1 if decay is None else decay, 0, False

    @property
    def steps(self):
        return self.state.steps

    @property
    def counts(self):
        return self.state.counts

    @counts.setter
    def counts(self, bint counts):
        self.state.counts = counts


cdef class TrainJob:
    """Epochs of one network with all they need. One that has begun can't begin again.

    There is an epoch for each entry of `rates`, which has at least one; costs, seconds (and right, squares where the
    score is wanted) are vectors that the epochs are written to. With `keep_last` θ is, after a failure, what it was
    after the last whole epoch. With a numpy.random.RandomState as `source` the examples are shuffled as its `shuffle`
    would, epoch by epoch going on from what `order` holds. With `patience` or `between` it ends where these say so.
    With `drop_last` a last, smaller batch is left out. `by_step`: vectors of the numbers that change from step to step,
    one entry a step of these epochs, of "rate" and "decay"; of "dropout" one a step and layer. `ranks`: the processes
    that train together, each with its own examples, which are dealt to the steps then. `average`: what follows θ.
    """
    cdef Engine engine
    cdef Run run
    cdef tuple memory               # that the run points to
    cdef readonly bint begun        # whether its epochs have been entered

    def __init__(self, Engine engine, X, Y, labels, w, *, rates, batch_size, shuffle, order, update, numbers, keep_last,
                 costs, seconds, right=None, squares=None, source=None, double loss_scale=1, bint by_count=False,
                 Patience patience=None, Between between=None, bint drop_last=False, dict by_step=None,
                 Reducer ranks=None, Average average=None):
        cdef Run *run = &self.run
        cdef Py_ssize_t epochs = len(rates), m, steps
        self.engine = engine
        memset(run, 0, sizeof(run[0]))
        run.data = engine.data_of(X, Y, labels, w)
        m = run.data.m
        run.plan, run.status, run.last_cost = &engine.plan, DONE, float("nan")
        run.epochs, run.batch_size = epochs, min(<Py_ssize_t>batch_size, m)
        if ranks is not None:
            run.ranks, run.batch_size = &ranks.ranks, max(ranks.largest_share(m), 1)
            engine.plan.key = ranks.key
        run.used = m - m % run.batch_size if drop_last and ranks is None else m
        engine.prepare_training(&run.optimizer, update, numbers, run.batch_size)
        run.workspaces = engine.spaces_for(run.batch_size)
        if keep_last:
            engine.keep()
            run.kept = &engine.kept
        run.space, run.dtheta = &engine.workspace.space, address(engine.dtheta)
        run.slots = NULL if engine.slots is None else address(engine.slots)
        run.epoch, run.step, run.t = engine.epoch, engine.step, engine.t
        run.rates = <const double *>vector_from("rates", rates, cnp.NPY_DOUBLE, epochs)
        steps = epochs * steps_of(run)
        run.step_rates = table_of(by_step, "rate", steps)
        run.step_decays = table_of(by_step, "decay", steps)
        run.step_dropouts = table_of(by_step, "dropout", steps * engine.plan.L)
        run.costs = <double *>vector_from("costs", costs, cnp.NPY_DOUBLE, epochs)
        run.seconds = <double *>vector_from("seconds", seconds, cnp.NPY_DOUBLE, epochs)
        if right is not None:
            run.right = <double *>vector_from("right", right, cnp.NPY_DOUBLE, epochs)
        if squares is not None:
            run.squares = <double *>vector_from(
                "squares", squares.reshape(-1), cnp.NPY_DOUBLE, epochs * engine.plan.n_y)
        if shuffle:
            run.order = <int64_t *>vector_from("order", order, cnp.NPY_INT64, m)
        if source is not None:
            engine.source = source._bit_generator
            run.draw_order, run.owner = draw_order, <void *>engine
        run.loss_scale, run.by_count = loss_scale, by_count
        run.patience = NULL if patience is None else &patience.counts
        if between is not None:
            between.begin(epochs)
            between.state.ranks = run.ranks
            run.between = &between.state
        if average is not None:
            if average.theta.shape[0] != engine.plan.count:
                raise ValueError(f"an average of {average.theta.shape[0]} parameters of {engine.plan.count}")
            run.average = &average.state
        self.memory = (
            X, Y, labels, w, held(X, Y, w), rates, by_step, order, costs, seconds, right, squares, patience,
            between, average, engine.workspace, engine.workspaces, engine.dtheta, engine.slots, engine.s1, engine.s2,
            engine.kept_theta, engine.kept_s1, engine.kept_s2, ranks)

    cdef int conclude(self) except -1:
        """What the epochs have changed goes back to the engine."""
        self.engine.epoch, self.engine.step, self.engine.t = self.run.epoch, self.run.step, self.run.t
        if self.run.status != DONE and self.run.kept is not NULL:
            self.engine.rollback()
        if self.run.status == LOST:
            self.engine.dtheta = None               # MPI may still write there
        return 0

    def outcome(self):
        """How it ended, as a dict."""
        return {"status": STATUSES[self.run.status], "done": self.run.done, "batch": self.run.batch,
                "last_cost": self.run.last_cost, "weight": self.run.weight, "examples": self.run.examples}


cdef struct Jobs:
    Run **runs
    Watch *watch
    void *scratch                   # the caller's


cdef void run_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    """One network on one thread. The caller looks at the signals, the others at what it found."""
    cdef Jobs *jobs = <Jobs *>job_
    cdef Watch follower = follower_of(jobs.watch)
    cdef Team alone
    alone.threads, alone.scratch = 1, scratch
    if not jobs.watch.stop:
        jobs.runs[part].status = run_epochs(
            jobs.runs[part], &alone, jobs.watch if scratch == jobs.scratch else &follower)


def train_together(list jobs, threads=None):
    """Runs jobs, at least one: one network with all threads, several with a thread for each at a time.

    Where one has a Python function for its loss, the caller runs all of them. What a signal handler or such a function
    raised meanwhile is raised at the end, the first network's error where there are several.
    """
    cdef Py_ssize_t count = len(jobs), i
    cdef Team team, sharing
    cdef Jobs shared
    cdef Watch watch
    cdef TrainJob one = jobs[0]
    # signals reach the main thread alone, and a daemon may outlive the interpreter
    watch.look, watch.owner, watch.leader, watch.stop = look_for_signals, <void *>one.engine, NULL, False
    watch.looked = nnk_seconds() if get_ident() == main_thread().ident else INFINITY
    shared.runs, shared.watch = <Run **>malloc(count * sizeof(Run *)), &watch
    if shared.runs is NULL:
        raise MemoryError(f"no memory for {count} networks")
    try:
        team = sharing = form_team(number_of_threads(threads))
    except MemoryError:
        free(shared.runs)
        raise
    shared.scratch = team.scratch
    for i in range(count):
        one = jobs[i]
        shared.runs[i], one.engine.running, one.begun = &one.run, True, True
        if one.engine.function is not None:
            sharing.threads = 1
    with nogil:
        if count == 1:
            shared.runs[0].status = run_epochs(shared.runs[0], &team, &watch)
        else:
            share_out(run_part, &shared, count, True, &sharing)
    free(shared.runs)
    dissolve(&team)
    for one in jobs:
        one.engine.running = False
        one.conclude()
    errors = [(<TrainJob>one).engine.take_pending() for one in jobs]
    for error in errors:
        if error is not None:
            raise error
