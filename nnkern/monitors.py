"""What callbacks may monitor of held-out data beside cost and score: error rate, AUC, RMSE, or a function of one's own.

A monitor is a key of the history, a name of METRICS, which is recorded when it is asked for, or a function
f(targets, outputs) -> float.
"""

import numpy as np

from nnkern import validation

# whether it is for classes, or for numbers
METRICS = {"val_error": True, "val_auc": True, "val_rmse": False, "val_mae": False}
"""What is recorded where a callback monitors it, or `fit` is asked for it."""
# Ends of names: what should rise, and what a function's name must end in else. A key of the history with neither falls.
_RISING, _FALLING = ("score", "auc"), ("cost", "error", "loss", "rmse", "mae")


def key(monitor):
    """Its name in the history."""
    return f"val_{_name_of(monitor)}" if callable(monitor) else monitor


def _name_of(function):
    return getattr(function, "__name__", type(function).__name__)


def check(monitor, mode):
    """Refuses what can't be monitored, and a direction that isn't clear."""
    if monitor is not None and not isinstance(monitor, str) and not callable(monitor):
        raise TypeError(f"monitor must be a key of the history or a function (targets, outputs); got {monitor!r}")
    if mode is not None:
        validation.choice("mode", mode, ("min", "max"))
    if not callable(monitor):
        return
    name = _name_of(monitor)
    _check_name("monitor", monitor)
    if mode is None and not name.endswith(_RISING + _FALLING):
        raise ValueError(f'mode must be "min" or "max" here: the name {name} doesn\'t tell which values are better')


def _check_name(what, function):
    """Refuses a function whose values would be recorded as something else."""
    if key(function) in ("val_cost", "val_score", *METRICS):
        raise ValueError(
            f"{what} is a function called {_name_of(function)}, but {key(function)} has a meaning already: rename it"
        )


def get(metrics):
    """A list of what is to be recorded, from one or several names of METRICS and functions."""
    metrics = [metrics] if isinstance(metrics, str) or callable(metrics) else metrics
    if not hasattr(metrics, "__iter__"):
        raise TypeError(f"metrics must be names, functions (targets, outputs), or a list of them; got {metrics!r}")
    metrics = list(metrics)
    for metric in metrics:
        if callable(metric):
            _check_name("metrics", metric)
        elif not isinstance(metric, str) or metric not in METRICS:
            raise ValueError(
                f"metrics must be one of {', '.join(METRICS)}; got {metric!r}. val_cost and val_score, which is "
                "accuracy or R², are in the history without being asked for; score, the training's, with progress=True"
            )
    return metrics


def sign(monitor, mode):
    """1 for what should fall, -1 for what should rise."""
    rises = key(monitor).endswith(_RISING) if mode is None else mode == "max"
    return -1 if rises else 1


class Monitors:
    """The values that are recorded after each epoch because callbacks monitor them.

    `asked`: monitors of the callbacks; `held_out`: the source of the examples that aren't trained on, or None;
    `classifies`: whether the score is accuracy.
    """

    def __init__(self, asked, state, held_out, classifies):
        self._state, self._held_out, self._functions = state, held_out, {}
        named = [monitor for monitor in asked if isinstance(monitor, str) and held_out is not None]
        self._metrics = [name for name in METRICS if name in named]
        for monitor in asked:
            if callable(monitor) and self._functions.setdefault(key(monitor), monitor) is not monitor:
                raise ValueError(f"two monitors are functions called {_name_of(monitor)}: rename one")
        if held_out is None:
            self._functions = {}
        for name in self._metrics:
            of_classes = METRICS[name]
            if of_classes != classifies:
                kind, loss, use = "classes", "numbers", "val_rmse or val_mae"
                if not of_classes:
                    kind, loss, use = "numbers", "classes", "val_error or val_auc"
                of_loss = f"the loss {state.loss.name} is for {loss}"
                raise ValueError(f"monitor {name!r} is for {kind}, {of_loss}: use {use}, or a function")
        self._members = _members(state.loss, state.n_y, held_out) if "val_auc" in self._metrics else None
        self._targets = _targets(state, held_out) if self._functions else None

    @property
    def names(self):
        """The keys of the history that they are recorded under."""
        return [*self._metrics, *self._functions]

    def values(self, score, threads):
        """{name: value} with the parameters as they are; `score`: that of the held-out examples."""
        needs_outputs = self.names not in ([], ["val_error"])
        A, found = self._outputs(threads) if needs_outputs else None, {}
        for name in self._metrics:
            if name == "val_error":
                found[name] = 1 - score
            elif name == "val_auc":
                found[name] = auc(A, self._members, self._held_out.w)
            else:
                found[name] = (rmse if name == "val_rmse" else mae)(A, self._held_out.Y, self._held_out.w)
        for name, function in self._functions.items():
            found[name] = _returned(function(self._targets, A.copy("K")), function)
        return found

    def _outputs(self, threads):
        parts = [self._state.engine.predict(X, threads=threads) for X, *_ in self._held_out.blocks()]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _returned(value, function):
    """What a function has returned, as a float."""
    try:
        if np.shape(value) == () and not isinstance(value, str):
            return float(value)
    except TypeError:
        pass
    raise TypeError(f"the monitor {_name_of(function)} must return a number; got {value!r}")


def _targets(state, held_out):
    """What a function is handed, not to be written to: labels as `predict_labels` gives them, else Y (n_y, m)."""
    Y, targets = held_out.Y, held_out.labels
    if targets is None:
        targets = state.loss.labels_of(Y) if state.loss.classifies and ((Y == 0) | (Y == 1)).all() else Y
    targets = targets.view()
    targets.flags.writeable = False
    return targets


def _members(loss, n_y, held_out):
    """(n_y, m) of bool: which examples belong to the class of each output."""
    if held_out.labels is not None:
        members = held_out.labels == np.arange(n_y).reshape(-1, 1)
    elif loss.score == "argmax":
        members = held_out.Y.argmax(axis=0) == np.arange(n_y).reshape(-1, 1)
    else:
        members = held_out.Y > 0.5
    weighing = members if held_out.w is None else members[:, held_out.w > 0]
    if not (weighing.any(axis=1) & ~weighing.all(axis=1)).any():
        raise ValueError("monitor 'val_auc' needs examples of two classes among the held-out ones")
    return members


def auc(A, members, w):
    """The area under the ROC curve of each output, which is the probability that it is larger for a member than for
    another example, ties counting half (Hanley and McNeil 1982); averaged over those with examples of both kinds.

    A (n_y, m); members (n_y, m) of bool; w (m,) or None. NaN where an output is NaN.
    """
    w = np.ones(A.shape[1]) if w is None else w.astype(np.float64)
    areas = [_area(outputs, w * belongs, w * ~belongs) for outputs, belongs in zip(A, members, strict=True)]
    areas = [area for area in areas if area is not None]
    return float(np.mean(areas))


def _area(outputs, inside, outside):
    """Of one output; `inside` and `outside`: weights as a member and as none. None where one of these sums to 0."""
    pairs = inside.sum() * outside.sum()
    if pairs == 0:
        return None
    if np.isnan(outputs).any():
        return np.nan
    order = np.argsort(outputs, kind="stable")
    ordered = outputs[order]
    firsts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    inside, outside = (np.add.reduceat(weights[order], firsts) for weights in (inside, outside))
    below = np.cumsum(outside) - outside
    return (inside * (below + outside / 2)).sum() / pairs


def rmse(A, Y, w):
    """√(Σ_i w_i (ŷ_i - y_i)² / Σ_i w_i), averaged over the outputs."""
    squares = (A.astype(np.float64) - Y) ** 2
    return float(np.sqrt(np.average(squares, axis=1, weights=w)).mean())


def mae(A, Y, w):
    """Σ_i w_i |ŷ_i - y_i| / Σ_i w_i, averaged over the outputs."""
    return float(np.average(np.abs(A.astype(np.float64) - Y), axis=1, weights=w).mean())
