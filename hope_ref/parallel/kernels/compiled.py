"""Machine code for GPUs that are not here: registers, spills and shared memory of every kernel. [D]

``python -m hope_ref kernels`` prints the table. The compiler and the assembler come with Triton; no GPU is needed. What
it shows: that the kernels compile for sm_80 (A100) and sm_90 (H100, H200) and fit there. What it does not: that they are fast.
`hope_ref.parallel.kernels.estimate` adds what they multiply and move, beside the rooflines.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hope_ref.common.progress import progress, say
from hope_ref.parallel.kernels import interpreted
from hope_ref.parallel.kernels.configurations import Configuration, configurations

NUMBERS = ("length", "d_in", "d_out", "chunks", "chunk_size")  # arguments that are integers
SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes that one program may have


class Report(NamedTuple):
    """What the assembler says about one configuration."""

    registers: int  # per thread
    spilled: int  # bytes per thread, stored and loaded again: each costs a trip to memory
    shared: int  # bytes per program
    machine_code: int  # bytes
    warps: int
    instructions: frozenset[str]  # which of mma, wgmma, fma the PTX has


def report(configuration: Configuration) -> Report:
    """Compile one configuration. Raises: RuntimeError in the interpreter's process, which has no compiler."""
    if interpreted():
        raise RuntimeError("TRITON_INTERPRET must not be 1 where kernels are compiled")
    import torch
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hope_ref.parallel.kernels.backward import backward
    from hope_ref.parallel.kernels.forward import forward
    from hope_ref.parallel.kernels.gradients import gradients
    from hope_ref.parallel.kernels.launch import tiles

    c = configuration
    sizes = tiles(c.chunk, c.d_in, getattr(torch, c.dtype))
    kernel = {"forward": forward, "backward": backward, "gradients": gradients}[c.kernel]
    known: dict[str, Any] = {**sizes._asdict(), "ERASE": c.erase, "READ": c.read, "KEEP": True}
    constants = {name: known[name] for name in kernel.arg_names if name in known and name not in NUMBERS}
    inputs = ("q", "phi", "u", "eta", "alpha", "outputs")
    given = {*inputs, *(f"grad_{name}" for name in inputs)}
    signature, attributes = {}, {}
    for place, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in NUMBERS:
            signature[name] = "i32"
        else:
            signature[name] = "*bf16" if c.dtype == "bfloat16" and name in given else "*fp32"
            attributes[place,] = [["tt.divisibility", 16]]  # as of every tensor that torch makes
    made = triton.compile(
        ASTSource(kernel, signature, constexprs=constants, attrs=attributes),
        target=GPUTarget("cuda", c.architecture, 32),
        options={"num_warps": sizes.warps, "num_stages": 1},
    )
    registers, spilled = _assembled(made.asm["ptx"], c.architecture)
    names = {name for name in ("wgmma", "mma", "fma") if re.search(rf"^\s*{name}\.", made.asm["ptx"], re.M)}
    return Report(
        registers, spilled, made.metadata.shared, len(made.asm["cubin"]), sizes.warps, frozenset(names)
    )


def _assembled(ptx: str, architecture: int) -> tuple[int, int]:
    """Registers and spilled bytes per thread, from the report of the assembler that comes with Triton."""
    import triton.knobs

    name = "sm_90a" if architecture == 90 else f"sm_{architecture}"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx, encoding="utf-8")
        call = [
            triton.knobs.nvidia.ptxas.path,
            "-v",
            f"--gpu-name={name}",
            str(source),
            "-o",
            str(source) + ".cubin",
        ]
        said = subprocess.run(call, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
    if registers is None or not spills:
        raise RuntimeError(f"ptxas was to report registers and spills, got {said!r}")
    return int(registers.group(1)), sum(map(int, spills))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m hope_ref kernels``."""
    parser.add_argument("--quick", action="store_true", help="the smallest size alone")


def main(arguments: argparse.Namespace) -> int:
    """Print the table; exit 1 if a kernel does not fit."""
    from hope_ref.parallel.kernels import missing
    from hope_ref.parallel.kernels.estimate import lines

    why = "TRITON_INTERPRET must not be 1 where kernels are compiled" if interpreted() else missing("cuda")
    if why:
        print(why)
        return 2
    print("compiled, not run: no GPU is needed, and nothing is said about speed\n")
    print(f"{'kernel':<66}{'registers':>10}{'spilled B':>10}{'shared KiB':>11}{'warps':>6}  products by")
    fits = True
    for one in progress(configurations(), "compile", "kernel"):
        if arguments.quick and not one.smallest:
            continue
        found = report(one)
        fits &= found.shared <= SHARED[one.architecture]
        say(
            f"{one!s:<66}{found.registers:>10}{found.spilled:>10}{found.shared / 1024:>11.1f}{found.warps:>6}  "
            + ", ".join(sorted(found.instructions))
        )
    print("\n" + "\n".join(lines(arguments.quick)))
    return 0 if fits else 1
