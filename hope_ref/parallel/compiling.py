"""One chunk made into machine code by `torch.compile`, and used for all: ``backend="compiled"``. [D]

A whole model in one graph would be unrolled over its chunks and take minutes to compile. One chunk takes half a minute,
once for each size, dtype and option, and again for its gradient; a last chunk of another length counts as another size,
and beyond eight such variants PyTorch goes on without compiling. So it pays where many chunks of one size follow each
other, as in training, and not for a short text. The result has one derivative: where a second one is wanted, as in
training through the updates of the levels, use "torch".

It is made for float32, where it comes as near to float64 as the plain chunk does (a test measures both). In float64 outputs
agree with the plain chunk to the last digits, but gradients of keys only to five: PyTorch 2.13's machine code loses the rest, not
the graph, which agrees to 1e-12 if it is run operation by operation.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])
COMPILERS = ("g++", "clang++", "cl")


def missing(device: str) -> str:
    """Why nothing can be compiled for a device ("cpu", "cuda", …); empty if it can."""
    named = os.environ.get("CXX")
    names = (named,) if named else COMPILERS
    if device == "cpu" and not any(shutil.which(name) for name in names):
        return f"torch.compile needs a C++ compiler on a CPU, and none of {', '.join(names)} is on the path"
    return ""


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


def compiled(function: Function) -> Function:
    """The function, compiled at its first call; the function itself inside a graph that is being compiled."""
    return function if torch.compiler.is_compiling() else cast(Function, _compiled(function))
