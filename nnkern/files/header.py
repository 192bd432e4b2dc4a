"""The header of a model file: JSON that says of which version it is, what the network is, where its training stands.

It knows no format's bytes and no arrays but their names and shapes: npz.py and safetensors.py hold both.
"""

import json
import math
import re
import sys

from nnkern import _engine, optimizers, schedules, validation
from nnkern.exceptions import ModelFormatError
from nnkern.model import MOMENTS, Model, Training

FORMAT = "nnkern network"
VERSION = 1
TABLE_FORMAT = "nnkern table"
READERS = {FORMAT: "nnkern.load", TABLE_FORMAT: "nnkern.tabular.load"}
"""What reads a file, by the format that its header names."""
_COUNTERS = ("key", "t", "epoch", "step", "epochs_done")

# The memory that a header may take once it is parsed: so many times the file's size, and so many bytes. What CPython
# makes of each part of it, in bytes: a list with its first slots; a dict with its first table; a key, with its places
# in a growing dict and in the parser's table of keys; a text; a number; an element's place in a growing list.
_TIMES_FILE, _ALLOWANCE = 16, 2**22
_LIST, _DICT, _KEY, _TEXT, _NUMBER, _PLACE = 96, 192, 150, 64, 32, 16
# one that isn't closed goes on to the end: the time is linear in the length
_TEXTS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


def of(model):
    """The header of a model's file, as a dict."""
    if not isinstance(model.metadata, dict):
        raise ValueError(f"metadata must be a dict; got {type(model.metadata).__name__}")
    for l, layer in enumerate(model.layers, start=1):
        if callable(layer.dropout) and schedules.to_json(layer.dropout) is None:
            raise ValueError(
                f"the dropout of layer {l} goes by a function of your own, which a file can't hold: name the shape of "
                "its ByStep, or pickle the network"
            )
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": model.config(),
        "n_x": model.n_x,
        "metadata": model.metadata,
    }
    training = model.training
    if training is not None:
        header["training"] = {
            **training.progress,
            "moments": list(training.moments),
            "optimizer": optimizers.to_json(training.optimizer),
        }
    return header


def to_json(header, arrays):
    """Its text, for a file with these arrays; a ValueError where the metadata wouldn't come back as it was."""
    try:
        text = json.dumps(header, allow_nan=False)
        _check_keys(header)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"metadata must be what JSON can hold, arrays as array.tolist(), numpy's numbers as number.item(): {error}"
        ) from error
    size = len(text) + sum(array.nbytes for array in arrays.values())
    if not fits(text, size):
        raise ValueError(
            f"metadata must take at most {_TIMES_FILE} times the file's size when it is loaded, {_most(size):,} bytes "
            f"here, and has too many small parts for that, in {len(text):,} bytes of JSON: join some to longer texts"
        )
    return text


def _check_keys(value):
    """Raises a TypeError for a key that json would make a text: it wouldn't come back as it was."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise TypeError(f"the key {key!r} is no text")
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def _most(size):
    return _TIMES_FILE * size + _ALLOWANCE


def fits(text, size):
    """Whether what JSON makes of the text takes no more memory than a file of that size may ask for."""
    if _memory(text, text) <= _most(size):  # what stands inside of texts is counted as if it were structure
        return True
    return _memory(text, _TEXTS.sub('""', text)) <= _most(size)


def _memory(text, structure):
    """An upper bound, in bytes: the text, the texts in it, and the objects that their brackets and commas tell of."""
    lists, dicts, keys, commas = (structure.count(mark) for mark in "[{:,")
    texts = (structure.count('"') + 1) // 2 - keys
    numbers = max(0, commas + 1 - texts)
    objects = lists * _LIST + dicts * _DICT + keys * _KEY + texts * _TEXT + numbers * _NUMBER + commas * _PLACE
    return objects + len(text) + 2 * sys.getsizeof(text)


def _finite(number):
    """A float from its text: JSON has no other, and saving refuses them."""
    value = float(number)
    if not math.isfinite(value):
        raise ModelFormatError(f"its header holds {number}, which is no finite number")
    return value


def from_json(text, size):
    """The header of a network in that text, in a file of that size."""
    header = parsed(text, size, FORMAT, VERSION)
    if not isinstance(header.get("metadata"), dict):
        raise ModelFormatError("its metadata isn't a dict")
    return header


def parsed(text, size, format, version):
    """The header in that text, of a format and up to a version, in a file of that size."""
    if not fits(text, size):
        raise ModelFormatError(
            f"its header has so many parts that it would take more memory than {_TIMES_FILE} times the file's {size} "
            "bytes"
        )
    header = json.loads(text, parse_float=_finite, parse_constant=_finite)
    if not isinstance(header, dict) or header.get("format") != format:
        said = header.get("format") if isinstance(header, dict) else None
        hint = f": it is that of an {said}, see {READERS[said]}" if said in READERS else ""
        raise ModelFormatError(f"its header isn't that of an {format}{hint}")
    found = header.get("version")
    if type(found) is not int or found < 1:
        raise ModelFormatError(f"it has format version {found!r}, which there never was")
    if found > version:
        raise ModelFormatError(f"it has format version {found}, this nnkern reads up to {version}")
    return header


def to_model(header, count):
    """The model that a header describes, without arrays, where the file holds `count` of them."""
    layers = len(header["config"]["layers"])
    if layers > count:  # a layer takes one at least; what Python keeps of a layer is larger than its description
        raise ModelFormatError(f"it describes {layers} layers, and holds {count} arrays")
    return Model.from_config(
        header["config"],
        n_x=validation.size("n_x", header["n_x"]),
        metadata=header["metadata"],
        training=_training(header.get("training")),
    )


def _training(entry):
    """Where a training stands, its vectors None as yet; None where the header doesn't say."""
    if entry is None:
        return None
    progress = dict(entry)
    moments, optimizer = progress.pop("moments"), progress.pop("optimizer")
    for name in _COUNTERS:
        if validation.integer(name, progress[name], 0) >= 2**63:
            raise ModelFormatError(f"its training state has {name} {progress[name]}")
    validation.integer("entropy", progress["entropy"], 0)
    if progress["state_of"] is not None:
        validation.choice("state_of", progress["state_of"], _engine.UPDATES)
    if not isinstance(moments, list) or moments != [name for name in MOMENTS if name in moments]:
        raise ModelFormatError(f"its training state has the vectors {moments!r}")
    return Training(progress, optimizers.from_json(optimizer), dict.fromkeys(moments))
