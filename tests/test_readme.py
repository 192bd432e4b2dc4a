"""The README's Python runs as it stands, and its two commands exist."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run():
    for module in ("sklearn", "narwhals", "pyarrow"):
        pytest.importorskip(module, reason="blocks are about its estimators and its frames")
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert len(blocks) >= 2
    assert names["accuracy"] > 0.97
    assert names["dW"].shape == names["W"].shape


def test_commands_are_targets_of_the_makefile():
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = set(re.findall(r"make (\w+)", README))
    assert named >= {"demo", "test", "bench"}
    assert named <= targets
