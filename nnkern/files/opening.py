"""Opening files that others may have made: whatever is wrong with their bytes is a ModelFormatError that names them."""

import contextlib
import errno

from nnkern.exceptions import ModelFormatError


@contextlib.contextmanager
def reading(path):
    """Makes a ModelFormatError that names the file, which is open, of whatever goes wrong with its bytes."""
    try:
        yield
    except ModelFormatError as error:
        raise ModelFormatError(f"{path}: {error}") from error
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        # a place before the start of the file is an invalid argument; any other OSError comes from the disk
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        # zipfile, numpy, json and the formats' libraries each have many ways to say that bytes aren't what they expect
        raise ModelFormatError(f"{path} is no model file, or a damaged one: {error}") from error
