"""Figures to move by hand: one pair written again and again, and where that converges (`interactive("write")`, "stability").

For each: what it measures at one setting, how that is drawn, the same in words, and six settings side by side.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from hope_ref.common.validation import Array
from hope_ref.reference.chunks import frozen_gradients
from hope_ref.reference.delta_gradient_descent import memory_step
from hope_ref.reference.delta_rule import gated_delta_rule
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, VERMILION, figure
from hope_ref.teaching.layout import side_by_side, spread

MARGIN = 1e-9  # a factor this near to 1 or -1 lies on the edge

# --- one write, again and again -----------------------------------------------------------------------------------


class Course(NamedTuple):
    """What one rule makes of one pair."""

    answers: Array  # ⟨M k, v⟩ / ‖v‖² after 0 … n writes from an empty memory, (n + 1,)
    factor: float  # by which one write multiplies the difference of two memories along k
    rest: float  # the answer that a write leaves alone


class Write(NamedTuple):
    """What `write` shows at one setting."""

    courses: dict[str, Course]
    eta: float
    alpha: float


WRITES: dict[str, dict[str, Any]] = {
    "gated delta rule": {},
    "DGD, −⟨M k, v⟩": {"objective": "dot", "rule": "delta_gradient_descent"},
    "DGD, ½‖M k − v‖²": {"objective": "l2", "rule": "delta_gradient_descent"},
}  # DGD: Delta Gradient Descent with an explicit step
SPOKEN = dict(
    zip(
        WRITES,
        (
            "The gated delta rule",
            "Delta Gradient Descent on the dot product",
            "Delta Gradient Descent on half the squared error",
        ),
        strict=True,
    )
)
LOOKS: dict[str, dict[str, Any]] = {
    "gated delta rule": {"color": BLUE, "linestyle": "-", "marker": "o", "linewidth": 3.4, "markersize": 8},
    "DGD, −⟨M k, v⟩": {
        "color": VERMILION,
        "linestyle": "--",
        "marker": "s",
        "linewidth": 1.4,
        "markersize": 4,
    },
    "DGD, ½‖M k − v‖²": {"color": GREEN, "linestyle": "-.", "marker": "^", "linewidth": 1.4, "markersize": 5},
}  # the first two are one curve at α = 1: the thin one lies on the thick one


def write_data(eta: float = 0.5, alpha: float = 1.0, repeats: int = 12) -> Write:
    """Write one pair with a unit key again and again by three rules, from an empty memory and from one that knows it."""
    rng = np.random.default_rng(0)
    key, value = rng.normal(size=8), rng.normal(size=4)
    key /= np.linalg.norm(key)
    k, v = np.tile(key, (repeats, 1)), np.tile(value, (repeats, 1))
    courses = {}
    for name, options in WRITES.items():
        runs = []
        for start in (np.zeros((4, 8)), np.outer(value, key)):  # answers 0 and v
            if options:
                read, _ = frozen_gradients(k, k, v, eta, alpha, start, **options)
            else:
                read, _ = gated_delta_rule(k, k, v, eta, alpha, start)
            runs.append(np.append(value @ start @ key, read @ value) / (value @ value))  # (n + 1,)
        answers, other = runs
        factor = float(other[1] - answers[1])  # the two started 1 apart
        courses[name] = Course(answers, factor, float(answers[1] / (1 - factor)))
    return Write(courses, eta, alpha)


def fate(course: Course) -> str:
    """In words: where the answer of a pair ends that is written again and again."""
    if abs(course.factor) > 1 + MARGIN:
        return "diverges"
    if abs(course.factor) > 1 - MARGIN:
        return "swings for ever"
    return f"comes to rest at {number(course.rest)} of the value"


def number(value: float) -> str:
    """Two decimals, no negative zero, and a minus sign that is read as one."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def write_words(data: Write) -> str:
    """The result in words."""
    parts = [
        f"{SPOKEN[name]}: each write multiplies the distance by {number(course.factor)}; it {fate(course)}."
        for name, course in data.courses.items()
    ]
    return f"η = {data.eta:g}, α = {data.alpha:g}, unit key. " + " ".join(parts)


def draw_write(axes: Axes, data: Write, small: bool = False) -> None:
    """The answer over the writes; on the right, by what each write multiplies the distance, and where it rests."""
    low, high = -0.8, 2.8
    axes.plot([0, 12], [1, 1], color=BLACK, linewidth=1, linestyle=":")
    ends = []
    for name, course in data.courses.items():
        outside = np.flatnonzero((course.answers < low) | (course.answers > high))
        shown = (
            course.answers[: outside[0] + 1] if len(outside) else course.answers
        )  # once out, it stays away
        axes.plot(shown, **LOOKS[name])
        settles = abs(course.factor) < 1 - MARGIN
        ends.append(course.rest if settles else 2.55)
        if settles:
            axes.plot([12.3, 13.1], [course.rest] * 2, color=LOOKS[name]["color"], linewidth=2.4)
    room = 0.36 if small else 0.24
    for place, (name, course) in zip(
        spread(ends, room, low + 0.2, high - 0.1), data.courses.items(), strict=True
    ):
        text = f"× {number(course.factor)}" + ("" if small else f"  {name}")
        axes.text(13.5, place, text, color=LOOKS[name]["color"], va="center", fontsize=9 if small else 10)
    axes.set(xlim=(-0.4, 17.3 if small else 21.5), ylim=(low, high), xticks=range(0, 13, 4), yticks=[0, 1, 2])
    axes.set_title(f"η = {data.eta:g}, α = {data.alpha:g}")
    if not small:
        axes.set(xlabel="writes of the same pair", ylabel="answer / value")


WRITE_SETTINGS = ((0.25, 1.0), (1.0, 1.0), (1.5, 1.0), (0.25, 0.8), (1.0, 0.8), (1.5, 0.8))


@figure(
    "write_by_hand",
    alt="Six panels: the answer to one pair over twelve writes, at three rates, without decay and with "
    "alpha 0.8. The gated rule and DGD on the dot product coincide without decay and part with it; on the "
    "squared error DGD never rests at the value.",
    caption="One number decides each curve, the factor by which a write multiplies the distance from the "
    "resting point: α(1 − η), α − η or α − 2η. With decay the order of erasing and decaying matters, and "
    "only η = 1 in the gated rule still stores the value.",
)
def write_by_hand(data: tuple[Write, ...] | None = None) -> Figure:
    """Six settings of `interactive("write")`."""
    data = data or tuple(write_data(eta, alpha) for eta, alpha in WRITE_SETTINGS)
    picture = side_by_side(draw_write, data, "writes of the same pair", "answer / value", 5.4)
    lines = [Line2D([], [], **looks) for looks in LOOKS.values()]
    picture.legend(lines, list(LOOKS), loc="outside upper center", ncols=3, handlelength=3)
    return picture


# --- where repeated writes converge -------------------------------------------------------------------------------

COUNTS = {"dot": 1, "l2": 2, "l2_without_half": 3}  # how often η̃λ² is taken from α
SPOKEN_LOSSES = {"dot": "dot product", "l2": "half the squared error", "l2_without_half": "squared error"}
LOSSES = {"dot": "−⟨M k, v⟩", "l2": "½‖M k − v‖²", "l2_without_half": "‖M k − v‖²"}
STEP_NAMES = {"explicit": "explicit", "implicit": "implicit", "normalized": "normalised"}


class Region(NamedTuple):
    """What `stability` shows at one setting."""

    etas: Array  # (N,)
    squares: Array  # λ² = ‖k‖², (M,)
    factor: Array  # by which a write multiplies the difference of two memories along k, (M, N)
    step: str
    objective: str
    alpha: float

    def kinds(self) -> Array:
        """0 where repeats diverge, 1 where they converge and change sides at each write, 2 where they do not, (M, N)."""
        return np.where(np.abs(self.factor) >= 1, 0.0, np.where(self.factor < 0, 1.0, 2.0))


@lru_cache(maxsize=32)
def region_data(
    step: str = "explicit", objective: str = "dot", alpha: float = 1.0, points: int = 37
) -> Region:
    """One write of Delta Gradient Descent into two memories that differ along k by 1, for every η and ‖k‖²."""
    etas, squares = (
        np.logspace(-2.03, 2.97, points),
        np.logspace(-2.01, 1.99, points),
    )  # none of them on an edge
    k, value = np.array([0.6, 0.8]), np.ones(2)
    memories = np.stack([np.zeros(2), k])  # one memory per row, and the same value for both
    factor = np.zeros((points, points))
    for row, column in np.ndindex(factor.shape):
        key = np.sqrt(squares[row]) * k
        one, two = memory_step(memories, key, value, etas[column], alpha, objective=objective, step=step)
        factor[row, column] = (two - one) @ k
    return Region(etas, squares, factor, step, objective, alpha)


def edge(step: str, objective: str, alpha: float) -> float:
    """Predicted: repeats diverge from this value on, of ηλ² or, for a normalised step, of η; inf if they never do."""
    most = (1 + alpha) / COUNTS[objective]  # of η̃λ²
    if step != "implicit":
        return most
    return most / (1 - most) if most < 1 else np.inf  # η̃λ² = ηλ² / (1 + ηλ²) stays below 1


def region_words(data: Region) -> str:
    """The result in words."""
    last = edge(data.step, data.objective, data.alpha)
    what = "η" if data.step == "normalized" else "ηλ²"
    says = "diverge nowhere" if np.isinf(last) else f"diverge where {what} is above {last:.3g}"
    kinds = data.kinds()
    shares = [100 * float((kinds == kind).mean()) for kind in (2, 1, 0)]
    return (
        f"{STEP_NAMES[data.step].capitalize()} step, {SPOKEN_LOSSES[data.objective]} as loss, α = {data.alpha:g}: repeated writes {says}. "
        f"Of the map, {shares[0]:.0f} % converge from one side, {shares[1]:.0f} % converge and change sides, "
        f"{shares[2]:.0f} % diverge."
    )


def middle(mask: Array) -> tuple[int, int, float]:
    """Row and column of the cell in a region that has most room for a word, and that room, in cells of height."""
    inside, outside = np.argwhere(mask), np.argwhere(np.pad(~mask.astype(bool), 1, constant_values=True)) - 1
    distance = (np.abs(inside[:, None] - outside[None]) / (1, 3)).max(-1).min(-1)  # words are wide: (cells,)
    best = inside[distance.argmax()]
    return int(best[0]), int(best[1]), float(distance.max())


KINDS = {"diverges": "0.55", "converges, changing sides": "#EDBE85", "converges from one side": "#DCE9F5"}


def region_key(picture: Any) -> None:
    """The three kinds, by their shade."""
    patches = [Patch(facecolor=colour, edgecolor="0.4") for colour in reversed(KINDS.values())]
    picture.legend(patches, list(reversed(KINDS)), loc="outside upper center", ncols=3, fontsize=10)


def draw_region(axes: Axes, data: Region, small: bool = False) -> None:
    """The map with its three kinds named in it, and the predicted edge."""
    kinds = data.kinds()
    colours = ListedColormap(list(KINDS.values()))
    axes.pcolormesh(data.etas, data.squares, kinds, cmap=colours, vmin=0, vmax=2, rasterized=True)
    last = edge(data.step, data.objective, data.alpha)
    if data.step == "normalized":
        axes.axvline(last, color=VERMILION, linestyle="--")
    elif np.isfinite(last):
        axes.plot(last / data.squares, data.squares, color=VERMILION, linestyle="--")
    for kind, name in ((0, "diverges"), (2, "converges")):
        if (kinds == kind).any():
            row, column, room = middle(kinds == kind)
            if room >= 2:
                at = (data.etas[column], data.squares[row])
                axes.text(*at, name, ha="center", va="center", fontsize=9 if small else 11)
    axes.set(xscale="log", yscale="log")
    axes.set(xlim=(data.etas[0], data.etas[-1]), ylim=(data.squares[0], data.squares[-1]))
    axes.set_xticks([0.01, 1, 100], ["0.01", "1", "100"])
    axes.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.grid(False)
    title = f"{STEP_NAMES[data.step]}, {LOSSES[data.objective]}, α = {data.alpha:g}"
    axes.set_title(title, fontsize=10 if small else 12)
    if not small:
        axes.set(xlabel="learning rate η", ylabel="squared norm of the key λ²")
        region_key(axes.figure)


REGION_SETTINGS = tuple(
    (step, objective, alpha)
    for objective, alpha in (("dot", 1.0), ("l2", 0.8))
    for step in ("explicit", "implicit", "normalized")
)


@figure(
    "stability_by_hand",
    alt="Six maps over learning rate and squared key norm: three kinds of step, two losses. Explicit steps "
    "diverge above a slanted line, normalised ones right of a vertical line; implicit ones nowhere in the "
    "upper row, in one corner of the lower.",
    caption="An explicit step depends on the key, a normalised one on η alone. The implicit step is stable "
    "for every η as long as the target output does not depend on the memory; below it does, and α < 1 opens "
    "a corner in which it diverges.",
)
def stability_by_hand(data: tuple[Region, ...] | None = None) -> Figure:
    """Six settings of `interactive("stability")`."""
    data = data or tuple(region_data(*setting) for setting in REGION_SETTINGS)
    picture = side_by_side(draw_region, data, "learning rate η", "squared norm λ²", 5.8)
    region_key(picture)
    return picture
