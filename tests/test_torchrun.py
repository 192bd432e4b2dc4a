"""The adapter from torch's process groups to a communicator, as the page about clusters has it, under torchrun."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nnkern as nk

pytest.importorskip("torch")
pytestmark = pytest.mark.own_kernels

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cluster.md"
# beyond the page's example: what one rank raises reaches all, and results without torch are the same
MORE = """
from nnkern.exceptions import RankError

class Fails(nk.Callback):
    def on_epoch_end(self, net, epoch, history):
        if comm.Get_rank() == 1 and epoch == 2:
            raise OSError("no disk")

raised = None
try:
    net.fit(X, Y, epochs=9, optimizer="adam", callbacks=Fails(), comm=comm)
except (OSError, RankError) as error:
    raised = error
assert str(raised) == ("no disk" if comm.Get_rank() else "rank 1 has failed: OSError: no disk"), raised
dist.destroy_process_group()
"""


def blocks():
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_example_of_the_page(tmp_path):
    adapter = next(block for block in blocks() if block.startswith("import torch\n"))
    example = next(block for block in blocks() if "from torch_ranks import" in block)
    (tmp_path / "torch_ranks.py").write_text(adapter, encoding="utf-8")
    (tmp_path / "train_torch.py").write_text(example.replace("dist.destroy_process_group()\n", MORE), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train_torch.py"]
    environment = {**os.environ, "NNKERN_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (cost,) = re.findall(r"cost (0\.\d+)", done.stdout)
    # what one process does with the same shards, step by step
    shards = []
    for rank in range(2):
        X = np.random.default_rng(rank).standard_normal((20, 5000), dtype=np.float32)
        shards.append((X, (X[:3].sum(axis=0) > 0).astype(int)))
    net = nk.Network([nk.Dense(64, "relu"), nk.Dense(1, "sigmoid")], "binary_cross_entropy", seed=0)
    X, Y = (np.concatenate(parts, axis=-1) for parts in zip(*shards, strict=True))
    history = net.fit(X, Y, epochs=5, batch_size=256, optimizer="adam")
    assert float(cost) == pytest.approx(history["cost"][-1], rel=0.1)
    assert nk.load(tmp_path / "net.npz").evaluate(X, Y).score > 0.9
