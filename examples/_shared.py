"""What the examples have in common: the command line, its errors, and a figure on disk."""

import argparse
import sys

from nnkern import plotting
from nnkern.data import DataError, MissingPackageError


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


def figure(columns=1, width=5.0, height=4.0):
    """A figure and its list of axes side by side, `width` by `height` inches each; no display."""
    drawing, axes = plotting.panels(columns=columns, width=width, height=height)
    return drawing, list(axes[0])


def save(drawing, path):
    """Write the figure and say where it is."""
    drawing.savefig(path, dpi=120)
    print(f"drawn to {path}")
