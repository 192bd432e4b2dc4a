"""The benchmarks verify before they time: a tiny case of each kind, and sides that are wrong.

Each test runs the benchmarks as a user does, in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "benchmarks" / "run.py"


def run(folder, *arguments, **environment):
    """Exit status, what it printed, what it wrote as JSON."""
    file = folder / "result.json"
    done = subprocess.run(
        [sys.executable, str(RUN), *arguments, "--quick", "--json", str(file)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert file.exists(), done.stderr
    return done.returncode, done.stdout, json.loads(file.read_text())


def numpys_own_choice_of_kernels():
    """What numpy's BLAS picks where nothing tells it to pick something else."""
    code = "import numpy, threadpoolctl\nprint(threadpoolctl.threadpool_info()[0].get('architecture'))"
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()


def test_all_groups_of_tiny_cases(tmp_path):
    names = ("tiny-relu", "tiny-tanh", "tiny-shuffled", "tiny")
    cases = [argument for name in names for argument in ("--case", name)]
    sides = ["--side", "nnkern", "--side", "numpy"]
    # A setting that must not reach the sides.
    status, printed, result = run(tmp_path, *cases, *sides, OPENBLAS_CORETYPE="Prescott")
    assert status == 0, printed
    assert set(result["sides"]) == {"nnkern", "numpy"}
    assert str(result["sides"]["numpy"]["kernels"]["blas_core"]) == numpys_own_choice_of_kernels()
    assert result["sides"]["numpy"]["threads"] == result["sides"]["nnkern"]["threads"] == 1
    assert {group: len(rows) for group, rows in result["groups"].items()} == {
        "kernels": 12,  # 3 + 2 + 1 layers, both passes: tiny-shuffled shares one with tiny-relu
        "training": 3,
        "inference": 2,
    }
    for group, rows in result["groups"].items():
        for row in rows:
            for name in ("nnkern", "numpy"):
                rounds = row["sides"][name]["seconds"]
                assert len(rounds) == (3 if group == "training" else 10), (group, row["case"], name)
                assert min(rounds) == row["best"][name] > 0
            assert row["ratio"] == row["best"]["numpy"] / row["best"]["nnkern"]
    if result["core"] != "-":
        assert result["sides"]["nnkern"]["cores"] == [int(result["core"])]


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

GROUPS = (
    ("training", "tiny-relu", FAULTS),
    ("training", "tiny-shuffled", SHUFFLED_FAULTS),
    ("inference", "tiny", INFERENCE_FAULTS),
)


def side_file(folder, methods, name="altered"):
    """numpy's side with some methods replaced."""
    file = folder / f"with_{name}.py"
    file.write_text(
        "import os\nimport numpy as np\nfrom peers import with_numpy\n\n"
        f"class Side(with_numpy.Side):\n    library = 'altered'\n{methods}\n"
    )
    return str(file)


@pytest.mark.parametrize(("group", "case", "faults"), GROUPS, ids=[case for _, case, _ in GROUPS])
def test_a_wrong_side_is_found_and_not_timed(tmp_path, group, case, faults):
    sides = ["--side", "numpy"]
    for number, methods in enumerate(faults.values()):
        sides += ["--side", side_file(tmp_path, methods, f"fault{number}")]
    status, printed, result = run(tmp_path, group, "--case", case, *sides)
    assert status == 1
    assert "WRONG" in printed
    for row in result["groups"][group]:
        for number, fault in enumerate(faults):
            entry = row["sides"][f"fault{number}"]
            assert "wrong" in entry, f"not found: {fault}"
            assert "seconds" not in entry, fault
        assert "seconds" in row["sides"]["numpy"]


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
    for arguments in (["training", "--case", "nosuch"], ["nosuch"], ["--threads", "-1"]):
        done = subprocess.run([sys.executable, str(RUN), *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2, arguments
        assert "error" in done.stderr
