"""`nnkern info`: what this build runs on, or what a model file holds."""

import nnkern as nk
from nnkern.cli.models import load
from nnkern.cli.options import command, json_option
from nnkern.cli.output import report


def add_to(commands):
    parser = command(commands, "info", run, "show version, BLAS, instruction set and threads, or what a model is")
    parser.add_argument("model", nargs="?", metavar="MODEL", help="model file to look into, of a network or a table")
    json_option(parser)


def run(options):
    if options.model is None:
        config = nk.show_config()
        report(options, config.to_dict(), str(config))
        return
    model = load(options.model)
    if isinstance(model, nk.Network):
        report(options, _described(model) | {"metadata": sorted(model.metadata)}, str(model.summary()))
    else:
        _table(model, options)


def _described(net):
    return net.config() | {"n_x": net.n_x, "parameters": net.summary().parameters}


def _table(stored, options):
    model = stored.model
    told = model.target.trained_on or {}
    weighed = list(zip(model.networks, model.weights.tolist(), strict=True))
    said = {
        "task": model.target.task,
        "target": told.get("target"),
        "labels": model.target.labels if model.classifies else None,
        "score": stored.score,
        "columns": {one.name: one.kind for one in model.preprocessing.columns},
        "left_out": model.preprocessing.left_out,
        "networks": [_described(net) | {"weight": weight} for net, weight in weighed],
    }
    of = f" of {said['target']!r}" if said["target"] else ""
    labels = f", labels {', '.join(map(str, said['labels']))}" if model.classifies else ""
    lines = [f"{said['task']}{of}{labels}", "", str(model.preprocessing)]
    for net, weight in weighed:
        lines += ["", f"network of weight {weight:.3g}", str(net.summary())]
    report(options, said, "\n".join(lines))
