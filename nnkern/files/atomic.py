"""Files that are written whole or not at all, whatever is in them."""

import contextlib
import io
import os
import stat


@contextlib.contextmanager
def whole_file(path):
    """A binary file to write to, which takes the place of `path` when all is written, or never.

    Where `path` is a file object, it gets all at once.
    """
    if hasattr(path, "write"):
        content = io.BytesIO()
        yield content
        _write_all(path, content.getbuffer())
        return
    # a link stays a link: the file it names is replaced
    given = path
    path = os.path.realpath(os.fsdecode(path))
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is no regular file: a model can't take its place")
    # the new file grows beside the old one and takes its place in one step; its name is short, as `path` may be long
    temporary = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(path):
            os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
        os.replace(temporary, path)
    except OSError as error:
        _discard(temporary)
        if error.filename != temporary or error.errno is None:
            raise
        # the user knows nothing of the new file
        raise OSError(error.errno, error.strerror, os.fsdecode(given)) from error
    except BaseException:
        _discard(temporary)
        raise


def _discard(temporary):
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(temporary)


def _write_all(file, content):
    """Hands all of it to a file object, of which some take a part at a time."""
    while len(content):
        taken = file.write(content)
        if not isinstance(taken, int):  # of an object of the user's own that doesn't count
            break
        content = content[taken:]
