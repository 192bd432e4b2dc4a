"""The package as such: what importing it does and leaves alone, what it says of itself, its names and examples."""

import ast
import doctest
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import VECTOR_BYTES, run

import nnkern as nk

pytestmark = pytest.mark.own_kernels

FOLDER = Path(nk.__file__).parent


# ---- import ----


@pytest.mark.parametrize("given", [{}, {"OPENBLAS_NUM_THREADS": "7", "OMP_NUM_THREADS": "5"}], ids=["none", "set"])
def test_import_leaves_the_environment(given):
    code = """
        import os, sys
        from ctypes import CDLL, c_char_p
        import numpy
        getenv = CDLL("ucrtbase" if sys.platform == "win32" else None).getenv
        getenv.restype = c_char_p
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "GOTO_NUM_THREADS", "OPENBLAS_CORETYPE")
        before = dict(os.environ), [getenv(name.encode()) for name in names]
        import nnkern
        # the environment as Python saw it at its start, and as C sees it now
        assert dict(os.environ) == before[0]
        assert [getenv(name.encode()) for name in names] == before[1]
    """
    run(code, environment=given)


def test_import_and_use_leave_floating_point_modes():
    """A subnormal would be flushed to zero if MXCSR had changed; in threads of the pool too."""
    code = """
        import numpy as np
        np.seterr(all="warn", under="ignore")
        before = np.geterr()
        import nnkern as nk
        tiny = np.float64(5e-324)
        def unchanged():
            assert np.geterr() == before
            assert np.array([1e-310]) * 0.5 == 5e-311
            assert tiny * 1.0 == tiny != 0
            assert 1 / np.float64(3) * 3 == 1
        unchanged()
        X = np.full((300, 2000), 1.0)
        net = nk.Network([nk.Dense(300)], "squared_error", n_x=300, dtype="float64", seed=0)
        net.fit(X, X, epochs=1, batch_size=None, optimizer=nk.SGD(1e-6), threads=2)
        unchanged()
        # subnormal products survive in every thread
        net.set_parameters({"W1": np.eye(300) * 2.0**-1000, "b1": np.zeros((300, 1))})
        A = net.predict(np.full((300, 2000), 2.0**-60), threads=2)
        assert (A == 2.0**-1060).all()
    """
    run(code)


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted in Linux' /proc")
def test_import_starts_no_thread():
    code = """
        import os
        import numpy
        before = len(os.listdir("/proc/self/task"))
        import nnkern as nk
        assert len(os.listdir("/proc/self/task")) == before
        net = nk.Network([nk.Dense(1)], "squared_error", n_x=1, seed=0)
        net.fit(numpy.ones((1, 1)), numpy.ones((1, 1)), epochs=1, threads=1)
        nk.show_config()
        assert len(os.listdir("/proc/self/task")) == before
    """
    run(code)


def test_import_needs_numpy_and_the_standard_library_alone():
    code = """
        import sys
        import numpy
        before = set(sys.modules)
        import nnkern
        print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
    """
    # Cython registers two modules of its own, which no distribution brings
    new = {name for name in run(code).split() if name != "cython_runtime" and not name.startswith("_cython_")}
    assert new - sys.stdlib_module_names <= {"nnkern", "numpy"}


def test_tests_are_collected_with_numpy_alone():
    """Wheels are tested beside numpy and what runs tests: a module of tests that needs more skips itself."""
    wanted = {re.split(r"[^\w.-]", line)[0].lower() for line in importlib.metadata.requires("nnkern")}
    wanted -= {"numpy", "pytest", "pytest-xdist", "hypothesis", "mpmath"}
    hidden = {"scipy"} | {
        module
        for module, distributions in importlib.metadata.packages_distributions().items()
        if wanted & {name.lower() for name in distributions}
    }
    code = f"""
        import os, sys
        from importlib.machinery import PathFinder
        import pytest
        class Alone(PathFinder):
            @classmethod
            def find_spec(cls, name, path=None, target=None):
                return None if name in {sorted(hidden)} else super().find_spec(name, path, target)
        sys.meta_path[sys.meta_path.index(PathFinder)] = Alone
        os.chdir({str(Path(__file__).parents[1])!r})
        sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider"]))
    """
    done = run(code, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_optional_parts_are_not_imported():
    code = """
        import sys
        import nnkern
        print(*sys.modules)
    """
    loaded = set(run(code).split())
    optional = {"sklearn", "scipy", "matplotlib", "PIL", "tqdm", "onnx", "safetensors", "pandas", "torch", "argparse"}
    optional |= {"tensorboard", "mlflow", "optuna"}
    assert optional & loaded == set()
    unasked = ("cli", "data", "plotting", "sklearn", "convert.onnx_in", "convert.c", "predictor")
    assert {f"nnkern.{name}" for name in unasked} & loaded == set()


def test_public_modules_are_attributes_that_load_when_they_are_asked_for():
    code = """
        import sys
        import nnkern as nk
        lazy = "data", "plotting", "sklearn", "tabular"
        assert not [name for name in lazy if f"nnkern.{name}" in sys.modules]
        for name in (*lazy, "predictor"):
            assert getattr(nk, name) is sys.modules[f"nnkern.{name}"]
            assert getattr(nk, name) is vars(nk)[name]
        try:
            nk.nonsense
        except AttributeError as error:
            print(error)
    """
    for needed in ("sklearn", "matplotlib"):
        pytest.importorskip(needed)
    assert run(code) == "module 'nnkern' has no attribute 'nonsense'\n"


def test_what_is_not_installed_is_no_name_and_says_what_to_install():
    code = """
        import importlib.util
        import sys
        import nnkern as nk
        assert {"data", "predictor", "__version__"} <= set(dir(nk))
        needed = {"plotting": "matplotlib", "sklearn": "sklearn", "tabular": "pyarrow"}
        for name, package in needed.items():
            assert (name in dir(nk)) == (importlib.util.find_spec(package) is not None)

        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("scipy", "sklearn"):      # whichever is asked for first
                    raise ModuleNotFoundError("No module named 'it'")

        sys.meta_path.insert(0, Hidden())
        try:
            nk.sklearn
        except nk.MissingPackageError as error:
            print(error)
    """
    said = run(code)
    assert "nnkern.sklearn needs scikit-learn 1.7 or newer (No module named 'it')" in said
    assert 'python -m pip install "nnkern[sklearn]", or "nnkern[tabular]"' in said


def test_import_leaves_what_is_slow_to_load_for_later():
    code = """
        import sys
        import numpy
        before = set(sys.modules)
        import nnkern
        print(*set(sys.modules) - before)
    """
    slow = {"numpy.random", "zipfile", "pathlib", "secrets", "shutil", "inspect", "importlib.metadata"}
    assert slow & set(run(code).split()) == set()


@pytest.mark.no_sanitizer
def test_import_takes_little_time(record_property):
    """Of the processor's, so that others' work doesn't count: no more than twice what numpy's takes."""
    code = """
        import time
        start = time.process_time()
        import numpy
        numpys = time.process_time()
        import nnkern
        print(numpys - start, time.process_time() - numpys)
    """
    numpys, seconds = (min(of_one) for of_one in zip(*(map(float, run(code).split()) for _ in range(3)), strict=True))
    record_property("seconds over import numpy", seconds)
    print(f"import nnkern: {1000 * seconds:.1f} ms over import numpy")
    assert seconds < 2 * numpys


def test_import_prints_nothing():
    assert run("import nnkern") == ""


# ---- what it says of itself ----


def test_version_is_that_of_the_distribution():
    assert nk.__version__ == importlib.metadata.version("nnkern")
    assert importlib.metadata.requires("nnkern")[0].startswith("numpy")
    required = [entry for entry in importlib.metadata.requires("nnkern") if "extra ==" not in entry]
    assert len(required) == 1


def test_show_config_prints_well_and_gives_facts():
    config = nk.show_config()
    facts = config.to_dict()
    for key in ("version", "blas", "blas_core", "isa", "gemm", "threads"):
        assert key in facts
    assert facts["version"] == nk.__version__
    assert facts["isa"] in VECTOR_BYTES
    assert facts["gemm"] in ("auto", "blas", "tiles")
    assert facts["threads"] == nk.get_num_threads()
    assert facts["blas"] in ("OpenBLAS", "Accelerate") or facts["blas"]
    json.dumps(facts)
    for text in (str(config), repr(config)):
        assert all(str(value) in text for value in facts.values())


def test_show_config_follows_the_number_of_threads():
    before = nk.get_num_threads()
    try:
        nk.set_num_threads(3)
        assert nk.get_num_threads() == 3
        assert nk.show_config().to_dict()["threads"] == 3
    finally:
        nk.set_num_threads(before)


@pytest.mark.skipif(sys.platform != "linux", reason="mapped files are read from Linux' /proc")
def test_blas_lies_inside_the_package():
    code = """
        import ctypes, os
        import nnkern
        folder = os.path.realpath(os.path.dirname(nnkern.__file__))
        mapped = {os.path.realpath(line.split()[-1]) for line in open("/proc/self/maps") if "/" in line}
        ours = sorted(path for path in mapped if "blas" in os.path.basename(path).lower() and "numpy" not in path)
        assert ours, "no BLAS of our own"
        assert all(path.startswith(folder + os.sep) for path in ours), ours
        print(*ours)
    """
    if nk.show_config().to_dict()["blas"] != "OpenBLAS":
        pytest.skip("the private copy is OpenBLAS'; another BLAS was chosen at build")
    assert run(code)


@pytest.mark.skipif(nk.show_config().to_dict()["blas"] != "OpenBLAS", reason="no BLAS is shipped but OpenBLAS")
def test_the_licence_of_blas_is_shipped():
    files = [str(file).lower() for file in importlib.metadata.files("nnkern")]
    assert any("licen" in file and "blas" in file for file in files), [file for file in files if "licen" in file]


def test_types_and_declarations_are_shipped():
    assert (FOLDER / "_kernels.pxd").is_file()
    assert list(FOLDER.glob("*.c")) == []
    assert list(FOLDER.glob("*.pyx")) == []


# ---- forcing instruction sets and products ----

ASK = """
    import json
    import numpy as np
    import nnkern as nk
    rng = np.random.default_rng(0)
    net = nk.Network([nk.Dense(9, "tanh"), nk.Dense(1)], "squared_error", n_x=5, dtype="float64", seed=0)
    cost = net.fit(rng.normal(size=(5, 50)), rng.normal(size=(1, 50)), epochs=3)["cost"]
    print(json.dumps([nk.show_config().to_dict(), cost]))
"""


def usable():
    facts = nk.show_config().to_dict()["usable_isas"]
    return facts.replace(",", " ").split() if isinstance(facts, str) else list(facts)


@pytest.mark.parametrize("isa", VECTOR_BYTES)
def test_NNKERN_ISA_forces_an_instruction_set(isa):
    if isa not in usable():
        done = run(ASK, environment={"NNKERN_ISA": isa}, check=False)
        assert done.returncode != 0
        assert isa in done.stderr
        return
    facts, cost = json.loads(run(ASK, environment={"NNKERN_ISA": isa}))
    assert facts["isa"] == isa
    assert facts["vector_bytes"] == VECTOR_BYTES[isa]
    _, expected = json.loads(run(ASK))
    np.testing.assert_allclose(cost, expected, rtol=1e-12)


def test_NNKERN_GEMM_decides_which_kernels_run():
    """Both cut a long sum of rounded products into pieces of their own: their bits tell them apart."""
    code = """
        import numpy as np
        import nnkern as nk
        rng = np.random.default_rng(0)
        W, X = (rng.normal(size=shape).astype("float32") for shape in ((50, 5000), (5000, 40)))
        print(nk.kernels.dense_forward(W, np.asfortranarray(X), None, "linear").tobytes().hex())
    """
    facts = nk.show_config().to_dict()
    bits = {
        gemm: run(code, environment={"NNKERN_GEMM": gemm, "NNKERN_ISA": facts["isa"]})
        for gemm in ("auto", "blas", "tiles")
    }
    assert bits["blas"] != bits["tiles"]
    assert bits["auto"] == bits["blas" if facts["vector_bytes"] < 32 else "tiles"]


@pytest.mark.parametrize("gemm", ["auto", "blas", "tiles"])
def test_NNKERN_GEMM_forces_a_product(gemm):
    facts, cost = json.loads(run(ASK, environment={"NNKERN_GEMM": gemm}))
    assert facts["gemm"] == gemm
    _, expected = json.loads(run(ASK))
    np.testing.assert_allclose(cost, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("variable", "names"), [("NNKERN_ISA", usable()), ("NNKERN_GEMM", ("auto", "blas"))], ids=["ISA", "GEMM"]
)
@pytest.mark.parametrize("value", ["nonsense", "AVX2 ", "avx", "tile"])
def test_unknown_names_are_refused_and_the_names_listed(variable, names, value):
    """Never a silent fall-back: import fails, with words, and the process is not killed by a signal."""
    done = run(ASK, environment={variable: value}, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert variable in last
    assert value in last
    for name in names:
        assert name in last


def test_empty_variables_are_none():
    facts, _ = json.loads(run(ASK, environment={"NNKERN_ISA": "", "NNKERN_GEMM": ""}))
    assert facts["gemm"] == "auto"
    assert facts["isa"] == usable()[0]


# ---- public names ----

MODULES = sorted(name for _, name, _ in pkgutil.iter_modules([str(FOLDER)]) if not name.startswith("_"))
PURE = [name for name in MODULES if (FOLDER / f"{name}.py").is_file()]


def test_all_is_right():
    assert len(set(nk.__all__)) == len(nk.__all__)
    for name in nk.__all__:
        assert hasattr(nk, name)
    namespace = {}
    exec("from nnkern import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(nk.__all__)
    # what one screen of the design uses
    promised = {
        "Network", "Dense", "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "EarlyStopping", "LearningRateSchedule",
        "Checkpoint", "NotFittedError", "DivergenceError", "ModelFormatError", "load", "check_gradients", "kernels",
        "schedules", "set_num_threads", "get_num_threads", "show_config", "__version__",
    }  # fmt: skip
    assert promised <= set(nk.__all__)
    assert not {name for name in dir(nk) if not name.startswith("_")} - set(nk.__all__) - set(MODULES)


def test_kernels_all_is_right():
    namespace = {}
    exec("from nnkern.kernels import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(nk.kernels.__all__)


def public():
    """Name -> object: all that __all__ and the public submodules offer, and their public methods."""
    found = {}
    for module in (nk, nk.kernels, nk.schedules, nk.initializers, nk.optimizers, nk.callbacks):
        prefix = module.__name__
        names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
        for name in names:
            thing = getattr(module, name)
            if not callable(thing) or not getattr(thing, "__module__", "").startswith("nnkern"):
                continue
            found[f"{prefix}.{name}"] = thing
            if inspect.isclass(thing):
                for method, member in vars(thing).items():
                    if not method.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                        found[f"{prefix}.{name}.{method}"] = member
    return found


PUBLIC = public()


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_docstrings(name):
    text = inspect.getdoc(PUBLIC[name])
    assert text, "no docstring"
    lines = text.splitlines()
    # Cython puts the signature of a compiled function before its words
    first = lines[2] if lines[0].startswith(f"{name.rpartition('.')[2]}(") and not lines[1] else lines[0]
    assert first.rstrip().endswith((".", ":")), first
    # a dataclass without words of its own gets its signature for them
    assert not first.startswith(f"{name.rpartition('.')[2]}("), first


def docstrings():
    """Doctests of every public module and of every public name, compiled functions among them, each once."""
    finder, seen = doctest.DocTestFinder(), {}
    # estimators are subclasses of scikit-learn's; pictures are matplotlib's
    needs = {"sklearn": "sklearn", "dask": "sklearn", "plotting": "matplotlib"}
    without = {"__main__"} | {module for module, needed in needs.items() if importlib.util.find_spec(needed) is None}
    for module in [nk, *(importlib.import_module(f"nnkern.{name}") for name in MODULES if name not in without)]:
        for test in finder.find(module, module.__name__):
            seen.setdefault(test.docstring, test)
    for name, thing in PUBLIC.items():
        for test in finder.find(thing, name, module=False, globs={}):
            seen.setdefault(test.docstring, test)
    return [test for test in seen.values() if test.examples]


DOCTESTS = docstrings()


@pytest.mark.parametrize("test", DOCTESTS, ids=lambda test: test.name)
def test_examples_run_as_printed(test):
    """With nothing but what the example imports itself."""
    needs = {"to_onnx": "onnx", "from sklearn": "sklearn", "nk.TensorBoard": "tensorboard"}
    needs |= {f"import {package}": package for package in ("torch", "mlflow", "optuna")}
    for word, package in needs.items():
        if any(word in example.source for example in test.examples):
            pytest.importorskip(package)
    runner = doctest.DocTestRunner(verbose=False)
    report = []
    test.globs = {"__name__": "__main__"}
    runner.run(test, out=report.append, clear_globs=True)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_main_names_and_all_kernels_have_examples():
    with_examples = {test.name.rpartition(".")[2] for test in DOCTESTS}
    functions = {name for name in nk.kernels.__all__ if inspect.isroutine(getattr(nk.kernels, name))}
    assert functions | {"Network", "Dense", "load", "check_gradients", "show_config"} <= with_examples


@pytest.mark.parametrize("name", PURE)
def test_every_module_opens_with_what_it_is_for(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("name", PURE)
def test_only_what_is_asked_to_prints(name):
    """The command line, the progress, and scikit-learn's `verbose`."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    prints = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "print"]
    assert prints == [] or name in ("cli", "progress", "sklearn")


@pytest.mark.parametrize("name", PURE)
def test_nothing_exits_the_process(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    exits = [
        node
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in ("exit", "_exit", "abort"))
        or (isinstance(node, ast.Name) and node.id in ("exit", "quit", "SystemExit"))
    ]
    assert exits == [] or name in ("cli", "__main__")


def test_dask_is_asked_for_where_it_is_used(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        nk.MissingPackageError, match=r"nnkern.dask needs Dask's distributed: pip install 'nnkern\[dask\]'"
    ):
        nk.dask.MLPRegressor().fit(None, None)
