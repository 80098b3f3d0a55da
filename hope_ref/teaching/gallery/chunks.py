"""Figures of notebook 07: two clocks, decays without division, outputs that move with C, and a chunk as a batch."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.parallel.chunks import decays
from hope_ref.reference.chunks import chunk_recurrence, frozen_gradients, recurrence
from hope_ref.reference.titans import start, titans
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, figure
from hope_ref.teaching.gallery.linear_attention import unit_keys

Mask = npt.NDArray[np.bool_]


class TwoClocks(NamedTuple):
    """What figure ``clocks_of_a_chunk`` shows: moved[t, s] says whether row t moves when token s changes."""

    generated: Mask  # (T, T), the target M_{b(t)} v_t, b(t) = C ⌊t/C⌋
    outputs: Mask  # (T, T), M_t q_t
    printed: Mask  # (T, T), the target M v_t with the memory at C ⌈t/C⌉, tokens counted from 1
    chunk_size: int


def _generated(tokens: Array, chunk_size: int) -> Array:
    """(3, T, d): targets from the chunk's start, outputs, targets from the chunk's end; the memory is the delta rule."""
    q, k, v = tokens
    length, states = len(k), [np.eye(k.shape[1])]
    for t in range(length):
        one = slice(t, t + 1)
        states.append(recurrence(q[one], k[one], v[one], 0.7, 0.95, states[-1])[1])
    first = [states[chunk_size * (t // chunk_size)] @ v[t] for t in range(length)]
    after = [states[t + 1] @ q[t] for t in range(length)]
    last = [states[min(length, chunk_size * -(-(t + 1) // chunk_size))] @ v[t] for t in range(length)]
    return np.array([first, after, last])


def clocks_of_a_chunk_data(length: int = 16, chunk_size: int = 4) -> TwoClocks:
    """Change key and value of token s, and watch which targets and outputs move: measured."""
    rng = np.random.default_rng(0)
    tokens = np.stack([unit_keys(length, 6, rng) for _ in range(3)])  # q, k, v
    before = _generated(tokens, chunk_size)
    moved = np.zeros((3, length, length), dtype=bool)
    for s in range(length):
        other = tokens.copy()
        other[1:, s] = unit_keys(2, 6, rng)
        moved[:, :, s] = np.abs(_generated(other, chunk_size) - before).max(-1) > 0
    return TwoClocks(moved[0], moved[1], moved[2], chunk_size)


@figure(
    "clocks_of_a_chunk",
    alt="Three 16 by 16 maps of what moves when a token changes, chunks of four. Targets made at the "
    "chunk's start move with earlier chunks and their own token, outputs with every token so far; targets "
    "made at the chunk's end move with later tokens, too.",
    caption="Two clocks: what is generated jumps from chunk to chunk, while the answers move with every "
    "token. With the printed index the generated part would read the future (crosses).",
)
def clocks_of_a_chunk(data: TwoClocks | None = None) -> Figure:
    """Three maps by perturbation."""
    data = data or clocks_of_a_chunk_data()
    length = len(data.outputs)
    picture, panels = plt.subplots(1, 3, figsize=(8.4, 3.9), sharey=True)
    titles = (
        "generated at the start:\nM at C⌊t/C⌋",
        "answered: M after\ntoken t",
        "generated as printed:\nM at C⌈t/C⌉",
    )
    t, s = np.indices((length, length))
    for axes, moved, title in zip(panels, (data.generated, data.outputs, data.printed), titles, strict=True):
        future = moved & (s > t)
        axes.imshow(np.where(moved, 0.68, 1.0), cmap="Blues_r", vmin=0, vmax=1)
        marks = {
            "color": VERMILION,
            "marker": "x",
            "linestyle": "none",
            "markersize": 6,
            "markeredgewidth": 2,
        }
        axes.plot(s[future], t[future], **marks)
        axes.plot([-0.5, length - 0.5], [-0.5, length - 0.5], color="0.3", linewidth=1)
        edges = np.arange(-0.5, length, data.chunk_size)
        labels = [f"{edge + 0.5:g}" for edge in edges]
        axes.set(xticks=edges, yticks=edges, xlabel="changed token s")
        axes.set(xticklabels=labels, yticklabels=labels)
        axes.set_title(title, fontsize=11)
    panels[0].set_ylabel("token t")
    return picture


# --- decays -----------------------------------------------------------------------------------------------------------


class ThreeWays(NamedTuple):
    """What figure ``decays_three_ways`` shows, in float32, C = 64, a constant α."""

    alpha: Array  # (N,)
    errors: dict[str, Array]  # way -> largest error of D_{t,s}; inf if the table is not finite


def three_ways(alpha: torch.Tensor) -> dict[str, torch.Tensor]:
    """D_{t,s} for s <= t: as γ_t/γ_s, as exp of all differences and then masked, and as the library does."""
    gamma, total = alpha.cumprod(-1), alpha.log().cumsum(-1)
    return {
        "γ_t / γ_s": (gamma[:, None] / gamma[None]).tril(),
        "exp, then mask": (total[:, None] - total[None]).exp() * torch.ones(len(alpha), len(alpha)).tril(),
        "mask, then exp": decays(alpha).ratio,
    }


def decays_three_ways_data(chunk_size: int = 64) -> ThreeWays:
    """One chunk of 64 tokens in float32, against α^{t-s} in float64."""
    alphas = np.logspace(-3, 0, 61)[:-1]
    age = np.arange(chunk_size)[:, None] - np.arange(chunk_size)
    errors: dict[str, list[float]] = {}
    for alpha in alphas:
        single = torch.full((chunk_size,), float(alpha))  # float32
        exact = np.where(age >= 0, float(single[0]) ** np.maximum(age, 0), 0.0)
        for name, found in three_ways(single).items():
            wrong = np.abs(found.double().numpy() - exact)
            errors.setdefault(name, []).append(float(wrong.max()) if np.isfinite(wrong).all() else np.inf)
    return ThreeWays(alphas, {name: np.array(row) for name, row in errors.items()})


@figure(
    "decays_three_ways",
    alt="Largest float32 error of the decays in a chunk of 64, against constant retention, 0.001 to 1. The "
    "quotient of products fails for small alpha, exp masked afterwards is not finite there; masked before "
    "exp, the error is tiny for every alpha.",
    caption="The same numbers three ways. Dividing, or masking too late, fails once the product of 64 "
    "retentions vanishes in float32; masked first, nothing can overflow.",
)
def decays_three_ways(data: ThreeWays | None = None) -> Figure:
    """Error against α; a cross where the table is not finite."""
    data = data or decays_three_ways_data()
    picture, axes = plt.subplots(figsize=(7.4, 3.6))
    looks = {
        "γ_t / γ_s": (VERMILION, "s", 1.0, (0.3, 2e-9)),
        "exp, then mask": (PURPLE, "D", 0.02, (0.3, 5e-10)),
        "mask, then exp": (BLUE, "o", None, (1.1e-3, 5e-7)),
    }
    for name, (colour, marker, lost, spot) in looks.items():
        finite = np.isfinite(data.errors[name])
        errors = np.maximum(data.errors[name][finite], 3e-10)  # 0 leaves a logarithmic axis
        axes.plot(data.alpha[finite], errors, color=colour, marker=marker, markersize=4, linewidth=1.3)
        if lost is None:
            axes.text(*spot, name, color=colour)
            continue
        gone = data.alpha[~finite]
        axes.plot(gone, np.full(len(gone), lost), color=colour, marker="x", linestyle="none", markersize=5)
        axes.text(1.1e-3, lost * 2.2, f"{name}: not finite", color=colour)
    axes.set(xscale="log", yscale="log", xlabel="retention α", ylabel="largest error of D", ylim=(1e-10, 30))
    axes.set_title("Decays within a chunk of 64, float32")
    return picture


# --- outputs that move with C -----------------------------------------------------------------------------------------


class MovingOutputs(NamedTuple):
    """What figure ``outputs_move_with_chunk_size`` shows: max|y_C - y_1| / max|y_1| by model."""

    chunk_sizes: Array
    difference: dict[str, Array]


def outputs_move_data(length: int = 64, width: int = 16, hidden: int = 32, seed: int = 0) -> MovingOutputs:
    """One stream with given unit keys and values, η and α per token, through four memories at every chunk size."""
    rng = np.random.default_rng(seed)
    q, k, v = (unit_keys(length, width, rng) for _ in range(3))
    eta, alpha = rng.uniform(0.1, 0.4, length), rng.uniform(0.95, 1.0, length)
    w2 = 2 * np.linalg.qr(rng.normal(size=(hidden, width)))[0]
    sizes = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)

    def outputs(size: int) -> dict[str, Array]:
        mlp = start(np.zeros((width, hidden)), w2)
        return {
            "delta rule, one solve": chunk_recurrence(q, k, v, eta, alpha, chunk_size=size)[0],
            "dot product": frozen_gradients(q, k, v, eta, alpha, None, size, "dot")[0],
            "½‖M k − v‖², matrix": frozen_gradients(q, k, v, eta, alpha, None, size, "l2")[0],
            "½‖M(k) − v‖², MLP": titans(q, k, v, eta, alpha, 0.0, mlp, size)[0],
        }

    # The token loops: for the delta rule the loop itself, not a solve with C = 1.
    base = outputs(1) | {"delta rule, one solve": recurrence(q, k, v, eta, alpha)[0]}
    rows = [outputs(size) for size in sizes]
    difference = {
        name: np.array([np.abs(row[name] - y).max() / np.abs(y).max() for row in rows])
        for name, y in base.items()
    }
    return MovingOutputs(np.array(sizes, dtype=float), difference)


@figure(
    "outputs_move_with_chunk_size",
    alt="Largest difference between outputs at chunk size C, 1 to 64, and those token by token. The exact "
    "solve and the dot product stay at zero; with frozen gradients of the regression loss, a matrix memory "
    "drifts far with C and an MLP memory less.",
    caption="On the zero line C affects only speed. Above it C is part of the model: the same stream and "
    "the same start give other answers.",
)
def outputs_move_with_chunk_size(data: MovingOutputs | None = None) -> Figure:
    """Differences against C for four memories."""
    data = data or outputs_move_data()
    picture, axes = plt.subplots(figsize=(7.4, 4.0))
    looks = {
        "½‖M k − v‖², matrix": (VERMILION, "-", "s", (4.2, 26)),
        "½‖M(k) − v‖², MLP": (PURPLE, "-.", "D", (12, 11.5)),
        "delta rule, one solve": (BLUE, "-", "o", (1.05, -3.4)),
        "dot product": (GREEN, "--", "^", (7, -3.4)),
    }
    for name, (colour, line, marker, spot) in looks.items():
        row = 100 * data.difference[name]
        axes.plot(data.chunk_sizes, row, color=colour, linestyle=line, marker=marker, linewidth=1.6)
        axes.text(*spot, name, color=colour)
    axes.text(17, -3.4, "both below 1e-12", color="0.35")
    axes.set(xscale="log", xlabel="chunk size C", ylabel="largest difference (%)", ylim=(-5, 42))
    axes.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
    axes.set_xticks([], minor=True)
    axes.set_title("Outputs at C against token by token")
    return picture


# --- a chunk is a batch -----------------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """What figure ``chunk_as_batch`` shows: relative recall error after eight rounds of the same pairs, mean over seeds."""

    chunk_sizes: Array
    frozen: dict[float, Array]  # by η: ½‖M k - v‖², gradients at the boundary
    exact: dict[float, Array]  # by η: the delta rule, one solve per chunk
    linear: dict[float, float]  # by η: linear attention, M = η Σ v kᵀ over all rounds
    pairs: int


def recall_error(memory: Array, keys: Array, values: Array) -> float:
    """Root mean squared error of the answers to all keys, relative to the values."""
    return float(np.sqrt(((keys @ memory.T - values) ** 2).sum() / (values**2).sum()))


@lru_cache(maxsize=1)
def chunk_as_batch_data(pairs: int = 16, width: int = 32, rounds: int = 8, seeds: int = 8) -> Batch:
    """16 pairs of random unit keys, eight times, each time in a new order."""
    sizes, etas = (1, 2, 4, 8, 16, 32, 64, 128), (0.5, 0.125)
    frozen = {eta: np.zeros(len(sizes)) for eta in etas}
    exact = {eta: np.zeros(len(sizes)) for eta in etas}
    linear = dict.fromkeys(etas, 0.0)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        keys, values = unit_keys(pairs, width, rng), rng.normal(size=(pairs, 8))
        order = np.concatenate([rng.permutation(pairs) for _ in range(rounds)])
        k, v = keys[order], values[order]
        for eta in etas:
            linear[eta] += recall_error(eta * v.T @ k, keys, values) / seeds
            for place, size in enumerate(sizes):
                _, memory = frozen_gradients(k, k, v, eta, 1.0, None, size, "l2")
                frozen[eta][place] += recall_error(memory, keys, values) / seeds
                _, memory = chunk_recurrence(k, k, v, eta, 1.0, None, size)
                exact[eta][place] += recall_error(memory, keys, values) / seeds
    return Batch(np.array(sizes, dtype=float), frozen, exact, linear, pairs)


@figure(
    "chunk_as_batch",
    alt="Relative recall error of 16 pairs after eight rounds against chunk size, 1 to 128. The exact solve "
    "is flat; with frozen gradients eta 0.5 follows it up to 16 and then soars, eta 0.125 up to 64; one "
    "chunk for all ends on linear attention, stars.",
    caption="A chunk is a batch whose gradients are summed: a batch too large overshoots. One chunk for the "
    "whole stream is linear attention (stars), whatever the loss was.",
)
def chunk_as_batch(data: Batch | None = None) -> Figure:
    """Recall error against C, two learning rates."""
    data = data or chunk_as_batch_data()
    picture, axes = plt.subplots(figsize=(7.4, 4.1))
    looks = {0.5: (VERMILION, "-", "s"), 0.125: (BLUE, "--", "o")}
    for eta, (colour, line, marker) in looks.items():
        axes.plot(
            data.chunk_sizes, data.exact[eta], color="0.55", linewidth=5, alpha=0.6, solid_capstyle="butt"
        )
        axes.plot(
            data.chunk_sizes, data.frozen[eta], color=colour, linestyle=line, marker=marker, linewidth=1.6
        )
        axes.plot(
            data.chunk_sizes[-1],
            data.linear[eta],
            color=BLACK,
            marker="*",
            markersize=15,
            linestyle="none",
            zorder=5,
        )
    axes.axhline(1, color=ORANGE, linewidth=1.2, linestyle=":")
    axes.text(1, 1.08, "an empty memory", color="#A06A00", fontsize=9)
    axes.text(20, 2.6, "frozen, η = 0.5", color=VERMILION, ha="right")
    axes.text(1, 0.35, "frozen, η = 0.125", color=BLUE)
    axes.text(48, 0.19, "delta rule by\none solve (grey)", color="0.35", ha="left")
    axes.text(122, 1.7, "linear\nattention", ha="right", va="center")
    axes.set(
        xscale="log", yscale="log", xlabel="chunk size C", ylabel="relative recall error", ylim=(0.12, 12)
    )
    axes.set_yticks([0.2, 0.5, 1, 2, 5, 10], ["0.2", "0.5", "1", "2", "5", "10"])
    axes.set_yticks([], minor=True)
    axes.set_xticks(data.chunk_sizes, [f"{size:g}" for size in data.chunk_sizes])
    axes.set_xticks([], minor=True)
    axes.set_title(f"{data.pairs} pairs, eight rounds")
    return picture
