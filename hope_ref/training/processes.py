"""Devices, precision, and several processes: PyTorch's own engine (torchrun, DDP, FSDP2) around one training loop. [D]"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from hope_ref.parallel import compiling, kernels
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.lessons import learn
from hope_ref.training.settings import TrainingSettings

DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}  # of the parameters


class World(NamedTuple):
    """This process among all of them."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes files."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes; all must ask."""
        if self.size > 1:
            dist.all_reduce(values)
            values = values / self.size
        return values

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()


def chosen_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA if there is any, else the CPU. Raises: ValueError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, False):
        has = ", ".join(repr(one) for one, is_there in there.items() if is_there)
        raise ValueError(f"device must be one that this machine has ({has}), got {name!r}")
    return torch.device(name)


@contextmanager
def joined(settings: TrainingSettings) -> Iterator[World]:
    """This process among those that torchrun has started, or alone. Raises: ValueError for a device, backend or batch that cannot be."""
    device, size = chosen_device(settings.device), int(os.environ.get("WORLD_SIZE", "1"))
    if settings.precision == "float64" and device.type == "mps":
        raise ValueError("precision must be float32 or bfloat16 on mps, got 'float64'")
    reasons = {"triton": kernels.missing, "compiled": compiling.missing}
    if why := reasons.get(settings.backend, lambda _: "")(device.type):
        raise ValueError(f"backend must be 'torch' or 'auto' here, got {settings.backend!r}: {why}")
    if settings.batch % size:
        raise ValueError(f"batch must be a multiple of the number of processes, {size}, got {settings.batch}")
    if settings.parallelism == "fsdp" and settings.optimizer == "m3" and size > 1:
        raise ValueError(
            "optimizer must be 'adamw' with parallelism='fsdp': M3 needs whole matrices, got 'm3'"
        )
    if size == 1:
        yield World(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():  # once in a process's life: a second group would meet the first one's keys
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    yield World(dist.get_rank(), size, device)


class Objective(nn.Module):
    """The model with its loss: mean -log p(next byte), in nats, of windows (B, T + 1).

    With ``continuum="meta"`` the levels learn while they read the window, each from where training has them start, and
    the loss flows through their updates [P 73, p. 28, p. 31]. What leaves a module that DDP wraps must lead to every parameter: hence the loss alone, without the model's state.
    """

    def __init__(self, model: Hope, settings: TrainingSettings) -> None:
        super().__init__()
        self.model, self.settings = model, settings

    def forward(self, windows: Tensor, plain: bool = False) -> Tensor:
        """The loss, a number; ``plain``: the levels stand still whatever the settings say."""
        settings = self.settings
        if settings.continuum == "meta" and not plain:
            emptied = settings.meta_mixers == "emptied"
            logits, _ = learn(
                self.model, windows, emptied=emptied, segments=settings.meta_segments, differentiable=True
            )
        else:
            logits, _ = self.model(windows[:, :-1], recompute=settings.recompute, backend=settings.backend)
        return cross_entropy(logits, windows[:, 1:])


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean -log p of the targets, in nats, at least in float32."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    return nn.functional.cross_entropy(logits.flatten(0, -2).to(exact), targets.flatten())


def spread(model: Hope, settings: TrainingSettings, world: World) -> nn.Module:
    """The objective, ready to be differentiated in all processes: as it is, in copies (DDP) or in shards (FSDP2).

    In shards the model is one unit: parameters are gathered as a whole for a forward and backward pass; gradients and
    the optimiser's state stay in shards. Its blocks cannot be units of their own, because a state is made of parameters
    before any block runs. Raises: ValueError if a parameter is a single number, which has no shards.
    """
    objective = Objective(model, settings)
    if world.size == 1:
        return objective
    if settings.parallelism == "fsdp":
        from torch.distributed.fsdp import fully_shard

        if any(parameter.ndim == 0 for parameter in model.parameters()):
            raise ValueError(
                "variant must not be 'independent' with parallelism='fsdp': a number has no shards"
            )
        # Logits are a view; nothing here is written in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
        fully_shard(model)
        return objective
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(
        objective, find_unused_parameters=_leaves_some_unused(objective, settings, world)
    )


def _leaves_some_unused(objective: Objective, settings: TrainingSettings, world: World) -> bool:
    """Whether no gradient reaches some parameter, as in an ablation (writing=...): DDP has to know. Tried on one sequence."""
    objective(torch.zeros(1, settings.tokens + 1, dtype=torch.int64, device=world.device)).backward()
    found = settings.meta_plain > 0 or any(parameter.grad is None for parameter in objective.parameters())
    objective.zero_grad()
    return found


def whole(state: Any) -> Any:
    """The same structure with every sharded tensor gathered; all processes must ask."""
    if isinstance(state, DTensor):
        return state.full_tensor()
    if isinstance(state, dict):
        return {key: whole(part) for key, part in state.items()}
    return [whole(part) for part in state] if isinstance(state, list) else state


def sharded(state: Any, like: Tensor) -> Any:
    """Every tensor in the structure that has the shape of a parameter, in shards as the parameter is."""
    if not isinstance(like, DTensor):
        return state
    if isinstance(state, Tensor) and state.shape == like.shape:
        return distribute_tensor(state.to(like.device), like.device_mesh, like.placements)
    return {key: sharded(part, like) for key, part in state.items()} if isinstance(state, dict) else state


def autocast(settings: TrainingSettings, device: torch.device) -> AbstractContextManager[Any]:
    """Where matrix products are done in bfloat16, if the settings want it."""
    if settings.precision != "bfloat16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def noted_signals(alone: bool = True) -> Iterator[list[int]]:
    """Ctrl-C, the wish to terminate and a closed terminal are noted, so that a step can be finished; asked twice, it ends at once.

    What ends it at once is a KeyboardInterrupt with the signal's number. Beside other processes a repetition is passed
    over: terminal and torchrun both hand the same Ctrl-C on.
    """
    caught: list[int] = []

    def note(number: int, _: Any) -> None:
        if caught and alone:
            raise KeyboardInterrupt(number)
        caught.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield caught  # signals come to the main thread alone
        return
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ignored = signal.SIG_IGN  # under nohup a closed terminal is no reason to stop
    before = {n: signal.signal(n, note) for n in known if signal.getsignal(n) is not ignored}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
