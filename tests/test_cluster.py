"""Training under mpiexec: `make test-cluster` runs these where mpi4py and an MPI are. Elsewhere they are skipped.

What a training by several ranks is, test_together.py has; here is that MPI carries it, and what becomes of a rank that
fails, is interrupted, hangs or dies.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_together import alone, examples

pytest.importorskip("mpi4py")

import nnkern as nk

WORKER = Path(__file__).resolve().parent / "cluster" / "worker.py"
# beside this interpreter, where pip has put it, or on the path
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
# how often each fault is tried, and seconds after it by which all have ended: far more than a machine that has nothing
# else to do takes
TIMES, LIMIT = int(os.environ.get("NNKERN_TEST_FAULTS", "3")), float(os.environ.get("NNKERN_TEST_FAULT_SECONDS", "60"))
# as the worker has them
BATCH_SIZE, EPOCHS, DEADLINE = 16, 10, 3.0
OPTIMIZERS = {"sgd": nk.SGD(0.05, momentum=0.9), "adam": nk.Adam(0.01)}

pytestmark = [
    pytest.mark.skipif(MPIEXEC is None, reason="mpi4py without mpiexec"),
    pytest.mark.own_kernels,
]


def is_open_mpi():
    return "open" in subprocess.run([MPIEXEC, "--version"], capture_output=True, text=True, check=True).stdout.lower()


def run(ranks, *arguments, options=(), script=WORKER):
    """mpiexec with so many ranks of the worker; its return code and its output."""
    environment = {**os.environ, "NNKERN_NUM_THREADS": "1"}
    if is_open_mpi():
        options = [*options, "--oversubscribe"]
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [MPIEXEC, *options, "-n", str(ranks), sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("sizes", [(60,), (30, 30), (41, 19), (33, 0), (17, 25, 18), (0, 25, 1)], ids=str)
def test_ranks_train_to_what_one_process_does_and_to_the_same_bits_again(tmp_path, sizes):
    code, said = run(len(sizes), "train", tmp_path, ",".join(map(str, sizes)))
    assert code == 0, said
    found = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(len(sizes))]
    data = examples(sum(sizes))
    for name, optimizer in OPTIMIZERS.items():
        for units in (7, 120):

            def make(seed, units=units):
                layers = [nk.Dense(units, "tanh", dropout=0.2), nk.Dense(6, "relu"), nk.Dense(1)]
                return nk.Network(layers, "squared_error", seed=seed, dtype="float64")

            one, _ = alone(sizes, data, BATCH_SIZE, make, epochs=EPOCHS, optimizer=optimizer)
            for key, array in one.parameters.items():
                first = found[0][f"{name} {units} 0 {key}"]
                assert np.abs(first - array).max() <= 1e-12 * np.abs(array).max(), (name, units, key)
                for own in found:
                    for again in range(2):
                        assert own[f"{name} {units} {again} {key}"].tobytes() == first.tobytes()


def test_parts_of_a_communicator_train_by_themselves(tmp_path):
    code, said = run(3, "split", tmp_path)
    assert code == 0, said
    first, second, third = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(3))
    for key in first:
        assert first[key].tobytes() == third[key].tobytes()
        assert (first[key].tobytes() == second[key].tobytes()) == key.startswith("all")


@pytest.mark.parametrize("ranks", [2, 3])
def test_blocks_of_any_length_are_summed(tmp_path, ranks):
    code, said = run(ranks, "sums", tmp_path)
    assert code == 0, said
    for rank in range(ranks):
        for name, array in np.load(tmp_path / f"{rank}.npz").items():
            dtype, count = name.split()
            assert array.dtype == dtype
            # whole numbers: exact in any order
            np.testing.assert_array_equal(array, ranks * (np.arange(int(count)) % 1001) + sum(range(ranks)))


@pytest.mark.parametrize("ranks", [2, 3])
def test_batches_of_ranks(tmp_path, ranks):
    code, said = run(ranks, "batches", tmp_path)
    assert code == 0, said
    found = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(ranks)]
    counts = [int(own.pop("count")) for own in found]
    assert len(set(counts)) > 1
    for own in found[1:]:
        assert all(own[key].tobytes() == array.tobytes() for key, array in found[0].items())


def test_the_example_of_the_page(tmp_path, monkeypatch):
    page = (WORKER.parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    script = tmp_path / "train.py"
    script.write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, said = run(2, script=script)
    assert code == 0, said
    assert re.search(r"cost 0\.\d+", said)
    assert nk.load(tmp_path / "net.npz").n_x == 20


def test_the_example_of_a_table(tmp_path, monkeypatch):
    _needs(["table"])
    page = (WORKER.parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    codes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (example,) = [code for code in codes if "nnkern.tabular" in code and "MPI" in code]
    script = tmp_path / "tables.py"
    script.write_text(example, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    code, said = run(2, script=script)
    assert code == 0, said
    assert re.search(r"log loss 0\.\d+, no", said)
    from nnkern.tabular import load

    assert load(tmp_path / "table.npz").classes_.tolist() == ["no", "yes"]


def _needs(form):
    for module in ("sklearn", "narwhals", "pyarrow") if form == ["table"] else ():
        pytest.importorskip(module)


@pytest.mark.parametrize("times", range(TIMES))
@pytest.mark.parametrize(("ranks", "bad"), [(2, 0), (2, 1), (3, 1)])
@pytest.mark.parametrize(
    "how", ["raise", "nan", "interrupt", "hang", "interrupt batches", "nan batches", "interrupt table"]
)
def test_what_befalls_one_rank_is_raised_on_all(tmp_path, how, ranks, bad, times):
    how, *form = how.split()
    _needs(form)
    code, said = run(ranks, how, tmp_path, bad, *form)
    found = [
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(ranks) if rank != bad or how != "hang"
    ]
    for own in found:
        assert own["sum"] == found[0]["sum"]
        assert own["epochs"] == found[0]["epochs"]
        assert not own["fitted"]
    if how == "hang":
        assert code != 0  # MPI can't be ended in good order any more
        for own in found:
            assert own["error"] == "RankError"
            assert own["ranks"] == [bad]
            assert own["text"] == f"rank {bad} of {ranks} didn't come within the deadline of {DEADLINE:g} s"
            assert own["epochs"] == 4
        return
    assert code == 0, said
    own = found.pop(bad)
    expected = {"raise": "OSError", "nan": "DivergenceError", "interrupt": "KeyboardInterrupt"}[how]
    assert own["error"] == expected
    for other in found:
        assert other["at"] - own["happened"] < LIMIT, how
        if how == "nan":
            assert other["error"] == "DivergenceError"
            assert f"on rank {bad} " in other["text"]
        else:
            assert other["error"] == "RankError"
            assert other["ranks"] == [bad]
            assert expected in other["text"]


@pytest.mark.parametrize("times", range(TIMES))
@pytest.mark.parametrize(("ranks", "bad"), [(2, 0), (3, 1)])
@pytest.mark.parametrize("how", ["kill", "exit", "kill table"])
def test_a_rank_that_dies_ends_the_others(tmp_path, how, ranks, bad, times):
    how, *form = how.split()
    _needs(form)
    code, said = run(ranks, how, tmp_path, bad, *form)
    assert code != 0, said
    assert time.time() - float((tmp_path / "happened").read_text()) < LIMIT


@pytest.mark.parametrize("times", range(TIMES))
def test_where_the_launcher_lets_the_others_live_they_name_the_one_that_has_died(tmp_path, times):
    if not is_open_mpi():
        pytest.skip("this mpiexec ends all ranks where one dies")
    run(3, "kill", tmp_path, 1, options=["--continuous"])
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 2)]
    for own in found:
        assert own["error"] == "RankError"
        assert own["ranks"] == [1]
        assert own["at"] - float((tmp_path / "happened").read_text()) < LIMIT
        assert own["sum"] == found[0]["sum"]
