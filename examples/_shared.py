"""What the examples have in common: the command line, its errors, and a figure on disk."""

import argparse
import sys

from nnkern import plotting
from nnkern.data import DataError, MissingPackageError

WIDTH = 7.36  # inches: the column of the documentation, which has 736 pixels, with text as large as that beside it


def parser(description):
    """The command line of an example: its first docstring line, and --plot."""
    arguments = argparse.ArgumentParser(description=description.partition("\n")[0])
    arguments.add_argument("--plot", metavar="FILE.png", help="draw the result into this file")
    return arguments


def run(main):
    """Call `main()`; a missing package or unusable data ends the program in one line."""
    try:
        main()
    except (DataError, MissingPackageError, OSError) as error:
        sys.exit(str(error))


def figure(columns=1, rows=1, height=4.0):
    """A figure as wide as a page's column and its list of axes, row by row, each `height` inches high; no display."""
    drawing, axes = plotting.panels(rows, columns, width=WIDTH / columns, height=height)
    return drawing, list(axes.flat)


def save(drawing, path):
    """Write the figure and say where it is."""
    drawing.savefig(path, dpi=200)  # two for each pixel, for screens that show more
    print(f"drawn to {path}")
