"""Figures on gradient descent: a step as the bottom of a parabola, and an update as a sum of surprises."""

from __future__ import annotations

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
