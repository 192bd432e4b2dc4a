"""The drivers in C that run where no Python is at hand (`make emulate`, `make sanitize`) keep up with the headers."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@pytest.mark.skipif(not CC or sys.platform == "win32", reason="no C compiler, or not POSIX'")
@pytest.mark.parametrize("driver", sorted((HERE / "c").glob("*.c")), ids=lambda path: path.stem)
def test_driver_is_one_for_these_headers(driver):
    command = [CC, "-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{HERE.parent / 'src'}", str(driver)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
