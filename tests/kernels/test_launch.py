"""Which launches share a kernel: no number that changes while a model runs makes another one."""

from __future__ import annotations

import importlib.util
from typing import Any

import kernel_cases
import pytest
import torch

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is there on Linux alone"
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> set[tuple[Any, ...]]:
    """What decides which kernel a launch takes: constants, dtypes, and what Triton makes of integers; nothing is run."""
    from hope_ref.parallel.kernels import launch

    found: set[tuple[Any, ...]] = set()

    class Recorded:
        def __init__(self, name: str, kernel: Any) -> None:
            self.name, self.kernel = name, kernel

        def __getitem__(self, grid: Any) -> Any:
            def run(*given: Any, **how: Any) -> None:
                key: list[Any] = [self.name, *sorted(how.items())]
                for parameter, value in zip(self.kernel.params, given, strict=False):
                    if parameter.is_constexpr:
                        key.append(value)
                    elif isinstance(value, torch.Tensor):
                        key.append(value.dtype)
                    elif not parameter.do_not_specialize:
                        key.append("one" if value == 1 else "times 16" if value % 16 == 0 else "any")
                found.add(tuple(key))

            return run

    for name in ("forward", "backward", "gradients"):
        monkeypatch.setattr(launch, name, Recorded(name, getattr(launch, name)))
    return found


def launched(length: int, chunk_size: int, dtype: torch.dtype = torch.float32, d_in: int = 18) -> None:
    from hope_ref.parallel.kernels import launch

    drawn = kernel_cases.drawn(length, (2,), d_in, 33, "cpu")
    given = [x.to(dtype).requires_grad_() for x in drawn]
    outputs, state = launch.recurrence(*given, chunk_size, "before_decay")
    torch.autograd.grad(outputs.sum() + state.sum(), given)


def test_lengths_and_chunk_sizes_share_their_kernels(made: set[tuple[Any, ...]]) -> None:
    launched(35, 17)
    first = set(made)
    assert len(first) == 3
    for length in (1, 2, 16, 31, 32, 40):
        for chunk_size in (1, 3, 4, 5, 9, 16, 64):
            launched(length, chunk_size)
    assert made == first


def test_a_width_and_a_dtype_are_kernels_of_their_own(made: set[tuple[Any, ...]]) -> None:
    launched(5, 4)
    launched(5, 4, d_in=33)
    launched(5, 4, torch.bfloat16)
    assert len(made) == 8, "`gradients` has no tile as wide as a row: one for both widths"
