# Numbers of a table as a network takes them: x' = z / √(1 + (z / bend)²) of z = (x - median) / scale, within ±farthest,
# and 0 where a number is missing. The same bits for a column of many rows and for one row of many columns.

ctypedef fused row_type:
    float
    double

cdef enum:
    SCALED_AT_A_TIME = 256          # numbers, so that what they become stays in the first-level cache

# Types whose values are numbers as they stand. numpy's durations count as whole numbers there, and aren't.
cdef tuple NUMBERS = (int, float, np.integer, np.floating, np.bool_)
cdef object DURATION = np.timedelta64


cdef inline double smooth_clip(double x, double median, double scale, double farthest, double bend) noexcept nogil:
    cdef double z = (x - median) / scale, share
    z = min(max(z, -farthest), farthest) if z == z else 0
    share = z / bend
    return z / sqrt(share * share + 1)


def scale_column(
    const floating[::1] values, row_type[:] out, double median, double scale, double farthest, double bend,
):
    """Writes x' of a column: `values` (m,) with NaN where missing, `out` (m,)."""
    cdef double scaled[SCALED_AT_A_TIME]
    cdef Py_ssize_t first = 0, count, i
    if out.shape[0] != values.shape[0]:
        raise ValueError(f"out has {out.shape[0]} entries, values {values.shape[0]}")
    with nogil:
        while first < values.shape[0]:
            count = min(<Py_ssize_t>SCALED_AT_A_TIME, values.shape[0] - first)
            for i in range(count):
                scaled[i] = smooth_clip(values[first + i], median, scale, farthest, bend)
            for i in range(count):
                out[first + i] = <row_type>scaled[i]
            first += count


cdef class RowOfTable:
    """X (n_x, 1) of one row: its numbers at `places`, of which missing ones are told at `flags`, and its codes.

    `flags` is -1 for a number that was never missing in training.
    """
    cdef const double[::1] median, scale
    cdef const Py_ssize_t[::1] places, flags, code_places
    cdef Py_ssize_t n_x
    cdef double farthest, bend

    def __init__(self, n_x, numbers, code_places, farthest, bend):
        """`numbers`: (median, scale, place, flag) of each."""
        median, scale, places, flags = np.array(numbers, np.float64).reshape(-1, 4).T
        self.median, self.scale = np.ascontiguousarray(median), np.ascontiguousarray(scale)
        self.places, self.flags = places.astype(np.intp), flags.astype(np.intp)
        self.code_places = np.array(code_places, np.intp)
        self.n_x, self.farthest, self.bend = n_x, farthest, bend
        used = np.concatenate([places, flags + (flags < 0), code_places])
        if used.size and not (0 <= used.min() and used.max() < n_x):
            raise ValueError(f"places of a row of {n_x} entries: {used}")

    def X(self, list numbers, list codes):
        """Raises TypeError or OverflowError for what is no plain number, ValueError for an infinite one."""
        cdef cnp.npy_intp shape[2]
        cdef cnp.ndarray X
        cdef float *x
        cdef Py_ssize_t i
        cdef double value
        if len(numbers) != self.places.shape[0] or len(codes) != self.code_places.shape[0]:
            raise ValueError(f"a row has {len(numbers)} numbers and {len(codes)} codes")
        shape[0], shape[1] = self.n_x, 1
        X = cnp.PyArray_ZEROS(2, shape, cnp.NPY_FLOAT32, 1)
        x = <float *>cnp.PyArray_DATA(X)
        for i in range(self.places.shape[0]):
            value = number_of(numbers[i])
            if isinf(value):
                raise ValueError("a number is infinite")
            x[self.places[i]] = <float>smooth_clip(value, self.median[i], self.scale[i], self.farthest, self.bend)
            if value != value and self.flags[i] >= 0:
                x[self.flags[i]] = 1
        for i in range(self.code_places.shape[0]):
            x[self.code_places[i]] = codes[i]
        return X


cdef inline double number_of(object value) except? -1:
    if type(value) is float:
        return value
    if value is None:
        return NAN
    if isinstance(value, NUMBERS) and not isinstance(value, DURATION):
        return float(value)
    raise TypeError(f"{value!r} is no plain number")
