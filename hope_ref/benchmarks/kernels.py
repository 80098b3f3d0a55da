"""The gated delta rule on a GPU, several ways: part of ``python -m hope_ref bench --device cuda``.

In turns within one run, in float32 and in bfloat16: PyTorch as it is (``eager``), the Triton kernels, flash-linear-attention's
chunked form where it is installed and, if it is wanted, one chunk under `torch.compile`; forward, and forward with backward,
each tried and timed apart. Every way gets its inputs in its own layout before the clock starts, and its error against
float64 stands beside its time: float32 is not the same in all of them. What is missing is named with its reason.

`ceilings` measures what the device itself reaches: a large product in float32, TF32 and bfloat16, and a copy.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hope_ref.benchmarks.peers import turn_by_turn
from hope_ref.common.files import one_line
from hope_ref.parallel.delta_rule import gated_delta_rule

Run = Callable[[], Any]
Timer = Callable[[dict[str, Run], int, str], dict[str, list[float]]]
SIZES = {"batch": 4, "heads": 16, "tokens": 2048, "width": 64, "chunk_size": 64}
TOY = {"batch": 1, "heads": 2, "tokens": 32, "width": 16, "chunk_size": 16}
BACKENDS = {"eager": "torch", "triton": "triton", "compiled": "compiled"}  # a way of ours: its backend
FLA = "flash-linear-attention"
USUAL = ("eager", "triton", FLA)
DTYPES = ("float32", "bfloat16")
PARTS = ("forward", "forward and backward")


class Way(NamedTuple):
    """One way to compute the rule: a function of tensors in its own layout."""

    function: Callable[..., Tensor]
    given: list[Tensor]  # leaves; the last one is α, or log α
    answers: Callable[[Tensor], Tensor]  # back to (batch, heads, tokens, width)
    gradients: Callable[[tuple[Tensor, ...]], list[Tensor]]  # by q, k, v, η and log α, as ours


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
    return [x.to(device) for x in drawn]


def measure(
    device: str,
    repeats: int,
    toy: bool,
    timer: Timer,
    names: tuple[str, ...] = USUAL,
    written: Callable[[dict[str, Any]], Any] = lambda record: None,
) -> dict[str, Any]:
    """Seconds and errors of the named ways, ratios to eager turn by turn, and what was left out and why.

    Args: names, of `BACKENDS` and `FLA`; "eager" is always there; written, called with what there is after each dtype.
    """
    sizes = TOY if toy else SIZES
    record: dict[str, Any] = {
        "sizes": sizes,
        "gflop_forward": flops(**sizes) / 1e9,
        "seconds": {},
        "errors": {},
        "ratios": {},
        "without": {},
    }
    for dtype in DTYPES:
        given = [x.to(getattr(torch, dtype)) for x in inputs(**sizes, device=device)]
        exact = _results(_ours("torch", [x.double() for x in given], sizes["chunk_size"]))
        runs: dict[str, Run] = {}
        for name in dict.fromkeys(("eager", *names)):
            label = f"{name}, {dtype}"
            try:
                way = _theirs(given) if name == FLA else _ours(BACKENDS[name], given, sizes["chunk_size"])
            except (
                Exception
            ) as error:  # what is not there, or fails in ways of its own: a finding, not the end
                record["without"][label] = _reason(error)
                continue
            runs |= _tried(way, label, exact, record)
        seconds = timer(runs, repeats, device)
        record["seconds"] |= seconds
        for name in names:
            for part in PARTS:
                own, base = (f"{one}, {dtype}, {part}" for one in (name, "eager"))
                if name != "eager" and own in seconds and base in seconds:
                    record["ratios"][f"eager over {own}"] = turn_by_turn(seconds[base], seconds[own])
        written(record)
    return record


def _tried(way: Way, label: str, exact: list[Tensor], record: dict[str, Any]) -> dict[str, Run]:
    """The parts of a way that can run, each by its name; its errors, or its reason, go into the record."""
    runs: dict[str, Run] = {}
    calls: tuple[Run, ...] = (lambda: _forward(way), lambda: _both(way))
    for part, call in zip(PARTS, calls, strict=True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                got = way.answers(call()) if part == "forward" else _results(way)
        except Exception as error:
            record["without"][f"{label}, {part}"] = _reason(error)
            continue
        pairs = zip([got] if isinstance(got, Tensor) else got, exact, strict=False)
        errors = [_error(one, other) for one, other in pairs]
        if not all(map(math.isfinite, errors)):
            record["without"][f"{label}, {part}"] = "its results are not finite"
            continue
        record["errors"][f"{label}, {part}"] = max(errors)
        runs[f"{label}, {part}"] = call
    return runs


def _ours(backend: str, given: list[Tensor], chunk_size: int) -> Way:
    def function(q: Tensor, k: Tensor, v: Tensor, eta: Tensor, alpha: Tensor) -> Tensor:
        return gated_delta_rule(q, k, v, eta, alpha, chunk_size=chunk_size, backend=backend)[0]

    leaves = [x.detach().clone().requires_grad_() for x in given]

    def gradients(found: tuple[Tensor, ...]) -> list[Tensor]:
        return [*found[:-1], found[-1] * leaves[-1].detach()]  # by log α

    return Way(function, leaves, lambda answers: answers, gradients)


def _theirs(given: list[Tensor]) -> Way:
    """flash-linear-attention's: (batch, tokens, heads, …), log α in float32."""
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule  # type: ignore[import-not-found, unused-ignore]

    def function(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, g: Tensor) -> Tensor:
        return chunk_gated_delta_rule(q, k, v, g=g, beta=beta, scale=1.0)[0]  # type: ignore[no-any-return, unused-ignore]

    swapped = [x.detach().transpose(1, 2).contiguous() for x in given]
    swapped[-1] = swapped[-1].float().log()
    leaves = [x.requires_grad_() for x in swapped]

    def gradients(found: tuple[Tensor, ...]) -> list[Tensor]:
        return [x.transpose(1, 2) for x in found]

    return Way(function, leaves, lambda answers: answers.transpose(1, 2), gradients)


def _forward(way: Way) -> Tensor:
    with torch.no_grad():
        return way.function(*way.given)


def _both(way: Way) -> tuple[Tensor, ...]:
    return torch.autograd.grad(way.function(*way.given).sum(), way.given)


def _results(way: Way) -> list[Tensor]:
    """Answers, then every gradient of their sum."""
    return [way.answers(_forward(way)), *way.gradients(_both(way))]


def _error(found: Tensor, exact: Tensor) -> float:
    """Largest difference, as a share of the largest entry."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


def _reason(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}", 200)


# --- what the device itself reaches ---------------------------------------------------------------------------------


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Whether products of float32 may be those of TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def ceilings(device: str, repeats: int, toy: bool, timer: Timer) -> dict[str, Any]:
    """FLOP/s of a large square product in float32, TF32 and bfloat16, bytes/s of a copy, read and written: medians."""
    side, count = (64, 2**16) if toy else (8192, 2**30)
    one = torch.randn(side, side, device=device)
    half, source = one.bfloat16(), torch.zeros(count, device=device)
    target = torch.empty_like(source)

    def product(x: Tensor, allowed: bool = False) -> None:
        with _tf32(allowed):
            torch.mm(x, x)

    runs: dict[str, Run] = {
        "float32 product": lambda: product(one),
        "TF32 product": lambda: product(one, True),
        "bfloat16 product": lambda: product(half),
        "copy": lambda: target.copy_(source),
    }
    seconds = timer(runs, repeats, device)
    work = {name: 2 * side**3 for name in runs} | {"copy": 2 * 4 * count}
    return {
        "side": side,
        "copied_bytes": 4 * count,
        "seconds": seconds,
        "per_second": {name: work[name] / median(found) for name, found in seconds.items()},
    }


# --- for people -----------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any]) -> list[str]:
    """The record for people."""
    sizes = ", ".join(f"{name} {size}" for name, size in found["sizes"].items())
    rows = [
        "",
        f"gated delta rule: {sizes}; {found['gflop_forward']:.3g} GFLOP forward",
        f"{'way':<56}{'ms':>10}{'eager / it':>12}{'error':>10}",
    ]
    for name, seconds in found["seconds"].items():
        ratio = found["ratios"].get(f"eager over {name}")
        times = "" if ratio is None else f"{ratio['median']:.2f}"
        rows.append(f"{name:<56}{1e3 * median(seconds):>10.3f}{times:>12}{found['errors'][name]:>10.1e}")
    return rows + [f"without {name}: {why}" for name, why in found["without"].items()]


def ceiling_lines(found: dict[str, Any]) -> list[str]:
    """The record of `ceilings` for people."""
    rows = ["", f"the device itself, products of side {found['side']}"]
    for name, rate in found["per_second"].items():
        unit = "GB/s" if name == "copy" else "TFLOP/s"
        rows.append(f"{name:<56}{rate / (1e9 if name == 'copy' else 1e12):>10.3g} {unit}")
    return rows
