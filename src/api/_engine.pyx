# The engine as Python has it: one network's parameters θ, their gradient dθ, the optimizer's state and the workspace.
#
# Here are arrays, who may enter, exceptions and signals; the arithmetic is below, in src/engine. What the numbers mean
# (names, shapes, defaults, histories) is the affair of the Python above, which has validated what users handed in; here
# it is checked that memory agrees: dtypes and dimensions, read once, of arrays whose owner may change them meanwhile.

from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.pythread cimport PyThread_get_thread_ident
from libc.math cimport INFINITY, fabs, isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cimport cython
cimport numpy as cnp
from engine.average cimport Average as AverageOfSteps
from engine.between cimport (
    MONITOR_COST, MONITOR_VAL_COST, MONITOR_VAL_ERROR, MONITOR_VAL_SCORE, Best, Between as BetweenEpochs, r2_of,
)
from engine.blocks cimport CHUNK_COLUMNS, slots_for
from engine.data cimport Batch, Data, Examples, gathered, is_sparse, set_layouts, shape_only, weight_of
from engine.encode cimport Category, Encoders, Number, codes_of
from engine.epochs cimport Kept, Patience as PatienceCounts, Run, enough, run_epochs, shuffle_from, steps_of
from engine.gradient cimport (
    WORKERS, Gradients, Score, batch_gradient, mean, retained_gradient, slots_of_batch, training_width, worth_workers,
)
from engine.inference cimport (
    INVARIANT_WIDTH, Prediction, evaluate_blocks, lay_out_prediction, predict_blocks, predict_invariantly,
    predict_width,
)
from engine.kinds cimport KINDS, list_kinds
from engine.optimizer cimport Optimizer, begin_step, clips
from engine.passes cimport Pass, forward_pass
from engine.plan cimport MOST_PARAMETERS, Kind, Layer, Parameter, Plan, entries_of
from engine.ranks cimport MEETING_ENTRIES, Ranks
from engine.step cimport apply_update, frozen_penalty, penalise, penalty_of
from engine.watch cimport DONE, LOST, Watch, follower_of
from engine.workspace cimport Workspace, lay_out
from kernels.nnk cimport (
    NNK_LOSSES, NNK_UPDATES, NNK_linear, NNK_score_squares, bitgen_t, nnk_activation_facts, nnk_loss_facts, nnk_number,
    nnk_shuffle, nnk_sparse, nnk_update_facts,
)
from nnkern._kernels cimport number_of_threads
from nnkern._matrix cimport Matrix, Team, contiguous, fits_blas, has_contiguous_columns, is_contiguous, transposed
from nnkern._products cimport Compute, compute_named, dissolve, form_team, share_out
from runtime.arena cimport nnk_arena, nnk_arena_provide
from runtime.system cimport nnk_seconds, nnk_yield
from api.arrays cimport address, disjoint, in_own_layout, in_whole_entries, matrix_from, matrix_of_array, vector_from

import os
import weakref
from threading import get_ident, main_thread

import numpy as np

from nnkern._kernels import LOSSES

cnp.import_array()

cdef object ndarray = np.ndarray

# Codes of the updates and of the kinds of layers, by the names that Python has for them.
UPDATES = {nnk_update_facts[i].name.decode(): i for i in range(NNK_UPDATES)}
cdef Kind kinds[KINDS]
list_kinds(kinds)
LAYER_KINDS = {kinds[i].name.decode(): i for i in range(KINDS)}

cdef enum:
    ALIGNMENT = 64


cdef bint look_for_signals(void *owner) noexcept with gil:
    return (<Engine>owner).signalled()


cdef bint draw_order(void *owner, int64_t *order, Py_ssize_t m) noexcept with gil:
    return (<Engine>owner).draw_order(order, m)


cdef double call_loss(
    void *owner, const void *A, void *dA, const void *Y, const void *w, double scale, Py_ssize_t m,
) noexcept with gil:
    """On the thread that has called for it, never on one of the pool's: these have small stacks."""
    return (<Engine>owner).call_loss(A, dA, Y, w, scale, m)


include "entrance.pxi"
include "memory.pxi"
include "encoders.pxi"
include "sparse.pxi"
include "ranks.pxi"


# ---------------------------------------------------------------------------------------------------------------------
# The engine

cdef class Engine(Entrance):
    """One network's parameters and everything that is done to them in native code.

    `layers`: a list of dicts with kind, n, n_prev, activation (its code), slope, dropout, l2, l1, use_bias, trainable,
    and rates and held: {"W": number, …} of the parameters for which these aren't 1 (see Parameter);
    `loss`: its name, or a function (A, Y) -> (cost, dA) with the name of the loss that it is `scored_as`; `parameter`:
    its number; `compute`: the compute type's name.
    """
    cdef Plan plan
    cdef int number                         # numpy's of the dtype
    cdef readonly object theta, dtype
    cdef public uint64_t epoch, step        # of the network's life: they key shuffling and dropout
    cdef public uint64_t t                  # steps since the optimizer's state was fresh
    cdef object dtheta, s1, s2, slots
    cdef object kept_theta, kept_s1, kept_s2    # what a failed epoch goes back to
    cdef Kept kept                          # where they are, and the counts then
    cdef WorkspaceHolder workspace          # of the last training
    cdef list workspaces                    # further ones beside it, for workers side by side
    cdef Workspace *worker_spaces[WORKERS]
    cdef readonly ForwardPass retained      # the last one
    cdef object function                    # the loss where it is a Python function
    cdef EncodersOf encoders                # of the first layer, or None
    cdef object source                      # numpy's generator that shuffles the present training
    cdef bint running                       # whether a training is inside native code

    def __cinit__(self, list layers, dtype, loss, double parameter, uint64_t key, str compute):
        self.dtype = np.dtype(dtype)
        self.number = self.dtype.num
        self.plan.compute = compute_named(compute)
        self.plan.key, self.plan.owner, self.plan.parameter = key, <void *>self, parameter
        self.plan.layers = <Layer *>calloc(len(layers), sizeof(Layer))
        if self.plan.layers is NULL:
            raise MemoryError("no memory for the layers")
        self.set_layers(layers)
        self.plan.loss, self.plan.score = NNK_LOSSES, NNK_score_squares
        if callable(loss):
            self.function, self.plan.custom_loss = loss, call_loss
            self.plan.score = nnk_loss_facts[<Py_ssize_t>list(LOSSES).index(loss.scored_as)].score
        else:
            self.plan.loss = list(LOSSES).index(loss)
            self.plan.score = nnk_loss_facts[self.plan.loss].score
        self.plan.matched = self.plan.layers[self.plan.L - 1].activation == (
            nnk_loss_facts[self.plan.loss].output if self.plan.loss < NNK_LOSSES else NNK_linear)
        self.theta = aligned_zeros(self.plan.count, self.dtype)
        self.plan.theta = address(self.theta)

    cdef int set_layers(self, list layers) except -1:
        cdef Plan *plan = &self.plan
        cdef Layer *layer
        cdef Parameter *one
        cdef Py_ssize_t l, p, per_line = ALIGNMENT // plan.compute.itemsize
        plan.L = plan.first_trainable = len(layers)
        for l, config in enumerate(layers):
            layer = &plan.layers[l]
            layer.kind = &kinds[<Py_ssize_t>LAYER_KINDS[config["kind"]]]
            if l > 0:
                layer.ones_prev, layer.codes_prev = plan.layers[l - 1].ones, plan.layers[l - 1].codes
            layer.ones = config.get("ones", 0)
            layer.n, layer.n_prev = config["n"], config["n_prev"] - layer.ones_prev
            layer.activation = config["activation"]
            layer.mixes = config.get("mix", False)
            layer.slope, layer.dropout = config["slope"], config["dropout"]
            layer.l2, layer.l1 = config["l2"], config["l1"]
            layer.use_bias, layer.trainable = config["use_bias"], config["trainable"]
            layer.reads_Z = layer.mixes or nnk_activation_facts[layer.activation].derivative_reads_Z
            if "encoders" in config:
                self.encoders = EncodersOf(self.dtype, *config["encoders"])
                layer.details = &self.encoders.all
            layer.kind.describe(layer)
            for p in range(layer.count):
                # each parameter begins on a cache line of its own
                one = &layer.parameters[p]
                one.at, one.rate = plan.count, config.get("rates", {}).get(one.name.decode(), 1)
                one.held = config.get("held", {}).get(one.name.decode(), 1)
                plan.count += (entries_of(one) + per_line - 1) // per_line * per_line
            if layer.trainable and plan.first_trainable == plan.L:
                plan.first_trainable = l
        plan.n_x, plan.n_y = plan.layers[0].n_prev, plan.layers[plan.L - 1].n
        return 0

    def __dealloc__(self):
        free(self.plan.layers)

    @property
    def n_x(self):
        return self.plan.n_x

    @property
    def key(self):
        """Keys shuffling and dropout."""
        return self.plan.key

    def segments(self):
        """(l, name, shape, offset, whether it decays) of every parameter in θ, in order; l counts from 1."""
        cdef Parameter *one
        cdef Py_ssize_t l, p
        result = []
        for l in range(self.plan.L):
            for p in range(self.plan.layers[l].count):
                one = &self.plan.layers[l].parameters[p]
                result.append((l + 1, one.name.decode(), (one.n, one.m), one.at, one.decays))
        return result

    def views(self, block):
        """{"W1": view, "b1": view, …} of a vector laid out as θ."""
        return {
            f"{name}{l}": block[at:at + n * m].reshape((n, m), order="F")
            for l, name, (n, m), at, _ in self.segments()}

    # Python that native code calls; its errors wait for the end of that call

    cdef bint draw_order(self, int64_t *order, Py_ssize_t m) noexcept:
        """Shuffles by numpy's generator, which other threads may draw from too; False where waiting was interrupted."""
        cdef bitgen_t *source
        try:
            source = <bitgen_t *>PyCapsule_GetPointer(self.source.capsule, "BitGenerator")
            with self.source.lock:
                with nogil:
                    shuffle_from(source, order, m)
        except BaseException as error:
            self.pending[get_ident()] = error
            return False
        return True

    cdef double call_loss(
        self, const void *A, void *dA, const void *Y, const void *w, double scale, Py_ssize_t m,
    ) noexcept:
        """The loss that is a Python function; what it raises waits, the cost is NaN then."""
        cdef Py_ssize_t n = self.plan.n_y
        if get_ident() in self.pending:
            return float("nan")         # the call is to fail anyhow
        try:
            # copies: the function may keep them
            cost, derivative = self.function(copy_of(A, n, m, self.dtype), copy_of(Y, n, m, self.dtype))
            cost, derivative = np.asarray(cost, np.float64), np.asarray(derivative, self.dtype)
            if derivative.shape != (n, m):
                raise ValueError(f"the loss function gave a derivative of shape {derivative.shape} "
                                 f"for A of shape ({n}, {m})")
            if cost.shape != (m,) and (cost.shape != () or w is not NULL):
                raise ValueError(f"the loss function gave a cost of shape {cost.shape}: expected ({m},), one an example"
                                 + ("" if w is not NULL else ", or their mean"))
            if w is not NULL:
                weights = copy_of(w, 1, m, self.dtype)[0]
                cost, derivative = cost * weights, derivative * weights
            derivative = np.array(derivative * scale, self.dtype, order="F")
            memcpy(dA, address(derivative), derivative.nbytes)
            return cost.sum() if cost.shape else cost * m
        except BaseException as error:
            self.pending[get_ident()] = error
            return float("nan")

    cdef int lose_threads(self, bint training) except -1:
        """Whoever was in here has gone with a fork; `training`: a training of another thread too."""
        if self.retained is not None:
            self.retained.taken = False
        if training and self.running and self.kept.written:
            self.rollback()
        self.running = self.running and not training
        return 0

    # Prediction and evaluation

    def check_examples(self, X):
        """Refuses validated examples that the first layer can't be given."""
        examples_from(self, X)

    def predict(self, X, out=None, threads=None, bint invariant=False):
        """A[L] of validated examples X (n_x, m); `invariant`: a column's bits depend on that column alone."""
        cdef int most_threads = number_of_threads(threads)
        cdef nnk_sparse sparse
        cdef Matrix X_ = inputs_from(self, X, &sparse), A
        refuse_invariance(&sparse, invariant)
        if out is None:
            out = np.empty((self.plan.n_y, X_.m), self.dtype, "F")
        A = matrix_from("out", out, self.number, self.plan.n_y)
        _references = held(X, out)
        if A.m != X_.m:
            raise ValueError(f"out has {A.m} columns, X {X_.m}")
        self.enter_reading()
        try:
            self.predict_matrix(&A, &X_, &sparse, most_threads, invariant)
        finally:
            self.leave_reading()
        return out

    def predict_fast(self, X, out, threads):
        """The same where X and `out` (or None) are arrays that need no validation and no conversion; else None.

        For one example and small networks: validation takes longer than the arithmetic.
        """
        cdef cnp.npy_intp shape[2]
        cdef Matrix X_, A_
        cdef nnk_sparse dense = NO_ENTRIES
        cdef cnp.ndarray A
        if type(X) is not ndarray or not in_own_layout(X, self.number, self.plan.n_x):
            return None
        X_ = contiguous(cnp.PyArray_DATA(X), self.plan.n_x, cnp.PyArray_DIM(X, 1))
        check_codes(self, &X_)
        shape[0], shape[1] = self.plan.n_y, X_.m
        if out is None:
            A = cnp.PyArray_EMPTY(2, shape, self.number, 1)
        elif type(out) is ndarray and in_own_layout(out, self.number, shape[0]) and cnp.PyArray_ISWRITEABLE(out):
            A = out
            if cnp.PyArray_DIM(A, 1) != X_.m or not disjoint(A, cnp.PyArray_DATA(X), cnp.PyArray_NBYTES(X)) or (
                    not disjoint(A, self.plan.theta, self.plan.count * self.plan.compute.itemsize)):
                return None
        else:
            return None
        A_ = contiguous(cnp.PyArray_DATA(A), self.plan.n_y, X_.m)
        self.enter_reading()
        try:
            self.predict_matrix(&A_, &X_, &dense, number_of_threads(threads), False)
        finally:
            self.leave_reading()
        return A

    cdef int predict_matrix(self, const Matrix *A, const Matrix *X, const nnk_sparse *sparse, int threads,
                            bint invariant) except -1:
        cdef Prediction to
        cdef nnk_arena arena
        cdef Team team
        cdef void *memory
        if X.m == 0:
            return 0
        to.out, to.row, to.column = <void *>A.data, A.row, A.column if A.m > 1 else self.plan.n_y
        to.width = <Py_ssize_t>INVARIANT_WIDTH if invariant else predict_width(&self.plan, X.m)
        to.sparse, to.gathers = sparse, invariant or not (is_sparse(sparse) or fits_blas(X))
        memset(&arena, 0, sizeof(arena))
        lay_out_prediction(&to, &self.plan, &arena)
        team = form_team(threads)
        memory = nnk_arena_provide(&arena)
        if memory is NULL:
            dissolve(&team)
            raise MemoryError(f"no {arena.size} bytes for the activations of {to.width} examples")
        lay_out_prediction(&to, &self.plan, &arena)
        with nogil:
            if invariant:
                predict_invariantly(&to, &self.plan, X, &team)
            else:
                predict_blocks(&to, &self.plan, X, &team)
            free(memory)
            dissolve(&team)
        return 0

    cdef Data data_of(self, X, Y, labels, w) except *:
        """What they are at this moment; refused where they don't agree."""
        cdef Data data
        memset(&data, 0, sizeof(data))
        data.X = inputs_from(self, X, &data.sparse)
        self.set_targets(&data, Y, labels, w, data.X.m)
        return data

    cdef int set_targets(self, Data *data, Y, labels, w, Py_ssize_t m) except -1:
        if labels is None:
            data.Y = matrix_from("Y", Y, self.number, self.plan.n_y)
            if data.Y.m != m:
                raise ValueError(f"Y has {data.Y.m} columns, X {m}")
        else:
            data.labels = <const int64_t *>vector_from("labels", labels, cnp.NPY_INT64, m)
        if w is not None:
            data.w = vector_from("w", w, self.number, m)
        set_layouts(data)
        return 0

    def evaluate(self, X, Y, labels, w, threads=None):
        """cost without penalty, Σ w of the right examples, Σ w (ŷ - y)² per output (an array, or None), Σ w."""
        cdef int most_threads = number_of_threads(threads)
        cdef Data data = self.data_of(X, Y, labels, w)
        cdef list _references = held(X, Y, w)
        cdef WorkspaceHolder holder
        cdef double[::1] squares = np.zeros(self.plan.n_y) if self.plan.score == NNK_score_squares else None
        cdef Score score
        cdef double cost, total = 0
        cdef Team team
        cdef Pass p
        self.enter_reading()
        try:
            holder = WorkspaceHolder(self, predict_width(&self.plan, data.m))
            score.right, score.squares = 0, NULL if squares is None else &squares[0]
            team = form_team(most_threads)
            p.plan, p.space, p.team, p.watch, p.training, p.step = &self.plan, &holder.space, &team, NULL, False, 0
            p.dropouts = NULL
            with nogil:
                cost = evaluate_blocks(&p, &data, &score, &total)
                dissolve(&team)
            self.raise_pending()
        finally:
            self.leave_reading()
        return cost / total if total > 0 else 0.0, score.right, None if squares is None else np.asarray(squares), total

    def penalty(self):
        """l2/2 Σ_l ‖W[l]‖² + l1 Σ_l Σ|W[l]|"""
        cdef double total = 0
        cdef Py_ssize_t l
        for l in range(self.plan.L):
            total += penalty_of(&self.plan, &self.plan.layers[l])
        return total

    # A step at a time

    def forward(self, X, bint training):
        """A[L] of X, whose activations are kept for `backward`."""
        cdef ForwardPass made
        cdef Examples block
        cdef Layer *last = &self.plan.layers[self.plan.L - 1]
        cdef Py_ssize_t n = self.plan.n_y
        cdef Team team
        cdef Pass p
        cdef void *A
        self.enter_reading()
        try:
            made = ForwardPass(self, X, training)
            out = np.empty((n, made.X.m), self.dtype, "F")
            A = address(out)
            block.X, block.first, block.sparse.starts = made.X, 0, NULL
            team = form_team(number_of_threads(None))
            p.plan, p.space, p.team, p.watch = &self.plan, &made.holder.space, &team, NULL
            p.training, p.step, p.dropouts = training, made.step, NULL
            with nogil:
                if not fits_blas(&block.X):
                    block.X = gathered(p.plan, p.space.X, &made.X, NULL, made.X.m, &team)
                forward_pass(&p, &block, True)
                # where the loss is matched, that has left Z[L], which the loss kernel wants
                p.plan.compute.table.forward[last.activation if p.plan.matched else NNK_linear](
                    A, n, p.space.layers[p.plan.L - 1].A, n, NULL, last.slope, n, block.X.m)
                dissolve(&team)
            self.retained = made
            return out
        finally:
            self.leave_reading()

    def backward(self, ForwardPass made, Y, labels, w):
        """The gradient of the cost for the examples of that `forward`, a vector laid out as θ."""
        self.enter_reading()
        try:
            made.take()
            try:
                return self.gradient_of(made, Y, labels, w)
            finally:
                made.taken = False
        finally:
            self.leave_reading()

    cdef object gradient_of(self, ForwardPass made, Y, labels, w):
        cdef Py_ssize_t m = made.X.m
        cdef Data data
        cdef Batch batch
        cdef WorkspaceHolder holder
        cdef Matrix X = made.X
        cdef Team team
        cdef Pass p
        cdef void *dtheta
        cdef void *slots
        memset(&data, 0, sizeof(data))
        self.set_targets(&data, Y, labels, w, m)
        # views of one chunk at a time, or of the only one
        holder = WorkspaceHolder(self, 0) if m > CHUNK_COLUMNS else made.holder
        gradient = aligned_zeros(self.plan.count, self.dtype)
        more = aligned_zeros(slots_for(m) * self.plan.count, self.dtype)
        dtheta, slots = address(gradient), address(more)
        if not fits_blas(&X):
            X = contiguous(made.holder.space.X, self.plan.n_x, m)       # left there by the forward pass
        batch = Batch(&data, NULL, 0, m, 0)
        team = form_team(number_of_threads(None))
        p.plan, p.space, p.team, p.watch = &self.plan, &made.holder.space, &team, NULL
        p.training, p.step, p.dropouts = made.training, made.step, NULL
        with nogil:
            retained_gradient(dtheta, &p, &batch, &X, &holder.space, slots)
            dissolve(&team)
        self.raise_pending()
        return gradient

    def loss_gradient(self, X, Y, labels, w, threads=None):
        """Mean loss over X, and its gradient laid out as θ (the next call writes over it); no penalty, no dropout."""
        cdef int most_threads = number_of_threads(threads)
        cdef Data data = self.data_of(X, Y, labels, w)
        cdef Batch batch
        cdef Optimizer none
        cdef Gradients g
        cdef Pass p
        cdef Team team
        cdef void *dtheta
        cdef double loss
        self.prepare_training(&none, "sgd", {}, data.m)
        dtheta = address(self.dtheta)
        batch = Batch(&data, NULL, 0, data.m, 0)
        team = form_team(most_threads)
        p.plan, p.space, p.team, p.watch = &self.plan, &self.workspace.space, &team, NULL
        p.training, p.step, p.dropouts = False, 0, NULL
        g.p, g.batch, g.weight, g.score, g.applied = &p, &batch, weight_of(&self.plan, &batch), NULL, NULL
        g.workspaces, g.slots = self.spaces_for(data.m), NULL if self.slots is None else address(self.slots)
        with nogil:
            loss = mean(batch_gradient(dtheta, &g, 0, data.m), g.weight)
            dissolve(&team)
        self.raise_pending()
        return loss, self.dtheta

    def update(self, gradient, str update, dict numbers, double rate):
        """One step of an optimizer with a gradient laid out as θ, its penalty included."""
        cdef Optimizer optimizer
        cdef void *dtheta = vector_from("gradient", gradient, self.number, self.plan.count)
        self.prepare_optimizer(&optimizer, update, numbers)
        self.apply(dtheta, &optimizer, rate)

    cdef int apply(self, void *dtheta, Optimizer *optimizer, double rate) except -1:
        cdef Team team = form_team(number_of_threads(None))
        optimizer.rate = rate
        self.t += 1
        begin_step(optimizer, self.t)
        self.step += 1
        apply_update(dtheta, &self.plan, optimizer, False, NULL, &team)
        dissolve(&team)
        return 0

    # The optimizer's state, and what a training needs

    def fresh_state(self):
        """Forgets the optimizer's state."""
        self.t = 0
        self.s1 = self.s2 = self.kept_s1 = self.kept_s2 = None

    def state(self):
        """The optimizer's state: (t, s1, s2), the vectors None where there are none."""
        return self.t, self.s1, self.s2

    def restore_state(self, t, s1, s2):
        """Takes over what `state` gave; the vectors are copied, for they will be written to."""
        for vector in (s1, s2):
            if vector is not None and (vector.shape != (self.plan.count,) or vector.dtype != self.dtype):
                raise ValueError(f"the optimizer's state must have shape ({self.plan.count},) and dtype {self.dtype}; "
                                 f"got {vector.shape}, {vector.dtype}")
        self.t, self.s1, self.s2 = t, copied(s1, None), copied(s2, None)

    cdef int prepare_optimizer(self, Optimizer *o, str update, dict numbers) except -1:
        memset(o, 0, sizeof(o[0]))
        o.update = UPDATES[update]
        o.momentum, o.beta1, o.beta2 = numbers.get("momentum", 0), numbers.get("beta1", 0), numbers.get("beta2", 0)
        o.eps, o.weight_decay = numbers.get("eps", 0), numbers.get("weight_decay", 0)
        o.raw_eps, o.l2_of_sum = numbers.get("raw_eps", False), numbers.get("l2_of_sum", 0)
        o.clip_value, o.clip_norm = numbers.get("clip_value", INFINITY), numbers.get("clip_norm", INFINITY)
        if self.dtheta is None:
            # with room for what goes with a gradient to other processes
            self.dtheta = aligned_zeros(self.plan.count + MEETING_ENTRIES, self.dtype)[:self.plan.count]
        if self.s1 is None and nnk_update_facts[o.update].has_s1:
            self.s1 = aligned_zeros(self.plan.count, self.dtype)
        if self.s2 is None and nnk_update_facts[o.update].has_s2:
            self.s2 = aligned_zeros(self.plan.count, self.dtype)
        # a state that the update doesn't have is never read or written: θ stands for it
        o.s1 = self.plan.theta if self.s1 is None else address(self.s1)
        o.s2 = self.plan.theta if self.s2 is None else address(self.s2)
        return 0

    cdef int prepare_training(self, Optimizer *o, str update, dict numbers, Py_ssize_t batch) except -1:
        """The optimizer, and memory for batches of that size.

        It is kept from call to call: fresh memory costs more than it takes to fill it.
        """
        cdef Py_ssize_t width = training_width(&self.plan, batch), slots = slots_of_batch(&self.plan, batch, width)
        self.prepare_optimizer(o, update, numbers)
        if self.workspace is None or self.workspace.space.capacity != width:
            self.workspace = self.workspaces = None
            self.workspace = WorkspaceHolder(self, width)
        if slots and (self.slots is None or len(self.slots) < slots * self.plan.count):
            self.slots = aligned_empty(slots * self.plan.count, self.dtype)
        return 0

    cdef Workspace **spaces_for(self, Py_ssize_t batch) except? NULL:
        """Workspaces for workers side by side where they are worth it for such a batch, else NULL."""
        cdef Py_ssize_t i, width = self.workspace.space.capacity
        cdef WorkspaceHolder holder
        if not worth_workers(&self.plan, batch, width):
            return NULL
        if self.workspaces is None:
            self.workspaces = [WorkspaceHolder(self, width) for _ in range(WORKERS - 1)]
        for i in range(WORKERS):
            holder = self.workspace if i == 0 else self.workspaces[i - 1]
            self.worker_spaces[i] = &holder.space
        return self.worker_spaces

    def keep(self):
        """Notes θ, the optimizer's state and the counters as what a failed epoch goes back to."""
        self.kept_theta = copied(self.theta, self.kept_theta)
        self.kept_s1, self.kept_s2 = copied(self.s1, self.kept_s1), copied(self.s2, self.kept_s2)
        self.kept.theta = address(self.kept_theta)
        self.kept.s1 = NULL if self.kept_s1 is None else address(self.kept_s1)
        self.kept.s2 = NULL if self.kept_s2 is None else address(self.kept_s2)
        self.kept.epoch, self.kept.step, self.kept.t, self.kept.written = self.epoch, self.step, self.t, 1

    def rollback(self):
        """Brings back what `keep` noted, or the last whole epoch after it."""
        self.theta[:] = self.kept_theta
        self.s1, self.s2 = copied(self.kept_s1, self.s1), copied(self.kept_s2, self.s2)
        self.epoch, self.step, self.t = self.kept.epoch, self.kept.step, self.kept.t

    def train(self, X, Y, labels, w, *, threads=None, **how):
        """Epochs over (X, Y), see TrainJob; how they ended, as a dict."""
        job = TrainJob(self, X, Y, labels, w, **how)
        train_together([job], threads)
        return job.outcome()


include "jobs.pxi"
include "steps.pxi"
