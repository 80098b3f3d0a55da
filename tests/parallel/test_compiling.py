"""``backend="compiled"``: the same numbers, states and gradients as the plain chunks, or a reason why not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from selection import some_slow
from torch import Tensor

from hope_ref.config import HopeConfig
from hope_ref.parallel import chunks, compiling
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.self_modifying_titans import within

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "two chunk sizes": {"memory_chunk_size": 8, "projection_chunk_size": 4},
    "linear with momentum": {"architecture": "linear", "inner_momentum": 0.5},
    "printed": HopeConfig.printed().to_dict() | {"erase": "full"},
    "gated delta rule": {"mixer": "gated_delta_rule"},
    "linear attention": {"mixer": "linear_attention"},
}
SIZES: dict[str, Any] = {"width": 8, "heads": 2, "blocks": 1, "vocabulary": 11, "levels_chunk_sizes": (8,)}
CHUNKS: dict[str, Any] = {"memory_chunk_size": 4, "projection_chunk_size": 4}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Graphs are traced and differentiated, but run operation by operation: no machine code. Collects what is compiled."""
    functions: list[Any] = []

    @cache
    def traced(function: Callable[..., Any]) -> Any:
        functions.append(function)
        return torch.compile(function, dynamic=False, backend="aot_eager")

    monkeypatch.setattr(compiling, "_compiled", traced)
    torch._dynamo.reset()
    yield functions
    torch._dynamo.reset()


def model(options: dict[str, Any]) -> Hope:
    torch.manual_seed(0)
    hope = Hope(HopeConfig(**(CHUNKS | options | SIZES))).double()
    for parameter in hope.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return hope


def results(hope: Hope, tokens: Tensor, backend: str, cut: int) -> list[Tensor]:
    """Logits and gradients of the whole; then, without gradients, logits and final state of what the cut makes of it."""
    logits, _ = hope(tokens, backend=backend)
    gradients = torch.autograd.grad(logits.square().sum(), list(hope.parameters()), allow_unused=True)
    with torch.no_grad():
        first, state = hope(tokens[:, :cut], backend=backend)
        second, state = hope(tokens[:, cut:], state, backend=backend)
    return [logits, *(g for g in gradients if g is not None), first, second, *leaves(state)]


def leaves(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, (tuple, list)) else ()
    return list(itertools.chain.from_iterable(leaves(part) for part in parts))


def compare(hope: Hope, length: int, cut: int) -> None:
    tokens = torch.randint(11, (2, length))
    plain, compiled = (results(hope, tokens, backend, cut) for backend in ("torch", "compiled"))
    assert len(plain) == len(compiled) > 10
    for one, other in zip(plain, compiled, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("options", some_slow(OPTIONS, ("linear attention",)))
def test_a_traced_chunk_says_what_the_plain_one_says(options: dict[str, Any], graphs: list[Any]) -> None:
    hope = model(options)
    compare(hope, 13, 6)
    own = within if hope.config.mixer == "self_modifying_titans" else chunks.one_chunk
    assert graphs == [own]


@pytest.mark.slow
def test_one_graph_serves_all_chunks(graphs: list[Any]) -> None:
    """Sixteen chunks of one size, with their gradient: one graph."""
    hope = model({})
    torch._dynamo.utils.counters.clear()
    logits, _ = hope(torch.randint(11, (2, 64)), backend="compiled")
    logits.sum().backward()
    traced = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert traced == 1


@pytest.mark.slow
def test_recomputing_between_chunks_changes_nothing(graphs: list[Any]) -> None:
    hope, tokens = model({}), torch.randint(11, (2, 13))
    gradients = []
    for recompute in (False, True):
        logits, _ = hope(tokens, backend="compiled", recompute=recompute)
        gradients.append(torch.autograd.grad(logits.square().sum(), hope.blocks[0].mixer.w1_k))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_machine_code_is_as_near_to_float64_as_the_plain_chunk() -> None:
    """In float32: each gradient's error, of the plain and of the compiled form, against the plain one in float64."""
    if reason := compiling.missing("cpu"):
        pytest.skip(reason)
    torch._dynamo.reset()
    tokens, found = torch.randint(11, (2, 8)), {}
    for name, dtype, backend in (
        ("exact", torch.float64, "torch"),
        ("plain", torch.float32, "torch"),
        ("compiled", torch.float32, "compiled"),
    ):
        hope = model({}).to(dtype)
        logits, _ = hope(tokens, backend=backend)
        gradients = torch.autograd.grad(logits.square().sum(), list(hope.parameters()), allow_unused=True)
        found[name] = [one.double() for one in (logits, *gradients) if one is not None]
    scale = [float(one.norm()) for one in found["exact"]]
    errors = {
        name: [float((a - b).norm()) for a, b in zip(found[name], found["exact"], strict=True)]
        for name in ("plain", "compiled")
    }
    for plain, compiled, size in zip(errors["plain"], errors["compiled"], scale, strict=True):
        assert compiled <= 3 * plain + 1e-6 * size


@pytest.mark.parametrize("mixer", ["softmax_attention", "titans"])
def test_what_has_no_such_chunk_says_so(mixer: str) -> None:
    hope = Hope(HopeConfig(mixer=mixer, **SIZES))
    with pytest.raises(
        ValueError, match=r"backend must be 'torch' or 'auto' for \w+, which has no chunk to compile"
    ):
        hope(torch.zeros(1, 3, dtype=torch.long), backend="compiled")


def test_without_a_compiler_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        RuntimeError, match=r"got 'compiled': torch\.compile needs a C\+\+ compiler .* no-such-compiler"
    ):
        model({})(torch.zeros(1, 3, dtype=torch.long), backend="compiled")
    assert compiling.missing("cuda") == ""
