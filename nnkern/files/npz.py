"""Models in .npz archives, which need numpy only and which numpy.load reads anywhere.

The header is the bytes of `header.npy`, an array a parameter stands beside it. Nothing is compressed, so that nothing
in a good file is larger than the file. Zip's checksums tell damage.
"""

import contextlib
import io

import numpy as np

from nnkern.exceptions import ModelFormatError
from nnkern.files.atomic import whole_file
from nnkern.files.header import to_json
from nnkern.files.opening import size_of

_LOCAL_HEADER = 30
"""Bytes before a member's name and data, at least."""


def write(path, model, header, arrays):
    """Writes a header and {name: array}."""
    text = to_json(header, arrays)
    with whole_file(path) as file:
        np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)


@contextlib.contextmanager
def opened(file, path):
    """The `Reader` of an open file."""
    import zipfile  # with all it brings, as much to import as the rest of nnkern

    size = size_of(file)
    with zipfile.ZipFile(file) as archive:
        yield Reader(archive, _members(archive, size, zipfile.ZIP_STORED))


class Reader:
    """What is in an archive: the header's `text`, and the `count` of the arrays."""

    def __init__(self, archive, members):
        self._archive, self._members = archive, members
        if "header" not in members:
            raise ModelFormatError("it has no header: not written by nnkern")
        self.text = str(np.ascontiguousarray(self._read("header")).view(np.uint8).data, "utf-8")
        self.count = len(members) - 1

    def names(self, header, layers):
        """The arrays' names."""
        return self.all_names()

    def all_names(self):
        """The same, whatever the header says."""
        return set(self._members) - {"header"}

    def array(self, name, shape, dtype):
        """The array of that name."""
        return self._read(name)

    def _read(self, name):
        return _array(name, self._archive.read(self._members[name]))


def _members(archive, size, stored):
    """{name: entry of the archive}, for entries that are `stored` as they are, each in bytes of its own."""
    members, end = {}, 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in members or info.compress_type != stored:
            raise ModelFormatError(f"unexpected member {info.filename!r}")
        if info.file_size != info.compress_size or info.file_size > size:
            raise ModelFormatError(f"member {info.filename!r} claims {info.file_size} bytes, the file has {size}")
        # what two claimed would be read into memory twice
        if info.header_offset < end:
            raise ModelFormatError(f"member {info.filename!r} overlaps the one before it")
        end = info.header_offset + _LOCAL_HEADER + len(name) + info.file_size
        if end > archive.start_dir:
            raise ModelFormatError(f"member {info.filename!r} ends at {end}, its directory is at {archive.start_dir}")
        members[name] = info
    return members


def _array(name, data):
    """The array in the bytes of an .npy file."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ModelFormatError(f"{name} has the .npy version {version}")
    shape, fortran, dtype = readers[version](stream)
    start = stream.tell()
    if dtype.hasobject or len(data) - start != dtype.itemsize * int(np.prod(shape, dtype=object)):
        raise ModelFormatError(f"{name} claims shape {shape} of {dtype}, but has {len(data) - start} bytes")
    return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
