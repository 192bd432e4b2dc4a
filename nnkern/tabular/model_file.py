"""A table's model in one .npz archive: a header in JSON, and the parameters of each network as arrays.

Nothing is pickled, and nothing in a file is believed: as of a network's file, sizes are checked before memory is taken.
"""

import math
import os

from nnkern._values import Value
from nnkern.exceptions import ModelFormatError
from nnkern.files import endings, header, npz
from nnkern.files.model_file import fill
from nnkern.files.opening import open_regular, reading
from nnkern.model import Model
from nnkern.network import Network
from nnkern.tabular.model import TableModel
from nnkern.tabular.preprocessing import Preprocessing
from nnkern.tabular.target import from_dict as target_from_dict

VERSION = 1

REPORTED = {"recipe", "part", "epochs", "best_epoch", "seconds", "score", "weight", "refit"}
"""What a report says of each network."""


class Stored(Value):
    """What a file holds: the TableModel, the names of the columns it was trained on, whether X had them, parameters.

    And what is known of the training: the report on each network, the score of all, and whether Ctrl-C ended it.
    """

    def __init__(self, model, names, named, parameters, report, score, interrupted):
        self.model, self.names, self.named, self.parameters = model, names, named, parameters
        self.report, self.score, self.interrupted = report, score, interrupted


def write(path, stored):
    """Writes it whole, or leaves what was there; a ValueError where the name has another format's ending."""
    path = os.fsdecode(path)
    endings.check_table_written(path)
    arrays, networks = {}, []
    for i, net in enumerate(stored.model.networks):
        plain = net.to_model()
        networks.append({"config": plain.config(), "n_x": plain.n_x})
        arrays |= {f"{i}.{name}": array for name, array in plain.parameters.items()}
    entries = {
        "format": header.TABLE_FORMAT,
        "version": VERSION,
        "preprocessing": stored.model.preprocessing.to_dict(),
        "target": stored.model.target.to_dict(),
        "networks": networks,
        "weights": stored.model.weights.tolist(),
        "names": stored.names,
        "named": stored.named,
        "parameters": stored.parameters,
        "report": [{name: _to_json(value) for name, value in one.items()} for one in stored.report],
        "score": _to_json(stored.score),
        "interrupted": stored.interrupted,
    }
    npz.write(path, None, entries, arrays)


def read(path):
    """What `write` wrote, as Stored; a ModelFormatError for anything else."""
    path = os.fsdecode(path)
    with open_regular(path) as file, reading(path), npz.opened(file, path) as stored:
        entries = header.parsed(stored.text, os.fstat(file.fileno()).st_size, header.TABLE_FORMAT, VERSION)
        preprocessing = Preprocessing.from_dict(entries["preprocessing"])
        target = target_from_dict(entries["target"])
        networks = [_network(i, one, stored) for i, one in enumerate(entries["networks"])]
        extra = stored.all_names() - {f"{i}.{name}" for i, net in enumerate(networks) for name in net.parameters}
        if extra:
            raise ModelFormatError(f"it holds {', '.join(sorted(extra))}, which none of its networks needs")
        if not all(isinstance(weight, int | float) for weight in entries["weights"]):
            raise ModelFormatError(f"the weights are {entries['weights']!r}")
        model = TableModel(preprocessing, networks, entries["weights"], target)
        model.check()
        names, named, parameters = entries["names"], entries["named"], entries["parameters"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ModelFormatError(f"the columns' names are {names!r}")
        if len(set(names)) < len(names) or not set(preprocessing.names) <= set(names):
            raise ModelFormatError("its columns and their names don't agree")
        if type(named) is not bool or not isinstance(parameters, dict):
            raise ModelFormatError(f"named is {named!r}, the parameters are {parameters!r}")
        return Stored(model, names, named, parameters, *_training(entries))


def _training(entries):
    """(report, score, interrupted)"""
    report, score, interrupted = entries["report"], entries["score"], entries["interrupted"]
    if not all(set(one) == REPORTED and all(map(_is_number, one.values())) for one in report):
        raise ModelFormatError(f"the report is {report!r}, and should be numbers for {', '.join(sorted(REPORTED))}")
    if not _is_number(score) or type(interrupted) is not bool:
        raise ModelFormatError(f"the score is {score!r}, interrupted is {interrupted!r}")
    report = [{name: _from_json(value) for name, value in one.items()} for one in report]
    return report, _from_json(score), interrupted


def _is_number(value):
    return value is None or isinstance(value, bool | int | float)


def _to_json(number):
    """JSON has no NaN, as the AUC of rows of one class is, and no infinity: None stands for what isn't known."""
    return number if math.isfinite(number) else None


def _from_json(number):
    return math.nan if number is None else number


def _network(i, entry, stored):
    """The network number i, whose arrays' names begin with its number."""
    prefix = f"{i}."
    own = {name.removeprefix(prefix) for name in stored.all_names() if name.startswith(prefix)}
    if len(entry["config"]["layers"]) > len(own):
        raise ModelFormatError(f"network {i} has {len(entry['config']['layers'])} layers and {len(own)} arrays")
    plain = Model.from_config(entry["config"], n_x=entry["n_x"])
    fill(plain, stored, own, prefix)
    return Network.from_model(plain)
