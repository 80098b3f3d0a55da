"""Where each equation stands: proved, stated, computed, shown. Read off the citations, so that nothing is claimed by hand. [D]

An equation is proved if an identity of the symbolic floor names it as its source, and for the sizes that are said there; stated and computed if a docstring or comment
of the reference or the parallel floor cites it, shown if a notebook does. The page leads to one place on each floor.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hope_ref.notation import TUTORIAL_FORMULAS

if TYPE_CHECKING:
    from hope_ref.symbolic.identity import Identity

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent
NOTEBOOKS = ROOT / "notebooks"
TUTORIAL = range(1, 38)
# They say what a name means (the best memory, a chain of levels, who makes keys and targets, what is read): nothing to prove.
DEFINITIONS = {"S 1", "S 14", *(f"S {number}" for number in range(22, 29)), "S 34"}

_GROUP = re.compile(r"\[([^\][]*)\]")
_PART = re.compile(r"(?:(S|P20|P)\s+)?(\d+)(?:\s*[-–]\s*(\d+))?(?![.\d])$")


class Place(NamedTuple):
    """One equation and where it stands, each a tuple of names without doubles."""

    equation: str  # "S 18", "P 57"
    proved: tuple[str, ...]  # identities
    stated: tuple[str, ...]  # modules of the reference floor
    computed: tuple[str, ...]  # modules of the parallel floor
    shown: tuple[str, ...]  # notebooks, by their numbers


class Line(NamedTuple):
    """A line of a file, and what begins there."""

    name: str
    path: str  # from the repository's root
    number: int

    def link(self) -> str:
        """As Markdown."""
        return f"[`{self.name}`]({self.path}#L{self.number})"


def cited(source: str) -> set[str]:
    """The equations that a source such as ``S 18-21, P 57, 59`` names; sections, tables and algorithms are not equations."""
    found: set[str] = set()
    kind: str | None = None
    for part in re.split(r"[,;]|\band\b", source):
        words = part.strip()
        match = _PART.fullmatch(words)
        if match is None:
            kind = None
            continue
        kind = match[1] or kind
        if kind in ("S", "P"):
            first, last = int(match[2]), int(match[3] or match[2])
            found |= {f"{kind} {number}" for number in range(first, last + 1)}
    return found


def anchor(equation: str) -> str:
    """Where the row of an equation stands in NOTATION.md: ``s-18`` for S 18. Tags in notebooks lead there."""
    return equation.lower().replace(" ", "-")


def in_text(text: str) -> set[str]:
    """The equations that a text cites in square brackets: [S 18, P 57]."""
    return set().union(*(cited(group) for group in _GROUP.findall(text)), set())


def places(notebooks: Path = NOTEBOOKS) -> tuple[Place, ...]:
    """Every formula of the tutorial, then every equation of the paper that this project cites."""
    from hope_ref import symbolic

    proved = _by_equation((identity.name, cited(identity.source)) for identity in symbolic.identities())
    stated, computed = (
        _by_equation(
            (path.stem, in_text(path.read_text("utf-8"))) for path in sorted((PACKAGE / floor).glob("*.py"))
        )
        for floor in ("reference", "parallel")
    )
    shown = _by_equation(
        (path.stem.split("_")[0], in_text(_words(path))) for path in sorted(notebooks.glob("*.ipynb"))
    )
    paper = {name for part in (proved, stated, computed, shown) for name in part if name.startswith("P ")}
    names = [f"S {number}" for number in TUTORIAL] + sorted(paper, key=lambda name: int(name[2:]))
    return tuple(
        Place(name, *(tuple(part.get(name, ())) for part in (proved, stated, computed, shown)))
        for name in names
    )


def _by_equation(pairs: Iterable[tuple[str, set[str]]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, equations in pairs:
        for equation in equations:
            found.setdefault(equation, []).append(name)
    return found


def _words(path: Path) -> str:
    """Prose, code and stored outputs of a notebook as one text."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        parts.append("".join(cell["source"]))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            parts += [
                "".join(output.get("text", "")),
                "".join(data.get("text/plain", "")),
                "".join(data.get("text/markdown", "")),
            ]
    return "\n".join(parts)


# --- one place on each floor ------------------------------------------------------------------------------------------


def cited_at(floor: str) -> dict[str, Line]:
    """Where each equation stands on a floor: the function or class that cites it most closely.

    What the head of a file cites stands in the function that has the file's name, if there is one. A public name comes
    before a private one, the equation's own concept before others, a function before a class, and one that cites this
    equation alone before one that cites many at once.
    """
    concepts = {f"S {formula.number}": formula.concept for formula in TUTORIAL_FORMULAS}
    best: dict[str, tuple[tuple[Any, ...], Line]] = {}
    for path in sorted((PACKAGE / floor).glob("*.py")):
        text = path.read_text("utf-8")
        parts = list(_parts(ast.parse(text)))
        main = next((part for part in parts if part.name == path.stem), None)
        for group in _GROUP.finditer(text):
            number = text.count("\n", 0, group.start()) + 1
            inside = [part for part in parts if part.first <= number <= part.last]
            part = inside[-1] if inside else main
            name = part.name if part else path.stem
            line = Line(name, path.relative_to(ROOT).as_posix(), part.first if part else 1)
            kind = (2 if part.is_class else 0 if inside else 1) if part else 3
            equations = cited(group[1])
            for equation in equations:
                foreign = concepts.get(equation, path.stem) != path.stem
                rank = (part is None, name.startswith("_"), foreign, kind, len(equations), line.path, number)
                if equation not in best or rank < best[equation][0]:
                    best[equation] = rank, line
    return {equation: line for equation, (_, line) in best.items()}


class _Part(NamedTuple):
    """A function or class of a file."""

    name: str  # a method's with the class before it
    first: int
    last: int
    is_class: bool


def _parts(tree: ast.AST, outer: str = "") -> Iterator[_Part]:
    """Every function and class, the inner ones after those around them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            last = node.end_lineno or node.lineno
            yield _Part(f"{outer}{node.name}", node.lineno, last, isinstance(node, ast.ClassDef))
            yield from _parts(node, f"{outer}{node.name}.")


def proved_by() -> dict[str, Identity]:
    """What proves each equation: the identity that names it most closely, of its own concept if there is one."""
    from hope_ref import symbolic

    concepts = {f"S {formula.number}": formula.concept for formula in TUTORIAL_FORMULAS}
    best: dict[str, tuple[tuple[bool, int], Identity]] = {}
    for identity in symbolic.identities():
        equations = cited(identity.source)
        for equation in equations:
            rank = concepts.get(equation, identity.concept) != identity.concept, len(equations)
            if equation not in best or rank < best[equation][0]:
                best[equation] = rank, identity
    return {equation: identity for equation, (_, identity) in best.items()}


def _proof(name: str, proof: Any) -> Line:
    while isinstance(proof, partial):
        proof = proof.func
    code = proof.__code__
    return Line(name, Path(code.co_filename).relative_to(ROOT).as_posix(), code.co_firstlineno)


def markdown() -> str:
    """The table for NOTATION.md."""
    found = places()
    tutorial = [place for place in found if place.equation.startswith("S ")]
    with_proof = sum(bool(place.proved) for place in tutorial)
    lines = [
        "## Where each equation stands",
        "",
        "Read off the citations: proved by an identity of `hope_ref.symbolic`, stated in `hope_ref.reference`, computed in",
        "`hope_ref.parallel`, shown in a notebook. Each link leads to the line where the place begins; where several places",
        "cite an equation, to the one that is closest to it. A definition has nothing to prove; – stands where there is none.",
        "*For which sizes*: first those that SymPy has run; after the semicolon those to which the argument in the proof's",
        "docstring extends, which is read, not run. An identity proves what its name says of the equation, not the model.",
        f"Of the tutorial's {len(tutorial)} formulas {with_proof} are proved, {len(tutorial) - with_proof} are definitions.",
        "A row quotes no text but says where the equation stands: S n is the n-th displayed formula of",
        "[the tutorial](#the-tutorials-displayed-formulas), P n equation n of [the paper](https://arxiv.org/abs/2512.24695).",
        "",
        "| equation | proved | for which sizes | stated | computed | shown in |",
        "|---|---|---|---|---|---|",
    ]
    proved, floors = proved_by(), (cited_at("reference"), cited_at("parallel"))
    files = {path.stem.split("_")[0]: path.relative_to(ROOT).as_posix() for path in NOTEBOOKS.glob("*.ipynb")}
    for place in found:
        cells = [floor[place.equation].link() if place.equation in floor else "–" for floor in floors]
        identity = proved.get(place.equation)
        if identity is not None:
            cells = [_proof(identity.name, identity.proof).link(), identity.sizes, *cells]
        else:
            cells = ["a definition" if place.equation in DEFINITIONS else "–", "–", *cells]
        shown = ", ".join(f"[{number}]({files[number]})" for number in place.shown) or "–"
        first = f'<a id="{anchor(place.equation)}"></a>{place.equation}'
        lines.append(f"| {' | '.join((first, *cells, shown))} |")
    return "\n".join(lines) + "\n"
