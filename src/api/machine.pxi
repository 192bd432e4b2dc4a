# Threads, the random generator and the processor's limit, for the Python above.

# The largest number of threads of a call that doesn't say.
cdef int default_threads = 1

cdef enum:
    MOST_THREADS = 256

cdef int number_of_threads(threads) except -1:
    if threads is None:
        return default_threads
    if isinstance(threads, bool) or not isinstance(threads, Integral):
        raise ValueError(f"threads must be an integer >= 1 or None; got {threads!r}")
    if threads < 1:
        raise ValueError(f"threads must be an integer >= 1 or None; got {threads}")
    return min(threads, MOST_THREADS)


def philox(counter, key):
    """The four 32-bit words of Philox4x32-10 for a counter of four words and a key of two."""
    cdef uint32_t c[4]
    cdef uint32_t k[2]
    cdef uint32_t words[4]
    c[0], c[1], c[2], c[3] = counter
    k[0], k[1] = key
    nnk_philox(words, c, k)
    return words[0], words[1], words[2], words[3]


def get_threads():
    return default_threads


def set_threads(threads):
    global default_threads
    default_threads = min(threads, MOST_THREADS)


def release_memory():
    """Gives back to the system what the C library keeps of freed memory."""
    with nogil:
        nnk_release_memory()


def fma_rate(dtype, double seconds=0.02):
    """Flops per second of multiply-adds in registers with the chosen instruction set: the limit of one thread.

    The best of short runs within `seconds`, the GIL released. For the benchmarks.
    """
    if np.dtype(dtype) not in (FLOAT32, FLOAT64):
        raise TypeError(f"dtype: {dtype}, expected float32 or float64")
    cdef const nnk_table *table = compute_type(np.dtype(dtype).itemsize).table
    cdef double total = 0, best = 0, flops, start, now, end
    with nogil:
        now = nnk_seconds()
        end = now + seconds
        while now < end:
            start = now
            # some 20 µs: longer than reading the clock takes, shorter than another program's turn
            flops = table.multiply_adds(&total, 100)
            now = nnk_seconds()
            if now > start:
                best = max(best, flops / (now - start))
    return best


def first_nonfinite(array):
    """Index tuple of the first NaN or infinity, row by row, or None. `array`: float32 or float64, any strides."""
    flat = array.reshape(-1, order="A") if array.flags.forc else None
    cdef const Compute *compute
    cdef const void *entries
    cdef Py_ssize_t at, count
    if flat is not None and array.flags.aligned and array.dtype.isnative and array.size:
        count, entries, compute = flat.size, address(flat), compute_type(array.itemsize)
        with nogil:
            at = compute.table.first_nonfinite(entries, count)
        if at == count:
            return None
        if array.flags.c_contiguous:
            return tuple(map(int, np.unravel_index(at, array.shape)))
    bad = ~np.isfinite(array)
    return tuple(map(int, np.unravel_index(bad.argmax(), array.shape))) if bad.any() else None
