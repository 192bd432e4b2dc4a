"""The house rules, measured on the sources of the checkout: who may import whom, sizes, private names, constants.

`make house` runs this file alone.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = [
    pytest.mark.own_kernels,
    pytest.mark.skipif(not (ROOT / "nnkern" / "__init__.py").is_file(), reason="measures a checkout, which isn't here"),
]

# The rooms of nnkern/, the lowest first: their modules or packages, and what they are for. A module imports from its
# own room and from those above it in this table, in functions too, and there is no circle of imports.
ROOMS = (
    (
        "exceptions names _caller _optional _values",
        "What everybody may know: exceptions, how a missing package is named, where a warning points.",
    ),
    ("_loading _kernels _engine _predictor", "The compiled modules."),
    (
        "arguments validation losses optimizers schedules initializers progress kernels _config",
        "What a user hands in, validated.",
    ),
    ("encoders layers", "The kinds of layers, as a user describes them."),
    (
        "model state steps derivatives layerwise files convert predictor",
        "A network as plain data, and what is made of it.",
    ),
    (
        "monitors callbacks tracking sources streams runners training ranks shards together",
        "The epochs of a training, and what happens between them; training by several processes.",
    ),
    (
        "exports summary network many rounds search interop",
        "Network, which calls all of the above; many networks at once.",
    ),
    ("nnkern", "The package's face: what `import nnkern` gives."),
    ("estimators sklearn dask data tabular plotting", "What is made with networks: scikit-learn's API, tables, plots."),
    ("cli __main__", "The command line."),
)
# The same of src/: who may include or cimport whom. A file directly in src/ has no room yet.
SRC_ROOMS = {
    "kernels": ("kernels",),  # entries, columns and tiles: no threads, no networks, no Python
    "runtime": ("runtime",),  # threads, BLAS, processor, memory: doesn't know what a task computes
    "engine": ("kernels", "runtime", "engine"),  # products, layers, passes, steps, epochs: no arrays, no exceptions
    "api": ("kernels", "runtime", "engine", "api"),  # arrays, locks, exceptions, signals
}
MOST_LINES, MOST_LINES_OF_FUNCTION, MOST_PARAMETERS = 600, 60, 8
# Tables, option parsers, and what another library's API asks for; each with its reason.
EXCUSED = {
    "nnkern/cli/train_options.py: add_train": "an option parser",
    "src/api/_kernels.pyx: forward_rows": "declared in _kernels.pxd, for other people's Cython",
    "src/api/_kernels.pyx: input_gradient": "declared in _kernels.pxd, for other people's Cython",
    "src/api/jobs.pxi: __init__": "all but the data are keywords, which the call names",
    "nnkern/estimators/base.py: __init__": "the estimators' parameters, which scikit-learn wants in one signature",
    "nnkern/dask.py: __init__": "the same",
}
# Names with an underscore that other libraries give: scikit-learn's, namedtuple's, mpi4py's, the interpreter's.
FOREIGN = {
    "_parameter_constraints", "_label_binarizer", "_fit_context", "_check_sample_weight", "_check_optimize_result",
    "_check_partial_fit_first_call", "_asdict", "_replace", "_fields", "_handleof", "_sizeof", "_getframe",
}  # fmt: skip


# ---- who imports whom: about fifty lines ----


def modules():
    """{"nnkern.cli.main": its file}: Python's of nnkern/."""
    found = {}
    for file in sorted((ROOT / "nnkern").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def compiled():
    """Modules that come from Cython: src/engine/products.pyx becomes nnkern._products."""
    return {f"nnkern._{file.stem.lstrip('_')}" for file in (ROOT / "src").rglob("*.pyx")}


def imported(name, file, known):
    """The modules of nnkern that a file imports, in functions and for types only too."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "nnkern")
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            base = ".".join(filter(None, [*above, node.module]))
            if base.split(".")[0] == "nnkern":
                whole = (f"{base}.{alias.name}" for alias in node.names)
                yield from (module if module in known else base for module in whole)


def imported_by_cython(file, known):
    """The same of a .pyx file."""
    code = code_of(file)
    yield from re.findall(r"^\s*import\s+(nnkern[\w.]*)", code, re.MULTILINE)
    for base, names in re.findall(r"^\s*from\s+(nnkern[\w.]*)\s+import\s+\(?([^)#\n]*)", code, re.MULTILINE):
        whole = (f"{base}.{name.split()[0]}" for name in names.split(",") if name.strip())
        yield from (module if module in known else base for module in whole)


def room_of(module):
    """The number of its room, the lowest 0; None where the table has none for it."""
    name = module.partition(".")[2].partition(".")[0] or module
    name = "_kernels" if module in compiled() else name
    return next((number for number, (names, _) in enumerate(ROOMS) if name in names.split()), None)


def circles(arrows):
    """Sets of modules that import each other in a circle: those that reach themselves, by whom they reach."""
    reached = {one: set(others) for one, others in arrows.items()}
    for middle in reached:
        for others in reached.values():
            if middle in others:
                others |= reached[middle]
    return {frozenset(other for other in reached[one] if one in reached.get(other, ())) for one in reached} - {
        frozenset()
    }


def wrong_imports():
    known = set(modules()) | compiled()
    arrows = {name: set(imported(name, file, known)) - {name} for name, file in modules().items()}
    for file in sources("src", endings=("pyx",)):
        name = f"nnkern._{file.stem.lstrip('_')}"
        arrows[name] = set(imported_by_cython(file, known)) - {name}
    for name, others in arrows.items():
        if room_of(name) is None:
            yield f"{name} has no room"
        for other in others:
            # a package's own face may gather its parts
            if None not in (room_of(name), room_of(other)) and room_of(other) > room_of(name):
                yield f"{name} -> {other}"
    for circle in circles(arrows):
        yield "circle: " + ", ".join(sorted(circle))


# ---- the same of src/ ----


def sources(*folders, endings=("py", "pyx", "pxd", "pxi", "c", "h", "def", "pyi")):
    """The files of these folders that people write."""
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*")):
            generated = file.suffix == ".c" and file.with_suffix(".pyx").exists()
            if file.suffix[1:] in endings and not generated and "build" not in file.relative_to(ROOT).parts:
                yield file


def label(file):
    return file.relative_to(ROOT).as_posix()


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])


@cache
def code_of(file):
    """Its text with comments and strings blanked, so that lines and columns stay."""
    text = file.read_text(encoding="utf-8")
    if file.suffix in (".c", ".h", ".def"):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", blank, text, flags=re.DOTALL)
        return re.sub(
            r"(?m)^(?!\s*#).*$",
            lambda line: re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, line[0]),
            text,
        )
    return re.sub(r'"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|#[^\n]*', blank, text)


def included(file, by_name):
    """The files of src/ that one includes or cimports."""
    text = file.read_text(encoding="utf-8")
    if file.suffix in (".c", ".h", ".def"):
        names = re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE)
    else:
        names = re.findall(r'^(?:cdef extern from|include) "([^"]+)"', text, re.MULTILINE)
        cimports = re.findall(r"^\s*(?:from\s+([\w.]+)\s+)?cimport\s+\(?([^)#\n]+)", code_of(file), re.MULTILINE)
        for package, given in cimports:
            modules_of = [part.split()[0] for part in given.split(",") if part.strip()]
            package = package.rpartition(".")[2]
            found = modules_of if package in ("", "nnkern", *SRC_ROOMS) else [package]
            names += [f"{module.rpartition('.')[2]}.pxd" for module in found]
    for name in names:
        # the declarations of a Cython module stand for its code, wherever they are; its own folder's file comes first
        code = name.replace(".pxd", ".pyx")
        found = by_name.get(code) or by_name.get(code.lstrip("_")) or by_name.get(Path(name).name, [])
        yield from sorted(found, key=lambda target: (target.parent != file.parent, not label(target).endswith(name)))[
            :1
        ]


def src_room(file):
    parts = file.relative_to(ROOT).parts
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


def wrong_includes():
    by_name, arrows = {}, {}
    for file in sources("src", "nnkern", endings=("pyx", "pxd", "pxi", "c", "h", "def")):
        by_name.setdefault(file.name, []).append(file)
    for file in [file for files in by_name.values() for file in files]:
        one = by_name.get(file.with_suffix(".pyx").name, [file])[0] if file.suffix == ".pxd" else file
        others = {other for other in included(file, by_name) if other != one}
        arrows.setdefault(label(one), set()).update(label(other) for other in others)
        if src_room(one) in SRC_ROOMS:
            wrong = [other for other in others if src_room(other) not in (None, *SRC_ROOMS[src_room(one)])]
            yield from (f"{label(one)} -> {label(other)}" for other in wrong)
        elif one.is_relative_to(ROOT / "src"):
            yield "files of src/ without a room"
    for circle in circles(arrows):
        yield "circle: " + ", ".join(sorted(circle))


# ---- sizes ----


def long_files():
    for file in sources("src", "nnkern"):
        if len(file.read_text(encoding="utf-8").splitlines()) > MOST_LINES:
            yield label(file)


def split_parameters(text):
    """The parameters of a list in parentheses, those inside other brackets left whole."""
    depth, parts = 0, [""]
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip() and part.strip() != "void"]


def python_functions(file):
    """(name, lines without docstring, parameters that count) of each function."""

    def walk(node, private):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = child.end_lineno - child.lineno + 1
                if ast.get_docstring(child, clean=False) is not None:
                    lines -= child.body[0].end_lineno - child.body[0].lineno + 1
                own = child.args.posonlyargs + child.args.args
                own = own[1:] if own and own[0].arg in ("self", "cls") else own
                hidden = private or (child.name.startswith("_") and not child.name.startswith("__"))
                # keyword-only parameters of a public function are named at the call
                yield child.name, lines, len(own) + (len(child.args.kwonlyargs) if hidden else 0)
                yield from walk(child, True)
            elif isinstance(child, ast.ClassDef):
                yield from walk(child, private or child.name.startswith("_"))
            else:
                yield from walk(child, private)

    yield from walk(ast.parse(file.read_text(encoding="utf-8")), False)


def closing(code, start):
    """The place of the bracket that closes the one at `start`."""
    depth = 0
    for place in range(start, len(code)):
        depth += (code[place] in "([{") - (code[place] in ")]}")
        if depth == 0:
            return place
    return len(code) - 1


def cython_functions(file):
    """The same of Cython's functions; the text between quotes and in comments is blank already."""
    code, source = code_of(file), file.read_text(encoding="utf-8")
    for match in re.finditer(
        r"^([ ]*)(?:def|cdef|cpdef)\b(?![^\n(]*\b(?:class|struct|enum|extern|import)\b)[^\n(=]*?(\w+)\(", code, re.M
    ):
        end = closing(code, match.end() - 1)
        colon = re.match(r"[^\n:]*:[ ]*(?=\n)|[^\n:]*:", code[end + 1 :])
        if not colon:
            continue  # a declaration
        parameters = split_parameters(code[match.end() : end])
        if "*" in parameters and not match[2].startswith("_") and match[0].strip().startswith("def"):
            parameters = parameters[: parameters.index("*")]
        count = len([p for p in parameters if p not in ("self", "cls", "*")])
        body = code[end + 1 + colon.end() :].splitlines()[1:]
        inside = 0
        for number, line in enumerate(body, start=1):
            if line.strip():
                if len(line) - len(line.lstrip()) <= len(match[1]):
                    break
                inside = number
        text = source[end + 1 + colon.end() :]
        docstring = re.match(r'\s*("""(?:\\.|[^\\])*?""")', text)
        lines = code[match.start() : end].count("\n") + 1 + inside
        yield match[2], lines - (docstring[1].count("\n") + 1 if docstring else 0), count


def c_functions(file):
    """The same of C's functions and of macros that take arguments."""
    code = code_of(file)
    for macro in re.finditer(r"^#\s*define\s+(\w+)\((.*?)\)((?:[^\n]*\\\n)*[^\n]*)", code, re.MULTILINE):
        yield macro[1], macro[0].count("\n") + 1, len(split_parameters(macro[2]))
    code = re.sub(r"^[ ]*#(?:[^\n]*\\\n)*[^\n]*", blank, code, flags=re.MULTILINE)
    place = 0
    while match := re.compile(r"(\w+)\s*\(").search(code, place):
        end = closing(code, match.end() - 1)
        body = re.compile(r"\s*\{").match(code, end + 1)
        place = end + 1
        if body:
            last = closing(code, body.end() - 1)
            place = last + 1
            lines = code[match.start() : last].count("\n") + 1
            yield match[1], lines, len(split_parameters(code[match.end() : end]))


@cache
def functions(file):
    """Of each function: its name, its lines without a docstring, how many of its parameters count."""
    if file.suffix == ".py":
        return list(python_functions(file))
    if file.suffix in (".pyx", ".pxd", ".pxi"):
        return list(cython_functions(file))
    return list(c_functions(file)) if file.suffix in (".c", ".h") else []


def unless_excused(number, most):
    """The functions of which that number is more than `most`."""
    found = {
        f"{label(file)}: {function[0]}"
        for file in sources("src", "nnkern")
        for function in functions(file)
        if function[number] > most
    }
    yield from found - set(EXCUSED)


def long_functions():
    yield from unless_excused(1, MOST_LINES_OF_FUNCTION)


def long_parameter_lists():
    yield from unless_excused(2, MOST_PARAMETERS)


def needless_excuses():
    there = {f"{label(file)}: {name}" for file in sources("src", "nnkern") for name, *_ in functions(file)}
    yield from set(EXCUSED) - there


# ---- names ----


def like_arguments():
    for file in sources("src", endings=("pyx", "pxd", "pxi")):
        for match in re.finditer(r"(\w+)\([^()]*\breal \*like\b", code_of(file)):
            yield f"{label(file)}: {match[1]}"


def others_members():
    """A private name used on another object, in a module whose own classes don't have it; or imported."""
    known = set(modules()) | compiled()
    for file in modules().values():
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        private = [node for node in nodes if isinstance(node, ast.Attribute) and is_private(node.attr)]
        own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        own |= {node.attr for node in private if on_itself(node)}
        yield from (
            f"{label(file)}: {ast.unparse(node)}" for node in private if not on_itself(node) and node.attr not in own
        )
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.level or node.module.startswith("nnkern")):
                for alias in node.names:
                    if is_private(alias.name) and f"{node.module}.{alias.name}" not in known:
                        yield f"{label(file)}: from {node.module} import {alias.name}"


def on_itself(node):
    return ast.unparse(node.value) in ("self", "cls", "super()")


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in FOREIGN


def marks_for_mutants():
    for file in sources("src", "nnkern"):
        if re.search(r"\bno mutants?\b", file.read_text(encoding="utf-8")):
            yield label(file)


def constants(file):
    """Names in capitals that get their value in a file of src/."""
    code = code_of(file)
    if file.suffix in (".c", ".h", ".def"):
        again = set(re.findall(r"^\s*#\s*undef\s+(\w+)", code, re.MULTILINE))
        found = set(re.findall(r"^\s*#\s*define\s+([A-Z][A-Z0-9_]+)[ \t]+[^\s\\]", code, re.MULTILINE)) - again
        for enum in re.findall(r"\benum\b[^{;]*\{([^}]*)\}", code):
            found |= {name for name in re.findall(r"(?:^|,)\s*(\w+)", enum) if re.fullmatch("[A-Z][A-Z0-9_]+", name)}
        return found
    found = set(re.findall(r"^(?:cdef [\w ]+ )?([A-Z][A-Z0-9_]+)\s*=", code, re.MULTILINE))
    for enum in re.findall(r"^cdef enum[^\n]*:\n((?:[ ]+[^\n]*\n|\n)+)", code, re.MULTILINE):
        found |= set(re.findall(r"^\s+([A-Z][A-Z0-9_]+)\s*(?:=|$)", enum, re.MULTILINE))
    return found


def constants_defined_twice():
    """A name that gets a value in two files, but for isa_*.c, which say the same of each instruction set."""
    seen = {}
    for file in sources("src"):
        if not file.name.startswith("isa_"):
            for name in constants(file):
                seen.setdefault(name, []).append(label(file))
    for name, files in sorted(seen.items()):
        if len(files) > 1:
            yield f"{name}: {', '.join(files)}"


# ---- the tests ----

RULES = {
    "imports point downwards, without circles": wrong_imports,
    "includes and cimports of src/ point downwards, without circles": wrong_includes,
    f"no file over {MOST_LINES} lines": long_files,
    f"no function over {MOST_LINES_OF_FUNCTION} lines": long_functions,
    f"no more than {MOST_PARAMETERS} parameters": long_parameter_lists,
    "no excuse for a function that isn't there": needless_excuses,
    "no `like` arguments": like_arguments,
    "no other._member": others_members,
    "no marks for a tool in the sources": marks_for_mutants,
    "each constant once": constants_defined_twice,
}


@pytest.mark.parametrize("rule", RULES)
def test_house_rule(rule):
    assert sorted(RULES[rule]()) == []


def test_each_rule_finds_what_offends(tmp_path, monkeypatch):
    """Of a small house in which everything is wrong that the rules name, and something beside it that is right."""
    long_body = "    x = 1\n" * MOST_LINES_OF_FUNCTION
    nine = ", ".join("abcdefghi")
    files = {
        "nnkern/__init__.py": "from nnkern import network\n",
        "nnkern/exceptions.py": "class Wrong(Exception):\n    pass\n",
        "nnkern/validation.py": "from . import exceptions\ndef _f():\n    import nnkern.network\n",
        "nnkern/losses.py": "from nnkern import optimizers\n",
        "nnkern/optimizers.py": "def lazy():\n    from nnkern import losses\n",
        "nnkern/attic.py": "",
        "nnkern/files/__init__.py": "from .archive import write\n",
        "nnkern/files/archive.py": "from ..cli import main\nfrom ..layers import Dense\ndef write(): pass\n",
        "nnkern/layers.py": f"class Dense:\n    def __init__(self, {nine[:-3]}, *, i):\n        self._x = super()._y\n",
        "nnkern/network.py": (
            f"def f({nine}): pass\ndef g({nine[:-3]}, *, i): pass\ndef _h({nine[:-3]}, *, i): pass\n"
            f'def long():\n{long_body}def told():\n    """One\n    two."""\n{long_body[10:]}'
            "from nnkern.optimizers import _secret\nfrom nnkern import _engine\nclass A:\n"
            "    def f(self, other):\n        self._mine = 1\n        return other._mine, other._theirs\n"
        ),
        "nnkern/cli.py": "\n" * (MOST_LINES + 1),
        "src/api/_engine.pyx": (
            "from nnkern.network import Network\nfrom products cimport multiply\n"
            f"cdef void f(real *like, int b):\n    return\ndef g(self, {nine}):\n{long_body}"
            f'def told():\n    """One\n    two: ("\n    """\n{long_body[10:]}\nSIZE = 3\n'
        ),
        "src/engine/products.pyx": "cimport _engine\ncdef enum:\n    OWN = 1\n    ROWS = 2\n",
        "src/engine/products.pxd": "cdef void multiply()\n",
        "src/kernels/gemm.h": (
            '/* no mutant: "why" */\n#include "pool.h"\n#include "tile.h"\n'
            "#define SIZE 3\n#define AGAIN 1\n#undef AGAIN\n"
            f"static int f({nine.replace(', ', ', int ')})\n{{\n{long_body}}}\n"
            "#define LONG(a) \\\n" + "  b; \\\n" * MOST_LINES_OF_FUNCTION + "  c\n"
        ),
        "src/kernels/tile.h": '#include "gemm.h"\n#define AGAIN 2\nenum { ROWS = SIZE, OTHER };\n',
        "src/runtime/pool.h": "int run(void);\n",
        "src/pool.c": '#include "pool.h"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "EXCUSED", {"nnkern/cli.py: gone": "which isn't there"})
    found = {find: set(find()) for find in RULES.values()}
    assert found == {
        wrong_imports: {
            "nnkern.attic has no room",
            "nnkern.validation -> nnkern.network",
            "nnkern._engine -> nnkern.network",
            "nnkern.files.archive -> nnkern.cli",
            "circle: nnkern._engine, nnkern.network",
            "circle: nnkern.losses, nnkern.optimizers",
        },
        wrong_includes: {
            "files of src/ without a room",
            "src/engine/products.pyx -> src/api/_engine.pyx",
            "src/kernels/gemm.h -> src/runtime/pool.h",
            "circle: src/api/_engine.pyx, src/engine/products.pyx",
            "circle: src/kernels/gemm.h, src/kernels/tile.h",
        },
        long_files: {"nnkern/cli.py"},
        long_functions: {
            "nnkern/network.py: long", "src/api/_engine.pyx: g", "src/kernels/gemm.h: f", "src/kernels/gemm.h: LONG"
        },
        long_parameter_lists: {
            "nnkern/network.py: f", "nnkern/network.py: _h", "src/api/_engine.pyx: g", "src/kernels/gemm.h: f"
        },
        needless_excuses: {"nnkern/cli.py: gone"},
        like_arguments: {"src/api/_engine.pyx: f"},
        others_members: {
            "nnkern/network.py: other._theirs", "nnkern/network.py: from nnkern.optimizers import _secret"
        },
        marks_for_mutants: {"src/kernels/gemm.h"},
        constants_defined_twice: {
            "ROWS: src/engine/products.pyx, src/kernels/tile.h", "SIZE: src/api/_engine.pyx, src/kernels/gemm.h"
        },
    }  # fmt: skip
