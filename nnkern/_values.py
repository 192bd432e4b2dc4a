"""Objects that are their numbers. A dataclass would give each class its own, and compile it at import."""


class Value:
    """Base of objects that are equal, and look alike, where their attributes are."""

    def __repr__(self):
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def __eq__(self, other):
        return vars(self) == vars(other) if type(other) is type(self) else NotImplemented

    def __hash__(self):
        return hash((type(self), *vars(self).values()))
