"""HOPE that learns while it reads, against the NumPy statement and its own differences; causal, splittable, complete in its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hope_models import ATTENTION, close, in_reference_names
from selection import some_slow

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.parallel.hope_adaptation import AdaptationState, adapt
from hope_ref.reference import hope as literal
from hope_ref.reference import hope_adaptation as literal_adaptation
from hope_ref.reference.states import flattened

TINY: dict[str, Any] = {
    "vocabulary": 3, "blocks": 1, "width": 2, "hidden": 2, "memory_chunk_size": 2, "projection_chunk_size": 2, "levels_chunk_sizes": (2, 4),
    "cms_rate": 0.3, "convolution_width": 2,
}  # fmt: skip
TOKENS = np.array([1, 2, 0, 2, 1, 1, 0, 2, 2, 1])
EACH: dict[str, HopeConfig] = {
    "two blocks": HopeConfig(**(TINY | {"blocks": 2})),
    "two heads, chunks of 3": HopeConfig(**(TINY | {"heads": 2, "levels_chunk_sizes": (3, 6, 6)})),
    "attention, two blocks": HopeConfig(**(TINY | {"blocks": 2}), mixer=ATTENTION),
    "independent, dgd": HopeConfig(**TINY, variant="independent", rule="dgd"),
    "nested, slow to fast": HopeConfig(**TINY, variant="nested", order="slow_to_fast", mixer=ATTENTION),
    "nested, dgd": HopeConfig(**(TINY | {"blocks": 2}), variant="nested", rule="dgd", nested_rate=0.5, mixer=ATTENTION),
    "every token": HopeConfig(**(TINY | {"levels_chunk_sizes": (1, 2), "cms_rate": (0.2, 0.4)})),
}  # fmt: skip
each = pytest.mark.parametrize("config", EACH.values(), ids=EACH)
OWN = EACH.keys() - {"two blocks", "attention, two blocks"}  # "nested, dgd" has both
most = pytest.mark.parametrize("config", some_slow(EACH, OWN))
few = pytest.mark.parametrize("config", some_slow(EACH, {"two heads, chunks of 3", "nested, dgd"}))


def awake(config: HopeConfig) -> dict[str, Array]:
    rng = np.random.default_rng(3)
    start = literal.init(config)
    start |= {name: np.array(2.0) for name in start if name.endswith("alpha_bias")}
    return {name: array + 0.3 * rng.normal(size=array.shape) for name, array in start.items()}


def model_of(config: HopeConfig) -> Hope:
    return Hope.from_reference(awake(config), config)


# --- the same numbers -------------------------------------------------------------------------------------------------


@most
def test_equals_the_numpy_statement(config: HopeConfig) -> None:
    """Logits and the whole state, sums and grams of the open chunks too; the reference differentiates by differences."""
    parameters, model = awake(config), model_of(config)
    first, *_, slowest = config.levels_chunk_sizes
    tokens = TOKENS[: min(7, slowest + first + 1)]  # a segment beyond the slowest chunk, as far as that goes
    want, want_state = literal_adaptation.adapt(tokens, parameters, config)
    logits, state = adapt(model, torch.tensor(tokens))
    np.testing.assert_allclose(logits.numpy(), want, rtol=0, atol=1e-8)
    ours, theirs = in_reference_names(state, config.heads), flattened(want_state)
    assert ours.keys() == theirs.keys()
    for name in ("start.config", "now.config"):
        assert ours.pop(name) == theirs.pop(name)
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=1e-8, err_msg=name)
    frozen, _ = model(torch.tensor(tokens))
    torch.testing.assert_close(logits[:first], frozen[:first].detach(), rtol=0, atol=1e-12)
    assert (logits - frozen)[first:].abs().amax(-1).min() > 1e-6, "from the first target on it has learned"


@pytest.mark.parametrize("config", some_slow(EACH, {"two heads, chunks of 3", "nested, dgd", "every token"}))
def test_every_split_gives_the_same(config: HopeConfig) -> None:
    """In two: at both ends, in a segment, at a boundary of every level and after it; and token by token."""
    model, tokens = model_of(config), torch.tensor(np.stack([TOKENS, TOKENS[::-1]]))
    slowest = config.levels_chunk_sizes[-1]
    tokens = tokens[:, : 2 * slowest + 2]
    whole, end = adapt(model, tokens)
    for cut in (0, 1, slowest, slowest + 1, tokens.shape[1]):
        first, middle = adapt(model, tokens[:, :cut])
        second, last = adapt(model, tokens[:, cut:], middle)
        torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=1e-10)
        close(last, end)
    state = None
    for t in range(tokens.shape[1]):
        one, state = adapt(model, tokens[:, t : t + 1], state)
        torch.testing.assert_close(one, whole[:, t : t + 1], rtol=0, atol=1e-10)
    assert state is not None
    close(state, end)


@few
def test_streams_of_a_batch_learn_alone(config: HopeConfig) -> None:
    model = model_of(config)
    tokens = torch.tensor(np.random.default_rng(5).integers(3, size=(3, 2, 7)))
    logits, state = adapt(model, tokens)
    assert logits.shape == (3, 2, 7, 3)
    for index in ((0, 0), (2, 1), (1, 0)):
        alone, own = adapt(model, tokens[index])
        torch.testing.assert_close(logits[index], alone, rtol=0, atol=1e-10)
        close(states.mapped(lambda tensor, at=index: tensor[at], state), own)
        close(state[index], own)


@pytest.mark.parametrize("mixer", MIXERS)
def test_the_baselines_learn_too(mixer: str) -> None:
    model = Hope(HopeConfig(**(TINY | {"blocks": 2}), mixer=mixer)).double()
    whole, end = adapt(model, torch.tensor(TOKENS))
    first, middle = adapt(model, torch.tensor(TOKENS[:5]))
    second, last = adapt(model, torch.tensor(TOKENS[5:]), middle)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=0, atol=1e-10)
    close(last, end)
    assert (whole - model(torch.tensor(TOKENS))[0]).abs().max() > 1e-4


# --- promises ---------------------------------------------------------------------------------------------------------


@most
def test_the_past_does_not_see_the_future(config: HopeConfig) -> None:
    """A token is the last target of the segment before it, and even so no earlier logit moves."""
    tokens = torch.tensor(TOKENS).repeat(len(TOKENS) + 1, 1)  # row t has another token t, the last one none
    tokens[:-1] = (tokens[:-1] + torch.eye(len(TOKENS), dtype=torch.int64)) % 3
    logits, _ = adapt(model_of(config), tokens)
    for t, moved in enumerate((logits[:-1] - logits[-1]).abs().amax(-1)):
        assert (moved[:t] < 1e-13).all()
        assert (moved[t:] > 1e-9).all()


@each
def test_no_tokens_change_nothing(config: HopeConfig) -> None:
    model = model_of(config)
    logits, state = adapt(model, torch.zeros(2, 0, dtype=torch.int64))
    assert logits.shape == (2, 0, 3)
    assert state.segment.shape == (2, 0)
    close(state, AdaptationState(model.initial_state((2,)), model.initial_state((2,)), state.segment), 0)
    _, middle = adapt(model, torch.tensor(TOKENS[:3]))
    again, same = adapt(model, torch.zeros(0, dtype=torch.int64), middle)
    assert again.shape == (0, 3)
    close(same, middle, 0)


@few
def test_the_state_survives_its_file(config: HopeConfig, tmp_path: Path) -> None:
    model = model_of(config)
    _, state = adapt(model, torch.tensor(TOKENS[:5]))
    states.save_state(tmp_path / "state.pt", state)
    _, like = adapt(model, torch.tensor(TOKENS[:0]))
    back = states.load_state(tmp_path / "state.pt", like)
    close(back, state, 0)
    assert torch.equal(adapt(model, torch.tensor(TOKENS[5:]), back)[0], adapt(model, torch.tensor(TOKENS[5:]), state)[0])  # fmt: skip


@few
def test_nothing_is_kept_for_a_backward_pass(config: HopeConfig) -> None:
    model = model_of(config)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    for state in (None, adapt(model, torch.tensor(TOKENS[:3]), differentiable=True)[1]):
        for length in (0, 1, len(TOKENS)):
            logits, after = adapt(model, torch.tensor(TOKENS[:length]), state)
            assert not logits.requires_grad
            leaves = [leaf for leaf in states.flattened(after).values() if isinstance(leaf, torch.Tensor)]
            assert not any(leaf.requires_grad for leaf in leaves)
    assert torch.is_grad_enabled()
    for parameter, copy in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, copy), "the parameters do not move"
        assert parameter.grad is None


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8])
def test_other_integers_do_too(dtype: torch.dtype) -> None:
    """Cut in the middle of a segment, whose tokens the state keeps."""
    model, tokens = model_of(HopeConfig(**TINY)), torch.tensor(TOKENS, dtype=dtype)
    first, state = adapt(model, tokens[:5])
    second, _ = adapt(model, tokens[5:], state)
    torch.testing.assert_close(
        torch.cat([first, second]), adapt(model, torch.tensor(TOKENS))[0], rtol=0, atol=1e-12
    )


def test_float32_stays_near() -> None:
    model = model_of(EACH["two blocks"])
    want, _ = adapt(model, torch.tensor(TOKENS))
    got, _ = adapt(model.float(), torch.tensor(TOKENS))
    assert got.dtype == torch.float32
    assert (got - want).abs().max() < 1e-3 * want.abs().max()


# --- gradients through every update -----------------------------------------------------------------------------------


def projected(logits: torch.Tensor) -> torch.Tensor:
    return (logits * torch.tensor(np.random.default_rng(8).normal(size=tuple(logits.shape)))).sum()


@pytest.mark.parametrize("config", some_slow(EACH, {"independent, dgd", "nested, dgd"}))
def test_gradients_reach_every_parameter_through_the_updates(config: HopeConfig) -> None:
    """They equal central differences of `adapt` itself, in one direction per group of parameters."""
    first, *_, slowest = config.levels_chunk_sizes
    model, tokens = model_of(config), torch.tensor(TOKENS[: slowest + first + 1])
    logits, state = adapt(model, tokens, differentiable=True)
    plain, plain_state = adapt(model, tokens)
    torch.testing.assert_close(logits.detach(), plain, rtol=0, atol=1e-12)
    close(state, plain_state, 1e-12)
    projected(logits).backward()
    groups: dict[str, list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-12, name
        groups.setdefault(name.rpartition(".")[0] or name, []).append(parameter)
    rng, h = np.random.default_rng(4), 2e-6
    for name, members in groups.items():
        directions = [torch.tensor(rng.normal(size=tuple(parameter.shape))) for parameter in members]
        length = float(sum(direction.square().sum() for direction in directions)) ** 0.5
        kept, ends = [parameter.detach().clone() for parameter in members], []
        for distance in (h, -h, 0):
            with torch.no_grad():
                for parameter, old, direction in zip(members, kept, directions, strict=True):
                    parameter.copy_(old + distance / length * direction)
            if distance:
                ends.append(float(projected(adapt(model, tokens)[0])))
        slope = (ends[0] - ends[1]) / (2 * h)
        found = (p.grad * way for p, way in zip(members, directions, strict=True) if p.grad is not None)
        got = float(sum(product.sum() for product in found)) / length
        assert abs(got - slope) <= 1e-6 * max(1.0, abs(slope)), (name, got, slope)


def test_it_is_the_argument_that_decides_about_gradients() -> None:
    config = EACH["independent, dgd"]
    model, found = model_of(config), []
    for mode in (torch.no_grad(), torch.enable_grad()):
        with mode:
            logits, _ = adapt(model, torch.tensor(TOKENS), differentiable=True)
        found.append(torch.autograd.grad(projected(logits), list(model.parameters())))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_outer_gradient_flows_through_a_split() -> None:
    config = EACH["independent, dgd"]
    found = []
    for cut in (0, 5):
        model = model_of(config)
        first, state = adapt(model, torch.tensor(TOKENS[:cut]), differentiable=True)
        second, _ = adapt(model, torch.tensor(TOKENS[cut:]), state, differentiable=True)
        projected(torch.cat([first, second])).backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for whole, split in zip(*found, strict=True):
        torch.testing.assert_close(split, whole, rtol=1e-9, atol=1e-9)


# --- refusals ---------------------------------------------------------------------------------------------------------


def bad_calls() -> list[tuple[dict[str, Any], str]]:
    config = HopeConfig(**TINY)
    model = model_of(config)
    _, state = adapt(model, torch.tensor(TOKENS[:5]))
    _, two = adapt(model_of(config.replace(blocks=2)), torch.tensor(TOKENS[:5]))
    tokens = torch.tensor(TOKENS)
    return [
        ({"model": Hope(config.replace(signal="none"))}, "model must be a Hope with signal='task', got 'none'"),
        ({"model": torch.nn.Linear(2, 2)}, "model must be a Hope with signal='task', got Linear"),
        ({"tokens": tokens + 1}, r"tokens must be in \[0, 3\), got 1 to 3"),
        ({"tokens": TOKENS}, "tokens must be a tensor of integers, got ndarray"),
        ({"tokens": tokens[0]}, r"tokens must have shape \(..., T\), got \(\)"),
        ({"state": 3}, "state must be an AdaptationState or None, got int"),
        ({"state": model.initial_state()}, "state must be an AdaptationState or None, got HopeState"),
        ({"state": two}, "state.start must be a HopeState of 1 blocks or None, got 2 blocks"),
        ({"state": state._replace(now=None)}, "state.now must be a HopeState of 1 blocks or None, got NoneType"),
        ({"tokens": tokens.repeat(2, 1)}, r"state.start.blocks\[0\].mixer.key_inputs must have shape \(2, 1, 2\), got \(1, 2\)"),
        ({"state": state._replace(segment=None)}, "state.segment must be a tensor of integers, got NoneType"),
        ({"state": state._replace(segment=state.segment[:0])}, r"state.segment must have shape \(1,\), got \(0,\)"),
        ({"state": state._replace(segment=state.segment + 5)}, r"state.segment must be in \[0, 3\)"),
        (
            {"state": AdaptationState(model.initial_state(), model(tokens)[1], tokens)},
            "state.segment must have at most 2 tokens, got 10",
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), bad_calls())
def test_bad_input_is_named(changes: dict[str, Any], message: str) -> None:
    model = model_of(HopeConfig(**TINY))
    _, state = adapt(model, torch.tensor(TOKENS[:5]))
    with pytest.raises(ValueError, match=message):
        adapt(**({"model": model, "tokens": torch.tensor(TOKENS), "state": state} | changes))
