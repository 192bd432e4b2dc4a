# Arrays as native code takes them: their memory, read once, with what must agree checked at that moment.

from libc.limits cimport INT_MAX

cimport numpy as cnp
from nnkern._matrix cimport Matrix
from nnkern._products cimport Compute, compute_named, compute_type


cdef inline void *address(cnp.ndarray array) noexcept:
    return cnp.PyArray_DATA(array)


cdef inline Matrix matrix_of_array(cnp.ndarray array) noexcept:
    """Of an aligned array of two dimensions, whose strides are whole numbers of entries."""
    cdef Matrix A
    cdef Py_ssize_t itemsize = cnp.PyArray_ITEMSIZE(array)
    A.data = cnp.PyArray_DATA(array)
    A.n, A.m = cnp.PyArray_DIM(array, 0), cnp.PyArray_DIM(array, 1)
    A.row, A.column = cnp.PyArray_STRIDE(array, 0) // itemsize, cnp.PyArray_STRIDE(array, 1) // itemsize
    return A


cdef inline bint in_whole_entries(cnp.ndarray array) noexcept:
    """Whether it is aligned, and its strides are multiples of its entries' size (which may be twice the alignment)."""
    cdef int axis
    for axis in range(cnp.PyArray_NDIM(array)):
        if cnp.PyArray_STRIDE(array, axis) % cnp.PyArray_ITEMSIZE(array):
            return False
    return cnp.PyArray_ISBEHAVED_RO(array)


cdef inline Matrix matrix_from(str name, array, int number, Py_ssize_t n) except *:
    """An array (n, m) of that type number as it is now: its owner may give it another shape in the next moment."""
    if not cnp.PyArray_Check(array) or cnp.PyArray_TYPE(array) != number or not in_whole_entries(array):
        raise TypeError(f"{name} must be an aligned array in the network's dtype; got {type(array).__name__} of "
                        f"{getattr(array, 'dtype', None)}")
    if cnp.PyArray_NDIM(array) != 2 or cnp.PyArray_DIM(array, 0) != n:
        raise ValueError(f"{name} has shape {array.shape} now: expected ({n}, m), which it had when it was handed in")
    return matrix_of_array(array)


cdef inline void *vector_from(str name, array, int number, Py_ssize_t count) except? NULL:
    """The entries of a contiguous vector of that type number and length, as it is now."""
    if not cnp.PyArray_Check(array) or cnp.PyArray_TYPE(array) != number or not cnp.PyArray_ISCARRAY_RO(array):
        raise TypeError(f"{name} must be a contiguous vector of numpy's type {number}; got {type(array).__name__}")
    if cnp.PyArray_NDIM(array) != 1 or cnp.PyArray_DIM(array, 0) != count:
        raise ValueError(f"{name} has shape {array.shape} now: expected ({count},), which it had when it was handed in")
    return cnp.PyArray_DATA(array)


cdef inline bint in_own_layout(cnp.ndarray array, int number, Py_ssize_t n) noexcept:
    """Whether an array (n, m), m > 0, is of that type number, its columns contiguous and side by side."""
    return (cnp.PyArray_TYPE(array) == number and cnp.PyArray_NDIM(array) == 2 and cnp.PyArray_DIM(array, 0) == n
            and cnp.PyArray_DIM(array, 1) > 0 and cnp.PyArray_ISBEHAVED_RO(array)
            and cnp.PyArray_IS_F_CONTIGUOUS(array))


cdef inline bint disjoint(cnp.ndarray a, const void *b, size_t b_bytes) noexcept:
    """Whether a contiguous array and a piece of memory share no byte."""
    cdef const char *first = <const char *>cnp.PyArray_DATA(a)
    return first + cnp.PyArray_NBYTES(a) <= <const char *>b or <const char *>b + b_bytes <= first


# ---------------------------------------------------------------------------------------------------------------------
# Operands of one call, which all have one dtype

cdef inline int type_of(str name, x) except -1:
    """The numpy type number of a call, read off its first operand: NPY_FLOAT or NPY_DOUBLE."""
    if not cnp.PyArray_Check(x):
        raise TypeError(f"{name} must be a numpy array of float32 or float64; got {type(x).__name__}")
    cdef int number = cnp.PyArray_TYPE(x)
    if number != cnp.NPY_FLOAT and number != cnp.NPY_DOUBLE:
        hint = f": pass {name}.astype(float)" if x.dtype.kind in "biuf" else ""
        raise TypeError(f"{name} must be a numpy array of float32 or float64; got dtype {x.dtype}{hint}")
    return number


cdef inline object unlike_first(str name, x, int number):
    """The error of an operand that is no array, or of another dtype than the first one's, `number`."""
    to = cnp.PyArray_DescrFromType(number)
    if not cnp.PyArray_Check(x):
        return TypeError(f"{name} must be a numpy array of {to}; got {type(x).__name__}")
    return TypeError(f"{name} has dtype {x.dtype}, the first operand {to}: pass {name}.astype('{to}')")


cdef inline const Compute *compute_for(compute, int number) except NULL:
    """What a call computes in: in the dtype of its operands, or in what it asks for."""
    if compute is None:
        return compute_type(4 if number == cnp.NPY_FLOAT else 8)
    if not isinstance(compute, str) or compute != "bfloat16" or number != cnp.NPY_FLOAT:
        raise ValueError(f'compute must be None or, for float32, "bfloat16"; got {compute!r} for {dtype_of(number)}')
    return compute_named("bfloat16")


cdef inline object dtype_of(int number):
    return cnp.PyArray_DescrFromType(number)


cdef inline cnp.ndarray new_matrix(Py_ssize_t n, Py_ssize_t m, int number):
    """(n, m) in Fortran order, not written to."""
    cdef cnp.npy_intp shape[2]
    shape[0], shape[1] = n, m
    return cnp.PyArray_EMPTY(2, shape, number, 1)


cdef inline void byte_bounds(cnp.ndarray array, size_t *first, size_t *end):
    """The bytes between which the entries of an array lie."""
    cdef Py_ssize_t reach, axis
    first[0] = end[0] = <size_t>cnp.PyArray_DATA(array)
    if cnp.PyArray_SIZE(array) == 0:
        return
    end[0] += cnp.PyArray_ITEMSIZE(array)
    for axis in range(cnp.PyArray_NDIM(array)):
        reach = (cnp.PyArray_DIM(array, axis) - 1) * cnp.PyArray_STRIDE(array, axis)
        if reach < 0:
            first[0] += reach
        else:
            end[0] += reach


cdef inline bint share_bytes(cnp.ndarray a, cnp.ndarray b):
    """Whether the stretches of memory of two arrays overlap (their entries might still take turns)."""
    cdef size_t a_first, a_end, b_first, b_end
    byte_bounds(a, &a_first, &a_end)
    byte_bounds(b, &b_first, &b_end)
    return a_first < b_end and b_first < a_end


cdef inline void check_int(str name, Py_ssize_t size) except *:
    if size > INT_MAX:
        raise ValueError(f"{name} is {size}: BLAS takes at most {INT_MAX}")
