"""What a model and its streams take, known before anything is allocated. [D]"""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from hope_ref.config import HopeConfig


class _Undrawn(TorchFunctionMode):
    """While it is active, the functions of `torch.nn.init` leave a tensor as it is."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def parameter_shapes(kind: type[Any], config: HopeConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of a model, from PyTorch's device "meta", where nothing is stored.

    Args: kind, `hope_ref.parallel.hope.Hope` or a class made from it. Raises: ValueError if a parameter is beyond any memory.
    """
    try:
        with torch.device("meta"), _Undrawn():
            return {name: tuple(one.shape) for name, one in kind(config).named_parameters()}
    except (RuntimeError, TypeError, OverflowError) as error:  # more bytes than 64 bits can count
        raise ValueError(
            "width, hidden and vocabulary must be of a model that some memory can hold, "
            f"got {config.width}, {config.hidden_width} and {config.vocabulary}"
        ) from error


def parameter_count(config: HopeConfig) -> int:
    """How many parameters a model has. All blocks are alike, so two models of one and two blocks tell. Raises: as `parameter_shapes`."""
    from hope_ref.parallel.hope import Hope

    one, two = (
        sum(map(math.prod, parameter_shapes(Hope, config.replace(blocks=blocks)).values()))
        for blocks in (1, 2)
    )
    return one + (config.blocks - 1) * (two - one)


def memory_of(device: torch.device) -> int | None:
    """The memory of a device in bytes; None if it does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return None


def check_fits(what: str, least: int, device: torch.device) -> None:
    """Raise a ValueError if a device has less memory than the lower bound; ``what`` names the arguments to lower."""
    most = memory_of(device)
    if most is not None and least > most:
        raise ValueError(
            f"{what} must be smaller: at least {least / 1e9:.3g} GB would be needed, {device.type} has {most / 1e9:.3g}"
        )
