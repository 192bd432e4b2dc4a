# Types of state.py that others' stubs name; the rest isn't public.

from typing import Any, NamedTuple

class Evaluation(NamedTuple):
    cost: float
    score: float

class Stateful: ...

def __getattr__(name: str) -> Any: ...
