"""Other people's memories beside ours: ``python -m hope_ref bench --peers PYTHON``.

PYTHON is the interpreter of an environment of its own that has torch, ``nested-learning==0.2.0`` and
``titans-pytorch==0.5.5``; nothing of them is needed here. Every measurement is a process, and the processes take turns, so
that a busy machine disturbs all alike. What is compared is time alone: they compute other functions. nested-learning's
writes carry no gradient, so it is timed forward only; titans-pytorch is the Titans memory (momentum, decay, no
self-modification), online (``batch_size=chunk``), with a perceptron of the same width.
"""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median
from typing import Any

from hope_ref.common.progress import progress

TIMING = """
import json, sys, time, torch
width, tokens, chunk, threads, calls = map(int, sys.argv[1:6])
torch.set_num_threads(threads)
torch.manual_seed(0)
x = torch.randn(1, tokens, width)
def timed(call, calls):
    call()
    found = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    print(json.dumps(found))
"""
OURS = (
    TIMING
    + """
torch.set_flush_denormal(True)
from hope_ref.benchmarks.runs import Hope, hold_pages
hold_pages(2**30)
hope = Hope(width, chunk, "cpu")
views = hope.views(tokens)
"""
)
NESTED_LEARNING = (
    TIMING
    + """
from nested_learning.titan.self_modifying import SelfModifyingTitans, SelfModifyingTitansConfig
model = SelfModifyingTitans(SelfModifyingTitansConfig(dim=width, chunk_size_other=chunk))
def call():
    with torch.no_grad():
        model.forward_with_updates(x, model.init_fast_state())
timed(call, 1)
"""
)
TITANS_PYTORCH = (
    TIMING
    + """
torch.set_flush_denormal(True)
from titans_pytorch import NeuralMemory, MemoryMLP
model = NeuralMemory(width, chunk_size=chunk, batch_size=chunk, model=MemoryMLP(width, depth=2, expansion_factor=1.0))
def forward():
    with torch.no_grad():
        model(x)
def both():
    y, _ = model(x)
    torch.autograd.grad(y.sum(), [p for p in model.parameters() if p.requires_grad], allow_unused=True)
"""
)
# name -> (whose interpreter, program)
RUNS = {
    "ours, forward": ("ours", OURS + "timed(lambda: hope.forward(views), calls)"),
    "ours, forward and backward": ("ours", OURS + "timed(lambda: hope.forward_backward(views), calls)"),
    "nested-learning as shipped, forward": ("theirs", NESTED_LEARNING),
    "nested-learning, denormals flushed, forward": (
        "theirs",
        NESTED_LEARNING.replace("timed(call, 1)", "torch.set_flush_denormal(True)\ntimed(call, 1)"),
    ),
    "titans-pytorch, forward": ("theirs", TITANS_PYTORCH + "timed(forward, calls)"),
    "titans-pytorch, forward and backward": ("theirs", TITANS_PYTORCH + "timed(both, calls)"),
}
RATIOS = {
    "nested-learning as shipped over ours, forward": ("nested-learning as shipped, forward", "ours, forward"),
    "nested-learning flushed over ours, forward": (
        "nested-learning, denormals flushed, forward",
        "ours, forward",
    ),
    "titans-pytorch over ours, forward": ("titans-pytorch, forward", "ours, forward"),
    "titans-pytorch over ours, forward and backward": (
        "titans-pytorch, forward and backward",
        "ours, forward and backward",
    ),
}


def measure(
    python: str, width: int, tokens: int, chunk_size: int, threads: int, rounds: int, calls: int = 5
) -> dict[str, Any]:
    """Seconds of every run, one process each per round, in turns; ratios of the medians of each round.

    Raises: ValueError with the end of what the process said, if one fails.
    """
    seconds: dict[str, list[float]] = {name: [] for name in RUNS}
    sizes = [str(number) for number in (width, tokens, chunk_size, threads, calls)]
    for _ in progress(range(rounds), "peers", "round"):
        for name, (whose, program) in RUNS.items():
            interpreter = sys.executable if whose == "ours" else python
            try:
                said = subprocess.run([interpreter, "-c", program, *sizes], capture_output=True, text=True)
            except OSError as error:
                raise ValueError(f"--peers must be a Python interpreter, got {python}: {error}") from error
            if said.returncode:
                raise ValueError(f"--peers: {name} failed: {said.stderr.strip()[-300:]}")
            seconds[name].append(median(json.loads(said.stdout.splitlines()[-1])))
    ratios = {}
    for name, (above, below) in RATIOS.items():
        found = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
        ratios[name] = spread(found)
    return {
        "width": width,
        "tokens": tokens,
        "chunk_size": chunk_size,
        "threads": threads,
        "rounds": rounds,
        "seconds": seconds,
        "ratios": ratios,
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def turn_by_turn(above: list[float], below: list[float], factor: float = 1) -> dict[str, float]:
    """The spread of factor · above / below, every turn with its own."""
    return spread([factor * a / b for a, b in zip(above, below, strict=True)])


def lines(found: dict[str, Any]) -> list[str]:
    """The record for people."""
    head = f"peers, d = {found['width']}, T = {found['tokens']}, C = {found['chunk_size']}"
    rows = ["", f"{head:<52}{'median':>8}{'min':>8}{'max':>8}"]
    for name, ratio in found["ratios"].items():
        rows.append(f"{name:<52}" + "".join(f"{ratio[key]:>8.1f}" for key in ("median", "min", "max")))
    return rows
