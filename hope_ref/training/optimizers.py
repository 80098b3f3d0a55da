"""The learning rate of every step, and the optimisers: AdamW, or M3 for matrices and stacks of them with AdamW for all else. [D]"""

from __future__ import annotations

import math
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import AdamW, Optimizer

from hope_ref.parallel.continuum_schedule import LevelSchedule
from hope_ref.parallel.hope import Hope, HopeBlock
from hope_ref.parallel.m3 import M3
from hope_ref.training.settings import TrainingSettings

M3_BETA3 = 0.9  # M3's own default
Stepper: TypeAlias = "Optimizer | Together | LevelSchedule"


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """The learning rate of step number ``step``, counted from 0: a function of the step alone, so nothing has to be stored.

    "one_cycle": a cosine from lr/25 up to lr and another down to lr/250000, as PyTorch's OneCycleLR without its cycle
    of momenta. "cosine": a line up from 0, then a cosine to 0. "constant": a line up, then lr. A training that was
    extended has the same curve over the steps since `TrainingSettings.schedule_start`.
    """
    steps, rate, step = settings.steps - settings.schedule_start, settings.lr, step - settings.schedule_start
    if settings.schedule == "one_cycle":
        top = max(settings.warmup * steps - 1, 0.0)
        if step < top:
            return _cosine(rate / 25, rate, step / top)
        return _cosine(rate, rate / 25e4, (step - top) / max(steps - 1 - top, 1.0))
    rising = settings.warmup * steps
    if step + 1 < rising:
        return rate * (step + 1) / rising
    if settings.schedule == "constant":
        return rate
    return _cosine(rate, 0.0, min(1.0, max(step + 1 - rising, 0.0) / max(steps - rising, 1.0)))


def is_plain(settings: TrainingSettings, step: int) -> bool:
    """Whether step number ``step``, counted from 0, of a training with ``continuum="meta"`` is an ordinary one."""
    return settings.meta_plain > 0 and (step + 1) % settings.meta_plain == 0


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a linear map between vectors, or a stack of them, one for each head: that is what M3 takes.

    The embedding is a table, and read-outs, rates and depthwise kernels are stacks of vectors: two axes, but no map.
    """
    own = name.rsplit(".", 1)[-1]
    vectors = own.startswith("conv_") or own.endswith(("_readout", "_weight"))
    return parameter.ndim >= 2 and own != "embedding" and not vectors


def make(model: Hope, settings: TrainingSettings) -> Stepper:
    """The optimiser of these settings, with the levels' schedule around it if they have one."""
    taken: list[Tensor] = []
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if settings.optimizer == "m3" and is_matrix(name, parameter):
            taken.append(parameter)
        elif is_matrix(name, parameter):
            decayed.append(parameter)
        else:
            plain.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    adamw = AdamW([group for group in groups if group["params"]], lr=settings.lr, betas=settings.betas)
    made: Optimizer | Together = adamw
    if taken:
        betas = (*settings.betas, M3_BETA3)
        made = Together(M3(taken, settings.lr, betas, slow_every=settings.slow_every), adamw)
    if settings.continuum != "scheduled":
        return made
    levels: list[dict[str, Any]] = []
    for index, chunk_size in enumerate(model.config.levels_chunk_sizes):
        of_blocks = [cast(HopeBlock, block).continuum.levels[index] for block in model.blocks]
        parameters = [parameter for level in of_blocks for parameter in level.parameters()]
        levels.append({"params": parameters, "chunk_size": chunk_size})
    return LevelSchedule(cast(Optimizer, made), levels)


class Together:
    """Several optimisers that step as one."""

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all of them, one after the other."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> dict[Tensor, Any]:
        """What all of them hold, parameter by parameter."""
        return {
            parameter: held for optimizer in self.optimizers for parameter, held in optimizer.state.items()
        }

    def step(self) -> None:
        """One step of each."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The states of all of them."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises: ValueError if other parameters stood in its groups."""
        got = [_sizes(own) for own in state["optimizers"]]
        own_sizes = [_sizes(optimizer.state_dict()) for optimizer in self.optimizers]
        if got != own_sizes:
            raise ValueError(
                f"checkpoint must hold optimisers with groups of {own_sizes} parameters to be resumed, got {got}: "
                "earlier versions gave M3 no stacks of matrices; train the run anew"
            )
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)


def _sizes(state: dict[str, Any]) -> list[int]:
    """How many parameters each group of a saved optimiser has."""
    return [len(group["params"]) for group in state["param_groups"]]


def groups_of(stepper: Stepper) -> list[dict[str, Any]]:
    """The parameter groups, whatever stands around the optimiser."""
    inner = stepper.optimizer if isinstance(stepper, LevelSchedule) else stepper
    return inner.param_groups


def check_state(stepper: Stepper) -> None:
    """Raise a ValueError unless all that is held of a parameter is a finite number or a finite tensor of its shape."""
    for parameter, held in stepper.state.items():
        for name, value in held.items():
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"optimizer: {name} must have shape {tuple(parameter.shape)}, got {tuple(value.shape)}"
                )
            if isinstance(whole, Tensor | float | int) and not torch.as_tensor(whole).isfinite().all():
                raise ValueError(f"optimizer: {name} must be finite, got NaN or infinite entries")


@torch.no_grad()
def advance(stepper: Stepper, rate: float, tokens: int) -> None:
    """One step at this learning rate, with gradients from so many tokens of each stream."""
    for group in groups_of(stepper):
        group["lr"] = rate
    if isinstance(stepper, LevelSchedule):
        stepper.step(tokens)
    else:
        stepper.step()
