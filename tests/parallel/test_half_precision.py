"""Half in, float32 inside, half out: models, mixers, functions and states in bfloat16 and float16."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from selection import some_slow
from torch import Tensor
from torch.nn import functional

from hope_ref.config import HopeConfig
from hope_ref.parallel import chunks, continuum_memory, layers, memory_network, states, titans
from hope_ref.parallel.delta_rule import delta_rule, gated_delta_rule
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.parallel.linear_attention import linear_attention
from hope_ref.parallel.self_modifying_titans import self_modifying_titans
from hope_ref.reference import parameters as reference_parameters

HALVES = [torch.bfloat16, torch.float16]
CONFIG = HopeConfig(
    width=16, heads=2, vocabulary=11, memory_chunk_size=4, projection_chunk_size=4, levels_chunk_sizes=(4, 8)
)
TOKENS = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 3, 1], [5, 3, 0, 2, 9, 9, 1, 4, 10, 7, 6, 2, 8]])

SIGNALS: dict[str, dict[str, Any]] = {"default": {}, "associative": {"signal": "associative", "rule": "dgd"}}
KINDS = {
    f"{mixer}-{dtype}-{signal}": (mixer, dtype, options)
    for mixer in MIXERS
    for dtype in HALVES
    for signal, options in SIGNALS.items()
}
CROSSWISE = {key for key in KINDS if key.endswith(("torch.bfloat16-default", "torch.float16-associative"))}


def rounded(model: Hope, dtype: torch.dtype) -> Hope:
    """The model in float32, at the parameters that half precision has."""
    wide = Hope(model.config)
    wide.load_state_dict({name: p.to(dtype).float() for name, p in model.state_dict().items()})
    return wide


def error(got: Tensor, want: Tensor) -> float:
    got, want = got.detach().double(), want.detach().double()
    return float((got - want).norm() / want.norm())


@pytest.mark.parametrize(("mixer", "dtype", "options"), some_slow(KINDS, CROSSWISE))
def test_a_model_in_half_precision_is_the_model(
    mixer: str, dtype: torch.dtype, options: dict[str, Any]
) -> None:
    model = Hope(CONFIG.replace(mixer=mixer, **options)).to(dtype)
    logits, state = model(TOKENS)
    want, _ = rounded(model, dtype)(TOKENS)
    bound = 40 * torch.finfo(dtype).eps
    assert logits.dtype == dtype
    assert error(logits, want) < bound
    first, middle = model(TOKENS[:, :5])
    second, end = model(TOKENS[:, 5:], middle)
    assert error(torch.cat([first, second], 1), want) < bound
    for name, leaf in states.flattened(state).items():
        if isinstance(leaf, Tensor):
            other = states.flattened(end)[name]
            assert leaf.dtype == other.dtype
            memory = ".memory." in name or ".continuum." in name or name.endswith(".memory")
            assert leaf.dtype == (torch.float32 if memory else dtype), name
    functional.cross_entropy(logits.flatten(0, 1).float(), TOKENS.flatten()).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == dtype
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    ("mixer", "dtype"),
    some_slow(
        {f"{mixer}-{dtype}": (mixer, dtype) for mixer in MIXERS for dtype in HALVES},
        {"self_modifying_titans-torch.float16", *(f"{mixer}-torch.bfloat16" for mixer in MIXERS)},
    ),
)
def test_step_generate_and_adapt_in_half_precision(mixer: str, dtype: torch.dtype) -> None:
    model = Hope(CONFIG.replace(mixer=mixer)).to(dtype)
    wide = rounded(model, dtype)
    with torch.no_grad():
        state = model.initial_state((2,))
        for token in TOKENS.T:
            last, state = model.step(token, state)
        bound = 40 * torch.finfo(dtype).eps
        assert error(last, wide(TOKENS)[0][:, -1]) < bound
        learnt, after = model.adapt(TOKENS)
        want, _ = wide.adapt(TOKENS)
        assert learnt.dtype == dtype
        assert error(learnt, want) < bound
        first, middle = model.adapt(TOKENS[:, :6])
        second, _ = model.adapt(TOKENS[:, 6:], middle)
        assert error(torch.cat([first, second], 1), want) < bound
        assert after.now.blocks[0].continuum.levels[0].w1.dtype == torch.float32
        made, _ = model.generate(TOKENS, 3, temperature=0)
    assert made.shape == (2, 3)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


Q, K, V = drawn(2, 9, 4), functional.normalize(drawn(2, 10, 4)[:, 1:], dim=-1), drawn(2, 11, 3)[:, 2:]
ETA, ALPHA = torch.sigmoid(drawn(2, 9)), torch.sigmoid(drawn(2, 9) + 2)
SMT = {
    name: torch.from_numpy(a) for name, a in reference_parameters.random_parameters(CONFIG, 4, 5, 0).items()
}
LEVELS = continuum_memory.random_levels(4, 2, 0, torch.float32)
FUNCTIONS: dict[str, Any] = {
    "linear attention": lambda to: linear_attention(to(Q), to(K), to(V), to(ALPHA), chunk_size=4),
    "delta rule": lambda to: delta_rule(to(Q), to(K), to(V), to(ETA), chunk_size=4),
    "gated delta rule": lambda to: gated_delta_rule(to(Q), to(K), to(V), to(ETA), to(ALPHA), chunk_size=4),
    "titans, matrix": lambda to: titans.titans(
        to(Q), to(K), to(V), to(ETA) / 4, to(ALPHA), to(ALPHA) / 2, titans.start(to(0 * drawn(2, 3, 4))), 4
    ),
    "titans, perceptron": lambda to: titans.titans(
        to(Q), to(K), to(Q), to(ETA) / 4, to(ALPHA), to(ALPHA) / 2, titans.start(to(drawn(2, 4, 5)), to(drawn(2, 5, 4))), 4
    ),
    "recurrence": lambda to: chunks.recurrence(
        to(Q), to(K), to(V), to(ETA), to(ALPHA), to(drawn(2, 3, 4)), 4, "before_decay"
    ),
    "self-modifying titans": lambda to: self_modifying_titans(
        to(Q), to(Q), to(Q), {n: to(p) for n, p in SMT.items()}, CONFIG
    ),
    "continuum memory": lambda to: continuum_memory.continuum_memory(
        to(Q), [continuum_memory.Level(*(to(p) for p in one[:4])) for one in LEVELS], levels_chunk_sizes=(2, 4),
        signal="associative", rule="dgd",
    ),
    "rms norm": lambda to: (layers.rms_norm(300 * to(Q), to(torch.ones(4))), None),  # 300² is no float16
    "chunk step": lambda to: (continuum_memory.chunk_step(to(Q), to(Q), to(torch.eye(4)), 0.1, "dgd"), None),
}  # fmt: skip


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_takes_half_precision(name: str, dtype: torch.dtype) -> None:
    got, state = FUNCTIONS[name](lambda tensor: tensor.to(dtype))
    want, _ = FUNCTIONS[name](lambda tensor: tensor.to(dtype).float())
    assert got.dtype == dtype
    assert error(got, want) < 8 * torch.finfo(dtype).eps
    for leaf in states.flattened(state).values() if state is not None else ():
        assert not isinstance(leaf, Tensor) or torch.isfinite(leaf).all()


def test_a_norm_of_large_half_numbers_does_not_overflow() -> None:
    z = torch.full((1, 4), 6e4, dtype=torch.float16)
    assert torch.isfinite(memory_network.unit(z.float())).all()
    assert torch.equal(
        layers.rms_norm(z, torch.ones(4, dtype=torch.float16)), torch.ones(1, 4, dtype=torch.float16)
    )


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_level_computes_in_float32(dtype: torch.dtype) -> None:
    """Whoever calls it, and with whatever: half in, half out, and nothing in half in between."""
    generator = torch.Generator().manual_seed(0)
    sizes = (9, 16), (16, 24), (24, 16), (16,)
    z, w1, w2, gain = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
    seen = continuum_memory.level_pass(z, w1, w2, gain)
    assert {leaf.dtype for leaf in seen} == {torch.float32}
    assert continuum_memory.level_function(z, w1, w2, gain).dtype == dtype
