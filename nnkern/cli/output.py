"""Files that commands write: complete, or not at all."""

import contextlib
import os
import sys

from nnkern.io import is_safetensors, whole_file

__all__ = ["is_safetensors", "text_file", "whole_file"]


@contextlib.contextmanager
def text_file(path):
    """Standard output, or a text file that becomes `path` when all is written, old or new whole."""
    if path is None:
        yield sys.stdout
        return
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):  # a device or a pipe: no renaming
        with open(target, "w", encoding="utf-8", newline="") as file:
            yield file
        return
    draft = f"{target}.{os.getpid()}.part"
    try:
        with open(draft, "w", encoding="utf-8", newline="") as file:
            yield file
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
