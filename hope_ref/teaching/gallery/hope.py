"""Figures of notebook 11: HOPE's wiring with its sizes, what a cut stream misses, and an untrained model that reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.parallel.hope import Hope, HopeState
from hope_ref.parallel.hope_adaptation import adapt
from hope_ref.parallel.layers import MixerState
from hope_ref.reference import hope as reference
from hope_ref.reference.hope import TitansState
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, VERMILION, figure
from hope_ref.teaching.gallery.self_modifying_titans import PASSAGE
from hope_ref.training.evaluation import SHIPPED, trained

# --- the wiring -------------------------------------------------------------------------------------------------------

SHOWN = HopeConfig(width=64, heads=2, levels_chunk_sizes=(128, 512))  # as the model that is shipped


class Wiring(NamedTuple):
    """What figure ``hope_wiring`` shows: how many numbers each part holds, of all blocks together."""

    parameters: dict[str, int]  # by part: what pre-training learns
    state: dict[str, int]  # by part: what a stream carries along


PARTS = ("embedding", "norms", "projections", "convolutions", "heads", "output", "levels")


def _part(name: str) -> str:
    """The part of the wiring that a parameter belongs to, by its name in the reference."""
    last = name.rsplit(".", 1)[-1]
    for part, belongs in (
        ("embedding", name == "embedding"),
        ("levels", ".levels." in name),
        ("heads", ".heads." in name),
        ("convolutions", last.startswith("conv_")),
        ("projections", last in ("p_key", "p_value", "w_query")),
        ("output", last == "output"),
        ("norms", last in ("norm", "head_norm")),
    ):
        if belongs:
            return part
    raise ValueError(f"name must be that of a parameter, got {name!r}")


def hope_wiring_data(config: HopeConfig = SHOWN) -> Wiring:
    """Array by array: the reference's parameters and its state before the first token."""
    arrays = reference.init(config)
    parameters = dict.fromkeys(PARTS, 0)
    for name, array in arrays.items():
        parameters[_part(name)] += array.size
    state = {"convolutions": 0, "heads": 0, "levels": 0}
    for one in reference.initial_state(arrays, config).blocks:
        assert isinstance(one.mixer, TitansState)
        state["convolutions"] += sum(a.size for a in one.mixer[:3])
        state["heads"] += sum(a.size for a in _arrays(one.mixer.heads))
        state["levels"] += sum(a.size for a in _arrays(one.continuum))
    return Wiring(parameters, state)


def _arrays(found: Any) -> Iterator[Array]:
    """Every array inside nested tuples and dicts."""
    if isinstance(found, np.ndarray):
        yield found
    elif isinstance(found, dict):
        for one in found.values():
            yield from _arrays(one)
    elif isinstance(found, tuple):
        for one in found:
            yield from _arrays(one)


@figure(
    "hope_wiring",
    alt="Flow chart: embedding, a block that stands twice, norm, head. Three convolved views of a token "
    "feed two heads of five memories, then two levels; numbers below are parameters, above the state, where "
    "the levels hold 671,744 of some 755,000.",
    caption="What is learned in pre-training (below the boxes) and what a stream carries along (above), as "
    "numbers, for the shipped model: the state is more than three times as large as the model.",
)
def hope_wiring(data: Wiring | None = None) -> Figure:
    """Boxes from left to right, parameters below them, state above."""
    data = data or hope_wiring_data()
    picture, axes = plt.subplots(figsize=(9.8, 3.9))
    has, carries = data.parameters, data.state
    axes.add_patch(Rectangle((1.0, -0.55), 9.05, 5.0, facecolor="0.96", edgecolor="0.5", linestyle="--"))
    axes.text(1.12, 4.12, "a block (two of them in a row)", fontsize=9.5, color="0.3")
    _box(axes, (0.35, 2), (0.9, 0.8), "E", "#DCE9F5", below=has["embedding"])
    _box(axes, (1.6, 2), (0.72, 0.6), "norm", "white")
    for height, words in ((3.1, "P_k"), (2.0, "P_v"), (0.9, "W_q")):
        _box(axes, (2.75, height), (0.7, 0.62), words, "white")
        _box(axes, (3.95, height), (0.9, 0.62), "conv", "white")
        _arrow(axes, (1.97, 2), (2.39, height))
        _arrow(axes, (3.11, height), (3.49, height))
        _arrow(axes, (4.41, height), (4.93, height))
    for height, words in ((3.33, "$x^k$"), (2.23, "$x^v$"), (1.13, "$x^q$")):
        axes.text(4.65, height, words, ha="center", fontsize=9)
    axes.text(2.75, 0.28, f"{has['projections']:,}", ha="center", fontsize=9, color="0.25")
    axes.text(3.95, 0.28, f"{has['convolutions']:,}", ha="center", fontsize=9, color="0.25")
    axes.text(3.95, 3.55, f"{carries['convolutions']:,}", ha="center", fontsize=9, color="#A03000")
    words = "M_k   M_v\nM_η   M_α\nM_memory"
    _box(axes, (5.62, 2.12), (1.3, 2.9), "", "#FBE9DD")
    _box(
        axes, (5.7, 2.0), (1.3, 2.9), f"2 heads of\n{words}", "#FBE9DD", carries["heads"], has["heads"], 3.72
    )
    _box(axes, (6.95, 2), (0.72, 0.6), "norm", "white")
    _box(axes, (7.72, 2), (0.5, 0.62), "W_o", "white", below=has["output"])
    for x in (8.22, 8.98, 9.75):
        axes.text(x, 2, "+", ha="center", va="center", fontsize=12, zorder=4)
        axes.plot(x, 2, marker="o", markersize=13, color="white", markeredgecolor="0.3", zorder=3)
    for x, number in ((8.6, 1), (9.37, 2)):
        _box(axes, (x, 3.0), (0.62, 0.72), f"level\n{number}", "#E4F3EC")
        _arrow(axes, (x - 0.24, 2.0), (x - 0.24, 2.62))
        axes.annotate(
            "", (x + 0.36, 2.2), (x + 0.31, 3.0), arrowprops={"arrowstyle": "-|>", "color": "0.3"}, zorder=5
        )
    axes.text(8.98, 3.6, f"{carries['levels']:,}", ha="center", fontsize=9, color="#A03000")
    axes.text(8.98, 1.3, f"{has['levels']:,}", ha="center", fontsize=9, color="0.25")
    _arrow(axes, (0.81, 2), (1.23, 2))
    axes.plot([1.1, 1.1, 8.22, 8.22], [2, -0.2, -0.2, 1.72], color="0.3", linewidth=1.2)  # past the memories
    for left, right in ((6.37, 6.58), (7.32, 7.46), (7.98, 8.06), (8.38, 8.82), (9.14, 9.59), (9.91, 10.24)):
        _arrow(axes, (left, 2), (right, 2))
    _box(axes, (10.62, 2), (0.72, 0.6), "norm", "white", below=has["norms"])
    _arrow(axes, (10.99, 2), (11.17, 2))
    _box(axes, (11.55, 2), (0.7, 0.8), "Eᵀ", "#DCE9F5")
    axes.text(11.55, 1.28, "tied", ha="center", fontsize=9, color="0.25")
    axes.text(10.2, 4.12, "above: state", fontsize=9, color="#A03000")
    axes.text(10.2, 3.75, "below: parameters", fontsize=9, color="0.25")
    axes.text(10.2, 3.38, "(of both blocks)", fontsize=9, color="0.25")
    axes.set(xlim=(-0.15, 12.0), ylim=(-0.6, 4.5))
    axes.set_axis_off()
    return picture


def _box(
    axes: Axes,
    at: tuple[float, float],
    size: tuple[float, float],
    words: str,
    face: str,
    above: int | None = None,
    below: int | None = None,
    top: float | None = None,
) -> None:
    corner = (at[0] - size[0] / 2, at[1] - size[1] / 2)
    box = FancyBboxPatch(corner, *size, boxstyle="round,pad=0.02", facecolor=face, edgecolor="0.3", zorder=2)
    axes.add_patch(box)
    axes.text(*at, words, ha="center", va="center", fontsize=9.5, zorder=4)
    if below is not None:
        axes.text(at[0], corner[1] - 0.32, f"{below:,}", ha="center", fontsize=9, color="0.25")
    if above is not None:
        height = top if top is not None else corner[1] + size[1] + 0.12
        axes.text(at[0], height, f"{above:,}", ha="center", fontsize=9, color="#A03000")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate(
        "",
        end,
        start,
        arrowprops={"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0},
        zorder=5,
    )


# --- a cut stream -----------------------------------------------------------------------------------------------------


class Cut(NamedTuple):
    """What figure ``cut_anywhere`` shows, of the shipped model."""

    errors: dict[str, Array]  # by what was not carried over: largest |Δ logit| at each token after the cut
    at: int
    chunk_size: int


def _changed(
    state: HopeState, fresh: HopeState, change: Callable[[MixerState, MixerState], MixerState]
) -> HopeState:
    """The state with every block's mixer state changed, with the fresh one beside it."""
    blocks = tuple(
        here._replace(mixer=change(here.mixer, new.mixer))
        for here, new in zip(state.blocks, fresh.blocks, strict=True)
    )
    return state._replace(blocks=blocks)


@lru_cache(maxsize=1)
def cut_anywhere_data(at: int = 104, tokens: int = 256) -> Cut:
    """Read `PASSAGE` in one go, and in two pieces with one part of the state left behind at the cut, inside a chunk."""
    model = trained(SHIPPED, "cpu").model.double()
    read = torch.tensor(list(PASSAGE.encode()[:tokens]))
    fresh = model.initial_state(())
    with torch.no_grad():
        whole, _ = model(read)
        _, state = model(read[:at])

        def memory(now: MixerState, **changed: Any) -> MixerState:
            return now._replace(memory=now.memory._replace(**changed))

        states = {
            "nothing": state,
            "inputs of the convolutions": _changed(
                state, fresh, lambda now, new: new._replace(memory=now.memory)
            ),
            "copy at the boundary": _changed(
                state, fresh, lambda now, _: memory(now, boundary=now.memory.weights)
            ),
            "position in the chunk": _changed(state, fresh, lambda now, _: memory(now, position=0))._replace(
                position=0
            ),
            "moving weights": _changed(
                state, fresh, lambda now, new: memory(now, weights=new.memory.weights)
            ),
        }
        errors = {
            name: (model(read[at:], given)[0] - whole[at:]).abs().amax(-1).numpy()
            for name, given in states.items()
        }
    return Cut(errors, at, model.config.memory_chunk_size)


@figure(
    "cut_anywhere",
    alt="Error of the logits after a cut inside a chunk, against tokens since the cut, log axis, a line for "
    "each part left behind. Without the copy or the convolutions' inputs it falls; without position or "
    "moving weights it stays high.",
    caption="Each part of the state leaves its own scar: some heal, some do not; with all of them carried "
    "over nothing is missing. Dotted: boundaries.",
)
def cut_anywhere(data: Cut | None = None) -> Figure:
    """One line for each part that was left behind."""
    data = data or cut_anywhere_data()
    picture, axes = plt.subplots(figsize=(8.8, 4.0))
    styles = ((BLACK, "-"), (GREEN, "--"), (BLUE, "-"), (PURPLE, "-."), (VERMILION, ":"))
    places = {
        "inputs of the convolutions": 4.5e-2,
        "copy at the boundary": 9e-3,
        "position in the chunk": 1.6,
        "moving weights": 0.45,
    }
    for (name, error), (colour, line) in zip(data.errors.items(), styles, strict=True):
        if name not in places:
            continue
        smooth = [error[max(0, t - 8) : t + 1].max() for t in range(len(error))]
        axes.plot(smooth, color=colour, linestyle=line, linewidth=2.4 if line == ":" else None)
        axes.text(len(error) + 1, places[name], name, color=colour, va="center", fontsize=10)
    for boundary in range(-data.at % data.chunk_size, len(error), data.chunk_size):
        axes.axvline(boundary, color="0.75", linestyle=":", linewidth=1)
    axes.text(len(error) + 1, 8, "left behind:", fontsize=10, color="0.3")
    axes.text(45, 1.6e-3, "nothing left behind: below 1e-12, far under this axis", fontsize=10)
    axes.set(yscale="log", xlabel="tokens since the cut", ylabel="largest |Δ logit| (of the last 9)")
    axes.set(ylim=(1e-3, 20), xlim=(0, len(error) + 52))
    axes.set_xticks(range(0, len(error), 32))
    return picture


# --- an untrained reader ----------------------------------------------------------------------------------------------


class Reader(NamedTuple):
    """What figure ``untrained_reader`` shows: bits per token in each round, (rounds,), mean over seeds."""

    still: Array  # the word again and again, levels held still
    learning: Array  # the same, levels learn
    noise: Array  # levels learn, but every token is drawn at random
    vocabulary: int
    word: int


@lru_cache(maxsize=1)
def untrained_reader_data(seeds: int = 2, rounds: int = 16, word: int = 24, vocabulary: int = 32) -> Reader:
    """A HOPE with its starting weights reads; its loss on each token is counted before anything has learned from it."""
    found: dict[str, list[Array]] = {"still": [], "learning": [], "noise": []}
    config = HopeConfig(
        width=32,
        heads=2,
        vocabulary=vocabulary,
        blocks=1,
        memory_chunk_size=8,
        projection_chunk_size=8,
        levels_chunk_sizes=(8, 32),
    )
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        model = Hope(config.replace(seed=seed)).double()
        repeated = np.tile(rng.integers(0, vocabulary, word), rounds + 1)[: rounds * word + 1]
        noise = rng.integers(0, vocabulary, rounds * word + 1)
        for name, tokens, learns in (
            ("still", repeated, False),
            ("learning", repeated, True),
            ("noise", noise, True),
        ):
            read = torch.from_numpy(tokens)
            with torch.no_grad():
                logits = adapt(model, read[:-1])[0] if learns else model(read[:-1])[0]
                nats = torch.nn.functional.cross_entropy(logits, read[1:], reduction="none")
            found[name].append(nats.numpy().reshape(rounds, word).mean(axis=1) / np.log(2))
    mean = {name: np.asarray(np.mean(runs, axis=0)) for name, runs in found.items()}
    return Reader(**mean, vocabulary=vocabulary, word=word)


@figure(
    "untrained_reader",
    alt="Bits per token of an untrained HOPE over sixteen rounds of the same 24 symbols. With levels that "
    "learn it falls from above 5 to below 2; with levels held still, or on random symbols, it stays above "
    "the 5 of guessing.",
    caption="Nobody has trained this model. It improves by reading, because its levels learn from the "
    "tokens so far; where there is nothing to learn they learn nothing.",
)
def untrained_reader(data: Reader | None = None) -> Figure:
    """Three lines over the rounds, and the line of guessing."""
    data = data or untrained_reader_data()
    picture, axes = plt.subplots(figsize=(7.4, 3.8))
    rounds = np.arange(1, len(data.still) + 1)
    for values, colour, line, marker in (
        (data.still, BLUE, "--", "s"),
        (data.learning, VERMILION, "-", "o"),
        (data.noise, ORANGE, "-.", "^"),
    ):
        axes.plot(rounds, values, color=colour, linestyle=line, marker=marker)
    axes.axhline(np.log2(data.vocabulary), color="0.5", linestyle=":", linewidth=1.4)
    axes.text(16.5, np.log2(data.vocabulary) + 0.08, "guessing", color="0.35", va="bottom", fontsize=9.5)
    axes.text(6.6, 3.15, "levels learn while it reads", color=VERMILION)
    axes.text(10.5, 4.55, "levels held still", color=BLUE)
    axes.text(6.5, 6.35, "levels learn, random symbols", color="#8A5A00")
    axes.set(xlabel="round of the same 24 symbols", ylabel="bits per token", xlim=(0.6, 18.4), ylim=(0, 7))
    axes.set_xticks(range(1, 17, 3))
    return picture
