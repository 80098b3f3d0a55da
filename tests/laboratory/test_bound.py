"""How far a bounded memory can move: the proved bound, on streams and against adversaries, and what passes it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from selection import some_slow

from hope_ref.config import CHOICES, HopeConfig
from hope_ref.laboratory import stability
from hope_ref.laboratory.stability import growth_is_proved
from tests.laboratory.test_stability import WIDTH, chunks, trace_of

PROVED = [
    HopeConfig(width=6, value_norm=False, retention_scope=scope, objective=objective, erase=erase, retention_target=target, **chunks(4))
    for scope in ("memory", "all") for objective in ("l2", "dot") for erase in CHOICES["erase"] for target in ("initial", "zero")
]  # fmt: skip


@pytest.mark.parametrize("start", some_slow({start: start for start in stability.STARTS}, {"random"}))
def test_no_token_grows_a_weight_past_the_proved_bound(start: str) -> None:
    nearest = math.inf
    for seed, config in enumerate(PROVED):
        assert growth_is_proved(config)
        trace = trace_of(config, 40, seed, start)
        nearest = min(nearest, *(float(room.min()) for room in trace.room.values()))
    assert 0 <= nearest < 0.05, "the bound holds, and is nearly reached"


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8, 0.99, 1.0])
@pytest.mark.parametrize("erases", [True, False])
def test_no_write_of_an_adversary_passes_the_bound(alpha: float, erases: bool) -> None:
    """20,000 writes, with W, input, surprise and rate as bad as drawn and then as bad as chosen: ten times 20,000 in all."""
    rng, c = np.random.default_rng([int(10 * alpha), erases]), 0.7
    worst = 0.0
    for _ in range(20):
        eta, d = np.exp(rng.normal(size=(1000, 1))), np.exp(3 * rng.normal(size=(1000, 1)))
        w = rng.normal(size=(1000, 2, 2))
        w *= d[:, :, None] / np.linalg.norm(w, axis=(1, 2))[:, None, None]
        phi = rng.normal(size=(1000, 2)) * np.exp(2 * rng.normal(size=(1000, 1)))
        u = rng.normal(size=(1000, 2))
        u *= c / np.linalg.norm(u, axis=1)[:, None]
        squares = (phi * phi).sum(1, keepdims=True)
        share = eta * squares / (1 + eta * squares)
        if (
            erases and alpha >= 0.5
        ):  # for half of them W φ = u (α - s) / (2 α - s), if W is long enough for it
            wanted = u * (alpha - share) / (2 * alpha - share)
            turned = np.einsum("ni,nj->nij", wanted, phi / squares)
            rest = d**2 - (turned**2).sum((1, 2))[:, None]
            across = np.stack([-phi[:, 1], phi[:, 0]], 1) / np.sqrt(squares)
            placed = turned + np.einsum("ni,nj->nij", np.sqrt(np.maximum(rest, 0)) * [[1.0, 0.0]], across)
            chosen = (rest[:, 0] >= 0) & (np.arange(1000) % 2 == 0)
            w[chosen] = placed[chosen]
        reached = np.einsum("nij,nj->ni", w, phi) if erases else np.zeros((1000, 2))
        after = alpha * w - np.einsum("ni,nj->nij", eta / (1 + eta * squares) * (reached - u), phi)
        for before, rate, now in zip(d[:, 0], eta[:, 0], np.linalg.norm(after, axis=(1, 2)), strict=True):
            bound = stability.farthest_after(before, rate, alpha, c, erases)
            assert now <= bound * (1 + 1e-12)
            grown = (now**2 - (alpha * before) ** 2) / (bound**2 - (alpha * before) ** 2)
            squared = (
                erases and alpha >= 0.5
            )  # there the bound on squares is to be reached, where lengths would not do
            if before > 10 * c * math.sqrt(rate) if squared else bound > 1.0001 * alpha * before:
                worst = max(worst, grown)
    assert worst > (0.99 if alpha >= 0.5 or not erases else 0.1)


def greedy(eta: float, alpha: float, c: float, tokens: int, length: float | None = None) -> float:
    """A memory of one row and two columns, against an adversary who takes the worst of many writes, token by token."""
    lengths = np.geomspace(1e-3, 1e2, 4000) if length is None else np.array([length])
    taken = eta / (1 + eta * lengths**2)
    share, row = taken * lengths**2, np.zeros(2)
    for _ in range(tokens):
        d = float(np.linalg.norm(row))
        reached = np.clip(c * (alpha - share) / (2 * alpha - share), -d * lengths, d * lengths)
        gained = taken * (share * (reached - c) ** 2 - 2 * alpha * reached * (reached - c))
        worst = int(gained.argmax())
        along = row / d if d else np.array([1.0, 0.0])
        across = np.array([-along[1], along[0]])
        cosine = reached[worst] / (d * lengths[worst]) if d else 0.0
        phi = lengths[worst] * (cosine * along + math.sqrt(max(0.0, 1 - cosine**2)) * across)
        row = alpha * row - taken[worst] * (row @ phi - c) * phi  # literally
    return float(np.linalg.norm(row))


def test_an_adversary_comes_within_one_per_cent_of_how_far_it_can_get() -> None:
    for eta, alpha, c in ((0.7, 0.99, 1.0), (2.0, 0.6, 3.0), (0.1, 0.995, 0.5)):
        limit = stability.farthest(eta, alpha, c)
        assert (0.99 if alpha > 0.9 else 0.9) * limit < greedy(eta, alpha, c, 3000) < limit
    assert stability.farthest(0.7, 0.99, 1.0) == pytest.approx(4.172, abs=1e-3)
    assert 1 / (1 - 0.99) * math.sqrt(0.7) / 2 == pytest.approx(41.83, abs=0.01), "lengths added up"


def test_without_forgetting_it_grows_like_the_root_of_time() -> None:
    short, long = (greedy(0.7, 1.0, 1.0, tokens) for tokens in (500, 8000))
    assert long / short == pytest.approx(4, rel=0.02)
    assert 0.98 * stability.farthest(0.7, 1.0, 1.0, 8000) < long < stability.farthest(0.7, 1.0, 1.0, 8000)
    for eta in (0.7, 7.0, 7e3):  # unit inputs: at most c √T, whatever η is
        assert greedy(eta, 1.0, 1.0, 400, length=1.0) < math.sqrt(400)
    assert greedy(7e3, 1.0, 1.0, 400, length=1.0) > 0.98 * math.sqrt(400)
    assert stability.farthest(0.7, 1.0, 1.0) == math.inf


def test_farthest_is_the_inequality_iterated() -> None:
    distance = 0.0
    for _ in range(30):
        distance = math.sqrt(0.8**2 * distance**2 + 2.0**2 * 0.6 * 0.8 / 2)
    assert stability.farthest(0.6, 0.8, 2.0, 30) == pytest.approx(distance, rel=1e-12)
    for alpha in (0.49, 1.01, math.nan):
        with pytest.raises(ValueError, match=r"alpha must be in \[0\.5, 1\], got"):
            stability.farthest(0.6, alpha, 2.0)


@pytest.mark.parametrize("step", ["explicit", "normalized"])
def test_other_steps_pass_it(step: str) -> None:
    config = HopeConfig(width=WIDTH, value_norm=False, step=step, **chunks(4))
    assert not growth_is_proved(config)
    trace = trace_of(config, 60)
    assert min(float(room.min()) for room in trace.room.values()) < -0.1


def test_what_is_proved_and_what_is_not() -> None:
    changes: list[dict[str, Any]] = [
        {"surprise_bound": 0.0}, {"step": "explicit"}, {"step": "normalized"}, {"inner_momentum": 0.1},
    ]  # fmt: skip
    assert growth_is_proved(HopeConfig())
    assert not any(growth_is_proved(HopeConfig(**change)) for change in changes)
    assert not trace_of(HopeConfig(width=4, surprise_bound=0), 2).room


def test_inner_momentum_passes_it() -> None:
    """Why it is not among the proved: past writes go on moving the weight."""
    trace = trace_of(HopeConfig(width=WIDTH, inner_momentum=0.9), 60)
    assert min(float(room.min()) for room in trace.room.values()) < -0.01


def test_an_erase_of_the_deviation_may_lengthen_the_weight_itself() -> None:
    """Why its bound is one on W - W_0: here W is far from W_0 along φ, as no stream from W_0 makes it."""
    before, eta = np.eye(2), 0.5 / (1 + 0.5)
    initial, k = np.array([[9.0, 0.0], [0.0, 9.0]]), np.array([1.0, 0.0])
    moved = before - eta * np.outer((before - initial) @ k, k)
    assert np.linalg.norm(moved) > np.linalg.norm(before) + 1e-6 * math.sqrt(0.5) / 2
    assert np.linalg.norm(moved - initial) < np.linalg.norm(before - initial)


def farthest(erase: str) -> float:
    """The largest of ‖W_t - W_0‖ / Σ c √η / 2 over a stream that forgets everywhere, toward the start."""
    config = HopeConfig(width=6, erase=erase, value_norm=False, retention_scope="all", **chunks(4))
    trace = trace_of(config, 60, 0, "random")
    found = []
    for name in trace.room:
        reach = np.cumsum(np.sqrt(trace.eta[name.split("_", 1)[1]])) / 2
        found.append((trace.drift[name][1:] / reach).max())
    return float(max(found))


def test_with_the_default_no_weight_leaves_its_start_faster_than_its_writes_reach() -> None:
    """R = E = W_0: c √η / 2 a token at most, whatever W_0 is. An erase of all of W draws it to 0, which may be farther."""
    assert farthest("deviation") <= 1
    assert farthest("full") > 1
