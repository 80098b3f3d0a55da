"""Figures of notebook 03: a step as the bottom of a parabola, an update as a sum of surprises, and who writes the values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.reference.gradient_descent import proximal_objective, train_linear
from hope_ref.reference.linear_attention import linear_attention
from hope_ref.teaching.figures import BLACK, BLUE, VERMILION, figure


class ProximalStep(NamedTuple):
    """What figure ``proximal_step`` shows, for one weight, W_t = 0, loss ½(w - 2)²."""

    w: Array  # (P,)
    loss: Array  # (P,)
    objective: Array  # loss at W_t plus [S 8], (P,)
    printed: Array  # the same with u = -∇_y L in the place of the gradient, [S 16], (P,)
    step: float  # where gradient descent goes


def proximal_step_data(eta: float = 0.4) -> ProximalStep:
    """The loss, and the two objectives, drawn through the loss at the present weight."""
    w = np.linspace(-1.6, 2.6, 421)
    one, start, target = np.ones(1), np.zeros((1, 1)), 2.0
    grad_y = start[0] - target  # of ½(w x - target)² at x = 1
    here = 0.5 * target**2
    objective = [here + proximal_objective([[value]], start, one, grad_y, eta) for value in w]
    printed = [here + proximal_objective([[value]], start, one, -grad_y, eta) for value in w]
    return ProximalStep(
        w, 0.5 * (w - target) ** 2, np.array(objective), np.array(printed), float(-eta * grad_y[0])
    )


@figure(
    "proximal_step",
    alt="A falling loss over one weight and two parabolas through its present value at zero. The one of "
    "linearised loss plus cost of moving has its lowest point at 0.8, downhill; with the printed sign it is "
    "mirrored, with its lowest point uphill at -0.8.",
    caption="A gradient step goes to the bottom of a parabola that touches the loss at Wₜ; with the sign as printed in [S 16] "
    "the bottom lies on the other side, uphill.",
)
def proximal_step(data: ProximalStep | None = None) -> Figure:
    """The objective of one gradient step, and its printed mirror image."""
    data = data or proximal_step_data()
    picture, axes = plt.subplots()
    axes.plot(data.w, data.loss, color=BLACK, linewidth=1.6)
    axes.plot(data.w, data.objective, color=BLUE)
    axes.plot(data.w, data.printed, color=VERMILION, linestyle="--")
    for curve, where, marker, color in (
        (data.objective, data.step, "o", BLUE),
        (data.printed, -data.step, "s", VERMILION),
    ):
        bottom, on_loss = (float(np.interp(where, data.w, c)) for c in (curve, data.loss))
        axes.plot([where, where], [bottom, on_loss], color=color, linestyle=":", linewidth=1.4)
        axes.plot([where], [bottom], color=color, marker=marker, markersize=8)
        axes.plot([where], [on_loss], color=color, marker=marker, markersize=8, fillstyle="none")
    axes.plot([0], [data.loss[np.argmin(np.abs(data.w))]], color=BLACK, marker="D")
    axes.text(0.25, 2.0, "Wₜ", color=BLACK, va="center")
    axes.text(1.95, 0.2, "the loss", color=BLACK, va="bottom", ha="center")
    axes.text(2.3, 2.9, "⟨W x, ∇⟩ + ‖W − Wₜ‖²/2η\nbottom: Wₜ − η ∇ xᵀ", color=BLUE, va="top")
    axes.text(-1.56, 0.85, "sign as printed,\nbottom: Wₜ + η ∇ xᵀ", color=VERMILION, va="top")
    axes.set(xlabel="weight W", ylabel="loss, and objective of the step", ylim=(-0.35, 6), xlim=(-1.6, 4.0))
    axes.set_title("One gradient step, seen as a minimisation")
    return picture


class SumOfSurprises(NamedTuple):
    """What figure ``sum_of_surprises`` shows: three writes and their sum, self-written and given."""

    learned: Array  # η v_t x_tᵀ of gradient descent, (3, d_out, d_in)
    update: Array  # W_3 - W_0, (d_out, d_in)
    given: Array  # η target_t x_tᵀ, what linear attention writes, (3, d_out, d_in)
    memory: Array  # their sum as linear attention's memory holds it, (d_out, d_in)


def sum_of_surprises_data() -> SumOfSurprises:
    """Three samples, the third a repetition of the first; η‖x‖² = 0.6 of an error is corrected at each visit."""
    inputs = np.array([[0.8, 0.6, 0], [0, 0.28, 0.96], [0.8, 0.6, 0]])
    targets = np.array([[2.0, -1.0, 1.0], [0.5, 1.0, -1.0], [2.0, -1.0, 1.0]])
    eta, start = 0.6, np.zeros((3, 3))
    final, surprises = train_linear(start, inputs, targets, eta)
    _, memory = linear_attention(inputs, inputs, eta * targets)
    return SumOfSurprises(
        eta * np.einsum("ti,tj->tij", surprises, inputs),
        final - start,
        eta * np.einsum("ti,tj->tij", targets, inputs),
        memory,
    )


@figure(
    "sum_of_surprises",
    alt="Two rows of four small matrices, three writes and their sum; sample 3 repeats sample 1. With "
    "gradient descent the third write is a weak copy of the first, with linear attention it is the first "
    "again and the sum holds it twice.",
    caption="Both memories are sums of outer products; sample 3 repeats sample 1, and only gradient descent notices that it has "
    "seen it before.",
)
def sum_of_surprises(data: SumOfSurprises | None = None) -> Figure:
    """Three writes and their sum, for gradient descent and for linear attention."""
    data = data or sum_of_surprises_data()
    picture, axes = plt.subplots(2, 4, figsize=(8.2, 4.6))
    rows = ((data.learned, data.update, "v", "W₃ − W₀"), (data.given, data.memory, "y", "M₃ − M₀"))
    for row, (writes, total, letter, name) in zip(axes, rows, strict=True):
        titles = [f"η {letter}₁ x₁ᵀ", f"+  η {letter}₂ x₂ᵀ", f"+  η {letter}₃ x₁ᵀ  (again)", f"=  {name}"]
        for axis, matrix, title in zip(row, [*writes, total], titles, strict=True):
            heat_map(axis, matrix)
            axis.set_title(title)
    axes[0, 0].set_ylabel("gradient descent:\nits surprises v")
    axes[1, 0].set_ylabel("linear attention:\ngiven values y")
    for axis in axes[1]:
        axis.set_xlabel("input index")
    return picture


def heat_map(axis: Any, matrix: Array) -> None:
    """A small matrix with its numbers written in, so that it reads in greyscale and aloud."""
    axis.imshow(matrix, cmap="cividis", vmin=-0.9, vmax=1.7)
    for (i, j), value in np.ndenumerate(matrix):
        dark = value < 0.4
        text = "0" if abs(value) < 5e-3 else f"{value:.2f}"
        axis.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


def inputs_with_overlap(count: int, width: int, overlap: float, rng: np.random.Generator) -> Array:
    """Unit vectors, one per row, whose pairwise products are ``overlap`` on average: a shared direction, and the rest random."""
    own = rng.normal(size=(count, width))
    shared = rng.normal(size=width)
    rows = np.sqrt(1 - overlap) * own / np.linalg.norm(own, axis=1, keepdims=True)
    rows = rows + np.sqrt(overlap) * shared / np.linalg.norm(shared)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)  # (count, width)


def recall_error(inputs: Array, values: Array) -> Array:
    """Ask Σ_s v_s x_sᵀ for v_0 with x_0 after each write: relative error after 0, 1, … later writes, unit inputs, (N,)."""
    answers = np.cumsum(values * (inputs @ inputs[0])[:, None], axis=0)  # (N, d_out)
    return np.linalg.norm(answers - values[0], axis=1) / np.linalg.norm(values[0])


class StoredSurprise(NamedTuple):
    """What figure ``stored_surprise`` shows: root mean squared relative error of the recalled first value."""

    later: Array  # number of later writes, (N,)
    descent: dict[float, Array]  # overlap -> error for surprises, (N,)
    attention: dict[float, Array]  # overlap -> error for given values, (N,)
    orthogonal: Array  # error with orthogonal inputs, as many as there are, (d_in,)
    width: int


@lru_cache(maxsize=1)
def stored_surprise_data(width: int = 32, count: int = 65, seeds: int = 200) -> StoredSurprise:
    """Train on ``count`` samples with random unit targets at η = 1, W_0 = 0; linear attention is given the targets as values."""
    overlaps = (0.0, 0.5)
    squared = {kind: {overlap: np.zeros(count) for overlap in overlaps} for kind in ("descent", "attention")}
    orthogonal = np.zeros(width)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        targets, start = inputs_with_overlap(count, 8, 0.0, rng), np.zeros((8, width))
        for overlap in overlaps:
            inputs = inputs_with_overlap(count, width, overlap, rng)
            _, surprises = train_linear(start, inputs, targets, 1.0)
            squared["descent"][overlap] += recall_error(inputs, surprises) ** 2 / seeds
            squared["attention"][overlap] += recall_error(inputs, targets) ** 2 / seeds
        basis = np.linalg.qr(rng.normal(size=(width, width)))[0]
        _, surprises = train_linear(start, basis, targets[:width], 1.0)
        orthogonal = np.maximum(orthogonal, recall_error(basis, surprises))
    descent, attention = ({o: np.sqrt(e) for o, e in by.items()} for by in squared.values())
    return StoredSurprise(np.arange(count, dtype=float), descent, attention, orthogonal, width)


@figure(
    "stored_surprise",
    alt="Relative error of the first recalled value against later writes, 0 to 64. Orthogonal inputs leave "
    "it at zero, random inputs raise it alike for both rules; with overlapping inputs linear attention "
    "climbs to 4, gradient descent stays near 1.3.",
    caption="Ask the update for the first surprise: with orthogonal inputs it stays, with overlapping ones "
    "it is overwritten; but a memory that makes its own values does not let one direction pile up.",
)
def stored_surprise(data: StoredSurprise | None = None) -> Figure:
    """How well the first surprise can be asked back, as others are written on top."""
    data = data or stored_surprise_data()
    picture, axes = plt.subplots(figsize=(7.6, 3.9))
    axes.plot(data.later, data.attention[0.5], color=VERMILION, linestyle="--", marker="^", markevery=8)
    axes.plot(data.later, data.descent[0.5], color=BLUE, marker="o", markevery=8)
    axes.plot(data.later, data.attention[0.0], color="0.45", linestyle="--", linewidth=1.6)
    axes.plot(data.later, data.descent[0.0], color=BLACK, linestyle="-", linewidth=1.6)
    axes.plot(data.later[: data.width], data.orthogonal, color=BLACK, linestyle=":", linewidth=2.6)
    axes.text(65.5, data.attention[0.5][-1], "linear attention,\noverlap ½", color=VERMILION, va="center")
    axes.text(65.5, data.descent[0.5][-1], "gradient descent,\noverlap ½", color=BLUE, va="bottom")
    axes.text(65.5, 1.2, "both, overlap 0\n(attention dashed)", color="0.25", va="top")
    axes.text(data.width + 0.5, 0, f"orthogonal inputs\n(there are {data.width})", color=BLACK, va="bottom")
    axes.set(
        xlabel="writes after the first", ylabel="relative error of recall", xlim=(0, 86), ylim=(-0.12, 4.6)
    )
    axes.set_xticks(range(0, 65, 16))
    axes.set_title("What is left of the first surprise")
    return picture


class PerturbedValues(NamedTuple):
    """What figure ``perturbed_values`` shows: by how much each written value changes when x_0 changes."""

    descent: Array  # ‖Δ v_t‖ of gradient descent, (T,)
    attention: Array  # ‖Δ v_t‖ of linear attention, v_t = W_v x_t, (T,)


def perturbed_values_data(length: int = 16, seed: int = 3) -> PerturbedValues:
    """Write once with x_0, once with another x_0; everything else is the same."""
    rng = np.random.default_rng(seed)
    inputs, targets = inputs_with_overlap(length, 8, 0.0, rng), rng.normal(size=(length, 4))
    start, w_value = rng.normal(size=(4, 8)) / 8, rng.normal(size=(4, 8))
    changed = inputs.copy()
    changed[0] = inputs_with_overlap(1, 8, 0.0, rng)[0]
    surprises = [train_linear(start, x, targets, 1.0)[1] for x in (inputs, changed)]
    values = [x @ w_value.T for x in (inputs, changed)]
    descent, attention = (np.linalg.norm(after - before, axis=1) for before, after in (surprises, values))
    return PerturbedValues(descent, attention)


@figure(
    "perturbed_values",
    alt="Change of the value written at each of 16 tokens when only the input of token 0 is changed. For linear attention the "
    "change is zero at every token except token 0 itself. For gradient descent every later token writes another value.",
    caption="Change x₀ alone: linear attention writes the same values afterwards; gradient descent writes "
    "other values for the rest of the sequence, because its values depend on the memory.",
)
def perturbed_values(data: PerturbedValues | None = None) -> Figure:
    """The perturbation test: whose values depend on the past?"""
    data = data or perturbed_values_data()
    picture, axes = plt.subplots()
    tokens = np.arange(len(data.descent))
    axes.vlines(tokens - 0.12, 0, data.descent, color=BLUE, linewidth=2)
    axes.plot(tokens - 0.12, data.descent, color=BLUE, marker="o", linestyle="none")
    axes.vlines(tokens + 0.12, 0, data.attention, color=VERMILION, linewidth=2, linestyle="--")
    axes.plot(tokens + 0.12, data.attention, color=VERMILION, marker="s", linestyle="none", fillstyle="none")
    top = float(max(data.descent.max(), data.attention.max()))
    axes.text(1.2, 0.97 * top, "linear attention: only token 0 itself (squares)", color=VERMILION)
    axes.text(1.2, 0.85 * top, "gradient descent: every later token too (dots)", color=BLUE)
    axes.set(xlabel="token t", ylabel="‖change of the value written at t‖", ylim=(-0.04 * top, 1.1 * top))
    axes.set_xticks(tokens[::3])
    axes.set_title("Change x₀: who writes something else later?")
    return picture
