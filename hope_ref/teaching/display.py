"""How a notebook shows a symbol table, a proved identity and a figure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from hope_ref import notation
from hope_ref.teaching.checks import check_true

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hope_ref.teaching.figures import Drawing

# Characters of LaTeX: of both sides side by side, of both where there are many rows, in the longest; of one side.
WIDE, WIDE_ROWS, READABLE = 600, 345, 750


def _publish(bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    from IPython.display import display

    display(bundle, metadata=metadata or {}, raw=True)


def symbols(*names: str) -> None:
    """Show the table of the named symbols, in Markdown, from `hope_ref.notation`."""
    table = notation.table(*names)
    _publish({"text/markdown": table, "text/plain": f"<symbols: {', '.join(names)}>"})


def prove(name: str) -> None:
    """Run the proof of an identity, show what SymPy found, and raise CheckFailed if it does not hold.

    Both sides are shown as SymPy wrote them, one above the other where a page is not wide enough. Sides too long to
    read are shown as the statement and the residual, derived minus stated. So the LaTeX comes out of the
    derivation: a change there changes the stored output.
    """
    import sympy as sp

    from hope_ref.symbolic import named
    from hope_ref.symbolic.identity import residual as remaining

    identity = named(name)
    proof = identity.proof()
    residual, sides = remaining(proof), [sp.Matrix([side]) for side in proof]
    derived, stated = (sp.latex(side) for side in proof)
    in_a_row = sum(max(sum(len(sp.latex(e)) for e in row) for row in side.tolist()) for side in sides)
    fits = len(derived) + len(stated) <= WIDE or (residual.rows >= 3 and in_a_row <= WIDE_ROWS)
    left, right = (
        rf"\underbrace{{{derived}}}_{{\text{{derived}}}}",
        rf"\underbrace{{{stated}}}_{{\text{{stated}}}}",
    )
    if max(len(derived), len(stated)) > READABLE:
        latex = rf"{identity.correct} \qquad \underbrace{{{sp.latex(residual)}}}_{{\text{{derived}} - \text{{stated}}}}"
    elif not fits:
        latex = rf"\small \begin{{aligned}} & {left} \\ = \; & {right} \end{{aligned}}"
    else:
        latex = rf"{left} \;=\; {right}"
    _publish(
        {
            "text/latex": f"$${latex}$$",
            "text/plain": f"<{identity.name} [{identity.source}]: {identity.claim}>",
        }
    )
    check_true(f"{identity.name} [{identity.source}]", residual.is_zero_matrix)


def subplots(*arguments: Any, **options: Any) -> tuple[Figure, Any]:
    """`matplotlib.pyplot.subplots` in the style of the course; `shown` shows what was drawn."""
    import matplotlib.pyplot as plt

    from hope_ref.teaching.figures import in_house_style

    with in_house_style():
        return plt.subplots(*arguments, **options)


def shown(figure: Figure, *, alt: str, caption: str) -> None:
    """Show a figure that a cell has drawn, with alternative text and its caption under it; close it.

    Args: alt, what is there and what to see, for a reader without the picture, 40 to 250 characters; caption, one sentence.
    Raises: ValueError if the alternative text is too short or too long.
    """
    from hope_ref.teaching.figures import Drawing, in_house_style

    if not 40 <= len(alt) <= 250:
        raise ValueError(f"alt must have 40 to 250 characters, got {len(alt)}")
    with in_house_style():
        show(Drawing("drawn here", figure, alt, caption))


def show(drawing: Drawing) -> None:
    """Show a figure as PNG with its alternative text, and its caption under it; close it."""
    import matplotlib.pyplot as plt

    buffer = io.BytesIO()
    drawing.figure.savefig(buffer, format="png", metadata={"Description": drawing.alt})
    plt.close(drawing.figure)
    # The text/plain part is what nbval compares and what a screen reader without images gets.
    _publish(
        {"image/png": buffer.getvalue(), "text/plain": f"<figure {drawing.name}: {drawing.alt}>"},
        {"image/png": {"alt": drawing.alt}},
    )
    _publish({"text/markdown": f"*{drawing.caption}*", "text/plain": drawing.caption})
