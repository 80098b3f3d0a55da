"""What the identities of the continuum memory say beyond a zero residual, and that they speak of the code that runs."""

from __future__ import annotations

import numpy as np
import pytest

from hope_ref import reference, symbolic
from hope_ref.reference.continuum_memory import Level
from hope_ref.symbolic import continuum_memory
from hope_ref.symbolic.errata import ERRATA


@pytest.mark.parametrize("rule", ["gd", "dgd"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_statement_is_what_the_reference_computes(rule: str, seed: int) -> None:
    said = continuum_memory.statement(rule)
    point = said.random_point(np.random.default_rng(seed))
    level = Level(point["w1"], point["w2"], point["gain"], point["value"])
    y, state = reference.continuum_memory.continuum_memory(
        point["x"],
        [level],
        levels_chunk_sizes=(2,),
        cms_rate=point["cms_rate"],
        signal="associative",
        rule=rule,
    )
    want = said.evaluate(**point)
    np.testing.assert_allclose(y, want["y"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(state.levels[0].w1, want["w1"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(state.levels[0].w2, want["w2"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("row", "name"), [(7, "continuum_memory.otherwise"), (8, "continuum_memory.window")])
def test_the_rows_of_the_errata_stand_on_it(row: int, name: str) -> None:
    assert next(e for e in ERRATA if e.row == row).identity == name
    assert symbolic.named(name).holds()


def test_the_printed_zero_forgets_everything_between_boundaries() -> None:
    """Literally the weights are 0 after tokens 1 and 3, and what the next boundary starts from is 0, not θ_0."""
    sides = symbolic.named("continuum_memory.otherwise").printed_proof().stated
    assert sides[0] == 0
    assert sides[2] == 0
    assert not sides[3].has(continuum_memory.START)


def test_the_printed_window_counts_the_boundary_token_twice() -> None:
    last = symbolic.named("continuum_memory.window").printed_residual()[3]
    assert set(last.free_symbols) == {continuum_memory.ETA, *continuum_memory._signals(2)[1:]}


@pytest.mark.parametrize(("tokens", "size"), [(1000, 7), (512, 512), (511, 512), (0, 3)])
def test_updates_are_counted_at_other_sizes(tokens: int, size: int) -> None:
    assert continuum_memory._updates(tokens, size) == divmod(tokens, size)
