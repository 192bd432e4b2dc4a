# Encode, only as first layer: each encoder makes features of one row of X. Numbers and embeddings of categories come
# first, as a matrix; categories that become 0 and 1 are left as codes where the layers above take these.

from libc.stdint cimport int32_t

from engine.plan cimport Activations, Gradient, Inputs, Kind, Layer, Parameter, Plan, entry
from kernels.nnk cimport nnk_codes, nnk_number, nnk_number_gradient
from nnkern._matrix cimport Matrix, Team
from nnkern._products cimport Below, share_out
from runtime.check cimport check

cdef enum:
    BLOCK = 256                     # examples whose codes are read at a time

# One number of X. Where its constants and parameters begin: of w, b and M in entries of the parameter of that name, of
# the edges of bins in `constants`.
cdef struct Number:
    nnk_number features             # its pointers are set anew for each block
    Py_ssize_t row, out             # of X, and its first row of A
    Py_ssize_t at, at_M

# One category of X: its code is a column of an embedding or, less `skipped`, one of the outputs that are 0 and 1
cdef struct Category:
    Py_ssize_t row, out, size, skipped
    Py_ssize_t units, at            # of an embedding, and its place in E; or the first of its outputs left as codes

cdef struct Encoders:
    Py_ssize_t numbers, embeddings, spread, one_hots
    const Number *number
    const Category *category        # embeddings, then those whose 0 and 1 are rows of A, then those left as codes
    const void *constants           # lower edges and 1 / width of bins
    Py_ssize_t frequencies, maps, tables        # entries of the parameters w and b, M, E
    Py_ssize_t kept


cdef inline Py_ssize_t codes_of(const Category *category) noexcept nogil:
    return category.size + category.skipped


cdef inline const Encoders *encoders_of(const Layer *layer) noexcept nogil:
    return <const Encoders *>layer.details


cdef inline void add_parameter(Layer *layer, const char *name, Py_ssize_t count) noexcept:
    if count:
        layer.parameters[layer.count] = Parameter(
            name=name, n=count, m=1, at=0, decays=False, is_sum=True, fused=0)
        layer.count += 1


cdef inline void describe(Layer *layer) noexcept:
    cdef const Encoders *all = encoders_of(layer)
    cdef Py_ssize_t i
    layer.count, layer.bias, layer.factors = 0, -1, -1
    add_parameter(layer, b"w", all.frequencies)
    add_parameter(layer, b"b", all.frequencies)
    add_parameter(layer, b"M", all.maps)
    add_parameter(layer, b"E", all.tables)
    layer.trainable = layer.trainable and layer.count > 0
    layer.kept, layer.codes = all.kept, all.one_hots
    layer.multiply_adds = all.frequencies + all.maps
    for i in range(all.numbers):
        layer.multiply_adds += all.number[i].features.k


cdef inline Py_ssize_t place_of(const Layer *layer, char name) noexcept nogil:
    """Where the parameter of that name begins in θ; 0 where there is none."""
    cdef int p
    for p in range(layer.count):
        if layer.parameters[p].name[0] == name:
            return layer.parameters[p].at
    return 0


cdef inline nnk_number features_of(const Plan *plan, const Layer *layer, const Number *number) noexcept nogil:
    cdef nnk_number features = number.features
    cdef const Encoders *all = encoders_of(layer)
    if features.periodic:
        features.w = entry(plan, plan.theta, place_of(layer, c"w") + number.at)
        features.b = entry(plan, plan.theta, place_of(layer, c"b") + number.at)
    else:
        features.w = entry(plan, all.constants, number.at)
        features.b = entry(plan, all.constants, number.at + features.k)
    features.M = entry(plan, plan.theta, place_of(layer, c"M") + number.at_M)
    return features


# ---------------------------------------------------------------------------------------------------------------------
# Forward and backward of a block, an encoder to a part

cdef struct EncodeJob:
    const Plan *plan
    const Layer *layer
    const Matrix *X
    const Activations *own
    const void *dA                  # in backward
    void *dtheta


cdef inline const void *row_of(const EncodeJob *job, Py_ssize_t row) noexcept nogil:
    return <const char *>job.X.data + row * job.X.row * job.plan.compute.itemsize


cdef inline void forward_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const EncodeJob *job = <const EncodeJob *>job_
    cdef const Plan *plan = job.plan
    cdef const Encoders *all = encoders_of(job.layer)
    cdef const Number *number
    cdef nnk_number features
    if part < all.numbers:
        number = &all.number[part]
        features = features_of(plan, job.layer, number)
        plan.compute.table.encode_number(
            &features, entry(plan, job.own.A, number.out), job.layer.n, job.own.kept, row_of(job, number.row),
            job.X.column, job.X.m)
    else:
        forward_category(job, part - all.numbers)


cdef inline void forward_category(const EncodeJob *job, Py_ssize_t which) noexcept nogil:
    cdef const Plan *plan = job.plan
    cdef const Encoders *all = encoders_of(job.layer)
    cdef const Category *category = &all.category[which]
    cdef Py_ssize_t n = job.layer.n, first = 0, m
    cdef int32_t codes[BLOCK]
    cdef nnk_codes named = nnk_codes(&codes[0], 1, 1, NULL)
    cdef void *A
    cdef const void *E
    if which >= all.embeddings + all.spread:
        plan.compute.table.read_codes(
            job.own.codes + which - all.embeddings - all.spread, all.one_hots, row_of(job, category.row), job.X.column,
            category.at, category.skipped, codes_of(category), job.X.m)
        return
    while first < job.X.m:
        m = min(<Py_ssize_t>BLOCK, job.X.m - first)
        read_block(codes, job, category, first, m)
        A = entry(plan, job.own.A, category.out + first * n)
        if which < all.embeddings:
            E = entry(plan, plan.theta, place_of(job.layer, c"E") + category.at)
            plan.compute.table.columns.sum(A, n, E, category.units, &named, category.units, m)
        else:
            plan.compute.table.put_ones(A, n, codes, category.size, m)
        first += m


cdef inline void read_block(
    int32_t *codes, const EncodeJob *job, const Category *category, Py_ssize_t first, Py_ssize_t m,
) noexcept nogil:
    """What some examples name: columns of its embedding, or which of its outputs are 1."""
    cdef const char *x = <const char *>row_of(job, category.row) + first * job.X.column * job.plan.compute.itemsize
    job.plan.compute.table.read_codes(codes, 1, x, job.X.column, 0, category.skipped, codes_of(category), m)


cdef inline void backward_part(void *job_, Py_ssize_t part, void *scratch) noexcept nogil:
    cdef const EncodeJob *job = <const EncodeJob *>job_
    cdef const Plan *plan = job.plan
    cdef const Layer *layer = job.layer
    cdef const Encoders *all = encoders_of(layer)
    cdef const Number *number
    cdef nnk_number features
    cdef nnk_number_gradient to
    if part >= all.numbers:
        embedding_gradient(job, part - all.numbers)
        return
    number = &all.number[part]
    features = features_of(plan, layer, number)
    to.dw = entry(plan, job.dtheta, place_of(layer, c"w") + number.at)
    to.db = entry(plan, job.dtheta, place_of(layer, c"b") + number.at)
    to.dM = entry(plan, job.dtheta, place_of(layer, c"M") + number.at_M)
    plan.compute.table.encode_gradient(
        &features, &to, entry(plan, job.dA, number.out), layer.n, job.own.kept, row_of(job, number.row), job.X.column,
        job.X.m)


cdef inline void embedding_gradient(const EncodeJob *job, Py_ssize_t which) noexcept nogil:
    cdef const Plan *plan = job.plan
    cdef const Category *category = &encoders_of(job.layer).category[which]
    cdef Py_ssize_t n = job.layer.n, first = 0, m
    cdef int32_t codes[BLOCK]
    cdef nnk_codes named = nnk_codes(&codes[0], 1, 1, NULL)
    while first < job.X.m:
        m = min(<Py_ssize_t>BLOCK, job.X.m - first)
        read_block(codes, job, category, first, m)
        plan.compute.table.columns.add_to(
            entry(plan, job.dtheta, place_of(job.layer, c"E") + category.at), category.units,
            entry(plan, job.dA, category.out + first * n), n, 1, &named, category.units, m)
        first += m


cdef inline void forward(
    const Plan *plan, const Layer *layer, const Activations *out, int activation, const Inputs *A_prev,
    const Team *team,
) noexcept nogil:
    """A: the features of numbers and the embeddings; the codes of categories that become 0 and 1."""
    cdef const Encoders *all = encoders_of(layer)
    cdef EncodeJob job = EncodeJob(plan, layer, &A_prev.A, out, NULL, NULL)
    check(A_prev.A.n == layer.n_prev and A_prev.count == 0 and activation == layer.activation)
    share_out(forward_part, &job, all.numbers + all.embeddings + all.spread + all.one_hots, False, team)


cdef inline void backward(
    const Plan *plan, const Layer *layer, const Gradient *to, const Activations *own, const void *dZ,
    const Inputs *A_prev, const Below *below, const Team *team,
) noexcept nogil:
    """m times the gradients by w, b, M and E; there is no layer below it."""
    cdef const Encoders *all = encoders_of(layer)
    cdef EncodeJob job = EncodeJob(plan, layer, &A_prev.A, own, dZ, to.dtheta)
    check(below is NULL and dZ is not NULL)
    if layer.trainable:
        share_out(backward_part, &job, all.numbers + all.embeddings, False, team)


cdef inline Py_ssize_t first_bad(const Plan *plan, const Layer *layer, const Matrix *X, Py_ssize_t *row) noexcept nogil:
    """Index of the first example with a code that is none, and its row; or m."""
    cdef const Encoders *all = encoders_of(layer)
    cdef const Category *category
    cdef Py_ssize_t i, bad
    for i in range(all.embeddings + all.spread + all.one_hots):
        category = &all.category[i]
        row[0] = category.row
        bad = plan.compute.table.first_bad_code(
            <const char *>X.data + category.row * X.row * plan.compute.itemsize, X.column,
            codes_of(category), X.m)
        if bad < X.m:
            return bad
    return X.m


cdef inline Kind encode() noexcept:
    return Kind(
        name=b"encode", describe=describe, forward=forward, backward=backward, through=NULL, takes_sparse=False,
        first_bad=first_bad)
