"""The whole model against its NumPy statement: logits, complete state, gradients; every split, every sequence of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hope_models import ATTENTION, SMALL, TOKENS, VOCABULARY, awake, close, in_reference_names, model_of
from selection import some_slow

from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.hope import Hope, HopeState
from hope_ref.reference import hope as literal
from hope_ref.reference import states as literal_states

CHUNK = 4

EACH: dict[str, HopeConfig] = {
    "one head": HopeConfig(**SMALL),
    "two heads": HopeConfig(**SMALL, heads=2),
    "no projection": HopeConfig(**SMALL, input_projection=False, adaptive_query=True),
    "no convolution": HopeConfig(**SMALL, convolution_width=0, heads=2),
    "width 1, linear": HopeConfig(**SMALL, convolution_width=1, architecture="linear"),
    "bare": HopeConfig(**SMALL, convolution_width=0, input_projection=False, adaptive_query=True, heads=2),
    "independent, dgd": HopeConfig(**SMALL, variant="independent", rule="dgd"),
    "nested": HopeConfig(**SMALL, variant="nested", order="slow_to_fast", objective="dot"),
    "nested, dgd": HopeConfig(**SMALL, variant="nested", rule="dgd", heads=2, nested_rate=0.5),
    "task": HopeConfig(**(SMALL | {"signal": "task"})),
    "none, independent": HopeConfig(**(SMALL | {"signal": "none", "variant": "independent"})),
    "printed": HopeConfig.printed(width=4, hidden=3, vocabulary=5, memory_chunk_size=4, projection_chunk_size=4, heads=2),
    "attention": HopeConfig(**SMALL, mixer=ATTENTION),
    "attention, two heads": HopeConfig(**SMALL, heads=2, variant="independent", mixer=ATTENTION),
    "attention, task": HopeConfig(**(SMALL | {"signal": "task", "heads": 2}), mixer=ATTENTION),
}  # fmt: skip
AT_ONCE = ("two heads", "bare", "width 1, linear", "nested, dgd", "attention, task")
WITH_GRADIENT = (*AT_ONCE, "independent, dgd", "printed")
REPEATING = ("one head", "no convolution", "attention")  # all that they choose is in others too
own = pytest.mark.parametrize("config", some_slow(EACH, EACH.keys() - REPEATING))
few_at_once = pytest.mark.parametrize("config", some_slow(EACH, AT_ONCE))


def same_state(
    got: HopeState, want: literal.HopeState, heads: int, index: tuple[int, ...] = (), bound: float = 1e-10
) -> None:
    ours, theirs = in_reference_names(got, heads, index), literal_states.flattened(want)
    assert ours.keys() == theirs.keys()
    assert ours.pop("config") == theirs.pop("config")
    for name, array in theirs.items():
        np.testing.assert_allclose(ours[name], array, rtol=0, atol=bound, err_msg=name)
        assert np.shape(ours[name]) == np.shape(array), name


# --- the same numbers -------------------------------------------------------------------------------------------------


@own
def test_equals_the_numpy_model(config: HopeConfig) -> None:
    parameters, model = awake(config), model_of(config)
    want, want_state = literal.hope([], parameters, config)
    for length in (0, CHUNK, CHUNK + 1, 2 * CHUNK + 1):
        more = TOKENS[len(want) : length]  # the reference goes on, the model begins again
        logits, want_state = literal.hope(more, parameters, config, want_state)
        want = np.concatenate([want, logits])
        logits, state = model(torch.tensor(TOKENS[:length], dtype=torch.int64))
        assert logits.shape == (length, VOCABULARY)
        np.testing.assert_allclose(logits.detach().numpy(), want, rtol=0, atol=1e-10)
        same_state(state, want_state, config.heads)


@few_at_once
def test_goes_on_from_a_state_as_the_numpy_model_does(config: HopeConfig) -> None:
    """Both begin in the middle of a chunk, so that the copies at the boundary matter."""
    parameters, model = awake(config), model_of(config)
    _, before = literal.hope(TOKENS[:3], parameters, config)
    want, want_state = literal.hope(TOKENS[3:], parameters, config, before)
    _, state = model(torch.tensor(TOKENS[:3]))
    logits, state = model(torch.tensor(TOKENS[3:]), state)
    np.testing.assert_allclose(logits.detach().numpy(), want, rtol=0, atol=1e-10)
    same_state(state, want_state, config.heads)


@few_at_once
def test_every_sequence_of_a_batch_equals_its_own_run(config: HopeConfig) -> None:
    config = config.replace(blocks=1)
    parameters, model = awake(config), model_of(config)
    tokens = np.random.default_rng(1).integers(VOCABULARY, size=(2, 2, 7))
    logits, state = model(torch.tensor(tokens))
    assert logits.shape == (2, 2, 7, VOCABULARY)
    for index in ((0, 1), (1, 0)):
        want, want_state = literal.hope(tokens[index], parameters, config)
        np.testing.assert_allclose(logits[index].detach().numpy(), want, rtol=0, atol=1e-10)
        same_state(state, want_state, config.heads, index)
    for index in np.ndindex(2, 2):
        alone, _ = model(torch.tensor(tokens[index]))
        torch.testing.assert_close(logits[index], alone, rtol=0, atol=1e-12)


@few_at_once
def test_every_split_gives_the_same(config: HopeConfig) -> None:
    model, tokens = model_of(config), torch.tensor(np.stack([TOKENS, TOKENS[::-1]]))
    with torch.no_grad():
        whole, end = model(tokens)
        for cut in (*range(CHUNK + 2), tokens.shape[-1]):  # every place in a chunk, and both ends
            first, middle = model(tokens[:, :cut])
            second, last = model(tokens[:, cut:], middle)
            torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=1e-10)
            close(last, end)


@few_at_once
def test_prefill_and_steps_are_one_pass(config: HopeConfig) -> None:
    model, tokens = model_of(config), torch.tensor(np.stack([TOKENS, TOKENS[::-1]]))
    with torch.no_grad():
        whole, end = model(tokens)
    logits, state = model.prefill(tokens[:, :3])
    assert not logits.requires_grad
    torch.testing.assert_close(logits, whole[:, 2], rtol=0, atol=1e-10)
    for t in range(3, tokens.shape[1]):
        logits, state = model.step(tokens[:, t], state)
        torch.testing.assert_close(logits, whole[:, t], rtol=0, atol=1e-10)
    close(state, end)
    one, _ = model.prefill(tokens[0])
    again, _ = model.step(tokens[0, 8], model.prefill(tokens[0, :8])[1])
    assert one.shape == (VOCABULARY,), "without a batch too"
    torch.testing.assert_close(again, one, rtol=0, atol=1e-10)


def test_what_overflows_is_nan_in_the_same_tokens() -> None:
    """What the sources print overflows from some seeds; no check of an inner function turns that into an error."""
    config = HopeConfig.printed(width=4, vocabulary=VOCABULARY, memory_chunk_size=1, projection_chunk_size=1)
    parameters = awake(config) | {"blocks.0.heads.0.alpha_bias": np.array(9.0)}
    tokens = np.random.default_rng(0).integers(VOCABULARY, size=60)
    want, _ = literal.hope(tokens, parameters, config)
    model = Hope.from_reference(parameters, config)
    logits, state = model(torch.tensor(tokens))
    finite = torch.isfinite(logits).all(-1).numpy()
    first = int(np.argmin(np.isfinite(want).all(axis=1)))
    assert 0 < first < 60
    np.testing.assert_array_equal(finite, np.arange(60) < first)
    calm = int(np.argmax(np.abs(want).max(axis=1) > 1e3)) or first
    calm = (
        min(calm, first) - 5
    )  # chaos grows the rounding: the last tokens before the overflow share no digits
    np.testing.assert_allclose(logits[:calm].detach().numpy(), want[:calm], rtol=0, atol=1e-6)
    again, _ = model(torch.tensor([0]), state)
    assert not torch.isfinite(again).any(), "and a state that overflowed is taken back as it is"


# --- gradients --------------------------------------------------------------------------------------------------------


def projected(logits: Any) -> Any:
    """A random projection of the logits, of either floor."""
    weights = np.random.default_rng(9).normal(size=tuple(logits.shape))
    return (logits * (torch.tensor(weights) if isinstance(logits, torch.Tensor) else weights)).sum()


GRADIENTS = ("two heads", "no projection", "width 1, linear", "independent, dgd", "nested, dgd", "attention, two heads")  # fmt: skip
# "nested, dgd" has two heads and the rule, "attention, two heads" has the variant; the query's memory has a gradient of
# its own in test_self_modifying_titans_gradients.
MEASURED = some_slow(
    {n: EACH[n] for n in GRADIENTS}, {"width 1, linear", "nested, dgd", "attention, two heads"}
)


@pytest.mark.parametrize("config", MEASURED)
def test_gradients_equal_central_differences_of_the_numpy_model(config: HopeConfig) -> None:
    """In one random direction for each of the reference's arrays: so for every head by itself."""
    config = config.replace(blocks=1)
    parameters, model = awake(config), model_of(config)
    tokens = TOKENS[: CHUNK + 1]
    projected(model(torch.tensor(tokens))[0]).backward()
    gradients = Hope.from_reference(parameters, config)
    with torch.no_grad():
        for mine, theirs in zip(gradients.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs.grad)
    by_name, rng, h = gradients.to_reference(), np.random.default_rng(4), 1e-5
    for name, array in parameters.items():
        direction = rng.normal(size=array.shape)
        direction /= np.sqrt(np.sum(direction**2))

        def along(distance: float, name: str = name, way: Any = direction) -> float:
            moved = parameters | {name: parameters[name] + distance * way}
            return float(projected(literal.hope(tokens, moved, config)[0]))

        slope = (along(h) - along(-h)) / (2 * h)
        got = float(np.sum(by_name[name] * direction))
        assert abs(got - slope) <= 1e-7 * max(1.0, abs(slope)), (name, got, slope)


@pytest.mark.parametrize("config", some_slow(EACH, WITH_GRADIENT))
def test_every_parameter_has_a_gradient(config: HopeConfig) -> None:
    model = model_of(config)
    projected(model(torch.tensor(TOKENS))[0]).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        axes = tuple(range(1, parameter.ndim)) if ".mixer." in name else ()
        assert (parameter.grad.abs().sum(axes) > 1e-9).all(), name  # of every head, channel or row


@pytest.mark.parametrize("config", some_slow(EACH, {"two heads", "attention, task"}))
def test_computing_again_changes_neither_numbers_nor_gradients(config: HopeConfig) -> None:
    found = []
    for recompute in (False, True):
        model = model_of(config.replace(blocks=1))
        logits, state = model(torch.tensor(TOKENS), recompute=recompute)
        projected(logits).backward()
        found.append((logits, state, [parameter.grad for parameter in model.parameters()]))
    (one, state, gradients), (two, again, other) = found
    torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    close(state, again, 1e-12)
    for mine, theirs in zip(gradients, other, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)


def test_only_then_is_anything_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from hope_ref.parallel import self_modifying_titans as memories

    original, calls = memories.checkpoint, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args[0])
        return original(*args, **kwargs)

    monkeypatch.setattr(memories, "checkpoint", counted)
    model = model_of(EACH["two heads"])
    model(torch.tensor(TOKENS))
    assert not calls
    model(torch.tensor(TOKENS), recompute=True)
    assert calls


@few_at_once
def test_the_gradient_flows_through_a_split(config: HopeConfig) -> None:
    """One pass or two: the same gradient; a detached state cuts it."""
    found = []
    for cut in (0, 5, -5):
        model, tokens = model_of(config.replace(blocks=1)), torch.tensor(TOKENS)
        first, state = model(tokens[: abs(cut)])
        state = states.mapped(torch.Tensor.detach, state) if cut < 0 else state
        second, _ = model(tokens[abs(cut) :], state)
        projected(torch.cat([first, second])).backward()
        found.append([parameter.grad for parameter in model.parameters()])
    for whole, split in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(split, whole, rtol=1e-9, atol=1e-9)
    assert any((whole - cut).abs().max() > 1e-3 for whole, cut in zip(found[0], found[2], strict=True))


@few_at_once
def test_a_gradient_reaches_the_incoming_state(config: HopeConfig) -> None:
    model = model_of(config.replace(blocks=1))
    _, before = model(torch.tensor(TOKENS[:5]))
    given = states.mapped(lambda tensor: tensor.detach().clone().requires_grad_(), before)
    logits, after = model(torch.tensor(TOKENS[5:]), given)
    later = [leaf.sum() for leaf in states.flattened(after).values() if isinstance(leaf, torch.Tensor)]
    (projected(logits) + torch.stack(later).sum()).backward()
    for name, leaf in states.flattened(given).items():
        if isinstance(leaf, torch.Tensor) and leaf.numel() and "gram" not in name:
            assert leaf.grad is not None, name
