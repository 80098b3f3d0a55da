"""Linear memories without the skip: fixed points, factors, and self-made targets, against literal loops and algebra."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hope_ref.laboratory.skip_free import Pair, repeated_pair, skip_free

FIXED = {"dot": 1.0, "l2": 0.5, "l2_without_half": 2 / 3}
PULL = {"dot": 1.0, "l2": 2.0, "l2_without_half": 3.0}  # how often a write erases, in units of η̃


@pytest.mark.parametrize("eta", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("objective", FIXED)
def test_without_the_skip_a_pair_settles_at_a_share_of_its_value(objective: str, eta: float) -> None:
    assert repeated_pair(eta, objective).limit == pytest.approx((0, FIXED[objective]), abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "limit"), [("dot", (1, 1)), ("l2", (0.5, 0.5)), ("l2_without_half", (1 / 3, 2 / 3))]
)
@pytest.mark.parametrize("eta", [0.1, 0.3, 0.6])
def test_with_the_skip_it_settles_between_key_and_value(
    objective: str, limit: tuple[float, float], eta: float
) -> None:
    assert repeated_pair(eta, objective, skip=True).limit == pytest.approx(limit, abs=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 0.9])
@pytest.mark.parametrize("objective", FIXED)
def test_the_factor_is_retention_minus_the_erases(objective: str, alpha: float) -> None:
    """α - η̃ (dot), α - 2η̃ (l2), α - 3η̃ (without the half); stable while it is above -1."""
    for eta in np.linspace(0.05, 1.95, 8):
        want = alpha - PULL[objective] * eta
        found = repeated_pair(eta, objective, alpha=alpha)
        assert found.factor == pytest.approx(want, abs=1e-9)
        if abs(abs(want) - 1) > 0.05:
            assert (np.abs(found.answers).max() < 10) == (eta * PULL[objective] < 1 + alpha)


@pytest.mark.parametrize("chunk_size", [2, 5, 16])
def test_frozen_over_a_chunk_l2_has_twice_the_decay_minus_one_and_always_settles(chunk_size: int) -> None:
    for eta in (0.1, 0.5, 0.9):
        pair = repeated_pair(eta, "l2", chunk_size=chunk_size, writes=1500)
        assert pair.factor == pytest.approx(2 * (1 - eta) ** chunk_size - 1, abs=1e-9)
        assert -1 < pair.factor < 1
        assert pair.limit == pytest.approx((0, 0.5), abs=1e-6) or pair.factor < -0.99
        inside = np.diff(pair.answers[: chunk_size + 1], axis=0)
        np.testing.assert_allclose(inside[1:], (1 - eta) * inside[:-1], atol=1e-12)  # α - η̃ inside


def test_the_dot_product_does_not_feel_the_chunk() -> None:
    one, many = (repeated_pair(0.3, "dot", chunk_size=size, writes=60) for size in (1, 20))
    np.testing.assert_allclose(one.answers, many.answers, atol=1e-14)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("objective", FIXED)
def test_answers_are_those_of_a_literal_loop(objective: str, skip: bool) -> None:
    eta, alpha, k, v = 0.23, 0.95, np.array([1.0, 0, 0]), np.array([0.6, 0.8, 0])
    w, answers = np.diag([0.3, 0.5, -0.2]), []
    for _ in range(8):
        said = w @ k + (k if skip else 0)
        answers.append(said)
        slope = {"dot": -v, "l2": said - v, "l2_without_half": 2 * (said - v)}[objective]
        w = w @ (alpha * np.eye(3) - eta * np.outer(k, k)) - eta * np.outer(slope, k)
    got = repeated_pair(eta, objective, alpha=alpha, skip=skip, writes=7)
    assert isinstance(got, Pair)
    np.testing.assert_allclose(got.answers, answers, atol=1e-14)


def test_a_pair_that_is_never_written_has_no_factor() -> None:
    pair = repeated_pair(0, "dot")
    assert math.isnan(pair.factor)
    np.testing.assert_array_equal(pair.answers, np.tile(pair.answers[0], (401, 1)))


def test_one_write_may_store_the_pair_exactly() -> None:
    assert repeated_pair(1.0, "dot").factor == pytest.approx(0, abs=1e-15)
    assert repeated_pair(0.5, "l2").factor == pytest.approx(0, abs=1e-15)


# --- self-made targets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("objective", "eta", "verdict"),
    [("dot", 0.3, "collapses"), ("dot", 0.5, "collapses"), ("dot", 0.9, "collapses"), ("dot", 1.3, "explodes"),
     ("l2", 0.3, "collapses"), ("l2", 0.5, "collapses"), ("l2", 0.9, "explodes")],
)  # fmt: skip
def test_without_the_skip_self_made_targets_collapse_or_explode(
    objective: str, eta: float, verdict: str, seed: int
) -> None:
    found = skip_free(eta, objective, seed=seed)
    assert found.verdict == verdict
    assert (found.rate < 0) == (verdict == "collapses")
    assert (found.norms[-1] < 1e-3) == (verdict == "collapses")


@pytest.mark.parametrize(("objective", "eta"), [("dot", 0.3), ("dot", 0.9), ("l2", 0.3), ("l2", 0.5)])
def test_with_the_skip_the_same_memory_settles_away_from_zero(objective: str, eta: float) -> None:
    found = skip_free(eta, objective, skip=True)
    assert found.verdict == "settles"
    assert abs(found.rate) < 0.005
    assert found.norms[200:].min() > 0.3
    assert found.norms.max() < 60


def test_zero_is_absorbing_without_the_skip_and_left_with_it() -> None:
    for objective in FIXED:
        rest = skip_free(0.5, objective, scale=0, tokens=20)
        np.testing.assert_array_equal(rest.norms, 0)
        assert (rest.verdict, rest.rate) == ("collapses", -math.inf)
        assert skip_free(0.3, objective, scale=0, tokens=20, skip=True).norms[1] > 0.1


def test_the_rule_is_homogeneous_and_its_rate_does_not_depend_on_the_start() -> None:
    small, large = (skip_free(0.4, "l2", scale=scale, tokens=300) for scale in (1e-3, 1e3))
    np.testing.assert_allclose(large.norms, 1e6 * small.norms, rtol=1e-9)
    assert small.rate == pytest.approx(large.rate, abs=1e-12)


def test_norms_are_those_of_a_literal_loop_and_the_rate_is_their_slope() -> None:
    eta, alpha, rng = 0.35, 0.97, np.random.default_rng(5)
    w = 0.5 * rng.normal(size=(4, 4)) / 2
    norms = [np.linalg.norm(w)]
    for _ in range(21):
        k, v = rng.normal(size=(2, 4))
        k, v = k / np.linalg.norm(k), v / np.linalg.norm(v)
        w = alpha * w - eta * np.outer(w @ k, k) - eta * np.outer(w @ k - w @ v, k)
        norms.append(np.linalg.norm(w))
    got = skip_free(eta, "l2", alpha=alpha, width=4, tokens=21, seed=5)
    np.testing.assert_allclose(got.norms, norms, rtol=1e-12)
    assert got.rate == pytest.approx(math.log(norms[21] / norms[10]) / 11, rel=1e-12)


def test_retention_below_one_adds_its_logarithm() -> None:
    """Not exactly: α scales what is kept, not what is written; but it always shrinks faster."""
    assert skip_free(0.3, "dot", alpha=0.95).rate < skip_free(0.3, "dot").rate - 0.02


def test_an_overflow_explodes() -> None:
    found = skip_free(1e3, "l2", tokens=400)
    assert found.verdict == "explodes"
    assert found.rate == math.inf
    assert found.norms[-1] == np.inf
    assert np.isfinite(found.norms[:10]).all()


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (repeated_pair, {"eta": -0.1, "objective": "l2"}, "eta must be >= 0, got min -0.1"),
    (repeated_pair, {"eta": np.nan, "objective": "l2"}, "eta must be finite"),
    (repeated_pair, {"eta": 0.1, "objective": "l1"}, "objective must be one of 'dot', .*, got 'l1'"),
    (repeated_pair, {"eta": 0.1, "objective": "l2", "alpha": 1.2}, "alpha must be <= 1, got max 1.2"),
    (repeated_pair, {"eta": 0.1, "objective": "l2", "chunk_size": 0}, "chunk_size must be an integer >= 1, got 0"),
    (repeated_pair, {"eta": 0.1, "objective": "l2", "writes": 2.5}, "writes must be an integer >= 1, got 2.5"),
    (repeated_pair, {"eta": 0.1, "objective": "l2", "chunk_size": 5, "writes": 14}, "writes must be >= 15, got min 14"),
    (skip_free, {"eta": -1, "objective": "dot"}, "eta must be >= 0, got min -1"),
    (skip_free, {"eta": [0.1, 0.2], "objective": "dot"}, r"eta must have shape \(\), got \(2,\)"),
    (skip_free, {"eta": 0.1, "objective": "huber"}, "objective must be one of .*, got 'huber'"),
    (skip_free, {"eta": 0.1, "objective": "dot", "alpha": -0.2}, "alpha must be >= 0, got min -0.2"),
    (skip_free, {"eta": 0.1, "objective": "dot", "width": 0}, "width must be an integer >= 1, got 0"),
    (skip_free, {"eta": 0.1, "objective": "dot", "tokens": "9"}, "tokens must be an integer >= 1, got '9'"),
    (skip_free, {"eta": 0.1, "objective": "dot", "scale": -1}, "scale must be >= 0, got min -1"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "arguments", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_input_is_named(function: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(**arguments)
