"""Mutation testing: changes one thing at a time; does a test fail?

    python tools/mutate.py [--sample N] [--seed S] [--isa avx512] [--list] [FILE …]     the kernels' C
    python tools/mutate.py --python [--tests TEST …] [--list] [FILE …]     deletes each `raise` of nnkern/: refusals.py
    python tools/mutate.py --cython [--tests TEST …] [--list] [FILE …]     the same of the Cython in src/

In C one comparison, bound, sign or constant is flipped at a time.

Every mutant is compiled for one instruction set, the best of this processor unless told. First it meets the driver in C
(tests/c/kernels_driver.c), linked with the kernels of its file alone; what the driver lets pass is linked with the
unchanged rest of the package and given to the tests in Python of its file's kernels. One that neither notices survives
and is printed with its line. A mutant that crashes, or needs several times the processor time that the tests need
without it, is noticed. One of a line that isn't compiled for this instruction set, or that changes nothing, gives the
same object code and isn't counted. Mutants that can't be told from the original by their results, such as a choice
between two ways to the same bits, stand in equivalent_mutants.toml, as equivalents.py says.
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
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import refusals
from equivalents import Equivalents

ROOT = Path(__file__).resolve().parents[1]
KERNELS = Path("src/kernels")
DENSE, LOSSES, ACTIVATIONS = "test_kernels_dense.py", "test_kernels_losses.py", "test_kernels_activations.py"
UPDATES = "test_kernels_updates.py"
GEMM = ("gemm.h", "gemm_microkernels.h", "gemm_packing.h", "gemm_inner_product.h", "microkernel.h")


class Judges(NamedTuple):
    """What reaches a file's code: parts of the driver, entries of the table of kernels, tests in Python."""

    parts: tuple
    entries: tuple
    tests: tuple  # those that are most likely to notice come first


FILES = {
    "activations.h": Judges(("activations", "losses"), ("forward", "backward", "loss"), (ACTIVATIONS, DENSE, LOSSES)),
    "losses.h": Judges(("losses",), ("loss",), (LOSSES,)),
    "transpose.h": Judges(
        ("losses", "activations", "products"),
        ("loss", "forward", "backward", "gemm", "gemm_block"),
        (LOSSES, ACTIVATIONS, DENSE),
    ),
    **dict.fromkeys(GEMM, Judges(("products",), ("gemm", "gemm_block"), (DENSE,))),
    **dict.fromkeys(
        ("bf16_packing.h", "gemm_bf16.h"), Judges(("reduced",), ("gemm", "gemm_block"), ("test_bfloat16.py",))
    ),
    **dict.fromkeys(
        ("encode.h", "codes.h"),
        Judges(
            ("encoders",),
            (
                *("number_kept", "encode_number", "encode_gradient", "mix_rows", "add_row_differences"),
                *("first_bad_code", "read_codes", "columns", "put_ones"),
            ),
            ("test_encode.py",),
        ),
    ),
    "gemv.h": Judges(("vectors",), ("dots", "add_columns"), (DENSE,)),
    "packed.h": Judges(
        ("packed",),
        ("pack_weights", "packed_bytes", "packed_parts", "packed_times_vector", "unpacked"),
        ("test_predictor.py",),
    ),
    "update.h": Judges(("updates",), ("update",), (UPDATES, "test_golden.py", "test_optimizers.py")),
    "flat.h": Judges(
        ("moves",),
        ("dropout", "gather", "scatter", "scale", "add", "clip", "first_nonfinite"),
        ("test_kernels_flat.py", UPDATES, "test_network.py"),
    ),
}
DEFAULT_FILES = ("activations.h", "losses.h", "transpose.h", *GEMM, "gemv.h")
# compiled once for all instruction sets
COMMON = ("src/kernels/facts.c", "src/kernels/sums.c")
# of the tests in Python, not what runs other kernels in other processes, and not what repeats calls only
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
NOT_MUTATED = re.compile(r"^\s*(#|\*)|__builtin_prefetch")
# What changes no result, wherever it stands: the smaller or larger of two, where either will do when they are alike
EITHER = re.compile(r"(?P<b>.+?) \? (?P<a>.+?) : (?P=b)(?!\w)")
# a whole vector left to what comes after the loop over whole ones, where v_load_first or v_store_first takes all lanes
WHOLE = re.compile(r"for \((?:i = 0)?; (\w) \+ (\w+ \* )?LANES <= \w+; \1 \+= ")
# and they take none, when nothing is left
REST = re.compile(r"if \(\w < (n|rows|count|depth)\)")
# an array that is larger than it has to be is none that a test could notice
SIZE_OF_ARRAY = re.compile(r"^\s*(const )?(vec|ivec|real|uint32_t|int64_t) [^=;()]*\[[^\]=;]*$")
# one entry of the table in table.h, which may be a list
ENTRY = re.compile(r"^    \.(\w+) = (?:\{\n.*?^    \}|[^\n]*),\n", re.MULTILINE | re.DOTALL)
# no warnings; what ends a driver that leaves an array on the stack
WATCHES = ["-w", "-fstack-protector-strong", "-fsanitize=bounds,object-size", "-fsanitize-undefined-trap-on-error"]
# processor time that a mutant may take: so many times the unmutated kernels', and some seconds
TIMES, SECONDS = 4, 2


class Mutant(NamedTuple):
    file: str
    line: int  # from 0
    column: int
    old: str
    new: str

    def apply(self, text):
        lines = text.splitlines(keepends=True)
        line = lines[self.line]
        lines[self.line] = line[: self.column] + self.new + line[self.column + len(self.old) :]
        return "".join(lines)


def without_comments(text):
    """The same text with comments blanked, so that columns stay."""
    return re.sub(r"/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


def function_of(lines, number):
    """The name of the function, or of the macro, that the line of that number belongs to; "" outside of any."""
    for line in reversed(lines[: number + 1]):
        if match := re.match(r"#\s*define (\w+)\(|\w[\w *]*?\bNAME\((\w+)\)\(|\w[\w *]*?\b(\w+)\(", line):
            return next(filter(None, match.groups()))
        if line.startswith("}") and line != lines[number]:
            return ""
    return ""


def mutants_of(file, equivalents):
    text = (ROOT / KERNELS / file).read_text(encoding="utf-8")
    lines = text.splitlines()
    for number, code in enumerate(without_comments(text).splitlines()):
        if not code.strip() or NOT_MUTATED.search(code):
            continue
        for column, old, new in flips(code):
            if equivalents.match(f"{KERNELS}/{file}", function_of(lines, number), code.strip(), new) is None:
                yield Mutant(file, number, column, old, new)


def flips(code):
    """Column, old and new text of what may be put into a line, but for what is known to change nothing."""
    for old, news in FLIPS.items():
        for match in re.finditer(r"(?<!_)" + re.escape(old), code):
            column = match.start()
            before, after = code[:column], code[match.end() :]
            either, whole = EITHER.match(after), WHOLE.search(code)
            for new in news:
                vain = (
                    (new in (" <= ", " >= ") and either and is_operand(before, either["a"]))
                    or (new == " <= " and REST.search(code))
                    or (new == " < " and whole)
                    or (new == "(LANES + 1)" and whole and column < code.find("<="))
                    or (new == "(LANES + 1)" and SIZE_OF_ARRAY.search(before))
                )
                if not vain:
                    yield column, old, new


def is_operand(before, operand):
    """Whether this is all that stands to the left of the comparison."""
    return re.search(r"(?:^|[=(,?:\[]|return) ?" + re.escape(operand) + "$", before) is not None


def run(command, folder, *, environment=None, seconds=None):
    """What a command did, and the processor time that it took, of which it may take so many seconds."""

    def limit():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 1))

    def used():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = used()
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environment, capture_output=True, text=True, preexec_fn=limit
    )
    return done, used() - before


class Package:
    """A build of the package in a folder of its own, whose kernels for one instruction set can be replaced."""

    def __init__(self, folder, isa):
        self.folder = folder
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, folder)
        for name in ("src", "nnkern", "benchmarks", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "_libs", "__pycache__"))
        command = [sys.executable, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "objects"]
        done, _ = run(command, folder)
        if done.returncode:
            raise SystemExit(done.stderr)
        self.environment = {
            **os.environ,
            "NNKERN_GEMM": "tiles",
            "PYTHONPATH": str(folder / "lib"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        shutil.copytree(folder / "nnkern", folder / "lib" / "nnkern", dirs_exist_ok=True)
        ask = "import nnkern as nk; print(nk.__file__, nk.show_config().to_dict()['usable_isas'], sep='\\n')"
        answer, _ = run([sys.executable, "-P", "-c", ask], folder, environment=self.environment)
        where, isas = answer.stdout.splitlines()
        if not where.startswith(str(folder / "lib")):
            raise SystemExit(f"the tests would run on {where}")
        # the best that has all kernels, and not products of reduced numbers alone
        whole = [name for name in isas.split(", ") if "isa.h" in (ROOT / KERNELS / f"isa_{name}.c").read_text("utf-8")]
        self.isa = isa or whole[0]
        if self.isa not in isas.split(", "):
            raise SystemExit(f"{self.isa}: this processor has {isas}")
        self.environment["NNKERN_ISA"] = self.isa
        # what setuptools ran, to be run again for the one object and the one library that change
        self.compile = self.command_with(done.stdout, f"src/kernels/isa_{self.isa}.c", "-c")
        self.link = self.command_with(done.stdout, f"isa_{self.isa}.o", "-shared")
        self.object = folder / self.compile[self.compile.index("-o") + 1]
        self.original = self.object.read_bytes()
        self.seconds = {}

    @staticmethod
    def command_with(output, *words):
        lines = [line for line in output.splitlines() if all(word in line for word in words)]
        if len(lines) != 1:
            raise SystemExit(f"one command with {words} was expected in what the build prints, found {len(lines)}")
        return shlex.split(lines[0])

    def test(self, tests, seconds=None):
        """What the tests in Python notice, if anything, and the processor time that they took."""
        paths = [self.folder / "tests" / name for name in tests]
        command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", NOT_RUN, *paths]
        done, took = run(command, self.folder, environment=self.environment, seconds=seconds)
        # no test at all, or a wrong call of pytest, is no verdict
        if done.returncode in (3, 4, 5):
            raise SystemExit(done.stdout + done.stderr)
        return done.returncode and f"{done.stdout[-2000:]}{done.stderr[-2000:]}\n{done.returncode}", took

    def judge(self, file, text):
        """What becomes of a file's mutated text."""
        tests = FILES[file].tests
        if tests not in self.seconds:
            self.build()
            notices, self.seconds[tests] = self.test(tests)
            if notices:
                raise SystemExit(f"{', '.join(tests)}: a test fails without any mutation\n{notices}")
        path = self.folder / KERNELS / file
        before = path.read_text(encoding="utf-8")
        path.write_text(text, encoding="utf-8")
        verdict = "same code" if self.build() == self.original else None
        if verdict is None:
            notices, _ = self.test(tests, TIMES * self.seconds[tests] + SECONDS)
            verdict = "killed by Python" if notices else "survived"
        path.write_text(before, encoding="utf-8")
        return verdict

    def build(self):
        for command in (self.compile, self.link):
            done, _ = run(command, self.folder)
            if done.returncode:
                raise SystemExit(done.stderr)
        return self.object.read_bytes()


class Driver:
    """The driver in C with the kernels that reach one file, and no others: they compile in seconds."""

    def __init__(self, package, file):
        self.package, self.file, self.judges = package, file, FILES[file]
        self.folder = package.folder / file.removesuffix(".h")
        shutil.copytree(package.folder / "src", self.folder / "src")
        table = (self.folder / KERNELS / "table.h").read_text(encoding="utf-8")
        if missing := set(self.judges.entries) - set(ENTRY.findall(table)):
            raise SystemExit(f"table.h has no entries {', '.join(sorted(missing))}")
        self.others = lambda text: ENTRY.sub(lambda match: match[0] if match[1] in self.judges.entries else "", text)
        (self.folder / KERNELS / "table.h").write_text(self.others(table), encoding="utf-8")
        isa = package.isa
        (self.folder / "choice.c").write_text(
            f'#include "kernels/nnk.h"\nextern const nnk_tables nnk_tables_{isa};\n'
            f"const nnk_tables *nnk_choose_tables(void) {{ return &nnk_tables_{isa}; }}\n"
            "const nnk_table *nnk_bf16_table(void)\n{\n    static nnk_table table;\n"
            f"    table = *nnk_tables_{isa}.f32;\n    table.gemm = nnk_tables_{isa}.reduced->gemm;\n"
            f"    table.gemm_block = nnk_tables_{isa}.reduced->gemm_block;\n"
            f"    table.columns = nnk_tables_{isa}.reduced->columns;\n    return &table;\n}}\n"
            "nnk_packed_product nnk_product_of(int weights)\n"
            f"{{\n    return nnk_tables_{isa}.reduced->packed[weights];\n}}\n",
            encoding="utf-8",
        )
        checks = package.folder / "tests" / "c" / "kernels_driver.c"
        self.must("gcc", "-std=c11", "-O2", "-Isrc", "-c", "choice.c", *COMMON, checks)
        # functions that the table doesn't reach are left out; the ends of arrays on the stack are watched too
        changes = {package.compile[package.compile.index("-o") + 1]: "mutant.o"}
        self.compile = [changes.get(word, word) for word in package.compile] + WATCHES

    def must(self, *command):
        done, _ = run(command, self.folder)
        if done.returncode:
            raise SystemExit(done.stderr)

    @cached_property
    def original(self):
        """The object code without any mutation, and the processor time that the driver takes then."""
        self.must(*self.compile)
        notices, seconds = self.run()
        if notices:
            raise SystemExit(f"the driver fails without any mutation: {notices}")
        return (self.folder / "mutant.o").read_bytes(), seconds

    def run(self, seconds=None):
        objects = ("kernels_driver.o", "choice.o", "facts.o", "sums.o", "mutant.o")
        self.must("gcc", *objects, "-lm", "-o", "driver")
        done, took = run([self.folder / "driver", *self.judges.parts], self.folder, seconds=seconds)
        return done.returncode and (done.stderr or f"ended by signal {-done.returncode}"), took

    def judge(self, text):
        """What becomes of the file's mutated text, or None where only the tests in Python can tell."""
        original, seconds = self.original
        (self.folder / KERNELS / self.file).write_text(self.others(text), encoding="utf-8")
        if run(self.compile, self.folder)[0].returncode:
            return "doesn't compile"
        if (self.folder / "mutant.o").read_bytes() == original:
            return "same code"
        notices, _ = self.run(TIMES * seconds + SECONDS)
        return "killed" if notices else None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="headers of src/kernels/; or .py or .pyx files")
    parser.add_argument("--python", action="store_true", help="delete the refusals of nnkern/")
    parser.add_argument("--checks", action="store_true", help="with --python: its calls that check, too")
    parser.add_argument(
        "--cython", action="store_true", help="delete the refusals of src/'s Cython, which builds it anew"
    )
    parser.add_argument("--tests", nargs="+", help="what is run for --python and --cython; else the whole suite")
    parser.add_argument("--sample", type=int, help="so many mutants, drawn at random; else all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", help="the instruction set; the best that this processor has unless told")
    parser.add_argument("--least", type=float, help="share killed below which it fails: 0.9 of C, 0.98 of refusals")
    parser.add_argument("--list", action="store_true", help="print the mutants only")
    options = parser.parse_args()
    if options.python or options.cython:
        raise SystemExit(refusals.main(options) < (options.least or 0.98))
    options.files = options.files or [*DEFAULT_FILES]
    if unknown := set(options.files) - set(FILES):
        parser.error(f"{', '.join(unknown)}: expected some of {', '.join(FILES)}")

    equivalents = Equivalents()
    mutants = [mutant for file in options.files for mutant in mutants_of(file, equivalents)]
    equivalents.check({f"{KERNELS}/{file}" for file in options.files})
    print(f"{len(mutants)} mutants of {', '.join(options.files)}")
    if options.sample is not None:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    if options.list:
        for mutant in mutants:
            print(f"{mutant.file}:{mutant.line + 1}:{mutant.column + 1}: {mutant.old!r} -> {mutant.new!r}")
        return

    counts = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        package = Package(Path(temporary), options.isa)
        drivers = {file: Driver(package, file) for file in {mutant.file for mutant in mutants}}
        for mutant in mutants:
            text = (package.folder / KERNELS / mutant.file).read_text(encoding="utf-8")
            mutated = mutant.apply(text)
            verdict = drivers[mutant.file].judge(mutated) or package.judge(mutant.file, mutated)
            counts[verdict] += 1
            print(
                f"{verdict:16} {mutant.file}:{mutant.line + 1}:{mutant.column + 1}: {mutant.old!r} -> {mutant.new!r}",
                flush=True,
            )
            if verdict == "survived":
                print("    " + text.splitlines()[mutant.line].strip())
    killed = counts["killed"] + counts["killed by Python"]
    judged = killed + counts["survived"]
    share = killed / judged if judged else 1.0
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()), f"; {share:.0%} killed", sep="")
    if share < (options.least or 0.9):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
