"""What the reference lists: every name that can be passed as text, from the package's tables, and what its pages have.

A name's equation stands in the docstring of the module that computes it, in a row of a table: the name, two spaces or
more, the equation, and for some two spaces or more and a note. Here these are read, so that each is written once.
"""

import inspect
import re
from pathlib import Path

import nnkern as nk
from nnkern import encoders, monitors
from nnkern._kernels import INITIALIZERS
from nnkern.tabular import metrics, recipes

FOLDER = Path(__file__).parent / "reference"
# modules whose docstring has such a table, which the list of names takes the place of on their pages
WITH_TABLES = (
    "nnkern.kernels",
    "nnkern.losses",
    "nnkern.initializers",
    "nnkern.tabular.metrics",
)


def table_of(text, names):
    """{name: (equation, note)} of the rows of a docstring's table, and the numbers of their lines."""
    known, found, lines, current = set(names), {}, set(), None
    for number, line in enumerate(text.splitlines()):
        cells = re.split(r"\s{2,}", line.strip())
        if len(cells) > 1 and cells[0] in known:
            current, indent = cells[0], len(line) - len(line.lstrip())
            found[current] = (cells[1], "; ".join(cells[2:]))
        elif current and line.startswith(" " * (indent + 4)) and line.strip():
            # a row that goes on in the next line
            equation, note = found[current]
            more = line.strip()
            found[current] = (
                (equation, f"{note} {more}") if note else (f"{equation} {more}", "")
            )
        else:
            current = None
            continue
        lines.add(number)
    return found, lines


def first_line(thing):
    """The first sentence of its docstring."""
    return inspect.getdoc(thing).partition("\n\n")[0].replace("\n", " ")


def plain(text):
    """Text as reStructuredText, in which a bar isn't a mark."""
    return text.replace("|", r"\|")


def literal(text):
    return f"``{text}``" if text else ""


def _with_equations(names, docstring):
    found, _ = table_of(inspect.cleandoc(docstring), names)
    return {name: found.get(name, ("", "")) for name in names}


def _activations():
    equations = _with_equations(nk.kernels.ACTIVATIONS, nk.kernels.__doc__)
    for name, (equation, note) in equations.items():
        read = "Z" if name in nk.kernels.NEEDS_Z else "A"
        yield (
            literal(name),
            literal(equation),
            read,
            literal(INITIALIZERS[name]),
            plain(note),
        )


def _losses():
    for name, (equation, note) in _with_equations(
        nk.losses.LOSSES, nk.losses.__doc__
    ).items():
        loss = nk.losses.LOSSES[name]
        of = "classes" if loss.classifies else "numbers"
        yield (
            literal(name),
            f":py:obj:`~nnkern.losses.{type(loss).__name__}`",
            literal(equation),
            note,
            of,
        )


def _classes(table, module):
    for name, cls in table.items():
        yield (
            literal(name),
            f":py:obj:`~{module}.{cls.__name__}`",
            plain(first_line(cls)),
        )


def _initializers():
    for name, (equation, note) in _with_equations(
        nk.initializers.NAMES, nk.initializers.__doc__
    ).items():
        yield literal(name), plain(equation), plain(note)


def _shapes():
    for name, (equation, note) in _with_equations(
        nk.schedules.SHAPES, nk.schedules.ByStep.__doc__
    ).items():
        yield literal(name), plain(f"{equation} {note}".strip())


def _encoders():
    todo = [encoders.Encoder]
    while todo:
        cls = todo.pop(0)
        todo = cls.__subclasses__() + todo
        if cls.name:
            yield (
                literal(cls.name),
                f":py:obj:`~nnkern.{cls.__name__}`",
                plain(first_line(cls)),
            )


def _metrics():
    for name, (meaning, note) in _with_equations(
        metrics.METRICS, metrics.__doc__
    ).items():
        metric = metrics.METRICS[name]
        of = "classes" if metric.classifies else "numbers"
        yield (
            literal(name),
            of,
            "more" if metric.rises else "less",
            plain(f"{meaning} {note}".strip()),
        )


def _monitors():
    for name, classes in monitors.METRICS.items():
        yield literal(name), "classes" if classes else "numbers"


def _presets():
    for name, preset in recipes.PRESETS.items():
        yield literal(name), str(len(preset.recipes)), str(preset.n_estimators)


LISTS = {
    "activations": (
        ("name", "g(z)", "g' reads", "initial weights", "note"),
        _activations,
    ),
    "losses": (
        ("name", "class", "L of one example", "output, note", "Y holds"),
        _losses,
    ),
    "optimizers": (
        ("name", "class", "step"),
        lambda: _classes(nk.optimizers.OPTIMIZERS, "nnkern.optimizers"),
    ),
    "initializers": (("name", "weights", "source"), _initializers),
    "shapes": (("name", "factor at the share t of the steps"), _shapes),
    "encoders": (
        ("name in a configuration", "class", "what it makes of one row"),
        _encoders,
    ),
    "monitors": (("name", "for"), _monitors),
    "metrics": (("name", "for", "better is", "what it is"), _metrics),
    "presets": (
        ("name", "recipes", "networks of each, unless told otherwise"),
        _presets,
    ),
}
"""{list: (heads, function that gives its rows as reStructuredText)}"""


def rows(name):
    return list(LISTS[name][1]())


def as_table(name):
    """The list as reStructuredText, without columns that are empty in all rows."""
    heads, cells = LISTS[name][0], rows(name)
    kept = [
        column for column in range(len(heads)) if any(row[column] for row in cells)
    ]
    lines = [".. list-table::", "   :header-rows: 1", "   :class: names", ""]
    for row in [heads, *cells]:
        first, *others = (row[column] for column in kept)
        lines += [f"   * - {first}", *(f"     - {text}" for text in others)]
    return "\n".join(lines) + "\n"


def without_table(module, lines):
    """A module's docstring without the rows that the list of names has, and the line that leads to them."""
    if module not in WITH_TABLES:
        return lines
    names = {word for row in _all_names() for word in row}
    _, taken = table_of("\n".join(lines), names)
    before = [number for number in range(min(taken)) if lines[number].strip()]
    if before and lines[before[-1]].endswith(":"):
        taken.add(before[-1])
    return [line for number, line in enumerate(lines) if number not in taken]


def _all_names():
    return (
        nk.kernels.ACTIVATIONS,
        nk.losses.LOSSES,
        nk.initializers.NAMES,
        metrics.METRICS,
    )


def summarised():
    """{full name: page} of what the tables at the head of the reference's pages name, and of the data."""
    found = {}
    for page in sorted(FOLDER.glob("*.rst")):
        module, within = "", False
        for line in page.read_text(encoding="utf-8").splitlines():
            name = line.strip()
            if not line.startswith(" " * 3) and name:
                within = name == ".. autosummary::"
                if name.startswith(".. data:: "):
                    found[f"{module}.{name.split()[-1]}"] = page.stem
                module = (
                    name.split()[-1]
                    if name.startswith((".. currentmodule:: ", ".. automodule:: "))
                    else module
                )
            elif within and name and not name.startswith(":"):
                found[name if name.startswith("nnkern") else f"{module}.{name}"] = (
                    page.stem
                )
    return found
