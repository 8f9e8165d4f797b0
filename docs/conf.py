"""Configuration of the documentation, which `make docs` builds with Sphinx."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

import docstrings  # noqa: E402
import reference_pages  # noqa: E402

from neural_tdc.version import VERSION  # noqa: E402

project = "neural_tdc"
author = "The neural_tdc authors"
copyright = author
release = version = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
myst_heading_anchors = 4
# Two hyphens are the beginning of a flag, and an apostrophe is a successor state.
smartquotes = False
exclude_patterns = ["site"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_title = f"neural_tdc {VERSION}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
# The shapes of jaxtyping are shown as they are written.
autodoc_preserve_defaults = True
# Names in jaxtyping's shapes, such as "batch d", are no types that a page could link to.
nitpicky = False


def setup(app):
    """Write the generated pages, and read docstrings as they are written here."""
    reference_pages.write(DOCS / "reference")
    app.connect("autodoc-process-docstring", docstrings.process)
    app.connect("autodoc-skip-member", docstrings.skip)
    app.connect("source-read", leave_out_links)


def leave_out_links(app, name, source):
    """Leave out links to files outside docs/: the site has the pages only."""
    source[0] = docstrings.without_links_outside(name, source[0])
