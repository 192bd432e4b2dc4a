"""Sphinx's settings: pages are Markdown, the reference is made from the docstrings, figures by the examples."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
FIGURES = DOCS / "figures"

sys.path.insert(0, str(DOCS))
import listing  # noqa: E402

project = "nnkern"
author = "the nnkern authors"
copyright = f"2026, {author}"
version = release = importlib.metadata.version(project)
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
exclude_patterns = ["_build", "measured.md"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["columns.css"]
smartquotes = False  # quotes are those of code
html_title = f"nnkern {release}"
highlight_language = "none"
default_role = "py:obj"
autodoc_typehints = "none"  # the docstrings tell
autodoc_member_order = "bysource"
autosummary_generate = False  # its tables stand above the entries themselves
numpydoc_show_class_members = False
myst_heading_anchors = 2


def make_figures(app):
    """Each example's figure, anew where the example, or what all of them draw with, is newer."""
    FIGURES.mkdir(exist_ok=True)
    shared = (EXAMPLES / "_shared.py").stat().st_mtime
    for example in sorted(EXAMPLES.glob("[!_]*.py")):
        figure = FIGURES / f"{example.stem}.png"
        if not figure.exists() or figure.stat().st_mtime < max(
            example.stat().st_mtime, shared
        ):
            subprocess.run(
                [sys.executable, example, "--plot", figure],
                check=True,
                stdout=subprocess.DEVNULL,
            )


def adapt(app, what, name, obj, options, lines):
    """Makes reStructuredText: |x| is an absolute value, and what a module's docstring indents stays as it is."""
    if what != "module":
        lines[:] = [line.replace("|", r"\|") for line in lines]
        return
    adapted, literal = [], False
    for line in listing.without_table(name, lines):
        indented = line.startswith("    ")
        if indented and not literal:
            adapted += ["::", ""]
        if line:
            literal = indented
        adapted.append(line)
    lines[:] = adapted


class Names(SphinxDirective):
    """``.. names:: activations``: a table of all the names there are, from the package's own."""

    required_arguments = 1

    def run(self):
        return self.parse_text_to_nodes(listing.as_table(self.arguments[0]))


def check_summaries(app, env):
    """What a table at the head of a page of the reference names must have its entry, to which it links."""
    entries = env.domains["py"].objects
    for name, page in listing.summarised().items():
        if name not in entries:
            logging.getLogger(__name__).warning(
                "%s: no entry of %s", f"reference/{page}.rst", name
            )


def setup(app):
    app.add_directive("names", Names)
    app.connect("builder-inited", make_figures)
    app.connect("autodoc-process-docstring", adapt, priority=400)  # before numpydoc
    app.connect("env-check-consistency", check_summaries)
