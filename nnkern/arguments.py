"""Arguments of names that a function doesn't have: refused with the name that is meant, or with where it belongs."""

import functools

_ELSEWHERE = {
    "bias": "use_bias", "epsilon": "eps", "eval_set": "validation_data", "in_features": "n_x",
    "initializer": "init", "input_dim": "n_x", "input_shape": "n_x", "iterations": "epochs", "lr": "learning_rate",
    "max_iter": "epochs", "n_epochs": "epochs", "n_features": "n_x", "n_jobs": "threads", "num_epochs": "epochs",
    "num_iterations": "epochs", "out_features": "units", "random_state": "seed", "test_size": "validation_split",
    "val_data": "validation_data", "validation_fraction": "validation_split", "verbose": "progress",
}  # fmt: skip
"""What other libraries call an argument: its name here."""
_PLACES: dict[str, tuple[str, ...]] = {}
"""Examples of calls: what they take beside what they pass already. An argument's place is the first that takes it."""


def named(example=None):
    """Decorator of a function, or of a dataclass: an unknown argument's name is refused with the one that is meant.

    `example` is a call, with {} for the name of an argument, that other functions name for the arguments that it takes.
    """

    def decorate(function):
        if isinstance(function, type):
            function.__init__ = decorate(function.__init__)
            return function
        code = function.__code__
        known = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        known = known[known[0] == "self" :]
        names = frozenset(known)
        if example is not None:
            _PLACES[example] = known[example.count(",") :]

        @functools.wraps(function)
        def checked(*arguments, **keywords):
            if not keywords.keys() <= names:
                [unknown, *_] = [name for name in keywords if name not in names]
                called = function.__qualname__.removesuffix(".__init__")
                raise TypeError(f"{called}() got an unexpected keyword argument {unknown!r}: {_meant(unknown, known)}")
            return function(*arguments, **keywords)

        return checked

    return decorate


def _meant(name, known):
    """What to write in place of an unknown argument's name; else what there is."""
    meant = _ELSEWHERE.get(name, name)
    if meant in known:
        return f"{meant}= is its name here"
    for example, taken in _PLACES.items():
        if meant in taken:
            return f"its place is {example.format(meant)}"
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}=?" if close else f"there are {', '.join(known)}"
