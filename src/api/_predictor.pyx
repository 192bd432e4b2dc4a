# A frozen network as Python has it: arrays to pack, arrays to predict; and what makes X of a table's numbers. The
# arithmetic is in src/engine/frozen.pxd; what the numbers mean, and what users hand in, is predictor.py's affair, and
# tabular/columns.py's.

from cython cimport floating
from libc.math cimport NAN, isinf, sqrt
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp
from api.arrays cimport address, disjoint, in_own_layout, matrix_from
from engine.frozen cimport (
    Frozen, FrozenLayer, FrozenPrediction, lay_out_frozen, predict_frozen, predict_one, set_blocks, set_costs_of_one,
)
from kernels.nnk cimport (
    NNK_UNPACKED_BYTES, NNK_UNPACKED_DEPTH, NNK_bfloat16, NNK_int8, NNK_whole, nnk_block, nnk_packed,
)
from nnkern._kernels cimport number_of_threads
from nnkern._matrix cimport Matrix, Team, contiguous
from nnkern._products cimport compute_type, dissolve, form_team, product_of
from runtime.arena cimport nnk_arena, nnk_arena_provide, nnk_arena_take

import numpy as np

from nnkern._engine import aligned_empty

cnp.import_array()

cdef object ndarray = np.ndarray

include "numbers.pxi"

# Types that weights may be kept in: the type of the arithmetic, and how they are packed for it
WEIGHTS = {
    "float32": (np.float32, NNK_whole),
    "float64": (np.float64, NNK_whole),
    "bfloat16": (np.float32, NNK_bfloat16),
    "int8": (np.float32, NNK_int8),
}

cdef enum:
    # what one example needs stands on the stack up to so many bytes
    STACK_BYTES = 1 << 14
    # multiply-adds of a call, a microsecond or so, for which the GIL is worth giving away
    RELEASING_WORK = 1 << 14


cdef int predict_matrix(const Matrix *A, const Frozen *net, const Matrix *X, int threads) except -1:
    """A := A[L] of at least one example."""
    cdef char local[STACK_BYTES]
    cdef FrozenPrediction to
    cdef nnk_arena arena
    cdef void *memory = NULL
    to.out, to.row, to.column = <void *>A.data, A.row, A.column
    set_blocks(&to, net, X)
    arena.base, arena.used, arena.size = NULL, 0, 0
    if to.one:
        arena.used = net.bytes_of_one
    else:
        lay_out_frozen(&to, net, X, &arena)
    if arena.used <= STACK_BYTES - 64:
        arena.base, arena.size, arena.used = <char *>((<uintptr_t>local + 63) // 64 * 64), arena.used, 0
    else:
        memory = nnk_arena_provide(&arena)
        if memory is NULL:
            raise MemoryError(f"no {arena.size} bytes for the activations of {to.width} examples")
    lay_out_frozen(&to, net, X, &arena)
    if not to.one:
        return predict_many(&to, net, X, threads, memory)
    if net.work_of_one < RELEASING_WORK:
        predict_one(&to, net, X.data, 1)
    else:
        with nogil:
            predict_one(&to, net, X.data, threads)
    free(memory)
    return 0


cdef int predict_many(
    const FrozenPrediction *to, const Frozen *net, const Matrix *X, int threads, void *memory,
) except -1:
    """The same in blocks; frees `memory`, whatever happens."""
    cdef Team team
    try:
        team = form_team(threads)
        with nogil:
            predict_frozen(to, net, X, &team)
            dissolve(&team)
    finally:
        free(memory)
    return 0


cdef void unpack(cnp.ndarray W, const Frozen *net, const nnk_packed *weights, void *widened) noexcept:
    """W (n, n_prev), in Fortran order, := the weights that are computed with."""
    cdef int itemsize = net.compute.itemsize
    cdef Py_ssize_t part, k, j, depth
    cdef char *to
    cdef nnk_block block
    for part in range(net.compute.table.packed_parts(weights)):
        for k in range(0, weights.n_prev, NNK_UNPACKED_DEPTH):
            depth = min(<Py_ssize_t>NNK_UNPACKED_DEPTH, weights.n_prev - k)
            net.compute.table.unpacked(&block, weights, part, k, depth, widened)
            for j in range(depth):
                to = <char *>address(W) + (block.first + (k + j) * weights.n) * itemsize
                net.compute.table.gather(
                    to, <const char *>block.data + j * block.column * itemsize, block.row, 0, NULL, block.n, 1)


cdef class Packed:
    """The weights of one network, packed, and prediction by them.

    `layers`: a list of (W, b or None, code of the activation, slope); `weights`: one of WEIGHTS; `threads`: at most so
    many a call, None for the default of that moment; `widens`: products are float32's in any case. A subclass has
    `validated(X, out)`: the arrays of an X and of an `out`, which may be None, that `predict` can't take as they are.
    """
    cdef Frozen net
    cdef int number                 # numpy's of the type of the arithmetic
    cdef int most_threads           # 0: the default of the moment
    cdef object memory
    cdef readonly object dtype, threads
    cdef readonly str weights

    def __cinit__(self, list layers, str weights, threads, bint widens=False):
        cdef FrozenLayer *layer
        cdef nnk_arena arena
        cdef Py_ssize_t l
        self.most_threads = 0 if threads is None else number_of_threads(threads)
        dtype, code = WEIGHTS[weights]
        self.weights, self.threads, self.dtype = weights, threads, np.dtype(dtype)
        self.number = self.dtype.num
        self.net.compute = compute_type(self.dtype.itemsize)
        self.net.L, self.net.reduced = len(layers), code != NNK_whole
        self.net.layers = <FrozenLayer *>calloc(self.net.L, sizeof(FrozenLayer))
        if self.net.layers is NULL:
            raise MemoryError("no memory for the layers")
        for l, (W, _, activation, slope) in enumerate(layers):
            layer = &self.net.layers[l]
            layer.activation, layer.slope, layer.weights.weights = activation, slope, code
            layer.weights.n, layer.weights.n_prev = W.shape
            if not widens and not self.net.compute.table.packed_by_rows(&layer.weights):
                layer.product = product_of(code)
            self.net.widest = max(self.net.widest, layer.weights.n)
        self.net.n_x = self.net.layers[0].weights.n_prev
        self.net.n_y = self.net.layers[self.net.L - 1].weights.n
        set_costs_of_one(&self.net)
        memset(&arena, 0, sizeof(arena))
        self.lay_out(layers, &arena)
        self.memory = aligned_empty(arena.used, np.uint8)
        arena.base, arena.size, arena.used = <char *>address(self.memory), arena.used, 0
        self.lay_out(layers, &arena)
        self.pack(layers)

    cdef int lay_out(self, list layers, nnk_arena *arena) except -1:
        """Takes the pieces from the arena; run without memory first, it tells how much there must be."""
        cdef FrozenLayer *layer
        cdef Py_ssize_t l, itemsize = self.net.compute.itemsize
        for l, (_, b, _, _) in enumerate(layers):
            layer = &self.net.layers[l]
            layer.weights.W = nnk_arena_take(arena, self.net.compute.table.packed_bytes(&layer.weights))
            if layer.weights.weights == NNK_int8:
                layer.weights.scale = nnk_arena_take(arena, layer.weights.n * itemsize)
            if b is not None:
                layer.b = nnk_arena_take(arena, layer.weights.n * itemsize)
        return 0

    cdef int pack(self, list layers) except -1:
        cdef FrozenLayer *layer
        cdef Py_ssize_t l
        for l, (W, b, _, _) in enumerate(layers):
            layer = &self.net.layers[l]
            W = np.asfortranarray(W, self.dtype)
            self.net.compute.table.pack_weights(&layer.weights, address(W))
            if b is not None:
                b = np.ascontiguousarray(b, self.dtype)
                memcpy(<void *>layer.b, address(b), b.nbytes)
        return 0

    def __dealloc__(self):
        free(self.net.layers)

    @property
    def n_x(self):
        """Number of features."""
        return self.net.n_x

    @property
    def n_y(self):
        """Number of outputs."""
        return self.net.n_y

    @property
    def nbytes(self):
        """Bytes of the packed weights, biases and scales."""
        return self.memory.nbytes

    @property
    def parameters(self):
        """{"W1": (n[1], n_x) array, "b1": (n[1], 1) array, …}: copies of what is computed with."""
        cdef const FrozenLayer *layer
        cdef Py_ssize_t l
        cdef void *widened = malloc(NNK_UNPACKED_BYTES)
        if widened is NULL:
            raise MemoryError("no memory to widen weights in")
        result = {}
        try:
            for l in range(self.net.L):
                layer = &self.net.layers[l]
                W = np.empty((layer.weights.n, layer.weights.n_prev), self.dtype, "F")
                unpack(W, &self.net, &layer.weights, widened)
                result[f"W{l + 1}"] = W
                if layer.b is not NULL:
                    b = np.empty((layer.weights.n, 1), self.dtype)
                    memcpy(address(b), layer.b, b.nbytes)
                    result[f"b{l + 1}"] = b
        finally:
            free(widened)
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
        cdef Matrix X_, A_
        cdef cnp.ndarray A
        if type(X) is not ndarray or not in_own_layout(X, self.number, self.net.n_x):
            return self.run_validated(X, out)
        X_ = contiguous(cnp.PyArray_DATA(X), self.net.n_x, cnp.PyArray_DIM(X, 1))
        shape[0], shape[1] = self.net.n_y, X_.m
        if out is None:
            A = cnp.PyArray_EMPTY(2, shape, self.number, 1)
        elif type(out) is ndarray and in_own_layout(out, self.number, shape[0]) and cnp.PyArray_ISWRITEABLE(out):
            A = out
            if cnp.PyArray_DIM(A, 1) != X_.m or not disjoint(A, cnp.PyArray_DATA(X), cnp.PyArray_NBYTES(X)):
                return self.run_validated(X, out)
        else:
            return self.run_validated(X, out)
        A_ = contiguous(cnp.PyArray_DATA(A), self.net.n_y, X_.m)
        predict_matrix(&A_, &self.net, &X_, self.most_threads or number_of_threads(None))
        return A

    cdef object run_validated(self, X, out):
        X, out = self.validated(X, out)
        cdef Matrix X_ = matrix_from("X", X, self.number, self.net.n_x)
        cdef Matrix A = matrix_from("out", out, self.number, self.net.n_y)
        if A.m != X_.m:
            raise ValueError(f"out has {A.m} columns, X {X_.m}")
        if X_.m:
            predict_matrix(&A, &self.net, &X_, self.most_threads or number_of_threads(None))
        return out

    def __reduce__(self):
        raise TypeError("a predictor can't be pickled: pickle the network, and compile it where it is loaded")
