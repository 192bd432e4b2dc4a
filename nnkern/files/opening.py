"""Opening files that others may have made: whatever is wrong with their bytes is a ModelFormatError that names them.

A file may also come open, as an object with `read` or `write`: it is told from a path here.
"""

import contextlib
import errno
import io
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


def is_object(path):
    """Whether that is a file object, in place of a path; a TypeError for what is neither, and for a file of text."""
    if isinstance(path, str | bytes | os.PathLike):
        return False
    if isinstance(path, io.TextIOBase):
        raise TypeError(f"{name_of(path)} is open for text, and a model is bytes: open it with mode 'rb' or 'wb'")
    if not hasattr(path, "read") and not hasattr(path, "write"):
        raise TypeError(f"expected a path, or a file object that is open in binary mode; got {path!r}")
    return True


def name_of(file):
    """What messages call a file object."""
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name else f"the {type(file).__name__}"


@contextlib.contextmanager
def open_object(file):
    """A file object from where it stands, which must be readable and go back and forth.

    Afterwards it stands at its end, or where reading it fails, where it stood.
    """
    name = name_of(file)
    if not hasattr(file, "read") or (hasattr(file, "readable") and not file.readable()):
        raise ValueError(f"{name} isn't open for reading: open it with mode 'rb'")
    if not hasattr(file, "seek") or (hasattr(file, "seekable") and not file.seekable()):
        raise ValueError(
            f"load needs a file object that can seek, and {name} can't: read all of it first, "
            "nnkern.load(io.BytesIO(file.read()))"
        )
    start = file.tell()
    if start and size_of(file) <= 0:
        raise ModelFormatError(f"{name} stands at its end, {start}: file.seek(0) goes back to its beginning")
    try:
        yield file
        file.seek(0, os.SEEK_END)
    except BaseException:
        file.seek(start)
        raise


def size_of(file):
    """Bytes from where an open file stands to its end."""
    position = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(position)
    return end - position


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
