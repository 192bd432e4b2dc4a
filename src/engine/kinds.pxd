# THE list of the kinds of layers: a new one is a file beside this one, its cimport and its row here.

from engine.dense cimport dense
from engine.plan cimport Kind
from engine.scale cimport scale

cdef enum:
    KINDS = 2


cdef inline void list_kinds(Kind *kinds) noexcept:
    kinds[0] = dense()
    kinds[1] = scale()
