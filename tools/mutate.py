"""Mutation testing of the kernels' C: flips one comparison, bound, sign or constant at a time; does a test fail?

    python tools/mutate.py [--sample N] [--seed S] [--isa baseline] [--list] [FILE …]

Every mutant is compiled for one instruction set, linked with the unchanged rest, and given to the tests of its file's
kernels; one that no test notices survives and is printed with its line. A mutant of a line that isn't compiled for
this instruction set, or that changes nothing, gives the same object code and isn't counted. Lines whose mutants can't
be told from the original by their results, such as a choice between two ways to the same bits, may be marked
`/* no mutant: reason */`.
Needs the build requirements, gcc, pytest and hypothesis: `make mutate`.
"""

import argparse
import os
import random
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DENSE, LOSSES, ACTIVATIONS = "test_kernels_dense.py", "test_kernels_losses.py", "test_kernels_activations.py"
# the tests that are most likely to notice come first
FILES = {
    "epilogue.h": (ACTIVATIONS, DENSE, LOSSES),
    "losses.h": (LOSSES,),
    "squares.h": (LOSSES, ACTIVATIONS, DENSE),
    "gemm.h": (DENSE,),
    "gemv.h": (DENSE,),
}
# of these, not what runs other kernels in other processes, and not what repeats calls only
NOT_RUN = "not other_kernels and not no_leaks"
# text -> what stands for it, tried in turn; spaces tell the operators from pointers, declarations and unary signs
FLIPS = {
    " < ": (" <= ", " > "),
    " <= ": (" < ",),
    " > ": (" >= ",),
    " >= ": (" > ",),
    " == ": (" != ",),
    " != ": (" == ",),
    " + ": (" - ",),
    " - ": (" + ",),
    " += ": (" -= ", " = "),
    " * ": (" / ",),
    " && ": (" || ",),
    " || ": (" && ",),
    "LANES": ("(LANES + 1)", "(LANES - 1)"),
    "v_less(": ("v_less_equal(",),
    "v_less_equal(": ("v_less(",),
    "R(1)": ("R(-1)", "R(2)"),
    "v_all(0)": ("v_all(1)",),
}
# speed only, or what names things
NOT_MUTATED = re.compile(r"^\s*(#|/?\*|\*)|__builtin_prefetch|/\* no mutant")
# of processor time for the tests; a mutant that needs more doesn't come to its end
SECONDS = 300


class Mutant(NamedTuple):
    file: str
    line: int  # from 0
    column: int
    old: str
    new: str

    def apply(self, lines):
        text = lines[self.line]
        changed = text[: self.column] + self.new + text[self.column + len(self.old) :]
        return [*lines[: self.line], changed, *lines[self.line + 1 :]]


def without_comments(text):
    """The same text with comments blanked, so that columns stay."""
    return re.sub(r"/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


def mutants_of(file):
    text = (ROOT / "src" / file).read_text(encoding="utf-8")
    pairs = zip(text.splitlines(), without_comments(text).splitlines(), strict=True)
    for number, (line, code) in enumerate(pairs):
        if NOT_MUTATED.search(line):
            continue
        for old, news in FLIPS.items():
            column = code.find(old)
            while column >= 0:
                yield from (Mutant(file, number, column, old, new) for new in news)
                column = code.find(old, column + 1)


class Bench:
    """A build of the package in a folder of its own, whose kernels for one instruction set can be replaced."""

    def __init__(self, folder, isa):
        self.folder = folder
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        for name in ("src", "nnkern", "benchmarks", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "_libs", "__pycache__"))
        command = [sys.executable, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "objects"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        # what setuptools ran, to be run again for the one object and the one library that change
        self.compile = self.command_with(done.stdout, f"src/isa_{isa}.c", "-c")
        self.link = self.command_with(done.stdout, f"isa_{isa}.o", "-shared")
        self.object = folder / self.compile[self.compile.index("-o") + 1]
        self.original = self.object.read_bytes()
        shutil.copytree(folder / "nnkern", folder / "lib" / "nnkern", dirs_exist_ok=True)
        self.environment = {
            **os.environ,
            "NNKERN_ISA": isa,
            "NNKERN_GEMM": "tiles",
            "PYTHONPATH": str(folder / "lib"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        where = subprocess.run(
            [sys.executable, "-P", "-c", "import nnkern; print(nnkern.__file__)"],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if not where.startswith(str(folder / "lib")):
            raise SystemExit(f"the tests would run on {where}")

    @staticmethod
    def command_with(output, *words):
        lines = [line for line in output.splitlines() if all(word in line for word in words)]
        if len(lines) != 1:
            raise SystemExit(f"one command with {words} was expected in what the build prints, found {len(lines)}")
        return shlex.split(lines[0])

    def build(self):
        """Why there is nothing to test, or None."""
        if subprocess.run(self.compile, cwd=self.folder, capture_output=True).returncode:
            return "doesn't compile"
        if self.object.read_bytes() == self.original:
            return "same code"
        subprocess.run(self.link, cwd=self.folder, capture_output=True, check=True)
        return None

    def test(self, names):
        """Whether the tests notice."""
        tests = [str(self.folder / "tests" / name) for name in names]
        command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", NOT_RUN, *tests]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS)),
        )
        # no test at all, or a wrong call of pytest, is no verdict
        if done.returncode in (3, 4, 5):
            raise SystemExit(done.stdout + done.stderr)
        return done.returncode != 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", default=[*FILES], metavar="FILE", help="headers of src/")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random; else all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", default="baseline")
    parser.add_argument("--least", type=float, default=0.9, help="share killed below which it fails")
    parser.add_argument("--list", action="store_true", help="print the mutants only")
    options = parser.parse_args()
    if unknown := set(options.files) - set(FILES):
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(FILES)}")

    mutants = [mutant for file in options.files for mutant in mutants_of(file)]
    print(f"{len(mutants)} mutants of {', '.join(options.files)}")
    if options.sample is not None:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    if options.list:
        for mutant in mutants:
            print(f"{mutant.file}:{mutant.line + 1}:{mutant.column + 1}: {mutant.old!r} -> {mutant.new!r}")
        return

    counts = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(Path(temporary), options.isa)
        if bench.test((DENSE, LOSSES, ACTIVATIONS)):
            raise SystemExit("the tests fail without any mutation")
        for mutant in mutants:
            path = bench.folder / "src" / mutant.file
            before = path.read_text(encoding="utf-8")
            lines = before.splitlines()
            path.write_text("\n".join(mutant.apply(lines)) + "\n", encoding="utf-8")
            verdict = bench.build() or ("killed" if bench.test(FILES[mutant.file]) else "survived")
            path.write_text(before, encoding="utf-8")
            counts[verdict] += 1
            print(f"{verdict:15} {mutant.file}:{mutant.line + 1}: {mutant.old!r} -> {mutant.new!r}", flush=True)
            if verdict == "survived":
                print("    " + lines[mutant.line].strip())
    judged = counts["killed"] + counts["survived"]
    share = counts["killed"] / judged if judged else 1.0
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()), f"; {share:.0%} killed", sep="")
    if share < options.least:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
