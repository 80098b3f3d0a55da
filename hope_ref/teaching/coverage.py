"""Where each equation stands: proved, stated, computed, shown. Read off the citations, so that nothing is claimed by hand. [D]

An equation is proved if an identity of the symbolic floor names it as its source, stated and computed if a docstring or comment
of the reference or the parallel floor cites it, shown if a notebook does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1]
NOTEBOOKS = PACKAGE.parent / "notebooks"
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


def markdown() -> str:
    """The table for NOTATION.md."""
    lines = [
        "## Where each equation stands",
        "",
        "Read off the citations: proved by an identity of `hope_ref.symbolic`, stated in `hope_ref.reference`, computed in",
        "`hope_ref.parallel`, shown in a notebook. A definition has nothing to prove; – stands where there is none.",
        "",
        "| equation | proved | stated | computed | shown in |",
        "|---|---|---|---|---|",
    ]
    for place in places():
        none = "a definition" if place.equation in DEFINITIONS else "–"
        cells = [", ".join(f"`{name}`" for name in names) or "–" for names in place[2:4]]
        proof = ", ".join(f"`{name}`" for name in place.proved) or none
        lines.append(
            f"| {place.equation} | {proof} | {cells[0]} | {cells[1]} | {', '.join(place.shown) or '–'} |"
        )
    return "\n".join(lines) + "\n"
