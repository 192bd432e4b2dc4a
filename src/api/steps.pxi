# Steps one at a time, for a training loop of one's own: gradients of a batch, and a step with them.

cdef struct Place:
    Py_ssize_t n, m, at             # shape of a parameter that learns, and its place in θ


cdef bint has_entries_from(const Matrix *Y, int itemsize, double low, double high) noexcept:
    """Whether all entries are finite and in [low, high]."""
    cdef Py_ssize_t i, j
    cdef double y
    for j in range(Y.m):
        for i in range(Y.n):
            at = i * Y.row + j * Y.column
            y = (<const float *>Y.data)[at] if itemsize == 4 else (<const double *>Y.data)[at]
            if not (isfinite(y) and low <= y <= high):
                return False
    return True


cdef bint has_columns_of_one(const Matrix *Y, int itemsize) noexcept:
    """Whether every column sums to 1 as nearly as validation asks it of classes."""
    cdef Py_ssize_t i, j, at
    cdef double total
    for j in range(Y.m):
        total = 0
        for i in range(Y.n):
            at = i * Y.row + j * Y.column
            total += (<const float *>Y.data)[at] if itemsize == 4 else (<const double *>Y.data)[at]
        if not fabs(total - 1) <= 1e-3:
            return False
    return True


cdef bint is_finite(const Compute *compute, const Matrix *X) noexcept:
    """Whether all entries are finite; False as well where neither rows nor columns lie without gaps."""
    cdef Matrix A = X[0]
    cdef Py_ssize_t j, runs, length
    if not has_contiguous_columns(&A):
        A = transposed(&A)
    if not has_contiguous_columns(&A):
        return False
    runs, length = A.m, A.n
    if is_contiguous(&A):
        runs, length = 1, A.n * A.m
    for j in range(runs):
        if compute.table.first_nonfinite(<char *>A.data + j * A.column * compute.itemsize, length) != length:
            return False
    return True


ctypedef fused label_type:
    int64_t
    int32_t
    uint8_t


cdef bint take_labels(int64_t *out, const label_type *labels, Py_ssize_t m, Py_ssize_t n_classes) noexcept:
    """Copies labels, which their owner may change meanwhile; whether all name a class."""
    cdef Py_ssize_t j
    for j in range(m):
        out[j] = labels[j]
        if not 0 <= out[j] < n_classes:
            return False
    return True


cdef bint take_labels_of(int64_t *out, cnp.ndarray labels, Py_ssize_t m, Py_ssize_t n_classes) noexcept:
    """The same of an array (m,) of a usual type for labels; False for others."""
    cdef int number = cnp.PyArray_TYPE(labels)
    if not (cnp.PyArray_NDIM(labels) == 1 and cnp.PyArray_DIM(labels, 0) == m and cnp.PyArray_ISCARRAY_RO(labels)):
        return False
    if number == cnp.NPY_INT64:
        return take_labels(out, <const int64_t *>cnp.PyArray_DATA(labels), m, n_classes)
    if number == cnp.NPY_INT32:
        return take_labels(out, <const int32_t *>cnp.PyArray_DATA(labels), m, n_classes)
    if number == cnp.NPY_UINT8:
        return take_labels(out, <const uint8_t *>cnp.PyArray_DATA(labels), m, n_classes)
    return False


cdef class Stepper:
    """Gradients of batches of one network, and steps with them, in memory that is kept from call to call.

    `low`, `high`: what targets must lie between; `score`: the loss's, which says how labels stand for them.
    """
    cdef Engine engine
    cdef WorkspaceHolder holder     # of the last batch, or None while it is in use
    cdef double low, high
    cdef bint classes, sides        # labels are classes of n_y units; they are the two sides of one unit
    cdef list names                 # "dW1", … of what learns
    cdef Place *places

    def __cinit__(self, Engine engine, double low, double high, str score):
        cdef Py_ssize_t l, k
        cdef Layer *layer
        self.engine, self.low, self.high, self.names = engine, low, high, []
        self.classes, self.sides = score == "argmax", score == "sides" and engine.plan.n_y == 1
        self.places = <Place *>malloc(engine.plan.L * MOST_PARAMETERS * sizeof(Place))
        if self.places is NULL:
            raise MemoryError("no memory for the names of parameters")
        for l in range(engine.plan.L):
            layer = &engine.plan.layers[l]
            for k in range(layer.count if layer.trainable else 0):
                one = &layer.parameters[k]
                self.places[len(self.names)] = Place(one.n, one.m, one.at)
                self.names.append(f"d{one.name.decode()}{l + 1}")

    def __dealloc__(self):
        free(self.places)

    def fast(self, X, Y, bint training):
        """(J, {"dW1": view, …}) where X and Y are arrays that need no validation and no conversion; else None.

        For small batches: validation takes longer than the arithmetic.
        """
        cdef Engine engine = self.engine
        cdef const Plan *plan = &engine.plan
        cdef Data data
        cdef WorkspaceHolder holder = None
        if type(X) is not ndarray or type(Y) is not ndarray or plan.loss == NNK_LOSSES or not self.names:
            return None
        if not fits(X, engine.number, plan.n_x):
            return None
        memset(&data, 0, sizeof(data))
        data.X = matrix_of_array(X)
        check_codes(engine, &data.X)
        engine.enter_reading()
        try:
            _references = held(X, Y)
            holder = self.take(data.X.m)
            if holder.space.capacity < data.X.m:
                return None
            if not self.takes_targets(&data, Y, holder.space.labels):
                return None
            set_layouts(&data)
            return self.of_batch(&data, holder, training)
        finally:
            self.holder = holder
            engine.leave_reading()

    cdef bint takes_targets(self, Data *data, cnp.ndarray Y, int64_t *labels):
        """Puts targets to the examples, labels copied to `labels`; whether they need no validation, no conversion."""
        cdef const Plan *plan = &self.engine.plan
        cdef int itemsize = plan.compute.itemsize
        cdef Py_ssize_t j, m = data.X.m
        cdef double side
        cdef float narrow
        if fits(Y, self.engine.number, plan.n_y) and cnp.PyArray_DIM(Y, 1) == m:
            if self.classes and plan.n_y == 1:
                return False        # labels or targets: validation tells them apart
            data.Y = matrix_of_array(Y)
            return has_entries_from(&data.Y, itemsize, self.low, self.high) and (
                not self.classes or has_columns_of_one(&data.Y, itemsize))
        if not (self.classes or self.sides) or not take_labels_of(labels, Y, m, 2 if self.sides else plan.n_y):
            return False
        if self.classes:
            data.labels = labels
            return True
        for j in range(m):          # targets of one unit take the labels' place; they are no larger
            side, narrow = labels[j], <float>labels[j]
            memcpy(<char *>labels + j * itemsize, <void *>&narrow if itemsize == 4 else <void *>&side, itemsize)
        data.Y = contiguous(labels, 1, m)
        return True

    def train(self, X, Y, str update, dict numbers, double rate):
        """A step of a training on one batch, to the bits of `Engine.train`; its cost before it, NaN of a divergence.

        None where X and Y aren't arrays that need no validation and no conversion.
        """
        cdef Engine engine = self.engine
        cdef Plan *plan = &engine.plan
        cdef Run run
        cdef Watch watch
        cdef Team team
        cdef double cost, seconds
        if type(X) is not ndarray or type(Y) is not ndarray or plan.loss == NNK_LOSSES or not self.names:
            return None
        if not fits(X, engine.number, plan.n_x):
            return None
        memset(&run, 0, sizeof(run))
        run.data.X = matrix_of_array(X)
        check_codes(engine, &run.data.X)
        if not is_finite(plan.compute, &run.data.X):
            return None
        engine.enter_training()
        try:
            _references = held(X, Y)
            run.plan, run.last_cost, run.epochs = plan, float("nan"), 1
            run.used = run.batch_size = run.data.X.m
            engine.prepare_training(&run.optimizer, update, numbers, run.batch_size)
            if engine.workspace.space.capacity < run.batch_size:
                return None
            if not self.takes_targets(&run.data, Y, engine.workspace.space.labels):
                return None
            set_layouts(&run.data)
            run.workspaces, run.space = engine.spaces_for(run.batch_size), &engine.workspace.space
            run.dtheta, run.slots = address(engine.dtheta), NULL if engine.slots is None else address(engine.slots)
            run.epoch, run.step, run.t, run.loss_scale = engine.epoch, engine.step, engine.t, 1
            run.rates, run.costs, run.seconds = &rate, &cost, &seconds
            watch.look, watch.owner, watch.leader, watch.stop = look_for_signals, <void *>engine, NULL, False
            watch.looked = nnk_seconds() if get_ident() == main_thread().ident else INFINITY
            team = form_team(number_of_threads(None))
            engine.running = True
            with nogil:
                run.status = run_epochs(&run, &team, &watch)
                dissolve(&team)
            engine.running = False
            engine.epoch, engine.step, engine.t = run.epoch, run.step, run.t
            engine.raise_pending()
            return run.last_cost if run.status == DONE else float("nan")
        finally:
            engine.leave_training()

    def accepts(self, X):
        """Whether X is an array of examples that needs no validation and no conversion."""
        return type(X) is ndarray and fits(X, self.engine.number, self.engine.plan.n_x)

    def targets(self, Y, Py_ssize_t m):
        """(Y, labels) of m examples, one of them None, where they need no validation and no conversion; else None."""
        cdef Data data
        cdef cnp.npy_intp shape = m
        if type(Y) is not ndarray or self.engine.plan.loss == NNK_LOSSES:
            return None
        memset(&data, 0, sizeof(data))
        data.X.m = m
        labels = cnp.PyArray_EMPTY(1, &shape, cnp.NPY_INT64, 0)
        if not self.takes_targets(&data, Y, <int64_t *>cnp.PyArray_DATA(labels)):
            return None
        if data.labels is not NULL:
            return None, labels
        return (Y if cnp.PyArray_NDIM(Y) == 2 else labels.view(self.engine.dtype)[:m].reshape(1, m)), None

    def named(self, cnp.ndarray gradient):
        """{"dW1": view, …} of a gradient laid out as θ."""
        return self.views(gradient, <char *>cnp.PyArray_DATA(gradient))

    def gradients(self, X, Y, labels, w, bint training):
        """The same of validated data."""
        cdef Engine engine = self.engine
        cdef WorkspaceHolder holder = None
        cdef Data data
        engine.enter_reading()
        try:
            data = engine.data_of(X, Y, labels, w)
            _references = held(X, Y, w)
            holder = self.take(data.m)
            return self.of_batch(&data, holder, training)
        finally:
            self.holder = holder
            engine.leave_reading()

    cdef WorkspaceHolder take(self, Py_ssize_t m):
        """The workspace of the last batch where it is free and will do, else another one."""
        cdef Py_ssize_t width = training_width(&self.engine.plan, m)
        cdef WorkspaceHolder holder
        with cython.critical_section(self):
            holder, self.holder = self.holder, None
        # what is one block stays one in a larger workspace
        if holder is None or holder.space.capacity < width or (holder.space.capacity > width and width < m):
            holder = WorkspaceHolder(self.engine, width)
        return holder

    cdef object of_batch(self, const Data *data, WorkspaceHolder holder, bint training):
        cdef Engine engine = self.engine
        cdef Plan *plan = &engine.plan
        cdef Py_ssize_t l, k, slots = slots_for(data.m)
        cdef Batch batch = Batch(data, NULL, 0, data.m, 0)
        cdef Gradients g
        cdef Pass p
        cdef Team team
        cdef Layer *layer
        cdef double cost
        cdef char *dtheta
        memory = new_bytes(plan.count * plan.compute.itemsize + ALIGNMENT)
        dtheta = <char *>address(memory)
        dtheta += -<size_t>dtheta % ALIGNMENT
        more = aligned_zeros(slots * plan.count, engine.dtype) if slots else None
        if slots:
            memset(dtheta, 0, plan.count * plan.compute.itemsize)   # all of it is added up
        p.plan, p.space, p.team, p.watch = plan, &holder.space, &team, NULL
        p.training, p.step, p.dropouts = training, engine.step, NULL
        g.p, g.batch, g.weight, g.score, g.applied = &p, &batch, weight_of(plan, &batch), NULL, NULL
        g.workspaces, g.slots = NULL, NULL if more is None else address(more)
        team = form_team(number_of_threads(None))
        with nogil:
            cost = mean(batch_gradient(dtheta, &g, 0, data.m), g.weight)
            for l in range(plan.L):
                layer = &plan.layers[l]
                for k in range(layer.count if layer.trainable else 0):
                    cost += penalise(dtheta, plan, layer, &layer.parameters[k], layer.l2, layer.l1)
            cost += frozen_penalty(plan)
            dissolve(&team)
        engine.raise_pending()
        return cost, self.views(memory, dtheta)

    cdef dict views(self, memory, char *dtheta):
        """{"dW1": array, …} into memory that is laid out as θ."""
        cdef cnp.npy_intp shape[2]
        cdef Place *place
        cdef Py_ssize_t i
        views = {}
        for i in range(len(self.names)):
            place = &self.places[i]
            shape[0], shape[1] = place.n, place.m
            view = cnp.PyArray_New(
                ndarray, 2, shape, self.engine.number, NULL, dtheta + place.at * self.engine.plan.compute.itemsize, 0,
                cnp.NPY_ARRAY_FARRAY, None)
            cnp.set_array_base(view, memory)
            views[self.names[i]] = view
        return views

    def update(self, grads, str update, dict numbers, double rate):
        """A step where the gradients' arrays are beside each other as θ's are; whether they were.

        Those that `gradients` gave are, where none was replaced, and then nothing is copied.
        """
        cdef Optimizer optimizer
        cdef Engine engine = self.engine
        cdef int itemsize = engine.plan.compute.itemsize
        cdef char *dtheta = NULL
        cdef char *here
        cdef Place *place
        cdef Py_ssize_t i
        cdef Team team
        if type(grads) is not dict or len(<dict>grads) != len(self.names) or not self.names:
            return False
        arrays = list((<dict>grads).values())       # whatever becomes of the dict meanwhile
        _references = held(*arrays)
        for i in range(len(self.names)):
            place, array = &self.places[i], (<dict>grads).get(self.names[i])
            if type(array) is not ndarray or not in_own_layout(array, engine.number, place.n) or (
                    cnp.PyArray_DIM(array, 1) != place.m):
                return False
            here = <char *>cnp.PyArray_DATA(array) - place.at * itemsize
            if i > 0 and here != dtheta:
                return False
            dtheta = here
        engine.enter_training()
        try:
            engine.prepare_optimizer(&optimizer, update, numbers)
            if clips(&optimizer) or dtheta == <char *>engine.plan.theta or dtheta == <char *>optimizer.s1 or (
                    dtheta == <char *>optimizer.s2):
                return False        # clipping writes to the gradient; an update reads what isn't its own
            engine.apply(dtheta, &optimizer, rate)
        finally:
            engine.leave_training()
        return True


cdef bint fits(cnp.ndarray array, int number, Py_ssize_t n):
    """Whether native code can take an array (n, m), m > 0, of that type number as it is."""
    return (cnp.PyArray_TYPE(array) == number and cnp.PyArray_NDIM(array) == 2 and cnp.PyArray_DIM(array, 0) == n
            and cnp.PyArray_DIM(array, 1) > 0 and in_whole_entries(array))
