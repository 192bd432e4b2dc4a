"""Reads pictures, files or folders of them, as features. Pillow decodes them; networks aren't known here."""

import os
import warnings

import numpy as np

from nnkern._optional import require
from nnkern.data.containers import Arrays, DataError

PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
CHANNELS = 3  # red, green, blue


def read_pictures(path, *, size=64):
    """Read pictures: a folder of class subfolders, a folder of pictures, or one picture.

    Returns `Arrays` with X (3·size², m) float32 as `picture_features` makes it, and Y the names of
    the class subfolders, or None without them. Classes and files come in alphabetical order;
    hidden entries, and files whose suffix isn't that of a picture, are skipped.
    """
    require("PIL", "reading pictures")
    path = os.fspath(path)
    name = os.path.basename(os.path.normpath(path))
    if not os.path.isdir(path):
        return Arrays(picture_features(path, size)[:, None], None, name, size, [name], CHANNELS)
    files, classes = _pictures_in(path), []
    folders = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and entry.name[0] != ".")
    by_class = {folder: _pictures_in(os.path.join(path, folder)) for folder in folders}
    if any(by_class.values()):
        if files:
            raise DataError(f"{name}: {files[0]} is beside the class folders, in no class: move it into one of them")
        for folder, names in by_class.items():
            if not names:
                raise DataError(f"{name}: the class folder {folder} holds no pictures")
            classes += [folder] * len(names)
            files += [os.path.join(folder, file) for file in names]
    if not files:
        suffixes = ", ".join(sorted(PICTURE_SUFFIXES))
        raise DataError(f"{name} holds no pictures ({suffixes}), neither itself nor in class subfolders")
    X = np.empty((len(files), CHANNELS * size * size), np.float32)
    for x, file in zip(X, files, strict=True):
        x[:] = picture_features(os.path.join(path, file), size)
    return Arrays(X.T, np.array(classes) if classes else None, name, size, files, CHANNELS)


def _pictures_in(folder):
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_file() and entry.name[0] != "." and os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES
    )


def picture_features(path, size=64):
    """One picture as n_x = 3·size² numbers in [0, 1], float32 (n_x,).

    Rotated as its EXIF says, RGB, resized to size × size whatever its proportions, unrolled channel
    by channel (all red row by row, then green, then blue), divided by 255. 16-bit grey is divided by
    65535, and not rounded to 8 bits on the way; grey of other depths has no known white: `DataError`.
    """
    require("PIL", "reading pictures")
    from PIL import Image, ImageOps

    if not isinstance(size, int) or size < 1:
        raise DataError(f"the size of pictures is {size!r}, expected a whole number of at least 1")
    # Decoders report a damaged file as OSError, SyntaxError, ValueError, struct.error, ..., and a
    # decompression bomb as a warning or an error.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                white = _white(image)
                image = ImageOps.exif_transpose(image)
                # convert() would clip 16-bit grey at 255; as float32, mode F, it can be resized
                image = image.convert("RGB") if white == 255 else Image.fromarray(np.asarray(image).astype(np.float32))
                image = image.resize((size, size), Image.Resampling.LANCZOS)
                pixels = np.asarray(image)  # (size, size, 3), or grey (size, size)
    except (FileNotFoundError, PermissionError, IsADirectoryError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path} is not a readable picture: {error}") from error
    if pixels.ndim == 2:  # the filter overshoots, and Pillow clips that in integer modes only
        pixels = np.repeat(pixels.clip(0, white)[:, :, None], CHANNELS, axis=2)
    return pixels.transpose(2, 0, 1).reshape(-1) / np.float32(white)


def _white(image):
    """The pixel value of white in an opened picture; a ValueError where its format doesn't define one."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return 255
    # Mode I has 32 bits a pixel. Pillow uses it for a PGM, whose values it rescales to 16 bits, and up to version 10
    # for a PNG of 16 bits. A TIFF of 12 bits has mode I;16 too, and one whose 0 is white isn't inverted.
    bits, colours = 258, 262  # the TIFF tags BitsPerSample and PhotometricInterpretation
    tags = getattr(image, "tag_v2", {bits: (16,), colours: 1})
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if not deep or tags.get(bits) != (16,) or tags.get(colours) != 1:
        raise ValueError(f"its grey, of Pillow's mode {image.mode}, is neither of 8 nor of 16 bits from black to white")
    return 65535
