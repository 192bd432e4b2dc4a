# What the kernels and the engine share is no part of the public interface: nothing is promised of its types.

from typing import Any

def __getattr__(name: str) -> Any: ...
