"""The site: ``sphinx-build -W -n docs site``, on CPython 3.13 or newer, with ``.[docs]``."""

import re

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import tsignals

project = "tsignals"
author = "the tsignals authors"
version = release = tsignals.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"tsignals {release}"
html_theme_options = {"source_directory": "docs/"}
html_show_copyright = False

exclude_patterns = ["_build"]
myst_heading_anchors = 4

# The reference is written by hand, beside what the docstrings say: no types twice.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
add_module_names = False
nitpicky = True

ARGUMENT = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*): (?=\S)")


MADE_BY_USERS = {"tsignals.Signal", "tsignals.WorkerPool", "tsignals.Retry"}


def list_arguments(
    app: object, what: str, name: str, of: object, options: object, lines: list[str]
) -> None:
    """Our docstrings write ``argument: what it is`` as it reads best; as a list it is shown."""
    start = True
    for number, line in enumerate(lines):
        if start and ARGUMENT.match(line):
            lines[number] = ARGUMENT.sub(r"- **\1**: ", line)
        start = not line.strip() or line.startswith(("-", " ")) or lines[number].startswith("- ")


def hide_constructors(
    app: object, what: str, name: str, of: object, options: object, signature: str, returns: str
) -> tuple[str, str] | None:
    """What a user gets, and does not make, is shown without what makes it."""
    return ("", "") if what == "class" and name not in MADE_BY_USERS else None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", list_arguments)
    app.connect("autodoc-process-signature", hide_constructors)
    for drawing in ("packages", "rooms"):  # which the tests read, too
        app.add_lexer(drawing, TextLexer)
