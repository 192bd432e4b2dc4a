"""Mutation testing of refusals: deletes one `raise` of nnkern/ (or of src/'s Cython) at a time; does a test fail?

Called by mutate.py. A copy of the package has `if kept(…):` before every raise. The tests run on it once; a test that
gets to a raise runs again without it, in a fork of its process (nnk_refusals.py). No other test could notice.
The same for calls that check: of `x = validation.number("x", x, 0)` is left the value, of `check_idle()` nothing.
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


class Refusal(NamedTuple):
    file: str  # from the root
    line: int  # from 1
    column: int  # in bytes
    function: str
    text: str
    replacement: str = "pass"
    end: tuple = ()  # of a call that checks: its last line, and the column after it

    @property
    def name(self):
        return f"{self.file}:{self.line}" + (f":{self.column}-{self.end[1]}" if self.end else "")

    def edits(self):
        """(line, column, what is put in there)."""
        switch = f'__import__("nnk_refusals").{{}}("{self.name}"'
        if not self.end:
            return [(self.line, self.column, f"if {switch.format('kept')}): ")]
        return [
            (self.line, self.column, f"{switch.format('checked')}, lambda: "),
            (*self.end, f", lambda: {self.replacement})"),
        ]


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


def checks_of_python(file):
    """Calls of validation's functions, and statements that only check."""
    text = file.read_text(encoding="utf-8")
    lines = text.splitlines()
    # those whose first argument is the name of the second
    named = re.findall(r"^def (\w+)\(name,", (ROOT / "nnkern" / "validation.py").read_text(encoding="utf-8"), re.M)

    def replacement(call, alone):
        of_validation = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "validation"
        if alone and re.search(r"(^|\.)_?check|^validation\.", ast.unparse(call.func)):
            return "None"
        if of_validation and call.args:
            return ast.unparse(call.args[call.func.attr in named])
        return None

    def walk(node, function):
        for child in ast.iter_child_nodes(node):
            inner = function
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{function}.{child.name}".lstrip(".")
            if isinstance(child, ast.Call) and (instead := replacement(child, isinstance(node, ast.Expr))):
                line, end = lines[child.lineno - 1].strip(), (child.end_lineno, child.end_col_offset)
                yield Refusal(label(file), child.lineno, child.col_offset, function, line, instead, end)
            yield from walk(child, inner)

    return list(walk(ast.parse(text), ""))


def with_switches(file, refusals):
    """The text of a file with each of its refusals behind a switch."""
    lines = [line.encode() for line in (ROOT / file).read_text(encoding="utf-8").splitlines(keepends=True)]
    for line, column, text in sorted((e for r in refusals if r.file == file for e in r.edits()), reverse=True):
        lines[line - 1] = lines[line - 1][:column] + text.encode() + lines[line - 1][column:]
    return b"".join(lines).decode()


class Copy:
    """A copy of the installed package whose refusals can be switched off, and the tests beside it."""

    def __init__(self, folder, refusals, cython):
        self.folder, self.log = folder, folder / "log"
        ask = [sys.executable, "-P", "-c", "import nnkern; print(nnkern.__path__[0])"]
        installed = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
        shutil.copytree(installed, folder / "lib" / "nnkern", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(Path(__file__).with_name("nnk_refusals.py"), folder / "lib")
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
            "REFUSALS_LOG": str(self.log),
        }

    def build(self, refusals):
        """The compiled modules anew, with less optimisation, which takes less time."""
        tree = self.folder / "tree"
        tree.mkdir()
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, tree)
        for name in ("src", "nnkern", "benchmarks"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.so", "_libs", "__pycache__"))
        for file in {refusal.file for refusal in refusals}:
            (tree / file).write_text(with_switches(file, refusals), encoding="utf-8")
        setup = (tree / "setup.py").read_text(encoding="utf-8")
        (tree / "setup.py").write_text(setup.replace('"-O3"', '"-O1"'), encoding="utf-8")
        command = [sys.executable, "setup.py", "build_ext", "--build-lib", self.folder / "lib"]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-5000:])

    def run(self, tests):
        """What is said of each refusal that a test gets to: "reached", "noticed" by which test."""
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-k", NOT_RUN, "-p", "nnk_refusals"]
        command += ["-p", "no:cacheprovider", "-p", "no:faulthandler"]
        done = subprocess.run([*command, *tests], cwd=ROOT, capture_output=True, text=True, env=self.environment)
        if done.returncode not in (0, 1):
            raise SystemExit(done.stdout[-5000:] + done.stderr[-5000:])
        for test in re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE):
            print(f"fails with every refusal in its place, and is left out: {test}")
        said = {}
        for line in self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else ():
            what, refusal, *test = line.split("\t")
            if what == "noticed" or refusal not in said:
                said[refusal] = " by ".join([what, *test])
        return said


def main(options):
    """`mutate.py --python` and `--cython`: prints each refusal that can be deleted without a test that fails."""
    folder, kinds = ("src", (".pyx", ".pxi", ".pxd")) if options.cython else ("nnkern", (".py",))
    files = sorted(file for file in (ROOT / folder).rglob("*") if file.suffix in kinds)
    if options.files:
        files = [file for file in files if label(file) in options.files or file.name in options.files]
        if not files:
            raise SystemExit(f"no such files: {', '.join(options.files)}")
    equivalents, everything = Equivalents(), []
    for file in files:
        everything += refusals_of_cython(file) if options.cython else refusals_of_python(file)
        everything += checks_of_python(file) if options.python else []
    refusals = [r for r in everything if equivalents.match(r.file, r.function, r.text, r.replacement) is None]
    equivalents.check({label(file) for file in files})
    if not options.checks:
        refusals = [refusal for refusal in refusals if not refusal.end]
    print(f"{len(refusals)} refusals in {len(files)} files and in no entry of {equivalents.path.name}")
    if options.sample is not None:
        refusals = random.Random(options.seed).sample(refusals, min(options.sample, len(refusals)))
    if options.list:
        print(
            "\n".join(
                f"{refusal.name}: {refusal.function}: {refusal.text} -> {refusal.replacement}" for refusal in refusals
            )
        )
        return 1.0
    with tempfile.TemporaryDirectory() as temporary:
        said = Copy(Path(temporary), refusals, options.cython).run(options.tests or [str(ROOT / "tests")])
    survivors = [refusal for refusal in refusals if not said.get(refusal.name, "").startswith("noticed")]
    for refusal in survivors:
        verdict = "survived" if refusal.name in said else "never reached"
        print(f"{verdict:14} {refusal.name}: {refusal.function}: {refusal.text} -> {refusal.replacement}")
    share = 1 - len(survivors) / max(1, len(refusals))
    print(f"{len(survivors)} of {len(refusals)} survive; {share:.1%} killed")
    return share
