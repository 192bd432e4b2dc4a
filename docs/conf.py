"""Sphinx's settings: pages are Markdown, the reference is made from the docstrings, figures by the examples."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
FIGURES = DOCS / "figures"

project = "nnkern"
version = release = importlib.metadata.version(project)
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "measured.md"]
html_theme = "furo"
smartquotes = False  # quotes are those of code
html_title = f"nnkern {release}"
highlight_language = "none"
default_role = "py:obj"
autodoc_typehints = "none"  # the docstrings tell
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
myst_heading_anchors = 2


def make_figures(app):
    """Each example's figure, anew where the example is newer."""
    FIGURES.mkdir(exist_ok=True)
    for example in sorted(EXAMPLES.glob("[!_]*.py")):
        figure = FIGURES / f"{example.stem}.png"
        if not figure.exists() or figure.stat().st_mtime < example.stat().st_mtime:
            subprocess.run([sys.executable, example, "--plot", figure], check=True, stdout=subprocess.DEVNULL)


def adapt(app, what, name, obj, options, lines):
    """Makes reStructuredText: |x| is an absolute value, and what a module's docstring indents stays as it is."""
    if what != "module":
        lines[:] = [line.replace("|", r"\|") for line in lines]
        return
    adapted, literal = [], False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not literal:
            adapted += ["::", ""]
        if line:
            literal = indented
        adapted.append(line)
    lines[:] = adapted


def setup(app):
    app.connect("builder-inited", make_figures)
    app.connect("autodoc-process-docstring", adapt, priority=400)  # before numpydoc
