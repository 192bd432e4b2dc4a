"""How commands and options are declared, and the parsers of options' values. Knows no command."""

import argparse
import contextlib
import csv
import difflib
import math
import re
import shlex

import nnkern
from nnkern.cli.errors import USAGE_ERROR

FULL = "full"
# schedule: its class in nnkern.schedules, and the types of its arguments after the first rate
SCHEDULES = {
    "cosine": ("Cosine", {"final": float}),
    "exponential": ("Exponential", {"factor": float}),
    "step": ("Step", {"factor": float, "every": int}),
    "inverse": ("InverseTime", {"decay": float}),
}


# how alike two names must be, for one to be meant by the other
_ALIKE = 0.7
# what other programs call an option, where the letters don't tell
MEANT = {
    "lr": "learning-rate", "rate": "learning-rate", "hidden": "layers", "units": "layers",
    "wd": "weight-decay", "bs": "batch-size", "output": "save", "patience": "early-stopping",
    "test-size": "validation",
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Reports an error as one line, without the usage, and what was likely meant."""

    def refuse(self, arguments):
        """Reports arguments that there aren't."""
        options, hint = re.findall(r"--([\w-]+)", self.format_usage()), ""
        unknown = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
        if unknown:
            name = unknown[0].strip("-").lower().replace("_", "-")
            near = [MEANT[name]] if MEANT.get(name) in options else difflib.get_close_matches(name, options, 1, _ALIKE)
            hint = f"; did you mean --{near[0]}?" if near else ""
        elif "target" in options:
            hint = f"; did you mean --target {shlex.quote(arguments[0])}?"
        self.error(f"unrecognized arguments: {' '.join(arguments)}{hint}")

    def error(self, message):
        if choice := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            near = difflib.get_close_matches(choice[1], re.findall(r"[\w.-]+", choice[2]), 1)
            message += f"; did you mean {near[0]}?" if near else ""
        self.exit(USAGE_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def command(commands, name, run, text, epilog=None, **more):
    """The parser of a new command, which calls `run` with its options."""
    more |= {"epilog": epilog, "formatter_class": argparse.RawDescriptionHelpFormatter}
    made = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", **more)
    made.set_defaults(run=run, parser=made)
    return made


def option(parser, name, text, default=None, **how):
    """Adds an option whose help is that text."""
    parser.add_argument(name, default=default, help=text.replace("%", "%%"), **how)


def given(options, name):
    """The value of the option of that name, None where it isn't given."""
    return getattr(options, name.strip("-").replace("-", "_"))


def json_option(parser):
    """Adds --json."""
    option(parser, "--json", "print one JSON object, for machines", action="store_true")


def common(parser):
    """Adds how a CSV file is read, --threads and --json."""
    for name in ("delimiter", "decimal", "encoding"):
        option(parser, f"--{name}", "of a CSV file (default: found from its beginning)", metavar="X")
    default = nnkern.get_num_threads()
    option(parser, "--threads", f"threads to compute with (default: {default})", type=whole(1), metavar="N")
    json_option(parser)


def model_and_data(parser):
    """The arguments of a command that runs a trained model on data."""
    parser.add_argument("model", metavar="MODEL", help="file that nnkern train --save wrote")
    text = "data of the kind the model was trained on (default: all the digits)"
    parser.add_argument("data", nargs="?", metavar="DATA", help=text)
    common(parser)


# Values: each function converts the text of one, and raises argparse's error for others.


def _value(text, kind, good, said):
    with contextlib.suppress(ValueError):
        value = kind(text)
        if good(value):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not {said}")


def whole(least):
    return lambda text: _value(text, int, lambda n: n >= least, f"a whole number of at least {least}")


def number(text):
    return _value(text, float, lambda x: 0 < x < math.inf, "a number above 0")


def share(text):
    return _value(text, float, lambda x: 0 <= x < 1, "a share, 0 <= share < 1")


def layers(text):
    if text.strip().lower() == "none":
        return []
    said = "a list of layer sizes like 64,32"
    return _value(text, lambda text: [int(units) for units in text.split(",")], lambda units: min(units) >= 1, said)


def numbers(text):
    said = "a number, or a list of them like 0.1,0.2"
    return _value(text, lambda text: [float(x) for x in text.split(",")], bool, said)


def pairs(text):
    """{what stands before the last =: what stands behind it}."""
    parts = [part.rpartition("=") for part in names(text)]
    if any(not sign for _, sign, _ in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list like zip=category,id=ignore")
    return {name.strip(): value.strip() for name, _, value in parts}


def class_weight(text):
    """ "balanced", or {label: weight}."""
    if text.strip().lower() == "balanced":
        return "balanced"
    try:
        return {label: float(weight) for label, weight in pairs(text).items()}
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"{text!r} is neither balanced nor a list like yes=5,no=1") from None


def schedule(text):
    """(name of the class, its arguments but the first rate and the number of epochs)."""
    name, _, numbers = text.partition(":")
    if name not in SCHEDULES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of the schedules {', '.join(SCHEDULES)}")
    cls, kinds = SCHEDULES[name]
    given = numbers.split(",") if numbers else []
    if len(given) != len(kinds) and (given or name != "cosine"):
        raise argparse.ArgumentTypeError(f"{text!r} must be {name}:{','.join(kinds).upper()}")
    try:
        settings = {key: kind(number) for (key, kind), number in zip(kinds.items(), given, strict=False)}
        good = all(math.isfinite(x) and x >= (key == "every") for key, x in settings.items())
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers >= 0, and a whole number of epochs >= 1")
    return cls, settings


def batch_size(text):
    return FULL if text.strip().lower() == "full" else whole(1)(text)


def names(text):
    return next(csv.reader([text], skipinitialspace=True))
