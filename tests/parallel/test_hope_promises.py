"""What the whole model promises beyond its numbers: causal, no look at values, precision, where it starts, clear refusals."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hope_models import ATTENTION, FEW, HOPE, SMALL, VOCABULARY, model_of, tensors
from hope_models import TOKENS as NUMBERS
from selection import some_slow
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hope_ref.common import nested
from hope_ref.config import HopeConfig
from hope_ref.parallel import kernels, layers, states
from hope_ref.parallel.hope import MIXERS, Hope, HopeState
from hope_ref.reference import hope as literal

EACH, TOKENS = FEW, torch.tensor(NUMBERS)
OWN = EACH.keys() - {"no convolution"}  # "bare" has none either
most = pytest.mark.parametrize("config", some_slow(EACH, OWN))
few = pytest.mark.parametrize("config", some_slow(EACH, {"linear, dgd", "task", "attention"}))


# --- causality --------------------------------------------------------------------------------------------------------


@most
@torch.no_grad()
def test_the_past_does_not_see_the_future(config: HopeConfig) -> None:
    """And every later token remembers, without a convolution too: through the memories."""
    tokens = TOKENS.repeat(len(TOKENS) + 1, 1)  # row t has another token t, the last one none
    tokens[:-1] = (tokens[:-1] + torch.eye(len(TOKENS), dtype=torch.int64)) % VOCABULARY
    logits, _ = model_of(config)(tokens)
    for t, moved in enumerate((logits[:-1] - logits[-1]).abs().amax(-1)):
        assert (moved[:t] < 1e-13).all()
        assert (moved[t:] > 1e-9).all()


@torch.no_grad()
def test_sequences_of_a_batch_do_not_see_each_other() -> None:
    model, tokens = model_of(EACH["two heads"]), TOKENS.repeat(2, 1)
    before, _ = model(tokens)
    tokens[0] = 1 - (tokens[0] > 0).long()
    after, _ = model(tokens)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-13)
    assert (after[0] - before[0]).abs().max() > 1e-3


# --- no look at values ------------------------------------------------------------------------------------------------


class NoLook(TorchDispatchMode):
    """Refuses every operation that hands a value from the device to Python."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(function), "a value was looked at"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["linear, dgd", "attention"])
@pytest.mark.parametrize("length", [0, 5])
def test_forward_and_backward_know_only_shapes(name: str, length: int) -> None:
    """On a device whose values cannot be looked at, not even the tokens."""
    model = Hope(EACH[name].replace(blocks=1)).to("meta")
    tokens = torch.empty(2, length, dtype=torch.int64, device="meta")
    logits, state = model(tokens)
    assert logits.shape == (2, length, VOCABULARY)
    assert logits.device.type == "meta"
    assert {leaf.device.type for leaf in tensors(state).values()} == {"meta"}
    more, _ = model(tokens, state, recompute=bool(length))
    if length:
        more.sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


LOOKS = {f"{kind}-{mixer}": (mixer, kind) for kind in ("fake", "no look") for mixer in MIXERS}


# A tensor without values ("fake") tells no more than the meta device above: once is enough.
@pytest.mark.parametrize(
    ("mixer", "kind"),
    some_slow(LOOKS, {"fake-linear_attention", *(n for n in LOOKS if n.startswith("no look"))}),
)
def test_nothing_is_looked_at_behind_the_tokens(
    mixer: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hope, "check_tokens", lambda self, tokens, name="tokens": tokens)
    model = Hope(EACH["two heads"].replace(blocks=1, mixer=mixer))
    mode: Any = NoLook() if kind == "no look" else FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        logits, state = model(TOKENS[:5])
        model(TOKENS[5:], state)
    assert logits.shape == (5, VOCABULARY)


# --- precision --------------------------------------------------------------------------------------------------------


@few
@torch.no_grad()
def test_float32_stays_near_the_reference(config: HopeConfig) -> None:
    """As near as float32 allows, over 30 tokens and two blocks: at most 20 times what rounding the parameters alone changes."""
    tokens = np.random.default_rng(3).integers(VOCABULARY, size=30)
    parameters = literal.init(config)
    want, _ = literal.hope(tokens, parameters, config)
    model = Hope.from_reference(parameters, config, dtype=torch.float32)
    logits, state = model(torch.tensor(tokens))
    assert logits.dtype == torch.float32
    assert {leaf.dtype for leaf in tensors(state).values()} == {torch.float32}
    rounded = {name: array.astype(np.float32).astype(float) for name, array in parameters.items()}
    moved, _ = literal.hope(tokens, rounded, config)
    assert np.abs(logits.numpy() - want).max() < 20 * np.abs(moved - want).max() < 2e-3


@few
def test_under_autocast_the_state_stays_in_float32(config: HopeConfig) -> None:
    model = Hope(config.replace(width=32, hidden=16))
    plain, _ = model(TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        first, state = model(TOKENS[:5])
        second, state = model(TOKENS[5:], state)
    logits = torch.cat([first, second]).float()
    assert {leaf.dtype for leaf in tensors(state).values()} == {torch.float32}
    assert torch.isfinite(logits).all()
    assert (logits - plain).abs().max() < 0.1 * plain.abs().max()
    logits.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model(TOKENS, state)[0].dtype == torch.float32, "and goes on without autocast"


@torch.no_grad()
def test_rotary_tells_late_tokens_apart_in_half_precision() -> None:
    """bfloat16 has eight bits: the position itself must not be rounded to 256."""
    z = torch.ones(2, 4, dtype=torch.bfloat16)
    late = layers.rotary(z, 256)
    exact = layers.rotary(z.double(), 256)
    assert late.dtype == torch.bfloat16
    assert (late.double() - exact).abs().max() < 0.02


@few
def test_twice_the_same(config: HopeConfig) -> None:
    model = model_of(config)
    one, state = model(TOKENS)
    two, again = model(TOKENS)
    assert torch.equal(one, two)
    assert all(torch.equal(leaf, tensors(again)[name]) for name, leaf in tensors(state).items())


@few
def test_neither_tokens_nor_state_nor_parameters_are_changed(config: HopeConfig) -> None:
    model, tokens = model_of(config), TOKENS.clone()
    _, state = model(tokens)
    given = {**tensors(state), **dict(model.named_parameters()), "tokens": tokens}
    copies = {name: tensor.clone() for name, tensor in given.items()}
    model(tokens, state)
    with torch.no_grad():
        model(tokens, state)
    for name, copy in copies.items():
        assert torch.equal(given[name], copy), name


# --- generation -------------------------------------------------------------------------------------------------------


@few
def test_greedy_generation_equals_full_forwards(config: HopeConfig) -> None:
    model, tokens = model_of(config), TOKENS[:5].repeat(2, 1)
    tokens[1, 2] = 3
    made, state = model.generate(tokens, 5, temperature=0)
    with torch.no_grad():
        logits, _ = model(torch.cat([tokens, made[:, :-1]], 1))  # causal: the forward of every beginning
    assert torch.equal(made, logits[:, 4:].argmax(-1))
    assert state.position == 9, "the last one has not been read"
    first, middle = model.generate(tokens, 3, temperature=0)
    rest, end = model.generate(first[:, -1:], 2, middle, temperature=0)
    assert torch.equal(torch.cat([first, rest], 1), made)
    assert end.position == 9
    assert model.generate(tokens[0], 5, temperature=0)[0].tolist() == made[0].tolist()


def test_generation_is_seeded_and_follows_the_shares() -> None:
    model, prompt = model_of(HopeConfig(**SMALL, blocks=1)), TOKENS[:5]

    def made(seed: int, temperature: float, count: int = 1, rows: int = 100) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        given = prompt.repeat(rows, 1)
        return model.generate(given, count, temperature=temperature, generator=generator)[0]

    assert torch.equal(made(1, 1.0, 2), made(1, 1.0, 2))
    assert not torch.equal(made(1, 1.0), made(2, 1.0))
    logits, _ = model.prefill(prompt)
    for temperature in (0.5, 1.0, 3.0):
        share = torch.bincount(made(0, temperature, rows=2000)[:, 0], minlength=VOCABULARY) / 2000
        want = (logits / temperature).softmax(-1).float()
        assert (share - want).abs().max() < 0.04
    for flushed in (False, True):  # a training, say, has denormals count as 0
        torch.set_flush_denormal(flushed)
        try:
            coldest = made(0, 1e-42)
        finally:
            torch.set_flush_denormal(False)
        assert torch.equal(coldest, logits.argmax().expand(100, 1)), "no 0/0 near zero"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be an integer >= 1, got 0"),
        ({"max_new_tokens": 1.5}, "max_new_tokens must be an integer >= 1, got 1.5"),
        ({"temperature": -1.0}, "temperature must be >= 0, got min -1"),
        ({"temperature": math.nan}, "temperature must be finite"),
        ({"tokens": TOKENS[:0]}, "tokens must have at least one token, got none"),
        ({"tokens": [1]}, "tokens must be a tensor of integers, got list"),
    ],
)
def test_bad_generation_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_of(HopeConfig(**SMALL)).generate(**({"tokens": TOKENS, "max_new_tokens": 2} | changes))


# --- refusals ---------------------------------------------------------------------------------------------------------


@cache
def after_all_tokens(mixer: str) -> tuple[Hope, HopeState]:
    """A model and its state after TOKENS, which no bad call may change."""
    model = Hope(HopeConfig(**SMALL, mixer=mixer)).double()
    return model, model(TOKENS)[1]


def bad_calls() -> list[tuple[str, str, dict[str, Any], str]]:
    config = HopeConfig(**SMALL)
    _, state = after_all_tokens(HOPE)
    _, of_attention = after_all_tokens(ATTENTION)
    first = state.blocks[0]

    def mixed(**changes: Any) -> dict[str, Any]:
        changed = first._replace(mixer=first.mixer._replace(**changes))
        return {"state": state._replace(blocks=(changed, state.blocks[1]))}

    def levels(found: Any) -> dict[str, Any]:
        changed = first._replace(continuum=first.continuum._replace(levels=found))
        return {"state": state._replace(blocks=(changed, state.blocks[1]))}

    thin = first.continuum.levels[0]._replace(w1=torch.ones(4, 4).double())
    short = model_of(config.replace(levels_chunk_sizes=(2,)))
    return [
        ("list", HOPE, {"tokens": [1]}, "tokens must be a tensor of integers, got list"),
        ("float", HOPE, {"tokens": TOKENS.double()}, "tokens must be a tensor of integers, got torch.float64"),
        ("bool", HOPE, {"tokens": TOKENS > 0}, "tokens must be a tensor of integers, got torch.bool"),
        ("no axis", HOPE, {"tokens": TOKENS[0]}, r"tokens must have shape \(..., T\), got \(\)"),
        ("too large", HOPE, {"tokens": TOKENS + 1}, r"tokens must be in \[0, 5\), got 1 to 5"),
        ("negative", HOPE, {"tokens": TOKENS - 1}, r"tokens must be in \[0, 5\), got -1 to 3"),
        ("state", HOPE, {"state": 3}, "state must be a HopeState of 2 blocks or None, got int"),
        ("one block", HOPE, {"state": state._replace(blocks=state.blocks[:1])}, "state must be a HopeState of 2 blocks or None, got 1 blocks"),
        ("position", HOPE, {"state": state._replace(position=-1)}, "state.position must be an integer >= 0, got -1"),
        ("position type", HOPE, {"state": state._replace(position=1.0)}, "state.position must be an integer >= 0, got 1.0"),
        ("batch", HOPE, {"tokens": TOKENS.repeat(3, 1)}, r"state.blocks\[0\].mixer.key_inputs must have shape \(3, 3, 4\), got \(3, 4\)"),
        ("other mixer", HOPE, {"state": of_attention}, "state.config must be that of the model, got mixer='softmax_attention' for 'self_modifying_titans'"),
        ("other mixer", ATTENTION, {"state": state}, "state.config must be that of the model, got mixer='self_modifying_titans' for 'softmax_attention'"),
        ("mixer", HOPE, {"state": of_attention._replace(config=config)}, r"state.blocks\[0\].mixer must be a MixerState, got AttentionState"),
        ("no config", HOPE, {"state": state._replace(config=None)}, "state.config must be a HopeConfig, got NoneType"),
        ("block", HOPE, {"state": state._replace(blocks=(1, 2))}, r"state.blocks\[0\] must be a BlockState, got int"),
        ("inputs", HOPE, mixed(query_inputs=3.0), r"state.blocks\[0\].mixer.query_inputs must be a torch.Tensor, got float"),
        ("no inputs", HOPE, mixed(query_inputs=None), r"state.blocks\[0\].mixer.query_inputs must be a torch.Tensor, got NoneType"),
        ("inputs shape", HOPE, mixed(value_inputs=torch.ones(2, 4).double()), r"state.blocks\[0\].mixer.value_inputs must have shape \(3, 4\), got \(2, 4\)"),
        ("inputs dtype", HOPE, mixed(key_inputs=torch.ones(3, 4)), r"state.blocks\[0\].mixer.key_inputs must be torch.float64, got torch.float32"),
        ("inputs device", HOPE, mixed(key_inputs=torch.ones(3, 4, device="meta").double()), r"state.blocks\[0\].mixer.key_inputs must be on cpu, got meta"),
        ("memory", HOPE, mixed(memory={}), r"state.blocks\[0\].mixer.memory must be a State, got dict"),
        ("memory position", HOPE, mixed(memory=first.mixer.memory._replace(position=3)), r"state.blocks\[0\].mixer.memory.position must be 9, as state.position says, got 3"),
        ("keys", ATTENTION, {"state": of_attention._replace(position=4)}, r"state.blocks\[0\].mixer.keys must have shape \(1, 4, 4\), got \(1, 9, 4\)"),
        ("levels", HOPE, {"state": short(TOKENS)[1]}, r"state.config must be that of the model, got levels_chunk_sizes=\(2,\) for \(2, 4\)"),
        ("level count", HOPE, levels(first.continuum.levels[:1]), r"state.blocks\[0\].continuum.levels must have 2 entries, got 1"),
        ("level", HOPE, levels((thin, thin)), r"state.blocks\[0\].continuum.levels\[0\].w1 must have shape \(4, 16\), got \(4, 4\)"),
        ("level position", HOPE, {"state": state._replace(blocks=(first._replace(continuum=first.continuum._replace(position=8)), state.blocks[1]))}, r"state.blocks\[0\].continuum.position must be 9, as state.position says, got 8"),
        ("all of float32", HOPE, {"state": states.mapped(torch.Tensor.float, state)}, r"state.blocks\[0\].mixer.key_inputs must be torch.float64, got torch.float32"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mixer", "changes", "message"), [pytest.param(*call, id=name) for name, *call in bad_calls()]
)
def test_bad_input_is_named(mixer: str, changes: dict[str, Any], message: str) -> None:
    model, state = after_all_tokens(mixer)
    given = {"tokens": TOKENS, "state": state} | changes
    with pytest.raises(ValueError, match=message):
        model(**given)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": 0}, "vocabulary must be an integer >= 1, got 0"),
        ({"blocks": 1.5}, "blocks must be an integer >= 1, got 1.5"),
        ({"mixer": "mamba"}, "mixer must be one of 'self_modifying_titans', .*, got 'mamba'"),
        ({"mixer": ATTENTION, "width": 3}, "width of a head must be even.*got 3"),
        ({"mixer": "gated_delta_rule", "beta_max": 0}, r"beta_max must be > 0, got 0"),
        ({"mixer": "gated_delta_rule", "beta_max": 2.5}, r"beta_max must be in \(0, 2\], got 2.5"),
        ({"step": "explicit", "eta_max": 0.5}, "eta_init must be < eta_max for step='explicit', got 0.7 and 0.5"),
        ({"seed": "a"}, "seed must be an integer >= 0 or None, got 'a'"),
    ],
)  # fmt: skip
def test_bad_sizes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hope(HopeConfig(**(SMALL | changes)))


def test_a_model_is_made_of_a_configuration() -> None:
    with pytest.raises(ValueError, match="config must be a HopeConfig, got dict"):
        Hope({"width": 4})  # type: ignore[arg-type]


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_only_a_parameter_that_has_not_moved_may_be_left_out(mixer: str) -> None:
    """None is what `detach` leaves of it; anywhere else it would be read as if nothing had been seen."""
    model, state = after_all_tokens(mixer)
    left_out = []
    for name in tensors(state):
        if name.startswith("blocks.1."):  # as the first
            continue
        without = nested.rebuilt(state, lambda own, leaf, name=name: None if own == name else leaf)
        if states.unmoved(state, name):
            left_out.append(name)
            assert torch.equal(model(TOKENS, without)[0], model(TOKENS, state)[0]), name
            continue
        with pytest.raises(ValueError, match=r"^state\.blocks.* must be a torch\.Tensor, got NoneType"):
            model(TOKENS, without)
    assert left_out == [f"blocks.0.continuum.levels.{i}.start{n}" for i in (0, 1) for n in (1, 2)]


# --- backends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixer", MIXERS)
@torch.no_grad()
def test_the_backend_of_every_mixer(mixer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU "auto" takes PyTorch, a typo is named, and "triton" is never silently something else."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(kernels, "_said", {"torch"})
    model = Hope(HopeConfig(**(SMALL | {"inner_momentum": 0.0}), mixer=mixer))
    assert torch.equal(model(TOKENS, backend="auto")[0], model(TOKENS)[0])
    for tokens in (TOKENS, TOKENS[:0]):
        with pytest.raises(
            ValueError, match="backend must be one of 'torch', 'triton', 'compiled', 'auto', got 'tritn'"
        ):
            model(tokens, backend="tritn")
    own = type(model.blocks[0].mixer).__name__
    without = f"backend must be 'torch' or 'auto' for {own}, which has no kernels, got 'triton'"
    here = "backend must be 'torch' or 'auto' here, got 'triton'"
    error, message = (
        (ValueError, without) if mixer in ("softmax_attention", "titans") else (RuntimeError, here)
    )
    with pytest.raises(error, match=message):
        model(TOKENS, backend="triton")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@most
def test_on_cuda(config: HopeConfig) -> None:
    model = model_of(config)
    want, state = model(TOKENS)
    logits, device_state = model.cuda()(TOKENS.cuda())
    torch.testing.assert_close(logits.cpu(), want, rtol=0, atol=1e-10)
    for name, leaf in tensors(device_state).items():
        torch.testing.assert_close(leaf.cpu(), tensors(state)[name], rtol=0, atol=1e-10)
