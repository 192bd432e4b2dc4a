"""`nnkern export`: a model in a format that other programs read, its preprocessing inside where the format has it."""

import os

import nnkern as nk
from nnkern.cli.errors import CommandError
from nnkern.cli.models import RECORD, load, preprocessor_of
from nnkern.cli.options import command, json_option, option
from nnkern.cli.output import check_folder, report
from nnkern.files.atomic import whole_file
from nnkern.files.endings import check_exported, is_safetensors

EXAMPLES = """\
examples:
  nnkern export houses.npz --to onnx
  nnkern export digits.npz --to c --output digits.c

onnx         X (batch, features) to A, or to label and probabilities; needs the package onnx
c            one C99 file with a function predict for one example; needs nothing
safetensors  an nnkern model of that format, its tensors named as torch names them
torch        a torch.nn.Sequential, for torch.load(FILE, weights_only=False)

onnx and c include the preprocessing that the model file holds: features enter as they are in the data, of a table's
model each column by its name; numbers come out in the target's units, classes have their names. A table's model is
exported to these two only.
"""
# format: the suffix of its files
EXPORTS = {"onnx": ".onnx", "c": ".c", "safetensors": ".safetensors", "torch": ".pt"}


def add_to(commands):
    parser = command(commands, "export", run, "write a model in a format that other programs read", EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="file that nnkern train --save, or save() of a network, wrote")
    option(parser, "--to", "the format", choices=list(EXPORTS), required=True)
    option(parser, "--output", "where to write (default: MODEL with the format's suffix)", metavar="FILE")
    json_option(parser)


def run(options):
    output = options.output or os.path.splitext(options.model)[0] + EXPORTS[options.to]
    if options.to == "safetensors" and not is_safetensors(output):
        raise CommandError(f"--output {output}: the name must end in .safetensors")
    if os.path.realpath(output) == os.path.realpath(options.model):
        raise CommandError(f"{output} is the model itself: --output says where else to write")
    check_folder(output)
    net = load(options.model)
    if not isinstance(net, nk.Network):
        if options.to not in ("onnx", "c"):
            raise CommandError(f"--to {options.to}: a table's model is exported to onnx or c")
        from nnkern.tabular import c_out, onnx_out

        (onnx_out.to_onnx if options.to == "onnx" else c_out.to_c)(net.model, output)
    elif options.to == "safetensors":
        net.save(output)
    elif options.to == "torch":
        check_exported(output, "--to torch")
        model = net.to_torch()
        import torch

        with whole_file(output) as file:
            torch.save(model, file)
    else:
        around = _export_options(net, preprocessor_of(net, options.model)) if RECORD in net.metadata else {}
        (net.to_onnx if options.to == "onnx" else net.to_c)(output, **around)
    report(options, {"wrote": output}, f"wrote {output}")


def _export_options(net, preprocessor):
    """The arguments of `to_onnx` and `to_c` that include the preprocessing in the exported file."""
    repeat = net.n_x // len(preprocessor.mean)
    around = {name: getattr(preprocessor, name).repeat(repeat) for name in ("mean", "scale")}
    if preprocessor.labels is not None:
        return around | {"labels": preprocessor.labels}
    return around | {name: getattr(preprocessor, name) for name in ("target_mean", "target_scale")}
