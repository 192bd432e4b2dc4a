"""The types: a user's program passes mypy --strict and runs, a wrong one doesn't; stubs say what the package is."""

import ast
import importlib.util
import inspect
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import get_args

import pytest

import nnkern as nk
from nnkern import names

pytestmark = pytest.mark.own_kernels

TESTS = Path(__file__).parent
SAMPLE = TESTS / "typing_sample.py"
# its [tool.mypy]
PYPROJECT = TESTS.parent / "pyproject.toml"


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    """Runs a module of mypy on the installed package; returns its exit status and all it says."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("mypy")

    def run(module, *arguments):
        command = [sys.executable, "-P", "-m", module, *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=300)
        return done.returncode, done.stdout + done.stderr

    return run


TABLES = {
    "Activation": nk.kernels.ACTIVATIONS,
    "Loss": nk.losses.LOSSES,
    "Optimizer": nk.optimizers.OPTIMIZERS,
    "Initializer": nk.initializers.NAMES,
    "Shape": nk.schedules.SHAPES,
}


@pytest.mark.parametrize("name", TABLES)
def test_the_names_as_types_are_those_of_the_tables(name):
    assert get_args(getattr(names, name)) == tuple(TABLES[name])


@pytest.mark.parametrize(
    ("thing", "listed"),
    [
        (nk.Dense, ("Activation", "Initializer")),
        (nk.Network, ("Loss",)),
        (nk.Network.fit, ("Optimizer",)),
        (nk.Network.partial_fit, ("Optimizer",)),
        (nk.Network.step, ("Optimizer",)),
        (nk.fit_many, ("Optimizer",)),
        (nk.find_learning_rate, ("Optimizer",)),
        (nk.from_onnx, ("Loss",)),
        (nk.from_torch, ("Loss",)),
        (nk.from_sklearn, ("Loss",)),
        (nk.schedules.ByStep, ("Shape",)),
    ],
    ids=lambda thing: getattr(thing, "__qualname__", None),
)
def test_help_lists_the_names(thing, listed):
    text = inspect.getdoc(thing)
    for table in listed:
        assert [name for name in TABLES[table] if not re.search(rf"\b{name}\b", text)] == []


def test_help_of_the_estimators_lists_the_names():
    estimators = pytest.importorskip("nnkern.sklearn", exc_type=ImportError)
    numbers = [name for name, loss in nk.losses.LOSSES.items() if not loss.classifies]
    for cls, listed in (
        (estimators.MLPClassifier, nk.kernels.ACTIVATIONS),
        (estimators.MLPRegressor, (*nk.kernels.ACTIVATIONS, *numbers)),
    ):
        assert [name for name in listed if f'"{name}"' not in cls.__doc__] == []


def test_a_users_program_passes_strictly(tool):
    assert tool("mypy", "--strict", SAMPLE) == (0, "Success: no issues found in 1 source file\n")


def test_a_wrong_program_does_not(tool, tmp_path):
    wrong = {
        "nk.nonsense": "attr-defined",
        'nk.Dense("128")': "arg-type",
        'nk.Network([nk.Dense(1)], "squared_error", dpi=3)': "call-arg",
        'nk.SGD("fast")': "arg-type",
        "nk.load(3)": "arg-type",
        'nk.Dense(3, "rellu")': "arg-type",
        'nk.Dense(3, "relu", init="he")': "arg-type",
        'nk.Network([nk.Dense(1)], "mse")': "arg-type",
        'nk.Network([nk.Dense(1)], "huber").fit([[1.0]], [[1.0]], optimizer="adamm")': "arg-type",
        'nk.schedules.ByStep(0.1, "cosin")': "arg-type",
        'MLPClassifier(activation="rellu")': "arg-type",
        'MLPRegressor(loss="mse")': "arg-type",
        'nk.Network([nk.Dense(1)], "squared_error").fit([[1.0]], [[1.0]])["cost"].upper()': "attr-defined",
        'nk.Network([nk.Dense(1)], "squared_error").compile_predict(weights="float16")': "arg-type",
        "nk.kernels.dense_forward(1, 2, 3, 'relu')": "call-overload",
        "MLPClassifier(alpha='small')": "arg-type",
        "MLPRegressor(class_weight='balanced')": "call-arg",
    }
    program = tmp_path / "wrong.py"
    imports = "import nnkern as nk; from nnkern.sklearn import MLPClassifier, MLPRegressor"
    program.write_text("\n".join([imports, *wrong]))
    status, said = tool("mypy", "--strict", program)
    assert status == 1
    assert re.findall(r":(\d+): error: .*\[([a-z-]+)\]", said) == [
        (str(line), code) for line, code in enumerate(wrong.values(), start=2)
    ]


def test_the_users_program_runs(tmp_path, capsys):
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("typing_sample", SAMPLE)
    sample = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sample)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # five epochs of the estimator aren't convergence
        assert sample.main(tmp_path) > 0.8
    assert "call fit(X, Y) or initialize(n_x) first" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_the_stub_knows_the_constructors(kind):
    """stubtest doesn't look into **shared: Unpack[_Shared]."""
    estimators = pytest.importorskip("nnkern.sklearn", exc_type=ImportError)
    stub = ast.parse(Path(estimators.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    shared = [node.target.id for node in classes["_Shared"].body]
    [arguments] = [node.args for node in classes[kind].body if getattr(node, "name", "") == "__init__"]
    own = inspect.signature(getattr(estimators, kind).__init__).parameters
    assert [name for name, p in own.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == [a.arg for a in arguments.args]
    assert [name for name, p in own.items() if p.kind is p.KEYWORD_ONLY] == [
        a.arg for a in arguments.kwonlyargs
    ] + shared


def test_stubs_say_what_the_package_is(tool):
    pytest.importorskip("sklearn")
    allowed = TESTS / "stubtest_allowlist.txt"
    # an entry of the list may be for what isn't installed here
    options = ("--mypy-config-file", PYPROJECT, "--allowlist", allowed, "--ignore-unused-allowlist")
    status, said = tool("mypy.stubtest", "nnkern", *options)
    assert status == 0, said
