"""The command line: `nnkern train | predict | evaluate | export | info | bench`.

Results go to standard output, the progress bar and messages to standard error. An error is one
line there and exit status 2; Ctrl-C gives 130; a reader that goes away (`| head`) gives 141.
Nothing here is imported by `import nnkern`; matplotlib, torch and the like are imported when a command needs them.
"""

import sys

import nnkern
from nnkern.cli import bench, evaluate, export, info, predict, train
from nnkern.cli.errors import BROKEN_PIPE, INTERRUPTED, USAGE_ERROR, one_line, one_line_warnings, silence_output
from nnkern.cli.options import Parser

__all__ = ["main"]

COMMANDS = (train, predict, evaluate, export, info, bench)


def main(argv=None):
    """Run the command line on `argv` (`sys.argv[1:]` by default); returns the exit status."""
    name = "nnkern"
    status = 0
    try:
        try:
            parser = _parser()
            arguments, arguments.rest = parser.parse_known_args(argv)
            if arguments.rest and arguments.run is not bench.run:
                arguments.parser.refuse(arguments.rest)
            name = f"nnkern {arguments.command}"
            with one_line_warnings():
                arguments.run(arguments)
        except SystemExit as stop:  # argparse: --help, --version, a wrong argument
            status = stop.code or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        silence_output()
        return BROKEN_PIPE
    except Exception as error:
        if sys.flags.dev_mode:  # python -X dev -m nnkern shows where it came from
            raise
        silence_output()
        print(f"{name}: error: {one_line(error)}", file=sys.stderr)
        return USAGE_ERROR
    return status


def _parser():
    parser = Parser(
        prog="nnkern",
        description="Train and run dense neural networks on the CPU.",
        epilog="nnkern COMMAND --help says more; nnkern train alone shows what it does.",
    )
    parser.add_argument("--version", action="version", version=f"nnkern {nnkern.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser
