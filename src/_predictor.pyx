# A frozen network: weights packed for prediction (packed.h), whole or reduced, and the shortest way from X to A[L].
#
# Nothing of a Packed is written after it was made, and what a call needs is its own: any number of threads may be here.
# What the numbers mean, and what users hand in, is predictor.py's affair.

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

cimport nnk
cimport numpy as cnp
from nnkern._kernels cimport (
    Matrix, Team, contiguous, dissolve, form_team, forward_rows, kernel_table, matrix_of, number_of_threads, real,
    share_out,
)
from arrays cimport disjoint, lies_well
from blas cimport nnk_blas_single_thread

import numpy as np

from nnkern._engine import aligned_empty

cnp.import_array()

cdef object ndarray = np.ndarray

# Types that weights may be kept in: the type of the arithmetic, and how they are packed for it
WEIGHTS = {
    "float32": (np.float32, nnk.NNK_whole),
    "float64": (np.float64, nnk.NNK_whole),
    "bfloat16": (np.float32, nnk.NNK_bfloat16),
    "int8": (np.float32, nnk.NNK_int8),
}

cdef enum:
    ALIGNMENT = 64
    # activations of a block of examples that shall stay in a second-level cache, and fewest examples of a block
    BLOCK_BYTES = 1 << 19
    BLOCK_COLUMNS = 256
    # activations of one example up to which they stand on the stack
    STACK_BYTES = 1 << 14
    # examples from which widening reduced weights for a matrix product pays; fewer are taken one by one
    WIDENING_COLUMNS = 8
    # weights of a layer from which one example is shared out among threads, and from which it wakes them
    PARALLEL_WEIGHTS = 1 << 18
    WAKING_WEIGHTS = 2500000
    # multiply-adds of a call, a microsecond or so, for which the GIL is worth giving away
    RELEASING_WORK = 1 << 14

cdef struct PackedLayer:
    nnk.nnk_packed weights
    const void *b                   # (n) or NULL
    int activation
    double slope

cdef struct PackedPlan:
    int itemsize
    const nnk.nnk_table *table
    Py_ssize_t L, n_x, n_y, widest
    bint reduced
    PackedLayer *layers


cdef struct VectorJob:
    const nnk.nnk_table *table
    const nnk.nnk_packed *weights
    const void *x
    void *z


cdef void vector_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const VectorJob *job = <const VectorJob *>job_
    job.table.packed_times_vector(job.z, job.weights, job.x, part)


cdef inline void times_vector(
    real *z, const PackedPlan *plan, const nnk.nnk_packed *weights, const real *x, const Team *team,
) noexcept nogil:
    """z = W x"""
    cdef VectorJob job
    cdef Py_ssize_t parts = plan.table.packed_parts(weights), size = weights.n * weights.n_prev, part
    if parts == 1 or team.threads == 1 or size < PARALLEL_WEIGHTS:
        for part in range(parts):
            plan.table.packed_times_vector(z, weights, x, part)
        return
    job.table, job.weights, job.x, job.z = plan.table, weights, x, z
    share_out(vector_part, &job, parts, size >= WAKING_WEIGHTS, team)


cdef inline void activate(
    real *A, const PackedPlan *plan, const PackedLayer *layer, Py_ssize_t m,
) noexcept nogil:
    """A = g(A + b)"""
    cdef Py_ssize_t n = layer.weights.n
    if layer.b is not NULL or layer.activation != nnk.NNK_linear:
        plan.table.forward[layer.activation](A, n, A, n, layer.b, layer.slope, n, m)


cdef void predict_one(real *out, const PackedPlan *plan, const real *x, real *space, int threads) noexcept nogil:
    """A[L] (n_y) of one example x (n_x). `space`: two activations."""
    cdef Py_ssize_t l
    cdef real *A
    cdef Team team
    team.threads, team.scratch = threads, NULL
    for l in range(plan.L):
        A = out if l == plan.L - 1 else space + l % 2 * plan.widest
        times_vector(A, plan, &plan.layers[l].weights, x, &team)
        activate(A, plan, &plan.layers[l], 1)
        x = A


cdef void forward_layer(
    real *A, const PackedPlan *plan, const PackedLayer *layer, const real *A_prev, Py_ssize_t m, void *widened,
    const Team *team,
) noexcept nogil:
    """A (n, m) = g(W A_prev + b), all contiguous. `widened`: NNK_UNPACKED_BYTES where weights are reduced."""
    cdef const nnk.nnk_packed *weights = &layer.weights
    cdef Py_ssize_t parts = plan.table.packed_parts(weights), n = weights.n, n_prev = weights.n_prev, part, k, j, depth
    # softmax wants whole columns
    cdef bint apart = (plan.reduced and m < WIDENING_COLUMNS) or (layer.activation == nnk.NNK_softmax and parts > 1)
    cdef bint last
    cdef nnk.nnk_block block
    cdef const real *b
    cdef Matrix W, rows
    if plan.reduced and m < WIDENING_COLUMNS:
        for j in range(m):
            times_vector(A + j * n, plan, weights, A_prev + j * n_prev, team)
        parts = 0
    for part in range(parts):
        k = 0
        while k < n_prev:
            depth = min(<Py_ssize_t>nnk.NNK_UNPACKED_DEPTH, n_prev - k) if plan.reduced else n_prev
            last = k + depth == n_prev and not apart
            plan.table.unpacked(&block, weights, part, k, depth, widened)
            W.data, W.n, W.m, W.row, W.column = block.data, block.n, depth, block.row, block.column
            rows = contiguous(A_prev + k, n_prev, m)
            rows.n = depth
            b = <const real *>layer.b + block.first if last and layer.b is not NULL else NULL
            forward_rows(A + block.first, n, layer.activation if last else <int>nnk.NNK_linear, layer.slope, &W, &rows,
                         <real>(1 if k else 0), b, team)
            k += depth
    if apart:
        activate(A, plan, layer, m)


cdef void predict_blocks(
    real *out, Py_ssize_t out_row, Py_ssize_t out_column, const PackedPlan *plan, const Matrix *X, Py_ssize_t width,
    char *widened, real *space, const Team *team,
) noexcept nogil:
    """A[L] of all columns of X. `space`: two activations and, where X isn't in columns, one block of it, of `width`."""
    cdef Py_ssize_t first = 0, l, c
    cdef bint whole = out_row == 1 and out_column == plan.n_y
    cdef const real *A_prev
    cdef real *A = NULL
    nnk_blas_single_thread()
    while first < X.m:
        c = min(width, X.m - first)
        A_prev = <const real *>X.data + first * X.column
        if X.row != 1 or X.column != plan.n_x:
            plan.table.gather(space + 2 * plan.widest * width, A_prev, X.row, X.column, NULL, plan.n_x, c)
            A_prev = space + 2 * plan.widest * width
        for l in range(plan.L):
            A = out + first * plan.n_y if whole and l == plan.L - 1 else space + l % 2 * plan.widest * width
            forward_layer(A, plan, &plan.layers[l], A_prev, c, widened, team)
            A_prev = A
        if not whole:
            plan.table.scatter(out + first * out_column, out_row, out_column, A, plan.n_y, c)
        first += width


cdef int predict_matrix(
    real *out, Py_ssize_t out_row, Py_ssize_t out_column, const PackedPlan *plan, const Matrix *X, int threads,
) except -1:
    """out := A[L] of at least one example."""
    cdef char local[STACK_BYTES]
    cdef Py_ssize_t width = min(X.m, max(<Py_ssize_t>BLOCK_COLUMNS, BLOCK_BYTES // (plan.widest * plan.itemsize)))
    cdef bint one = X.m == 1 and X.row == 1 and (out_row == 1 or plan.n_y == 1)
    cdef size_t widened = nnk.NNK_UNPACKED_BYTES if plan.reduced and X.m >= WIDENING_COLUMNS else 0
    cdef size_t bytes_ = (2 * plan.widest + (0 if one else plan.n_x)) * width * sizeof(real) + widened
    cdef Py_ssize_t l
    cdef double work = 0
    cdef char *memory = NULL
    cdef char *space
    cdef Team team
    if bytes_ + ALIGNMENT > STACK_BYTES:
        memory = <char *>malloc(bytes_ + ALIGNMENT)
        if memory is NULL:
            raise MemoryError(f"no {bytes_} bytes for the activations of {width} examples")
    space = <char *>((<uintptr_t>(memory if memory is not NULL else local) + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT)
    if one:
        for l in range(plan.L):
            work += <double>plan.layers[l].weights.n * plan.layers[l].weights.n_prev
        if work < RELEASING_WORK:
            predict_one(out, plan, <const real *>X.data, <real *>space, 1)
        else:
            with nogil:
                predict_one(out, plan, <const real *>X.data, <real *>space, threads)
        free(memory)
        return 0
    try:
        team = form_team(threads)
    except MemoryError:
        free(memory)
        raise
    with nogil:
        predict_blocks(out, out_row, out_column, plan, X, width, space, <real *>(space + widened), &team)
        free(memory)
        dissolve(&team)
    return 0


cdef object _predict(const PackedPlan *plan, const real[:, :] X_view, real[:, :] out_view, int threads):
    cdef Matrix X = matrix_of(X_view)
    predict_matrix(&out_view[0, 0], out_view.strides[0] // <Py_ssize_t>sizeof(real),
                   out_view.strides[1] // <Py_ssize_t>sizeof(real), plan, &X, threads)


cdef object _unpack(real[::1, :] W, const PackedPlan *plan, const nnk.nnk_packed *weights, void *scratch):
    """W (n, n_prev) := the weights that are computed with."""
    cdef Py_ssize_t part, k, i, j, depth
    cdef nnk.nnk_block block
    for part in range(plan.table.packed_parts(weights)):
        for k in range(0, weights.n_prev, nnk.NNK_UNPACKED_DEPTH):
            depth = min(<Py_ssize_t>nnk.NNK_UNPACKED_DEPTH, weights.n_prev - k)
            plan.table.unpacked(&block, weights, part, k, depth, scratch)
            for j in range(depth):
                for i in range(block.n):
                    W[block.first + i, k + j] = (<const real *>block.data)[i * block.row + j * block.column]


cdef inline size_t aligned_size(size_t bytes_) noexcept:
    return (bytes_ + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


cdef class Packed:
    """The weights of one network, packed, and prediction by them.

    `layers`: a list of (W, b or None, code of the activation, slope); `weights`: one of WEIGHTS; `threads`: at most so
    many a call, None for the default of that moment. A subclass has `_judge(X, out)`: the arrays of an X and of an
    `out`, which may be None, that `predict` can't take as they lie.
    """
    cdef PackedPlan plan
    cdef int number                 # numpy's of the type of the arithmetic
    cdef int most_threads           # 0: the default of the moment
    cdef object memory
    cdef readonly object dtype, threads
    cdef readonly str weights

    def __cinit__(self, list layers, str weights, threads):
        cdef PackedLayer *layer
        cdef Py_ssize_t l
        cdef size_t need = 0
        cdef char *at
        self.most_threads = 0 if threads is None else number_of_threads(threads)
        dtype, code = WEIGHTS[weights]
        self.weights, self.threads, self.dtype = weights, threads, np.dtype(dtype)
        self.number = self.dtype.num
        self.plan.itemsize = self.dtype.itemsize
        self.plan.table = <const nnk.nnk_table *>kernel_table(self.plan.itemsize)
        self.plan.L, self.plan.reduced = len(layers), code != nnk.NNK_whole
        self.plan.layers = <PackedLayer *>calloc(self.plan.L, sizeof(PackedLayer))
        if self.plan.layers is NULL:
            raise MemoryError("no memory for the layers")
        for l, (W, b, activation, slope) in enumerate(layers):
            layer = &self.plan.layers[l]
            layer.activation, layer.slope = activation, slope
            layer.weights.weights = code
            layer.weights.n, layer.weights.n_prev = W.shape
            need += self.bytes_of(layer, b is not None)
            self.plan.widest = max(self.plan.widest, layer.weights.n)
        self.plan.n_x = self.plan.layers[0].weights.n_prev
        self.plan.n_y = self.plan.layers[self.plan.L - 1].weights.n
        self.memory = aligned_empty(need, np.uint8)
        at = <char *><uintptr_t>self.memory.ctypes.data
        for l, (W, b, _, _) in enumerate(layers):
            layer = &self.plan.layers[l]
            layer.weights.W = at
            at += aligned_size(self.plan.table.packed_bytes(&layer.weights))
            if code == nnk.NNK_int8:
                layer.weights.scale = at
                at += aligned_size(layer.weights.n * self.plan.itemsize)
            W = np.asfortranarray(W, self.dtype)
            self.plan.table.pack_weights(&layer.weights, <const void *><uintptr_t>W.ctypes.data)
            if b is not None:
                b = np.ascontiguousarray(b, self.dtype)
                layer.b = at
                memcpy(at, <const void *><uintptr_t>b.ctypes.data, b.nbytes)
                at += aligned_size(b.nbytes)

    cdef size_t bytes_of(self, const PackedLayer *layer, bint use_bias) noexcept:
        cdef size_t vector = aligned_size(layer.weights.n * self.plan.itemsize)
        return (aligned_size(self.plan.table.packed_bytes(&layer.weights)) + (vector if use_bias else 0)
                + (vector if layer.weights.weights == nnk.NNK_int8 else 0))

    def __dealloc__(self):
        free(self.plan.layers)

    @property
    def n_x(self):
        """Number of features."""
        return self.plan.n_x

    @property
    def n_y(self):
        """Number of outputs."""
        return self.plan.n_y

    @property
    def nbytes(self):
        """Bytes of the packed weights, biases and scales."""
        return self.memory.nbytes

    @property
    def parameters(self):
        """{"W1": (n[1], n_x) array, "b1": (n[1], 1) array, …}: copies of what is computed with."""
        cdef const PackedLayer *layer
        cdef Py_ssize_t l
        cdef void *scratch = malloc(nnk.NNK_UNPACKED_BYTES)
        if scratch is NULL:
            raise MemoryError("no memory to widen weights in")
        result = {}
        try:
            for l in range(self.plan.L):
                layer = &self.plan.layers[l]
                W = np.empty((layer.weights.n, layer.weights.n_prev), self.dtype, "F")
                if self.plan.itemsize == 4:
                    _unpack[float](W, &self.plan, &layer.weights, scratch)
                else:
                    _unpack[double](W, &self.plan, &layer.weights, scratch)
                result[f"W{l + 1}"] = W
                if layer.b is not NULL:
                    b = np.empty((layer.weights.n, 1), self.dtype)
                    memcpy(<void *><uintptr_t>b.ctypes.data, layer.b, b.nbytes)
                    result[f"b{l + 1}"] = b
        finally:
            free(scratch)
        return result

    def predict(self, X, out=None):
        """A[L] for the examples in X.

        Parameters
        ----------
        X : (n_x, m) array
            One example a column. An array of the predictor's dtype whose columns are contiguous goes the shortest way.
        out : (n_y, m) array of the predictor's dtype, optional

        Returns
        -------
        A : (n_y, m) array

        Raises
        ------
        ValueError, TypeError
            As `nnkern.Network.predict`. NaN is let through.
        """
        return self.run(X, out)

    def __call__(self, X, out=None):
        """The same as `predict`."""
        return self.run(X, out)

    cdef object run(self, X, out):
        cdef cnp.npy_intp shape[2]
        cdef Matrix X_
        cdef cnp.ndarray A
        cdef int threads = self.most_threads or number_of_threads(None)
        if type(X) is not ndarray or not lies_well(X, self.number, self.plan.n_x):
            return self.run_judged(X, out, threads)
        shape[0], shape[1] = self.plan.n_y, cnp.PyArray_DIM(X, 1)
        if out is None:
            A = cnp.PyArray_EMPTY(2, shape, self.number, 1)
        elif type(out) is ndarray and lies_well(out, self.number, shape[0]) and cnp.PyArray_ISWRITEABLE(out):
            A = out
            if cnp.PyArray_DIM(A, 1) != shape[1] or not disjoint(
                    <char *>cnp.PyArray_DATA(A), cnp.PyArray_NBYTES(A), <char *>cnp.PyArray_DATA(X),
                    cnp.PyArray_NBYTES(X)):
                return self.run_judged(X, out, threads)
        else:
            return self.run_judged(X, out, threads)
        X_ = contiguous(cnp.PyArray_DATA(X), self.plan.n_x, shape[1])
        if self.plan.itemsize == 4:
            predict_matrix(<float *>cnp.PyArray_DATA(A), 1, shape[0], &self.plan, &X_, threads)
        else:
            predict_matrix(<double *>cnp.PyArray_DATA(A), 1, shape[0], &self.plan, &X_, threads)
        return A

    cdef object run_judged(self, X, out, int threads):
        X, out = self._judge(X, out)
        if self.plan.itemsize == 4:
            _predict[float](&self.plan, X, out, threads)
        else:
            _predict[double](&self.plan, X, out, threads)
        return out

    def __reduce__(self):
        raise TypeError("a predictor can't be pickled: pickle the network, and compile it where it is loaded")
