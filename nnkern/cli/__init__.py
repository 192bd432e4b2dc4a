"""The command line: `nnkern train | predict | evaluate | export | info | bench`."""

from nnkern.cli.train import RECORD, main

__all__ = ["RECORD", "main"]
