"""Which kernels are looked at without a GPU: sizes, dtypes, options, two generations of GPU. [D]"""

from __future__ import annotations

from typing import NamedTuple

KERNELS = ("forward", "backward", "gradients")
ARCHITECTURES = (80, 90)  # A100; H100 and H200
SIZES = ((16, 32, 32), (16, 64, 64), (64, 128, 128))  # chunk, d_in, d_out
HALF = ((16, 64, 64), (64, 64, 64), (64, 128, 128))


class Configuration(NamedTuple):
    """One kernel for one size, dtype and option, on one architecture."""

    kernel: str  # "forward", "backward" or "gradients"
    architecture: int  # 80 or 90
    chunk: int
    d_in: int
    d_out: int
    dtype: str = "float32"  # or "bfloat16": compiled only, untested
    erase: str = "before_decay"
    read: str = "post"

    def __str__(self) -> str:
        size = f"C = {self.chunk}, {self.d_in} → {self.d_out}"
        return f"{self.kernel} sm_{self.architecture} {size} {self.dtype} {self.erase} {self.read}"

    @property
    def smallest(self) -> bool:
        """Whether this is the smallest size, without options: what ``--quick`` takes."""
        return self[2:] == (*SIZES[0], "float32", "before_decay", "post")


def configurations() -> list[Configuration]:
    """Every size in float32, some in bfloat16, every option at the smallest."""
    found = []
    for kernel in KERNELS:
        for architecture in ARCHITECTURES:
            found += [Configuration(kernel, architecture, *size) for size in SIZES]
            found += [Configuration(kernel, architecture, *size, dtype="bfloat16") for size in HALF]
            found += [
                Configuration(kernel, architecture, *SIZES[0], erase=erase)
                for erase in ("after_decay", "none")
            ]
            found += [Configuration(kernel, architecture, *SIZES[0], read=read) for read in ("pre", "none")]
    return found
