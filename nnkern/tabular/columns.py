"""The kinds of columns: what is learnt of each from the training rows, and the rows of X that it becomes.

A column fills its rows of X for a whole table, `fill`, and for one value, `value`, to the same bits. What it has learnt
is what `to_dict` gives, from which files, ONNX and C have it. Formulas: x' = z / √(1 + (z/3)²) of z = (x − median) / r,
r the interquartile range, as in RealMLP (arXiv 2407.04491, section 3).
"""

import datetime
import math
import re

import numpy as np

from nnkern._optional import require
from nnkern._predictor import scale_column
from nnkern._values import Value
from nnkern.tabular.frames import is_missing, listed, text_of

CLIP = 3.0
"""Where the smooth clip bends: scaled numbers lie within ±CLIP."""
FARTHEST = 1e6
"""Scaled numbers beyond are taken for this: their squares stay finite, and the clip makes nearly CLIP of them."""
QUANTILE_ROWS = 2**17
"""Quantiles are those of at most so many rows: of one from each of as many equal stretches."""
BLOCK_ROWS = 2**16
"""Examples that are converted or moved at a time, so that what stands beside a table and X is small."""
_DATED = re.compile(r"\d{4}-\d\d-\d\d").match
"""What a text begins with that is a date."""
HOLDS = ("texts", "numbers", "booleans", "dates")
"""What the categories of a column may have been in training."""
DAY, YEAR = 86400.0, 365.2425 * 86400.0
"""Seconds."""


class Row(Value):
    """One row of X: `kind` "number" (scaled and clipped), "passthrough" (−1 … 1, as it is) or "code" (0 … size − 1)."""

    def __init__(self, kind, column, size=1, part=""):
        self.kind, self.column, self.size, self.part = kind, column, size, part


def _some(values):
    """QUANTILE_ROWS of more values, always those of the same places, which follow no period that values may have."""
    if len(values) <= QUANTILE_ROWS:
        return values
    places = np.arange(QUANTILE_ROWS) + np.random.default_rng(0).random(QUANTILE_ROWS)
    return values[(places * (len(values) / QUANTILE_ROWS)).astype(np.intp)]


class Number(Value):
    """A column of numbers: scaled, smoothly clipped, 0 where missing; with `flag` a row that is 1 where missing."""

    kind = "number"

    def __init__(self, name, median, scale, flag=False):
        self.name, self.median, self.scale, self.flag = name, float(median), float(scale), bool(flag)

    @classmethod
    def fit(cls, name, values):
        """Of float64 or float32 values, NaN where missing; None for a constant."""
        missing = np.isnan(values)
        present = values[~missing] if missing.any() else values
        if not len(present) or present.min() == present.max():
            return None
        low, median, high = np.quantile(_some(present).astype(np.float64), (0.25, 0.5, 0.75))
        least, largest = float(present.min()), float(present.max())
        with np.errstate(over="ignore"):  # refused below
            scale = high - low or largest / 2 - least / 2
        if not (np.isfinite(scale) and scale > 0):
            raise ValueError(f"column {name!r} has numbers too large to be scaled, up to {max(-least, largest):g}")
        return cls(name, median, scale, missing.any())

    def rows(self):
        """Its rows of X."""
        return [Row("number", self.name)] + [Row("passthrough", self.name, part="missing")] * self.flag

    def fill(self, array, out, what):
        """Writes the rows `out` (their number, m) from an Arrow array."""
        values = numbers(array, self.name, what, float32=True)
        scale_column(values, out[0], self.median, self.scale, FARTHEST, CLIP)
        if self.flag:
            out[1] = np.isnan(values)

    def to_dict(self):
        """As JSON has it."""
        return {"kind": self.kind, **vars(self)}


class Date(Value):
    """A column of dates or times: seconds since 1970, and sine and cosine of hour, weekday and season where they vary.

    A time with a zone counts in UTC.
    """

    kind = "date"
    PERIODS = {"hour": (DAY, 0.0), "weekday": (7 * DAY, 4 * DAY), "season": (YEAR, 0.0)}  # noqa: RUF012
    """Of each part: its length in seconds, and what is added, so that a week begins with a Sunday."""

    def __init__(self, name, median, scale, flag=False, parts=(), zone=False):
        self.name, self.median, self.scale, self.flag = name, float(median), float(scale), bool(flag)
        self.parts, self.zone = list(parts), bool(zone)

    @classmethod
    def fit(cls, name, array):
        """Of an Arrow array; None for a constant."""
        array = moments(array, name, "X")
        values = seconds(array, name, "X", None)
        number = Number.fit(name, values)
        if number is None:
            return None
        present = values[~np.isnan(values)]
        days = np.floor(present / DAY)
        span = np.ptp(present)
        varies = {
            "hour": (present != days * DAY).any(),
            "weekday": span >= 2 * cls.PERIODS["weekday"][0] and np.ptp(np.mod(days, 7)) > 0,
            "season": span >= YEAR,
        }
        parts = [part for part in cls.PERIODS if varies[part]]
        return cls(name, number.median, number.scale, number.flag, parts, zone=has_zone(array))

    def rows(self):
        """Its rows of X."""
        parts = [f"{wave} of {part}" for part in self.parts for wave in ("sin", "cos")] + ["missing"] * self.flag
        return [Row("number", self.name), *(Row("passthrough", self.name, part=part) for part in parts)]

    def fill(self, array, out, what):
        """Writes the rows `out` (their number, m) from an Arrow array."""
        self.fill_seconds(seconds(array, self.name, what, self.zone), out)

    def fill_seconds(self, values, out):
        """Writes the rows `out` from seconds since 1970, float64, NaN where missing."""
        missing = np.isnan(values)
        scale_column(values, out[0], self.median, self.scale, FARTHEST, CLIP)
        for i, part in enumerate(self.parts):
            length, start = self.PERIODS[part]
            angle = np.where(missing, 0.0, np.mod(values + start, length) * (2 * math.pi / length))
            out[1 + 2 * i], out[2 + 2 * i] = (
                np.where(missing, 0.0, np.sin(angle)),
                np.where(missing, 0.0, np.cos(angle)),
            )
        if self.flag:
            out[-1] = missing

    def to_dict(self):
        """As JSON has it."""
        return {"kind": self.kind, **vars(self)}


class Category(Value):
    """A column of categories: a code, 0 for what is missing, rare or unknown; of two levels, −1 and 1 and that 0.

    `holds`, one of HOLDS, is what the values were in training: those that come as another type are taken for that.
    """

    kind = "category"

    def __init__(self, name, levels, rare=(), holds="texts"):
        self.name, self.levels, self.rare, self.holds = name, list(levels), list(rare), holds

    @classmethod
    def fit(cls, name, array, counts, min_count):
        """Of an Arrow array and its `level_counts`; None where nothing can be told apart."""
        levels = [level for level, count in counts if count >= min_count]
        others = len(array) - sum(count for _, count in counts[: len(levels)])
        if not levels or (len(levels) == 1 and not others):
            return None
        return cls(name, levels, [level for level, _ in counts[len(levels) :]], _holds(array.type))

    @property
    def is_sign(self):
        """Whether it is one row of −1 and 1."""
        return len(self.levels) == 2

    def rows(self):
        """Its row of X."""
        return [Row("passthrough", self.name) if self.is_sign else Row("code", self.name, len(self.levels) + 1)]

    def codes(self):
        """{text: what stands in X for it}"""
        values = (-1.0, 1.0) if self.is_sign else range(1, len(self.levels) + 1)
        return dict(zip(self.levels, map(float, values), strict=True))

    def fill(self, array, out, what):
        """Writes its row `out` (1, m) from an Arrow array; how many categories in it weren't there in training."""
        kind = value_type(array)
        if _family_of(kind) is None:
            raise ValueError(f"column {self.name!r} of {what} must hold {self.holds} as in training; got {kind}")
        codes, start, unseen = self.codes(), 0, 0
        known = codes.keys() | set(self.rare)
        for chunk in _encoded_blocks(array):
            levels = [level_of(level, self.holds) for level in chunk.dictionary.to_pylist()]
            of = np.array([codes.get(level, 0.0) for level in levels] + [0.0], np.float32)
            new = np.array([level is not None and level not in known for level in levels] + [False])
            for first in range(0, len(chunk), BLOCK_ROWS):
                indices = chunk.indices.slice(first, BLOCK_ROWS).cast("int64")  # int8 may not hold the one of a hole
                indices = indices.fill_null(len(levels)).to_numpy(zero_copy_only=False)
                out[0, start : start + len(indices)] = of[indices]
                start += len(indices)
                unseen += int(new[indices].sum()) if new.any() else 0
        return unseen

    def to_dict(self):
        """As JSON has it."""
        return {"kind": self.kind, **vars(self)}


KINDS = {kind.kind: kind for kind in (Number, Date, Category)}


def from_dict(entry):
    """The column that `to_dict` gave; TypeError, ValueError or KeyError for anything else."""
    entry = dict(entry)
    for name, kind in {
        "name": str,
        "levels": list,
        "rare": list,
        "parts": list,
        "flag": bool,
        "zone": bool,
        "holds": str,
    }.items():
        if name in entry and type(entry[name]) is not kind:
            raise TypeError(f"{name} of a column is {entry[name]!r}")
    try:
        column = KINDS[entry.pop("kind")](**entry)
    except OverflowError as error:
        raise ValueError(f"a number of column {entry.get('name')!r} is none of float64: {error}") from None
    if isinstance(column, Category):
        if not column.levels or not all(isinstance(level, str) for level in column.levels + column.rare):
            raise ValueError(f"the categories of {column.name!r} aren't texts")
        if len({*column.levels, *column.rare}) < len(column.levels) + len(column.rare):
            raise ValueError(f"a category of {column.name!r} is there twice")
        if column.holds not in HOLDS:
            raise ValueError(f"the categories of {column.name!r} are {column.holds!r}, none of {HOLDS}")
    elif not (math.isfinite(column.median) and 0 < column.scale < math.inf):
        raise ValueError(f"the median and scale of {column.name!r} are {column.median} and {column.scale}")
    if isinstance(column, Date) and [part for part in Date.PERIODS if part in column.parts] != column.parts:
        raise ValueError(f"the parts of {column.name!r} are {column.parts}")
    return column


# ---- what stands in an Arrow array ----


def family(array):
    """ "number", "category", "date", or None for what can't be a feature; of an Arrow array's type."""
    return _family_of(array.type)


def _family_of(kind):
    types = require("pyarrow", "a data frame").types
    if is_text(kind) or types.is_boolean(kind):
        return "category"
    if types.is_dictionary(kind):  # of intervals, as pandas' cut gives them, there are no texts
        return "category" if _family_of(kind.value_type) else None
    if types.is_date(kind) or types.is_timestamp(kind):
        return "date"
    if (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_duration(kind)
        or types.is_time(kind)
        or types.is_null(kind)
    ):
        return "number"
    return None


def is_text(kind):
    """Whether an Arrow type is one of texts."""
    types = require("pyarrow", "a data frame").types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def has_zone(array):
    """Whether an Arrow array is of times with a zone."""
    return getattr(array.type, "tz", None) is not None


def value_type(array):
    """The Arrow type of an array's values, also of one with a dictionary."""
    types = require("pyarrow", "a data frame").types
    return array.type.value_type if types.is_dictionary(array.type) else array.type


def plain(array):
    """The array without its dictionary."""
    kind = value_type(array)
    return array if kind == array.type else array.cast(kind)


def numbers(array, name, what, float32=False):
    """float64 of a column that is to hold numbers, NaN where missing; a ValueError for texts that are none, and inf.

    With `float32`, a column of that type as it is.
    """
    pa = require("pyarrow", "a data frame")
    array = plain(array)
    kind = array.type
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        whole = pa.int32() if kind.bit_width == 32 else pa.int64()
        values = _to_numpy(array.cast(whole).cast(pa.float64(), safe=False)) / unit
    elif is_text(kind):
        values = _parsed(array, name, what)
    elif family(array) == "number" or pa.types.is_boolean(kind):
        if pa.types.is_boolean(kind):
            array = array.cast(pa.int8())
        elif pa.types.is_float16(kind):
            array = array.cast(pa.float32())
        as_it_is = float32 and pa.types.is_float32(kind)
        values = _to_numpy(array if as_it_is else array.cast(pa.float64(), safe=False))
    else:
        raise ValueError(f"column {name!r} of {what} must hold numbers; got {kind}")
    if not np.isfinite(values).all() and np.isinf(values).any():
        row = int(np.isinf(values).argmax())
        raise ValueError(
            f"column {name!r} of {what}, row {row} holds {values[row]}, infinity or a value too large for float64: "
            "give what isn't known as missing, and clip the rest"
        )
    return values


def _parsed(array, name, what):
    """float64 of numbers that are written as texts; an empty one is missing."""
    pa = require("pyarrow", "a data frame")
    pc = require("pyarrow.compute", "a data frame")
    array = pc.utf8_trim_whitespace(array.cast(pa.large_string()))
    array = pc.if_else(pc.equal(array, ""), None, array)
    try:
        return _to_numpy(array.cast(pa.float64()))
    except pa.ArrowInvalid:
        row, text = next(
            (i, text) for i, text in enumerate(array.to_pylist()) if text is not None and not _is_number(text)
        )
        raise ValueError(
            f"column {name!r} of {what}, row {row} holds {text!r}, and must hold numbers, by what training found or "
            "column_types says"
        ) from None


def _is_number(text):
    try:
        parsed(text)
    except ValueError:
        return False
    return True


def parsed(text):
    """float of a number that is written as a text, NaN for an empty one; as in a column of such texts."""
    text = text.strip()
    return require("pyarrow", "a data frame").scalar(text).cast("float64").as_py() if text else math.nan


def moments(array, name, what):
    """The array, texts as the times that they are: all of them with a zone, or none."""
    pa = require("pyarrow", "a data frame")
    array = plain(array)
    if not is_text(array.type):
        return array
    try:
        return array.cast(pa.timestamp("us"))
    except pa.ArrowInvalid as error:
        try:
            return array.cast(pa.timestamp("us", "UTC"))
        except pa.ArrowInvalid:
            said = f"column {name!r} of {what} must hold dates such as 2026-01-31 12:00: {error}"
            raise ValueError(said) from None


def are_dates(array, known):
    """Whether all values of an Arrow array, `known` with their counts, are texts that are dates or times."""
    if not (known and is_text(array.type) and all(_DATED(text) for text, _ in known)):
        return False
    try:
        moments(require("pyarrow", "a data frame").chunked_array([[text for text, _ in known]]), "", "")
    except ValueError:
        return False
    return True


def _moment_of(text):
    """The datetime of one text, read as in a column of such texts; a ValueError where it is none."""
    pa = require("pyarrow", "a data frame")
    return moments(pa.chunked_array([[str(text)]]), "", "")[0].as_py()


def seconds(array, name, what, zone):
    """Seconds since 1970 in float64, NaN where missing; `zone`: whether times must have one, None where they may."""
    pa = require("pyarrow", "a data frame")
    array = moments(array, name, what)
    kind = array.type
    if pa.types.is_null(kind):
        return np.full(len(array), np.nan)
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        raise ValueError(f"column {name!r} of {what} must hold dates or times; got {kind}")
    if zone is not None and pa.types.is_timestamp(kind) and has_zone(array) != zone:
        has, had = ("a zone", "none") if has_zone(array) else ("no zone", "one")
        raise ValueError(f"the times in column {name!r} of {what} have {has}, and had {had} in training")
    if pa.types.is_date(kind):
        array = array.cast(pa.timestamp("s"))
        kind = array.type
    unit = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    return _to_numpy(array.cast(pa.int64()).cast(pa.float64(), safe=False)) / unit


def seconds_of(value, name, zone):
    """Seconds since 1970 of one date or time, NaN for None; as `seconds` for a column."""
    if is_missing(value):
        return math.nan
    if isinstance(value, str):
        try:
            value = _moment_of(value)
        except ValueError:
            raise ValueError(f"{name!r} must be a date such as 2026-01-31 12:00; got {value!r}") from None
    if isinstance(value, np.datetime64):
        value = value.astype("datetime64[us]" if np.datetime_data(value)[0] != "D" else value.dtype).item()
    if isinstance(value, datetime.datetime):
        if (value.tzinfo is not None) != zone:
            has, had = ("a zone", "none") if value.tzinfo is not None else ("no zone", "one")
            raise ValueError(f"the time {name!r} has {has}, and had {had} in training")
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC if zone else None)
        return (value - epoch) / datetime.timedelta(microseconds=1) / 1e6
    if isinstance(value, datetime.date):
        return (value - datetime.date(1970, 1, 1)).days * DAY
    raise TypeError(f"{name!r} must be a date or a time; got {value!r}")


def number_of(value, name):
    """float of one number, NaN for what is missing; as `numbers` for a column."""
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return math.nan
    if isinstance(value, datetime.time):
        value = datetime.datetime.combine(datetime.date.min, value) - datetime.datetime.min
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, np.timedelta64):
        return float(value / np.timedelta64(1, "s"))
    try:
        if isinstance(value, bytes):
            raise TypeError("Python would read it as a text")
        value = parsed(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name!r} must be a number; got {value!r}") from None
    if math.isinf(value):
        raise ValueError(f"{name!r} is {value}: give what isn't known as None") from None
    return value


def _holds(kind):
    """Which of HOLDS an Arrow type is."""
    types = require("pyarrow", "a data frame").types
    if types.is_dictionary(kind):
        return _holds(kind.value_type)
    if is_text(kind):
        return "texts"
    if types.is_boolean(kind):
        return "booleans"
    return "dates" if _family_of(kind) == "date" else "numbers"


_BOOLEANS = {"true": "True", "false": "False", "1": "True", "0": "False"}


def level_of(value, holds):
    """The text of a category that one value stands for in a column of what it `holds`, None where it is missing."""
    if is_missing(value):
        return None
    text = text_of(value)
    if holds == "booleans":
        return _BOOLEANS.get(text.lower(), text)
    try:
        if holds == "numbers" and isinstance(value, str):
            return _text_of_number(text.strip())
        if holds == "dates" and isinstance(value, str):
            return text_of(_moment_of(text))
    except ValueError:
        return text
    return str(int(value)) if holds == "numbers" and isinstance(value, bool | np.bool_) else text


def _text_of_number(text):
    if text.isascii() and text.removeprefix("-").isdecimal():  # may be beyond what float64 tells apart
        return str(int(text))
    value = parsed(text)
    return None if math.isnan(value) else text_of(value)


def _encoded_blocks(array):
    """Dictionary arrays that make up a chunked array: its own chunks, or blocks of rows with a dictionary of each."""
    if require("pyarrow", "a data frame").types.is_dictionary(array.type):
        yield from array.chunks
        return
    for start in range(0, len(array), BLOCK_ROWS):
        yield from encoded(array.slice(start, BLOCK_ROWS)).chunks


def encoded(array):
    """The chunked array with a dictionary for each chunk."""
    pa = require("pyarrow", "a data frame")
    if pa.types.is_dictionary(array.type):
        return array
    if is_text(array.type):  # views of texts have no dictionary in every version
        array = array.cast(pa.large_string())
    return array.dictionary_encode()


def level_counts(array):
    """[(text, count), …] of what is not missing, the most frequent first, of equals by text."""
    counts = {}
    for value, count in _value_counts(array):
        if value is not None and value == value:
            text = text_of(value)
            counts[text] = counts.get(text, 0) + count
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _value_counts(array):
    """(value, count) of values that occur; one may come several times."""
    pa, pc = require("pyarrow", "a data frame"), require("pyarrow.compute", "a data frame")
    if pa.types.is_dictionary(array.type):
        for chunk in array.chunks:
            values = chunk.dictionary.to_pylist()
            for entry in pc.value_counts(chunk.indices).to_pylist():
                if entry["values"] is not None:
                    yield values[entry["values"]], entry["counts"]
        return
    if pa.types.is_string_view(array.type):  # of these, a missing one is counted as an empty one
        array = array.cast(pa.large_string())
    for entry in pc.value_counts(array).to_pylist():
        yield entry["values"], entry["counts"]


def has_values(array):
    """Whether not all of it is missing."""
    pc = require("pyarrow.compute", "a data frame")
    return not pc.all(pc.is_null(plain(array), nan_is_null=True)).as_py()


def distinct(array):
    """How many different values there are, missing ones aside."""
    pc = require("pyarrow.compute", "a data frame")
    return pc.count_distinct(plain(array), mode="only_valid").as_py()


def _to_numpy(array):
    return array.to_numpy() if hasattr(array, "chunks") else array.to_numpy(zero_copy_only=False)


def refuse_nested(arrays, what="X"):
    """A TypeError that names every column that can't be a feature."""
    wrong = {name: array.type for name, array in arrays.items() if family(array) is None}
    if wrong:
        said = ", ".join(f"{name!r} ({kind})" for name, kind in list(wrong.items())[:10])
        raise TypeError(
            f"{what} has columns that hold neither numbers nor texts, booleans or dates: {said}; take them apart into "
            f'columns of their own, or leave them out by column_types={{{listed(wrong, 1)}: "ignore"}}'
        )
