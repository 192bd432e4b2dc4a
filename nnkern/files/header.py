"""The header of a model file: JSON that says of which version it is, what the network is, where its training stands.

It knows no format's bytes and no arrays but their names and shapes: npz.py and safetensors.py hold both.
"""

import json

from nnkern import _engine, optimizers, validation
from nnkern.exceptions import ModelFormatError
from nnkern.model import MOMENTS, Model, Training

FORMAT = "nnkern network"
VERSION = 1
_COUNTERS = ("key", "t", "epoch", "step", "epochs_done")


def of(model):
    """The header of a model's file, as a dict."""
    if not isinstance(model.metadata, dict):
        raise ValueError(f"metadata must be a dict; got {type(model.metadata).__name__}")
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


def to_json(header):
    """Its text; a ValueError where the metadata holds what wouldn't come back as it was."""
    try:
        text = json.dumps(header, allow_nan=False)
        _check_keys(header)
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"metadata must be what JSON can hold: {error}") from error


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


def from_json(text):
    """The header in that text, of a format and version that can be read."""
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFormatError("its header isn't that of a network")
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise ModelFormatError(f"it has format version {version!r}, which there never was")
    if version > VERSION:
        raise ModelFormatError(f"it has format version {version}, this nnkern reads up to {VERSION}")
    if not isinstance(header.get("metadata"), dict):
        raise ModelFormatError("its metadata isn't a dict")
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
