"""`torch.compile`, `torch.export` and `torch.func` on whole models: one graph, the same numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from selection import some_slow
from torch import Tensor
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional

from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.delta_rule import delta_rule, gated_delta_rule
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.parallel.linear_attention import linear_attention

CONFIG = HopeConfig(
    width=4, vocabulary=7, blocks=1, memory_chunk_size=2, projection_chunk_size=2, levels_chunk_sizes=(2,)
)
TOKENS = torch.randint(7, (3, 3), generator=torch.Generator().manual_seed(0))  # chunks of 2 and 1


def model_of(mixer: str, **options: Any) -> Hope:
    """Where training starts, but that nothing is zero."""
    model = Hope(CONFIG.replace(mixer=mixer, **options)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64), alpha=0.05)
    return model


def loss_of(model: Hope, parameters: dict[str, Tensor], row: Tensor) -> Tensor:
    logits, _ = functional_call(model, parameters, (row[:-1],))
    return functional.cross_entropy(logits, row[1:])


@pytest.fixture
def counter() -> Iterator[Any]:
    """A backend that counts graphs and runs them as they are."""
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield torch._dynamo.testing.CompileCounter()
    torch._dynamo.reset()


# What takes longest to trace is left to the slow selection where another mixer has the same code.
COMPILED = some_slow({name: name for name in MIXERS}, {"self_modifying_titans"})
QUICKLY = some_slow({name: name for name in MIXERS}, {"linear_attention"})


@pytest.mark.parametrize("mixer", COMPILED)
def test_a_model_compiles_to_one_graph(mixer: str, counter: Any) -> None:
    model = model_of(mixer)
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    logits, state = compiled(TOKENS)
    want, want_state = model(TOKENS)
    assert counter.frame_count == 1
    torch.testing.assert_close(logits, want, rtol=0, atol=1e-12)
    for got, other in zip(*(states.flattened(one).values() for one in (state, want_state)), strict=True):
        assert isinstance(got, type(other))
        if isinstance(got, Tensor):
            torch.testing.assert_close(got, other, rtol=0, atol=1e-12)
    got = torch.autograd.grad(logits.sum(), list(model.parameters()), materialize_grads=True)
    literal = torch.autograd.grad(want.sum(), list(model.parameters()), materialize_grads=True)
    for one, other in zip(got, literal, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


@pytest.mark.slow  # the steps below have states too
@pytest.mark.parametrize("mixer", MIXERS)
def test_with_a_state_it_is_another_graph_and_one(mixer: str, counter: Any) -> None:
    model = model_of(mixer)
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    _, state = compiled(TOKENS)
    more, _ = compiled(TOKENS, state)
    assert counter.frame_count == 2
    torch.testing.assert_close(more, model(TOKENS, model(TOKENS)[1])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("mixer", QUICKLY)
@torch.no_grad()
def test_steps_do_not_compile_again_at_every_token(mixer: str, counter: Any) -> None:
    model = model_of(mixer, writing=("memory",))  # fewer operations to trace, at the same positions
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    state = want_state = model.initial_state((3,))
    for token in TOKENS.repeat(1, 2).T:
        logits, state = compiled(token[:, None], state)
        want, want_state = model(token[:, None], want_state)
        torch.testing.assert_close(logits, want, rtol=0, atol=1e-12)
    assert counter.frame_count <= 4, "at position 0, at another boundary, within a chunk: then nothing new"


@pytest.mark.parametrize("mixer", QUICKLY)
def test_export_takes_any_batch(mixer: str) -> None:
    model = model_of(mixer)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, (TOKENS,), dynamic_shapes={"tokens": {0: batch}})
    for rows in (2, 3):
        logits, state = program.module()(TOKENS[:rows])
        want, want_state = model(TOKENS[:rows])
        torch.testing.assert_close(logits, want, rtol=0, atol=1e-12)
        assert state.position == want_state.position == 3


@pytest.mark.parametrize("mixer", MIXERS)
def test_export_says_that_a_length_is_fixed(mixer: str) -> None:
    model, lengths = model_of(mixer), {"tokens": {1: torch.export.Dim("length", min=2, max=64)}}
    if mixer == "softmax_attention":  # which has no chunks
        program = torch.export.export(model, (TOKENS,), dynamic_shapes=lengths)
        logits, _ = program.module()(TOKENS[:, :2])
        torch.testing.assert_close(logits, model(TOKENS[:, :2])[0], rtol=0, atol=1e-12)
        return
    with pytest.raises(ValueError, match=r"tokens must have a fixed length under torch\.export"):
        torch.export.export(model, (TOKENS,), dynamic_shapes=lengths)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("mixer", MIXERS)
def test_gradients_of_each_sample_by_vmap(mixer: str) -> None:
    model = model_of(mixer)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return loss_of(model, parameters, row)

    of_each = vmap(grad(loss), in_dims=(None, 0))(parameters, TOKENS)
    for number, row in enumerate(TOKENS):
        want = torch.autograd.grad(loss(parameters, row), list(parameters.values()), materialize_grads=True)
        for name, one in zip(parameters, want, strict=True):
            torch.testing.assert_close(of_each[name][number], one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mixer", MIXERS)
def test_forward_mode_equals_the_gradient(mixer: str) -> None:
    model = model_of(mixer)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(2)
    direction = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in parameters.items()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return loss_of(model, parameters, TOKENS[0])

    slopes, h = grad(loss)(parameters), 1e-6
    _, forward = jvp(loss, (parameters,), (direction,))
    assert abs(float(forward - sum((slopes[n] * direction[n]).sum() for n in slopes))) < 1e-11
    _, curved = jvp(grad(loss), (parameters,), (direction,))
    ends = [grad(loss)({n: p + s * h * direction[n] for n, p in parameters.items()}) for s in (1, -1)]
    largest = max(float(one.abs().max()) for one in curved.values())
    for name, one in curved.items():
        assert (one - (ends[0][name] - ends[1][name]) / (2 * h)).abs().max() < 1e-7 * largest, name


def memory_inputs() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(4, 7, 3, generator=generator, dtype=torch.float64) for _ in range(3))
    return q, k / 2, v


@pytest.mark.parametrize(
    "function",
    [
        linear_attention,
        lambda q, k, v: delta_rule(q, k, v, 0.5),
        lambda q, k, v: gated_delta_rule(q, k, v, 0.5, 0.9),
    ],
    ids=["linear attention", "delta rule", "gated delta rule"],
)
def test_functions_work_under_vmap_and_still_check_outside(function: Any) -> None:
    inputs = memory_inputs()
    outputs, memory = vmap(function)(*inputs)
    want, want_memory = function(*inputs)
    torch.testing.assert_close(outputs, want, rtol=0, atol=1e-13)
    torch.testing.assert_close(memory, want_memory, rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="k must be finite"):
        function(inputs[0], inputs[1] * torch.nan, inputs[2])


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_an_ensemble_by_vmap_is_its_members() -> None:
    models = [model_of("self_modifying_titans", seed=seed) for seed in range(3)]
    stacked, _ = torch.func.stack_module_state(models)  # type: ignore[arg-type]

    def logits(parameters: dict[str, Tensor], tokens: Tensor) -> Tensor:
        return functional_call(models[0], parameters, (tokens,))[0]  # type: ignore[no-any-return]

    with torch.no_grad():
        got = vmap(logits, in_dims=(0, None))(stacked, TOKENS)
        for number, model in enumerate(models):
            torch.testing.assert_close(got[number], model(TOKENS)[0], rtol=0, atol=1e-12)
