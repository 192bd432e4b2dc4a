# THE list of the kinds of layers: a new one is a file beside this one, its cimport and its row here.

from engine.dense cimport dense
from engine.encode cimport encode
from engine.plan cimport Kind
from engine.scale cimport scale

cdef enum:
    KINDS = 3


cdef inline void list_kinds(Kind *kinds) noexcept:
    kinds[0] = dense()
    kinds[1] = scale()
    kinds[2] = encode()
