"""Sliding-window attention [P 63]: both floors against one masked softmax in complex numbers, and what a window can and cannot see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.config import HopeConfig
from hope_ref.parallel.hope import Hope
from hope_ref.reference.hope import attention_layer, hope, init, initial_attention_state, part

WIDTH, HEADS, LENGTH = 8, 2, 11


def config_of(window: int, **options: Any) -> HopeConfig:
    sizes = {"width": WIDTH, "heads": HEADS, "vocabulary": 7, "blocks": 1, "levels_chunk_sizes": (4,)}
    return HopeConfig(**{**sizes, "mixer": "softmax_attention", "window": window, **options})


def literal(x: Any, p: dict[str, Any], window: int) -> Any:
    """Positions as phases of complex numbers, one (T, T) table of scores, what is outside of the window at -inf."""
    n = p["norm"] * x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-6)
    half = WIDTH // HEADS // 2
    phase = np.exp(1j * np.arange(LENGTH)[:, None] * 10_000.0 ** (-np.arange(half) / half))
    y = x.copy()
    mixed = np.zeros_like(x)
    for head in range(HEADS):
        own = slice(head * 2 * half, (head + 1) * 2 * half)
        q, k, v = ((n @ p[name].T)[:, own] for name in ("w_query", "p_key", "p_value"))
        turned_q, turned_k = ((z[:, :half] + 1j * z[:, half:]) * phase for z in (q, k))
        scores = np.real(turned_q @ turned_k.conj().T) / np.sqrt(2 * half)
        t = np.arange(LENGTH)
        outside = (t[None] > t[:, None]) | (t[None] <= t[:, None] - window)
        share = np.exp(np.where(outside, -np.inf, scores - scores.max()))
        mixed[:, own] = (share / share.sum(1, keepdims=True)) @ v
    return y + mixed @ p["output"].T


@pytest.mark.parametrize("window", [1, 2, 4, LENGTH, 40])
def test_both_floors_are_the_masked_softmax(window: int) -> None:
    config = config_of(window)
    rng = np.random.default_rng(window)
    parameters = {n: a + 0.3 * rng.normal(size=a.shape) for n, a in init(config).items()}
    own, x = part(parameters, "blocks.0"), rng.normal(size=(LENGTH, WIDTH))
    wanted = literal(x, own, window)
    found, state = attention_layer(x, own, config, initial_attention_state(own, config))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    assert len(state.keys) == len(state.values) == min(window - 1, LENGTH)
    mixer: Any = Hope.from_reference(parameters, config).blocks[0].mixer
    y, after = mixer(torch.from_numpy(x)[None])
    np.testing.assert_allclose(y[0].detach().numpy(), wanted, rtol=0, atol=1e-12)
    assert after.keys.shape == (1, HEADS, min(window - 1, LENGTH), WIDTH // HEADS)
    # the state keeps nothing alive but what the next token can see
    assert after.keys.untyped_storage().nbytes() == after.keys.numel() * 8


def test_a_window_as_long_as_the_text_is_full_attention() -> None:
    tokens = np.random.default_rng(0).integers(7, size=LENGTH)
    parameters = init(config_of(0))
    full = hope(tokens, parameters, config_of(0))[0]
    np.testing.assert_allclose(hope(tokens, parameters, config_of(LENGTH))[0], full, rtol=0, atol=1e-12)
    assert abs(hope(tokens, parameters, config_of(LENGTH - 1))[0] - full).max() > 1e-6


@pytest.mark.parametrize("window", [1, 3])
def test_what_left_the_window_is_not_heard(window: int) -> None:
    """One block: a token reaches the logits of the next W - 1 tokens and no later one, in one piece and step by step."""
    model = Hope(config_of(window)).double()
    tokens = torch.randint(7, (1, LENGTH), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[0, 2] = (other[0, 2] + 1) % 7
    changed = (model(tokens)[0] - model(other)[0]).detach().abs().amax(-1)[0]
    assert (changed[2 : 2 + window] > 1e-6).all()
    assert changed[:2].max() == 0
    assert changed[2 + window :].max() == 0
    state, stepped = None, []
    for token in tokens.T:
        logits, state = model.step(token, state)
        stepped.append(logits)
    torch.testing.assert_close(torch.stack(stepped, 1), model(tokens)[0].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1}, "window must be a number of tokens >= 1, or 0 for all, got -1"),
        ({"window": True}, "window must be a number of tokens >= 1, or 0 for all, got True"),
        ({"window": 2.5}, "window must be a number of tokens >= 1, or 0 for all, got 2.5"),
    ],
)
def test_bad_windows(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config_of(0).replace(**options)
