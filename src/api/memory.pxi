# Memory of one call or one training.

def aligned_empty(Py_ssize_t count, dtype):
    """A vector, not written to, whose first entry is on a 64-byte boundary.

    numpy asks for large pages where a vector is large, which spares most of the page faults of its first use.
    """
    itemsize = np.dtype(dtype).itemsize
    memory = np.empty(count * itemsize + ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start:start + count * itemsize].view(dtype)


cdef cnp.ndarray new_bytes(Py_ssize_t count):
    """Bytes, not written to."""
    cdef cnp.npy_intp shape = count
    return cnp.PyArray_EMPTY(1, &shape, cnp.NPY_UINT8, 0)


def aligned_zeros(Py_ssize_t count, dtype):
    """Likewise, of zeros."""
    vector = aligned_empty(count, dtype)
    vector[:] = 0
    return vector


def held(*arrays):
    """What keeps the memory of the arrays where it is as long as it lives: weak references.

    numpy resizes no array that has any; a view alone doesn't hinder it where its check of references is turned off.
    """
    references = []
    for array in arrays:
        while isinstance(array, ndarray) and isinstance(array.base, ndarray):
            array = array.base
        if isinstance(array, ndarray):
            references.append(weakref.ref(array))
    return references


cdef object copied(vector, into):
    """A copy of a vector, or of None; written into `into` where that is one."""
    if vector is None:
        return None
    if into is None:
        into = aligned_empty(len(vector), vector.dtype)
    into[:] = vector
    return into


cdef object copy_of(const void *A, Py_ssize_t n, Py_ssize_t m, dtype):
    """A contiguous matrix as an array."""
    array = np.empty((n, m), dtype, order="F")
    memcpy(address(array), A, array.nbytes)
    return array


cdef class WorkspaceHolder:
    """The activations and their gradients for `capacity` examples at a time, in one block of memory."""
    cdef Workspace space
    cdef object memory

    def __cinit__(self, Engine engine, Py_ssize_t capacity):
        cdef nnk_arena arena
        memset(&arena, 0, sizeof(arena))
        lay_out(&self.space, &engine.plan, capacity, &arena)
        self.memory = aligned_empty(arena.used, np.uint8)
        arena.base, arena.size, arena.used = <char *>address(self.memory), arena.used, 0
        lay_out(&self.space, &engine.plan, capacity, &arena)


cdef class ForwardPass:
    """What a `forward` leaves for `backward`."""
    cdef WorkspaceHolder holder
    cdef object array, held         # whose memory X is, and what keeps it there
    cdef Matrix X                   # as it was: the array's owner may give it another shape
    cdef bint training, taken
    cdef uint64_t step              # keys dropout

    def __cinit__(self, Engine engine, X, bint training):
        self.array, self.held, self.X = X, held(X), examples_from(engine, X)
        self.holder = WorkspaceHolder(engine, self.X.m)
        self.training, self.step = training, engine.step

    @property
    def examples(self):
        return self.X.m

    cdef int take(self) except -1:
        """For one `backward` at a time: it writes between the activations."""
        with cython.critical_section(self):
            if self.taken:
                raise RuntimeError("backward is going on already for the examples of the last forward")
            self.taken = True
        return 0
