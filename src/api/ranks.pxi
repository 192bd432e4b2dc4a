# Sums over the processes that train one network together: by MPI's own functions, whose addresses Python has found in
# the library that is loaded, or by a function of Python. MPI's sum is begun, and then asked for again and again whether
# it has ended: the one that waits by itself would wait for ever for a process that has died.

ctypedef int (*MpiTest)(void *request, int *flag, void *status) noexcept nogil

# A handle of MPI is an int in MPICH and its kin, a pointer in Open MPI.
ctypedef int (*StartByInts)(
    const void *out, void *block, int count, int type, int sum, int comm, void *request) noexcept nogil
ctypedef int (*StartByPointers)(
    const void *out, void *block, int count, void *type, void *sum, void *comm, void *request) noexcept nogil

cdef enum:
    # entries of a block that is summed at once, and of a piece of a longer one: pieces stay in the caches, which halves
    # the time of 25 million entries, and takes a third longer than a whole block of 670,000
    LONGEST_WHOLE = 1 << 20
    PIECE = 1 << 18
    TESTS_BETWEEN_LOOKS = 64        # at the clock
    WAITING_MILLISECONDS = 50       # between two calls of what Python does while it waits
    STATUS_WORDS = 16               # room for MPI's status, of 20 or 24 bytes

cdef struct Mpi:
    size_t iallreduce, test, in_place       # addresses
    size_t comm, float_, double_, sum       # handles
    bint by_pointers


cdef bint sum_by_mpi(void *owner, void *block, Py_ssize_t count, int itemsize) noexcept nogil:
    return (<Reducer>owner).sum_pieces(block, count, itemsize)


cdef bint sum_by_python(void *owner, void *block, Py_ssize_t count, int itemsize) noexcept with gil:
    return (<Reducer>owner).call_function(block, count, itemsize)


cdef bint call_waiting(void *owner, double seconds) noexcept with gil:
    return (<Reducer>owner).call_waiting(seconds)


cdef class Reducer:
    """Sums blocks over all processes, in place, and knows whose examples a step has.

    `mpi`: a dict of addresses and handles as `Mpi` names them, or None; `function`: f(array) that sums in place, where
    there is no `mpi`; `waiting`: f(seconds), called now and then while the others are waited for, whether to give up.
    """
    cdef Ranks ranks
    cdef Mpi mpi
    cdef object function, waiting, shards
    cdef uint64_t key               # of dropout, for all processes
    cdef object error               # what these raised

    def __cinit__(self, Py_ssize_t rank, Py_ssize_t size, dict mpi, function, waiting):
        memset(&self.ranks, 0, sizeof(self.ranks))
        self.ranks.rank, self.ranks.size, self.ranks.owner = rank, size, <void *>self
        self.function, self.waiting = function, waiting
        self.ranks.reduce = sum_by_python
        if mpi is not None:
            self.mpi.iallreduce, self.mpi.test, self.mpi.in_place = mpi["iallreduce"], mpi["test"], mpi["in_place"]
            self.mpi.comm, self.mpi.float_, self.mpi.double_ = mpi["comm"], mpi["float"], mpi["double"]
            self.mpi.sum, self.mpi.by_pointers = mpi["sum"], mpi["pointers"]
            self.ranks.reduce = sum_by_mpi

    def deal(self, shards, Py_ssize_t steps, double mean_weight, bint weighted, key, *, bint direct):
        """Takes note of how many examples each process has, in how many steps an epoch goes through them, their mean
        weight over all, whether any has weights, the key of rank 0's network, and whether all epochs are the engine's.
        """
        self.shards = np.array(shards, np.int64)
        self.ranks.shards = <const int64_t *>vector_from("shards", self.shards, cnp.NPY_INT64, self.ranks.size)
        if steps < 1:
            raise ValueError(f"an epoch must have a step; got {steps}")
        self.ranks.steps, self.ranks.mean_weight, self.ranks.weighted = steps, mean_weight, weighted
        self.ranks.direct = direct
        # each process has its examples in another order
        self.key, self.ranks.key = key, <uint64_t>key + <uint64_t>self.ranks.rank

    def take_batches(self, double weight, key):
        """Takes note that each process has a batch of its own in each step, which weigh about so much together, and of
        the key of rank 0's network.
        """
        self.shards, self.ranks.shards, self.ranks.direct = None, NULL, False
        self.ranks.steps, self.ranks.mean_weight, self.ranks.weighted, self.key = 1, weight, True, key

    def largest_share(self, Py_ssize_t m):
        """The most of its m examples that this process has in a step."""
        return (m + self.ranks.steps - 1) // self.ranks.steps

    def interrupt(self, error):
        """The same, by an error that `take_error` gives; False where there is one already."""
        if self.error is not None:
            return False
        self.error, self.ranks.stop = error, True
        return True

    def fail(self):
        """The next step tells the others that this process has failed."""
        self.ranks.stop = True

    def sum(self, array):
        """Sums a contiguous vector of float64 or float32 over all processes, in place; whether all have come."""
        cdef void *block = vector_from("array", array, array.dtype.num, array.size)
        cdef Py_ssize_t count = array.size
        cdef int itemsize = array.dtype.itemsize
        cdef bint came
        if self.ranks.size == 1:
            return True
        with nogil:
            came = self.ranks.reduce(self.ranks.owner, block, count, itemsize)
        return came

    def take_error(self):
        """What was raised while the others were waited for, or None."""
        error, self.error, self.ranks.stop = self.error, None, False
        return error

    # Called from native code

    cdef bint call_function(self, void *block, Py_ssize_t count, int itemsize) noexcept:
        cdef cnp.npy_intp shape = count
        try:
            self.function(cnp.PyArray_SimpleNewFromData(
                1, &shape, cnp.NPY_FLOAT if itemsize == 4 else cnp.NPY_DOUBLE, block))
        except BaseException as error:
            self.error, self.ranks.stop = error, True
            return False
        return True

    cdef bint call_waiting(self, double seconds) noexcept:
        try:
            return self.waiting(seconds)
        except BaseException as error:
            gives_up = self.error is not None           # asked twice
            self.error, self.ranks.stop = error, True
            return gives_up

    cdef bint sum_pieces(self, void *block, Py_ssize_t count, int itemsize) noexcept nogil:
        cdef Py_ssize_t at = 0, piece, longest = count if count <= LONGEST_WHOLE else PIECE
        while at < count:
            piece = min(longest, count - at)
            if not self.sum_piece(<char *>block + at * itemsize, <int>piece, itemsize):
                return False
            at += piece
        return True

    cdef bint sum_piece(self, void *block, int count, int itemsize) noexcept nogil:
        cdef Mpi *mpi = &self.mpi
        cdef size_t type = mpi.float_ if itemsize == 4 else mpi.double_
        cdef void *request = NULL
        cdef void *in_place = <void *>mpi.in_place
        if mpi.by_pointers:
            if (<StartByPointers>mpi.iallreduce)(
                    in_place, block, count, <void *>type, <void *>mpi.sum, <void *>mpi.comm, &request):
                return False
        elif (<StartByInts>mpi.iallreduce)(
                in_place, block, count, <int>type, <int>mpi.sum, <int>mpi.comm, &request):
            return False
        return self.wait(&request)

    cdef bint wait(self, void **request) noexcept nogil:
        """Whether all have come: until then, what Python does meanwhile is called now and then, and may give up."""
        cdef double status[STATUS_WORDS]
        cdef double begun = 0, called = 0, now
        cdef Py_ssize_t tests = 0
        cdef int done = 0
        while True:
            if (<MpiTest>self.mpi.test)(request, &done, &status[0]):
                return False
            if done:
                return True
            tests += 1
            if tests % TESTS_BETWEEN_LOOKS:
                continue
            nnk_yield()             # there may be fewer processors than processes
            now = nnk_seconds()
            if begun == 0:
                begun = called = now
            elif now - called > 1e-3 * WAITING_MILLISECONDS:
                called = now
                if call_waiting(<void *>self, now - begun):
                    return False
