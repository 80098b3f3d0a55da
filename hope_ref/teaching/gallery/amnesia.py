"""What an emptied attention forgets, and what a continuum memory keeps if it may start where training put it. [D]"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hope_ref.experiments.amnesia import Row
from hope_ref.tasks.languages import CHANCE
from hope_ref.teaching.figures import BLACK, BLUE, ORANGE, figure

LABELS = (
    "full attention,\nboth lessons in its context",
    "the same, context emptied\nafter each lesson",
    "the same, and its levels\nlearn while it reads",
    "context emptied, level learns,\ntrained through its updates",
    "the same, level starting\nanew at random",
    "the same,\nthe level held still",
)  # of the rows of `hope_ref.experiments.amnesia.table`


def measured() -> list[Row]:
    """The table of the shipped models, by a seed that neither has seen."""
    from hope_ref.experiments import SHIPPED
    from hope_ref.experiments import amnesia as experiment
    from hope_ref.parallel.hope import Hope

    model, ordinary = (Hope.load(SHIPPED / name) for name in ("learned", "ordinary"))
    return experiment.table(model, ordinary, 2026)


@figure(
    "amnesia",
    alt="Six pairs of bars, the share of words right in a first and a second dictionary. With its context "
    "emptied an ordinary model falls to chance, or stays below 25 if it learns; a level trained through its "
    "updates keeps both, held still neither.",
    caption="Emptying the context loses everything; a level in a model trained through its updates keeps "
    "both lessons.",
)
def amnesia(rows: Sequence[Row] | None = None) -> Figure:
    """Bars of both dictionaries for every situation of the table, beside chance."""
    rows = measured() if rows is None else rows
    picture, axes = plt.subplots(figsize=(7.4, 4.2))
    for place, row in enumerate(rows):
        for part, (value, colour, hatch) in enumerate(
            zip(row.right, (BLUE, ORANGE), ("", "//"), strict=True)
        ):
            y = place + 0.38 * part - 0.19
            axes.barh(y, value, 0.36, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4)
            axes.text(value + 1.2, y, f"{value:.0f}", va="center", fontsize=8)
    guess = axes.axvline(100 * CHANCE, color=BLACK, linestyle=":", linewidth=1, label="a blind guess")
    patches = [
        Patch(facecolor=BLUE, label="first dictionary"),
        Patch(facecolor=ORANGE, hatch="//", edgecolor="white", label="second dictionary"),
    ]
    axes.set_yticks(range(len(LABELS)), LABELS, fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.set_xlabel("words right, %")
    axes.legend(handles=[*patches, guess], loc="center right", bbox_to_anchor=(0.98, 0.6), fontsize=8.5)
    return picture
