"""What the benchmark runs: the memories of one head, attention of the same width, and a process to weigh them in."""

from __future__ import annotations

import argparse
import ctypes
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hope_ref.config import HopeConfig
from hope_ref.parallel.self_modifying_titans import self_modifying_titans
from hope_ref.reference import parameters as starting
from hope_ref.reference import self_modifying_titans as reference

Views = tuple[Tensor, Tensor, Tensor]


class Hope:
    """The memories of one head with their parameters, as training would start them."""

    def __init__(self, width: int, chunk_size: int, device: str) -> None:
        self.config = HopeConfig(width=width, memory_chunk_size=chunk_size, projection_chunk_size=chunk_size)
        self.arrays = starting.init_memories(self.config, 0)
        self.device = device
        self.parameters = {
            name: torch.tensor(array, dtype=torch.float32, device=device, requires_grad=True)
            for name, array in self.arrays.items()
        }

    def flops(self, tokens: int) -> int:
        """FLOPs of the matrix products that the chunk form cannot do without, forward."""
        from hope_ref.symbolic import (
            counts,
            flops,
        )  # SymPy: seconds, which a process that weighs memory does without

        size = self.config.memory_chunk_size
        whole, rest = divmod(tokens, size)
        expression = flops.total(flops.chunk_flops(self.config))
        chunks = [(whole, size), (1, rest)]
        return sum(
            times * counts.number(expression, self.config, C=length) for times, length in chunks if length
        )

    def views(self, tokens: int) -> Views:
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(3, tokens, self.config.head_width, generator=generator).to(self.device)
        x_key, x_value, x_query = (view.contiguous().requires_grad_() for view in drawn)
        return x_key, x_value, x_query

    def forward(self, x: Views) -> Tensor:
        with torch.no_grad():
            return self_modifying_titans(*x, self.parameters, self.config)[0]

    def forward_backward(self, x: Views, recompute: bool = False) -> None:
        outputs, _ = self_modifying_titans(*x, self.parameters, self.config, recompute=recompute)
        torch.autograd.grad(outputs.sum(), [*self.parameters.values(), *x], allow_unused=True)

    def loop(self, tokens: int) -> None:
        x_key, x_value, x_query = np.random.default_rng(0).normal(size=(3, tokens, self.config.head_width))
        reference.self_modifying_titans(x_key, x_value, x_query, self.arrays, self.config)


class Attention:
    """Causal softmax attention of one head, with its four projections."""

    def __init__(self, width: int, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        self.weights = [
            (torch.randn(width, width, generator=generator) / width**0.5).to(device).requires_grad_()
            for _ in range(4)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        q, k, v = (functional.linear(x, weight)[None, None] for weight in self.weights[:3])
        read = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return functional.linear(read[0, 0], self.weights[3])

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self(x)

    def forward_backward(self, x: Tensor) -> None:
        torch.autograd.grad(self(x).sum(), [*self.weights, x])


def ceiling(work: int, rows: int, width: int, device: str) -> tuple[Callable[[], None], float]:
    """Products (rows, width) @ (width, width), as many as come nearest to ``work`` FLOPs; and ``work`` over what they do."""
    left = torch.randn(rows, width, device=device)
    right = torch.randn(width, width, device=device)
    each = 2 * rows * width**2
    times = max(1, round(work / each))

    def run() -> None:
        for _ in range(times):
            torch.mm(left, right)

    return run, work / (each * times)


# --- memory ---------------------------------------------------------------------------------------------------------


def memory(arguments: argparse.Namespace) -> dict[str, Any]:
    """Peak bytes of one forward with backward, plain and with ``recompute``, each in a process of its own."""
    how = "torch.cuda.max_memory_allocated"
    if arguments.device == "cpu":
        how = "largest resident size of the process during the call, less that before it: VmHWM, or ru_maxrss"
    found: dict[str, Any] = {"how": how}
    for name, recompute in (("plain", False), ("recompute", True)):
        sizes = [arguments.width, arguments.tokens, arguments.chunk_size, int(recompute), arguments.threads]
        code = f"from hope_ref.benchmarks.runs import peak; print(peak({', '.join(map(str, sizes))}, {arguments.device!r}))"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        found[f"{name}_bytes"] = int(said.stdout)
    return found


def peak(width: int, tokens: int, chunk_size: int, recompute: int, threads: int, device: str) -> int:
    """Bytes that forward and backward need at most, beyond parameters and inputs; to be asked in a fresh process."""
    torch.set_num_threads(threads)
    hold_pages(2**15)
    hope = Hope(width, chunk_size, device)
    x = hope.views(tokens)
    hope.forward_backward(
        hope.views(min(tokens, 2 * chunk_size)), bool(recompute)
    )  # libraries take what they need once
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        hope.forward_backward(x, bool(recompute))
        return torch.cuda.max_memory_allocated() - before
    with suppress(OSError):  # Linux: the peak starts anew; elsewhere it goes on
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = largest_resident()
    hope.forward_backward(x, bool(recompute))
    return max(0, largest_resident() - before)  # the kernel counts pages in batches


def largest_resident() -> int:
    """Bytes of memory that the process has held at most; Linux's ru_maxrss would count its parent's, too."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def hold_pages(largest: int) -> bool:
    """Ask glibc to keep freed blocks of up to so many bytes for itself, and to give larger ones back at once.

    To fetch 1 MB from the system again costs as much as a matrix product: so keep all while timing, and little while
    the resident size is to tell what is in use. Returns whether there is a glibc to ask.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
        mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
        return bool(library.mallopt(mmap_threshold, largest)) and bool(
            library.mallopt(trim_threshold, largest)
        )
    except (OSError, AttributeError):
        return False  # another C library
