"""Nothing on the way forward and back asks the device for a number, or sends it one that the host would wait for.

Tensors on "meta" have no numbers: to ask for one is an error, and whatever comes from the CPU is seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hope_ref.config import HopeConfig
from hope_ref.parallel import checks
from hope_ref.parallel.delta_gradient_descent import delta_gradient_descent_step
from hope_ref.parallel.delta_rule import delta_rule, gated_delta_rule
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.parallel.linear_attention import linear_attention


class Operations(TorchDispatchMode):
    """Notes every operation that sees or makes a tensor on another device than "meta"."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, function: Any, types: Any, given: Any = (), more: Any = None) -> Any:
        found = function(*given, **(more or {}))
        tensors = [x for x in tree_leaves((given, more, found)) if isinstance(x, Tensor)]
        if any(x.device.type != "meta" for x in tensors):
            self.seen.append(str(function))
        return found


class Calls(TorchFunctionMode):
    """Notes every call that sends numbers of Python to a device: no operation shows it."""

    def __init__(self, seen: list[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, function: Any, types: Any, given: Any = (), more: Any = None) -> Any:
        if function in (torch.as_tensor, torch.tensor) and not isinstance(given[0], Tensor):
            self.seen.append(function.__name__)
        return function(*given, **(more or {}))


@contextmanager
def watched() -> Iterator[list[str]]:
    """What comes from the host, or would have to go there."""
    seen: list[str] = []
    with Calls(seen), Operations(seen):
        yield seen


@pytest.mark.parametrize(
    "options",
    [{}, {"signal": "associative", "variant": "independent"}, {"signal": "associative", "rule": "dgd"}],
    ids=str,
)
@pytest.mark.parametrize("mixer", MIXERS)
def test_a_model_forward_and_back(mixer: str, options: dict[str, Any]) -> None:
    config = HopeConfig(width=8, blocks=2, vocabulary=11, levels_chunk_sizes=(4, 8), mixer=mixer, **options)  # type: ignore[arg-type]
    model = Hope(config).to("meta")
    with watched() as seen:
        logits, _ = model(torch.zeros(2, 9, dtype=torch.int64, device="meta"))
        logits.sum().backward()
    assert seen == []


def test_a_number_in_the_place_of_a_tensor() -> None:
    q, k, v = torch.empty(3, 2, 5, 4, device="meta").unbind()
    with watched() as seen:
        delta_rule(q, k, v, 0.5)
        gated_delta_rule(q, k, v, 0.5, 0.9)
        linear_attention(q, k, v, 0.9)
        delta_gradient_descent_step(
            torch.empty(3, 4, device="meta"), q[0, 0], torch.empty(3, device="meta"), 0.5
        )
    assert seen == []


def test_it_is_seen_where_it_happens() -> None:
    like = torch.empty(2, device="meta")
    with watched() as seen:
        torch.as_tensor(0.5, dtype=like.dtype, device=like.device)
    assert seen == ["as_tensor"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_number_is_the_same_either_way(dtype: torch.dtype) -> None:
    like = torch.zeros(3, dtype=dtype)
    for value in (0.1, 1, True):
        made = checks.as_tensor(value, like)
        assert made.dtype == dtype
        assert torch.equal(made, torch.as_tensor(value, dtype=dtype))
    assert checks.as_tensor(made, like) is made
    assert torch.equal(checks.as_tensor([0.1, 0.2], like), torch.tensor([0.1, 0.2], dtype=dtype))
