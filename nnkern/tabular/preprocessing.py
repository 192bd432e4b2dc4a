"""A table's columns as the rows of X: which columns are features and of what kind, learnt once, then applied.

Knows no networks. What it warns of is said once for all columns.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import nnkern.tabular.columns as kinds
from nnkern import _caller, _kernels
from nnkern._optional import require
from nnkern.tabular.columns import BLOCK_ROWS, Category, Date, Number, distinct, family, level_counts, numbers
from nnkern.tabular.frames import ConsumableColumns, give_back, listed, place_name

TYPES = ("number", "category", "date", "ignore")
MIN_COUNT = 5
"""A category that occurs less often counts as unknown: half the inputs, and no less accurate."""
MANY_LEVELS = 100
"""A text column with more categories, most of them rare, is left out."""


class TabularWarning(UserWarning):
    """What a table has may not be meant: a constant column, free text, an identifier, one that tells the target."""


class Preprocessing:
    """What is learnt of a table's columns, and X from new tables with these columns.

    Attributes
    ----------
    columns : list of Number, Category and Date
        Those that are features, in the table's order.
    left_out : dict
        {name: why} of the others.
    rows : list of Row
        What the rows of X are.
    """

    def __init__(self, columns, left_out=None):
        self.columns, self.left_out = list(columns), dict(left_out or {})
        self.rows = [row for column in self.columns for row in column.rows()]

    @classmethod
    def fit(cls, arrays, column_types=None, min_count=MIN_COUNT, threads=None):
        """Of {name: Arrow array}; `column_types` says what some are: one of TYPES, or a list of categories to know.

        Raises
        ------
        TypeError, ValueError
            A column can't be a feature, or none is left; the message names all such columns.

        Warns
        -----
        TabularWarning
            For columns that are left out, or look like identifiers.
        """
        wanted = _by_name(column_types or {}, arrays)
        unknown = [name for name in wanted if name not in arrays]
        if unknown:
            raise ValueError(f"column_types names {listed(unknown)}, which X doesn't have; it has {listed(arrays)}")
        wrong = {name: kind for name, kind in wanted.items() if kind not in TYPES}
        if wrong:
            raise ValueError(f"column_types must be {', '.join(map(repr, TYPES))}; got {wrong!r}")
        used = {name: array for name, array in arrays.items() if wanted.get(name) != "ignore"}
        kinds.refuse_nested(used)
        left_out = {name: "as asked for" for name in arrays if name not in used}
        columns, ids, errors = [], [], []

        def fitted(item):
            name, array = item
            try:
                return *_fitted(name, array, wanted.get(name), min_count), None
            except ValueError as error:
                return None, None, error

        found = _each(fitted, used.items(), threads, max(map(len, used.values()), default=0))
        for (name, array), (column, why, error) in zip(used.items(), found, strict=True):
            if error is not None:
                errors.append(error)
                continue
            if column is None:
                left_out[name] = why
                continue
            columns.append(column)
            if name not in wanted and _is_identifier(array, column):
                ids.append(name)
        _refuse(errors)
        _warn(left_out, ids)
        if not columns:
            raise ValueError(f"X has no column to learn from: {_reasons(left_out)}")
        return cls(columns, left_out)

    @property
    def names(self):
        """Names of the columns that are features."""
        return [column.name for column in self.columns]

    @property
    def n_x(self):
        """Number of rows of X."""
        return len(self.rows)

    def transform(self, arrays, what="X", threads=None, warn=True):
        """X (n_x, m) in float32, an example contiguous, of {name: Arrow array} with all the columns.

        Raises
        ------
        ValueError
            A column holds what it can't, such as texts in one of numbers: the message names column and row.

        Warns
        -----
        TabularWarning
            For categories that weren't there in training, which count as missing.
        """
        m = len(next(iter(arrays.values())))
        X = np.empty((m, self.n_x), np.float32)

        def filled(item):
            column, first = item
            array = arrays.pop(column.name) if isinstance(arrays, ConsumableColumns) else arrays[column.name]
            try:
                return _fill(column, array, X[:, first : first + len(column.rows())].T, what), None
            except ValueError as error:
                return 0, error

        found = _each(filled, zip(self.columns, self._first_rows(), strict=True), threads, m)
        _refuse([error for _, error in found if error is not None])
        unseen = {column.name: count for column, (count, _) in zip(self.columns, found, strict=True) if count}
        if unseen and warn:
            said = ", ".join(f"{name!r} in {count} of {m} rows" for name, count in unseen.items())
            text = f"{what} has categories that weren't there in training, and count as missing: {said}"
            _caller.warn(text, TabularWarning)
        if m >= BLOCK_ROWS:
            give_back()
        return X.T

    def _first_rows(self):
        """Of each column, the first of its rows of X."""
        return np.cumsum([0, *(len(column.rows()) for column in self.columns[:-1])]).tolist()

    def to_dict(self):
        """All that was learnt, as JSON has it; floats come back to the last bit."""
        return {"columns": [column.to_dict() for column in self.columns], "left_out": self.left_out}

    @classmethod
    def from_dict(cls, entry):
        """What `to_dict` gave; TypeError, ValueError or KeyError for anything else."""
        made = cls([kinds.from_dict(one) for one in entry["columns"]], entry["left_out"])
        if not made.columns or len(set(made.names)) < len(made.names):
            raise ValueError(f"the columns are {made.names}")
        return made

    def __repr__(self):
        lines = [("column", "kind", "rows of X")]
        for column in self.columns:
            lines.append((column.name, column.kind, _said(column)))
        lines += [(name, "left out", why) for name, why in self.left_out.items()]
        width = [max(len(line[i]) for line in lines) for i in range(2)]
        return "\n".join(f"{name:{width[0]}}  {kind:{width[1]}}  {rest}".rstrip() for name, kind, rest in lines)


def check_entries(arrays, column_types=None):
    """Raises what `Preprocessing.fit` would say of single entries, for one shard of the rows, with its row numbers."""
    wanted = _by_name(column_types or {}, arrays)
    errors = []
    for name, array in arrays.items():
        kind = wanted.get(name) or family(array)
        try:
            if kind == "number":
                numbers(array, name, "X", float32=True)
            elif kind == "date":
                kinds.seconds(array, name, "X", None)
        except ValueError as error:
            errors.append(error)
    _refuse(errors)


def _each(function, items, threads, m):
    """[function(item) of each]; of large tables on several threads, whose arithmetic holds no lock."""
    threads = threads or _kernels.get_threads()
    if threads == 1 or m < BLOCK_ROWS:
        return [function(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def _fill(column, array, out, what):
    """Writes the rows `out` (their number, m) of a column; how many categories in it weren't there in training."""
    if isinstance(column, Category):  # takes its own blocks, so that a dictionary is looked at once
        return column.fill(array, out, what)
    for start in range(0, len(array), BLOCK_ROWS):
        try:
            column.fill(array.slice(start, BLOCK_ROWS), out[:, start : start + BLOCK_ROWS], what)
        except ValueError:
            return column.fill(array, out, what)  # which names the row it has in all
    return 0


def _refuse(errors):
    """One error for all columns that can't be what they are to be."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        more = f"; and {len(errors) - 10} columns more" if len(errors) > 10 else ""
        raise ValueError("; ".join(map(str, errors[:10])) + more)


def _said(column):
    if isinstance(column, Category):
        return f"{len(column.levels)} categories: {listed(column.levels, 4)}"
    said = f"median {column.median:g}, scale {column.scale:g}" if isinstance(column, Number) else "seconds since 1970"
    parts = [*getattr(column, "parts", ()), *["missing"] * column.flag]
    return said + "".join(f", {part}" for part in parts)


def _by_name(column_types, arrays):
    """column_types with the columns' names, of pandas' columns that are named by numbers and of an array's places."""
    wanted = {}
    for given, kind in column_types.items():
        name = str(given)
        if name not in arrays and name.isdecimal() and place_name(name) in arrays:  # a text where JSON had it
            name = place_name(given)
        if name in wanted:
            raise ValueError(f"column_types has {name!r} twice, the second time as {given!r}")
        wanted[name] = kind
    return wanted


def _fitted(name, array, wanted, min_count):
    """(column, None), or (None, why it is left out)."""
    kind = wanted or family(array)
    if array.null_count == len(array):
        column = None
    elif kind == "number":
        column = Number.fit(name, numbers(array, name, "X", float32=True))
    elif kind == "date":
        column = Date.fit(name, array)
    else:
        known = level_counts(array)
        if wanted is None and kinds.are_dates(array, known):
            return _fitted(name, array, "date", min_count)
        frequent = sum(count for _, count in known if count >= min_count)
        is_text = wanted is None and kinds.is_text(kinds.value_type(array))
        if is_text and len(known) > MANY_LEVELS and 2 * frequent < len(array) - array.null_count:
            return None, f"text of {len(known)} different values"
        if len(known) > 1 and not frequent:
            min_count = 1  # a small table, or one whose many values are wanted
        column = Category.fit(name, array, known, min_count)
    if column is None:
        return None, "constant" if kinds.has_values(array) else "all missing"
    return column, None


def _is_identifier(array, column):
    """Whether whole numbers are all different and lie as close as a count of the rows would."""
    if not isinstance(column, Number) or column.flag or len(array) < 100:
        return False
    pc, types = (require(f"pyarrow.{module}", "a data frame") for module in ("compute", "types"))
    if not types.is_integer(array.type):
        return False
    spread = pc.min_max(array).as_py()
    return spread["max"] - spread["min"] < 20 * len(array) and distinct(array) == len(array)


def _warn(left_out, ids):
    unasked = {name: why for name, why in left_out.items() if why != "as asked for"}
    if unasked:
        _caller.warn(
            f"left out of what is learnt: {_reasons(unasked)}. column_types takes one in as 'category', "
            "'number' or 'date', or says 'ignore' without this warning",
            TabularWarning,
        )
    if ids:
        _caller.warn(
            f"{listed(ids)} look{'s' * (len(ids) == 1)} like an identifier: all rows differ. Unless it means one, "
            f'leave it out by column_types={{{ids[0]!r}: "ignore"}}',
            TabularWarning,
        )


def _reasons(left_out):
    reasons = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{listed(names)} ({why})" for why, names in reasons.items()) or "it has none"
