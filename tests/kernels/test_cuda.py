"""What only a GPU can say: the same cases there, equal bits, no waiting, and bfloat16. ``pytest -m cuda``."""

from __future__ import annotations

import importlib.util

import kernel_cases
import pytest
import torch

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is there on Linux alone"),
]


@pytest.mark.parametrize("name", kernel_cases.cases())
def test_the_kernels_are_right_to_float32(name: str) -> None:
    errors = kernel_cases.cases()[name]("cuda")
    assert errors
    assert kernel_cases.close(errors) == []


def results(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    from hope_ref.parallel.kernels import launch

    given = [x.to(dtype).requires_grad_() for x in kernel_cases.drawn(70, (2, 3), 64, 64, "cuda")]
    found = launch.recurrence(*given, 64, "before_decay")
    return [*found, *kernel_cases.gradients(found, given)]


def test_two_runs_give_the_same_bits() -> None:
    for one, other in zip(results(), results(), strict=True):
        assert torch.equal(one, other)


def test_nothing_waits_for_the_gpu() -> None:
    from hope_ref.parallel.kernels import launch

    given = [x.float().requires_grad_() for x in kernel_cases.drawn(70, (2, 3), 64, 64, "cuda")]
    for _ in range(2):  # compiling waits, once
        torch.cuda.set_sync_debug_mode("error" if _ else "default")
        try:
            outputs, state = launch.recurrence(*given, 64, "before_decay")
            torch.autograd.grad(outputs.sum() + state.sum(), given)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_bfloat16_is_as_near_as_its_digits_let_it() -> None:
    """Eight bits of inputs and answers; the state is float32 within."""
    for exact, half in zip(results(), results(torch.bfloat16), strict=True):
        assert float((exact - half.float()).abs().max() / exact.abs().max()) < 0.05
