"""The chunk recurrence as three Triton kernels, chosen by ``backend="triton"``. [D]

`forward` goes through all chunks of a sequence, `backward` through the gradients of their states, from the last to the
first, and `gradients` makes the gradients of each chunk's inputs, all chunks at once.

Nothing here is loaded before it is asked for. `chosen` decides where a call goes: to the kernels only if they can run,
and never without being told. Without a GPU they run in Triton's interpreter, slowly, if ``TRITON_INTERPRET=1`` is set
before the first use; that is how they are tested, and what a reader can step through.

What is checked where: float32 in the interpreter, against float64 (forward, state, every gradient). Machine code for
sm_80 and sm_90 is made and its registers are counted (`hope_ref.parallel.kernels.compiled`). bfloat16 is compiled only,
**untested**, because the interpreter multiplies bfloat16 wrongly. On a GPU ``pytest -m cuda`` runs what has never run
there yet: no speed is claimed.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import torch
from torch import Tensor

from hope_ref.common.validation import one_of
from hope_ref.config import HopeConfig
from hope_ref.parallel import compiling

BACKENDS = ("torch", "triton", "compiled", "auto")
DTYPES = (torch.float32, torch.bfloat16)
LARGEST_INPUT = 128  # a row of a state stays in registers, whole
_said: set[str] = set()


def interpreted() -> bool:
    """Whether kernels made from now on run in the interpreter."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def missing(device: str) -> str:
    """Why the kernels cannot run on a device ("cpu", "cuda", …); empty if they can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (Linux only: pip install 'hope_ref[triton]')"
    if device != "cuda" and not interpreted():
        return f"the tensors are on {device}, not on CUDA (TRITON_INTERPRET=1 runs the kernels there, slowly)"
    if interpreted() and _made_to_be_compiled():
        return "TRITON_INTERPRET=1 was set after Triton had been loaded, by torch.compile, say: set it before"
    return ""


def _made_to_be_compiled() -> bool:
    """Whether Triton was loaded without its interpreter: what it brings along is settled then."""
    standard = sys.modules.get("triton.language.standard")
    return standard is not None and type(standard.sum).__name__ == "JITFunction"


def too_wide(d_in: int, dtype: torch.dtype) -> str:
    """Why the kernels have no such size or dtype; empty if they have."""
    if d_in > LARGEST_INPUT:
        return f"d_in must be at most {LARGEST_INPUT} with backend='triton', got {d_in}"
    if dtype not in DTYPES:
        return f"dtype must be float32 or bfloat16 with backend='triton', got {dtype}"
    return ""


def unsupported(config: HopeConfig, dtype: torch.dtype, width: int) -> str:
    """Which option, size or dtype of a model the kernels do not have; empty if they have all."""
    if config.inner_momentum > 0:
        return f"inner_momentum must be 0 with backend='triton', got {config.inner_momentum}"
    return too_wide(max(width, config.hidden_width if config.architecture == "mlp" else 0), dtype)


def chosen(backend: str, like: Tensor, without: str = "") -> str:
    """ "torch", "triton" or "compiled". "auto" takes the kernels on a GPU that has them, and says once, on stderr, what it took.

    ``without`` says what the kernels lack for this call, if anything.
    Raises: ValueError if backend is no known word, or "triton" without what it needs; RuntimeError, with the reason, if it is "triton" and cannot run.
    """
    one_of("backend", backend, BACKENDS)
    if backend == "torch":
        return backend
    if backend == "compiled":
        if reason := compiling.missing(like.device.type):
            raise RuntimeError(f"backend must be 'torch' or 'auto' here, got 'compiled': {reason}")
        return backend
    why = missing(like.device.type)
    if backend == "triton":
        if without:
            raise ValueError(without)
        if why:
            raise RuntimeError(f"backend must be 'torch' or 'auto' here, got 'triton': {why}")
        return backend
    why = why or without
    found = "torch" if why else "triton"
    if found not in _said:
        _said.add(found)
        print(f"backend='auto' takes {found!r}" + (f": {why}" if why else ""), file=sys.stderr)
    return found
