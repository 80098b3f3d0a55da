"""The figure of notebook 00: the ladder of the course."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.teaching.figures import BLUE, figure

LANES = {
    "loss": 3.7,
    "optimiser": 5.25,
    "context": 7.36,
    "frequency": 9.55,
}  # where each choice stands in the ladder
RAILS = (-0.08, 3.4)


class Rung(NamedTuple):
    """One step of the course: a model, and the choice that is new in it."""

    notebook: str  # its number
    name: str
    changes: dict[str, str]  # choice -> its new setting, a word or two
    joins: tuple[str, ...] = ()  # the two rungs that this one puts together


def ladder_data() -> tuple[Rung, ...]:
    """The rungs from the bottom up: the first makes all four choices, each later one brings a new one, HOPE joins two rungs."""
    start = {
        "loss": "−⟨M k, v⟩",
        "optimiser": "a gradient step",
        "context": "keys and values",
        "frequency": "every token",
    }
    return (
        Rung("01", "linear attention", start),
        Rung("02", "delta rule", {"loss": "½‖M k − v‖²"}),
        Rung("03", "gradient descent", {"context": "inputs and surprises"}),
        Rung("04", "Delta Gradient Descent", {"loss": "½‖W x − u‖²"}),
        Rung("05", "momentum", {"optimiser": "keeps its gradients"}),
        Rung("06", "Titans", {"context": "tokens, in an MLP"}),
        Rung("07", "chunks", {"frequency": "once per chunk"}),
        Rung("08", "continuum memory", {"frequency": "one per level"}),
        Rung("09", "M3", {"optimiser": "has two clocks"}),
        Rung("10", "self-modifying Titans", {"context": "targets of its own"}),
        Rung("11", "HOPE", dict.fromkeys(LANES, ""), ("10", "08")),
    )


@figure(
    "ladder",
    alt="A ladder of eleven rungs, linear attention at the bottom, HOPE at the top. Each brings one new choice: 02 and 04 the "
    "loss, 05 and 09 the optimiser, 03, 06 and 10 the context, 07 and 08 the frequency; HOPE joins 10 with 08.",
    caption="Read it from the bottom up: each rung is a notebook and brings one new choice, marked in its lane.",
)
def ladder(rungs: tuple[Rung, ...] | None = None) -> Figure:
    """The rungs, and the way up through four lanes."""
    rungs = rungs or ladder_data()
    picture, axes = plt.subplots(figsize=(7.5, 5.9))
    top = len(rungs)
    for x in RAILS:
        axes.plot([x, x], [-0.5, top - 0.4], color="0.35", linewidth=4, solid_capstyle="round", zorder=1)
    for choice, x in LANES.items():
        axes.plot([x, x], [-0.5, top - 0.5], color="0.75", linewidth=1, linestyle=":", zorder=1)
        axes.text(x - 0.08, top - 0.2, choice, fontsize=11, fontweight="bold")
    axes.text(RAILS[0], top - 0.2, "each rung, one new choice", fontsize=10, style="italic", color="0.35")
    axes.plot(*_way_up(rungs).T, color=BLUE, linewidth=1.6, alpha=0.6, zorder=2)
    for height, rung in enumerate(rungs):
        _draw_rung(axes, height, rung)
    axes.set(xlim=(-0.25, 11.5), ylim=(-0.55, top + 0.25))
    axes.set_axis_off()
    return picture


def _way_up(rungs: tuple[Rung, ...]) -> Array:
    """The corners of a line through the markers that turns half way between the rungs, where no words are."""
    stops = [LANES[next(iter(rung.changes))] for rung in rungs[:-1]]
    stops.append(stops[-1])  # the last rung is reached from the one below it
    corners = [(stops[0], 0.0)]
    for height, (x, following) in enumerate(pairwise(stops)):
        corners += [(x, height + 0.5), (following, height + 0.5), (following, height + 1.0)]
    return np.array(corners)


def _draw_rung(axes: Any, height: int, rung: Rung) -> None:
    """One rung with its name, and a marker with words in the lane of each choice that it changes."""
    ink, face, weight = "black", BLUE, "bold"
    axes.plot(RAILS, [height - 0.38] * 2, color="0.35", linewidth=2.2, zorder=1)
    axes.text(0.05, height, rung.notebook, va="center", fontsize=10, color=ink)
    axes.text(0.48, height, rung.name, va="center", fontsize=9.5, color=ink, fontweight=weight)
    for choice, setting in rung.changes.items():
        marker = {"color": BLUE, "markerfacecolor": face, "markersize": 8.5, "markeredgewidth": 1.6}
        axes.plot(LANES[choice], height, marker="o", zorder=4, **marker)
        axes.text(LANES[choice] + 0.2, height, setting, va="center", fontsize=9, color=ink)
    if rung.joins:  # the line across all lanes, and the second of the two rungs that come together here
        axes.plot(
            [min(LANES.values()), max(LANES.values())], [height] * 2, color=BLUE, linewidth=1.6, zorder=2
        )
        axes.text(
            LANES["frequency"] + 0.2, height, " + ".join(rung.joins), va="center", fontsize=9, color=ink
        )
        below = [LANES["frequency"], LANES["frequency"]], [int(min(rung.joins)) - 1, height]
        axes.plot(*below, color=BLUE, linewidth=1.6, alpha=0.6, zorder=2)
