"""The pages of docs/: their code gives what they say, their figures are made by examples, every example is shown."""

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

import nnkern as nk

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
EXAMPLES = {path.stem for path in (ROOT / "examples").glob("[!_]*.py")}


def blocks(text):
    """(needed module or "", code) of each block with prompts."""
    return re.findall(r"^```pycon(?: needs (\w+))?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


PAGES_WITH_CODE = {page.stem: page for page in PAGES if blocks(page.read_text(encoding="utf-8"))}


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
    all_blocks = blocks(page.read_text(encoding="utf-8"))
    code = "\n".join(code for needed, code in all_blocks if not needed or importlib.util.find_spec(needed))
    if not code:
        pytest.skip(f"{page.name} needs {all_blocks[0][0]}")
    test = doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0)
    said = []
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert result.attempted > 2
    assert result.failed == 0, "".join(said)


def test_all_code_is_tested():
    for page in PAGES:
        fences = re.findall(r"^```(\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        # what takes several processes is run by test_cluster.py, test_dask.py and test_torchrun.py
        assert set(fences) <= {"pycon", "sh"} | ({"python"} if page.stem == "cluster" else set()), page.name


def test_every_figure_is_an_examples_and_every_example_has_its_figure():
    shown = {name for page in PAGES for name in re.findall(r"\(figures/(\w+)\.png\)", page.read_text(encoding="utf-8"))}
    assert shown == EXAMPLES


def rows(page):
    """Of each section that has a table."""
    sections = (ROOT / "docs" / page).read_text(encoding="utf-8").split("\n## ")
    return [found[2:] for section in sections if (found := re.findall(r"^\|.*\|$", section, re.MULTILINE))]


def test_every_row_of_reliability_and_of_limits_names_tests_that_exist():
    named = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
    promises, faults = rows("reliability.md")
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
