"""`nnkern info`: what this build runs on."""

import nnkern as nk
from nnkern.cli.options import command, json_option
from nnkern.cli.output import report


def add_to(commands):
    json_option(command(commands, "info", run, "show version, BLAS, instruction set and threads"))


def run(options):
    config = nk.show_config()
    report(options, config.to_dict(), str(config))
