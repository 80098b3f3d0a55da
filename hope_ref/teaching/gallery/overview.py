"""Figures of notebook 00: the ladder of the course, a first run on 32 tokens, and who can read what."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hope_ref.common.validation import Array
from hope_ref.reference.delta_rule import delta_rule
from hope_ref.reference.linear_attention import linear_attention
from hope_ref.teaching.figures import BLUE, VERMILION, figure
from hope_ref.teaching.gallery.linear_attention import unit_keys

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


class FirstRun(NamedTuple):
    """What figure ``first_run`` shows: relative recall error over all pairs told so far, after each token."""

    delta: Array  # (32,)
    linear: Array  # (32,)
    pairs: int


def first_run_data(seed: int = 0, pairs: int = 8, width: int = 32) -> FirstRun:
    """Tell 8 pairs twice, then new values for the same keys, twice; ask for all known pairs after each token."""
    rng = np.random.default_rng(seed)
    keys = unit_keys(pairs, width, rng)
    values = rng.normal(size=(2, pairs, 8))  # old and new
    error = np.zeros((2, 4 * pairs))
    memories: list[Array | None] = [None, None]
    known = np.zeros((pairs, 8))  # the latest value of each key, 0 before it is told
    for t in range(4 * pairs):
        pair = slice(t % pairs, t % pairs + 1)
        key, value = keys[pair], values[t // (2 * pairs), pair]
        known[pair] = value
        told = slice(0, min(t + 1, pairs))
        memories[0] = delta_rule(key, key, value, 1.0, memories[0])[1]
        memories[1] = linear_attention(key, key, value, memory=memories[1])[1]
        for row, memory in enumerate(memories):
            assert memory is not None
            wrong = keys[told] @ memory.T - known[told]
            error[row, t] = np.linalg.norm(wrong) / np.linalg.norm(known[told])
    return FirstRun(error[0], error[1], pairs)


@figure(
    "first_run",
    alt="Recall error along 32 tokens: eight pairs, the same again, new values for their keys, these again. "
    "The delta rule rises to about a third and falls at each repeat; linear attention passes 1 when pairs "
    "are repeated and stays above it.",
    caption="The same 32 tokens in two memories: one adds whatever comes, the other corrects what it got wrong. Repeating "
    "helps the second and harms the first.",
)
def first_run(data: FirstRun | None = None) -> Figure:
    """Recall error along the stream."""
    data = data or first_run_data()
    picture, axes = plt.subplots(figsize=(7.4, 3.5))
    tokens = np.arange(len(data.delta))
    for stretch, words in enumerate(("8 pairs", "the same again", "new values", "these again")):
        left = stretch * data.pairs - 0.5
        axes.axvspan(left, left + data.pairs, color="0.95" if stretch % 2 else "white", zorder=0)
        axes.text(left + data.pairs / 2, 3.4, words, ha="center", va="top", color="0.35")
    axes.plot(tokens, data.linear, color=VERMILION, marker="o", linestyle=":", markersize=5)
    axes.plot(tokens, data.delta, color=BLUE, marker="s", linestyle="-", markersize=5)
    axes.text(tokens[-1] + 0.7, data.linear[-1], "linear\nattention", color=VERMILION, va="center")
    axes.text(tokens[-1] + 0.7, data.delta[-1], "delta rule", color=BLUE, va="center")
    axes.set(xlabel="token t", ylabel="relative recall error", xlim=(-0.5, 37), ylim=(-0.1, 3.5))
    axes.set_xticks(np.arange(0, 33, 8))
    axes.set_title("What the memory knows, token by token")
    return picture


Mask = npt.NDArray[np.bool_]


class WhoReadsWhat(NamedTuple):
    """What figure ``who_reads_what`` shows: moved[t, s] says whether output t moves when token s changes."""

    own: Mask  # (T, T), reads M_t, after its own write
    boundary: Mask  # (T, T), reads the state at b(t) = C⌊t/C⌋
    printed: Mask  # (T, T), reads the state at C⌈t/C⌉, tokens counted from 1
    chunk_size: int


def _reads(q: Array, k: Array, v: Array, chunk_size: int) -> Array:
    """Outputs (3, T, d_v) of one delta-rule memory by three conventions of which state to read."""
    length = len(k)
    states = [np.zeros((v.shape[1], k.shape[1]))]
    for t in range(length):
        states.append(delta_rule(k[t : t + 1], k[t : t + 1], v[t : t + 1], 0.7, states[-1])[1])
    seen = [
        [t + 1 for t in range(length)],
        [chunk_size * (t // chunk_size) for t in range(length)],
        [min(length, chunk_size * -(-(t + 1) // chunk_size)) for t in range(length)],
    ]
    return np.array([[states[n] @ q[t] for t, n in enumerate(row)] for row in seen])


def who_reads_what_data(length: int = 16, chunk_size: int = 4) -> WhoReadsWhat:
    """Change the key and the value of token s, and watch which outputs move: measured, not drawn from theory."""
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(length, 6)), unit_keys(length, 6, rng), rng.normal(size=(length, 3))
    before = _reads(q, k, v, chunk_size)
    moved = np.zeros((3, length, length), dtype=bool)
    for s in range(length):
        other_k, other_v = k.copy(), v.copy()
        other_k[s], other_v[s] = unit_keys(1, 6, rng)[0], rng.normal(size=3)
        moved[:, :, s] = np.abs(_reads(q, other_k, other_v, chunk_size) - before).max(-1) > 0
    return WhoReadsWhat(moved[0], moved[1], moved[2], chunk_size)


@figure(
    "who_reads_what",
    alt="Three 16 by 16 maps of which output moves when a token changes, chunks of four. Reading after the "
    "write fills the lower triangle, reading the chunk's start only blocks below the diagonal; the printed "
    "index adds cells above it, the future.",
    caption="Measured by changing one token at a time: a memory read at its chunk's start sees a token only from the next chunk "
    "on, and the index that the sources print would see the future (crosses).",
)
def who_reads_what(data: WhoReadsWhat | None = None) -> Figure:
    """Three causal maps by perturbation."""
    data = data or who_reads_what_data()
    length = len(data.own)
    picture, panels = plt.subplots(1, 3, figsize=(7.8, 4.0), sharey=True)
    titles = ("after its own write:\nM_t", "at the chunk's start:\nC⌊t/C⌋", "as printed, at the end:\nC⌈t/C⌉")
    t, s = np.indices((length, length))
    for axes, moved, title in zip(panels, (data.own, data.boundary, data.printed), titles, strict=True):
        future = moved & (s > t)
        axes.imshow(np.where(moved, 0.68, 1.0), cmap="Blues_r", vmin=0, vmax=1)
        axes.plot(
            s[future],
            t[future],
            color=VERMILION,
            marker="x",
            linestyle="none",
            markersize=6,
            markeredgewidth=2,
        )
        axes.plot([-0.5, length - 0.5], [-0.5, length - 0.5], color="0.3", linewidth=1)
        edges = np.arange(-0.5, length, data.chunk_size)
        axes.set(xticks=edges, yticks=edges, xlabel="changed token s", title=title)
        axes.set_xticklabels([f"{edge + 0.5:g}" for edge in edges])
        axes.set_yticklabels([f"{edge + 0.5:g}" for edge in edges])
    panels[0].set_ylabel("output t")
    picture.legend(
        handles=[
            Patch(color=plt.get_cmap("Blues_r")(0.68), label="output t moves"),
            plt.Line2D(
                [],
                [],
                color=VERMILION,
                marker="x",
                linestyle="none",
                label="moved by its future",
                markeredgewidth=2,
            ),
        ],
        loc="outside lower center",
        ncols=2,
    )
    return picture
