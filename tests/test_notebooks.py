"""The notebooks of examples/: their cells run one after the other, and give what their text promises.

They are read as the JSON that they are, so that nothing of Jupyter is needed.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import nnkern as nk

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in (ROOT / "examples").glob("*.ipynb")}


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs a notebook's code in an empty folder: the names that it leaves behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # which a notebook may set, and this takes back
    threads = nk.get_num_threads()

    def run(name):
        names = {"__name__": "__main__"}
        for cell in cells(name):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"{name}, {cell['id']}", "exec"), names)
        return names

    yield run
    nk.set_num_threads(threads)


def cells(name):
    return json.loads(NOTEBOOKS[name].read_text(encoding="utf-8"))["cells"]


def test_both_are_run_here():
    assert NOTEBOOKS.keys() == {"from_scratch_to_fused", "tabular_to_service"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_form(name):
    """Of nbformat 4.5, whose cells have names of their own, without outputs."""
    notebook = json.loads(NOTEBOOKS[name].read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert notebook["nbformat_minor"] == 5
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) > 10
    assert all(re.fullmatch(r"[\w-]{1,64}", one) for one in ids)
    assert notebook["cells"][0]["source"][0].startswith("# ")
    for cell in notebook["cells"]:
        assert "".join(cell["source"]).strip() == "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert NOTEBOOKS[name].stat().st_size < 50_000


def test_from_scratch_to_fused(execute):
    found = execute("from_scratch_to_fused")
    # central differences err by some ε² = 1e-10, and by the cost's rounding / ε = 1e-11; here beside a largest entry
    assert 0 < found["error_of_one_neuron"] < 1e-7
    assert 0 < found["error_of_shallow"] < 1e-7
    assert found["own_check"] < 1e-7
    assert found["costs_of_line"][0] > found["costs_of_line"][-1]
    assert found["accuracy_of_line"] < 0.7  # no line parts the petals
    assert found["accuracy"] > 0.9
    assert len(found["costs"]) == len(found["history"]["cost"]) == found["steps"]
    assert found["difference_of_kernels"] < 1e-12
    assert found["difference_of_gradients"] < 1e-12
    assert found["difference_of_costs"] < 1e-9
    assert found["difference_of_parameters"] < 1e-8
    assert found["net"].evaluate(found["X"], found["Y"]).score == found["accuracy"]
    check, start = found["gradient_error"], found["start"]

    def wrong(p, X, Y):
        J, grads = found["shallow_network"](p, X, Y)
        return J, grads | {"dW1": 1.01 * grads["dW1"]}

    assert check(wrong, start, found["X"], found["Y"]) > 5e-3
    assert all(took > 0 for row in found["measured"].values() for took in row.values())


def test_tabular_to_service(execute, tmp_path):
    for module in ("pandas", "sklearn", "narwhals", "pyarrow"):
        pytest.importorskip(module, reason="the notebook's table is a frame")
    found = execute("tabular_to_service")
    model, test = found["model"], found["test"]
    kinds = {line.split()[0]: line.split()[1] for line in str(model.columns_).splitlines()[1:]}
    assert kinds == {name: "category" if name == "sex" else "number" for name in kinds}
    assert set(kinds) == set(test.columns) - {"target"}
    assert found["r2"] > 0.25
    assert found["rmse"] < 0.95 * found["rmse_of_mean"]
    assert set(list(found["importances"])[:2]) == {"bmi", "s5"}
    assert found["explained"] == pytest.approx(model.predict(test.head(1))[0], rel=1e-5)
    lacking, no_number = found["refusals"]
    assert "the row lacks 'sex'" in lacking
    assert "'age' must be a number" in no_number
    (ok, answer), (ok_too, without), (bad, error), (no_json, _) = found["answers"]
    assert (ok, ok_too, bad, no_json) == (200, 200, 400, 400)
    assert json.loads(answer)["target"] == pytest.approx(model.predict_one(found["row"]), abs=0.006)
    assert json.loads(without) != json.loads(answer)
    assert json.loads(error)["error"] == lacking
    assert found["answers_of_threads"] == found["answers"] * 50
    np.testing.assert_array_equal(found["service"].model.predict(test), model.predict(test))
    assert [path.name for path in tmp_path.iterdir()] == ["diabetes.npz"]
