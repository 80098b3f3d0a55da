"""What the identities of the kernels rest on, at other sizes: the doubling against a solver."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp

from hope_ref import symbolic


def doubled(lower: np.ndarray) -> np.ndarray:
    size = len(lower)
    row, column = np.arange(size)[:, None], np.arange(size)
    inverse, side = np.eye(size), 1
    while side < size:
        pair = (row // (2 * side) == column // (2 * side)) & (row // side > column // side)
        inverse = inverse - inverse @ np.where(pair, lower, 0) @ inverse
        side *= 2
    return inverse


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 16, 31, 64])
def test_doubling_at_every_size(size: int) -> None:
    lower = np.tril(np.random.default_rng(size).normal(size=(size, size)), -1) / size
    np.testing.assert_allclose(doubled(lower) @ (np.eye(size) + lower), np.eye(size), atol=1e-12)


def test_the_backward_identity_speaks_of_every_input_it_names() -> None:
    sides = symbolic.named("kernels.backward").proof()
    assert sides.derived.shape == (7 + 6, 1)  # S_0 (1, 1), u (3, 1), η (3); S_0 (1, 2), u (2, 1), η (2)
    assert all(entry != 0 for entry in sides.derived)
    first = sides.derived[1].free_symbols  # by u_1, whose write reaches the third token through α_2
    assert {str(symbol) for symbol in first} >= {"alpha_2", "alpha_3", "x_31", "Z_11"}


def test_without_the_erase_base_the_distance_is_another_recurrence() -> None:
    derived, stated = symbolic.named("kernels.distance").proof()
    plain = stated.xreplace(
        {symbol: sp.Integer(0) for symbol in stated.free_symbols if str(symbol).startswith("E")}
    )
    assert sp.simplify(derived - plain) != sp.zeros(2, 2)


def test_the_gradients_identity_speaks_of_every_decay_between_two_tokens() -> None:
    sides = symbolic.named("kernels.gradients").proof()
    assert sides.derived.shape == (9, 1)  # q (3), φ (3), log α (3)
    middle = sides.derived[7].free_symbols  # log α_2: between the first token and the third
    assert {str(symbol) for symbol in middle} >= {"alpha_1", "alpha_2", "alpha_3", "S_11", "Z_11"}
