"""The sides of a comparison, one file each: with_<name>.py defines a class Side.

A side runs in a process of its own (side.py), set up as a user who knows the library would. To
add one, write with_<name>.py; the runner finds it by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np
from cases import InferenceCase, TrainingCase


class Unsupported(Exception):
    """The library can't compute this case; the table shows a dash."""


class SideProtocol(Protocol):
    library: ClassVar[str]

    def describe(self) -> dict:
        """Version, kernels and threads in use: {"version": ..., "kernels": ..., "threads": ...}."""

    def prepare_training(self, case: TrainingCase, dtype: str, threads: int, X: np.ndarray, labels: np.ndarray) -> None:
        """Convert X (n_x, m) and labels (m,) to the library's preferred layout; build the network."""

    def load(self, parameters: dict[str, np.ndarray]) -> None:
        """Set {"W1": (n1, n0), "b1": (n1, 1), ...}, float32, before each round; not timed."""

    def train(self, epochs: int) -> list[float] | None:
        """Plain SGD over contiguous batches in order, or Adam with the usual β and ε where the case says so (shuffled
        anew in each epoch if it says so). Each epoch's mean cost before its updates, None where the library keeps none.
        """

    def parameters(self) -> dict[str, np.ndarray]:
        """The trained parameters, in the form that load takes."""

    def predictor(
        self,
        case: InferenceCase,
        dtype: str,
        threads: int,
        parameters: dict[str, np.ndarray],
        X: np.ndarray,
    ) -> tuple[Callable[[], object], Callable[[], np.ndarray]]:
        """A call that predicts X (n_x, batch), timed; one that predicts and gives (n_y, batch)."""

    # Optional: whether a side of reduced precision also keeps its parameters in it, so that small updates are lost.
    stores_reduced: ClassVar[bool]

    # Optional: whether prepare_training takes a TableCase too, whose parameters are those of its `shapes`.
    tables: ClassVar[bool]

    # Optional, for a library that can measure the processor's limit: what it measures, and
    # measure_limit(dtype, threads) -> flops per second.
    limit: ClassVar[str]
