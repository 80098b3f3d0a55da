"""Rows of unequal length and several documents in a row: each as if it were alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from selection import some_slow

from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.parallel.states import UnequalStates

CONFIG = HopeConfig(
    width=8, heads=2, vocabulary=7, memory_chunk_size=2, projection_chunk_size=4, levels_chunk_sizes=(4, 8)
)
TOKENS = torch.randint(7, (5, 9), generator=torch.Generator().manual_seed(0))
LENGTHS = [9, 4, 0, 1, 4]


def model_of(mixer: str = "self_modifying_titans", **options: Any) -> Hope:
    return Hope(CONFIG.replace(mixer=mixer, **options)).double()


def close(got: Any, want: Any) -> None:
    names, others = states.flattened(got), states.flattened(want)
    assert names.keys() == others.keys()
    for name, leaf in names.items():
        if isinstance(leaf, torch.Tensor):
            torch.testing.assert_close(leaf, others[name], rtol=0, atol=1e-12)
        else:
            assert leaf == others[name]


SIGNALS = {f"{mixer}-{signal}": (mixer, signal) for signal in ("task", "associative") for mixer in MIXERS}


@pytest.mark.parametrize(
    ("mixer", "signal"),
    some_slow(SIGNALS, {"self_modifying_titans-associative", *(f"{mixer}-task" for mixer in MIXERS)}),
)
@torch.no_grad()
def test_padding_enters_no_state(mixer: str, signal: str) -> None:
    model = model_of(mixer, signal=signal)
    logits, after = model(TOKENS, lengths=torch.tensor(LENGTHS))
    changed = TOKENS.clone()
    for row, length in enumerate(LENGTHS):
        changed[row, length:] = (changed[row, length:] + 1) % 7
    others, _ = model(changed, lengths=LENGTHS)
    assert torch.equal(logits, others)
    for row, length in enumerate(LENGTHS):
        want, state = model(TOKENS[row, :length])
        torch.testing.assert_close(logits[row, :length], want, rtol=0, atol=1e-12)
        assert not logits[row, length:].any()
        close(after[row], state)


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_streams_of_unequal_position_go_on(mixer: str) -> None:
    model = model_of(mixer)
    _, after = model(TOKENS, lengths=LENGTHS)
    logits, end = model(TOKENS[:, :3], after)
    last, _ = model.step(TOKENS[:, 3], end)
    for row, length in enumerate(LENGTHS):
        whole = torch.cat([TOKENS[row, :length], TOKENS[row, :4]])
        want, _ = model(whole)
        torch.testing.assert_close(
            torch.cat([logits[row], last[row, None]]), want[length:], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_a_document_starts_from_the_parameters(mixer: str) -> None:
    model = model_of(mixer)
    starts = torch.zeros(5, 9, dtype=torch.bool)
    starts[0, [3, 4]] = starts[1, 0] = starts[3, 5] = starts[4, 2] = (
        True  # 3, 5 stands behind the end of its row
    )
    _, before = model(TOKENS)
    logits, after = model(TOKENS, before, lengths=LENGTHS, starts=starts)
    documents = {0: [(0, 3), (3, 4), (4, 9)], 1: [(0, 4)], 2: [(0, 0)], 3: [(0, 1)], 4: [(0, 2), (2, 4)]}
    for row, spans in documents.items():
        for place, (begin, end) in enumerate(spans):
            carried = before[row] if place == 0 and not starts[row, 0] else None
            want, state = model(TOKENS[row, begin:end], carried)
            torch.testing.assert_close(logits[row, begin:end], want, rtol=0, atol=1e-12)
        close(after[row], state)


def test_gradients_are_those_of_each_row_alone() -> None:
    model = model_of()
    weights = torch.randn(5, 9, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits, _ = model(TOKENS, lengths=LENGTHS)
    got = torch.autograd.grad((logits * weights).sum(), list(model.parameters()))
    alone = [(model(TOKENS[r, :n])[0] * weights[r, :n]).sum() for r, n in enumerate(LENGTHS)]
    want = torch.autograd.grad(torch.stack(alone).sum(), list(model.parameters()))
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@torch.no_grad()
def test_prompts_of_unequal_length_are_continued_together() -> None:
    model = model_of()
    lengths = [9, 4, 2, 1, 4]
    made, after = model.generate(TOKENS, 3, lengths=lengths, temperature=0)
    for row, length in enumerate(lengths):
        alone, state = model.generate(TOKENS[row, :length], 3, temperature=0)
        assert torch.equal(made[row], alone)
        close(after[row], state)


def test_states_of_rows_detach_and_move() -> None:
    model = model_of()
    _, after = model(TOKENS, lengths=LENGTHS)
    cut = after.detach()
    assert isinstance(cut, UnequalStates)
    assert torch.equal(model(TOKENS, cut)[0], model(TOKENS, after)[0])
    assert cut.to(torch.float32)[0].blocks[0].mixer.key_inputs.dtype == torch.float32


STATES = model_of()(TOKENS, lengths=LENGTHS)[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            {"lengths": [1, 2]},
            r"lengths must be integers of shape \(5,\), one per row, got torch.int64 of shape \(2,\)",
        ),
        ({"lengths": [1.0] * 5}, r"lengths must be integers of shape \(5,\), one per row, got torch.float32"),
        ({"lengths": [1, 2, 3, 4, 10]}, r"lengths must be in \[0, 9\], got 1 to 10"),
        ({"lengths": [1, 2, -3, 4, 5]}, r"lengths must be in \[0, 9\], got -3 to 5"),
        (
            {"starts": TOKENS},
            r"starts must be a bool tensor of shape \(5, 9\), got torch.int64 of shape \(5, 9\)",
        ),
        ({"starts": [True]}, r"starts must be a bool tensor of shape \(5, 9\), got list"),
        (
            {"tokens": TOKENS[0], "lengths": [1]},
            r"tokens must have shape \(B, T\) with lengths or starts, got \(9,\)",
        ),
        ({"state": UnequalStates(STATES[:2])}, r"state must have 5 entries, one per row, got 2"),
        (
            {"state": UnequalStates([None] * 5)},
            r"state\[0\] must be a HopeState of 2 blocks or None, got NoneType",
        ),
    ],
)
def test_what_does_not_fit_is_named(call: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of()(**{"tokens": TOKENS, **call})


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="lengths must be >= 1 in a prompt, got 0"):
        model_of().prefill(TOKENS, lengths=LENGTHS)
