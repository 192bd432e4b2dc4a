"""What the text of a CSV cell stands for: a number, a missing value, a label.

Columns are long: what is done to every cell is a `map` of a built-in function, whose loop is in C.
"""

from itertools import compress

import numpy as np

# Cells that are parsed at a time. Cells of one column are far apart in memory, since a file is read row by row:
# fetching them takes longer than parsing. A block (about 0.25 MB) is still in L2 when the second pass over it begins.
CELLS_AT_A_TIME = 2**12
# Written in a CSV cell, in any case, these mean that the value isn't known.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})


def parse_number(text):
    """The number that a text stands for, or a ValueError; unlike `float`, it refuses underscores: 18_25 is a range."""
    if "_" in text:
        raise ValueError(f"{text!r} holds an underscore")
    return float(text)


def is_number(text):
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


def parse_numbers(texts):
    """The texts as float64, NaN where missing (None if some aren't numbers), and the mask of the missing ones."""
    values = _floats(texts)
    if values is not None and not np.isnan(values).any():
        return values, np.zeros(len(texts), bool)
    missing = are_missing(texts)
    present = _floats(list(compress(texts, ~missing)))
    if present is None:
        return None, missing
    values = np.full(len(texts), np.nan)
    values[~missing] = present
    return values, missing


def are_missing(texts):
    """The mask of the texts that mean that the value isn't known."""
    return np.fromiter(map(MISSING.__contains__, map(str.lower, texts)), bool, len(texts))


def _floats(texts):
    """float64 of texts that `parse_number` takes, all of them, or None."""
    values = np.empty(len(texts))
    for i in range(0, len(texts), CELLS_AT_A_TIME):
        block = texts[i : i + CELLS_AT_A_TIME]
        if "_" in "".join(block):
            return None
        try:
            values[i : i + CELLS_AT_A_TIME] = np.fromiter(map(float, block), np.float64, len(block))
        except ValueError:
            return None
    return values


def not_a_number(table, name):
    """The message about the first text in a column that should hold numbers only."""
    cells = zip(table.lines, table.columns[name], strict=True)
    line, text = next((line, text) for line, text in cells if text.lower() not in MISSING and not is_number(text))
    return f"{table.source}, line {line}: column {name!r} holds {text!r}, not a number"


def label_name(value):
    """The name of a class: whole numbers without a point, text as it is."""
    if isinstance(value, str):
        return str(value)
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def label_codes(texts, labels):
    """The index of each text in `labels`, or −1; numbers may be written otherwise (1.0 for 1)."""
    index = {label: i for i, label in enumerate(labels)}
    values = {label_value(label): i for label, i in index.items()}
    for text in set(texts) - index.keys():
        index[text] = values.get(label_value(text), -1)
    return np.fromiter(map(index.__getitem__, texts), np.int64, len(texts))


def label_value(text):
    """What two spellings of one label have in common: its number, or the text if it is none, such as the code 0123."""
    unsigned = text.lstrip("+-")
    if unsigned[:1] == "0" and unsigned[1:2].isdecimal():
        return text
    try:
        return int(text) if text.isdecimal() else parse_number(text)  # as floats, integers above 2^53 would coincide
    except ValueError:
        return text
