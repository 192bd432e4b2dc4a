# What is asked of arrays where judging them takes longer than the arithmetic.

cimport numpy as cnp


cdef inline bint lies_well(cnp.ndarray array, int number, Py_ssize_t n) noexcept:
    """Whether an array (n, m), m > 0, is of that type number, its columns contiguous and side by side."""
    return (cnp.PyArray_TYPE(array) == number and cnp.PyArray_NDIM(array) == 2 and cnp.PyArray_DIM(array, 0) == n
            and cnp.PyArray_DIM(array, 1) > 0 and cnp.PyArray_ISBEHAVED_RO(array)
            and cnp.PyArray_IS_F_CONTIGUOUS(array))


cdef inline bint disjoint(const char *a, size_t a_bytes, const char *b, size_t b_bytes) noexcept:
    """Whether two pieces of memory share no byte."""
    return a + a_bytes <= b or b + b_bytes <= a
