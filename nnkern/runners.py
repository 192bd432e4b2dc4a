"""Epochs and steps of one network by the engine."""

import numpy as np

from nnkern.exceptions import DivergenceError


def train_batch(state, data, rate, number, last_cost=np.nan, threads=None, *, undone=False):
    """One step on one batch, in a training that has been entered; returns its cost."""
    cost, seconds = np.empty(1), np.empty(1)
    result = state.engine.train(
        *data,
        rates=np.array([rate]),
        batch_size=data[0].shape[1],
        shuffle=False,
        order=None,
        update=state.optimizer.update,
        numbers=state.optimizer.numbers,
        keep_last=False,
        costs=cost,
        seconds=seconds,
        threads=threads,
    )
    if result["status"] == "diverged":
        raise DivergenceError(state.epochs_done, number, last_cost, undone)
    return float(cost[0])
