"""What the public functions of this floor check before they compute.

Shapes, dtypes and devices are always checked: that is free. Values (NaN, negative rates) are checked where
looking at them is free too: on the CPU, outside `torch.compile` and outside the transforms of `torch.func`, under which
a tensor has no one value. On a GPU a look would make the host wait for the device, so there the caller is trusted.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from hope_ref.common.validation import in_range, shape_is


def no_autocast(device: str) -> AbstractContextManager[Any]:
    """Autocast off, where there is such a thing: a recurrence over thousands of writes does not survive eight bits."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def tensors(**named: object) -> None:
    """Raise a ValueError unless all are floating-point tensors of one dtype on one device."""
    first: tuple[str, Tensor] | None = None
    for name, value in named.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
        if not value.is_floating_point():
            raise ValueError(f"{name} must have a floating-point dtype, got {value.dtype}")
        if first is None:
            first = name, value
        elif value.dtype != first[1].dtype:
            raise ValueError(f"{name} must have the dtype of {first[0]}, {first[1].dtype}, got {value.dtype}")
        elif value.device != first[1].device:
            raise ValueError(
                f"{name} must be on the device of {first[0]}, {first[1].device}, got {value.device}"
            )


def has_values(tensor: Tensor) -> bool:
    """Whether the entries can be looked at, and for free."""
    return (
        tensor.device.type == "cpu"
        and tensor.numel() > 0
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def state_tensors(like_name: str, like: Tensor, **named: object) -> None:
    """Raise a ValueError unless all are tensors on the device of ``like`` and of its dtype or, if that is half, float32."""
    wide = torch.promote_types(like.dtype, torch.float32)
    for name, value in named.items():
        other = like
        if isinstance(value, Tensor) and value.dtype == wide:
            other = like.to(wide)
        tensors(**{like_name: other, name: value})


def as_tensor(value: Any, like: Tensor) -> Tensor:
    """The value as a tensor; a number, in the dtype and on the device of ``like``, is filled in there: the host waits for no copy."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, int | float):
        return like.new_full((), value)
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def values(low: float = -torch.inf, high: float = torch.inf, **named: Tensor) -> None:
    """Raise a ValueError if an entry is NaN, infinite or outside [low, high]; see the module's note on GPUs."""
    for name, value in named.items():
        if not has_values(value):
            continue
        value = value.detach()
        if (low, high) == (-torch.inf, torch.inf) and torch.isfinite(value.sum()):
            continue  # the sum is cheaper to look at, and finite only if every entry is
        if not torch.isfinite(value).all():
            bad = int((~torch.isfinite(value)).sum())
            raise ValueError(f"{name} must be finite, got {bad} NaN or infinite entries")
        in_range(name, float(value.min()), float(value.max()), low, high)


def per_token(
    name: str, value: Tensor | float, like: Tensor, low: float, high: float, like_name: str = "k"
) -> Tensor:
    """Return one number per token, shape (..., T), for tokens ``like`` (..., T, d): a number is repeated."""
    shape = like.shape[:-1]
    value = as_tensor(value, like)
    tensors(**{like_name: like, name: value})
    if value.ndim:
        shape_is(name, tuple(value.shape), tuple(shape))
    values(low, high, **{name: value})
    return value.expand(shape)


def sequence(q: Tensor, k: Tensor, v: Tensor, memory: Tensor | None) -> Tensor:
    """Check the tensors that every matrix memory takes and return its initial state (..., d_v, d_k)."""
    tensors(k=k, q=q, v=v)
    if k.ndim < 2:
        raise ValueError(f"k must have shape (..., T, d_k), got {tuple(k.shape)}")
    shape_is("q", tuple(q.shape), tuple(k.shape))
    shape_is("v", tuple(v.shape), (*k.shape[:-1], "d_v"))
    values(k=k, q=q, v=v)
    shape = (*k.shape[:-2], v.shape[-1], k.shape[-1])
    if memory is None:
        return k.new_zeros(shape, dtype=torch.promote_types(k.dtype, torch.float32))
    state_tensors("k", k, memory=memory)
    shape_is("memory", tuple(memory.shape), shape)
    values(memory=memory)
    return memory
