"""The documentation as it is shown: what the reference lists, links, and code that is no wider than its column."""

import importlib
import importlib.util
import inspect
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import nnkern as nk
from nnkern import names

pytestmark = pytest.mark.own_kernels
pytest.importorskip("narwhals", reason="the reference has nnkern.tabular")
pytest.importorskip("pyarrow", reason="the reference has nnkern.tabular")
pytest.importorskip("sklearn", reason="the reference has the estimators")
pytest.importorskip("matplotlib", reason="the reference has nnkern.plotting")

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Characters that a line of code may have: as many as a column of 736 pixels shows, and an entry of the reference.
WIDTH, ENTRY_WIDTH = 90, 84


@pytest.fixture(scope="module")
def listing():
    spec = importlib.util.spec_from_file_location("listing", DOCS / "listing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- the reference ----

MODULES = (
    "nnkern",
    "nnkern.callbacks",
    "nnkern.data",
    "nnkern.exceptions",
    "nnkern.initializers",
    "nnkern.kernels",
    "nnkern.losses",
    "nnkern.names",
    "nnkern.optimizers",
    "nnkern.plotting",
    "nnkern.predictor",
    "nnkern.schedules",
    "nnkern.sklearn",
    "nnkern.tabular",
    "nnkern.tabular.metrics",
)
# bases of predictors, and one that Predictor stands for
NOT_NAMED = {"nnkern.predictor.Reporting", "nnkern.predictor.UnpackedPredictor"}
# classes whose methods are listed one by one
IN_FULL = (
    "nnkern.Network",
    "nnkern.Config",
    "nnkern.predictor.Predictor",
    "nnkern.data.Preprocessor",
    "nnkern.sklearn.MLPClassifier",
    "nnkern.sklearn.MLPRegressor",
    "nnkern.tabular.TabularClassifier",
    "nnkern.tabular.TabularRegressor",
)


def resolved(full):
    """The thing that a full name is of, as `is` compares it."""
    parts = full.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            thing = inspect.getattr_static(thing, part) if inspect.isclass(thing) else getattr(thing, part)
        return thing
    raise ModuleNotFoundError(full)


def public_names(module):
    """A module's __all__ without modules, else its classes and the types that it names."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not inspect.ismodule(getattr(module, name)) and name[0] != "_"]
    if module is names:
        return [name for name in vars(module) if name[0].isupper() and name not in ("Literal", "TypeAlias")]
    own = {name: thing for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__}
    return [name for name, thing in own.items() if inspect.isclass(thing) and not name.startswith("_")]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_stands_on_a_page_of_the_reference(listing, name):
    module = importlib.import_module(name)
    there = [resolved(full) for full in listing.summarised()]
    wanted = [each for each in public_names(module) if f"{name}.{each}" not in NOT_NAMED]
    assert wanted
    assert [each for each in wanted if not any(getattr(module, each) is thing for thing in there)] == []


@pytest.mark.parametrize("name", IN_FULL)
def test_every_method_stands_on_a_page_of_the_reference(listing, name):
    cls = resolved(name)
    own = {
        method
        for base in cls.__mro__
        if base.__module__.startswith("nnkern")
        for method, thing in vars(base).items()
        # scikit-learn adds set_…_request; what a machine calls has no text for people
        if not method.startswith(("_", "set_fit", "set_partial_fit", "set_score")) and inspect.getdoc(thing)
        if callable(thing) or isinstance(thing, property | classmethod)
    }
    listed = {full.rpartition(".")[2] for full in listing.summarised() if full.startswith(f"{name}.")}
    assert len(listed) >= 1
    assert own - listed == INTERNAL.get(name, set())


# read by what scikit-learn calls or by nnkern itself
INTERNAL = {
    "nnkern.tabular.TabularClassifier": {"of_stored"},
    "nnkern.tabular.TabularRegressor": {"of_stored"},
}


TABLES = {
    "activations": nk.kernels.ACTIVATIONS,
    "losses": nk.losses.LOSSES,
    "optimizers": nk.optimizers.OPTIMIZERS,
    "initializers": nk.initializers.NAMES,
    "shapes": nk.schedules.SHAPES,
}


def test_every_name_that_can_be_passed_is_listed_with_what_it_means(listing):
    from nnkern.tabular import METRICS, PRESETS

    for name, table in (TABLES | {"metrics": METRICS, "presets": PRESETS}).items():
        rows = listing.rows(name)
        assert [row[0] for row in rows] == [f"``{each}``" for each in table]
    meaning = {
        "activations": 1,
        "losses": 2,
        "optimizers": 2,
        "initializers": 1,
        "shapes": 1,
        "encoders": 2,
        "metrics": 3,
    }
    for name, column in meaning.items():
        assert [row for row in listing.rows(name) if not row[column].strip("`")] == []
    assert [row[0] for row in listing.rows("encoders")] == [
        "``numeric``",
        "``periodic``",
        "``piecewise_linear``",
        "``one_hot``",
        "``embedding``",
    ]


def test_every_list_of_names_stands_on_a_page(listing):
    pages = "\n".join(page.read_text(encoding="utf-8") for page in listing.FOLDER.glob("*.rst"))
    assert set(re.findall(r"^\.\. names:: (\w+)$", pages, re.MULTILINE)) == set(listing.LISTS)


def test_the_listed_activations_are_those_that_are_computed(listing):
    """What stands there, read as Python: a space between two factors is a product."""
    Z = np.linspace(-3, 3, 13)[None, :]
    known = {"z": Z, "σ": lambda z: 1 / (1 + np.exp(-z)), "Φ": np.vectorize(lambda z: (1 + math.erf(z / 2**0.5)) / 2)}
    known |= {"e": np.e, "π": np.pi, "min": np.minimum, "max": np.maximum, "tanh": np.tanh, "log": np.log}
    known |= {"root": np.sqrt, "where": np.where}
    for row in listing.rows("activations"):
        name, code = row[0].strip("`"), row[1].strip("`")
        if name == "softmax":  # its sum is over units
            continue
        for mark, python in (("^", "**"), ("½", "0.5"), ("z³", "z**3"), ("√", "root")):
            code = code.replace(mark, python)
        code = re.sub(r"(.+) for (.+), else (.+)", r"where(\2, \1, \3)", code)
        code = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", code)
        # selu's numbers have five digits
        computed = nk.kernels.activation_forward(Z, name)
        np.testing.assert_allclose(computed, eval(code, known), rtol=5e-5, atol=1e-12, err_msg=code)


# ---- code and its column ----


def code_of(text):
    """(number, line) of a page's code: fenced, or indented as equations are."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield number, line if fenced else line[4:]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_no_line_of_code_is_wider_than_its_column(page):
    wide = [line for line in code_of(page.read_text(encoding="utf-8")) if len(line[1]) > WIDTH]
    assert wide == []


def test_no_example_of_a_docstring_is_wider_than_its_column(listing):
    wide = []
    for full in listing.summarised():
        for line in (inspect.getdoc(resolved(full)) or "").splitlines():
            if line.lstrip().startswith((">>> ", "... ")) and len(line.strip()) > ENTRY_WIDTH:
                wide.append((full, line.strip()))
    assert wide == []


# ---- links ----


def targets(text):
    """What a page's links and pictures point at within the repository."""
    found = re.findall(r"\]\(([^()\s]+)\)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchor(heading):
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_relative_links_point_at_what_exists(name):
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    for target in targets(text):
        path, _, part = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name}: {target}"
        if part:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert part in {anchor(heading) for heading in headings}, f"{name}: {target}"


def test_the_copyright_has_the_name_of_the_license():
    holder = re.search(r"^Copyright \(c\) \d+, (.*)$", (ROOT / "LICENSE").read_text(encoding="utf-8"), re.MULTILINE)[1]
    conf = (DOCS / "conf.py").read_text(encoding="utf-8")
    assert f'author = "{holder}"' in conf
    assert re.search(r"^copyright = ", conf, re.MULTILINE)
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"] in holder


def test_readme_shows_a_table_within_two_screens():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| ---"))
    assert first <= 60
