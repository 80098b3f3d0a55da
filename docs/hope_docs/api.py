"""The API reference: one page for each module of `hope_ref`, from its docstrings.

The docstrings are plain text with a few habits: `name` is code, an indented block is an equation or an example, a
line that starts with ``- `` or ``* `` is a row of a list, ``Args:``, ``Returns:``, ``Raises:`` and ``Attributes:`` open a
section. `to_rst` turns them into what Sphinx reads, so that signs like ``*``, ``|`` and ``M_`` stay what they are.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import io
import pkgutil
import re
import textwrap
import tokenize
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

PACKAGE = "hope_ref"
FLOORS = ("symbolic", "reference", "parallel")
SECTION = re.compile(r"(Args|Returns|Raises|Attributes|Yields):$")
ROW = re.compile(r"([-*]|\d+\.) +\S")
CODE = re.compile(r"(``.+?``|`[^`]+`)")
EMPHASIS = re.compile(r"(?<![\w*])(\*\*?)(?=[^\s*])([^*]+)(?<=\S)\1(?![\w*])")


@cache
def modules() -> tuple[str, ...]:
    """Every module with something public in it, by dotted name, in alphabetical order."""
    package = importlib.import_module(PACKAGE)
    found = [PACKAGE, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."))]
    if importlib.util.find_spec("triton") is None:  # Linux alone has it; elsewhere the kernels have no page
        found = [name for name in found if not name.startswith(f"{PACKAGE}.parallel.kernels.")]
    return tuple(sorted(name for name in found if not name.rsplit(".", 1)[-1].startswith("_")))


def module_of(path: str) -> str | None:
    """The module that a path of the repository is: ``hope_ref/config.py`` -> ``hope_ref.config``; None if it is none."""
    name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return name if name in modules() else None


def name_at(module: str, line: int) -> str | None:
    """The full name of the public function or class that begins at a line of a module's file; None if there is none."""
    for node in ast.parse(inspect.getsource(importlib.import_module(module))).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno == line:
            return None if node.name.startswith("_") else f"{module}.{node.name}"
    return None


def first_sentence(name: str) -> str:
    """The claim of a module: the first line of its docstring."""
    document = inspect.getdoc(importlib.import_module(name)) or ""
    return inline(document.split("\n", 1)[0])


def pages() -> Iterator[tuple[str, str]]:
    """Path and reStructuredText of every page of the reference."""
    yield "api/index.rst", _index()
    for name in modules():
        below = [m for m in modules() if m.rsplit(".", 1)[0] == name and m != name]
        title = name.removeprefix(f"{PACKAGE}.")
        text = (
            f"{title}\n{'=' * len(title)}\n\n.. automodule:: {name}\n   :members:\n   :ignore-module-all:\n"
        )
        yield f"api/{name}.rst", text + (_list(below) if below and name != PACKAGE else "")


def _index() -> str:
    tops = [m for m in modules() if m.count(".") == 1]
    concepts = sorted(
        {m.rsplit(".", 1)[1] for floor in FLOORS for m in modules() if m.startswith(f"{PACKAGE}.{floor}.")}
    )
    shared = [c for c in concepts if sum(f"{PACKAGE}.{floor}.{c}" in modules() for floor in FLOORS) > 1]
    rows = []
    for concept in shared:
        names = [f"{PACKAGE}.{floor}.{concept}" for floor in FLOORS]
        cells = [
            f":doc:`{floor} <{n}>`" if n in modules() else "–" for floor, n in zip(FLOORS, names, strict=True)
        ]
        rows.append(f"   * - {concept.replace('_', ' ')}\n" + "\n".join(f"     - {cell}" for cell in cells))
    return (
        "API reference\n=============\n\n"
        "One page for each module, from its docstrings. Equation numbers in brackets are explained in "
        ":doc:`the notation </NOTATION>`.\n\n"
        "One concept, three floors\n-------------------------\n\n"
        ".. list-table::\n   :header-rows: 1\n\n   * - concept\n     - derives\n     - states\n     - computes\n"
        + "\n".join(rows)
        + "\n\nEverything\n----------\n"
        + _list([PACKAGE, *tops])
    )


def _list(names: list[str]) -> str:
    short = {name: name.rsplit(".", 1)[-1] for name in names}
    rows = [f"* - :doc:`{short[name]} </api/{name}>`\n  - {first_sentence(name)}" for name in names]
    table = textwrap.indent("\n".join(rows), "   ")
    menu = "\n".join(f"   {short[name]} </api/{name}>" for name in names)
    return f"\n.. list-table::\n   :widths: auto\n   :class: modules\n\n{table}\n\n.. toctree::\n   :hidden:\n\n{menu}\n"


def inline(text: str) -> str:
    """One line of a docstring: code and emphasis stay, every other sign with a meaning in reStructuredText is quoted."""
    parts: list[str] = []
    for part in CODE.split(text):
        if CODE.fullmatch(part):
            quoted = part.replace("\\", "\\\\") if not part.startswith("``") else part
            parts.append(
                quoted if not parts or not parts[-1] or not parts[-1][-1].isalnum() else "\\ " + quoted
            )
        else:
            parts.append(_plain(part))
    return "".join(
        part
        if index == 0 or not (CODE.fullmatch(parts[index - 1].removeprefix("\\ ")) and part[:1].isalnum())
        else "\\ " + part
        for index, part in enumerate(parts)
    )


def _plain(text: str) -> str:
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(f"{found[1]}{_quoted(found[2])}{found[1]}")
        return f"\0{len(kept) - 1}\0"

    quoted = _quoted(EMPHASIS.sub(keep, text))
    return re.sub(r"\0(\d+)\0", lambda found: kept[int(found[1])], quoted)


def _quoted(text: str) -> str:
    return re.sub(r"_(?![A-Za-z0-9])", r"\\_", re.sub(r"[\\*|`]", lambda found: "\\" + found[0], text))


def to_rst(lines: list[str]) -> list[str]:
    """A docstring, line by line, in the reStructuredText that Sphinx and its napoleon read."""
    out: list[str] = []
    section, index = False, 0
    while index < len(lines):
        line = lines[index]
        before = lines[index - 1] if index else ""
        indent = len(line) - len(line.lstrip())
        if SECTION.match(line):
            section = True
        elif line.strip() and not indent:
            section = False
        if (
            not section
            and line.startswith("| ")
            and re.match(r"\|[-:| ]+\|$", "".join(lines[index + 1 : index + 2]))
        ):
            index = _table(lines, index, out)
            continue
        if not section and indent and not before.strip():
            index = _block(lines, index, out)
            continue
        if (
            not section
            and ROW.match(line)
            and before.strip()
            and not ROW.match(before)
            and not before.startswith("  ")
        ):
            out.append("")
        if ROW.match(line) and not section:
            mark = ROW.match(line)
            assert mark is not None
            out.append(f"{mark[1]} {inline(line[len(mark[1]) :].strip())}")
        else:
            out.append(" " * indent + inline(line.lstrip()))
        index += 1
    return out


def _block(lines: list[str], index: int, out: list[str]) -> int:
    """An indented block keeps its lines: an equation in plain text, or code."""
    end = index
    while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
        end += 1
    block = textwrap.dedent("\n".join(lines[index:end])).strip("\n").split("\n")
    code = any(re.match(r"(import |from |def |python |>>> )", line) for line in block)
    kind = "text" if not code or any(line.startswith("python ") for line in block) else "python"
    out += [f".. code-block:: {kind}", f"   :class: {'input' if code else 'equation'}", ""]
    out += [f"   {line}".rstrip() for line in block] + [""]
    return end


def _table(lines: list[str], index: int, out: list[str]) -> int:
    end = index
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines[index:end]]
    rows = [row for row in rows if not all(re.fullmatch(r"[-:| ]*", cell) for cell in row)]
    out += [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        out += [f"   {'* -' if number == 0 else '  -'} {inline(cell)}" for number, cell in enumerate(row)]
    out.append("")
    return end


@cache
def _fields(module: str) -> dict[str, list[tuple[str, str]]]:
    """The fields of each class at the top of a module that have a comment at the end of their line, with it."""
    source = inspect.getsource(importlib.import_module(module))
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    return {
        kind.name: [
            (node.target.id, comments[node.end_lineno])
            for node in kind.body
            if isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.end_lineno in comments
        ]
        for kind in ast.parse(source).body
        if isinstance(kind, ast.ClassDef)
    }


def fields_of(kind: type) -> list[tuple[str, str]]:
    """Name and comment of each field of a dataclass or NamedTuple of this package, from its source."""
    return _fields(kind.__module__).get(kind.__qualname__, []) if kind.__module__ in modules() else []


def own_docstrings(kind: type) -> bool:
    """Whether the fields of a class have docstrings of their own, which autodoc shows at each field."""
    if kind.__module__ not in modules():
        return False
    return kind.__qualname__ in _with_docstrings(kind.__module__)


@cache
def _with_docstrings(module: str) -> set[str]:
    return {
        kind.name
        for kind in ast.parse(inspect.getsource(importlib.import_module(module))).body
        if isinstance(kind, ast.ClassDef)
        for field, text in pairwise(kind.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def without_attributes(lines: list[str]) -> list[str]:
    """A docstring without its section ``Attributes:``."""
    if "Attributes:" not in lines:
        return lines
    start = lines.index("Attributes:")
    later = range(start + 1, len(lines))
    end = next((i for i in later if lines[i] and not lines[i].startswith(" ")), len(lines))
    return lines[:start] + lines[end:]


_complete: dict[str, list[str]] = {}  # docstrings of attributes by name, while napoleon runs


def process_docstring(_app: Any, what: str, name: str, obj: Any, _options: Any, lines: list[str]) -> None:
    """Sphinx's event: runs before napoleon, which would take what stands before a colon for an attribute's type."""
    if what in ("attribute", "data", "property"):
        _complete[name] = to_rst(lines)
        lines.clear()
        return
    if what == "class" and own_docstrings(obj):
        lines[:] = without_attributes(lines)
    rst = to_rst(lines)
    if what == "class" and (fields := fields_of(obj)):
        rst += [
            "",
            ".. rubric:: Fields",
            "",
            *(f"* ``{name}``: {inline(comment)}" for name, comment in fields),
            "",
        ]
    lines[:] = rst


def restore_attributes(_app: Any, _what: str, name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Sphinx's event: runs after napoleon."""
    lines[:] = _complete.pop(name, lines)


def skip_member(_app: Any, _what: str, _name: str, obj: Any, skip: bool, _options: Any) -> bool | None:
    """Fields of a NamedTuple have a docstring that says nothing; they stand in the list of fields."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def full_names(_app: Any, tree: Any) -> None:
    """Sphinx's event: a name in a docstring or a signature means what it means in that module, also where it is imported.

    Without this, a name that two floors have (`Level`, say) would lead to either.
    """
    from sphinx.addnodes import pending_xref

    for node in tree.findall(pending_xref):
        module = node.get("py:module")
        if node.get("refdomain") == "py" and module in modules():
            name = full_name(module, node.get("py:class") or "", node["reftarget"])
            if name:
                node["reftarget"], node["refspecific"] = name, False


def full_name(module: str, kind: str, dotted: str) -> str | None:
    """The full name of what a docstring calls ``dotted``; None if it is nothing of this package.

    The name is looked up in the class ``kind`` of the module, if that is not empty, in the module, beside the module, and
    in the package: `write`, `State.weights`, `states.check` and `reference.titans.start` are all found.
    """
    start = importlib.import_module(module)
    package = start.__package__ or ""
    inside = [getattr(start, kind)] if hasattr(start, kind) else []
    beside = (_imported(f"{outer}.{dotted}") for outer in (package, PACKAGE) if "." in dotted)
    absolute = _imported(dotted) if dotted.startswith(PACKAGE) else None
    return next(filter(None, (*(_found(s, dotted) for s in (*inside, start)), *beside, absolute)), None)


def _imported(dotted: str) -> str | None:
    """The full name of an absolute dotted name, whose modules are imported if need be."""
    parts = dotted.split(".")
    modules_of = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    module = next((name for name in modules_of if name in modules()), None)
    if module is None:
        return None
    rest = dotted.removeprefix(module).removeprefix(".")
    return _found(importlib.import_module(module), rest) if rest else module


def _found(start: Any, dotted: str) -> str | None:
    """The full name of what `dotted` is, seen from `start`; None if it is nothing of this package."""
    thing, owner, part = start, start, ""
    for part in dotted.split("."):
        if not hasattr(thing, part):
            return None
        owner, thing = thing, getattr(thing, part)
    if inspect.ismodule(thing):
        name = thing.__name__
    elif hasattr(thing, "__qualname__"):
        name = f"{thing.__module__}.{thing.__qualname__}"
    elif inspect.isclass(owner):  # a field or a property
        name = f"{owner.__module__}.{owner.__qualname__}.{part}"
    else:  # a constant of a module
        name = f"{owner.__name__}.{part}" if inspect.ismodule(owner) else ""
    return name if name.startswith(PACKAGE) else None
