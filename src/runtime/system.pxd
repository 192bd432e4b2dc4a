# The machine, as system.h declares it.

cdef extern from "runtime/system.h" nogil:
    double nnk_seconds() noexcept
    int nnk_processors() noexcept
    void nnk_yield() noexcept
    void nnk_release_memory() noexcept
