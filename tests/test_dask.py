"""Rounds and estimators on Dask: `make test-cluster` runs these where distributed is. Elsewhere they are skipped."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed")
pytestmark = pytest.mark.own_kernels

SCRIPTS = Path(__file__).resolve().parent / "cluster"


def run(what, folder, script="dask_rounds.py"):
    """A process of its own: its workers import what is in the script that began it."""
    command = [sys.executable, str(SCRIPTS / script), what, str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert "all was as it should be" in done.stdout


def test_arrays_functions_and_futures(tmp_path):
    run("shards", tmp_path)


def test_a_worker_that_is_killed_costs_its_task_alone(tmp_path):
    run("killed", tmp_path)


def test_a_task_that_fails_is_submitted_again(tmp_path):
    run("failing", tmp_path)


def test_estimators(tmp_path):
    pytest.importorskip("sklearn")
    run("no_client,classifier,two_classes_and_early_stopping,refusals,search", tmp_path, "dask_estimators.py")


def test_estimators_of_frames(tmp_path):
    for module in ("sklearn", "pyarrow", "pandas"):
        pytest.importorskip(module)
    run("frames", tmp_path, "dask_estimators.py")


def test_tables(tmp_path):
    for module in ("sklearn", "narwhals", "pyarrow", "pandas"):
        pytest.importorskip(module)
    run("classifier,regressor,refusals,sample", tmp_path, "dask_tables.py")


@pytest.mark.parametrize("table", [False, True])
def test_the_examples_of_the_page(tmp_path, table):
    for module in ["sklearn", *["narwhals", "pyarrow", "pandas"] * table]:
        pytest.importorskip(module)
    page = (SCRIPTS.parents[1] / "docs" / "cluster.md").read_text(encoding="utf-8")
    examples = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "LocalCluster(" in code]
    assert len(examples) == 2
    (tmp_path / "example.py").write_text(examples[table], encoding="utf-8")
    command = [sys.executable, str(tmp_path / "example.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"accuracy (\S+)", done.stdout)[1]) > 0.9
    assert (tmp_path / "table.npz").exists() == table


def test_a_task_that_hangs_costs_its_task_alone(tmp_path):
    run("hanging", tmp_path, "dask_estimators.py")
