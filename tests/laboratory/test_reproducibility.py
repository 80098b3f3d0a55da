"""Rounding along a stream: the exponent of systems that have a known one, and models that are chaotic or not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hope_ref.laboratory import reproducibility as own
from hope_ref.laboratory import soak
from hope_ref.parallel.hope import Hope

Pair = tuple[Tensor, ...]
CHAOTIC = {
    "width": 16,
    "vocabulary": 11,
    "erase": "none",
    "memory_chunk_size": 32,
    "projection_chunk_size": 32,
}


def model(**options: object) -> Hope:
    return soak.random_model(
        **{"width": 16, "vocabulary": 256, "blocks": 1, "seed": 0, "signal": "none", **options}
    )


def pair(*rows: list[float]) -> Pair:
    return (torch.tensor(rows, dtype=torch.float64),)


# --- the exponent ---------------------------------------------------------------------------------------------------


def exponent(advance: Callable[[Pair], Pair], start: Pair, steps: int) -> float:
    return own.settled(own.growths(advance, start, steps))


def test_the_logistic_map_has_log_two() -> None:
    found = exponent(lambda state: (4 * state[0] * (1 - state[0]),), pair([0.3], [0.4]), 1000)
    assert found == pytest.approx(math.log(2), abs=2e-3)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_a_linear_map_has_the_logarithm_of_its_largest_eigenvalue(scale: float) -> None:
    """Shears and rotates as well: neither its norm nor its diagonal is the answer."""
    matrix = scale * torch.tensor([[1.2, 3.0, 0.0], [0.0, 0.4, -0.7], [0.0, 0.7, 0.4]], dtype=torch.float64)
    largest = torch.linalg.eigvals(matrix).abs().max()
    found = exponent(lambda state: (state[0] @ matrix.T,), pair([1.0, 2.0, 3.0], [3.0, 1.0, 5.0]), 100)
    assert found == pytest.approx(math.log(largest), abs=1e-6)


def test_the_difference_is_small_before_every_step_and_integers_are_those_of_the_state() -> None:
    apart = []

    def advance(state: Pair) -> Pair:
        apart.append(float((state[0][1] - state[0][0]).norm() / state[0][0].norm()))
        assert state[1].tolist() == [[5], [5]]
        return (torch.stack((state[0][0], state[0][0] + 100 * (state[0][1] - state[0][0]))), state[1])

    start = (*pair([3.0, 4.0], [6.0, 0.0]), torch.tensor([[5], [7]]))
    assert own.growths(advance, start, 3) == pytest.approx([math.log(100)] * 3)
    assert apart == pytest.approx([own.SIZE] * 3)


def test_what_vanishes_or_overflows_ends_the_list() -> None:
    start = pair([1.0], [2.0])
    assert own.growths(lambda state: (0 * state[0],), start, 5) == [-math.inf, -math.inf]
    assert own.growths(lambda state: (state[0] / 0,), start, 5) == [math.inf]
    with pytest.raises(ValueError, match="steps must be an integer >= 1, got 0"):
        own.growths(lambda state: state, start, 0)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that are read in a moment."""
    for name, value in (("PIECE", 64), ("CUT", 25), ("LEAST", 256)):
        monkeypatch.setattr(own, name, value)


# --- models ---------------------------------------------------------------------------------------------------------


def test_a_default_model_is_reproducible() -> None:
    found = own.measure(model(width=64), soak.random_tokens(256, 2048, 0))
    assert found.tokens == 2048
    assert found.reproducible
    assert found.float32.largest < 1e-5
    assert found.cut.largest < 1e-12
    assert not found.chaotic


def test_a_chaotic_model_is_recognised() -> None:
    found = own.measure(model(**CHAOTIC), soak.random_tokens(11, 2560, 0))
    assert found.chaotic
    assert not found.reproducible
    assert found.float32.left is not None
    assert 0 < found.float32.left < 2048
    assert found.float32.last > 0.1
    assert found.cut.last > 1e4 * 1e-15
    assert found.doubling == pytest.approx(math.log(2) / found.exponent)
    assert 20 < found.doubling < 200


def test_the_drifts_are_those_of_twins_that_are_read_one_by_one(short: None) -> None:
    small = model(width=8, vocabulary=5)
    tokens = soak.random_tokens(5, own.LEAST, 1)
    found = own.measure(small, tokens)
    with torch.no_grad():
        single = small(tokens)[0].double()
        exact = small.double()
        whole = exact(tokens)[0]
    error = (single - whole).norm(dim=-1) / whole.norm(dim=-1)
    assert found.float32.largest == pytest.approx(float(error.max()), rel=0.2)
    assert 0 < found.cut.largest < 1e-12


def test_the_twin_is_cut_where_the_stream_is_not(monkeypatch: pytest.MonkeyPatch, short: None) -> None:
    lengths: dict[torch.dtype, list[int]] = {torch.float32: [], torch.float64: []}
    read = own.read

    def noted(of: Hope, tokens: Tensor, *rest: object) -> object:
        if tokens.ndim == 1:
            lengths[of.embedding.dtype].append(len(tokens))
        return read(of, tokens, *rest)

    monkeypatch.setattr(own, "read", noted)
    own.measure(model(width=4), soak.random_tokens(256, own.LEAST + 5, 0))
    assert lengths[torch.float32] == [64] * 4
    assert lengths[torch.float64] == [25, 25, 14] * 4


@pytest.mark.parametrize("signal", soak.SIGNALS)
def test_whatever_moves_the_levels(signal: str, short: None) -> None:
    small = model(width=8, signal=signal, levels_chunk_sizes=(32, 64))
    assert own.measure(small, soak.random_tokens(256, own.LEAST, 0)).reproducible


def test_learning_is_what_the_signal_says_unless_it_is_switched_off() -> None:
    learner = model(width=8, signal="task", levels_chunk_sizes=(64,), cms_rate=1.0)
    tokens = soak.random_tokens(256, 200, 0)
    with torch.no_grad():
        still = learner(tokens)[0]
    assert torch.equal(own.read(learner, tokens, None, False)[0], still)
    assert not torch.allclose(own.read(learner, tokens, None)[0], still)


def test_an_overflow_is_no_agreement(short: None) -> None:
    printed = {"step": "explicit", "surprise_bound": 0.0, "value_norm": False}
    found = own.measure(model(width=8, **printed), soak.random_tokens(256, own.LEAST, 0))
    assert found.float32.largest == found.cut.largest == found.exponent == math.inf
    assert not found.reproducible


def test_the_first_error_beyond_the_limit_is_named() -> None:
    small, large = torch.full((3,), 1e-4), torch.tensor([1e-4, 2e-3, 1e-5])
    assert own.drift([small, large, small]) == (4, pytest.approx(2e-3), pytest.approx(1e-4))
    assert own.drift([small]).left is None
    assert own.drift([torch.tensor([0.0, math.nan])]) == (1, math.inf, math.inf)


def test_too_short_a_stream_is_named() -> None:
    with pytest.raises(ValueError, match=r"tokens must have shape \(T,\) with T >= 1024, got \(1023,\)"):
        own.measure(model(), torch.zeros(1023, dtype=torch.int64))


def test_exponent_and_doubling() -> None:
    none = own.Drift(None, 0.0, 0.0)
    grown = own.Reproducibility(2000, none, none, 0.001)
    assert grown.chaotic
    assert grown.doubling == pytest.approx(693.147, abs=1e-3)
    assert not grown._replace(exponent=0.0004).chaotic
    assert grown._replace(exponent=-0.1).doubling == math.inf
    left = own.Drift(7, 1.0, 1.0)
    assert grown.reproducible
    assert not any(grown._replace(**{name: left}).reproducible for name in ("float32", "cut"))
