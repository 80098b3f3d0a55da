"""Levels that learn from a model's own loss: a tiny model with gradients by hand, held against differences and autograd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from selection import some_slow

from hope_ref.reference.activations import rms_norm, silu, silu_derivative
from hope_ref.reference.continuum_memory import (
    AdaptState,
    Level,
    Signal,
    adapt,
    initial_state,
    random_levels,
    read,
)
from hope_ref.reference.states import load_state, save_state

WIDTH, SYMBOLS, LENGTH, DECAY = 3, 5, 19, 0.6
RNG = np.random.default_rng(7)
EMBEDDING, HEAD = RNG.normal(size=(SYMBOLS, WIDTH)), RNG.normal(size=(SYMBOLS, WIDTH))
TOKENS = RNG.integers(SYMBOLS, size=LENGTH)
LEVELS = tuple(
    level._replace(gain=RNG.uniform(0.5, 1.5, size=WIDTH), weight=float(RNG.uniform(0.5, 1.5)))
    for level in random_levels(WIDTH, 3, 1)
)
SHORT: dict[str, Any] = {"levels_chunk_sizes": (2, 4, 8), "cms_rate": (0.2, 0.15, 0.1)}
CHOICES = [
    (variant, order, rule)
    for variant in ("sequential", "nested", "independent")
    for order in ("fast_to_slow", "slow_to_fast")
    for rule in ("gd", "dgd")
]
MIXED = {"-".join(choice): choice for choice in CHOICES}
# Each variant by each rule, the orders by turns.
TURNS = [name for n, name in enumerate(MIXED) if n % 4 in (0, 3)]
some_choices = pytest.mark.parametrize(("variant", "order", "rule"), some_slow(MIXED, TURNS))


class Model:
    """Embedding, continuum memory, a running sum r_t = 0.6 r_{t-1} + y_t, linear head, softmax. Gradients by hand."""

    def __init__(
        self, variant: str = "sequential", order: str = "fast_to_slow", levels: Sequence[Level] = LEVELS
    ) -> None:
        self.variant, self.order, self.levels = variant, order, levels

    def step(self, token: Any, weights: Any, running: Any) -> tuple[np.ndarray, np.ndarray]:
        y, _ = read(EMBEDDING[token], weights, self.levels, self.variant, self.order)
        running = DECAY * running + y
        return HEAD @ running, running

    def loss(self, tokens: Any, targets: Any, weights: Any, running: Any) -> float:
        total = 0.0
        for token, target in zip(tokens, targets, strict=True):
            logits, running = self.step(token, weights, running)
            total += np.log(np.exp(logits).sum()) - logits[target]
        return float(total)

    def signals(self, tokens: Any, targets: Any, weights: Any, running: Any) -> list[Signal]:
        errors = []  # ∂L/∂r_t of each token's own loss
        for token, target in zip(tokens, targets, strict=True):
            logits, running = self.step(token, weights, running)
            probabilities = np.exp(logits) / np.exp(logits).sum()
            errors.append(HEAD.T @ (probabilities - np.eye(SYMBOLS)[target]))
        grad_y, rows = np.zeros(WIDTH), []
        for token, error in zip(reversed(tokens), reversed(errors), strict=True):
            grad_y = error + DECAY * grad_y  # later tokens of the segment read y_t through r
            rows.append(self._levels(EMBEDDING[token], weights, grad_y))
        return [
            Signal(*(np.array(part) for part in zip(*level, strict=True)))
            for level in zip(*rows[::-1], strict=True)
        ]

    def _levels(self, x: np.ndarray, weights: Any, grad: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        """(u1, φ1, u2, φ2) of every level for one token, walking back through the residual chain."""
        _, given = read(x, weights, self.levels, self.variant, self.order)
        indices = list(range(len(self.levels)))
        rows: list[Any] = [None] * len(indices)
        for index in indices[::-1] if self.order == "fast_to_slow" else indices:
            (w1, w2), gain, z = weights[index], self.levels[index].gain, given[index]
            arriving = self.levels[index].weight * grad if self.variant == "independent" else grad
            n = rms_norm(z, gain)
            hidden = w2 @ n
            u2 = -(w1.T @ arriving) * silu_derivative(hidden)
            rows[index] = (-arriving, silu(hidden), u2, n)
            if self.variant != "independent":
                root, scaled = np.sqrt(np.mean(z**2) + 1e-6), gain * -(w2.T @ u2)
                grad = grad + scaled / root - z * (z @ scaled) / (WIDTH * root**3)
        return rows


def run(
    tokens: np.ndarray = TOKENS,
    state: AdaptState | None = None,
    variant: str = "sequential",
    order: str = "fast_to_slow",
    **options: Any,
) -> tuple[np.ndarray, AdaptState]:
    model = Model(variant, order)
    chosen = SHORT | {"variant": variant, "order": order} | options
    return adapt(tokens, LEVELS, model.step, model.signals, state, model_state=np.zeros(WIDTH), **chosen)


@pytest.mark.parametrize("variant", ["sequential", "independent"])
@pytest.mark.parametrize("order", ["fast_to_slow", "slow_to_fast"])
def test_the_gradients_by_hand_are_the_measured_slopes(variant: str, order: str) -> None:
    model, h, start = Model(variant, order), 1e-5, RNG.normal(size=WIDTH)
    weights = [[level.w1.copy(), level.w2.copy()] for level in LEVELS]
    signals = model.signals(TOKENS[:4], TOKENS[1:5], weights, start)
    for level, signal in enumerate(signals):
        for layer, written in enumerate((signal.u1.T @ signal.phi1, signal.u2.T @ signal.phi2)):
            w, slope = weights[level][layer], np.zeros_like(written)
            for index in np.ndindex(w.shape):
                kept, ends = w[index], []
                for sign in (1, -1):
                    w[index] = kept + sign * h
                    ends.append(model.loss(TOKENS[:4], TOKENS[1:5], weights, start))
                w[index] = kept
                slope[index] = (ends[0] - ends[1]) / (2 * h)
            np.testing.assert_allclose(written, -slope, rtol=0, atol=1e-7)


def literal(
    tokens: np.ndarray, variant: str, order: str, rates: Any, sizes: Any
) -> tuple[np.ndarray, list[Any]]:
    """The whole stream in PyTorch, with autograd: segments cut by hand, and nothing of the library's."""
    embedding, head = torch.from_numpy(EMBEDDING), torch.from_numpy(HEAD)
    fixed = [(torch.from_numpy(level.gain), level.weight) for level in LEVELS]
    theta = [[torch.from_numpy(level.w1), torch.from_numpy(level.w2)] for level in LEVELS]
    origin = [list(pair) for pair in theta]
    sums = [[torch.zeros_like(w) for w in pair] for pair in theta]

    def forward(token: int, weights: Any, running: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = z = embedding[token]
        sequence = range(3) if order == "fast_to_slow" else (2, 1, 0)
        for level in sequence:
            w1, w2 = weights[level]
            given = x if variant == "independent" else z
            out = w1 @ F.silu(w2 @ F.rms_norm(given, (WIDTH,), fixed[level][0], eps=1e-6))
            z = z + (fixed[level][1] * out if variant == "independent" else out)
        running = DECAY * running + z
        return head @ running, running

    outputs, running, first, start = [], torch.zeros(WIDTH, dtype=torch.float64), 0, None
    start = running
    for i, token in enumerate(tokens):
        if i - first == sizes[0]:
            free = [[w.clone().requires_grad_() for w in pair] for pair in theta]
            state, total = start, 0.0
            for t in range(first, i):
                logits, state = forward(tokens[t], free, state)
                total = total - F.log_softmax(logits, 0)[tokens[t + 1]]
            total.backward()
            for level, size in enumerate(sizes):
                for layer in (0, 1):
                    sums[level][layer] = sums[level][layer] + free[level][layer].grad
                    if i % size == 0:
                        theta[level][layer] = theta[level][layer] - rates[level] * sums[level][layer]
                        sums[level][layer] = torch.zeros_like(sums[level][layer])
            for level in (0, 1):
                if variant == "nested" and i % sizes[level + 1] == 0:
                    origin[level] = [
                        o + 0.1 * (w - o) for o, w in zip(origin[level], theta[level], strict=True)
                    ]
                    theta[level] = list(origin[level])
            first, start = i, running
        logits, running = forward(token, theta, running)
        outputs.append(logits.numpy())
    return np.stack(outputs), theta


@pytest.mark.parametrize("variant", ["sequential", "nested", "independent"])
@pytest.mark.parametrize("order", ["fast_to_slow", "slow_to_fast"])
@pytest.mark.parametrize("sizes", [(2, 4, 8), (1, 2, 8), (3, 6, 6)])
def test_equals_a_stream_written_out_with_autograd(variant: str, order: str, sizes: tuple[int, ...]) -> None:
    outputs, state = run(variant=variant, order=order, levels_chunk_sizes=sizes)
    want, theta = literal(TOKENS, variant, order, SHORT["cms_rate"], sizes)
    np.testing.assert_allclose(outputs, want, rtol=0, atol=1e-11)
    for level, pair in zip(state.continuum.levels, theta, strict=True):
        np.testing.assert_allclose(level.w1, pair[0].numpy(), rtol=0, atol=1e-11)
        np.testing.assert_allclose(level.w2, pair[1].numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_an_update_waits_for_the_token_that_is_its_last_target(rule: str) -> None:
    """C = 4: after 4 tokens nothing has moved, after 5 it has, and by one step on the 4 losses together."""
    options = {"levels_chunk_sizes": (4, 8, 8), "rule": rule}
    _, four = run(TOKENS[:4], **options)
    np.testing.assert_array_equal(four.continuum.levels[0].w1, LEVELS[0].w1)
    assert four.continuum.position == 0
    _, five = run(TOKENS[:5], **options)
    weights = [(level.w1, level.w2) for level in LEVELS]
    signal = Model().signals(TOKENS[:4], TOKENS[1:5], weights, np.zeros(WIDTH))[0]
    for got, w, u, phi in (
        (five.continuum.levels[0].w1, LEVELS[0].w1, signal.u1, signal.phi1),
        (five.continuum.levels[0].w2, LEVELS[0].w2, signal.u2, signal.phi2),
    ):
        solved = np.linalg.solve(np.eye(4) + 0.2 * phi @ phi.T, phi) if rule == "dgd" else phi  # (C, d_in)
        want = w + 0.2 * (u - phi @ w.T if rule == "dgd" else u).T @ solved
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(five.continuum.levels[1].w1, LEVELS[1].w1)
    assert five.continuum.position == 4
    np.testing.assert_array_equal(five.segment, TOKENS[4:5])


@pytest.mark.parametrize(("variant", "order", "rule"), CHOICES)
def test_the_past_does_not_see_the_future(variant: str, order: str, rule: str) -> None:
    options = {"variant": variant, "order": order, "rule": rule}
    tokens = TOKENS[:10]
    outputs, _ = run(tokens, **options)
    for t in (0, 3, 4, 9):
        changed = tokens.copy()
        changed[t] = (changed[t] + 1) % SYMBOLS
        got, _ = run(changed, **options)
        np.testing.assert_array_equal(got[:t], outputs[:t])
        assert np.abs(got[t] - outputs[t]).max() > 1e-6


@some_choices
def test_every_split_of_a_stream_gives_the_same(variant: str, order: str, rule: str) -> None:
    options = {"variant": variant, "order": order, "rule": rule}
    outputs, state = run(**options)
    for split in (1, 4, 6, 8, 9, LENGTH - 1):  # in a segment, at boundaries of one level, two and three
        first, carried = run(TOKENS[:split], **options)
        second, last = run(TOKENS[split:], carried, **options)
        np.testing.assert_array_equal(np.concatenate([first, second]), outputs)
        for got, want in zip(last.continuum.levels, state.continuum.levels, strict=True):
            for one, other in zip(got, want, strict=True):
                np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(last.running, state.running)
        np.testing.assert_array_equal(last.start, state.start)
        np.testing.assert_array_equal(last.segment, state.segment)


def test_a_stream_may_begin_with_nothing() -> None:
    outputs, state = run(TOKENS[:0])
    assert len(outputs) == 0
    np.testing.assert_array_equal(run(TOKENS, state)[0], run()[0])
    state = state._replace(segment=np.zeros(0))  # of another type: it holds nothing
    np.testing.assert_array_equal(run(TOKENS, state)[0], run()[0])


def test_a_rate_of_zero_is_the_model_left_alone() -> None:
    outputs, state = run(cms_rate=0)
    model, running, weights = Model(), np.zeros(WIDTH), [(level.w1, level.w2) for level in LEVELS]
    for token, got in zip(TOKENS, outputs, strict=True):
        want, running = model.step(token, weights, running)
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(state.continuum.levels[2].w2, LEVELS[2].w2)


def test_levels_learn_a_stream_that_repeats() -> None:
    """The point of it: on one period over and over, the loss of the last period is far below that of the first."""
    stream = np.tile(TOKENS[:6], 40)
    losses = {}
    for rate in (0.0, 0.05):
        outputs, _ = run(stream, cms_rate=rate)
        logits = outputs[:-1]
        each = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), stream[1:]]
        losses[rate] = each[-60:].mean()
    assert losses[0.05] < 0.5 * losses[0.0]


def test_a_saved_state_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    outputs, _ = run()
    _, state = run(TOKENS[:7])
    save_state(tmp_path / "stream.npz", state)
    like = AdaptState(initial_state(LEVELS), np.zeros(WIDTH), np.zeros(WIDTH), TOKENS[:0])
    rest, _ = run(TOKENS[7:], load_state(tmp_path / "stream.npz", like))
    np.testing.assert_array_equal(rest, outputs[7:])


def broken(**changes: Any) -> Any:
    def signals(*arguments: Any) -> list[Signal]:
        good = Model().signals(*arguments)
        return [good[0]._replace(**changes), *good[1:]] if changes else good[:2]

    return signals


@pytest.mark.parametrize(
    ("tokens", "signals", "options", "message"),
    [
        (np.array(3), None, {}, r"tokens must have shape \(T, \.\.\.\), got \(\)"),
        (TOKENS, None, {"levels_chunk_sizes": (2, 4, 7)}, r"levels_chunk_sizes must all be multiples of the smallest \(task\), got \(2, 4, 7\)"),
        (TOKENS, None, {"rule": "adam"}, "rule must be one of 'gd', 'dgd', got 'adam'"),
        (TOKENS, broken(), {}, r"signals must return one entry per level \(3\), got 2"),
        (TOKENS, broken(u1=np.ones((2, 4))), {}, r"signals\[0\].u1 must have shape \(2, 3\), got \(2, 4\)"),
        (TOKENS, broken(phi1=np.ones((1, 12))), {}, r"signals\[0\].phi1 must have shape \(2, 12\), got \(1, 12\)"),
        (TOKENS, broken(u2=np.full((2, 12), np.nan)), {}, r"signals\[0\].u2 must be finite, got 24 NaN"),
        (TOKENS, broken(phi2=np.ones((2, 3), np.float32)), {}, r"signals\[0\].phi2 must be float64.*got dtype float32"),
    ],
)  # fmt: skip
def test_bad_input_is_named(tokens: Any, signals: Any, options: dict[str, Any], message: str) -> None:
    model = Model()
    with pytest.raises(ValueError, match=message):
        adapt(
            tokens,
            LEVELS,
            model.step,
            signals or model.signals,
            model_state=np.zeros(WIDTH),
            **(SHORT | options),
        )
