"""The chunk recurrence on a GPU, several ways: part of ``python -m hope_ref bench --device cuda``.

In turns within one run: PyTorch as it is (``eager``), under ``torch.compile``, the Triton kernels, flash-linear-attention's
chunk gated delta rule where it is installed, and the ceiling: plain matrix products of as many FLOPs as the chunk form
needs. All compute the gated delta rule, forward, and forward with backward. What is missing is named with its reason.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hope_ref.benchmarks.peers import turn_by_turn
from hope_ref.benchmarks.runs import ceiling
from hope_ref.parallel import kernels
from hope_ref.parallel.delta_rule import gated_delta_rule

Run = Callable[[], Any]
Timer = Callable[[dict[str, Run], int, str], dict[str, list[float]]]
SIZES = {"batch": 4, "heads": 16, "tokens": 2048, "width": 64, "chunk_size": 64}
TOY = {"batch": 1, "heads": 2, "tokens": 32, "width": 16, "chunk_size": 16}


def flops(batch: int, heads: int, tokens: int, width: int, chunk_size: int) -> int:
    """FLOPs of the matrix products of one forward pass: gram, scores, writes and reads, C × C × d each, and S φ, S q and the
    new state, C × d × d each. The inverse, C³/3, is left out for all alike."""
    each = 2 * (4 * chunk_size**2 * width + 3 * chunk_size * width**2)
    return batch * heads * math.ceil(tokens / chunk_size) * each


def inputs(batch: int, heads: int, tokens: int, width: int, chunk_size: int, device: str) -> list[Tensor]:
    """q, k, v, η and α as a trained layer would have them, (batch, heads, tokens, …), float32."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, batch, heads, tokens, width, generator=generator)
    eta, alpha = torch.rand(2, batch, heads, tokens, generator=generator)
    drawn = [q, torch.nn.functional.normalize(k, dim=-1), v, eta, 1 - 0.1 * alpha]
    return [x.to(device).requires_grad_() for x in drawn]


def measure(device: str, repeats: int, toy: bool, timer: Timer) -> dict[str, Any]:
    """Seconds of every way, ratios to eager turn by turn, the share of the ceiling, and what was left out and why."""
    sizes = TOY if toy else SIZES
    given = inputs(**sizes, device=device)
    ways, without = _ways(sizes["chunk_size"], device, given)
    side = 64 if toy else 2048
    products, share = ceiling(flops(**sizes), side, side, device)
    runs: dict[str, Run] = {"ceiling": products}
    for name, way in ways.items():
        runs[f"{name}, forward"] = partial(_forward, way, given)
        runs[f"{name}, forward and backward"] = partial(_both, way, given)
    seconds = timer(runs, repeats, device)
    seconds["ceiling"] = [share * s for s in seconds["ceiling"]]  # of exactly the FLOPs of a forward pass
    ratios = {}
    for part, factor in (("forward", 1), ("forward and backward", 3)):
        for name in ways:
            own = seconds[f"{name}, {part}"]
            ratios[f"{name}, share of the ceiling, {part}"] = turn_by_turn(seconds["ceiling"], own, factor)
            if name != "eager":
                ratios[f"eager over {name}, {part}"] = turn_by_turn(seconds[f"eager, {part}"], own)
    return {"sizes": sizes, "dtype": "float32", "seconds": seconds, "ratios": ratios, "without": without}


def _ways(
    chunk_size: int, device: str, given: list[Tensor]
) -> tuple[dict[str, Callable[..., Tensor]], dict[str, str]]:
    """The functions of q, k, v, η and α that can run here, each tried once, and why the others cannot."""

    def by(backend: str) -> Callable[..., Tensor]:
        def way(q: Tensor, k: Tensor, v: Tensor, eta: Tensor, alpha: Tensor) -> Tensor:
            return gated_delta_rule(q, k, v, eta, alpha, chunk_size=chunk_size, backend=backend)[0]

        return way

    ways: dict[str, Callable[..., Tensor]] = {"eager": by("torch")}
    without = {}
    if device == "cuda":
        ways["compiled"] = torch.compile(by("torch"))
    else:
        without["compiled"] = "only timed on a GPU"
    why = kernels.missing(device)
    if why:
        without["triton"] = why
    else:
        ways["triton"] = by("triton")
    try:
        from fla.ops.gated_delta_rule import chunk_gated_delta_rule  # type: ignore[import-not-found, unused-ignore]
    except Exception as error:  # it fails in ways of its own where there is no GPU
        without["flash-linear-attention"] = (
            f"not installed, or not usable here: {type(error).__name__}: {error}"[:200]
        )
    else:

        def theirs(*x: Tensor) -> Tensor:
            q, k, v, eta, alpha = (z.transpose(1, 2) for z in x)  # (batch, tokens, heads, …)
            return chunk_gated_delta_rule(q, k, v, g=alpha.log(), beta=eta, scale=1.0)[0].transpose(1, 2)  # type: ignore[no-any-return, unused-ignore]

        ways["flash-linear-attention"] = theirs
    for name in [name for name in ways if name != "eager"]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _both(ways[name], given)
        except Exception as error:  # a way that fails is a finding, not the end of the run
            without[name] = f"{type(error).__name__}: {error}"[:200]
            del ways[name]
    return ways, without


def _forward(way: Callable[..., Tensor], given: list[Tensor]) -> None:
    with torch.no_grad():
        way(*given)


def _both(way: Callable[..., Tensor], given: list[Tensor]) -> None:
    torch.autograd.grad(way(*given).sum(), given)


def lines(found: dict[str, Any]) -> list[str]:
    """The record for people."""
    sizes = ", ".join(f"{name} {size}" for name, size in found["sizes"].items())
    rows = [
        "",
        f"gated delta rule, {found['dtype']}: {sizes}",
        f"{'ratio, turn by turn':<64}{'median':>8}{'min':>8}{'max':>8}",
    ]
    for name, ratio in found["ratios"].items():
        rows.append(f"{name:<64}" + "".join(f"{ratio[key]:>8.2f}" for key in ("median", "min", "max")))
    return rows + [f"without {name}: {why}" for name, why in found["without"].items()]
