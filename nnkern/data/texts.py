"""What the text of a CSV cell stands for: a number, a missing value, a label."""

import numpy as np

# Written in a CSV cell, in any case, these mean that the value isn't known.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})


def parse_number(text):
    """The number that a text stands for, or a ValueError; 18_25 is one in Python's source only."""
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
    """The texts as float64 with NaN where missing (None if some aren't numbers), and the mask."""
    try:
        values = np.fromiter(map(parse_number, texts), np.float64, len(texts))
        if not np.isnan(values).any():
            return values, np.zeros(len(texts), bool)
    except ValueError:
        pass
    missing = np.fromiter((text.lower() in MISSING for text in texts), bool, len(texts))
    try:
        filled = ("nan" if gone else text for text, gone in zip(texts, missing, strict=True))
        return np.fromiter(map(parse_number, filled), np.float64, len(texts)), missing
    except ValueError:
        return None, missing


def not_a_number(table, name):
    """Where a column that should be numbers holds a text first."""
    for line, text in zip(table.lines, table.columns[name], strict=True):
        if text.lower() not in MISSING and not is_number(text):
            return f"{table.source}, line {line}: column {name!r} holds {text!r}, not a number"
    raise AssertionError(name)


def label_name(value):
    """The name of a class: whole numbers without a point, text as it is."""
    if isinstance(value, str):
        return str(value)
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def label_codes(texts, labels):
    """The index of each text in `labels`, or −1; numbers may be written otherwise (1.0 for 1)."""
    index = {label: i for i, label in enumerate(labels)}
    senses = {label_value(label): i for label, i in index.items()}
    for text in set(texts) - index.keys():
        index[text] = senses.get(label_value(text), -1)
    return np.fromiter((index[text] for text in texts), np.int64, len(texts))


def label_value(text):
    """What is equal of two ways to write a label: its number, or the text of what is none, such as a code 0123."""
    unsigned = text.lstrip("+-")
    if unsigned[:1] == "0" and unsigned[1:2].isdecimal():
        return text
    try:
        return int(text) if text.isdecimal() else parse_number(text)  # integers may be longer than a float's digits
    except ValueError:
        return text
