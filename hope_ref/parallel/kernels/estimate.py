"""What the kernels multiply and what they move, counted and not measured, beside the rooflines of three GPUs. [D]

A GPU needs FLOPs / (FLOPs per second) for its products and bytes / (bytes per second) for its memory, and at least the
longer of the two: the *roofline*. Where a kernel has fewer FLOPs per byte than the GPU's own ratio, the *ridge*, memory
binds it, else its products do. That is a bound from data sheets: what registers spill, what waits for the chunk before,
and how far small products are from the peak comes on top. **An estimate; no speed is claimed.**

FLOPs are those of every ``tl.dot``, padding included; three products of parts for one of float32. Bytes count each number
once that goes to or comes from memory, as if every second look found it in a cache. The first and the last state of a
sequence are left out: there are many chunks between them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from hope_ref.parallel.kernels.configurations import HALF, KERNELS, SIZES, Configuration
from hope_ref.parallel.kernels.launch import tiles

# Peak of dense tensor core products in FLOP/s by what is multiplied (tf32 in all kernels), and of memory in bytes/s: the
# maker's data sheets of the A100 (SXM, 80 GB), the H100 (SXM) and the H200 (SXM).
ROOFLINES = {"A100": (156e12, 2.039e12), "H100": (494.7e12, 3.35e12), "H200": (494.7e12, 4.8e12)}


class Work(NamedTuple):
    """Per token of one memory of one head."""

    flops: float  # of tensor cores
    moved: float  # bytes

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.moved


def work(configuration: Configuration) -> Work:
    """FLOPs and bytes per token, in a sequence of whole chunks."""
    c = configuration
    erase, read, before = (
        int(c.erase != "none"),
        int(c.read != "none"),
        int(c.erase == "before_decay" or c.read == "pre"),
    )
    sizes = tiles(c.chunk, c.d_in, getattr(torch, c.dtype))
    n, blocks_in, blocks_out = sizes.TILE, -(-c.d_in // sizes.BLOCK), -(-c.d_out // sizes.BLOCK)
    rows, width, block = sizes.OUT, sizes.IN, sizes.BLOCK
    table, gram = 2 * n**3, 2 * n * n * blocks_in * block
    inverse, wide, narrow = 2 * sizes.LEVELS * table, 2 * n * width * rows, 2 * n * n * rows
    tables = 1 + before  # of decays
    of_system = erase * (gram + inverse + wide + narrow)  # L, X, and a product with each of S and X
    if c.kernel != "gradients":
        programs = -(-c.d_out // rows)
        multiplied = programs * (tables * table + of_system + read * (gram + wide + narrow) + wide)
    else:
        state, tall = 2 * n * block * block, 2 * n * n * block  # one block of a state; of a table
        each = 1 + erase + read
        multiplied = (tables + 2) * table + (erase + read) * gram  # decays, and the gradients through them
        multiplied += 2 * each * blocks_in * blocks_out * state + (erase + read) * blocks_out * tall
        multiplied += (1 + 2 * read) * blocks_in * tall
    products = 3 if sizes.PRECISION == "tf32x3" else 1
    return Work(multiplied * products / sizes.chunk_size, _moved(c, sizes.chunk_size))


def _moved(c: Configuration, chunk: int) -> float:
    """Bytes per token: inputs and gradients in their own dtype, states, w and g in float32."""
    size = 2 if c.dtype == "bfloat16" else 4
    read, asked = int(c.read != "none"), c.d_in * int(c.read != "none")
    state, row = 4 * c.d_in * c.d_out / chunk, 4 * c.d_out
    inputs = c.d_in + asked + 2  # φ, q, η, α
    answers = read * c.d_out
    if c.kernel == "forward":
        return size * (inputs + c.d_out + answers) + state + row
    if c.kernel == "backward":
        eta = int(c.erase == "none")  # not looked at without an erase
        return size * (inputs - eta + answers) + state + row
    return size * (2 * (inputs + c.d_out) + answers) + 2 * state + 2 * row


def lines(quick: bool = False) -> list[str]:
    """The table that ``python -m hope_ref kernels`` ends with."""
    ridges = {name: flops / moved for name, (flops, moved) in ROOFLINES.items()}
    found = [
        "an estimate from counts and data sheets, not a measurement (per token of one memory)",
        f"{'kernel':<50}{'kFLOP':>8}{'kB':>7}{'FLOP/B':>8}  bound by, at least: "
        + ", ".join(f"{name} (ridge {ridge:.0f})" for name, ridge in ridges.items()),
    ]
    sizes = [(*size, "float32") for size in SIZES] + [(*size, "bfloat16") for size in HALF]
    for kernel in KERNELS:
        for chunk, d_in, d_out, dtype in sizes[:1] if quick else sizes:
            done = work(Configuration(kernel, 90, chunk, d_in, d_out, dtype))
            bound = ["memory" if done.intensity < ridge else "products" for ridge in ridges.values()]
            name = f"{kernel} C = {chunk}, {d_in} → {d_out} {dtype}"
            found.append(
                f"{name:<50}{done.flops / 1e3:>8.1f}{done.moved / 1e3:>7.2f}{done.intensity:>8.1f}  "
                + ", ".join(bound)
            )
    return found
