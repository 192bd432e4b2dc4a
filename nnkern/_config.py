"""What this build is, and how many threads it may use."""

import os
from collections.abc import Mapping
from typing import Any

from nnkern import _kernels, _products, validation


class Config:
    """What `show_config` returns: prints as a table, `to_dict` gives the facts."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = dict(facts)

    def to_dict(self) -> dict[str, Any]:
        """The facts by name."""
        return dict(self._facts)

    def __str__(self) -> str:
        width = max(map(len, self._facts))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self._facts.items())

    __repr__ = __str__


def show_config() -> Config:
    """Version, BLAS with its version and core, instruction sets, threads.

    Returns
    -------
    Config
        An object that prints well.

    Examples
    --------
    >>> import nnkern as nk
    >>> facts = nk.show_config().to_dict()
    >>> facts["isa"] in facts["usable_isas"]
    True
    """
    import importlib.metadata

    build = _products.build_config()
    build["usable_isas"] = ", ".join(build["usable_isas"])
    return Config({"version": importlib.metadata.version("nnkern"), **build, "threads": get_num_threads()})


def get_num_threads() -> int:
    """The largest number of threads that a call may use unless it says so itself.

    It begins with the value of ``NNKERN_NUM_THREADS``, or else with the number of processors that this process may use.
    """
    return _kernels.get_threads()


def set_num_threads(n: int) -> None:
    """Sets the largest number of threads that a call may use; results don't depend on it, to the bit.

    Threads are started by the first call that is worth them, and sleep when there is nothing to do. Small work stays on
    the caller's thread.

    Parameters
    ----------
    n : int
        At least 1.
    """
    _kernels.set_threads(validation.integer("n", n, 1))


def _initial_threads():
    asked = os.environ.get("NNKERN_NUM_THREADS", "").strip()
    if not asked:
        return _products.processors()
    if not asked.isdecimal() or int(asked) < 1:
        raise ImportError(f"NNKERN_NUM_THREADS={asked!r} is no number of threads: an integer >= 1 is expected")
    return int(asked)


set_num_threads(_initial_threads())
