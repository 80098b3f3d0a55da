"""Figures of notebook 06: a surprise outlasts its token, and no other; what forgetting costs; a change of the stream."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from hope_ref.common.validation import Array
from hope_ref.parallel import titans as in_torch
from hope_ref.reference.titans import memory_read, start, titans
from hope_ref.teaching.figures import BLACK, BLUE, GREEN, PURPLE, VERMILION, figure
from hope_ref.teaching.gallery.linear_attention import unit_keys

Gates = tuple[float, float]  # (α, μ)


class Outlasts(NamedTuple):
    """What figure ``surprise_outlasts_its_token`` shows."""

    after: Array  # tokens since the surprise, n = 0, 1, 2, …
    share: dict[Gates, Array]  # by (α, μ): what of η e k is in the memory n tokens later


def surprise_outlasts_its_token_data(tokens: int = 30, eta: float = 0.1) -> Outlasts:
    """One pair that surprises, then tokens that teach nothing (η = 0), through the reference of Titans."""
    key, value = np.eye(2)[:1], np.ones((1, 1))
    data = Outlasts(np.arange(float(tokens)), {})
    for alpha, mu in ((1.0, 0.0), (0.9, 0.0), (1.0, 0.8), (0.9, 0.8)):
        rates = np.where(data.after == 0, eta, 0.0)
        keys, values = np.repeat(key, tokens, 0), np.repeat(value, tokens, 0)
        y, _ = titans(keys, keys, values, rates, alpha, mu, start(np.zeros((1, 2))))
        data.share[alpha, mu] = y[:, 0] / eta
    return data


@figure(
    "surprise_outlasts_its_token",
    alt="How much of one surprise is in the memory over 30 tokens, in units of its first write. Alone, "
    "forgetting fades it from 1 and momentum builds it up to 5; with both it peaks near 2.6 after some five "
    "tokens, then fades; with neither it stays at 1.",
    caption="Momentum goes on writing a surprise after its token has passed; forgetting takes it out again. Together they make "
    "a memory that is fullest some tokens later.",
)
def surprise_outlasts_its_token(data: Outlasts | None = None) -> Figure:
    """The share of one surprise over time, for four pairs of gates."""
    data = data or surprise_outlasts_its_token_data()
    picture, axes = plt.subplots(figsize=(7.4, 3.7))
    looks = {
        (1.0, 0.8): (VERMILION, "-", "s", "momentum: μ = 0.8"),
        (0.9, 0.8): (PURPLE, "-.", "D", "both"),
        (1.0, 0.0): (BLACK, "-", "o", "neither: α = 1, μ = 0"),
        (0.9, 0.0): (BLUE, "--", "^", "forgetting: α = 0.9"),
    }
    spots = {
        (1.0, 0.8): (12, 4.35),
        (0.9, 0.8): (13.2, 1.95),
        (1.0, 0.0): (20, 1.12),
        (0.9, 0.0): (8.6, 0.52),
    }
    for gates, (colour, line, marker, words) in looks.items():
        axes.plot(
            data.after,
            data.share[gates],
            color=colour,
            linestyle=line,
            marker=marker,
            markevery=3,
            markersize=5,
        )
        axes.text(*spots[gates], words, color=colour)
    axes.set(
        xlabel="tokens after the surprise", ylabel="share in the memory\n(first write = 1)", ylim=(0, 5.3)
    )
    axes.set_title("One surprise, then nothing to learn")
    return picture


class TokenAfter(NamedTuple):
    """What figure ``token_after_the_surprise`` shows, over the tokens of a familiar stream with two new pairs."""

    at: int  # the surprise's token; the other new pair follows
    surprise: dict[float, Array]  # by μ: how much of its value the memory answers to the surprise's key
    own: Array  # μ = 0.9: how much of its own value it answers to the next key, cos = 0
    alone: Array  # the same, when a familiar token stood in the surprise's place
    mixed: Array  # μ = 0.9: how much of the *surprise's* value it answers to the next key, cos = 0.6


def token_after_the_surprise_data(
    eta: float = 0.1, tokens: int = 40, at: int = 4, mus: tuple[float, ...] = (0.0, 0.6, 0.9)
) -> TokenAfter:
    """Four pairs that the memory knows by heart, over and over; token ``at`` is a pair that it does not know, the next one too."""

    def answers(mu: float, cosine: float, surprising: bool = True) -> tuple[Array, Array, Array]:
        basis, values = np.eye(6), np.eye(6)
        following = cosine * basis[4] + np.sqrt(1 - cosine**2) * basis[5]
        k, v = basis[np.arange(tokens) % 4], values[np.arange(tokens) % 4]
        if surprising:
            k[at], v[at] = basis[4], values[4]
        k[at + 1], v[at + 1] = following, values[5]
        state, found = start(values[:4].T @ basis[:4]), []
        for t in range(tokens):
            one = slice(t, t + 1)
            _, state = titans(k[one], k[one], v[one], eta, 1.0, mu, state)
            to_first, to_next = (memory_read(state.weights, z) for z in (basis[4], following))
            found.append([to_first @ values[4], to_next @ values[5], to_next @ values[4]])
        first, own, mixed = np.array(found).T
        return first, own, mixed

    surprise = {mu: answers(mu, 0.0)[0] for mu in mus}
    _, own, _ = answers(mus[-1], 0.0)
    _, alone, _ = answers(mus[-1], 0.0, surprising=False)
    return TokenAfter(at, surprise, own, alone, answers(mus[-1], 0.6)[2])


@figure(
    "token_after_the_surprise",
    alt="Left, share of a once-seen value over later tokens: 0.1 without momentum, nearly 1 with mu 0.9. "
    "Right, the next token's own value rises the same with or without a surprise before it; with "
    "overlapping keys it takes on half of the surprise's value.",
    caption="Momentum stores a surprise that was seen once. For the token after it, it does no more than if "
    "no surprise had come before; where their keys overlap, it mixes in the surprise's value.",
)
def token_after_the_surprise(data: TokenAfter | None = None) -> Figure:
    """What is stored of the surprise, and of the token after it."""
    data = data or token_after_the_surprise_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.7), sharey=True)
    looks = ((BLACK, "-", "o"), (BLUE, "--", "^"), (VERMILION, "-", "s"))
    time = np.arange(len(data.own)) - data.at
    for (mu, share), (colour, line, marker) in zip(data.surprise.items(), looks, strict=True):
        left.plot(time, share, color=colour, linestyle=line, marker=marker, markevery=4, markersize=5)
        left.text(time[-1] - 1, share[-1] + 0.04, f"μ = {mu:g}", color=colour, ha="right")
    left.set(xlabel="tokens after the surprise", ylabel="share of the value answered", ylim=(-0.04, 1.12))
    left.set_title("The surprise, seen once")
    right.plot(time, data.alone, color="0.55", linewidth=5, solid_capstyle="butt")
    right.plot(time, data.own, color=VERMILION, marker="s", markevery=4, markersize=5, linewidth=1.6)
    right.plot(time, data.mixed, color=PURPLE, linestyle="-.", marker="D", markevery=4, markersize=5)
    thin = {"arrowstyle": "-", "color": "0.45"}
    right.annotate("its own value", (9, 0.6), (-3.5, 0.77), color=VERMILION, arrowprops=thin)
    right.annotate(
        "the same without a\nsurprise before it",
        (20, 0.88),
        (21.5, 0.8),
        color="0.35",
        arrowprops=thin,
        va="top",
    )
    right.text(35, 0.4, "the surprise's value,\nkeys at cos = 0.6", color=PURPLE, ha="right", va="top")
    right.set(xlabel="tokens after the surprise")
    right.set_title("The token after it, μ = 0.9")
    return picture


# --- what forgetting costs ------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What figure ``cost_of_forgetting`` shows."""

    answers: dict[
        Gates, Array
    ]  # by (α, μ): the share of v answered after each repeat of one pair, matrix memory
    etas: float  # their η
    rho: Array  # (N,) (1 - α)(1 - μ)/η
    matrix: Array  # (N,) the share at rest, matrix memory
    alive: Array  # (N,) MLP memory: share at rest of v - k, from a fresh start
    dying: Array  # (N,) the same, from weights that have nearly faded
    edge: float  # ‖v - k‖/2: beyond it what has nearly faded cannot grow


def _at_rest(rho: Array, weights: tuple[Array, ...], k: Array, v: Array, skip: Array, repeats: int) -> Array:
    """The share of v - skip answered after so many repeats of one pair, for all ρ at once: η = 0.3, μ = 0."""
    eta = 0.3
    lead = (len(rho),)

    def every(array: Array) -> Tensor:
        return torch.from_numpy(array).expand(*lead, *array.shape)

    keys, values = (every(np.repeat(row[None], repeats, 0)) for row in (k, v))
    alpha = torch.from_numpy(1 - rho * eta)[:, None].expand(*lead, repeats)
    y, _ = in_torch.titans(keys, keys, values, eta, alpha, 0.0, in_torch.start(*(every(w) for w in weights)))
    wanted = v - skip
    share: Array = (y[:, -1].numpy() - skip) @ wanted / (wanted @ wanted)
    return share


@lru_cache(maxsize=1)
def cost_of_forgetting_data(width: int = 8, hidden: int = 16, repeats: int = 1500) -> Cost:
    """Repeat one pair with k ⟂ v: follow a matrix memory, then measure where both kinds of memory come to rest."""
    k, v = np.eye(width)[:2]
    eta, answers = 0.1, {}
    for gates in ((1.0, 0.0), (1.0, 0.8), (0.95, 0.0), (0.95, 0.8)):
        keys, values = np.repeat(k[None], 80, 0), np.repeat(v[None], 80, 0)
        y, _ = titans(keys, keys, values, eta, *gates, start(np.zeros((width, width))))
        answers[gates] = y @ v
    rho = np.linspace(0.0, 1.28, 33)
    w2 = 2 * np.linalg.qr(np.random.default_rng(0).normal(size=(hidden, width)))[0]
    nothing, zero = np.zeros((width, hidden)), np.zeros(width)
    return Cost(
        answers,
        eta,
        rho,
        _at_rest(rho, (np.zeros((width, width)),), k, v, zero, repeats),
        _at_rest(rho, (nothing, w2), k, v, k, repeats),
        _at_rest(rho, (nothing, 1e-3 * w2), k, v, k, repeats),
        float(np.linalg.norm(v - k)) / 2,
    )


@figure(
    "cost_of_forgetting",
    alt="Left, share of the value answered over 80 repeats: it reaches 1 without forgetting, less with it. "
    "Right, the share at rest against forgetting: a matrix memory falls slowly, an MLP memory drops to "
    "zero, sooner if it starts nearly faded.",
    caption="A memory that forgets never quite learns. A matrix loses a share; beyond a limit an MLP loses "
    "everything, and what has faded does not come back.",
)
def cost_of_forgetting(data: Cost | None = None) -> Figure:
    """Answers over repeats, and shares at rest."""
    data = data or cost_of_forgetting_data()
    picture, (left, right) = plt.subplots(1, 2, figsize=(8.8, 3.8))
    looks = {
        (1.0, 0.8): (VERMILION, "-", "s", (14, 1.33)),
        (1.0, 0.0): (BLACK, "-", "o", (58, 1.06)),
        (0.95, 0.8): (PURPLE, "-.", "D", (41, 0.80)),
        (0.95, 0.0): (BLUE, "--", "^", (46, 0.55)),
    }
    left.axhline(1, color="0.7", linewidth=1)
    for (alpha, mu), (colour, line, marker, spot) in looks.items():
        share = data.answers[alpha, mu]
        left.plot(
            share, color=colour, linestyle=line, marker=marker, markevery=8, markersize=5, linewidth=1.8
        )
        left.text(*spot, f"α = {alpha:g}, μ = {mu:g}", color=colour)
    left.set(xlabel="repeats of one pair", ylabel="share of the value answered", ylim=(0, 1.5))
    left.set_title(f"A matrix memory, η = {data.etas:g}")
    right.plot(data.rho, data.matrix, color=BLUE, linestyle="--")
    right.text(0.93, 0.58, "matrix memory", color=BLUE)
    right.plot(data.rho, data.alive, color=VERMILION, marker="o", markersize=3.5, linewidth=1.2)
    right.text(0.08, 0.44, "MLP memory,\nfresh", color=VERMILION)
    right.plot(data.rho, data.dying, color=GREEN, linestyle="none", marker="x", markersize=5)
    right.annotate(
        "MLP memory,\nnearly faded",
        (0.64, 0.0),
        (0.12, 0.1),
        color=GREEN,
        arrowprops={"arrowstyle": "-", "color": "0.45"},
    )
    right.axvline(data.edge, color="0.5", linestyle=":", linewidth=1.4)
    right.text(data.edge + 0.02, 0.93, "‖v − k‖/2", color="0.35")
    right.set(xlabel="ρ = (1 − α)(1 − μ)/η", ylim=(-0.04, 1.05), ylabel="share at rest")
    right.set_title("Where the pair comes to rest")
    return picture


# --- a change of the stream -----------------------------------------------------------------------------------------

ETA = 0.3
CHANGE: dict[str, Gates] = {
    "neither": (1.0, 0.0),
    "momentum": (1.0, 0.6),
    "forgetting": (0.95, 0.0),
    "both": (0.95, 0.6),
}


class Change(NamedTuple):
    """What figure ``change_of_the_stream`` shows: root mean square surprise ‖M(k) - v‖ per round of all pairs."""

    matrix: dict[str, Array]  # by the names of `CHANGE`, and "same reach": μ = 0.6 at η (1 - μ)
    mlp: dict[str, Array]
    rounds: int  # rounds before the change, and as many after it


def changing_stream(
    seed: int, width: int, pairs: int, rounds: int, common: float = 0.0
) -> tuple[Array, Array]:
    """Unit keys and values, every pair once per round in a new order; half way all keys get new values.

    ``common`` is the share of one direction in all keys: at 0.9 two keys have a cosine of about 0.8.
    """
    rng = np.random.default_rng(seed)
    keys, values = unit_keys(pairs, width, rng), unit_keys(2 * pairs, width, rng)
    keys = common * unit_keys(1, width, rng) + np.sqrt(1 - common**2) * keys
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    order = np.concatenate([rng.permutation(pairs) for _ in range(2 * rounds)])
    late = np.repeat([0, pairs], rounds * pairs)
    return keys[order], values[order + late]


def surprises(
    weights: tuple[Array, ...], k: Array, v: Array, eta: float | Array, alpha: float, mu: float
) -> Array:
    """‖M_{t-1}(k_t) - v_t‖, (streams, T), for streams k and v (streams, T, d): what each token finds, before its write.

    The rate is one number, or one for each stream.
    """
    lead = k.shape[:1]
    # one η, α and μ for every stream and token, (streams, 1)
    rate, keep, fade = (
        torch.as_tensor(gate, dtype=torch.float64).expand(lead)[:, None] for gate in (eta, alpha, mu)
    )
    state = in_torch.start(*(torch.from_numpy(w).expand(*lead, *w.shape) for w in weights))
    keys, values, found = torch.from_numpy(k), torch.from_numpy(v), []
    for t in range(k.shape[1]):
        one = slice(t, t + 1)
        error = in_torch.memory_read(state.weights, keys[:, t]) - values[:, t]
        found.append(error.norm(dim=-1).numpy())
        k_t, v_t = keys[:, one], values[:, one]  # (streams, 1, d)
        _, state = in_torch.stream(k_t, k_t, v_t, rate, keep, fade, state, chunk_size=1, block_size=1)
    return np.stack(found, axis=1)


@lru_cache(maxsize=1)
def change_of_the_stream_data(
    seeds: int = 32, width: int = 16, pairs: int = 8, rounds: int = 12, hidden: int = 64
) -> Change:
    """32 streams of 8 pairs, through a matrix memory and an MLP memory with each setting of the gates."""
    streams = [changing_stream(seed, width, pairs, rounds) for seed in range(seeds)]
    k, v = (np.stack(part) for part in zip(*streams, strict=True))
    w2 = 2 * np.linalg.qr(np.random.default_rng(0).normal(size=(hidden, width)))[0]
    memories: tuple[tuple[Array, ...], ...] = (
        (np.zeros((width, width)),),
        (np.zeros((width, hidden)), w2),
    )
    curves: list[dict[str, Array]] = []
    for weights in memories:
        settings: dict[str, tuple[float, float, float]] = {
            name: (ETA, *gates) for name, gates in CHANGE.items()
        }
        settings["same reach"] = (ETA * (1 - 0.6), 1.0, 0.6)
        found = {}
        for name, (eta, alpha, mu) in settings.items():
            square = surprises(weights, k, v, eta, alpha, mu) ** 2
            found[name] = np.sqrt(square.reshape(seeds, 2 * rounds, pairs).mean(axis=(0, 2)))
        curves.append(found)
    return Change(curves[0], curves[1], rounds)


RATES = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.3, 1.6])


def best_rates_data(
    common: float, seeds: int = 16, width: int = 16, pairs: int = 8, rounds: int = 12
) -> dict[float, Array]:
    """By μ: surprise of a matrix memory in the last round before any change, for every rate of `RATES`; α = 1."""
    streams = [changing_stream(seed, width, pairs, rounds, common) for seed in range(seeds)]
    k, v = (np.stack(part)[:, : rounds * pairs] for part in zip(*streams, strict=True))
    k, v = (np.tile(part, (len(RATES), 1, 1)) for part in (k, v))  # every stream at every rate, all at once
    found = {}
    for mu in (0.0, 0.8, 0.9):
        each = surprises((np.zeros((width, width)),), k, v, np.repeat(RATES, seeds), 1.0, mu)
        found[mu] = np.sqrt((each[:, -pairs:] ** 2).reshape(len(RATES), -1).mean(axis=1))
    return found


@figure(
    "change_of_the_stream",
    alt="Surprise per round of eight pairs, with new values after 12 rounds, for a matrix and an MLP "
    "memory. Without forgetting it falls, jumps and falls again; with it the matrix stays higher, and the "
    "MLP that forgets without momentum never learns.",
    caption="After a change, forgetting softens the blow for three rounds and costs at all other times; the MLP memory that forgets "
    "at this rate without momentum stops learning altogether.",
)
def change_of_the_stream(data: Change | None = None) -> Figure:
    """Surprise over rounds, before and after all values change."""
    data = data or change_of_the_stream_data()
    picture, panels = plt.subplots(1, 2, figsize=(8.8, 3.9), sharey=True)
    looks = {
        "neither": (BLACK, "-", "o"),
        "momentum": (VERMILION, "-", "s"),
        "forgetting": (BLUE, "--", "^"),
        "both": (PURPLE, "-.", "D"),
    }
    spots: tuple[dict[str, Any], ...] = (
        {"neither": (5.3, 0.43), "momentum": (-0.3, 0.08), "forgetting": (4.1, 0.75), "both": (7.5, 0.57)},
        {"neither": (5.3, 0.43), "momentum": (-0.3, 0.08), "forgetting": (3.0, 1.46), "both": (7.5, 1.08)},
    )
    for axes, curves, places, title in zip(
        panels, (data.matrix, data.mlp), spots, ("A matrix memory", "An MLP memory"), strict=True
    ):
        axes.axvline(data.rounds - 0.5, color="0.6", linewidth=1.2, linestyle=":")
        axes.text(data.rounds - 0.2, 0.01, "new values", color="0.35", fontsize=9)
        for name, (colour, line, marker) in looks.items():
            axes.plot(curves[name], color=colour, linestyle=line, marker=marker, markersize=4, linewidth=1.6)
            axes.text(*places[name], name, color=colour)
        axes.set(xlabel="round of all eight pairs", ylim=(0, 1.62))
        axes.set_title(title)
    panels[0].set_ylabel("surprise ‖M(k) − v‖")
    return picture
