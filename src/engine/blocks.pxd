# How examples are cut into blocks and chunks. These bounds depend on shapes and item sizes only, never on the number of
# threads, for the bits of every result depend on them.

cdef enum:
    # what a block is sized for: half of a second-level cache of 1 MB, beside the operands of the product
    BLOCK_BYTES = 1 << 19
    # fewest columns of a block of a product: below that BLAS spends its time packing W again and again
    BLOCK_COLUMNS = 1024
    # fewest examples of a block in prediction
    LEAST_WIDTH = 256
    # examples whose gradients are added up in one run; the sums of chunks are combined in a tree
    CHUNK_COLUMNS = 4096
    # levels of a tree over chunks of the most examples that there can be
    TREE_LEVELS = 64
    # a product of more operations is shared out
    PARALLEL_OPERATIONS = 500000


cdef inline Py_ssize_t block_columns(Py_ssize_t n, int itemsize) noexcept nogil:
    """Examples in a block whose columns have n entries."""
    return max(<Py_ssize_t>BLOCK_COLUMNS, BLOCK_BYTES // (max(n, 1) * itemsize))


cdef inline Py_ssize_t sums_to_add(Py_ssize_t full, Py_ssize_t done, bint last) noexcept nogil:
    """How often the last of `full` sums goes into the one before it, by the tree over chunks once `done` are summed."""
    cdef Py_ssize_t count = 0
    while full - count > 1 and (done % 2 == 0 or last):
        count += 1
        done //= 2
    return count


cdef inline Py_ssize_t slots_for(Py_ssize_t examples) noexcept nogil:
    """Sums of chunks, beside the first, that the tree over so many examples holds at once."""
    cdef Py_ssize_t slots = 0
    while (<Py_ssize_t>CHUNK_COLUMNS << slots) < examples:
        slots += 1
    return slots


cdef inline Py_ssize_t width_of_prediction(Py_ssize_t m, Py_ssize_t widest, int itemsize) noexcept nogil:
    """Of m examples those of a block, where the widest layer has so many units."""
    return min(m, max(<Py_ssize_t>LEAST_WIDTH, BLOCK_BYTES // (widest * itemsize)))
