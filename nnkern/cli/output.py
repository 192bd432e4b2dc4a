"""Files that commands write: complete, or not at all."""

import contextlib
import json
import math
import os
import sys

from nnkern.cli.errors import CommandError
from nnkern.files.atomic import whole_file


def is_special(path):
    """Whether the path is a folder, a device or a pipe: nothing that a file could replace."""
    return os.path.exists(path) and not os.path.isfile(path)


def check_folder(path):
    """Refuses a path in whose folder no file can be made; called before what takes long."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise CommandError(f"{path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"{path}: no permission to write in {folder}")


def report(options, said, text):
    """Prints what came of a command: JSON where that is asked for, else the text."""
    print(to_json(said) if options.json else text)


def to_json(said):
    """As strict JSON, in which what isn't defined is null."""
    return json.dumps(_defined(said), default=str, allow_nan=False)


def _defined(value):
    if isinstance(value, dict):
        return {name: _defined(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_defined(one) for one in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextlib.contextmanager
def binary_file(path):
    """Standard output, or a file that replaces `path` when all is written; a device or a pipe is written to."""
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
    else:
        with open(path, "wb") if is_special(path) else whole_file(path) as file:
            yield file
