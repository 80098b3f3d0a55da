"""The benchmark of the gated delta rule by every backend: toy sizes on a CPU, where no time means anything."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from hope_ref.benchmarks import kernels as benchmark_kernels
from hope_ref.benchmarks.kernels import FLA, PARTS, TOY
from hope_ref.benchmarks.timing import in_turns
from hope_ref.parallel.delta_rule import gated_delta_rule


def test_what_cannot_run_is_named_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setitem(sys.modules, "fla", None)
    written: list[set[str]] = []
    found = benchmark_kernels.measure(
        "cpu", 2, True, in_turns, written=lambda record: written.append(set(record["seconds"]))
    )
    own = {f"eager, {dtype}, {part}" for dtype in ("float32", "bfloat16") for part in PARTS}
    assert set(found["seconds"]) == set(found["errors"]) == own
    assert written == [{name for name in own if "float32" in name}, own], "after each dtype"
    for dtype in ("float32", "bfloat16"):
        assert "backend must be" in found["without"][f"triton, {dtype}, forward"]
        assert "fla" in found["without"][f"{FLA}, {dtype}"]
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in found["seconds"].values())
    rows = benchmark_kernels.lines(found)
    assert any(row.startswith("without triton, float32, forward: ") for row in rows)
    assert sum(row.split(",")[0] == "eager" for row in rows) == 4


def stand_in(
    monkeypatch: pytest.MonkeyPatch, seen: list[list[torch.Tensor]], wrong: float = 0.0, backward: bool = True
) -> None:
    """Another's kernels: of (batch, tokens, heads, …) and log α; without ``backward`` they refuse a gradient."""

    def chunk_gated_delta_rule(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, g: torch.Tensor, beta: torch.Tensor, scale: float
    ) -> tuple[torch.Tensor, None]:
        seen.append([q, k, v, g, beta])
        if not backward and torch.is_grad_enabled():
            raise RuntimeError("wrong results on this GPU")
        inputs = [x.transpose(1, 2) for x in (q, k, v, beta.to(q.dtype), g.exp().to(q.dtype))]
        return scale * gated_delta_rule(*inputs)[0].transpose(1, 2) * (1 + wrong), None

    module: Any = ModuleType("fla.ops.gated_delta_rule")
    module.chunk_gated_delta_rule = chunk_gated_delta_rule
    for name, one in (
        ("fla", ModuleType("fla")),
        ("fla.ops", ModuleType("fla.ops")),
        (module.__name__, module),
    ):
        monkeypatch.setitem(sys.modules, name, one)


def test_others_are_given_their_own_layout_and_compared_in_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[torch.Tensor]] = []
    stand_in(monkeypatch, seen)
    found = benchmark_kernels.measure("cpu", 1, True, in_turns, (FLA,))
    assert found["without"] == {}
    for dtype, bound in (("float32", 1e-5), ("bfloat16", 0.02)):
        for part in PARTS:
            assert 0 < found["errors"][f"{FLA}, {dtype}, {part}"] < bound
            ours, theirs = (found["seconds"][f"{name}, {dtype}, {part}"] for name in ("eager", FLA))
            ratio = found["ratios"][f"eager over {FLA}, {dtype}, {part}"]["median"]
            assert ratio == pytest.approx(ours[0] / theirs[0])
    shape = TOY["batch"], TOY["tokens"], TOY["heads"]
    for q, k, v, g, beta in seen:
        assert all(x.is_contiguous() and x.is_leaf for x in (q, k, v, g, beta)), (
            "nothing is left for the clock"
        )
        assert {tuple(x.shape[:3]) for x in (q, k, v, g, beta)} == {shape}
        assert g.dtype == torch.float32
        assert float(g.detach().max()) <= 0


def test_a_backward_that_fails_leaves_the_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, [], backward=False)
    found = benchmark_kernels.measure("cpu", 1, True, in_turns, (FLA,))
    assert f"{FLA}, float32, forward" in found["seconds"]
    assert f"{FLA}, float32, forward and backward" not in found["seconds"]
    assert found["without"] == {
        f"{FLA}, {dtype}, forward and backward": "RuntimeError: wrong results on this GPU"
        for dtype in ("float32", "bfloat16")
    }


def test_an_error_is_a_share_of_the_largest_entry_and_nan_is_not_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in(monkeypatch, [], wrong=0.25)
    errors = benchmark_kernels.measure("cpu", 1, True, in_turns, (FLA,))["errors"]
    assert errors[f"{FLA}, float32, forward"] == pytest.approx(0.25, rel=1e-4)
    assert errors[f"{FLA}, float32, forward and backward"] == pytest.approx(0.25, rel=1e-4)
    stand_in(monkeypatch, [], wrong=float("nan"))
    found = benchmark_kernels.measure("cpu", 1, True, in_turns, (FLA,))
    assert not any(FLA in name for name in found["seconds"])
    assert found["without"][f"{FLA}, float32, forward"] == "its results are not finite"


def test_ceilings_are_work_over_time_and_leave_the_precision_as_it_was() -> None:
    seen: list[str] = []

    def timer(runs: dict[str, Any], repeats: int, device: str) -> dict[str, list[float]]:
        for run in runs.values():
            run()
            seen.append(torch.get_float32_matmul_precision())
        return {name: [2.0, 0.5, 1.0] for name in runs}

    before = torch.get_float32_matmul_precision()
    found = benchmark_kernels.ceilings("cpu", 3, True, timer)
    assert seen == [before] * 4
    rates = found["per_second"]
    assert rates["copy"] == 2 * found["copied_bytes"]
    assert (
        rates["TF32 product"]
        == rates["float32 product"]
        == rates["bfloat16 product"]
        == 2 * found["side"] ** 3
    )
    assert benchmark_kernels.ceiling_lines(found)[-1].endswith("GB/s")


def test_flops_are_those_of_the_products() -> None:
    """Counted by PyTorch's own counter, less the triangular solve."""
    from torch.utils.flop_counter import FlopCounterMode

    given = benchmark_kernels.inputs(**TOY, device="cpu")
    with FlopCounterMode(display=False) as counter:
        gated_delta_rule(*given, chunk_size=TOY["chunk_size"])
    # `chunks.decays`: sums by a product
    decays = TOY["batch"] * TOY["heads"] * TOY["tokens"] // 16 * 2 * 17**3
    assert counter.get_total_flops() - decays == benchmark_kernels.flops(**TOY)
