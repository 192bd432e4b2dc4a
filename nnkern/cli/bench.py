"""`nnkern bench`: the benchmarks, which are installed with the package."""

import os
import sys

import nnkern
from nnkern.cli.options import command


def add_to(commands):
    # The benchmarks parse their own options, --help among them.
    text = "verify, then time nnkern beside the libraries that are installed"
    command(commands, "bench", run, text, add_help=False)


def run(options):
    """Runs the benchmarks, a folder of scripts, in a process of their own."""
    import subprocess

    script = os.path.join(os.path.dirname(nnkern.__file__), "_bench", "run.py")
    # A script finds its neighbours in its own folder, unless this variable is set.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    raise SystemExit(subprocess.run([sys.executable, script, *options.rest], env=environment).returncode)
