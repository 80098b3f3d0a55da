"""A, then B, then A again: does a continuum memory forget less than one MLP with as many parameters? [P 70-71], [D]

The learner sees the last one or two symbols through a fixed random table, a continuum memory answers, a fixed random
table reads its answer: θ is all that learns, by `adapt`, from the loss on the symbols just seen, in one pass.

A learner that learns less forgets less. So every model runs at every learning rate of one grid: its own rate is chosen
on other seeds by its loss while it learns A and B (what it forgets is not looked at), and the whole grid gives
forgetting as a function of what was learnt of B, which is read off where the models have learnt the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hope_ref.config import cms_options
from hope_ref.experiments.cells import Cell, Experiment, Measures
from hope_ref.experiments.continual_reading import CLOSE, SOURCES, sentence, tables
from hope_ref.parallel.continuum_memory import (
    AdaptState,
    Level,
    Weights,
    adapt_stream,
    first_state,
    read,
    weights_of,
)
from hope_ref.tasks import continual, text
from hope_ref.tasks.common import Integers

TUNING_SEEDS = (1001,)  # for the learning rates alone

# Chunk sizes of the levels, and how a slower level's rate follows from the fast one's. "sum": the same rate for every
# level, so a level moves by the sum over its chunk [P 71]; "mean": by the mean over its chunk times the fast chunk's size,
# so that every update counts the same and a slow level moves less.
MODELS: dict[str, tuple[tuple[int, ...], str, str]] = {
    "MLP": ((16,), "sum", "sequential"),
    "3 levels, sum": ((16, 128, 1024), "sum", "sequential"),
    "3 levels, mean": ((16, 128, 1024), "mean", "sequential"),
    "2 levels, sum": ((16, 256), "sum", "sequential"),
    "2 levels, mean": ((16, 256), "mean", "sequential"),
    "3 levels, one frequency": ((16, 16, 16), "sum", "sequential"),
    "3 levels, nested": ((16, 128, 1024), "mean", "nested"),
}


def cells(scale: str, seeds: Sequence[int]) -> list[Cell]:
    """Every model with every learning rate, on tuning seeds first; both streams."""
    quick = scale == "quick"
    shared: dict[str, Any] = {
        "width": 16 if quick else 64,
        "hidden": 24 if quick else 192,  # of all levels together
        "lanes": 2 if quick else 4,  # learners side by side, each with weights and a stream of its own
        "rates": [0.03] if quick else [0.0003, 0.001, 0.003, 0.01, 0.03],
        # 8 chunks of the slowest level, and some more for its last update to have acted
        "phase": 160 if quick else 8 * 1024 + 128,
        "held_out": 64 if quick else 512,
        "every": 32 if quick else 128,
    }
    sources: dict[str, dict[str, Any]] = {
        "Markov": {"symbols": 32, "branches": 4, "context": 1},
        "text": {"context": 2},
    }
    found = []
    for tuning in (True, False):
        for source in SOURCES[: 1 if quick else None]:
            for seed in TUNING_SEEDS if tuning else seeds:
                for model in list(MODELS)[: 3 if quick else None]:
                    sizes, slower, variant = MODELS[model]
                    if quick:
                        sizes = tuple(size // 8 for size in sizes)
                    own = {"chunk_sizes": list(sizes), "slower": slower, "variant": variant}
                    task = f"{source}, tuning" if tuning else source
                    settings = {"source": source, **sources[source], **shared, **own}
                    found.append(Cell("continual", task, model, seed, settings))
    return found


# --- the streams ----------------------------------------------------------------------------------------------------


class Streams(NamedTuple):
    """What is learnt, (lanes, 3 phases), and what is tested, (lanes, held_out + 1), the same for every model."""

    learnt: Tensor
    of_a: Tensor
    of_b: Tensor
    symbols: int
    text: str | None  # the beginning of the text's SHA-256
    floor: float | None  # the least bits per symbol that anyone can reach, where it is known


def streams(settings: dict[str, Any], seed: int) -> Streams:
    """A, B, A of one seed: two random Markov languages, or Python's manual and the same with its bytes renamed."""
    lanes, phase, held = settings["lanes"], settings["phase"], settings["held_out"] + 1
    if settings["source"] == "Markov":
        size = settings["symbols"]
        languages = [continual.markov(size, settings["branches"], (seed, number)) for number in (0, 1)]
        drawn = [
            continual.sample(language, 2 * phase, (seed, 2 + n), lanes)
            for n, language in enumerate(languages)
        ]
        tested = [
            continual.sample(language, held, (seed, 4 + n), lanes) for n, language in enumerate(languages)
        ]
        floor, checksum = mean(map(continual.entropy_rate, languages)), None
    else:
        data, checksum = text.load()[:2]
        alphabet, renamed = np.unique(data, return_inverse=True)
        size, floor, checksum = len(alphabet), None, checksum[:8]
        first, second = renamed.astype(np.int64), continual.permuted(renamed, (seed, 0))
        cut = len(text.split(data).train)
        rng = np.random.default_rng((seed, 1))

        def passages(words: Integers, low: int, high: int, length: int) -> Integers:
            return np.stack([words[s : s + length] for s in rng.integers(low, high - length, size=lanes)])

        drawn = [passages(words, 0, cut, 2 * phase) for words in (first, second)]
        tested = [passages(words, cut, len(data), held) for words in (first, second)]
    learnt = continual.stream({"A": drawn[0], "B": drawn[1]}, "ABA", phase).tokens
    of_a, of_b = map(torch.from_numpy, tested)
    return Streams(torch.from_numpy(learnt), of_a, of_b, size, checksum, floor)


# --- the learner ----------------------------------------------------------------------------------------------------


class Learner(NamedTuple):
    """Fixed tables around levels that learn; every lane starts from the same θ."""

    seen: Tensor  # (context, symbols, d): a symbol's vector by how long ago it was
    answers: Tensor  # (symbols, d)
    levels: list[Level]


def learner(settings: dict[str, Any], symbols: int, seed: int) -> Learner:
    """Drawn from the seed: tables of unit variance in, of unit length out; levels as `random_levels` draws them."""
    width, count = settings["width"], len(settings["chunk_sizes"])
    hidden = settings["hidden"] // count
    tables, weights = np.random.default_rng((seed, 2)), np.random.default_rng((seed, 3))
    seen = tables.normal(size=(settings["context"], symbols, width)) / math.sqrt(settings["context"])
    answers = tables.normal(size=(symbols, width)) / math.sqrt(width)
    levels = []
    for _ in range(count):
        w1 = weights.normal(size=(width, hidden)) * math.sqrt(0.25 / hidden)
        w2 = weights.normal(size=(hidden, width)) / math.sqrt(width)
        levels.append(Level(*(torch.from_numpy(p).float() for p in (w1, w2, np.ones(width)))))
    return Learner(torch.from_numpy(seen).float(), torch.from_numpy(answers).float(), levels)


def logits(own: Learner, tokens: Tensor, weights: Weights, before: Tensor) -> tuple[Tensor, Tensor]:
    """(lanes, T, symbols) for tokens (lanes, T) after ``before``, (lanes, context - 1); and what the next ones come after."""
    context, length = len(own.seen), tokens.shape[-1]
    line = torch.cat([before, tokens], -1)
    x = sum(own.seen[ago][line[:, context - 1 - ago :][:, :length]] for ago in range(context))
    assert isinstance(x, Tensor)
    y, _ = read(x, weights, own.levels, "sequential", "fast_to_slow")
    return y @ own.answers.mT, line[:, length:]


def bits(found: Tensor, targets: Tensor) -> Tensor:
    """-log₂ p of the targets, one by one."""
    return cross_entropy(found.flatten(0, -2), targets.flatten(), reduction="none") / math.log(2)


def _loss(found: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(found.flatten(0, -2), targets.flatten(), reduction="sum")


def level_rates(settings: dict[str, Any], rate: float) -> tuple[float, ...]:
    """Every level's rate: the fast level's, or in proportion to 1/C (see `MODELS`)."""
    sizes = settings["chunk_sizes"]
    return tuple(rate if settings["slower"] == "sum" else rate * sizes[0] / size for size in sizes)


# --- one run --------------------------------------------------------------------------------------------------------


def measure(cell: Cell) -> Measures:
    """One model at every rate of its grid: {"rate0": …, "rate1": …}, and what all of them share."""
    settings = dict(cell.settings)
    given = streams(settings, cell.seed)
    own = learner(settings, given.symbols, cell.seed)
    start = time.perf_counter()
    found: Measures = {
        f"rate{n}": follow(own, given, settings, rate) for n, rate in enumerate(settings["rates"])
    }
    found["parameters"] = sum(level.w1.numel() + level.w2.numel() for level in own.levels)
    found["chance"], found["floor"], found["text"] = math.log2(given.symbols), given.floor, given.text
    found["training_seconds"] = time.perf_counter() - start
    return found


def follow(own: Learner, given: Streams, settings: dict[str, Any], rate: float) -> Measures:
    """Learn the stream once at this rate, tested on held-out A and B every so many tokens."""
    phase, every, lanes = settings["phase"], settings["every"], settings["lanes"]
    tokens, sizes = given.learnt, settings["chunk_sizes"]
    before = torch.zeros(lanes, len(own.seen) - 1, dtype=torch.int64)

    def tested(state: AdaptState, held: Tensor) -> float:
        found, _ = logits(own, held[:, :-1], weights_of(state.continuum), before)
        return float(bits(found, held[:, 1:]).mean())

    def forward(piece: Tensor, weights: Weights, state: Tensor, _: Any) -> tuple[Tensor, Tensor]:
        return logits(own, piece, weights, state)

    rates = level_rates(settings, rate)
    options = cms_options(len(sizes), sizes, rates, variant=settings["variant"])
    state = AdaptState(first_state(own.levels, (lanes,)), before, before, tokens[:, :0])
    curve, online = [], [0.0, 0.0, 0.0]
    with torch.no_grad():
        for at in range(0, 3 * phase, every):
            piece = tokens[:, at : at + every]
            found, state = adapt_stream(piece, forward, _loss, state, options, 1, False)
            targets = tokens[:, at + 1 : at + every + 1]
            lost = bits(found[:, : targets.shape[1]], targets)
            online[at // phase] += float(lost.sum()) / lanes
            end = at + found.shape[1]
            if not torch.isfinite(lost).all():
                return {"tokens": at, "diverged": True}
            at_end, returned = end % phase == 0, end > 2 * phase
            if at_end or returned or end % (8 * every) == 0:
                curve.append((end, tested(state, given.of_a), tested(state, given.of_b)))
    if not np.isfinite(curve).all():
        return {"tokens": 3 * phase, "diverged": True}
    return {**_summary(curve, online, phase, every), "tokens": 3 * phase, "diverged": False}


def _summary(curve: list[tuple[int, float, float]], online: list[float], phase: int, every: int) -> Measures:
    """What the curve (tokens, bits on held-out A, on held-out B) says."""
    at = {end: (on_a, on_b) for end, on_a, on_b in curve}
    (before, _), (after, on_b), (again, _) = (at[n * phase] for n in (1, 2, 3))
    back = [end - 2 * phase for end, on_a, _ in curve if end > 2 * phase and on_a <= before + CLOSE]
    if after <= before + CLOSE:
        back = [0]
    return {
        "a_before_b": before,
        "a_after_b": after,
        "forgetting": continual.forgetting(before, after),
        "a_again": again,
        "b_before_b": at[phase][1],
        "b_after_b": on_b,
        "recovery_tokens": min(back, default=None),
        "online_learning": (online[0] + online[1]) / (2 * phase),  # bits per symbol while A and B are learnt
        "online_return": online[2] / phase,
        "curve": [
            [end, round(on_a, 4), round(on_b, 4)]
            for end, on_a, on_b in curve
            if end % phase == 0 or end % (8 * every) == 0
        ],
    }


EXPERIMENT = Experiment(
    name="continual",
    question="A, then B, which contradicts A, then A again: does a continuum memory forget less than an MLP of equal size?",
    cells=cells,
    measure=measure,
    tables=tables,
    sentence=sentence,
    levels="move, from random starts: nothing has trained them to learn",
)
