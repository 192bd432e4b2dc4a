"""`nnkern info`: what this build runs on."""

import nnkern as nk
from nnkern.cli.options import command


def add_to(commands):
    command(commands, "info", run, "show version, BLAS, instruction set and threads")


def run(options):
    print(nk.show_config())
