"""The figure on linear attention: the interference of its associations."""

from __future__ import annotations

from typing import NamedTuple

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
