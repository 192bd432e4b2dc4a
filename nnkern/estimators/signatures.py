"""The parameters that estimators of one family share, in the signature and the docstring of each."""

import inspect


def in_full(cls):
    """Class decorator: signature and docstring name the shared parameters, where they had `**shared` and {shared}.

    These are the keyword-only parameters of the constructor that the class inherits, whose docstring describes them. A
    class that others inherit from in turn may describe its own in that of its constructor.
    """
    base = next(one for one in cls.__mro__[1:] if "__init__" in vars(one))
    constructor = inspect.signature(cls.__init__)
    shared = [p for p in inspect.signature(base.__init__).parameters.values() if p.kind is p.KEYWORD_ONLY]
    own = [p for p in constructor.parameters.values() if p.kind is not p.VAR_KEYWORD]
    cls.__init__.__signature__ = constructor.replace(parameters=own + shared)
    for described in (cls, cls.__init__):
        if described.__doc__ is not None:  # python -OO
            described.__doc__ = inspect.cleandoc(described.__doc__).replace(
                "{shared}", inspect.cleandoc(base.__init__.__doc__)
            )
    return cls
