# Memory that one function lays out, as arena.h declares it.

cdef extern from "runtime/arena.h" nogil:
    ctypedef struct nnk_arena:
        char *base
        size_t used, size
    void *nnk_arena_take(nnk_arena *arena, size_t bytes) noexcept
    void *nnk_arena_provide(nnk_arena *arena) noexcept
