"""Opening files that others may have made: whatever is wrong with their bytes is a ModelFormatError that names them."""

import contextlib
import errno
import os
import stat

from nnkern.exceptions import ModelFormatError


@contextlib.contextmanager
def open_regular(path):
    """The file of that name, open for reading; a FIFO, a device or a socket is refused without waiting for it."""
    _check_regular(path, os.stat(path))  # some devices do something when they are opened
    with open(path, "rb", opener=lambda path, flags: os.open(path, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        _check_regular(path, os.fstat(file.fileno()))
        yield file


def _check_regular(path, status):
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # `open` refuses folders in its own words
        raise ModelFormatError(f"{path} is no regular file but a pipe, a device or a socket: no model is read from it")


@contextlib.contextmanager
def reading(path):
    """Makes a ModelFormatError that names the file, which is open, of whatever goes wrong with its bytes."""
    try:
        yield
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from error
    except (ImportError, MemoryError):
        raise
    except SystemError as error:
        # what the interpreter's own code says where it finds no memory for an exception; bytes don't cause it
        raise MemoryError(f"{path}: {error}") from error
    except Exception as error:
        # a place before the start of the file is an invalid argument; any other OSError comes from the disk
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        # zipfile, numpy, json and the formats' libraries each have many ways to say that bytes aren't what they expect
        raise ModelFormatError(f"{path} is no model file, or a damaged one: {error}") from error
