"""tools/mutate.py: which refusals it finds, how it switches them off, and what it does with equivalent mutants."""

import importlib
import sys
from pathlib import Path

import pytest
from conftest import HERE

pytestmark = pytest.mark.own_kernels
TOOLS = HERE.parent / "tools"
if not (TOOLS / "mutate.py").is_file() or not (HERE.parent / "nnkern").is_dir():
    pytest.skip("needs a checkout", allow_module_level=True)


@pytest.fixture
def tools(monkeypatch):
    """The modules of tools/."""
    if sys.platform == "win32":
        pytest.skip("the tools need a Unix")
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module("equivalents"), importlib.import_module("refusals"), importlib.import_module("mutate")
    for name in ("equivalents", "refusals", "mutate"):
        del sys.modules[name]


PYTHON = '''"""raise nothing"""
class Net:
    def fit(self, X):
        """raise ValueError where…"""
        if X is None:
            raise ValueError(
                "X is missing"
            )
        try:
            return len(X)
        except TypeError:  # raise it again
            raise
def _f():
    raise TypeError("raise")
'''
CYTHON = '''cdef class Engine:
    def run(self, X,
            int n):
        """
        raise
        """
        if n < 0:
            raise ValueError("n must be >= 0")
        with nogil:
            with gil:
                raise  # raise
cdef int check(
    int n,
) except -1:
    raise TypeError(f"raise {n}")
'''


def test_refusals_are_found_and_can_be_deleted(tools, tmp_path, monkeypatch):
    _, refusals, _ = tools
    monkeypatch.setattr(refusals, "ROOT", tmp_path)
    for name, text in (("a.py", PYTHON), ("a.pyx", CYTHON)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = refusals.refusals_of_python(tmp_path / "a.py")
    assert [(one.line, one.function) for one in found] == [(6, "Net.fit"), (12, "Net.fit"), (14, "_f")]
    cython = refusals.refusals_of_cython(tmp_path / "a.pyx")
    assert [(one.line, one.function) for one in cython] == [(8, "Engine.run"), (11, "Engine.run"), (15, "check")]
    assert cython[0].text == 'raise ValueError("n must be >= 0")'

    scope = {}
    exec(refusals.with_switches("a.py", found), scope)
    with pytest.raises(ValueError, match="missing"):
        scope["Net"]().fit(None)
    with pytest.raises(TypeError, match="raise"):
        scope["_f"]()
    monkeypatch.setenv("REFUSALS_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("REFUSAL_DELETED", "a.py:14")
    assert scope["_f"]() is None
    monkeypatch.setenv("REFUSAL_DELETED", "a.py:6")
    with pytest.raises(TypeError, match="len"):
        scope["Net"]().fit(None)
    monkeypatch.setenv("REFUSAL_DELETED", "a.py:12")
    with pytest.raises(ValueError, match="missing"):
        scope["Net"]().fit(None)
    assert scope["Net"]().fit(3) is None
    reached = (tmp_path / "log").read_text(encoding="utf-8").split()
    assert reached[1::2] == ["a.py:14", "a.py:6", "a.py:12", "a.py:6", "a.py:12"]


CHECKS = """
class Net:
    def __init__(self, l2, m):
        self.l2, self.m = validation.number("é", l2, 0), validation.size(
            "m", m
        )
        self.check(m)
    def check(self, m):
        validation.threads(m)
"""


def test_checks_are_found_and_can_be_left_out(tools, tmp_path, monkeypatch):
    _, refusals, _ = tools
    monkeypatch.setattr(refusals, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text(CHECKS, encoding="utf-8")
    (tmp_path / "nnkern").mkdir()
    (tmp_path / "nnkern" / "validation.py").write_text(
        "def number(name, value): ...\ndef size(name, value): ...\ndef threads(value): ...\n", encoding="utf-8"
    )
    found = refusals.checks_of_python(tmp_path / "a.py")
    assert [one.replacement for one in found] == ["l2", "m", "None", "None"]

    class Validation:
        def __getattr__(self, name):
            return lambda *arguments: calls.append(name) or 7 // arguments[-1]

    calls, scope = [], {"validation": Validation()}
    exec(refusals.with_switches("a.py", found), scope)
    monkeypatch.setenv("REFUSALS_LOG", str(tmp_path / "log"))
    for deleted in (None, 1, 2, 3):
        calls.clear()
        if deleted is not None:
            monkeypatch.setenv("REFUSAL_DELETED", found[deleted].name)
        net = scope["Net"].__new__(scope["Net"])
        with pytest.raises(ZeroDivisionError):
            net.__init__(1, 2)
        assert calls == ["number"]
    monkeypatch.setenv("REFUSAL_DELETED", found[0].name)
    assert vars(scope["Net"](1, 2)) == {"l2": 1, "m": 3}
    assert calls == ["number", "size", "threads"]
    # only what has refused counts as reached
    assert set((tmp_path / "log").read_text(encoding="utf-8").split()) == {"reached", found[0].name}


ENTRY = """
[[mutant]]
file = "src/a.h"
function = "f"
line = "a < b"
replacement = ["<=", ">"]
reason = "either will do"
"""


def test_equivalent_mutants_are_known_by_place_and_replacement(tools, tmp_path):
    equivalents, _, _ = tools
    (tmp_path / "a.toml").write_text(ENTRY, encoding="utf-8")
    table = equivalents.Equivalents(tmp_path / "a.toml")
    for other in (
        ("src/b.h", "f", "if (a < b)", " <= "), ("src/a.h", "g", "if (a < b)", " <= "),
        ("src/a.h", "f", "if (a < c)", " <= "), ("src/a.h", "f", "if (a < b)", " == "),
    ):  # fmt: skip
        assert table.match(*other) is None
    table.check({"src/b.h"})
    with pytest.raises(SystemExit, match="match no mutant any more"):
        table.check({"src/a.h"})
    assert table.match("src/a.h", "f", "if (a < b)", " <= ") == "either will do"
    table.check({"src/a.h"})
    (tmp_path / "a.toml").write_text(ENTRY.replace("either will do", ""), encoding="utf-8")
    with pytest.raises(SystemExit, match="reason"):
        equivalents.Equivalents(tmp_path / "a.toml")


C = """\
static int f(int a, int b)
{
    return a < b;
}
int x;
static int g(int a)
{
    return a + 1 < 2;
}
"""


def test_mutants_in_C_are_told_by_their_function(tools, tmp_path, monkeypatch):
    equivalents, _, mutate = tools
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.h").write_text(C, encoding="utf-8")
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    monkeypatch.setattr(mutate, "KERNELS", Path("src"))
    lines = C.splitlines()
    assert [mutate.function_of(lines, n) for n in range(9)] == ["f"] * 4 + [""] + ["g"] * 4
    (tmp_path / "a.toml").write_text(ENTRY, encoding="utf-8")
    table = equivalents.Equivalents(tmp_path / "a.toml")
    assert [(m.line, m.new) for m in mutate.mutants_of("a.h", table)] == [(7, " <= "), (7, " > "), (7, " - ")]
    table.check({"src/a.h"})


def test_every_entry_of_the_table_matches(tools):
    equivalents, refusals, mutate = tools
    table = equivalents.Equivalents()
    found = [one for file in (HERE.parent / "nnkern").rglob("*.py") for one in refusals.refusals_of_python(file)]
    found += [one for file in (HERE.parent / "nnkern").rglob("*.py") for one in refusals.checks_of_python(file)]
    found += [one for file in (HERE.parent / "src").rglob("*.pyx") for one in refusals.refusals_of_cython(file)]
    for one in found:
        table.match(one.file, one.function, one.text, one.replacement)
    for file in mutate.FILES:
        list(mutate.mutants_of(file, table))
    table.check({entry["file"] for entry in table.entries})
    assert len(found) > 100
