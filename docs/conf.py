"""The documentation as a site: ``sphinx-build -W -b html docs site``.

Sphinx, because the docstrings are reST (``:param:``, ``.. math::``) or NumPy's form, which autodoc and napoleon read; the
pages are Markdown (MyST), as on GitHub. Notebooks are executed by the build (``SNN_DELAY_PLUGINS_NOTEBOOKS=off``: not), and
every public module has a page in ``reference/``, written by ``docs/reference_pages.py``.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import reference_pages  # noqa: E402

from snn_delay_plugins import __version__  # noqa: E402

project = "snn_delay_plugins"
author = "the authors of snn_delay_plugins"
copyright = "MIT licence"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # equations without a network
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "announce", "conformance-workflow.yml"]
html_theme = "furo"
html_title = f"snn_delay_plugins {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

nb_execution_mode = os.environ.get("SNN_DELAY_PLUGINS_NOTEBOOKS", "force")
nb_execution_timeout = 900  # seconds a cell, the first compilation included, on a busy machine
nb_execution_raise_on_error = True
nb_merge_streams = True

autodoc_typehints = "none"  # the signatures of layers are long already, and types stand in words below them
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what a framework says of a method that is overridden here is its own
napoleon_google_docstring = False
napoleon_use_rtype = False


suppress_warnings = ["ref.python", "myst-nb.lexer"]  # names such as eventprop_linear that a file shares with its function


def setup(app) -> None:
    app.connect("autodoc-process-docstring", reference_pages.plain_words, priority=100)
    reference_pages.write(HERE / "reference")
    reference_pages.link_to_sources(app)
