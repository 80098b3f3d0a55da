"""What one gain saves: five linear memories moved by one recurrence, beside five recurrences. [P 83-93], [D]

All three ways read the same tokens and end with the same outputs and the same five memories (`hope_ref.parallel.shared_gain`):

* ``one gain``: one recurrence, and W_b G for each memory at the boundary;
* ``stacked``: a state for each memory, all of them behind one solve, as HOPE moves memories that share keys;
* ``separate``: the same, one memory after another, with a solve for each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hope_ref.benchmarks.peers import turn_by_turn
from hope_ref.parallel import chunks
from hope_ref.parallel.ops import apply

WIDTHS, TOKENS, CHUNK = (16, 64, 256), 1024, 64
TOY = ((4,), 8, 4)
MEMORIES = 5
Run = Callable[[], Any]
Way = Callable[..., tuple[Tensor, Tensor]]


def one_gain(
    q: Tensor, k: Tensor, v: Tensor, eta: Tensor, alpha: Tensor, weights: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """o_t = W_memory,b G_t q_t for q, k, v (T, d) and weights (5, d, d), `memory` last; and the five weights at the end."""
    outputs = []
    for tokens in _stretches(len(k), chunk_size):
        start = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
        answers, gain = chunks.recurrence(
            q[tokens],
            k[tokens],
            (v - k)[tokens],
            eta[tokens],
            alpha[tokens],
            start,
            chunk_size,
            "before_decay",
        )
        outputs.append(apply(weights[-1], answers))
        weights = weights @ gain
    return torch.cat(outputs), weights


def stacked(
    q: Tensor, k: Tensor, v: Tensor, eta: Tensor, alpha: Tensor, weights: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """The same with a state for each memory, u = W_b (v - k): one solve for all, every one of them read and moved."""
    outputs = []
    for tokens in _stretches(len(k), chunk_size):
        told = apply(weights, (v - k)[tokens])  # (5, C, d)
        answers, weights = chunks.recurrence(
            q[tokens], k[tokens], told, eta[tokens], alpha[tokens], weights, chunk_size, "before_decay"
        )
        outputs.append(answers[-1])
    return torch.cat(outputs), weights


def separate(
    q: Tensor, k: Tensor, v: Tensor, eta: Tensor, alpha: Tensor, weights: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """One memory after another."""
    found = [stacked(q, k, v, eta, alpha, one[None], chunk_size) for one in weights]
    return found[-1][0], torch.cat([moved for _, moved in found])


WAYS: dict[str, Way] = {"one gain": one_gain, "stacked": stacked, "separate": separate}


def inputs(width: int, tokens: int) -> list[Tensor]:
    """q, k, v, η, α and five weights, float32: given for the whole stream, so that only the recurrences are timed."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = normalize(torch.randn(3, tokens, width, generator=generator), dim=-1)
    eta, alpha = torch.rand(2, tokens, generator=generator)
    weights = torch.randn(MEMORIES, width, width, generator=generator) / width**0.5
    return [x.requires_grad_() for x in (q, k, v, 0.1 * eta, 1 - 0.1 * alpha, weights)]


def measure(
    repeats: int, quick: bool, in_turns: Callable[[dict[str, Run], int, str], dict[str, list[float]]]
) -> dict[str, Any]:
    """Seconds of every way, forward, and forward with backward, in turns; and how many times one gain the others take, by width."""
    widths, tokens, chunk_size = TOY if quick else (WIDTHS, TOKENS, CHUNK)
    found: dict[str, Any] = {}
    for width in widths:
        given = inputs(width, tokens)

        def forward(way: Way, given: list[Tensor] = given) -> None:
            with torch.no_grad():
                way(*given, chunk_size)

        def both(way: Way, given: list[Tensor] = given) -> None:
            outputs, weights = way(*given, chunk_size)
            torch.autograd.grad(outputs.sum() + weights.sum(), given)

        runs: dict[str, Run] = {}
        for name, way in WAYS.items():
            runs[f"{name}, forward"] = lambda way=way, run=forward: run(way)  # type: ignore[misc]
            runs[f"{name}, forward and backward"] = lambda way=way, run=both: run(way)  # type: ignore[misc]
        seconds = in_turns(runs, repeats, "cpu")
        ratios = {
            f"{name}, {part}": turn_by_turn(seconds[f"{name}, {part}"], seconds[f"one gain, {part}"], 1)
            for name in ("stacked", "separate")
            for part in ("forward", "forward and backward")
        }
        found[str(width)] = {"tokens": tokens, "chunk_size": chunk_size, "seconds": seconds, "ratios": ratios}
    return found


def lines(record: dict[str, Any]) -> list[str]:
    """The record for people."""
    device = record["device"]
    said = [
        f"{device['name']}, {device['threads']} thread(s), PyTorch {record['versions']['torch']}; five linear memories",
        "",
        f"{'five recurrences, in times of one gain':<56}{'median':>8}{'min':>8}{'max':>8}",
    ]
    for width, one in record["widths"].items():
        for name, ratio in one["ratios"].items():
            said.append(
                f"  d = {width + ', ' + name:<50}"
                + "".join(f"{ratio[key]:>8.2f}" for key in ("median", "min", "max"))
            )
    return said


def _stretches(length: int, chunk_size: int) -> list[slice]:
    return [slice(start, start + chunk_size) for start in range(0, length, chunk_size)]
