"""Mutation testing of refusals: deletes one `raise` of nnkern/ (or of src/'s Cython) at a time; does a test fail?

Called by mutate.py. A copy of the package has `if kept(…):` before every raise. One run of the tests shows which test
gets to which of them; then each is left out in turn, in a run of the tests that get there, since no other could notice.
"""

import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from equivalents import Equivalents

ROOT = Path(__file__).resolve().parents[1]
# not what runs other kernels in other processes, what repeats calls only, and what compares numbers
NOT_RUN = "not other_kernels and not no_leaks and not recorded_bits"
FIRST = 8  # tests that are run before all the others that get to a raise
SECONDS = 900

KEPT = '''
"""Says of each refusal whether it is kept, and writes down which test got there."""
import os

def kept(refusal):
    line = refusal + "\\t" + os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0] + "\\n"
    log = os.environ.get("REFUSALS_LOG")
    if log:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)
    return refusal != os.environ.get("REFUSAL_DELETED")
'''


class Refusal(NamedTuple):
    file: str  # from the root
    line: int  # from 1
    column: int
    function: str
    text: str

    @property
    def name(self):
        return f"{self.file}:{self.line}"


def refusals_of_python(file):
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()

    def walk(node, function):
        for child in ast.iter_child_nodes(node):
            inner = function
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{function}.{child.name}".lstrip(".")
            if isinstance(child, ast.Raise):
                line = lines[child.lineno - 1]
                yield Refusal(label(file), child.lineno, child.col_offset, function, line.strip())
            yield from walk(child, inner)

    return list(walk(ast.parse(text), ""))


def refusals_of_cython(file):
    text = file.read_text(encoding="utf-8")
    code = re.sub(r'"""(?:\\.|[^\\])*?"""|#[^\n]*', lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    found, inside = [], []
    for number, (line, original) in enumerate(zip(code.splitlines(), text.splitlines(), strict=True), start=1):
        depth = len(line) - len(line.lstrip())
        if line.strip() and not line.startswith(")"):
            inside = [(at, name) for at, name in inside if at < depth]
        if match := re.match(
            r"\s*(?:def|cpdef|cdef(?! enum| struct| extern))\b[^=]*?(\w+)\(|\s*(?:cdef )?class (\w+)", line
        ):
            inside.append((depth, match[1] or match[2]))
        if re.match(r"\s*raise\b", line):
            found.append(Refusal(label(file), number, depth, ".".join(name for _, name in inside), original.strip()))
    return found


def label(file):
    return file.relative_to(ROOT).as_posix()


def with_switches(file, refusals):
    """The text of a file with `if kept(…):` before each of its refusals."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines(keepends=True)
    for refusal in refusals:
        if refusal.file == file:
            line = lines[refusal.line - 1]
            switch = f'if __import__("nnk_refusals").kept("{refusal.name}"): '
            lines[refusal.line - 1] = line[: refusal.column] + switch + line[refusal.column :]
    return "".join(lines)


class Copy:
    """A copy of the installed package whose refusals can be switched off, and the tests beside it."""

    def __init__(self, folder, refusals, cython):
        self.folder, self.log = folder, folder / "reached"
        ask = [sys.executable, "-P", "-c", "import nnkern; print(nnkern.__path__[0])"]
        installed = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
        shutil.copytree(installed, folder / "lib" / "nnkern", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "lib" / "nnk_refusals.py").write_text(KEPT, encoding="utf-8")
        for file in {refusal.file for refusal in refusals if refusal.file.startswith("nnkern/")}:
            if (installed.parent / file).read_bytes() != (ROOT / file).read_bytes():
                raise SystemExit(f"{file} isn't what is installed: install it first")
            (folder / "lib" / file).write_text(with_switches(file, refusals), encoding="utf-8")
        if cython:
            self.build(refusals)
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(folder / "lib"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NNKERN_TEST_PROFILE": "quick",
        }

    def build(self, refusals):
        """The compiled modules anew, without optimisation."""
        tree = self.folder / "tree"
        tree.mkdir()
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, tree)
        for name in ("src", "nnkern", "benchmarks"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "_libs", "__pycache__"))
        for file in {refusal.file for refusal in refusals}:
            (tree / file).write_text(with_switches(file, refusals), encoding="utf-8")
        command = [sys.executable, "setup.py", "build_ext", "--build-lib", self.folder / "lib"]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-5000:])

    def test(self, tests, *, seconds=None, only_first_failure=True, **environment):
        """What pytest says of some tests: its status, None where it took too long, and what it printed."""
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", NOT_RUN]
        command += ["-x"] if only_first_failure else []
        try:
            done = subprocess.run(
                [*command, *tests],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=seconds,
                env={**self.environment, **environment},
            )
        except subprocess.TimeoutExpired:
            return None, ""
        return done.returncode, done.stdout[-4000:] + done.stderr[-2000:]

    def reached(self, tests):
        """{refusal: the tests that get there}, from a run of all these tests."""
        status, printed = self.test(tests, only_first_failure=False, REFUSALS_LOG=str(self.log))
        if status:
            raise SystemExit(f"a test fails with every refusal in its place\n{printed}")
        found = {}
        for line in self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else ():
            refusal, _, test = line.partition("\t")
            found.setdefault(refusal, {})[test] = None
        return {refusal: [test for test in names if test] for refusal, names in found.items()}

    def verdict(self, refusal, tests):
        """What becomes of the package without a refusal."""
        if not tests:
            return "never reached"
        spread = [tests[k * len(tests) // FIRST] for k in range(FIRST)] if len(tests) > FIRST else tests
        for some in (list(dict.fromkeys(spread)), tests if len(tests) > FIRST else ()):
            if some and self.test(some, seconds=SECONDS, REFUSAL_DELETED=refusal.name)[0] != 0:
                return "killed"
        return "survived"


def main(options):
    """`mutate.py --python` and `--cython`: prints each refusal that can be deleted without a test that fails."""
    folder, pattern = ("src", "*.pyx") if options.cython else ("nnkern", "*.py")
    files = sorted((ROOT / folder).rglob(pattern))
    if options.files:
        files = [file for file in files if label(file) in options.files or file.name in options.files]
        if not files:
            raise SystemExit(f"no such files: {', '.join(options.files)}")
    equivalents, everything = Equivalents(), []
    for file in files:
        everything += refusals_of_cython(file) if options.cython else refusals_of_python(file)
    refusals = [r for r in everything if equivalents.match(r.file, r.function, r.text, "pass") is None]
    equivalents.check({label(file) for file in files})
    print(f"{len(refusals)} refusals in {len(files)} files, {len(everything) - len(refusals)} equivalent ones aside")
    if options.sample is not None:
        refusals = random.Random(options.seed).sample(refusals, min(options.sample, len(refusals)))
    if options.list:
        print("\n".join(f"{refusal.name}: {refusal.function}: {refusal.text}" for refusal in refusals))
        return 1.0
    killed = 0
    with tempfile.TemporaryDirectory() as temporary:
        copy = Copy(Path(temporary), refusals, options.cython)
        reached = copy.reached(options.tests or [str(ROOT / "tests")])
        for refusal in refusals:
            verdict = copy.verdict(refusal, reached.get(refusal.name, []))
            killed += verdict == "killed"
            if verdict != "killed":
                print(f"{verdict:14} {refusal.name}: {refusal.function}: {refusal.text}", flush=True)
    print(f"{len(refusals) - killed} of {len(refusals)} survive; {killed / max(1, len(refusals)):.1%} killed")
    return killed / max(1, len(refusals))
