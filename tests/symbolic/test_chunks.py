"""What the identities of chunks say beyond a zero residual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp

from hope_ref import symbolic
from hope_ref.reference import chunks as reference
from hope_ref.symbolic import chunks


@pytest.mark.parametrize("erase", reference.ERASE)
def test_the_statement_is_the_reference(erase: str) -> None:
    said = chunks.statement(erase, length=2, d_out=2)
    point = said.random_point(np.random.default_rng(0))
    want = said.evaluate(**point)
    for form, options in ((reference.recurrence, {}), (reference.chunk_recurrence, {"chunk_size": 2})):
        y, state = form(**point, **options, erase=erase)
        np.testing.assert_allclose(y, want["y"], rtol=0, atol=1e-13)
        np.testing.assert_allclose(state, want["state"], rtol=0, atol=1e-13)


def test_the_statement_with_momentum_is_the_reference() -> None:
    said = chunks.momentum_statement()
    point = said.random_point(np.random.default_rng(0))
    want = list(said.evaluate(**point).values())
    for form in (reference.momentum_recurrence, reference.chunk_momentum_recurrence):
        for got, expected in zip(form(**point), want, strict=True):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def test_the_boundaries_of_the_proof_are_those_of_the_library() -> None:
    sides = symbolic.named("chunks.boundary").proof()
    counted = [reference.boundary(t, size) for size in (2, 3) for t in range(2 * size)]
    for side in sides:  # what is counted, what the formula says
        assert [list(side.row(row)) for row in (0, 1)] == [counted, counted]


def test_the_printed_boundary_has_seen_the_future() -> None:
    """How many tokens the state has seen that are token t or later: none, and in print up to C."""
    identity = symbolic.named("chunks.boundary")
    assert identity.printed_proof is not None
    ours, printed = identity.proof().stated, identity.printed_proof().stated

    def leaked(boundaries: sp.Matrix, row: int) -> list[int]:
        return [max(0, int(b) - t) for t, b in enumerate(boundaries.row(row))]

    assert chunks.CHUNKS[1] == 3
    ours, printed = ours[:, 4:10], printed[:, 4:10]  # the two chunks of three tokens
    for row in (0, 1):  # tokens counted from 0, from 1
        assert leaked(ours, row) == [0] * 6
    assert leaked(printed, 0) == [0, 2, 1, 0, 2, 1]
    assert leaked(printed, 1) == [3, 2, 1, 3, 2, 1]


@pytest.mark.parametrize("objective", ["dot", "l2"])
@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_frozen_in_symbols_is_frozen_in_numbers(objective: str, chunk_size: int) -> None:
    loss: Any = {"dot": chunks._dot, "l2": chunks._half_square}[objective]
    said = chunks._frozen(loss, chunk_size, 3)
    rng = np.random.default_rng(1)
    point = {
        s: rng.uniform(0.2, 0.9) if s.is_positive else rng.normal()
        for s in sorted(said.free_symbols, key=str)
    }

    def of(name: str, rows: int, columns: int) -> np.ndarray:
        """An array whose symbols are name_ij, or name_i for a gate."""
        positions = [f"{name}_{i + 1}{j + 1}" for i in range(rows) for j in range(columns)]
        positions = [f"{name}_{i + 1}" for i in range(rows)] if columns == 0 else positions
        by_name = {str(s): value for s, value in point.items()}
        return np.array([by_name[p] for p in positions]).reshape((rows, columns) if columns else rows)

    k = of("k", 3, 2)
    _, memory = reference.frozen_gradients(
        k, k, of("v", 3, 1), of("eta", 3, 0), of("alpha", 3, 0), of("M", 1, 2), chunk_size, objective
    )
    np.testing.assert_allclose(memory, np.array(said.subs(point), dtype=float), rtol=0, atol=1e-13)


def test_only_l2_knows_its_chunk_size() -> None:
    dot = symbolic.named("chunks.frozen_dot").proof().derived
    assert sp.expand(dot.row(0) - dot.row(2)) == sp.zeros(1, 2)
    difference = symbolic.named("chunks.frozen_l2").proof().stated
    assert difference != sp.zeros(1, 2)
    alpha, k = sp.Symbol("alpha_1", positive=True), [sp.Symbol(f"k_1{j}", real=True) for j in (1, 2)]
    other = [sp.Symbol(f"k_2{j}", real=True) for j in (1, 2)]
    orthogonal = {other[0]: -k[1], other[1]: k[0]}
    assert sp.expand(difference.subs(alpha, 1).subs(orthogonal)) == sp.zeros(1, 2)
    assert sp.expand(difference.subs(orthogonal)) != sp.zeros(1, 2)
