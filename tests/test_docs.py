"""The pages of docs/ and its guide: their code gives what they say, their figures are made by examples, every example
is shown, and every option of the command line is told.
"""

import contextlib
import doctest
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import nnkern as nk
from nnkern import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *(DOCS / "guide").glob("*.md")])
EXAMPLES = {path.stem for path in (ROOT / "examples").glob("[!_]*.py")}


def name_of(page):
    return page.relative_to(DOCS).with_suffix("").as_posix()


def blocks(page):
    """(needed module or "", code) of each block with prompts, and in the guide of each that is for a shell."""
    found = re.findall(
        r"^```(pycon|sh)(?: needs (\w+))?\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    shell = page.parent.name == "guide"
    return [
        (needed, code if kind == "pycon" else prompts(code)) for kind, needed, code in found if shell or kind == "pycon"
    ]


def prompts(lines):
    """The lines of a shell as examples of Python, whose `shell` runs them."""
    return "".join(f">>> shell({line!r})\n" for line in lines.replace("\\\n", " ").splitlines())


def shell(line):
    """Runs a line that begins with nnkern; what it prints isn't looked at."""
    name, *arguments = shlex.split(line, comments=True)
    assert name == "nnkern", line
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        status = cli.main(arguments)
    assert status == 0, f"{line}: {said.getvalue()}"


PAGES_WITH_CODE = {name_of(page): page for page in PAGES if blocks(page)}


@pytest.fixture
def threads():
    before = nk.get_num_threads()
    yield
    nk.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # a few epochs of an estimator aren't convergence
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("name", PAGES_WITH_CODE)
def test_code_gives_what_the_page_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PAGES_WITH_CODE[name]
    all_blocks = blocks(page)
    code = "\n".join(code for needed, code in all_blocks if not needed or importlib.util.find_spec(needed))
    if not code:
        pytest.skip(f"{page.name} needs {all_blocks[0][0]}")
    test = doctest.DocTestParser().get_doctest(code, {"shell": shell}, page.name, str(page), 0)
    said = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert result.attempted > 2
    assert result.failed == 0, "".join(said)


def test_all_code_is_tested():
    for page in PAGES:
        fences = re.findall(r"^```(\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        # what takes several processes is run by test_cluster.py, test_dask.py and test_torchrun.py
        assert set(fences) <= {"pycon", "sh"} | ({"python"} if name_of(page) == "cluster" else set()), page


def help_of(command):
    if command == "bench":  # whose scripts run in a process of their own
        line = [sys.executable, "-P", "-m", "nnkern", command, "--help"]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout
    with contextlib.redirect_stdout(io.StringIO()) as said:
        cli.main([command, "--help"])
    return said.getvalue()


def test_every_option_of_the_command_line_is_told():
    page = (DOCS / "guide" / "command-line.md").read_text(encoding="utf-8")
    before, *sections = re.split(r"^## `nnkern (\w+)`\n", page, flags=re.MULTILINE)
    sections = dict(zip(sections[::2], sections[1::2], strict=True))
    assert list(sections) == [module.__name__.rpartition(".")[2] for module in cli.COMMANDS]
    told = re.compile(r"`(--[a-z][\w-]*)")
    common = set(told.findall(before))
    for command, text in sections.items():
        options = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", help_of(command), re.MULTILINE)) - {"--help"}
        more = common if command in ("train", "predict", "evaluate") else set()
        assert options == set(told.findall(text)) | more, command


def test_every_figure_is_an_examples_and_every_example_has_its_figure():
    shown = {name for page in PAGES for name in re.findall(r"\(figures/(\w+)\.png\)", page.read_text(encoding="utf-8"))}
    assert shown == EXAMPLES


def rows(page):
    """Of each section that has a table."""
    sections = (DOCS / page).read_text(encoding="utf-8").split("\n## ")
    return [found[2:] for section in sections if (found := re.findall(r"^\|.*\|$", section, re.MULTILINE))]


def cells(row):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def test_every_row_of_reliability_and_of_limits_names_tests_that_exist():
    named = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
    promises, faults = rows("reliability_tests.md")
    (limits,) = rows("files.md")
    assert len(promises) >= 7
    assert len(faults) > 20
    assert len(limits) == 9
    for row in promises + faults + limits:
        found = named.findall(row)
        assert found, f"no test in {row}"
        for file, name in found:
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", text, re.MULTILINE), f"{file} has no {name}"


def test_every_row_of_reliability_has_its_row_of_tests():
    numbers = []
    for told, tests in zip(rows("reliability.md"), rows("reliability_tests.md"), strict=True):
        assert [cells(row)[0] for row in told] == [cells(row)[0] for row in tests]
        numbers += [int(cells(row)[0]) for row in told]
    assert len(set(numbers)) == len(numbers)
