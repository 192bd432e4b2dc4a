# The pool of threads, as pool.h declares it.

cdef extern from "runtime/pool.h" nogil:
    enum:
        NNK_SCRATCH_BYTES
    ctypedef void (*nnk_task)(void *context, Py_ssize_t part, void *scratch) noexcept nogil
    void nnk_run(nnk_task task, void *context, Py_ssize_t parts, int threads, bint wake, void *scratch) noexcept
    void nnk_wake(int threads) noexcept
    int (*nnk_prepare_worker)() noexcept
    void *nnk_take_scratch() noexcept
    void nnk_give_scratch(void *scratch) noexcept
