"""The words of the checks: each message names the argument, what it got and what it wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hope_ref.common import validation as door

CASES: list[tuple[Callable[[], Any], str]] = [
    (lambda: door.positive_integer("steps", 0), "steps must be an integer >= 1, got 0"),
    (lambda: door.positive_integer("steps", "5"), "steps must be an integer >= 1, got '5'"),
    (
        lambda: door.one_of("floor", "attic", ("cellar", "loft")),
        "floor must be one of 'cellar', 'loft', got 'attic'",
    ),
    (lambda: door.shape_is("x", (2,), (3,)), r"x must have shape \(3,\), got \(2,\)"),
    (lambda: door.shape_is("x", (2, 3), ("T", 4)), r"x must have shape \(T, 4\), got \(2, 3\)"),
    (lambda: door.float64("x", "hello"), "x must be float64"),
    (lambda: door.float64("x", [True]), "x must be float64 .* got dtype bool"),
    (lambda: door.float64("x", np.inf), "x must be finite, got 1 NaN or infinite entries"),
    (lambda: door.scalar("beta", 1.5, 0, 1), "beta must be <= 1, got max 1.5"),
    (lambda: door.scalar("beta", [0.5]), r"beta must have shape \(\), got \(1,\)"),
    (lambda: door.per_token("eta", [0.1, -0.2], 2, low=0), "eta must be >= 0, got min -0.2"),
    (
        lambda: door.same_names("state", {"b": 1, "c": 2}, ("a", "b")),
        "state must hold a, b; missing: a, unknown: c",
    ),
]


@pytest.mark.parametrize(("call", "message"), CASES)
def test_bad_input_is_named(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_good_input_comes_back_as_float64() -> None:
    assert door.positive_integer("steps", np.int64(3)) == 3
    assert door.float64("x", [1, 2]).dtype == np.float64
    assert door.scalar("beta", 1) == 1.0
    np.testing.assert_array_equal(door.per_token("eta", 0.5, 3), [0.5, 0.5, 0.5])
    assert door.per_token("eta", np.zeros(0), 0, low=0).shape == (0,)


def test_the_callers_array_is_not_touched() -> None:
    given = np.ones(3)
    door.float64("x", given)[0] = 7
    np.testing.assert_array_equal(given, np.ones(3))
