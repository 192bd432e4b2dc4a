"""The benchmarks verify before they time: a tiny case of each kind, every peer, and sides that are wrong.

Each test runs `nnkern bench` of the installed package as a user does, in a process of its own.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import nnkern
from nnkern import _kernels, _products

pytestmark = pytest.mark.own_kernels

BENCH = [sys.executable, "-P", "-m", "nnkern", "bench"]
INSTALLED = Path(nnkern.__file__).parent / "_bench"
# What each peer imports.
PEERS = {
    "jax": ("jax",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "sklearn": ("sklearn",),
    "torch": ("torch",),
    "torch_compile": ("torch",),
}
# Sides of reduced precision, and what each imports.
REDUCED = {
    "nnkern_bfloat16": ("nnkern",),
    "nnkern_frozen_bfloat16": ("nnkern",),
    "nnkern_frozen_int8": ("nnkern",),
    "onnxruntime_int8": PEERS["onnxruntime"],
    "openvino_bfloat16": PEERS["openvino"],
    "torch_autocast_bfloat16": PEERS["torch"],
    "torch_bfloat16": PEERS["torch"],
}
SERVING = ("tiny-frozen",)
TINY = ("tiny-relu", "tiny-tanh", "tiny-shuffled", "tiny", *SERVING)


def repeated(option, values):
    return [argument for value in values for argument in (option, value)]


def run(folder, *arguments, **environment):
    """Exit status, what it printed, what it wrote as JSON."""
    file = folder / "result.json"
    done = subprocess.run(
        [*BENCH, *arguments, "--quick", "--json", str(file)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert file.exists(), done.stderr
    return done.returncode, done.stdout, json.loads(file.read_text())


def threads_of_numpy(n):
    """What numpy's side says of its threads: without threadpoolctl it can't know."""
    return n if importlib.util.find_spec("threadpoolctl") else f"{n} asked for"


def numpys_own_choice_of_kernels():
    """What numpy's BLAS picks where nothing tells it to pick something else; unknown without threadpoolctl."""
    if not importlib.util.find_spec("threadpoolctl"):
        return "None"
    code = "import numpy, threadpoolctl\nprint(threadpoolctl.threadpool_info()[0].get('architecture'))"
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


def test_all_groups_of_tiny_cases(tmp_path):
    cases = repeated("--case", TINY)
    sides = ["--side", "nnkern", "--side", "numpy"]
    # A setting that must not reach the sides.
    status, printed, result = run(tmp_path, *cases, *sides, OPENBLAS_CORETYPE="Prescott")
    assert status == 0, printed
    assert set(result["sides"]) == {"nnkern", "numpy"}
    assert str(result["sides"]["numpy"]["kernels"].get("blas_core")) == numpys_own_choice_of_kernels()
    assert result["sides"]["nnkern"]["threads"] == 1
    assert result["sides"]["numpy"]["threads"] == threads_of_numpy(1)
    assert {group: len(rows) for group, rows in result["groups"].items()} == {
        "kernels": 12,  # 3 + 2 + 1 layers, both passes: tiny-shuffled shares one with tiny-relu
        "training": 3,
        "inference": 2,
        "serving": 2,
    }
    for group, rows in result["groups"].items():
        for row in rows:
            for name in ("nnkern", "numpy"):
                rounds = row["sides"][name]["seconds"]
                assert len(rounds) == (3 if group == "training" else 10), (group, row["case"], name)
                assert min(rounds) == row["best"][name] > 0
            assert row["ratio"] == row["best"]["numpy"] / row["best"]["nnkern"]
    if result["cores"]:
        assert len(result["cores"]) == 1
        assert result["sides"]["nnkern"]["cores"] == result["cores"]
    assert len(result["limits"]) == 2
    assert result["limit"] == max(result["limits"].values())


def test_every_activation_loss_and_clipping_beside_numpy(tmp_path):
    pytest.importorskip("scipy", reason="numpy has no erf, which gelu needs")
    sides = ["--side", "nnkern", "--side", "numpy"]
    status, printed, result = run(tmp_path, "elementwise", "--case", "tiny-elementwise", *sides)
    assert status == 0, printed
    rows = result["groups"]["elementwise"]
    names = [(row["case"].split(",")[0], row["direction"]) for row in rows]
    assert names == [
        *((name, direction) for name in nnkern.kernels.ACTIVATIONS for direction in ("forward", "backward")),
        *((name, "loss") for name in nnkern.losses.LOSSES),
        *((name, "step") for name in ("clip_value", "clip_norm")),
    ]
    for row in rows:
        assert set(row["best"]) == {"nnkern", "numpy"}, row["case"]
        assert row["gbytes"] == row["bytes"] / row["best"]["nnkern"] / 1e9
    assert "GB/s" in printed
    assert "GF/s |" not in printed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elementwise_results_are_verified(dtype):
    """Each side's own are found right, and wrong where they are a little off."""
    pytest.importorskip("scipy", reason="numpy has no erf, which gelu needs")
    code = f"""
import numpy as np
import cases, elementwise
from reference import Disagreement

for row in elementwise.rows(cases.elementwise_case("tiny-elementwise"), "{dtype}"):
    for who in ("nnkern", "numpy"):
        assert len(list(row.candidates(who))) >= 1
        form, call, results = next(iter(getattr(row, who)()))
        try:
            row.verify("altered", call, lambda found: [np.asarray(one) + 1e-3 for one in results(found)])
        except Disagreement:
            print("found")
"""
    environment = os.environ | {"PYTHONPATH": str(INSTALLED), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = 2 * len(nnkern.kernels.ACTIVATIONS) + len(nnkern.losses.LOSSES) + 2
    assert done.stdout.count("found") == 2 * rows


def test_many_networks_end_with_the_costs_of_one_jitted_loop(tmp_path):
    command = [sys.executable, INSTALLED / "many.py", "--networks", "2", "--rounds", "1", "--threads", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for side, library in (("nnkern, unshuffled", "numpy"), ("JAX, unshuffled", "jax"), ("scikit-learn", "sklearn")):
        installed = importlib.util.find_spec(library) is not None
        assert bool(re.search(rf"^{side}.* \d+\.\d$", done.stdout, re.MULTILINE)) == installed, done.stdout
    assert ("largest relative difference" in done.stdout) == (importlib.util.find_spec("jax") is not None)


def test_frozen_predictors_in_float64(tmp_path):
    """Reduced weights are for float32."""
    sides = ["nnkern", "nnkern_frozen_bfloat16", "nnkern_frozen_int8"]
    options = [*repeated("--case", SERVING), *repeated("--side", sides), "--dtype", "float64"]
    status, printed, result = run(tmp_path, "serving", *options)
    assert status == 0, printed
    assert result["groups"]["serving"]
    for row in result["groups"]["serving"]:
        assert {name for name, entry in row["sides"].items() if "seconds" in entry} == {"nnkern"}


def is_installed(side):
    return all(map(importlib.util.find_spec, (PEERS | REDUCED)[side]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_peer_agrees_with_the_reference(tmp_path, dtype):
    installed = [name for name in PEERS if name != "torch_compile" and is_installed(name)]
    if not installed:
        pytest.skip("no peer is installed")
    # In float64 one case is enough: it's the same code.
    cases = ("tiny-shuffled", "tiny") if dtype == "float64" else TINY
    options = repeated("--case", cases) + repeated("--side", installed)
    status, printed, result = run(tmp_path, "training", "inference", *options, "--dtype", dtype)
    assert status == 0, printed
    assert set(result["sides"]) == set(installed), result["missing"]
    unable = {"training": {"onnxruntime", "openvino"}, "inference": {"openvino"} if dtype == "float64" else set()}
    for group, rows in result["groups"].items():
        assert rows
        for row in rows:
            timed = {name for name, entry in row["sides"].items() if min(entry.get("seconds", [0])) > 0}
            assert timed == set(installed) - unable[group], (group, row["case"])
            assert not any(key in entry for entry in row["sides"].values() for key in ("wrong", "failed"))


def test_reduced_precision_agrees_with_the_reference_in_its_class(tmp_path):
    """digits too: the tiny products aren't computed in bfloat16."""
    installed = list(filter(is_installed, REDUCED))
    options = repeated("--case", ("tiny-relu", "tiny-tanh", "tiny-shuffled", "tiny", "digits", "tiny-frozen"))
    status, printed, result = run(
        tmp_path, "training", "inference", "serving", *options, *repeated("--side", ["nnkern", "numpy", *installed])
    )
    assert status == 0, printed
    assert set(result["sides"]) == {"nnkern", "numpy", *installed}, result["missing"]
    unable = {"nnkern_frozen_bfloat16", "nnkern_frozen_int8", "onnxruntime_int8", "openvino_bfloat16"}
    for group, rows in result["groups"].items():
        assert rows
        for row in rows:
            able = set(installed) - (unable if group == "training" else set())
            for name in able:
                entry = row["sides"][name]
                assert min(entry["seconds"]) > 0
                assert 0 <= entry["error"]["rms"] <= entry["error"]["largest"], (group, row["case"], name)
                if row["case"] == "digits" and row.get("batch", 32) == 32:
                    assert entry["error"]["rms"] > 1e-4, (group, name)
            assert not any("error" in row["sides"][name] for name in ("nnkern", "numpy"))
            # The ratio of the dtype knows its own sides alone.
            assert row["best_peer"] == "numpy"
            found = row["reduced"]["bfloat16"]
            assert found["own"] in {"nnkern_bfloat16", "nnkern_frozen_bfloat16"}
            assert found["of_whole"] == row["best"][found["own"]] / row["best"]["nnkern"]
    assert "One step of the whole fit, µs, bfloat16" in printed
    assert "One step of the whole fit, µs, int8" not in printed
    assert "One prediction, µs, int8" in printed


def test_reduced_precision_is_for_float32(tmp_path):
    sides = repeated("--side", ["nnkern", "nnkern_bfloat16"])
    status, printed, result = run(tmp_path, "inference", "--case", "tiny", *sides, "--dtype", "float64")
    assert status == 0, printed
    assert result["missing"] == {"nnkern_bfloat16": "reduced precision is for float32"}


def test_which_sides_run():
    """Asked in a process of its own: the tests have a module `reference` too."""
    whole = {"nnkern", "numpy", *PEERS}
    bfloat16 = {name for name in REDUCED if name.endswith("_bfloat16")}
    expected = {
        "": whole,
        "--reduced": whole | set(REDUCED),
        "--reduced --quick": (whole | set(REDUCED)) - {"torch_compile"},
        "sweep": (whole | bfloat16) - {"torch_compile"},
        "sweep --side numpy": {"numpy"},
    }
    code = f"""
import json, sys
sys.path.insert(0, {str(INSTALLED)!r})
import run
print(json.dumps([run.sides(run.arguments(options.split())) for options in {list(expected)!r}]))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert [set(sides) for sides in json.loads(done.stdout)] == list(expected.values())


def test_a_side_is_compared_with_peers_of_its_precision_or_finer_ones(monkeypatch):
    monkeypatch.syspath_prepend(str(INSTALLED))
    import report

    def row(case, **microseconds):
        rounds = {name: [t * 1e-6] for name, t in microseconds.items()}
        sides = {name: {"seconds": rounds[name], "cpu_seconds": rounds[name]} for name in rounds}
        sides["x_bfloat16"]["error"] = {"largest": 0.25, "rms": 0.125}
        return {"case": case, "threads": 1, "flops": 1e6, "sides": sides}

    rows = [
        row("a", nnkern=8, nnkern_bfloat16=4, nnkern_frozen_bfloat16=3, nnkern_int8=2, x=6, x_bfloat16=9, x_int8=1),
        row("b", nnkern=8, nnkern_bfloat16=2, nnkern_frozen_bfloat16=4, nnkern_int8=1, x=4, x_bfloat16=1, x_int8=4),
    ]
    for one in rows:
        report.summarise(one, "nnkern", 0.0, "seconds")
    assert [(one["ratio"], one["best_peer"]) for one in rows] == [(6 / 8, "x"), (4 / 8, "x")]
    found = [one["reduced"] for one in rows]
    assert [(one["bfloat16"]["own"], one["bfloat16"]["best_peer"]) for one in found] == [
        ("nnkern_frozen_bfloat16", "x"),
        ("nnkern_bfloat16", "x_bfloat16"),
    ]
    np.testing.assert_allclose([one["bfloat16"]["ratio"] for one in found], [6 / 3, 1 / 2])
    np.testing.assert_allclose([one["bfloat16"]["of_whole"] for one in found], [3 / 8, 2 / 8])
    assert [one["int8"]["best_peer"] for one in found] == ["x_int8", "x_bfloat16"]
    names = list(rows[0]["sides"])
    text = report.tables("µs", rows, names, "nnkern", worst_first=True)
    whole, bfloat16, int8 = text.split("\nµs, ")
    for table, order in ((whole, "ba"), (bfloat16, "ba"), (int8, "ab")):
        lines = [line.split()[1] for line in table.splitlines() if line.startswith("| ")]
        assert lines[2:] == list(order), table
    assert "0.25, 0.12" in bfloat16
    assert "x_int8" not in whole + bfloat16
    assert "nnkern in bfloat16 is ahead in 1 of 2, least 0.50, geometric mean 1.00; BEHIND in b (0.50)" in bfloat16


def test_a_sweep_of_random_networks(tmp_path):
    """Each is the same in every run with its seed."""
    options = ["sweep", "--seed", "42", "--count", "1", *repeated("--side", ["nnkern", "nnkern_bfloat16", "numpy"])]
    status, printed, result = run(tmp_path, *options)
    assert status == 0, printed
    assert {group: [row["shape"] for row in rows] for group, rows in result["groups"].items()} == {
        "sweep-training": ["895-62-1 tanh, 236"],
        "sweep-inference": ["467-62-248"],
    }
    for (row,) in result["groups"].values():
        assert set(row["best"]) == {"nnkern", "nnkern_bfloat16", "numpy"}
        assert "error" in row["sides"]["nnkern_bfloat16"]
        assert row["ratio"] > 0


def test_what_a_sweep_draws(monkeypatch):
    monkeypatch.syspath_prepend(str(INSTALLED))
    import cases

    trainings = [cases.training_case(name) for name in cases.sweep_names("training", 0, None)]
    predictions = [cases.inference_case(name) for name in cases.sweep_names("inference", 0, None)]
    assert (len(trainings), len(predictions)) == (24, 40)
    assert cases.sweep_names("training", 0, 3) == [case.name for case in trainings[:3]]
    assert trainings[0] != cases.training_case("sweep-1-0")
    assert {case.optimizer for case in trainings} == {"sgd", "adam"}
    assert {case.activation for case in trainings} == {"relu", "tanh"}
    for case in trainings + predictions:
        hidden = case.n[1:-1]
        assert 1 <= len(hidden) <= 3
        assert 4 <= min(hidden) <= max(hidden) <= 2048
    assert all(8 <= case.batch <= 1024 and case.steps > 1 for case in trainings)
    assert all(1 <= case.batches[0] <= 1024 for case in predictions)


def test_adam_of_each_side(tmp_path):
    """A sweep's Adam is verified against float64's, and a wrong one found."""
    installed = [name for name in (*PEERS, *REDUCED) if name != "torch_compile" and is_installed(name)]
    methods = """
    def prepare_training(self, case, *arguments):
        super().prepare_training(replace(case, optimizer="sgd"), *arguments)
    """
    wrong = side_file(tmp_path, methods, "sgd_bfloat16")
    options = ["sweep-training", "--seed", "27", "--count", "1", "--side", "nnkern", "--side", wrong]
    status, printed, result = run(tmp_path, *options, *repeated("--side", installed))
    (row,) = result["groups"]["sweep-training"]
    assert row["shape"].endswith("Adam")
    assert [name for name, entry in row["sides"].items() if "wrong" in entry] == ["sgd_bfloat16"], printed
    assert status == 1
    for name in ("nnkern", *installed):
        assert row["sides"][name].keys() & {"seconds", "missing"}, (name, printed)


def test_torch_compile_agrees_with_the_reference(tmp_path):
    if not is_installed("torch_compile"):
        pytest.skip("torch is not installed")
    # One case: it takes seconds to compile, and is torch's side but for that.
    options = ["--case", "tiny-tanh", "--side", "nnkern", "--side", "torch_compile"]
    status, printed, result = run(tmp_path, "training", *options)
    if "torch_compile" in result["missing"]:
        pytest.skip(result["missing"]["torch_compile"])
    assert status == 0, printed
    assert result["groups"]["training"][0]["best"]["torch_compile"] > 0


def test_two_threads(tmp_path):
    cases = ["--case", "tiny-relu", "--case", "tiny"]
    sides = ["--side", "nnkern", "--side", "numpy"]
    status, printed, result = run(tmp_path, *cases, *sides, "--threads", "2")
    assert status == 0, printed
    assert set(result["groups"]) == {"training", "inference", "serving"}  # kernels are compared on one thread
    if result["cores"]:
        assert len(result["cores"]) == min(2, len(os.sched_getaffinity(0)))
        assert result["sides"]["numpy"]["threads"] == threads_of_numpy(len(result["cores"]))
        assert result["sides"]["numpy"]["cores"] == result["cores"]


def test_numpy_alone(tmp_path):
    """Without any peer, and without what the tests, the plots and the description of BLAS need."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in (
        "threadpoolctl",
        "matplotlib",
        "pytest",
        "hypothesis",
        "PIL",
        "tqdm",
        "scipy",
        *sum(PEERS.values(), ()),
    ):
        (blocked / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} here')\n")
    picture = tmp_path / "bench.svg"
    cases = ["--case", "tiny-relu", "--case", "tiny"]
    status, printed, result = run(tmp_path, *cases, "--svg", str(picture), PYTHONPATH=str(blocked), PYTHONSAFEPATH="1")
    assert status == 0, printed
    assert set(result["sides"]) == {"nnkern", "numpy"}
    assert set(result["missing"]) == set(PEERS) - {"torch_compile"}  # which --quick leaves out
    assert "ratio" in result["groups"]["training"][0]
    drawn = ET.parse(picture).getroot()
    namespace = "{http://www.w3.org/2000/svg}"
    assert drawn.tag == f"{namespace}svg"
    # one in the legend, one in each row that compares: tiny-relu, and tiny with two sizes of batch
    assert len(drawn.findall(f"{namespace}circle")) == 1 + 3
    texts = [text.text for text in drawn.iter(f"{namespace}text")]
    assert "numpy" in texts
    assert "7-6-5-3 relu" in texts


def test_a_picture_of_any_run_is_well_formed(monkeypatch):
    monkeypatch.syspath_prepend(str(INSTALLED))
    import picture

    def result(*rows):
        return {
            "machine": {"cpu": '<fast> & "new"'},
            "dtype": "float32",
            "threads": 2,
            "date": "2026-01-02T03:04:05",
            "groups": {"training": list(rows)},
        }

    ET.fromstring(picture.svg(result(), "nnkern"))
    row = {"case": "a<b", "shape": "a<b & c, 3", "best": {"nnkern": 1.0, "x&y": 1e-3, "z": 1e4}}
    drawn = ET.fromstring(picture.svg(result(row), "nnkern"))
    assert '<fast> & "new", float32, 2 threads, 2026-01-02' in [text.text for text in drawn.iter() if text.text]
    width = float(drawn.get("width"))
    places = [float(dot.get("cx")) for dot in drawn.iter("{http://www.w3.org/2000/svg}circle")]
    assert all(0 < place < width for place in places)


@pytest.mark.no_sanitizer
def test_the_limit_is_that_of_vectors():
    rates = {dtype: max(_kernels.fma_rate(dtype) for _ in range(5)) for dtype in ("float32", "float64")}
    # A chain of additions, each waiting for the one before: what scalar code gives.
    x = np.zeros(100_000)
    scalar = 0.0
    for _ in range(20):
        start = time.perf_counter()
        np.add.accumulate(x, out=x)
        scalar = max(scalar, x.size / (time.perf_counter() - start))
    lanes = {
        "float32": _products.build_config()["vector_bytes"] // 4,
        "float64": _products.build_config()["vector_bytes"] // 8,
    }
    for dtype, rate in rates.items():
        # No processor has more than four such units, or a clock beyond 8 GHz.
        assert 4 * scalar < rate < 2 * 4 * 8e9 * lanes[dtype]
    assert 1.5 < rates["float32"] / rates["float64"] < 2.6
    with pytest.raises(TypeError, match="expected float32 or float64"):
        _kernels.fma_rate("int32")


@pytest.mark.no_sanitizer
def test_footprint(tmp_path):
    status, printed, result = run(tmp_path, "footprint", "--side", "nnkern")
    assert status == 0, printed
    found = result["footprint"]
    assert 0 < found["import"]["over_numpy"] == min(found["import"]["rounds"])
    assert found["size"]["installed"] > sum(f.stat().st_size for f in Path(nnkern.__file__).parent.glob("_libs/*.so"))
    assert 0 < found["size"]["wheel"] < 10e6
    if "memory" in found:
        # No copy of X, and room for more than the parameters.
        assert found["memory"]["parameters"] == 4 * (784 * 128 + 128 + 128 * 10 + 10)
        assert found["memory"]["parameters"] < found["memory"]["growth"] < found["memory"]["X"] / 2


@pytest.fixture
def footprint(monkeypatch):
    monkeypatch.syspath_prepend(str(INSTALLED))
    import footprint

    return footprint


def test_what_a_library_requires_is_followed_with_extras_and_markers(footprint, monkeypatch):
    pytest.importorskip("packaging")
    requires = {
        "one": ["Two[more]>=1", 'never; platform_system == "Nowhere"', 'extra-of-one; extra == "x"'],
        "two": ["three", 'four; extra == "more"', 'five; extra == "other"'],
        "three": ["one"],
        "four": None,
    }
    monkeypatch.setattr(importlib.metadata, "requires", requires.__getitem__)
    assert footprint.required("one") == {"one", "two", "three", "four"}


@pytest.mark.no_sanitizer
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_footprints_beside_each_other(footprint):
    pytest.importorskip("packaging")
    rows = footprint.compare(["nnkern"], "float32", quick=True)
    ours = rows["nnkern"]
    assert ours["with_required"]["packages"] == 2  # numpy too
    assert ours["alone"]["bytes"] == footprint.size("nnkern")["installed"]
    assert 0 < ours["alone"]["files"] < ours["with_required"]["files"]
    assert ours["for_gpus"] == {"packages": 0, "bytes": 0, "files": 0}
    assert ours["import"]["seconds"] > 0
    assert ours["import"]["resident"] > 5e6  # numpy's at least
    assert ours["memory"]["parameters"] < ours["memory"]["growth"]


def test_the_table_of_footprints(footprint):
    def row(size, seconds):
        disk = {"packages": 1, "bytes": size, "files": 7}
        more = {"packages": 0, "bytes": 0, "files": 0}
        return {
            "alone": disk,
            "with_required": {"packages": 3, "bytes": 2 * size, "files": 9},
            "for_gpus": more if size < 1e8 else disk,
            "import": {"seconds": seconds, "resident": 12.34e6},
        }

    rows = {"nnkern": row(9_876_543, 0.2) | {"memory": {"growth": 4.25e6}}, "torch": row(1_234_567_890, 3.0)}
    heads, _, first, second = footprint.comparison(rows).splitlines()
    assert heads.count("|") == first.count("|") == second.count("|")
    assert first == "| nnkern | 9.9 | 7 | 19.8 | 9 | 3 |  | 12.3 | 1.0 | 4.2 |"
    assert second == "| torch | 1235 | 7 | 2469 | 9 | 3 | 1235 | 12.3 | 15.0 |  |"


FAULTS = {
    "a bias that never moves": """
    def parameters(self):
        return super().parameters() | {"b1": self.given["b1"]}
    def load(self, parameters):
        self.given = parameters
        super().load(parameters)
    """,
    "a rate that is 1 % too high": """
    def prepare_training(self, *arguments):
        super().prepare_training(*arguments)
        rates = self.loop.rate_over
        self.loop.rate_over = {m: rate * rate.dtype.type(1.01) for m, rate in rates.items()}
    """,
    "a batch that is left out": """
    def prepare_training(self, *arguments):
        super().prepare_training(*arguments)
        del self.loop.batches[-1]
    """,
    "batches in another order": """
    def prepare_training(self, *arguments):
        super().prepare_training(*arguments)
        self.loop.batches.reverse()
    """,
    "one NaN": """
    def train(self, epochs):
        costs = super().train(epochs)
        self.loop.W[2][0, 0] = np.nan
        return costs
    """,
    "float64 throughout": """
    def prepare_training(self, case, dtype, *arguments):
        super().prepare_training(case, "float64", *arguments)
    """,
    "a cost that is 0.1 % off": """
    def train(self, epochs):
        return [1.001 * cost for cost in super().train(epochs)]
    """,
    "a parameter too few": """
    def parameters(self):
        parameters = super().parameters()
        del parameters["b2"]
        return parameters
    """,
    "a matrix transposed": """
    def parameters(self):
        parameters = super().parameters()
        return parameters | {"W1": parameters["W1"].T}
    """,
}

# These would be errors of a bfloat16 side too; what is smaller than its roundings can't be found.
REDUCED_FAULTS = {name: methods.replace("1.01", "1.4") for name, methods in FAULTS.items()} | {
    "a cost that is 10 % off": """
    def train(self, epochs):
        return [1.1 * cost for cost in super().train(epochs)]
    """,
}
for name in ("float64 throughout", "a cost that is 0.1 % off", "batches in another order"):
    del REDUCED_FAULTS[name]

SHUFFLED_FAULTS = {
    "labels in an order of their own": """
    def prepare_training(self, *arguments):
        super().prepare_training(*arguments)
        self.loop.Y_rows = np.roll(self.loop.Y_rows, 1, axis=0)
    """,
    "one example twice, another never": """
    def prepare_training(self, *arguments):
        super().prepare_training(*arguments)
        for rows in (self.loop.X_rows, self.loop.Y_rows):
            rows[0] = rows[1]
    """,
}

INFERENCE_FAULTS = {
    "probabilities that are 0.1 % off": """
    def predictor(self, *arguments):
        call, result = super().predictor(*arguments)
        return call, lambda: result() * np.float32(1.001)
    """,
    "examples in rows": """
    def predictor(self, *arguments):
        call, result = super().predictor(*arguments)
        return call, lambda: result().T
    """,
}

REDUCED_INFERENCE_FAULTS = {name: methods.replace("1.001", "1.2") for name, methods in INFERENCE_FAULTS.items()} | {
    "one entry": """
    def predictor(self, *arguments):
        call, result = super().predictor(*arguments)
        def altered():
            A = result()
            A[0, 0] += 0.5
            return A
        return call, altered
    """,
}

GROUPS = (
    ("training", "tiny-relu", FAULTS, ""),
    ("training", "tiny-relu", REDUCED_FAULTS, "_bfloat16"),
    ("training", "tiny-shuffled", SHUFFLED_FAULTS, ""),
    ("inference", "tiny", INFERENCE_FAULTS, ""),
    ("inference", "tiny", REDUCED_INFERENCE_FAULTS, "_bfloat16"),
)


def side_file(folder, methods, name="altered", of="numpy"):
    """A side, numpy's unless another is named, with some methods replaced."""
    file = folder / f"with_{name}.py"
    file.write_text(
        f"import os\nfrom dataclasses import replace\nimport numpy as np\nfrom peers import with_{of}\n\n"
        f"class Side(with_{of}.Side):\n    library = 'altered'\n{methods}\n"
    )
    return str(file)


@pytest.mark.parametrize(("group", "case", "faults", "kind"), GROUPS, ids=[case + kind for _, case, _, kind in GROUPS])
def test_a_wrong_side_is_found_and_not_timed(tmp_path, group, case, faults, kind):
    right = side_file(tmp_path, "", f"right{kind}")
    sides = ["--side", right]
    for number, methods in enumerate(faults.values()):
        sides += ["--side", side_file(tmp_path, methods, f"fault{number}{kind}")]
    status, printed, result = run(tmp_path, group, "--case", case, *sides)
    assert status == 1
    assert "WRONG" in printed
    for row in result["groups"][group]:
        for number, fault in enumerate(faults):
            entry = row["sides"][f"fault{number}{kind}"]
            assert "wrong" in entry, f"not found: {fault}"
            assert "seconds" not in entry, fault
        assert "seconds" in row["sides"][f"right{kind}"]


# Factors on the learning rate of a kind's parameters.
RATES = {
    "encoders that learn nothing": ("Encode", "rate=0, embedding_rate=0"),
    "numbers' encoders that learn nothing": ("Encode", "rate=0"),
    "a scale that learns nothing": ("Scale", "rate=0"),
    "a mix that learns nothing": ("Dense", "mix_rate=0"),
}
WITH_RATES = """
    def network(self, *arguments):
        nk = with_nnkern.nk
        kind = nk.{kind}
        nk.{kind} = lambda *given: kind(*given, {rates})
        try:
            return super().network(*arguments)
        finally:
            nk.{kind} = kind
"""
TABLE_FAULTS = {fault: WITH_RATES.format(kind=kind, rates=rates) for fault, (kind, rates) in RATES.items()} | {
    "a rate that is 1 % too high": """
    def prepare_training(self, case, *arguments):
        super().prepare_training(replace(case, learning_rate=1.01 * case.learning_rate), *arguments)
    """,
    "codes of another category": """
    def prepare_training(self, case, dtype, threads, X, labels):
        super().prepare_training(case, dtype, threads, X[[0, 1, 2, 4, 3]], labels)
    """,
    "a cost that is 0.1 % off": """
    def train(self, epochs):
        return [1.001 * cost for cost in super().train(epochs)]
    """,
}


def test_a_network_for_tables_beside_peers_and_without_its_pieces(tmp_path):
    """nnkern with each piece left out in turn, peers that agree with it, and sides that are a little off."""
    peers = [name for name in ("torch", "jax") if is_installed(name)]
    right = side_file(tmp_path, WITH_RATES.format(kind="Encode", rates="rate=1"), "right", of="nnkern")
    sides = ["nnkern", "numpy", *peers, right]
    for number, methods in enumerate(TABLE_FAULTS.values()):
        sides.append(side_file(tmp_path, methods, f"fault{number}", of="nnkern"))
    status, printed, result = run(tmp_path, "tables", "--case", "tiny-tables", *repeated("--side", sides))
    assert status == 1
    whole, *without = result["groups"]["tables"]
    assert whole["case"] == "tiny-tables"
    assert set(whole["best"]) == {"nnkern", *peers, "right"}, printed
    assert "has no network for tables" in whole["sides"]["numpy"]["missing"]
    for number, fault in enumerate(TABLE_FAULTS):
        assert "wrong" in whole["sides"][f"fault{number}"], f"not found: {fault}"
    pieces = ["dense layers alone", "scale and dense layers", "no scale", "no mix", "no periodic", "no embedding"]
    pieces += ["one-hot", "one-hot, no scale"]
    assert [row["case"] for row in without] == [f"tiny-tables: {piece}" for piece in pieces]
    assert all(set(row["best"]) == {"nnkern"} for row in without)
    # 18 features of 3 numbers and 2 codes; one-hot ones are 12 and 10, of which the latter pick columns
    products = {18: 18 * 8 + 2 * 64 + 16, 12: 12 * 8 + 2 * 64 + 16}
    flops = {row["case"]: row["flops"] / 16 for row in result["groups"]["tables"]}
    assert flops == {
        "tiny-tables": 6 * products[18],
        # no derivative by X
        "tiny-tables: dense layers alone": 6 * products[18] - 2 * 18 * 8,
        **dict.fromkeys((f"tiny-tables: {piece}" for piece in pieces[1:6]), 6 * products[18]),
        "tiny-tables: one-hot": 6 * products[12],
        "tiny-tables: one-hot, no scale": 6 * products[12],
    }
    table = [line.split("|")[1].strip() for line in printed.split("What each piece")[1].splitlines() if "|" in line]
    over_one_hot = ["embedding, over one-hot", "the same without scale"]
    dense = ["all but the dense layers", "encoders and mix", "dX of the first dense layer, and scale"]
    assert table[2:] == [*dense, "scale", "mix", "periodic", "embedding", *over_one_hot]


def test_what_a_side_prints_does_no_harm(tmp_path):
    methods = """
    def train(self, epochs):
        print("not JSON")
        os.write(1, b"nor this")
        return super().train(epochs)
    """
    sides = ["--side", "numpy", "--side", side_file(tmp_path, methods)]
    status, printed, result = run(tmp_path, "training", "--case", "tiny-relu", *sides)
    assert status == 0, printed
    assert len(result["groups"]["training"][0]["sides"]["altered"]["seconds"]) == 3


@pytest.mark.parametrize("fault", ["raise RuntimeError('broken')", "os._exit(3)"])
def test_a_side_that_fails_does_not_end_the_run(tmp_path, fault):
    methods = f"""
    def train(self, epochs):
        {fault}
    """
    sides = ["--side", "numpy", "--side", side_file(tmp_path, methods)]
    cases = ["--case", "tiny-relu", "--case", "tiny-tanh"]
    status, printed, result = run(tmp_path, "training", *cases, *sides)
    assert status == 1
    for row in result["groups"]["training"]:
        assert "failed" in row["sides"]["altered"], printed
        assert "seconds" in row["sides"]["numpy"]


def test_a_library_that_is_not_installed_is_left_out(tmp_path):
    file = tmp_path / "with_absent.py"
    file.write_text("import a_library_that_nobody_has\n")
    sides = ["--side", "numpy", "--side", str(file)]
    status, printed, result = run(tmp_path, "training", "--case", "tiny-relu", *sides)
    assert status == 0, printed
    assert "a_library_that_nobody_has" in str(result["missing"])
    assert set(result["sides"]) == {"numpy"}


def test_an_unknown_case_or_group_is_refused(tmp_path):
    for arguments in (
        ["training", "--case", "nosuch"],
        ["nosuch"],
        ["--threads", "-1"],
        ["sweep", "--count", "0"],
        ["--svg", "no/a.svg"],
    ):
        done = subprocess.run([*BENCH, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2, arguments
        assert "error" in done.stderr


@pytest.fixture
def cluster(monkeypatch):
    """The script, which finds its neighbours in its own folder."""
    monkeypatch.syspath_prepend(str(INSTALLED))
    return importlib.import_module("cluster")


def test_the_model_of_several_machines(cluster):
    for link, (latency, bandwidth) in cluster.LINKS.items():
        assert cluster.sum_seconds(1, 10**6, latency, bandwidth) == 0
        # 8 machines: 3 stages there and 3 back, and 7/8 of the bytes twice
        expected = 6 * latency + 1.75 * 10**6 / bandwidth
        assert cluster.sum_seconds(8, 10**6, latency, bandwidth) == pytest.approx(expected)
        for case in cluster.CASES:
            assert cluster.speed_up(case, link, 1, False) == cluster.speed_up(case, link, 1, True) == 1
            for machines in (2, 17, 64):
                assert 0 < cluster.speed_up(case, link, machines, False) < machines
    picture = ET.fromstring(cluster.picture())
    lines = [element for element in picture.iter() if element.tag.endswith("polyline")]
    assert len(lines) == 4 + 2 * 4


def test_rounds_beside_every_step(cluster, monkeypatch, capsys):
    for module in ("pandas", "sklearn"):
        pytest.importorskip(module)
    monkeypatch.setattr(cluster, "TABLES", ())
    found = cluster.rounds(argparse.Namespace(case=None, tables=None, seeds=1))
    assert set(found) == {"digits"}
    every, rounds = (found["digits"][way] for way in ("every step", "rounds"))
    assert rounds[0] < 2 * every[0]
    assert "held-out loss: every step" in capsys.readouterr().out
