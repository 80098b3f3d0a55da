"""Factors along a key, measured on real writes; parity to 256 symbols; and a search among factors that are not negative."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref import parallel
from hope_ref.config import HopeConfig
from hope_ref.reference import self_modifying_titans as titans
from hope_ref.reference import state_tracking
from hope_ref.reference.state_tracking import eigenvalue, parity
from hope_ref.symbolic import state_tracking as derived

CASES = list(product(derived.CASES, derived.STEPS))
WIDTH = 4


def measured(objective: str, frozen: bool, step: str, eta: float, alpha: float, k: Any, across: Any) -> Any:
    """How much of a small change of W along k, and across it, the library's write leaves: finite differences of `write`."""
    config = HopeConfig(
        architecture="linear", objective=objective, step=step, surprise_bound=0, erase="full", retention_target="zero"
    )  # fmt: skip
    rng = np.random.default_rng(5)
    weight, target, nothing = (
        rng.normal(size=(WIDTH, WIDTH)),
        rng.normal(size=WIDTH),
        np.zeros((WIDTH, WIDTH)),
    )

    def after(moved: Any) -> Any:
        now = weight + moved
        ((phi, u),) = titans.associations((weight if frozen else now,), k, target, config)
        return titans.write(now, nothing, None, phi, u, eta, alpha, config)[0]

    left = []
    for direction in (k, across):
        change = 1e-3 * np.outer(rng.normal(size=WIDTH), direction)
        moved = after(change) - after(-change)  # the write is linear in W: differences are exact
        left.append(float((moved * change).sum() / (2 * change * change).sum()))
    return left


def keys(rng: np.random.Generator, length: float) -> tuple[Any, Any]:
    k, across = rng.normal(size=(2, WIDTH))
    across -= k * (k @ across) / (k @ k)
    return length * k / np.linalg.norm(k), across


@pytest.mark.parametrize(("case", "step"), CASES)
def test_a_real_write_has_the_factor_within_its_interval(case: tuple[str, bool], step: str) -> None:
    (objective, frozen), rng, most = case, np.random.default_rng(0), 1.7
    low, high = derived.interval(objective, step, frozen)
    for _ in range(30):
        alpha, length = rng.uniform(0.1, 1), rng.uniform(0.3, 2)
        eta = rng.exponential(3) if step == "implicit" else rng.uniform(0, most)
        along, rest = measured(objective, frozen, step, eta, alpha, *keys(rng, length))
        assert along == pytest.approx(eigenvalue(objective, step, eta, alpha, length, frozen), abs=1e-9)
        assert rest == pytest.approx(alpha, abs=1e-9)
        values = {derived.ALPHA: alpha, derived.LENGTH: length, derived.MOST: most}
        ends = [float(end.subs(values)) for end in (low, high)]
        assert ends[0] < along < ends[1]
        near = [1e7, 1e-7] if step == "implicit" else [most, 0.0]
        for end, eta in zip(ends, near, strict=True):
            found = measured(objective, frozen, step, eta, alpha, *keys(rng, length))[0]
            assert found == pytest.approx(end, abs=1e-4)


def test_only_regression_token_by_token_gets_beyond_what_is_forgotten_with_implicit_steps() -> None:
    for (objective, frozen), alpha in product(derived.CASES, (0.5, 0.9, 1.0)):
        lowest = eigenvalue(objective, "implicit", 1e9, alpha, frozen=frozen)
        assert (lowest < -(1 - alpha) - 1e-6) == (objective == "l2" and not frozen)
    assert eigenvalue("l2", "explicit", 1.0) == eigenvalue("dot", "explicit", 2.0) == -1


def words() -> list[Any]:
    rng = np.random.default_rng(1)
    some = [rng.integers(0, 2, size=n) for n in (0, 1, 2, 31, 128, 256)]
    return [*some, *map(np.array, product((0, 1), repeat=6)), np.ones(256, int), np.zeros(256, int)]


def test_parity_is_exact_to_256_symbols() -> None:
    for word in words():
        np.testing.assert_array_equal(parity(word), np.cumsum(word) % 2)


@pytest.mark.parametrize("chunk_size", [1, 7, 64])
def test_parity_in_chunks(chunk_size: int) -> None:
    batch = np.random.default_rng(2).integers(0, 2, size=(2, 3, 256))
    found = parallel.state_tracking.parity(torch.tensor(batch, dtype=torch.float64), chunk_size)
    np.testing.assert_allclose(found.numpy(), batch.cumsum(-1) % 2, rtol=0, atol=1e-12)


def test_the_write_of_the_regression_loss_turns_the_sign_too() -> None:
    """M(z) = z + W z told k for k: what it wrote is turned at each one. Implicit, it needs a rate that grows with the word."""
    k = np.array([1.0])
    base = HopeConfig(architecture="linear", surprise_bound=0, erase="full", retention_target="zero")

    def run(step: str, rate: float, word: Any) -> Any:
        config, weight, found = base.replace(step=step), np.ones((1, 1)), []
        for x in word:
            ((phi, u),) = titans.associations((weight,), k, k, config)
            weight = titans.write(weight, 0 * weight, None, phi, u, rate * x, 1.0, config)[0]
            found.append(weight[0, 0])
        return np.array(found)

    for word in words():
        np.testing.assert_array_equal(run("explicit", 1.0, word), 1 - 2 * parity(word))
    ones = np.ones(256)
    assert (np.sign(run("implicit", 1e3, ones)) == 1 - 2 * parity(ones)).all()
    assert abs(run("implicit", 1e3, ones)[-1]) > 0.5
    assert abs(run("implicit", 3.0, ones)[-1]) < 1e-70


def crossings(f: float, b: float, start: float, digits: int | None = None) -> tuple[int, int]:
    """Of 1 1 1 ...: how often the best of many thresholds is crossed, and how often m still moves in the second half."""
    m, seen = start, []
    for _ in range(400):
        m = f * m + b
        m = m if digits is None else float(np.clip(np.round(m, digits), -8, 8))
        seen.append(m)
    path = np.array(seen)
    thresholds = np.quantile(path, np.linspace(0, 1, 41))
    most = max(int(np.count_nonzero(np.diff(path > threshold))) for threshold in thresholds)
    return most, int(np.count_nonzero(np.diff(path[200:])))


def test_no_factor_that_is_not_negative_crosses_a_threshold_twice() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        f, (b, start) = rng.uniform(0, 1.3), rng.normal(size=2)
        assert crossings(f, b, start)[0] <= 1
        often, moves = crossings(f, b, start, digits=2)
        assert often <= 1
        assert moves == 0
    assert (
        crossings(-1.0, 0.3, 1.0) == crossings(-1.0, 0.25, 1.0, digits=2) == (399, 199)
    )  # the search can fail


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: eigenvalue("cosine", "implicit", 1.0), "objective must be one of 'dot', 'l2', got 'cosine'"),
        (lambda: eigenvalue("dot", "half", 1.0), "step must be one of 'implicit'.*got 'half'"),
        (lambda: eigenvalue("dot", "implicit", -1.0), "eta must be >= 0"),
        (lambda: eigenvalue("dot", "implicit", 1.0, 1.5), "alpha must be <= 1"),
        (lambda: eigenvalue("dot", "implicit", 1.0, 1.0, -2.0), "key_norm must be >= 0"),
        (lambda: state_tracking.parity([0, 1, 2]), "bits must be 0 or 1, got 2"),
        (lambda: state_tracking.parity([[0]]), r"bits must have shape \(T,\)"),
        (lambda: parallel.state_tracking.parity(torch.tensor([0.5])), "bits must be 0 or 1, got 0.5"),
    ],
)
def test_wrong_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
