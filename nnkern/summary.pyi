# Types of summary.py, whose code and docstrings say the rest.

from nnkern.network import Network

class Summary:
    parameters: int | None

    def __init__(self, net: Network) -> None: ...

def numbers_of(net: Network) -> str: ...
