"""The three questions as a program: what does each component compress, how often does it change, by which rule?

`anatomy(what)` takes a model or an optimiser apart, one row a component, from fast to slow. A frequency is how often what a
later read can see changes: ∞ if the component is worked out anew at every read and has no state that learns, 1 at
every token (an optimiser: at every step), 1/C once in C of them, 0 in pre-training only. Sizes count float64 numbers,
for one sequence, as the arrays of the NumPy floor hold them.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any
from unicodedata import combining

from hope_ref.common.assignment import add_set
from hope_ref.common.validation import one_of, positive_integer
from hope_ref.laboratory.anatomy_components import BUILDERS, Row

__all__ = ["Row", "Rows", "add_arguments", "anatomy", "main", "markdown", "names", "text"]

Rows = tuple[Row, ...]


def names() -> tuple[str, ...]:
    """What `anatomy` knows."""
    return tuple(BUILDERS)


def anatomy(what: str, /, **sizes: Any) -> Rows:
    """Take a model or an optimiser apart: its components, from fast to slow, ties in the order of the forward pass.

    Args:
        what: one of `names()`.
        sizes: by name; what is left out has a default. HOPE and its parts take ``config``, a HopeConfig, or its options one
            by one; what has attention takes ``length``, the tokens that it has seen.
    Returns:
        rows.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """
    one_of("what", what, names())
    build = BUILDERS[what]
    known = inspect.signature(build).parameters
    options = any(p.kind is p.VAR_KEYWORD for p in known.values())
    unknown = [name for name in sizes if name not in known]
    if unknown and not options:
        raise ValueError(f"sizes of {what} must be among {', '.join(known)}, got {', '.join(unknown)}")
    for name, value in sizes.items():
        if name in known and isinstance(known[name].default, int):
            sizes[name] = positive_integer(name, value)
    return tuple(sorted(build(**sizes), key=lambda row: -row.frequency))


# --- as a table, and from the command line ----------------------------------------------------------------------------

HEAD = ("component", "context", "updates", "learning rule", "state", "parameters")


def _cells(rows: Rows) -> list[tuple[str, ...]]:
    found = [(r.name, r.context, r.updates(), r.rule, f"{r.state:,}", f"{r.parameters:,}") for r in rows]
    state, parameters = sum(r.state for r in rows), sum(r.parameters for r in rows)
    return [*found, ("all", "", "", "", f"{state:,}", f"{parameters:,}")]


def markdown(rows: Rows) -> str:
    """The rows as a Markdown table, sums last."""
    lines = [HEAD, ("---", "---", "---", "---", "---:", "---:"), *_cells(rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(rows: Rows) -> str:
    """The rows as an aligned table for a terminal, sums last."""
    lines = [HEAD, *_cells(rows)]
    widths = [max(_columns(line[column]) for line in lines) for column in range(len(HEAD))]
    found = []
    for line in lines:
        blanks = [" " * (width - _columns(cell)) for cell, width in zip(line, widths, strict=True)]
        words = [cell + blank for cell, blank in zip(line[:4], blanks, strict=False)]
        found.append(
            "  ".join(words + [blank + cell for cell, blank in zip(line[4:], blanks[4:], strict=True)])
        )
    return "\n".join(found)


def _columns(cell: str) -> int:
    """How wide a terminal prints it: a combining hat stands above the letter before it."""
    return sum(not combining(letter) for letter in cell)


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The arguments of ``python -m hope_ref anatomy``."""
    sub.add_argument(
        "what", nargs="?", default="hope", metavar="WHAT", help=f"{', '.join(names())} (default: hope)"
    )
    add_set(sub, "a size or an option of HopeConfig, e.g. width=128; may be given again")
    sub.add_argument("--vocabulary", type=int, metavar="N", help="words that a model knows")
    sub.add_argument("--blocks", type=int, metavar="N", help="blocks of a model")
    sub.add_argument("--markdown", action="store_true", help="print Markdown")


def main(arguments: argparse.Namespace) -> int:
    """Print the table; 2 and a message on stderr for what is not there."""
    sizes = {name: getattr(arguments, name) for name in ("vocabulary", "blocks")}
    sizes = {name: value for name, value in sizes.items() if value is not None} | dict(arguments.set)
    try:
        rows = anatomy(arguments.what.replace("-", "_"), **sizes)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(markdown(rows) if arguments.markdown else text(rows))
    return 0
