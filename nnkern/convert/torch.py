"""torch's modules: what a layer is in torch.nn, and the Sequential that a Model is made into and read from."""

import numpy as np

from nnkern._optional import require
from nnkern.convert import forms
from nnkern.convert.chain import Chain, normalisation
from nnkern.exceptions import ModelFormatError
from nnkern.schedules import initial

# Arguments of a torch module that may differ from ours: softplus is z itself from its threshold on, which at 20
# (torch's default) is off by 2e-9 at most, and of (m, n) the last axis is axis 1.
_EQUIVALENT = {"threshold": lambda value: value >= 20, "dim": lambda value: value in (1, -1)}


def _dense(layer, n_prev):
    modules = [("Linear", {"in_features": n_prev, "out_features": layer.units, "bias": layer.use_bias})]
    form = forms.FORMS[layer.activation].torch
    if layer.mix:
        modules.append((None, "the mix"))
    elif form is None:
        modules.append((None, f"the activation {layer.activation}"))
    elif form[0] != "Identity":
        name, arguments = form
        slopes = {key: layer.negative_slope for key, value in arguments.items() if value == forms.SLOPE}
        modules.append((name, arguments | slopes))
    if layer.dropout:
        modules.append(("Dropout", {"p": initial(layer.dropout)}))
    return modules


def _scale(layer, n_prev):
    return [(None, "the factors")]


def _encode(layer, n_prev):
    return [(None, "the encoders")]


LAYERS = {
    "dense": (_dense, {"W": "weight", "b": "bias", "a": "mix"}),
    "scale": (_scale, {"s": "scale"}),
    "encode": (_encode, {"w": "frequencies", "b": "phases", "M": "maps", "E": "embeddings"}),
}
"""For each kind of layer: a function (layer, n_prev) -> modules, each (class of torch.nn, arguments), the first of
which holds the parameters; and the names that these have in it. Where torch has no class for a module, it is (None,
what it would be)."""


def tensor_names(layers):
    """{"W1": "0.weight", "b1": "0.bias", …}: what a state dict of the layers' Sequential calls the parameters."""
    names, position = {}, 0
    for l, layer in enumerate(layers, start=1):
        modules, tensors = LAYERS[layer.kind]
        names |= {f"{name}{l}": f"{position}.{tensors[name]}" for name in layer.parameter_shapes(1)}
        position += len(modules(layer, None))
    return names


def write(model):
    """A torch.nn.Sequential with a copy of the parameters. See Network.to_torch."""
    modules = [LAYERS[layer.kind][0](layer, n) for layer, n in zip(model.layers, model.sizes, strict=False)]
    for l, those in enumerate(modules, start=1):
        for name, arguments in those:
            if name is None:
                raise ValueError(f"torch has no module for {arguments} of layer {l}")
    torch = require("torch", "to_torch")
    dtype, sequence = getattr(torch, model.dtype.name), torch.nn.Sequential()
    for (_, layer, parameters), those in zip(model.numbered_layers(), modules, strict=True):
        first, *others = [getattr(torch.nn, name)(**arguments) for name, arguments in those]
        first.to(dtype)
        with torch.no_grad():
            for name, array in parameters.items():
                tensor = getattr(first, LAYERS[layer.kind][1][name])
                tensor.copy_(torch.from_numpy(np.array(array, order="C")).reshape(tensor.shape))
        sequence.extend([first, *others])
    return sequence.eval()


def read(module, loss=None):
    """The Model of a torch.nn.Sequential, with copies of its parameters. See nnkern.from_torch."""
    nn = require("torch", "from_torch").nn
    if type(module) is not nn.Sequential:
        raise TypeError(f"model must be a torch.nn.Sequential; got {type(module).__name__}")
    chain = Chain()
    for name, leaf in _leaves(nn, module):
        where = f"module {name} ({type(leaf).__name__})"
        kind = type(leaf)
        if kind is nn.Linear:
            chain.dense(_numpy(leaf.weight, where), _numpy(leaf.bias, where), where)
        elif kind is nn.Dropout:
            chain.drop(leaf.p, where)
        elif kind is nn.BatchNorm1d and leaf.track_running_stats:
            statistics = leaf.weight, leaf.bias, leaf.running_mean, leaf.running_var
            chain.affine(*normalisation(*(_numpy(tensor, where) for tensor in statistics), leaf.eps), where)
        elif kind is nn.Flatten and (leaf.start_dim, leaf.end_dim) == (1, -1):
            continue
        else:
            chain.activate(*_activation(nn, leaf, where), where)
    return chain.model(loss)


def _leaves(nn, module, prefix=""):
    """(name, module) of what is in a Sequential and in the Sequentials in it."""
    for name, child in module.named_children():
        if type(child) is nn.Sequential:
            yield from _leaves(nn, child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _numpy(tensor, where):
    if tensor is None:
        return None
    tensor = tensor.detach().cpu()
    if not tensor.is_floating_point() or tensor.element_size() not in (4, 8):
        raise ModelFormatError(f"{where}: the parameters are {tensor.dtype}; they must be float32 or float64")
    return tensor.numpy().copy()


def _activation(nn, module, where):
    """(name, slope or None)"""
    for name, form in forms.FORMS.items():
        if form.torch is None or type(module) is not getattr(nn, form.torch[0], None):
            continue
        slope, fits = None, True
        for key, value in form.torch[1].items():
            found = getattr(module, key)
            if value == forms.SLOPE:
                slope = found
            else:
                fits = fits and (_EQUIVALENT[key](found) if key in _EQUIVALENT else found == value)
        if fits:
            return name, slope
    raise ModelFormatError(f"{where} can't be taken: {module!r}")
