"""What a model file holds, and which format its name asks for.

A file holds a header, JSON (format, version, configuration, n_x, metadata), and one array a parameter; with the
training state, also where the training stands and one array a parameter for each vector of the optimizer's. The ending
of the name decides between two formats, npz.py and safetensors.py; a file object holds the first. Reading runs no code
and believes nothing: every size is checked before memory is taken.
"""

import os

from nnkern.exceptions import ModelFormatError
from nnkern.files import endings, header, npz, safetensors
from nnkern.files.endings import is_safetensors
from nnkern.files.opening import is_object, name_of, open_object, open_regular, reading, size_of
from nnkern.layers import parameter_shapes


def _format(path):
    return safetensors if is_safetensors(path) else npz


def write(model, path):
    """Writes a model that has parameters to a file or a file object, see Network.save."""
    form = npz
    if not is_object(path):
        path = os.fsdecode(path)
        endings.check_written(path)
        form = _format(path)
    arrays = dict(model.parameters)
    if model.training is not None:
        for moment, vectors in model.training.moments.items():
            arrays |= {f"{moment}.{name}": vector for name, vector in vectors.items()}
    form.write(path, model, header.of(model), arrays)


def read(path):
    """The model in a file or a file object, see nnkern.load."""
    if is_object(path):
        return _read(npz, open_object(path), name_of(path))
    path = os.fsdecode(path)
    endings.check_read(path)
    return _read(_format(path), open_regular(path), path)


def _read(form, opening, path):
    with opening as file, reading(path):
        size = size_of(file)
        with form.opened(file, path) as stored:
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
