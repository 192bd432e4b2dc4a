# C's assert, for native code without the GIL: nothing in a release, the end of the process in a debug build.

cdef extern from "assert.h" nogil:
    void check "assert" (bint condition) noexcept
