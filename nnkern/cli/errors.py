"""How a command reports what went wrong: one line on standard error, and an exit status. Knows no command."""

import contextlib
import os
import sys
import warnings

from nnkern.exceptions import MissingPackageError

USAGE_ERROR = 2
INTERRUPTED = 128 + 2  # what a shell reports for a process that SIGINT ended
BROKEN_PIPE = 128 + 13  # likewise for SIGPIPE


class CommandError(Exception):
    """What is wrong with a command, in one line."""


def one_line(error):
    """The message of an exception in one line, with its class where it isn't one that a user can cause."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory{': ' + text if text else ''}"
    if not isinstance(error, (CommandError, ValueError, OSError, MissingPackageError)) or not text:
        text = f"{type(error).__name__}: {text}"
    return text


@contextlib.contextmanager
def one_line_warnings():
    """Prints each warning as one line, once, without the place in the source that it comes from."""
    seen = set()

    def show(message, category, filename, lineno, file=None, line=None):
        text = " ".join(str(message).split())
        if text not in seen:
            seen.add(text)
            print(f"nnkern: warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def silence_output():
    """Keeps the interpreter from failing once more when it flushes standard output at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
