"""What a model file holds, and which format its name asks for.

A file holds a header, JSON (format, version, configuration, n_x, metadata), and one array a parameter; with the
training state, also where the training stands and one array a parameter for each vector of the optimizer's. The ending
of the name decides between two formats, npz.py and safetensors.py; a file object may have no name, so that it is told
which to hold, and what it holds is seen by its first bytes. Reading runs no code and believes nothing: every size is
checked before memory is taken.
"""

import os

from nnkern import validation
from nnkern.exceptions import ModelFormatError
from nnkern.files import endings, header, npz, safetensors
from nnkern.files.endings import is_safetensors
from nnkern.files.opening import is_object, name_of, open_object, open_regular, reading, size_of
from nnkern.layers import parameter_shapes

_FORMATS = {"npz": npz, "safetensors": safetensors}


def _format(path):
    return safetensors if is_safetensors(path) else npz


def write(model, path, format=None):
    """Writes a model that has parameters to a file or a file object, see Network.save."""
    if format is not None:
        format = validation.choice("format", format, tuple(_FORMATS))
    if is_object(path):
        form = _format(name_of(path)) if format is None else _FORMATS[format]
    else:
        path = os.fsdecode(path)
        endings.check_written(path)
        form = _format(path)
        if format is not None and form is not _FORMATS[format]:
            raise ValueError(
                f"format is {format!r}, and the name {path} says that it is another: load goes by the name, so let it "
                "end in .safetensors for that format and for that alone; format= is for file objects"
            )
    arrays = dict(model.parameters)
    if model.training is not None:
        for moment, vectors in model.training.moments.items():
            arrays |= {f"{moment}.{name}": vector for name, vector in vectors.items()}
    form.write(path, model, header.of(model), arrays)


def read(path):
    """The model in a file or a file object, see nnkern.load."""
    if is_object(path):
        return _read(_opened_object, open_object(path), name_of(path))
    path = os.fsdecode(path)
    endings.check_read(path)
    return _read(_format(path).opened, open_regular(path), path)


def _opened_object(file, name):
    """The Reader of what the first bytes say that a file object holds."""
    return safetensors.opened_object(file, name) if safetensors.begins(file) else npz.opened(file, name)


def _read(opened, opening, path):
    with opening as file, reading(path):
        size = size_of(file)
        with opened(file, path) as stored:
            entries = header.from_json(stored.text, size)
            model = header.to_model(entries, stored.count)
            fill(model, stored, stored.names(entries, model.layers))
            return model


def fill(model, stored, names, prefix=""):
    """Reads the arrays of the model from what is stored, which has those names, each behind the prefix."""
    shapes = parameter_shapes(model.layers, model.n_x)
    moments = model.training.moments if model.training is not None else {}
    expected = shapes | {f"{moment}.{name}": shape for moment in moments for name, shape in shapes.items()}
    if names != set(expected):
        raise ModelFormatError(f"it holds {', '.join(sorted(names))}; its layers need {', '.join(expected)}")
    arrays = {}
    for name, shape in expected.items():
        array = stored.array(prefix + name, shape, model.dtype)
        if array.shape != shape or array.dtype != model.dtype:
            raise ModelFormatError(f"{name} is {array.dtype} {array.shape}; its layers need {model.dtype} {shape}")
        arrays[name] = array
    model.parameters = {name: arrays[name] for name in shapes}
    for moment in moments:
        moments[moment] = {name: arrays[f"{moment}.{name}"] for name in shapes}
