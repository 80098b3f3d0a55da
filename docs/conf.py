"""Sphinx's settings. The sources are not here: `hope_docs.stage` writes them from the repository (see make.py)."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from docutils import nodes  # noqa: E402
from hope_docs import api, mathml  # noqa: E402
from sphinx.util import logging  # noqa: E402

logger = logging.getLogger(__name__)
_about = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
project, version, release = _about["name"], _about["version"], _about["version"]
html_title = project
copyright = _about["authors"][0]["name"]
language = "en"
root_doc = "index"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

# Pages
myst_enable_extensions = ["dollarmath", "attrs_inline"]  # the latter for []{#place}
myst_heading_anchors = 4
html_math_renderer = "mathml"
default_role = "py:obj"  # `name` is code, and a link where the reference knows the name

# Reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"Array": "Array"}
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
viewcode_line_numbers = False

# Looks
html_theme = "furo"
html_theme_options = {"navigation_with_keys": True}
html_static_path = [str(HERE / "static")]
html_css_files, html_js_files = ["site.css"], [("site.js", {"defer": "defer"})]
html_favicon = str(HERE / "static" / "icon.svg")
templates_path = [str(HERE / "templates")]
html_copy_source = html_show_sourcelink = False
html_scaled_image_link = True
pygments_style, pygments_dark_style = "tango", "monokai"


def _equation(writer: Any, node: nodes.Element, display: bool) -> None:
    try:
        element = mathml.mathml(node.astext(), display)
    except mathml.UnknownLatex as error:
        # A warning fails the build; an exception would be lost where Sphinx writes in parallel.
        logger.warning("%s", error, location=node)
        element = ""
    writer.body.append(f'<div class="equation">{element}</div>' if display else element)
    raise nodes.SkipNode


def _short_menu(_app: Any, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """The menu opens only where the page is: with every module in it, each page would be mostly menu."""
    if "toctree" in context:
        whole = context["toctree"]
        context["toctree"] = lambda **options: whole(**{**options, "collapse": True})


def setup(app: Any) -> None:
    """The one converter of equations, and the docstrings of this house."""
    app.add_html_math_renderer(
        "mathml",
        (lambda writer, node: _equation(writer, node, False), None),
        (lambda writer, node: _equation(writer, node, True), None),
    )
    app.connect("autodoc-process-docstring", api.process_docstring, priority=100)
    app.connect("autodoc-process-docstring", api.restore_attributes, priority=900)
    app.connect("autodoc-skip-member", api.skip_member)
    app.connect("doctree-read", api.full_names)
    app.connect("html-page-context", _short_menu, priority=100)  # before Furo's
