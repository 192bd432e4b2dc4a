# What the first layer of a network makes of the rows of X, as the engine wants it.

cdef class EncodersOf:
    """The memory that an Encode layer's `details` points to.

    `numbers`: (row, out, bins or None, frequencies, units, keeps_x) of each number, its bins being their lower edges
    and then 1 / their widths; `embeddings`, `spread` and `one_hots`: (row, out, size, skipped, units) of each category,
    by what becomes of it.
    """
    cdef Encoders all
    cdef object constants           # bins of all numbers

    def __cinit__(self, dtype, list numbers, list embeddings, list spread, list one_hots):
        cdef list bins = [np.zeros(0)], categories = [*embeddings, *spread, *one_hots]
        cdef Number *number = <Number *>calloc(len(numbers) + 1, sizeof(Number))
        cdef Category *category = <Category *>calloc(len(categories) + 1, sizeof(Category))
        self.all.number, self.all.category = number, category
        if number is NULL or category is NULL:
            raise MemoryError("no memory for the encoders")
        self.all.numbers, self.all.embeddings = len(numbers), len(embeddings)
        self.all.spread, self.all.one_hots = len(spread), len(one_hots)
        for one in numbers:
            self.set_number(number, one, bins)
            number += 1
        for i in range(self.all.numbers):
            (<Number *>self.all.number)[i].features.kept_of_all = self.all.kept
        for i, (row, out, size, skipped, units) in enumerate(categories):
            category[i] = Category(row, out, size, skipped, units, self.all.tables if units else out)
            self.all.tables += size * units
        self.constants = np.concatenate(bins).astype(dtype)
        self.all.constants = address(self.constants)

    cdef int set_number(self, Number *number, tuple one, list bins) except -1:
        cdef nnk_number *features = &number.features
        number.row, number.out, own_bins, frequencies, units, keeps_x = one
        features.periodic, features.keeps_x = frequencies > 0, keeps_x
        features.k, features.units = frequencies, units
        number.at, number.at_M = self.all.frequencies, self.all.maps
        if own_bins is not None:
            features.k, number.at = len(own_bins) // 2, sum(map(len, bins))
            bins.append(own_bins)
        self.all.frequencies += frequencies
        self.all.maps += units * (features.k + 1) if units else 0
        features.kept_at = self.all.kept
        # the same for both precisions
        self.all.kept += compute_named("float64").table.number_kept(features)
        return 0

    cdef Py_ssize_t codes_of_row(self, Py_ssize_t row) noexcept:
        """How many codes a row of X may have: those that all of its encoders know."""
        cdef const Category *category = self.all.category
        cdef Py_ssize_t i, least = (<Py_ssize_t>1) << 40
        for i in range(self.all.embeddings + self.all.spread + self.all.one_hots):
            if category[i].row == row:
                least = min(least, codes_of(&category[i]))
        return least

    def __dealloc__(self):
        free(<void *>self.all.number)
        free(<void *>self.all.category)


cdef Matrix examples_from(Engine engine, X) except *:
    """X as it is at this moment; refused where the first layer can't be given it."""
    cdef Matrix X_ = matrix_from("X", X, engine.number, engine.plan.n_x)
    check_codes(engine, &X_)
    return X_


cdef int check_codes(Engine engine, const Matrix *X) except -1:
    cdef const Layer *first = &engine.plan.layers[0]
    cdef Py_ssize_t row = 0, example
    if first.kind.first_bad is NULL:
        return 0
    example = first.kind.first_bad(&engine.plan, first, X, &row)
    if example < X.m:
        raise ValueError(
            f"X[{row}, {example}] must be a code, a whole number from 0 to {engine.encoders.codes_of_row(row) - 1}, "
            "for so many has the first layer's encoder of that row: encode categories by their place in a list")
    return 0
