# The memory that a block of examples needs on its way through a network, laid out by an arena.

from libc.stdint cimport int32_t, int64_t

from engine.plan cimport Activations, Layer, Plan, mixes, widest_of
from runtime.arena cimport nnk_arena, nnk_arena_take

cdef struct Workspace:
    Py_ssize_t capacity             # examples
    Activations *layers
    void *dZ                        # two of the widest layer's size, used in turn
    void *dZ_other
    void *spare                     # another one, where a layer mixes
    void *X                         # gathered examples
    void *Y
    void *w
    int64_t *labels


cdef inline void lay_out(Workspace *space, const Plan *plan, Py_ssize_t capacity, nnk_arena *arena) noexcept nogil:
    """Takes the pieces from the arena; run without memory first, it tells how much there must be."""
    cdef size_t unit = plan.compute.itemsize * max(capacity, <Py_ssize_t>1)
    cdef Py_ssize_t l
    cdef Activations pieces
    cdef const Layer *layer
    space.capacity = capacity
    space.layers = <Activations *>nnk_arena_take(arena, plan.L * sizeof(Activations))
    for l in range(plan.L):
        layer = &plan.layers[l]
        pieces.A = nnk_arena_take(arena, layer.n * unit)
        if layer.factors < 0:       # else they are handed on, and stay where they are
            pieces.codes = <int32_t *>nnk_arena_take(
                arena, layer.codes * sizeof(int32_t) * max(capacity, <Py_ssize_t>1))
        pieces.Z = nnk_arena_take(arena, layer.n * unit) if layer.reads_Z else NULL
        pieces.D = nnk_arena_take(arena, layer.n * unit) if layer.dropout > 0 else NULL
        pieces.kept = nnk_arena_take(arena, layer.kept * unit) if layer.kept else NULL
        if space.layers is not NULL:
            space.layers[l] = pieces
    space.dZ = nnk_arena_take(arena, widest_of(plan) * unit)
    space.dZ_other = nnk_arena_take(arena, widest_of(plan) * unit)
    space.spare = nnk_arena_take(arena, widest_of(plan) * unit) if mixes(plan) else NULL
    space.X, space.Y = nnk_arena_take(arena, plan.n_x * unit), nnk_arena_take(arena, plan.n_y * unit)
    space.w = nnk_arena_take(arena, unit)
    space.labels = <int64_t *>nnk_arena_take(arena, max(capacity, <Py_ssize_t>1) * sizeof(int64_t))


cdef inline void view_from(Workspace *part, const Plan *plan, const Workspace *space, Py_ssize_t first) noexcept nogil:
    """`part` becomes what the backward pass needs of `space` from example `first` on; room for dZ is shared."""
    cdef Py_ssize_t l, at
    cdef Activations *own
    cdef const Activations *whole
    for l in range(plan.L):
        at = first * plan.layers[l].n * plan.compute.itemsize
        own, whole = &part.layers[l], &space.layers[l]
        own.A = <char *>whole.A + at
        own.codes = whole.codes + first * plan.layers[l].codes
        own.Z = NULL if whole.Z is NULL else <char *>whole.Z + at
        own.D = NULL if whole.D is NULL else <char *>whole.D + at
        at = first * plan.layers[l].kept * plan.compute.itemsize
        own.kept = NULL if whole.kept is NULL else <char *>whole.kept + at
    part.dZ, part.dZ_other, part.spare = space.dZ, space.dZ_other, space.spare
