"""The agreement matrix as a figure: how far the three floors are apart, component by component."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref import agreement
from hope_ref.agreement import Row
from hope_ref.agreement.comparison import GRADIENT_BOUND
from hope_ref.teaching.figures import BLUE, ORANGE, VERMILION, figure

LEAST = 1e-17  # where an error of exactly 0 is drawn


def agreement_data() -> tuple[Row, ...]:
    """Every row of the matrix, at one random point each; the CPU alone, so that the picture is the same everywhere."""
    return tuple(agreement.compare(component, seeds=1, prove=False) for component in agreement.components())


@figure(
    "agreement",
    alt="Dot plot, a row per component from linear attention to HOPE, relative error on a logarithmic axis. "
    "Values, SymPy against NumPy and NumPy against PyTorch, stay far left of their bound of 1e-10; "
    "derivatives stay left of theirs of 1e-7.",
    caption="Each mark is the relative error between two layers, in float64: every value stays left of the "
    "solid bound, every derivative left of the dashed one, which is as fine as central differences resolve.",
)
def matrix(rows: Sequence[Row] | None = None) -> Figure:
    """One line per component; marks for values and derivatives, lines for the bounds."""
    rows = tuple(rows or agreement_data())
    picture, axes = plt.subplots(figsize=(8.5, 0.24 * len(rows) + 1.6))
    series = (
        ("SymPy and NumPy", "o", BLUE, [row.symbolic_error for row in rows]),
        ("NumPy and PyTorch", "s", ORANGE, [row.parallel_errors["cpu"] for row in rows]),
        ("derivatives", "^", VERMILION, [row.gradient_errors["cpu"] for row in rows]),
    )
    for name, marker, colour, errors in series:
        points = [(max(error, LEAST), -at) for at, error in enumerate(errors) if error is not None]
        axes.plot(*zip(*points, strict=True), marker, color=colour, label=name, clip_on=False)
    axes.axvline(agreement.BOUND, color="0.3")
    axes.axvline(GRADIENT_BOUND, color="0.3", linestyle="--")
    axes.set_xscale("log")
    axes.set_xlim(LEAST / 2, 1e-5)
    axes.set_ylim(-len(rows) + 0.4, 0.6)
    axes.set_yticks([-at for at in range(len(rows))], [row.name for row in rows], fontsize=8)
    axes.set_xlabel("relative error (0 at the left end)")
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9)
    axes.text(agreement.BOUND, -len(rows) + 0.7, " bound of values", fontsize=8, color="0.3")
    axes.text(GRADIENT_BOUND, 0.1 - len(rows) / 2, " bound of\n derivatives", fontsize=8, color="0.3")
    return picture
