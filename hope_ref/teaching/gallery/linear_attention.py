"""Figures of notebook 01: a memory as a sum of associations, its masked scores, and its interference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.reference.linear_attention import linear_attention
from hope_ref.teaching.figures import BLUE, VERMILION, figure


def unit_keys(count: int, width: int, rng: np.random.Generator) -> Array:
    """``count`` random directions in ``width`` dimensions, one unit vector per row."""
    keys = rng.normal(size=(count, width))
    return keys / np.linalg.norm(keys, axis=1, keepdims=True)  # (count, width)


def recall_error(keys: Array, values: Array) -> float:
    """Store every pair in one linear-attention memory, ask for each key, return the root mean squared relative error."""
    _, memory = linear_attention(keys, keys, values)
    answers = keys @ memory.T  # (N, d_v)
    return float(np.sqrt(((answers - values) ** 2).sum() / (values**2).sum()))


class Interference(NamedTuple):
    """What figure ``interference`` shows."""

    pairs: Array  # numbers of stored pairs
    random: Array  # relative recall error with random unit keys, mean over seeds
    orthogonal: Array  # the same with orthogonal keys, which exist up to d_k of them
    predicted: Array  # sqrt((N - 1) / d_k)
    width: int


def interference_data(width: int = 32, seeds: int = 20) -> Interference:
    """Relative recall error of N pairs, N = 1 … 2 d_k, values standard normal."""
    pairs = np.array([1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64])
    random = np.zeros((seeds, len(pairs)))
    orthogonal = np.full((seeds, len(pairs)), np.nan)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        basis = np.linalg.qr(rng.normal(size=(width, width)))[0]  # rows are orthogonal unit vectors
        for column, count in enumerate(pairs):
            values = rng.normal(size=(count, 8))
            random[seed, column] = recall_error(unit_keys(count, width, rng), values)
            if count <= width:
                orthogonal[seed, column] = recall_error(basis[:count], values)
    return Interference(
        pairs.astype(float), random.mean(0), orthogonal.mean(0), np.sqrt((pairs - 1) / width), width
    )


@figure(
    "interference",
    alt="Relative recall error against stored pairs, 32-dimensional keys. Orthogonal keys have no error up "
    "to 32 pairs, where they run out; random unit keys rise from the second pair along the predicted square "
    "root and pass 1 beyond 33.",
    caption="Random keys disturb each other from the second pair on, as √((N − 1)/d_k) predicts; orthogonal "
    "keys never do, but there are only d_k of them.",
)
def interference(data: Interference | None = None) -> Figure:
    """Recall error against the number of pairs."""
    data = data or interference_data()
    picture, axes = plt.subplots()
    axes.plot(data.pairs, data.predicted, color="0.55", linestyle="--", linewidth=1.6, zorder=1)
    axes.plot(data.pairs, data.random, color=VERMILION, marker="o", linestyle="none")
    axes.plot(data.pairs, data.orthogonal, color=BLUE, marker="s", linestyle="-")
    axes.axvline(data.width, color="0.8", linewidth=1)
    axes.text(39, 0.95, "random keys (dots)\nand √((N − 1)/d_k) (dashes)", color=VERMILION, va="top")
    axes.text(3, 0.06, "orthogonal keys", color=BLUE)
    axes.text(data.width + 0.8, 0.03, f"d_k = {data.width}", color="0.4")
    axes.set(xlabel="stored pairs N", ylabel="relative recall error", ylim=(-0.04, 1.5), xlim=(0, 66))
    axes.set_title("Interference: how much a memory of sums forgets")
    return picture


class SumOfAssociations(NamedTuple):
    """What figure ``sum_of_associations`` shows: three outer products and the memory that holds them."""

    associations: Array  # (3, d_v, d_k)
    memory: Array  # (d_v, d_k)


def sum_of_associations_data() -> SumOfAssociations:
    """Three pairs with orthogonal keys, so that each association keeps its own columns."""
    keys = np.eye(6)[[0, 2, 5]]
    values = np.array([[1.0, 0.5, -0.5, 0.0], [-1.0, 0.0, 0.5, 1.0], [0.5, -1.0, 1.0, -0.5]])
    _, memory = linear_attention(keys, keys, values)
    return SumOfAssociations(np.einsum("ti,tj->tij", values, keys), memory)


@figure(
    "sum_of_associations",
    alt="Three four-by-six matrices, each with one non-zero column, the value standing in the column that its key points "
    "to, and a fourth matrix, their sum, which holds all three columns side by side without overlap.",
    caption="A linear-attention memory is just the sum of its associations v kᵀ: with orthogonal keys each "
    "keeps a place of its own.",
)
def sum_of_associations(data: SumOfAssociations | None = None) -> Figure:
    """Three outer products and their sum."""
    data = data or sum_of_associations_data()
    picture, axes = plt.subplots(1, 4, figsize=(8.2, 2.3))
    titles = ["v₁ k₁ᵀ", "+  v₂ k₂ᵀ", "+  v₃ k₃ᵀ", "=  M₃"]
    for axis, matrix, title in zip(axes, [*data.associations, data.memory], titles, strict=True):
        heat_map(axis, matrix)
        axis.set_title(title)
    axes[0].set(xlabel="key index", ylabel="value index")
    return picture


def heat_map(axis: Any, matrix: Array) -> None:
    """A small matrix with its numbers written in, so that it reads in greyscale and aloud."""
    axis.imshow(matrix, cmap="cividis", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(matrix):
        axis.text(
            j, i, f"{value:g}", ha="center", va="center", fontsize=8, color="black" if value > 0 else "white"
        )
    axis.set(xticks=[], yticks=[])
    axis.grid(False)


class MaskedScores(NamedTuple):
    """What figure ``masked_scores`` shows: who reads how much of whom, without and with retention."""

    kept: Array  # (T, T) mask of linear attention
    decayed: Array  # (T, T) the same times the retentions between write and read
    alpha: float


def masked_scores_data(length: int = 12, alpha: float = 0.75) -> MaskedScores:
    """The weight that a write at s still has at t: 1 for s <= t without retention, α^(t-s) with it."""
    t, s = np.indices((length, length))
    return MaskedScores((s <= t).astype(float), np.where(s <= t, alpha ** (t - s).astype(float), 0.0), alpha)


@figure(
    "masked_scores",
    alt="Two twelve-by-twelve triangular weight matrices, query token down, written token across. Without retention every "
    "past token counts fully; with a retention of 0.75 the weight fades with the distance from the diagonal.",
    caption="The mask makes it causal: row t sees only writes up to t. Retention multiplies a write by α at "
    "every later step, so old columns fade.",
)
def masked_scores(data: MaskedScores | None = None) -> Figure:
    """The mask of the parallel form, without and with retention."""
    data = data or masked_scores_data()
    picture, axes = plt.subplots(1, 2, figsize=(7.4, 3.5))
    for axis, matrix, title in zip(
        axes, [data.kept, data.decayed], ["α = 1: tril of ones", f"α = {data.alpha}: αᵗ⁻ˢ"], strict=True
    ):
        image = axis.imshow(matrix, vmin=0, vmax=1)
        axis.set(xlabel="written at s", title=title)
        axis.grid(False)
    axes[0].set_ylabel("read at t")
    picture.colorbar(image, ax=axes, label="weight of the write", shrink=0.85)
    return picture
