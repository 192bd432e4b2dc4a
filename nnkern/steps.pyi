# Types of steps.py that others' stubs name; the methods' are in network.pyi.

from typing import Any, NamedTuple

from nnkern._kernels import _Floats

class Gradients(NamedTuple):
    cost: float
    grads: dict[str, _Floats]

class Steps: ...

def __getattr__(name: str) -> Any: ...
