"""Figures of notebook 04: where the implicit step lands, when it is stable, what it forgets, where it comes to rest."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.reference.delta_gradient_descent import delta_gradient_descent_step, frozen_chunk, memory_step
from hope_ref.reference.gradient_descent import gradient_descent_step
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, VERMILION, figure


class ImplicitPath(NamedTuple):
    """What figure ``implicit_path`` shows: one row of W as a point, and where one step takes it for growing η."""

    start: Array  # W_t, (2,)
    x: Array  # (2,)
    u: float  # the wanted output
    etas: Array  # (N,)
    plain: Array  # end points of gradient descent, (N, 2)
    implicit: Array  # end points of Delta Gradient Descent, (N, 2)


def implicit_path_data() -> ImplicitPath:
    """A weight of one row and two columns; W x = u is a line in its plane."""
    start, x, u = np.array([-1.0, -0.5]), np.array([1.0, 0.5]), 1.0
    etas = np.array([0.2, 0.5, 1.0, 2.0, 8.0])
    grad_y = np.array([-u])
    plain = [gradient_descent_step(start[None], x, grad_y, eta)[0] for eta in etas]
    implicit = [delta_gradient_descent_step(start[None], x, grad_y, eta)[0] for eta in etas]
    return ImplicitPath(start, x, u, etas, np.array(plain), np.array(implicit))


@figure(
    "implicit_path",
    alt="Plane of a weight with two entries, a point W_t below a slanted line on which W x equals u. Both "
    "rules move it along x: gradient descent in proportion to eta, past the line at eta 2; Delta Gradient "
    "Descent ends just short of it at eta 8.",
    caption="Both steps go along x. Gradient descent goes as far as η says; Delta Gradient Descent stops "
    "before the line W x = u, however large η is.",
)
def implicit_path(data: ImplicitPath | None = None) -> Figure:
    """End points of one step for five learning rates, drawn side by side along x."""
    data = data or implicit_path_data()
    picture, axes = plt.subplots(figsize=(6.6, 4.3))
    across = np.array([-data.x[1], data.x[0]]) / np.linalg.norm(data.x)
    slant = float(np.degrees(np.arctan2(data.x[1], data.x[0])))
    foot = data.u * data.x / (data.x @ data.x)
    axes.plot(*(foot + np.array([[-2.2], [2.2]]) * across).T, color=BLACK, linewidth=1.6)
    at = foot - 1.15 * across
    axes.text(at[0] + 0.08, at[1], "W x = u", va="center")
    lanes = (
        (data.implicit, 0.1, BLUE, "o", "Delta Gradient Descent", (0.2, 1.0, 8.0)),
        (data.plain[:-1], -0.1, VERMILION, "s", "gradient descent", (0.5, 1.0, 2.0)),
    )
    for ends, shift, colour, marker, name, labelled in lanes:
        side = np.sign(shift) * across
        lane = np.vstack([data.start, ends]) + shift * across
        axes.plot(*lane.T, color=colour, linewidth=1.2, marker=marker, markevery=range(1, len(lane)))
        for eta, end in zip(data.etas, lane[1:], strict=False):
            if eta in labelled:
                at = end + 0.16 * side
                axes.text(
                    at[0],
                    at[1],
                    f"η = {eta:g}",
                    color=colour,
                    ha="center",
                    va="center",
                    fontsize=9,
                    rotation=slant,
                )
        at = data.start + 0.6 * data.x + 0.55 * side
        axes.text(at[0], at[1], name, color=colour, ha="center", va="center", rotation=slant)
    tip = data.plain[-2] - 0.1 * across
    axes.annotate(
        "", tip + 0.5 * data.x, tip, arrowprops={"arrowstyle": "->", "color": VERMILION, "linewidth": 1.2}
    )
    at = tip + 0.62 * data.x
    axes.text(at[0], at[1], "η = 8", color=VERMILION, fontsize=9, rotation=slant, ha="center", va="center")
    axes.plot(*data.start, color=BLACK, marker="D")
    axes.text(data.start[0] - 0.12, data.start[1], "$W_t$", ha="right", va="center")
    axes.set(xlabel="first entry of W", ylabel="second entry of W", aspect="equal")
    axes.set(xlim=(-1.6, 2.3), ylim=(-1.1, 1.45))
    axes.set_title("One step, for growing learning rates")
    return picture


class StabilityRegions(NamedTuple):
    """What figure ``stability_regions`` shows: for each rule, where repeats of one input converge."""

    etas: Array  # (N,)
    squares: Array  # λ², (M,)
    converges: dict[str, Array]  # rule -> (M, N), 1 where two memories came nearer to each other, else 0


def conference_step(w: Array, x: Array, grad_y: Array, eta: float) -> Array:
    """W (I - x xᵀ) - η ∇_y L xᵀ, as the short version of the paper prints it [P20 28-29]."""
    return w @ (np.eye(len(x)) - np.outer(x, x)) - eta * np.outer(grad_y, x)


def explicit_regression_step(w: Array, x: Array, grad_y: Array, eta: float) -> Array:
    """One plain gradient step on ½‖W x - u‖² with u = -∇_y L: W (I - η x xᵀ) - η ∇_y L xᵀ."""
    return w @ (np.eye(len(x)) - eta * np.outer(x, x)) - eta * np.outer(grad_y, x)


RULES = {
    "explicit step": explicit_regression_step,
    "short version, as printed": conference_step,
    "Delta Gradient Descent": delta_gradient_descent_step,
}


@lru_cache(maxsize=1)
def stability_regions_data(points: int = 37, repeats: int = 6) -> StabilityRegions:
    """Run each rule on one input with a fixed target from two weights; stable where the two come nearer to each other."""
    etas, squares = np.logspace(-3, 6, points), np.logspace(-2.02, 1.98, points)  # none of them on an edge
    x, grad_y = np.array([0.6, 0.8]), np.array([-1.0])
    converges = {}
    for name, rule in RULES.items():
        grid = np.zeros((points, points))
        for row, square in enumerate(squares):
            key = np.sqrt(square) * x
            for column, eta in enumerate(etas):
                one, two = np.zeros((1, 2)), x[None]  # they differ along x by 1
                for _ in range(repeats):
                    one, two = rule(one, key, grad_y, eta), rule(two, key, grad_y, eta)
                grid[row, column] = np.linalg.norm((two - one) @ x) < 1
        converges[name] = grid
    return StabilityRegions(etas, squares, converges)


@figure(
    "stability_regions",
    alt="Three maps over learning rate and squared input norm, log axes: converging light, diverging dark. "
    "The explicit step is stable below a falling line, the short paper's printed form below norm squared 2, "
    "Delta Gradient Descent everywhere.",
    caption="Measured on one repeated input with a fixed target (light: the memory converges, dark: it diverges); the "
    "dashed edges are predictions. Only the exact step has no edge.",
)
def stability_regions(data: StabilityRegions | None = None) -> Figure:
    """Three maps with the predicted edge."""
    data = data or stability_regions_data()
    picture, panels = plt.subplots(1, 3, figsize=(9.2, 3.5), sharey=True)
    colours = ListedColormap(["0.70", "#DCE9F5"])
    for axes, (name, grid) in zip(panels, data.converges.items(), strict=True):
        axes.pcolormesh(data.etas, data.squares, grid, cmap=colours, vmin=0, vmax=1, rasterized=True)
        axes.set(xscale="log", yscale="log", xlabel="learning rate η", title=name)
        axes.set(xlim=(data.etas[0], data.etas[-1]), ylim=(data.squares[0], data.squares[-1]))
        axes.set_xticks([1e-3, 1, 1e3, 1e6])
        axes.grid(False)
    explicit, printed, implicit = panels
    explicit.plot(2 / data.squares, data.squares, color=VERMILION, linestyle="--")
    explicit.text(1e4, 6, "diverges", ha="center")
    explicit.text(3e-2, 0.06, "stable", ha="center")
    explicit.text(7, 0.5, "ηλ² = 2", color=BLACK)
    printed.axhline(2, color=VERMILION, linestyle="--")
    printed.text(30, 14, "diverges", ha="center")
    printed.text(30, 0.1, "stable, but rests at\nW x = ηu, not u", ha="center", va="center")
    printed.text(6e5, 2.3, "λ² = 2", va="bottom", ha="right")
    implicit.text(30, 1, "stable for every\nη and every input", ha="center", va="center")
    explicit.set_ylabel("squared norm of the input λ²")
    return picture


class Forgetting(NamedTuple):
    """What figure ``forgetting`` shows: steps with nothing to write, on one input again and again and on ever new ones."""

    steps: Array  # 0 … n
    decay: Array  # ‖x xᵀ‖, the thing said to grow, (n + 1,)
    residual: Array  # ‖W x‖ for the repeated input, relative to its start, (n + 1,)
    removed: Array  # ‖ΔW‖ of each step on the repeated input, relative to the first, (n,)
    kept_repeated: Array  # ‖W‖² relative to its start
    kept_diverse: Array
    eta: float
    width: int


def forgetting_data(width: int = 16, eta: float = 1.0) -> Forgetting:
    """Unit inputs, zero gradients, W_0 orthogonal: every change of W is forgetting."""
    rng = np.random.default_rng(0)
    basis, start = (np.linalg.qr(rng.normal(size=(width, width)))[0] for _ in range(2))
    zero, streams = np.zeros(width), {}
    for name, inputs in (("repeated", np.tile(basis[0], (width, 1))), ("diverse", basis)):
        weights = [start]
        for x in inputs:
            weights.append(delta_gradient_descent_step(weights[-1], x, zero, eta))
        streams[name] = np.array(weights)
    repeated = streams["repeated"]
    kept = {name: (weights**2).sum((1, 2)) / width for name, weights in streams.items()}
    removed = np.linalg.norm(np.diff(repeated, axis=0), axis=(1, 2))
    return Forgetting(
        np.arange(width + 1.0),
        np.full(width + 1, np.linalg.norm(np.outer(basis[0], basis[0]), 2)),
        np.linalg.norm(repeated @ basis[0], axis=1),
        removed / removed[0],
        kept["repeated"],
        kept["diverse"],
        eta,
        width,
    )


@figure(
    "forgetting",
    alt="Left, one unit input repeated 16 times: the norm of x x transposed stays 1, the residual along x "
    "halves each time. Right, bars of how much of W is left: 94 percent after a repeated input, 25 percent "
    "after 16 orthogonal ones.",
    caption="Repeating an input does not make x xᵀ larger and forgets less and less; it is diverse inputs "
    "that wear down the whole memory.",
)
def forgetting(data: Forgetting | None = None) -> Figure:
    """Left: what grows and what shrinks under repeats. Right: what is left of W."""
    data = data or forgetting_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.5))
    left.plot(data.steps, data.decay, color=BLACK, linestyle="--", marker="D", markevery=4)
    left.plot(data.steps, data.residual, color=BLUE, marker="o")
    left.text(8, 0.93, "‖x xᵀ‖: never grows", va="top")
    left.text(3.1, 0.16, "‖W x‖: × 1/(1 + η)\nat each repeat", color=BLUE, va="bottom")
    left.set(xlabel="repeats of one input", ylabel="relative to the start", ylim=(-0.03, 1.08))
    left.set_title("One input, again and again")
    for axes in (left, right):
        axes.set_xticks(range(0, data.width + 1, 4))
    right.plot(data.steps, data.kept_repeated, color=BLUE, marker="o")
    right.plot(data.steps, data.kept_diverse, color=VERMILION, marker="s", linestyle="-.")
    right.text(16, 0.9, "the same input", color=BLUE, ha="right", va="top")
    right.text(5.6, 0.62, "a new input\nevery time", color=VERMILION, ha="right", va="top")
    right.set(xlabel=f"inputs seen (d = {data.width})", ylabel="share of ‖W‖² left", ylim=(-0.03, 1.08))
    right.set_title("What is left of the memory")
    return picture


class FixedPoints(NamedTuple):
    """What figure ``fixed_points`` shows: the answer along v while one pair is written again and again."""

    repeats: Array
    answers: dict[str, Array]  # objective -> ⟨M k, v⟩/‖v‖²
    eta: float


def fixed_points_data(eta: float = 0.3, repeats: int = 12) -> FixedPoints:
    """One pair with a unit key, from an empty memory, explicit steps, three losses inside Delta Gradient Descent."""
    rng = np.random.default_rng(1)
    k, v = rng.normal(size=8), rng.normal(size=4)
    k /= np.linalg.norm(k)
    answers = {}
    for objective in ("dot", "l2", "l2_without_half"):
        memory, course = np.zeros((4, 8)), [0.0]
        for _ in range(repeats):
            memory = memory_step(memory, k, v, eta, objective=objective)
            course.append(float(v @ memory @ k / (v @ v)))
        answers[objective] = np.array(course)
    return FixedPoints(np.arange(repeats + 1.0), answers, eta)


@figure(
    "fixed_points",
    alt="A memory's answer as a share of the target over twelve repeats of one pair at eta 0.3. With the "
    "dot product it climbs to 1; with half the squared error it stops at one half, with the full squared "
    "error at two thirds.",
    caption="The better-looking loss remembers worse: inside Delta Gradient Descent the regression loss forgets twice, and "
    "stops at half the value.",
)
def fixed_points(data: FixedPoints | None = None) -> Figure:
    """Three courses and the level that each rests at."""
    data = data or fixed_points_data()
    picture, axes = plt.subplots(figsize=(7.0, 3.8))
    styles = {
        "dot": (BLUE, "o", "-", 1.0, "dot product: v"),
        "l2_without_half": (GREEN, "^", "-.", 2 / 3, "‖M k − v‖²: ⅔ v"),
        "l2": (VERMILION, "s", "--", 0.5, "½‖M k − v‖²: ½ v"),
    }
    for objective, (colour, marker, line, level, label) in styles.items():
        axes.hlines(level, 0, data.repeats[-1], color="0.7", linewidth=1, zorder=1)
        axes.plot(data.repeats, data.answers[objective], color=colour, marker=marker, linestyle=line)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # over the grid line
        axes.text(data.repeats[-1] + 0.4, level, label, color=colour, va="center", bbox=box)
    axes.set(xlabel="repeats of the pair", ylabel="answer ⟨M k, v⟩ / ‖v‖²", xlim=(-0.3, data.repeats[-1] + 4))
    axes.set(ylim=(-0.03, 1.1), xticks=data.repeats[::2])
    axes.set_title(f"Where the memory comes to rest (η = {data.eta:g})")
    return picture


class FrozenChunks(NamedTuple):
    """What figure ``frozen_chunks`` shows: how a chunk of C repeats multiplies the distance from the resting point."""

    counts: Array  # C
    delta: Array  # measured, Delta Gradient Descent on ½‖·‖²
    plain: Array  # measured, gradient descent on it
    eta: float


def frozen_chunks_data(eta: float = 0.3, longest: int = 16) -> FrozenChunks:
    """One pair with a unit key; the gradient is taken once, at the chunk's start. The factor is measured from two memories."""
    rng = np.random.default_rng(2)
    k, v = rng.normal(size=8), rng.normal(size=4)
    k /= np.linalg.norm(k)
    one, two = rng.normal(size=(2, 4, 8))
    before = (one - two) @ k
    factors: dict[str, list[float]] = {}
    for rule in ("delta_gradient_descent", "gradient_descent"):
        factors[rule] = []
        for count in range(1, longest + 1):
            after = [frozen_chunk(memory, k, v, eta, count, rule=rule) @ k for memory in (one, two)]
            factors[rule].append(float((after[0] - after[1]) @ before / (before @ before)))
    delta, plain = (np.array(factors[rule]) for rule in factors)
    return FrozenChunks(np.arange(1.0, longest + 1), delta, plain, eta)


@figure(
    "frozen_chunks",
    alt="The factor that a chunk puts on the distance from rest, against repeats in the chunk, eta 0.3. "
    "Plain gradient descent falls in a straight line and leaves the stable band at 7 repeats; Delta "
    "Gradient Descent bends toward -1 and never leaves.",
    caption="With the gradient frozen for a whole chunk, plain gradient descent diverges once C η > 2; the "
    "erase term, which is not frozen, keeps Delta Gradient Descent inside the stable band.",
)
def frozen_chunks(data: FrozenChunks | None = None) -> Figure:
    """Measured factors, the two formulas, and the stable band."""
    data = data or frozen_chunks_data()
    picture, axes = plt.subplots(figsize=(7.0, 3.8))
    axes.axhspan(-1, 1, color="0.92", zorder=0)
    axes.text(16.2, 0.9, "stable: between −1 and 1", color="0.35", ha="right", va="top")
    smooth = np.linspace(1, data.counts[-1], 100)
    axes.plot(smooth, 2 * (1 - data.eta) ** smooth - 1, color=BLUE, linewidth=1.2)
    axes.plot(smooth, 1 - smooth * data.eta, color=VERMILION, linewidth=1.2, linestyle="--")
    axes.plot(data.counts, data.delta, color=BLUE, marker="o", linestyle="none")
    axes.plot(data.counts, data.plain, color=VERMILION, marker="s", linestyle="none")
    axes.text(16.2, -0.72, "Delta Gradient Descent: 2(1 − η)$^C$ − 1", color=BLUE, ha="right", va="bottom")
    axes.text(9.6, -2.3, "gradient descent: 1 − $C$η", color=VERMILION, ha="right")
    axes.set(xlabel="repeats C in one chunk", ylabel="factor per chunk", xlim=(0.5, 16.6), ylim=(-4.1, 1.25))
    axes.set_xticks([1, 4, 8, 12, 16])
    axes.set_title(f"A frozen gradient, ½‖M k − v‖², η = {data.eta:g}")
    return picture
