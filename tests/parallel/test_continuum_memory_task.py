"""Levels that learn from a model's own loss: the driver against the NumPy one on a toy model, in every split of the stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from selection import some_slow
from torch import Tensor

from hope_ref import reference
from hope_ref.parallel.continuum_memory import AdaptState, Level, adapt, random_levels, read

WIDTH, SYMBOLS, LENGTH, DECAY = 3, 5, 19, 0.6
RNG = np.random.default_rng(7)
EMBEDDING, HEAD = (torch.from_numpy(RNG.normal(size=(SYMBOLS, WIDTH))) for _ in range(2))
TOKENS = torch.from_numpy(RNG.integers(SYMBOLS, size=LENGTH))
LEVELS = tuple(
    level._replace(
        gain=torch.from_numpy(RNG.uniform(0.5, 1.5, size=WIDTH)),
        weight=torch.tensor(RNG.uniform(0.5, 1.5), dtype=torch.float64),
    )
    for level in random_levels(WIDTH, 3, 1, torch.float64)
)
SHORT: dict[str, Any] = {"levels_chunk_sizes": (2, 4, 8), "cms_rate": (0.2, 0.15, 0.1)}
CALM = (0.05, 0.04, 0.03)  # rates at which no stream magnifies its rounding errors
CHOICES = [
    (variant, order, rule)
    for variant in ("sequential", "nested", "independent")
    for order in ("fast_to_slow", "slow_to_fast")
    for rule in ("gd", "dgd")
]
every_choice = pytest.mark.parametrize(("variant", "order", "rule"), CHOICES)
PACED = {
    "-".join(map(str, (*choice, *sizes))): (*choice, sizes)
    for sizes in ((2, 4, 8), (1, 2, 8), (3, 6, 6), (8, 16, 32))
    for choice in CHOICES
}
# Every choice at one pace; at the others each variant, order and rule.
SOME = [name for name in PACED if name.endswith(("3-6-6", "slow_to_fast-dgd-2-4-8", "fast_to_slow-gd-1-2-8", "slow_to_fast-gd-8-16-32"))]  # fmt: skip
MIXED = {"-".join(choice): choice for choice in CHOICES}
# Each variant by each rule, the orders by turns.
TURNS = [name for n, name in enumerate(MIXED) if n % 4 in (0, 3)]
some_choices = pytest.mark.parametrize(("variant", "order", "rule"), some_slow(MIXED, TURNS))


def forward_of(variant: str, order: str, levels: Any = LEVELS) -> Any:
    """Embedding, continuum memory, a running sum r_t = 0.6 r_{t-1} + y_t, linear head: logits."""

    def forward(tokens: Tensor, weights: Any, running: Tensor, collect: Any) -> tuple[Tensor, Tensor]:
        y, _ = read(EMBEDDING[tokens], weights, levels, variant, order, collect)
        rows = [y[..., :0, :]]
        for t in range(y.shape[-2]):
            running = DECAY * running + y[..., t, :]
            rows.append(running[..., None, :])
        return torch.cat(rows, -2) @ HEAD.T, running

    return forward


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")


def run(
    tokens: Tensor = TOKENS,
    state: AdaptState | None = None,
    variant: str = "sequential",
    order: str = "fast_to_slow",
    levels: Any = LEVELS,
    **options: Any,
) -> tuple[Tensor, AdaptState]:
    lead = tuple(tokens.shape[:-1])
    given = SHORT | {"variant": variant, "order": order, "token_axis": len(lead)} | options
    start = torch.zeros(*lead, WIDTH, dtype=torch.float64)
    return adapt(tokens, levels, forward_of(variant, order, levels), loss, state, model_state=start, **given)


def numpy_run(tokens: np.ndarray, variant: str, order: str, levels: Any = LEVELS, **options: Any) -> Any:
    """`reference.adapt`: its step in NumPy, its signals from autograd at every level's two outputs, token by token."""
    torched = [Level(*(torch.as_tensor(p).detach() for p in level)) for level in levels]
    fixed = [reference.continuum_memory.Level(*(np.asarray(p) for p in level)) for level in torched]

    def step(token: Any, weights: Any, running: Any) -> tuple[np.ndarray, np.ndarray]:
        y, _ = reference.continuum_memory.read(EMBEDDING[token].numpy(), weights, fixed, variant, order)
        running = DECAY * running + y
        return HEAD.numpy() @ running, running

    def signals(tokens: Any, targets: Any, weights: Any, running: Any) -> list[Any]:
        theta = [[torch.from_numpy(w) for w in pair] for pair in weights]
        running, total, rows = torch.from_numpy(running), 0.0, [[] for _ in levels]
        for token, target in zip(tokens, targets, strict=True):
            x = z = EMBEDDING[token]
            for index in range(3) if order == "fast_to_slow" else (2, 1, 0):
                w1, w2 = theta[index]
                n = F.rms_norm(x if variant == "independent" else z, (WIDTH,), torched[index].gain, eps=1e-6)
                hidden = (w2 @ n).requires_grad_() if not n.requires_grad else w2 @ n
                hidden.retain_grad()
                answer = w1 @ F.silu(hidden)
                answer.retain_grad()
                rows[index].append((answer, F.silu(hidden), hidden, n))
                z = z + (torched[index].weight * answer if variant == "independent" else answer)
            running = DECAY * running + z
            total = total + F.cross_entropy(HEAD @ running, torch.as_tensor(target))
        total.backward()
        return [
            reference.continuum_memory.Signal(
                *(
                    np.stack(column)
                    for column in zip(
                        *(
                            (-a.grad.numpy(), p.detach().numpy(), -h.grad.numpy(), n.detach().numpy())
                            for a, p, h, n in row
                        ),
                        strict=True,
                    )
                )
            )
            for row in rows
        ]

    given = SHORT | {"variant": variant, "order": order} | options
    return reference.continuum_memory.adapt(
        tokens, fixed, step, signals, model_state=np.zeros(WIDTH), **given
    )


def close(got: AdaptState, want: Any, atol: float = 1e-10, index: Any = ()) -> None:
    assert got.continuum.position == want.continuum.position
    for one, other in zip(got.continuum.levels, want.continuum.levels, strict=True):
        for name in one._fields:
            mine, theirs = getattr(one, name)[index].detach().numpy(), np.asarray(getattr(other, name))
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol, err_msg=name)
    for name in ("start", "running", "segment"):
        mine, theirs = np.asarray(getattr(got, name)[index]), np.asarray(getattr(want, name))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize(("variant", "order", "rule", "sizes"), some_slow(PACED, SOME))
def test_equals_the_numpy_driver(variant: str, order: str, rule: str, sizes: tuple[int, ...]) -> None:
    options = {"variant": variant, "order": order, "rule": rule, "levels_chunk_sizes": sizes}
    if variant == "nested" and sizes == (3, 6, 6):
        options["nested_rate"] = 0.3
    want, want_state = numpy_run(TOKENS.numpy(), **options)
    outputs, state = run(**options)
    np.testing.assert_allclose(outputs.numpy(), want, rtol=0, atol=1e-10)
    close(state, want_state)


@some_choices
def test_every_split_of_a_stream_gives_the_same(variant: str, order: str, rule: str) -> None:
    options = {"variant": variant, "order": order, "rule": rule}
    outputs, state = run(**options)
    for split in (0, 1, 4, 6, 8, 9, LENGTH):  # both ends, in a segment, at boundaries of one level and more
        first, carried = run(TOKENS[:split], **options)
        second, last = run(TOKENS[split:], carried, **options)
        torch.testing.assert_close(torch.cat([first, second]), outputs, rtol=0, atol=1e-12)
        close(last, state, 1e-12)


def test_a_stream_may_come_token_by_token_and_with_pauses() -> None:
    outputs, state, parts = run()[0], None, []
    for token in TOKENS:
        part, state = run(token[None], state)
        nothing, state = run(TOKENS[:0], state)
        assert tuple(nothing.shape) == (0, SYMBOLS)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts), outputs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_every_stream_of_a_batch_learns_for_itself(rule: str) -> None:
    batch = torch.from_numpy(np.random.default_rng(3).integers(SYMBOLS, size=(2, 2, LENGTH)))
    outputs, state = run(batch, rule=rule, cms_rate=CALM)
    for index in np.ndindex(2, 2):
        want, want_state = numpy_run(
            batch[index].numpy(), "sequential", "fast_to_slow", rule=rule, cms_rate=CALM
        )
        np.testing.assert_allclose(outputs[index].numpy(), want, rtol=0, atol=1e-10)
        close(state, want_state, index=index)


@pytest.mark.parametrize("rule", ["gd", "dgd"])
def test_two_memories_in_one_model_adapt_as_one_with_an_axis_more(rule: str) -> None:
    """Blocks stacked in a leading axis of θ, against each block's weights moved by its own gradient, written out."""
    batch = torch.from_numpy(np.random.default_rng(3).integers(SYMBOLS, size=(2, 7)))
    blocks = [random_levels(WIDTH, 2, seed, torch.float64) for seed in (4, 5)]
    stacked = [Level(*(torch.stack(p)[:, None] for p in zip(*(b[i][:4] for b in blocks), strict=True))) for i in (0, 1)]  # fmt: skip
    sizes, rate = (2, 4), 0.2

    def forward(tokens: Tensor, weights: Any, state: Any, collect: Any) -> tuple[Tensor, Any]:
        z, seen = EMBEDDING[tokens], [[], []]
        for n, levels in enumerate(blocks):
            own = tuple((w1[n], w2[n]) for w1, w2 in weights)
            z, _ = read(
                z, own, levels, "sequential", "fast_to_slow", lambda i, *phi, at=seen: at[i].append(phi)
            )
        if collect is not None:
            for index, phis in enumerate(seen):
                collect(index, *(torch.stack(phi) for phi in zip(*phis, strict=True)))
        return z @ HEAD.T, state

    options = {"levels_chunk_sizes": sizes, "cms_rate": rate, "rule": rule}
    outputs, _ = adapt(batch, stacked, forward, loss, token_axis=1, lead=(2, 2), **options)
    for b, stream in enumerate(batch):
        theta = [[[level.w1, level.w2] for level in levels] for levels in blocks]
        sums, grams = {}, {}
        for i, token in enumerate(stream):
            if i and i % 2 == 0:  # a segment is complete: token i is its last target
                for level in (0, 1):
                    for n in (0, 1):
                        for layer in (0, 1):
                            free = [[[w.clone().requires_grad_() for w in pair] for pair in t] for t in theta]
                            z = EMBEDDING[stream[i - 2 : i]]
                            for m, levels in enumerate(blocks):
                                for j, (w1, w2) in enumerate(free[m]):
                                    normed = F.rms_norm(z, (WIDTH,), levels[j].gain, eps=1e-6)
                                    phi = (F.silu(normed @ w2.T), normed)
                                    if (m, j) == (n, level):
                                        gram = (phi[layer].T @ phi[layer]).detach()
                                    z = z + phi[0] @ w1.T
                            F.cross_entropy(z @ HEAD.T, stream[i - 1 : i + 1], reduction="sum").backward()
                            key = (n, level, layer)
                            sums[key] = sums.get(key, 0) - free[n][level][layer].grad
                            grams[key] = grams.get(key, 0) + gram
                for (n, level, layer), total in list(sums.items()):
                    if i % sizes[level] == 0:
                        w, gram = theta[n][level][layer], grams[(n, level, layer)]
                        system = torch.eye(len(gram)).double() + (rate * gram if rule == "dgd" else 0 * gram)
                        theta[n][level][layer] = (w + rate * total) @ torch.linalg.inv(system)
                        del sums[(n, level, layer)], grams[(n, level, layer)]
            z = EMBEDDING[token]
            for m, levels in enumerate(blocks):
                for j, (w1, w2) in enumerate(theta[m]):
                    z = z + w1 @ F.silu(w2 @ F.rms_norm(z, (WIDTH,), levels[j].gain, eps=1e-6))
            torch.testing.assert_close(outputs[b, i], HEAD @ z, rtol=0, atol=1e-10)


@every_choice
def test_the_past_does_not_see_the_future(variant: str, order: str, rule: str) -> None:
    at = (0, 3, 4, 9)
    tokens = TOKENS[:13].repeat(len(at), 1)
    outputs, _ = run(tokens, variant=variant, order=order, rule=rule)
    tokens[range(len(at)), at] = (TOKENS[list(at)] + 1) % SYMBOLS
    moved, _ = run(tokens, variant=variant, order=order, rule=rule)
    # bit for bit, so row by row: a processor may round two rows of one batch in two ways
    for t, was, got in zip(at, outputs, moved, strict=True):
        assert torch.equal(got[:t], was[:t])
        assert (got[t] - was[t]).abs().max() > 1e-6


def test_a_model_may_read_its_tokens_one_at_a_time() -> None:
    whole = forward_of("sequential", "fast_to_slow")

    def forward(tokens: Tensor, weights: Any, running: Tensor, collect: Any) -> tuple[Tensor, Tensor]:
        parts = [whole(tokens[:0], weights, running, None)[0]]
        for token in tokens:
            part, running = whole(token[None], weights, running, collect)
            parts.append(part)
        return torch.cat(parts), running

    for rule in ("gd", "dgd"):
        start = torch.zeros(WIDTH, dtype=torch.float64)
        outputs, _ = adapt(TOKENS, LEVELS, forward, loss, model_state=start, rule=rule, **SHORT)
        torch.testing.assert_close(outputs, run(rule=rule)[0], rtol=0, atol=1e-12)


# --- gradients --------------------------------------------------------------------------------------------------------


def test_nothing_is_kept_unless_asked_for() -> None:
    levels = [Level(*(torch.as_tensor(p).clone().requires_grad_() for p in level)) for level in LEVELS]
    outputs, state = run(levels=levels)
    assert not outputs.requires_grad
    assert not any(part.requires_grad for level in state.continuum.levels for part in level)
    torch.testing.assert_close(outputs, run()[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("variant", "rule"),
    some_slow(
        {
            f"{variant}-{rule}": (variant, rule)
            for variant in ("nested", "independent")
            for rule in ("gd", "dgd")
        },
        ("nested-dgd", "independent-gd"),
    ),
)
def test_the_outer_gradient_reaches_the_start_of_every_level(variant: str, rule: str) -> None:
    """Through every update, against central differences of the NumPy driver."""
    options = {"variant": variant, "rule": rule, "cms_rate": CALM}
    levels = [Level(*(torch.as_tensor(p).clone().requires_grad_() for p in level)) for level in LEVELS]
    outputs, state = run(levels=levels, differentiable=True, **options)
    torch.testing.assert_close(outputs.detach(), run(**options)[0], rtol=0, atol=1e-12)
    weight, last = torch.from_numpy(np.random.default_rng(5).normal(size=(LENGTH, SYMBOLS))), 0.0
    for level in state.continuum.levels:
        last = last + level.w1.sum() + level.w2.sum()
    ((weight * outputs).sum() + last).backward()
    rng, h = np.random.default_rng(6), 1e-5
    for index in range(3):
        for name in ("w1", "w2", "gain", "weight"):
            parameter = getattr(levels[index], name)
            if name == "weight" and variant != "independent":
                assert parameter.grad is None
                continue
            direction = torch.from_numpy(np.asarray(rng.normal(size=tuple(parameter.shape))))
            ends = []
            for sign in (h, -h):
                moved = list(levels)
                moved[index] = levels[index]._replace(**{name: (parameter + sign * direction).detach()})
                y, end = numpy_run(TOKENS.numpy(), variant, "fast_to_slow", moved, rule=rule, cms_rate=CALM)
                theta = sum(level.w1.sum() + level.w2.sum() for level in end.continuum.levels)
                ends.append(float((weight.numpy() * y).sum() + theta))
            slope = (ends[0] - ends[1]) / (2 * h)
            assert abs(float((parameter.grad * direction).sum()) - slope) <= 1e-7 * max(1.0, abs(slope)), name
            assert float(parameter.grad.abs().max()) > 1e-6


def test_constant_parameters_may_be_differentiated_through() -> None:
    outputs, _ = run(differentiable=True)
    torch.testing.assert_close(outputs.detach(), run()[0], rtol=0, atol=1e-12)


def test_levels_learn_a_stream_that_repeats() -> None:
    stream, losses = TOKENS[:6].repeat(40), {}
    for rate in (0.0, 0.05):
        outputs, _ = run(stream, cms_rate=rate)
        losses[rate] = float(loss(outputs[-61:-1], stream[-60:]).mean())
    assert losses[0.05] < 0.5 * losses[0.0]
