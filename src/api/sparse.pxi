# Sparse examples: X (n_x, m) of which only the entries that aren't zero are kept, example by example.

cdef class SparseColumns:
    """X (n, m) from compressed sparse columns; what tells where in memory to look is checked, and copied.

    Parameters
    ----------
    n : int
    starts : (m + 1,) integers
        Column j has the entries starts[j] … starts[j + 1] - 1.
    rows : (count,) integers
        Of each entry.
    values : (count,) float32 or float64
    """
    cdef readonly tuple shape
    cdef readonly object dtype, starts, rows, values
    cdef nnk_sparse entries

    def __init__(self, Py_ssize_t n, starts, rows, values):
        self.starts = np.array(starts, np.int64, order="C")
        taken = np.array(rows, order="C")
        self.values = np.array(values, order="C")
        self.dtype = self.values.dtype
        if self.starts.ndim != 1 or len(self.starts) < 1 or taken.ndim != 1 or self.values.shape != taken.shape:
            raise ValueError(
                f"sparse examples need vectors, rows and values of one length; got starts {self.starts.shape}, rows "
                f"{taken.shape}, values {self.values.shape}")
        if taken.size and not 0 <= taken.min() <= taken.max() < n:
            raise ValueError(f"sparse examples of {n} features name row {taken.min()} and row {taken.max()}")
        if self.starts[0] != 0 or self.starts[len(self.starts) - 1] != taken.size or (np.diff(self.starts) < 0).any():
            raise ValueError(f"the columns of sparse examples must start in order from 0 to {taken.size}")
        self.rows = taken.astype(np.int32, copy=False)
        self.shape = n, len(self.starts) - 1
        for array in (self.starts, self.rows, self.values):
            array.flags.writeable = False
        self.entries = nnk_sparse(
            <const int64_t *>address(self.starts), <const int32_t *>address(self.rows), address(self.values), NULL, 0)


cdef nnk_sparse NO_ENTRIES = nnk_sparse(NULL, NULL, NULL, NULL, 0)


cdef Matrix inputs_from(Engine engine, X, nnk_sparse *sparse) except *:
    """X as it is at this moment, of which `sparse` tells the entries or nothing; refused where the first layer,
    or its dtype, doesn't go with it."""
    cdef SparseColumns given
    sparse[0] = NO_ENTRIES
    if not isinstance(X, SparseColumns):
        return examples_from(engine, X)
    given = X
    if given.dtype != engine.dtype:
        raise TypeError(f"X must be in the network's dtype; got sparse {given.dtype}")
    if given.shape[0] != engine.plan.n_x:
        raise ValueError(f"X has {given.shape[0]} features, the network {engine.plan.n_x}")
    if not engine.plan.layers[0].kind.takes_sparse:
        raise ValueError(f"sparse X needs a Dense layer first; the first is {engine.plan.layers[0].kind.name.decode()}")
    sparse[0] = given.entries
    return shape_only(given.shape[0], given.shape[1])


cdef int refuse_invariance(const nnk_sparse *sparse, bint invariant) except -1:
    """Blocks of equal shape are what it is made of, and sparse ones are none."""
    if invariant and is_sparse(sparse):
        raise ValueError("sparse X can't be predicted invariantly: pass X.toarray()")
    return 0
