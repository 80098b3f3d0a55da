"""Docstrings of this house as reStructuredText: signs stay what they are."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from hope_docs import api, stage

from hope_ref import symbolic
from hope_ref.common.validation import positive_integer
from hope_ref.config import HopeConfig


def test_signs_stay_what_they_are() -> None:
    assert api.inline("M_t = a * b_, |x| and f(*args)") == r"M_t = a \* b\_, \|x\| and f(\*args)"
    assert api.inline("`name`s and ``*x*``") == r"`name`\ s and ``*x*``"
    assert api.inline("the *Titans* paper, 2*3*4") == r"the *Titans* paper, 2\*3\*4"


def test_blocks_lists_and_tables() -> None:
    lines = [
        "Claim:",
        "",
        "    y = M q",
        "",
        "Of two kinds:",
        "- one",
        "- two",
        "",
        "| a | b |",
        "|---|---|",
        "| 1 | 2* |",
    ]
    rst = api.to_rst(lines)
    assert ".. code-block:: text" in rst
    assert "   y = M q" in rst
    assert rst[rst.index("- one") - 1] == ""
    assert "   * - a" in rst
    assert r"     - 2\*" in rst


def test_a_line_that_starts_with_a_bar_is_no_table() -> None:
    assert api.to_rst(["|slope - numeric| / max(scale, |numeric|)"]) == [
        r"\|slope - numeric\| / max(scale, \|numeric\|)"
    ]


def test_sections_are_left_to_napoleon() -> None:
    assert api.to_rst(["Claim.", "", "Args:", "    q, k: keys, (T, d_k).", "        more of it"])[2:] == [
        "Args:",
        "    q, k: keys, (T, d_k).",
        "        more of it",
    ]


ROOT = Path(__file__).parents[2]


class Commented(NamedTuple):
    """A point."""

    x: int  # to the right
    y: int


def test_fields_come_with_their_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "modules", lambda: (__name__,))
    assert api.fields_of(Commented) == [("x", "to the right")]
    lines = ["A point."]
    api.process_docstring(None, "class", "Commented", Commented, None, lines)
    assert lines == ["A point.", "", ".. rubric:: Fields", "", "* ``x``: to the right", ""]


def test_options_with_docstrings_of_their_own_are_listed_once() -> None:
    """`help` needs the list in the docstring of the class; a page has each docstring beside its field."""
    lines = inspect.getdoc(HopeConfig).splitlines()  # type: ignore[union-attr]
    assert "Attributes:" in lines
    api.process_docstring(None, "class", "HopeConfig", HopeConfig, None, lines)
    text = "\n".join(lines)
    assert "Attributes:" not in text
    assert "Fields" not in text
    assert "Number of heads" not in text
    assert "Raises:" in text, "the other sections stay"


def test_a_colon_in_the_docstring_of_an_attribute_is_none_of_napoleons_matters() -> None:
    lines = ["Hidden width; None: that of a head."]
    api.process_docstring(None, "attribute", "HopeConfig.hidden", None, None, lines)
    assert lines == []
    api.restore_attributes(None, "attribute", "HopeConfig.hidden", None, None, lines)
    assert lines == ["Hidden width; None: that of a head."]
    api.restore_attributes(None, "function", "hope", None, None, lines)
    assert lines == ["Hidden width; None: that of a head."], "what is no attribute stays"


def test_a_section_is_taken_out_whole() -> None:
    lines = ["Claim.", "", "Attributes:", "    a: one.", "", "    b: two.", "Raises:", "    ValueError: no."]
    assert api.without_attributes(lines) == ["Claim.", "", "Raises:", "    ValueError: no."]
    assert api.without_attributes(lines[:2]) == lines[:2]


# --- references -----------------------------------------------------------------------------------------------------

REFERENCE = re.compile(r"(?<!`)`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?:\(\))?`(?!`)")


def docstrings(node: ast.AST, kind: str = "") -> Iterator[tuple[str, str]]:
    """Every docstring below a node, those of fields too, with the class around it."""
    kind = node.name if isinstance(node, ast.ClassDef) else kind
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
            yield kind, str(part.value.value)
        yield from docstrings(part, kind)


def references(module: str) -> Iterator[tuple[str, str]]:
    """The class around it and the dotted name, for every `a.b` in a docstring of that module."""
    for kind, text in docstrings(ast.parse(inspect.getsource(import_module(module)))):
        yield from ((kind, dotted) for dotted in REFERENCE.findall(text))


def elsewhere(dotted: str) -> bool:
    """Whether another package has a thing of that name."""
    try:
        pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError):
        return False
    return True


def test_every_reference_with_a_dot_names_something() -> None:
    """`module.name`, seen from the docstring's module or as the name of an identity; a page links each that is ours."""
    identities = {identity.name for identity in symbolic.identities()}
    every = [(module, *one) for module in api.modules() for one in references(module)]
    assert len(every) > 150, "or they are no longer seen"
    dangling = [
        f"{module}: {dotted}"
        for module, kind, dotted in every
        if api.full_name(module, kind, dotted) is None and dotted not in identities and not elsewhere(dotted)
    ]
    assert dangling == []


@pytest.mark.parametrize(
    ("dotted", "full"),
    [
        ("titans", "hope_ref.parallel.titans.titans"),  # what the module itself has
        ("reference.titans.start", "hope_ref.reference.titans.start"),  # from the package
        ("states.checked", "hope_ref.parallel.states.checked"),  # a module beside it
        ("hope_ref.config", "hope_ref.config"),
        ("HopeConfig.heads", "hope_ref.config.HopeConfig.heads"),
        ("HopeConfig.memories", "hope_ref.config.HopeConfig.memories"),
        ("reference.start", None),
        ("reference.titans.begin", None),
        ("hope_ref.nothing", None),
        ("torch.no_grad", None),
    ],
)
def test_a_name_is_looked_up_where_it_is_written(dotted: str, full: str | None) -> None:
    assert api.full_name("hope_ref.parallel.titans", "", dotted) == full


def test_a_name_is_looked_up_in_its_class_first() -> None:
    assert api.full_name("hope_ref.config", "HopeConfig", "printed") == "hope_ref.config.HopeConfig.printed"
    assert api.full_name("hope_ref.config", "", "printed") is None
    name = f"{positive_integer.__module__}.positive_integer"
    assert api.full_name("hope_ref.config", "HopeConfig", "positive_integer") == name


def test_a_line_of_code_leads_to_its_place_in_the_api(tmp_path: Path) -> None:
    path = "hope_ref/reference/titans.py"
    lines = (ROOT / path).read_text("utf-8").splitlines()
    public = next(number for number, line in enumerate(lines, 1) if line.startswith("def start("))
    private = next(number for number, line in enumerate(lines, 1) if line.startswith("def _"))
    text = "\n".join(f"| [`it`]({path}#L{number}) |" for number in (public, private, 1))
    assert stage.Stage(ROOT, tmp_path).linked(text, "NOTATION.md", "NOTATION.md").splitlines() == [
        "| {py:obj}`it <hope_ref.reference.titans.start>` |",
        "| [`it`](api/hope_ref.reference.titans.rst) |",
        "| [`it`](api/hope_ref.reference.titans.rst) |",
    ]


def test_modules_are_found_by_path() -> None:
    assert api.module_of("hope_ref/parallel/chunks.py") == "hope_ref.parallel.chunks"
    assert api.module_of("hope_ref/golden/__init__.py") == "hope_ref.golden"
    assert api.module_of("README.md") is None
