# Types of rounds.py, whose code and docstrings say the rest. Defaults are written there, not here.

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from nnkern.callbacks import _History, _OneCallback
from nnkern.network import Network, _Batch
from nnkern.optimizers import Optimizer

_Shard: TypeAlias = _Batch | Callable[[], _Batch] | Any

class _Executor(Protocol):
    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any: ...

def fit_shards(
    net: Network,
    shards: Sequence[_Shard],
    *,
    executor: _Executor,
    rounds: int = ...,
    epochs_a_round: int = ...,
    batch_size: int | None = ...,
    shuffle: bool = ...,
    optimizer: Optimizer | str | None = ...,
    validation_data: _Batch | None = ...,
    callbacks: _OneCallback | Sequence[_OneCallback] | None = ...,
    resume: bool = ...,
    retries: int = ...,
    timeout: float | None = ...,
    threads: int | None = ...,
) -> _History: ...
