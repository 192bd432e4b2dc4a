# What a network is to native code: its layers, where their parameters are in θ, and the interface of a kind of layer.
#
# A kind of layer is one file beside this one and one row in kinds.pxd. Nothing outside a kind's file asks which kind a
# layer is: sizes, parameters and what backward needs stand in Layer, the arithmetic is behind Kind's functions.

from libc.stdint cimport int32_t, int64_t, uint64_t

from engine.optimizer cimport Applied
from kernels.nnk cimport nnk_sparse
from nnkern._matrix cimport Matrix, Team, contiguous
from nnkern._products cimport Below, Compute

cdef enum:
    MOST_PARAMETERS = 4             # of one layer

cdef struct Parameter:
    const char *name                # "W" where a network's parameters are called "W1", "W2", …
    Py_ssize_t n, m                 # shape
    Py_ssize_t at                   # where it begins in θ, in entries
    bint decays                     # l2, l1 and weight decay are for it
    bint is_sum                     # backward leaves m times its gradient, summed over the examples of a chunk
    Py_ssize_t fused                # of its entries the first ones to which backward applies an update itself
    # set by who reads the network's configuration:
    double rate                     # factor on the learning rate
    double held                     # it learns as if it were held times this

# What a layer reads: a matrix, and below its rows inputs that are 0 but for those that codes name. These are 1, or each
# its own factor. Examples may be sparse: then the matrix has a shape only.
cdef struct Inputs:
    Matrix A
    const nnk_sparse *sparse        # or NULL
    const int32_t *codes            # (count, m): the place of an input among those below the matrix, or -1 for none
    Py_ssize_t count
    Py_ssize_t factors              # where their factors begin in θ, or -1
    bint factors_learn              # then who reads them adds m times the gradient by the factors to dθ

# What a layer leaves of a block of examples, each (n, m) and contiguous.
cdef struct Activations:
    void *A
    int32_t *codes                  # as Inputs has them; where they are handed on, those of the layer below
    void *Z                         # where the derivative of the activation reads it, else NULL
    void *D                         # A after dropout where the layer has it, else NULL
    void *kept                      # what the kind needs beyond these in backward, or NULL

# dθ of a block: where it goes, and what else is done with it.
cdef struct Gradient:
    void *dtheta
    double one_mth                  # 1 / examples of the batch
    bint accumulate                 # added to what dθ holds
    Applied *applied                # the update that is applied at once, or NULL

cdef struct Layer
cdef struct Plan

cdef struct Kind:
    const char *name
    # Fills in what follows from the numbers of a layer: its parameters but for their place and what they learn by,
    # multiply_adds, kept, and what of its outputs codes name.
    void (*describe)(Layer *layer) noexcept
    # out.A (n, m) = g(Z) for `activation`'s g, which is the layer's own or, where the loss does that, linear.
    void (*forward)(
        const Plan *plan, const Layer *layer, const Activations *out, int activation, const Inputs *A_prev,
        const Team *team) noexcept nogil
    # From dZ (n, m): what `below` describes, unless it is NULL; then, where the layer learns, its share of dθ.
    void (*backward)(
        const Plan *plan, const Layer *layer, const Gradient *to, const Activations *own, const void *dZ,
        const Inputs *A_prev, const Below *below, const Team *team) noexcept nogil
    # dA becomes dZ in place, with what that adds to dθ, for a layer that mixes: for others g' and the bias are all of
    # it. `spare` has room for another dZ.
    void (*through)(
        const Plan *plan, const Layer *layer, void *dtheta, const Activations *own, void *dZ, void *spare,
        Py_ssize_t m) noexcept nogil
    bint takes_sparse               # whether its inputs may be sparse
    # Index of the first example that it can't be given, or m; NULL where it takes all.
    Py_ssize_t (*first_bad)(const Plan *plan, const Layer *layer, const Matrix *X, Py_ssize_t *row) noexcept nogil

cdef struct Layer:
    const Kind *kind
    Py_ssize_t n, n_prev            # outputs and inputs that are a matrix
    Py_ssize_t ones, ones_prev      # those after them that are 0 but for what codes name …
    Py_ssize_t codes, codes_prev    # … so many codes
    const void *details             # numbers that a kind alone knows, or NULL
    int activation
    double slope, dropout, l2, l1
    bint use_bias, trainable, reads_Z
    bint mixes                      # its outputs are a mix: see Kind.through
    int count                       # of parameters
    Parameter parameters[MOST_PARAMETERS]
    int bias                        # which of them is added to Z, so that Σ_columns dZ is m times its gradient; or -1
    int factors                     # which of them ends with factors of the outputs that codes name; or -1
    size_t kept                     # entries an example that the kind keeps for backward
    double multiply_adds            # of one example, forward

# A loss that is a Python function: Σ w_i L_i, and dA, from A and Y (n_y, m). NaN where it raised.
ctypedef double (*CustomLoss)(
    void *owner, const void *A, void *dA, const void *Y, const void *w, double scale, Py_ssize_t m) noexcept nogil

cdef struct Plan:
    const Compute *compute
    Py_ssize_t L, n_x, n_y, count   # count: entries of θ
    Layer *layers
    int loss                        # NNK_LOSSES for a Python function
    int score                       # nnk.h's
    double parameter                # of the loss
    void *owner                     # whose custom_loss it is
    CustomLoss custom_loss
    bint matched                    # the output's activation is the one the loss kernel applies itself
    Py_ssize_t first_trainable      # L where there is none
    uint64_t key                    # of dropout and shuffling
    void *theta


cdef inline void *entry(const Plan *plan, const void *block, Py_ssize_t at) noexcept nogil:
    """Entry `at` of a block laid out as θ."""
    return <char *>block + at * plan.compute.itemsize


cdef inline void *db_of(const Plan *plan, const Layer *layer, const void *dtheta) noexcept nogil:
    """Where Σ_columns dZ goes, or NULL."""
    if layer.bias < 0 or not layer.trainable:
        return NULL
    return entry(plan, dtheta, layer.parameters[layer.bias].at)


cdef inline Py_ssize_t entries_of(const Parameter *parameter) noexcept nogil:
    return parameter.n * parameter.m


cdef inline Inputs handed_on(const Layer *layer, const void *A, const int32_t *codes, Py_ssize_t m) noexcept nogil:
    """What the layer above reads of what a layer has left: A (n, m), and codes."""
    cdef const Parameter *factors
    cdef Inputs inputs = Inputs(contiguous(A, layer.n, m), NULL, codes, layer.codes, -1, False)
    if layer.factors >= 0:
        factors = &layer.parameters[layer.factors]
        inputs.factors, inputs.factors_learn = factors.at + entries_of(factors) - layer.ones, layer.trainable
    return inputs


cdef inline Py_ssize_t widest_of(const Plan *plan) noexcept nogil:
    cdef Py_ssize_t widest = 0, l
    for l in range(plan.L):
        widest = max(widest, plan.layers[l].n)
    return widest


cdef inline bint mixes(const Plan *plan) noexcept nogil:
    """Whether a layer does."""
    cdef Py_ssize_t l
    for l in range(plan.L):
        if plan.layers[l].mixes:
            return True
    return False


cdef inline double operations(const Plan *plan) noexcept nogil:
    """Of one example, forward and backward."""
    cdef double total = 0
    cdef Py_ssize_t l
    for l in range(plan.L):
        total += 6 * plan.layers[l].multiply_adds
    return total
