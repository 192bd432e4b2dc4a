"""Files that commands write: complete, or not at all."""

import contextlib
import json
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


def report_training(options, said, lines):
    """The same of a training, and which files it wrote."""
    files = {"saved": options.save, "drew": options.plot}
    if not options.quiet:
        lines = [*lines, *(f"{verb} {path}" for verb, path in files.items() if path)]
    report(options, said | {"saved": options.save, "plot": options.plot}, "\n".join(lines))


def to_json(said):
    """As strict JSON, in which what isn't defined is null."""
    text = json.dumps(said, default=lambda value: value.item() if hasattr(value, "item") else str(value))
    return json.dumps(json.loads(text, parse_constant=lambda name: None))


@contextlib.contextmanager
def binary_file(path):
    """Standard output, or a file that replaces `path` when all is written; a device or a pipe is written to."""
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
    else:
        with open(path, "wb") if is_special(path) else whole_file(path) as file:
            yield file
