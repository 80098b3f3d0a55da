"""Figures of the stability laboratory: what overflows, what erases itself, and what collapses without the skip."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.laboratory.skip_free import repeated_pair, skip_free
from hope_ref.laboratory.stability import Trace, measure, random_stream, started
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION, figure


class Overflows(NamedTuple):
    """What figure ``overflow_and_repairs`` shows, of one seed."""

    norms: dict[
        int, Array
    ]  # by chunk size: largest norm of any weight after t tokens, (T + 1,), both repairs off
    last: dict[int, int]  # by chunk size: the token that overflows
    errors: dict[str, Array]  # by repair: largest ‖M(k) - v̂‖ of any memory, (T,)


REPAIRS: dict[str, dict[str, Any]] = {
    "bound, c = 10": {"surprise_bound": 10.0},
    "bound, c = 1": {"surprise_bound": 1.0},
    "unit values": {"value_norm": True},
    "both": {"surprise_bound": 1.0, "value_norm": True},
}


def over(arrays: dict[str, Array]) -> Array:
    """The largest entry of several arrays, place by place."""
    return np.max(list(arrays.values()), axis=0)


@lru_cache(maxsize=1)
def overflows_data(width: int = 16, tokens: int = 200, seed: int = 0) -> Overflows:
    """`HopeConfig.printed()` on one stream with three chunk sizes; then, at C = 16, each repair and both."""
    stream, data = random_stream(tokens, width, seed), Overflows({}, {}, {})
    for size in (1, 16, 64):
        config = HopeConfig.printed(width=width, memory_chunk_size=size, projection_chunk_size=size)
        trace = measure(config, started(config, seed, "init"), stream)
        assert trace.overflow is not None
        data.norms[size], data.last[size] = over(trace.norms), trace.overflow
    for name, repair in REPAIRS.items():
        config = HopeConfig.printed(width=width, **repair)
        data.errors[name] = over(measure(config, started(config, seed, "init"), stream).errors)
    return data


@figure(
    "overflow_and_repairs",
    alt="Left, largest weight norm over tokens as printed, up to 1e300: chunks of 1, 16 and 64 all "
    "overflow, larger ones later. Right, largest inner error: with unit values it falls, with a bound of 1 "
    "it stays steady, with 10 it grows past a million.",
    caption="As printed, a target that grows feeds itself: larger chunks only delay the overflow. Unit values or a bound of 1 stop "
    "it here; a bound of 10 on explicit steps does not.",
)
def overflow_and_repairs(data: Overflows | None = None) -> Figure:
    """Norms with neither repair, and inner errors with each."""
    data = data or overflows_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.7))
    styles = zip(data.norms.items(), (VERMILION, PURPLE, BLUE), ("-", "--", "-."), strict=True)
    for (size, norms), colour, line in styles:
        digits = np.log10(norms[np.isfinite(norms)])  # 1e308 leaves a logarithmic axis no room
        end = (len(digits) - 1, digits[-1])
        left.plot(digits, color=colour, linestyle=line)
        left.plot(*end, color=colour, marker="X", markersize=10)
        beside = (-8, 8, "right") if size == 64 else (10, 0, "left")
        left.annotate(f"C = {size}", end, beside[:2], textcoords="offset points", color=colour, ha=beside[2])
    left.axhline(np.log10(np.finfo(float).max), color="0.5", linewidth=1)
    left.text(203, 313, "largest float64: 1.8 × 10³⁰⁸", color="0.35", fontsize=9, ha="right")
    left.set(xlabel="token", ylabel="largest ‖W‖", xlim=(0, 205), ylim=(0, 335))
    left.set_yticks([0, 100, 200, 300], ["1", "10¹⁰⁰", "10²⁰⁰", "10³⁰⁰"])
    left.set_title("As printed: neither repair")
    looks = {"bound, c = 10": (VERMILION, "-"), "bound, c = 1": ("#A06A00", "--")}
    looks |= {"unit values": (BLUE, "-"), "both": (BLACK, ":")}
    for name, errors in data.errors.items():
        right.plot(np.arange(len(errors)), errors, color=looks[name][0], linestyle=looks[name][1])
    right.set(yscale="log", xlabel="token", ylabel="largest ‖M(k) − v̂‖", ylim=(0.03, 3e6), xlim=(0, 205))
    for name, spot in (
        ("bound, c = 10", (53, 2e5)),
        ("bound, c = 1", (120, 45)),
        ("unit values", (35, 1.5)),
        ("both (dotted)", (30, 0.07)),
    ):
        right.text(*spot, name, color=looks[name.removesuffix(" (dotted)")][0])
    right.set_title("Repairs, C = 16")
    return picture


class Erasure(NamedTuple):
    """What figure ``rule_erases_itself`` shows, over tokens."""

    kept: dict[
        str, Array
    ]  # by retention: √Σ‖W‖² of M_k, M_v, M_η, M_α over its start, (T + 1,), mean over seeds
    learned: dict[
        str, Array
    ]  # root mean square of what M_α adds to α's logit, over blocks, against the first block
    block: int
    drift: dict[
        str, Array
    ]  # by step and erase: ‖W2_t - W2_0‖ / ‖W2_0‖ of `memory`, (T + 1,), mean over seeds


RETENTION: dict[str, dict[str, Any]] = {
    "all, to 0": {"retention_scope": "all", "retention_target": "zero", "erase": "full"},
    "memory only": {"erase": "full"},
    "all, to the start": {"retention_scope": "all", "erase": "full"},
}
ERASE: dict[str, dict[str, Any]] = {
    "normalised": {"step": "normalized", "erase": "full"},
    "implicit": {"erase": "full"},
    "normalised, deviation": {"step": "normalized"},
    "implicit, deviation": {},
}


def projections(trace: Trace) -> Array:
    """√Σ‖W_t‖² over all weights but those of `memory`, relative to the start."""
    squares = [along**2 for name, along in trace.norms.items() if not name.endswith("_memory")]
    size: Array = np.sqrt(np.sum(squares, axis=0))
    return size / size[0]


def blocks(values: Array, size: int) -> Array:
    """Root mean square over seeds and blocks of tokens, relative to the first block; values (seeds, T)."""
    square = (values**2).mean(axis=0)[: values.shape[1] // size * size]
    found: Array = np.sqrt(square.reshape(-1, size).mean(axis=1))
    return found / found[0]


@lru_cache(maxsize=1)
def erasure_data(width: int = 16, tokens: int = 120, seeds: int = 4, block: int = 12) -> Erasure:
    """Retention under the printed erase of all of W, on random parameters; then step and erase, on those of `init`."""
    data = Erasure({}, {}, block, {})

    def runs(changes: dict[str, Any], start: str) -> list[Trace]:
        config = HopeConfig(width=width, **changes)
        return [
            measure(config, started(config, seed, start), random_stream(tokens, width, seed))
            for seed in range(seeds if start == "random" else seeds // 2)  # α differs more than ‖W2‖
        ]

    for name, changes in RETENTION.items():
        traces = runs(changes, "random")
        data.kept[name] = np.mean([projections(trace) for trace in traces], axis=0)
        data.learned[name] = blocks(np.array([trace.alpha_learned for trace in traces]), block)
    for name, changes in ERASE.items():
        shares = [t.drift["w2_memory"] / t.norms["w2_memory"][0] for t in runs(changes, "init")]
        data.drift[name] = np.mean(shares, axis=0)
    return data


@figure(
    "rule_erases_itself",
    alt="Three plots over 120 tokens. Retention of every memory toward zero wipes the makers out, retention "
    "of memory only wears them down, toward the start keeps most; a full erase moves W2 far from its start, "
    "an erase of the deviation hardly.",
    caption="Retention toward 0 on every memory erases the rule that makes α; a full erase does so too, "
    "more slowly, and eats the features W2 of `memory` with either step: erasing only the deviation from "
    "the start keeps them.",
)
def rule_erases_itself(data: Erasure | None = None) -> Figure:
    """What retention leaves of the rule, and what the erase term leaves of the features."""
    data = data or erasure_data()
    picture, axes = plt.subplots(1, 3, figsize=(9.6, 3.6))
    looks = dict(zip(RETENTION, ((VERMILION, "-", "o"), (BLUE, "--", "s"), (GREEN, "-.", "^")), strict=True))
    tokens = np.arange(len(next(iter(data.kept.values()))))
    for name, (colour, line, marker) in looks.items():
        axes[0].plot(tokens, data.kept[name], color=colour, linestyle=line)
        middle = data.block * (np.arange(len(data.learned[name])) + 0.5)
        axes[1].plot(middle, data.learned[name], color=colour, linestyle=line, marker=marker, markersize=4)
    for name, spot in zip(RETENTION, ((30, 0.15), (42, 0.63), (35, 1.02)), strict=True):
        axes[0].text(*spot, name, color=looks[name][0])
    axes[0].set(ylabel="‖W‖ / ‖W₀‖ of M_k … M_α", ylim=(0, 1.15))
    axes[0].set_title("Retention on …")
    axes[1].set(ylabel="what M_α adds to α, relative", ylim=(0, None))
    axes[1].set_title("… and the memory of α")
    colours = dict(zip(ERASE, ((ORANGE, "-"), (BLUE, "--"), (ORANGE, ":"), (SKY, "-.")), strict=True))
    for name, along in data.drift.items():
        axes[2].plot(tokens, along, color=colours[name][0], linestyle=colours[name][1])
    axes[2].text(5, 1.02, "full: normalised", color="#A06A00")
    axes[2].text(48, 0.6, "full: implicit", color=BLUE)
    axes[2].text(20, 0.13, "deviation: either step", color="0.3")
    axes[2].set(ylabel="‖W₂ − W₂ at the start‖ / start", ylim=(0, 1.15))
    axes[2].set_title("Erase")
    for axis in axes:
        axis.set(xlabel="token", xlim=(0, tokens[-1]))
    return picture


class SkipFreeTargets(NamedTuple):
    """What figure ``collapse_without_skip`` shows."""

    etas: Array  # (n,)
    factors: dict[str, Array]  # measured factor per write of one pair, by objective (and chunk)
    stream_etas: Array  # (m,)
    rates: dict[
        str, Array
    ]  # growth of log ‖W‖ per token under self-made targets, by objective, mean over seeds
    norms: dict[str, Array]  # ‖W_t‖ of some of them


@lru_cache(maxsize=1)
def skip_free_data(tokens: int = 800, seeds: int = 2) -> SkipFreeTargets:
    """Factors of a repeated pair at α = 1; growth over a stream of random pairs whose targets the memory makes."""
    etas, stream_etas = np.linspace(0.05, 0.95, 10), np.linspace(0.1, 1.3, 13)
    within = [repeated_pair(eta, "l2", chunk_size=40, writes=120).answers[1:4] for eta in etas]
    moved = np.array([(a[2] - a[1]) @ (a[1] - a[0]) / ((a[1] - a[0]) @ (a[1] - a[0])) for a in within])
    factors = {o: np.array([repeated_pair(eta, o, writes=9).factor for eta in etas]) for o in ("dot", "l2")}
    rates = {
        objective: np.array(
            [
                np.mean([skip_free(eta, objective, tokens=tokens, seed=seed).rate for seed in range(seeds)])
                for eta in stream_etas
            ]
        )
        for objective in ("dot", "l2")
    }
    shown: dict[str, dict[str, Any]] = {
        "l2, η = 0.9": {"eta": 0.9, "objective": "l2"},
        "dot, η = 0.5": {"eta": 0.5, "objective": "dot"},
        "l2, η = 0.3": {"eta": 0.3, "objective": "l2"},
        "l2, η = 0.3, with the skip": {"eta": 0.3, "objective": "l2", "skip": True},
    }
    norms = {name: skip_free(tokens=tokens, **given).norms for name, given in shown.items()}
    return SkipFreeTargets(etas, factors | {"l2 in a chunk": moved}, stream_etas, rates, norms)


@figure(
    "collapse_without_skip",
    alt="Left, the factor per write against step size: token by token, regression's turns negative past one "
    "half. Middle, growth without the skip: negative for small steps, positive for large. Right, norms: "
    "only with the skip they settle.",
    caption="Regression inside Delta Gradient Descent erases twice, so its factor turns negative; without "
    "the skip, self-made targets leave only collapse or explosion, and with it the memory settles.",
)
def collapse_without_skip(data: SkipFreeTargets | None = None) -> Figure:
    """Factors of a pair, growth of a stream, and some of its norms."""
    data = data or skip_free_data()
    picture, axes = plt.subplots(1, 3, figsize=(9.6, 3.6))
    looks = {"dot": (BLUE, "-", "o"), "l2": (VERMILION, "--", "s"), "l2 in a chunk": (PURPLE, "none", "x")}
    for name, factor in data.factors.items():
        colour, line, marker = looks[name]
        size = 9 if marker == "x" else 6
        axes[0].plot(data.etas, factor, color=colour, linestyle=line, marker=marker, markersize=size)
    axes[0].axhline(0, color="0.4", linewidth=1)
    axes[0].text(0.4, 0.72, "dot, and ×: l2\nin a chunk", color=BLUE)
    axes[0].text(0.06, -0.4, "l2 token\nby token", color=VERMILION)
    axes[0].set(xlabel="η̃ (unit key)", ylabel="factor per write", xlim=(0, 1), ylim=(-1, 1.05))
    axes[0].set_title("One pair, α = 1")
    for name, rate in data.rates.items():
        colour, line, marker = looks[name]
        axes[1].plot(data.stream_etas, rate, color=colour, linestyle=line, marker=marker, markersize=4)
    axes[1].axhspan(-0.08, 0, color="0.93", zorder=0)
    axes[1].text(0.06, -0.076, "collapses", color="0.35")
    axes[1].text(0.06, 0.066, "explodes", color="0.35")
    axes[1].text(1.02, -0.022, "dot", color=BLUE)
    axes[1].text(0.78, 0.04, "l2", color=VERMILION)
    axes[1].set(xlabel="η", ylabel="growth of log ‖W‖ per token", ylim=(-0.08, 0.08), xlim=(0, 1.35))
    axes[1].set_title("No skip, own targets")
    tones = ((VERMILION, "--"), (BLUE, "-"), (ORANGE, "-."), (GREEN, "-"))
    for (_, norms), (colour, line) in zip(data.norms.items(), tones, strict=True):
        axes[2].plot(norms, color=colour, linestyle=line, linewidth=1.6)
    for (name, spot), (colour, _) in zip(
        {
            "l2, η = 0.9": (90, 1e6),
            "dot, η = 0.5": (430, 1e-5),
            "l2, η = 0.3": (40, 1e-14),
            "with the skip": (420, 2e1),
        }.items(),
        tones,
        strict=True,
    ):
        axes[2].text(*spot, name, color="#A06A00" if colour == ORANGE else colour)
    axes[2].set(yscale="log", xlabel="token", ylabel="‖W‖", ylim=(1e-20, 1e12), xlim=(0, len(norms) - 1))
    axes[2].set_title("… over the tokens")
    return picture
