"""What this build is, and how many threads it may use."""

from nnkern import _kernels, validation


class Config:
    """What `show_config` returns: prints as a table, `to_dict` gives the facts."""

    def __init__(self, facts):
        self._facts = dict(facts)

    def to_dict(self):
        """The facts by name."""
        return dict(self._facts)

    def __str__(self):
        width = max(map(len, self._facts))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in self._facts.items())

    __repr__ = __str__


def show_config():
    """Version, BLAS with its version and core, instruction sets, threads.

    Returns
    -------
    Config
        An object that prints well.

    Examples
    --------
    >>> import nnkern as nk
    >>> nk.show_config().to_dict()["isa"] in ("baseline", "avx2", "avx512")
    True
    """
    import importlib.metadata

    build = _kernels.build_config()
    return Config(
        {
            "version": importlib.metadata.version("nnkern"),
            "blas": build["blas"],
            "blas_config": build["blas_config"],
            "blas_core": build["blas_core"],
            "gemm": build["gemm"],
            "isa": build["isa"],
            "usable_isas": ", ".join(build["usable_isas"]),
            "vector_bytes": build["vector_bytes"],
            "threads": get_num_threads(),
        }
    )


def get_num_threads():
    """The largest number of threads that a call may use; computations run on one thread so far, whatever it is."""
    return _threads


def set_num_threads(n):
    """Sets the largest number of threads that a call may use; results don't depend on it.

    Computations run on one thread so far, so that it changes nothing yet.

    Parameters
    ----------
    n : int
        At least 1.
    """
    global _threads
    _threads = validation.integer("n", n, 1)


_threads = 1
