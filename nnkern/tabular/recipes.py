"""Provisional."""

from nnkern._values import Value


class Recipe(Value):
    """A recipe."""

    def __init__(self, epochs=64):
        self.epochs = epochs


PRESETS = {name: [Recipe(16)] for name in ("fast", "default", "best")}
