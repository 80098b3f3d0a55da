"""When a difference is called better or worse: the t test against numerical integration, Holm by hand, and tables of nothing."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from hope_ref.common.validation import Array
from hope_ref.experiments import findings as own

TABLES, ROWS = 4_000, 14


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 9, 30])
@pytest.mark.parametrize("t", [0.0, 0.3, -2.5, 12.0])
def test_the_tail_is_the_integral_of_the_density(freedom: int, t: float) -> None:
    scale = mpmath.gamma((freedom + 1) / 2) / mpmath.sqrt(freedom * mpmath.pi) / mpmath.gamma(freedom / 2)
    inside = mpmath.quad(
        lambda x: scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2), mpmath.linspace(0, abs(t), 9)
    )
    assert own.tail(t, freedom) == pytest.approx(float(1 - 2 * inside), abs=1e-12)


def test_the_p_value_of_three_seeds_in_closed_form() -> None:
    t = math.sqrt(3) * 2.0 / 1.0
    assert own.p_value([1.0, 2.0, 3.0]) == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert own.p_value([0.0, 0.0, 0.0]) == 1
    assert own.p_value([3.0, 3.0, 3.0]) == 0


def row(ratio: float) -> list[float]:
    """Three seeds with a standard deviation of 1 and this mean."""
    return [ratio - 1, ratio, ratio + 1]


def test_holm_is_a_step_down() -> None:
    last, second, first = (own.least_ratio(3, comparisons) for comparisons in (1, 2, 3))
    above, below = 1.01, 0.99
    rows = {"a": row(-above * first), "b": row(above * second), "c": row(above * last)}
    assert own.findings(rows) == {"a": -1, "b": 1, "c": 1}  # Bonferroni would find "a" alone
    assert own.findings({**rows, "b": row(below * second)}) == {"a": -1, "b": 0, "c": 0}
    assert own.findings({**rows, "a": row(-below * first)}) == {"a": 0, "b": 0, "c": 0}


def test_the_mean_exceeds_the_spread_and_the_least() -> None:
    many = [0.5 + (-1) ** seed for seed in range(50)]  # sure, and half a spread away from 0
    assert own.p_value(many) < 0.01
    assert own.findings({"a": many}) == {"a": 0}
    assert own.findings({"a": [0.5, 0.5, 0.5]}, least=1.0) == {"a": 0}
    assert own.findings({"a": [0.5, 0.5, 0.5]}) == {"a": 1}


def test_single_seeds_are_left_out_and_do_not_count() -> None:
    rows = {"a": row(1.01 * own.least_ratio(3)), **{str(n): [9.0] for n in range(20)}, "none": []}
    assert own.findings(rows) == {"a": 1}


@pytest.mark.parametrize("comparisons", [1, 5, 14])
def test_the_least_ratio_is_where_findings_begin(comparisons: int) -> None:
    ratio = own.least_ratio(3, comparisons)
    rest = {str(n): [-1.0, 0.0, 1.0] for n in range(comparisons - 1)}
    assert own.findings({"a": row(1.001 * ratio), **rest})["a"] == 1
    assert own.findings({"a": row(0.999 * ratio), **rest})["a"] == 0
    assert f"{ratio:.1f}" in own.in_words()


def nothing(rng: np.random.Generator, seeds: int) -> Array:
    """(ROWS, seeds): trainings of equal models minus one default that all rows share, as in a table of ablations."""
    return rng.normal(size=(ROWS, seeds)) - rng.normal(size=seeds)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_a_table_of_nothing_has_a_finding_in_at_most_one_of_twenty(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    tables = [nothing(rng, seeds) for _ in range(TABLES)]
    wrong = [any(own.findings(dict(enumerate(table.tolist()))).values()) for table in tables]
    three_errors = 3 * math.sqrt(own.LEVEL * (1 - own.LEVEL) / TABLES)
    assert np.mean(wrong) <= own.LEVEL + three_errors
    assert np.mean(wrong) > own.LEVEL / 3  # and it is no rule that never finds anything
    one_sign = [(abs(np.sign(table).sum(axis=1)) == seeds).any() for table in tables]
    assert np.mean(one_sign) > 6 * own.LEVEL  # as "the same sign for every seed" would say


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: own.tail(1.0, 0), "freedom must be an integer >= 1, got 0"),
        (lambda: own.p_value([1.0]), "differences must be of two seeds or more, got 1"),
        (lambda: own.least_ratio(1), "seeds must be an integer >= 2, got 1"),
        (lambda: own.least_ratio(3, 0), "comparisons must be an integer >= 1, got 0"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
