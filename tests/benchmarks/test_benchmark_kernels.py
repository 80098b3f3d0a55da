"""The benchmark of the recurrence by every backend: toy sizes on a CPU, where no time means anything."""

from __future__ import annotations

import pytest
import torch

from hope_ref.benchmarks import command as benchmark
from hope_ref.benchmarks import kernels as benchmark_kernels
from hope_ref.parallel import kernels
from hope_ref.parallel.delta_rule import gated_delta_rule


def test_what_cannot_run_is_named_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    found = benchmark_kernels.measure("cpu", 2, True, benchmark.in_turns)
    assert set(found["without"]) >= {"compiled", "triton"}
    assert "eager, forward" in found["seconds"]
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in found["seconds"].values())
    shares = found["ratios"]["eager, share of the ceiling, forward"]
    pairs = zip(found["seconds"]["ceiling"], found["seconds"]["eager, forward"], strict=True)
    assert sorted((shares["min"], shares["max"])) == sorted(a / b for a, b in pairs)
    assert any(line.startswith("without triton: ") for line in benchmark_kernels.lines(found))


def test_a_way_that_fails_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "missing", lambda device: "")
    given = benchmark_kernels.inputs(**benchmark_kernels.TOY, device="cpu")

    def wrong(*x: torch.Tensor, backend: str, **_: object) -> tuple[torch.Tensor, None]:
        if backend == "triton":
            raise RuntimeError("no such thing")
        return gated_delta_rule(*x)[0], None

    monkeypatch.setattr(benchmark_kernels, "gated_delta_rule", wrong)
    ways, without = benchmark_kernels._ways(16, "cpu", given)
    assert "eager" in ways
    assert "triton" not in ways
    assert without["triton"] == "RuntimeError: no such thing"


def test_flops_are_those_of_the_products() -> None:
    """Counted by PyTorch's own counter, less the triangular solve."""
    from torch.utils.flop_counter import FlopCounterMode

    sizes = benchmark_kernels.TOY
    given = [x.detach() for x in benchmark_kernels.inputs(**sizes, device="cpu")]
    with FlopCounterMode(display=False) as counter:
        gated_delta_rule(*given, chunk_size=sizes["chunk_size"])
    decays = (
        sizes["batch"] * sizes["heads"] * sizes["tokens"] // 16 * 2 * 17**3
    )  # `chunks.decays`: sums by a product
    assert counter.get_total_flops() - decays == benchmark_kernels.flops(**sizes)
