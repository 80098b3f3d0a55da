"""The continuum memory's frequencies in pre-training: a level's parameters move once per C tokens. Source: [S 15], [P 71], [D].

θ is shared by all sequences here and any PyTorch optimiser moves it: [P 71] allows the error signal of any. Tokens are
positions of one stream: a batch is an average over streams, and its size is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hope_ref.common.validation import positive_integer


class LevelSchedule(torch.optim.Optimizer):
    """Around any optimiser: gradients of level ℓ add up over steps, and the level moves once C^(ℓ) tokens are reached [D].

    A level that is not due is not touched at all: its parameters have no gradient in that step, so no momentum fades, no
    weight decays and no step is counted. At the first step at which its tokens reach C^(ℓ) the optimiser gets the *sum*
    of its gradients since it moved last, and the count starts again from 0. Parameters of the optimiser that belong
    to no level move in every step. Make the loss a mean over the batch; over tokens a sum for [S 15], a mean for optimisers
    that look at the scale. Gradients of half-precision parameters add up in float32.

    Use: ``optimizer.zero_grad(); loss.backward(); schedule.step(tokens=T)``. It does not matter whether gradients are cleared
    in between: a level's are taken over here. Clip before ``schedule.step``, if at all.

    It is a `torch.optim.Optimizer` with the optimiser's own groups and state, for learning-rate schedulers and for
    ``scaler.step(schedule, tokens=T)``. If a `GradScaler` finds gradients that are not finite it skips the step: then the
    tokens are not counted and no gradient is added up, as if the batch had not been. Clear the gradients after it.

    Args:
        optimizer: any `torch.optim.Optimizer`; it holds all parameters.
        levels: one ``{"params": parameters, "chunk_size": C}`` per level.
    Raises:
        ValueError: naming the argument, what it got and what it wants.
    """

    optimizer: torch.optim.Optimizer
    defaults: dict[str, Any]

    def __init__(self, optimizer: torch.optim.Optimizer, levels: Sequence[dict[str, Any]]) -> None:
        # No super().__init__: it would make groups of its own. What hooks need comes with the state.
        self.__setstate__({"optimizer": optimizer, "defaults": dict(getattr(optimizer, "defaults", {}))})
        self.levels: list[list[Tensor]] = []
        self.chunk_sizes: list[int] = []
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        taken: set[int] = set()
        for index, level in enumerate(levels):
            name = f"levels[{index}]"
            if not isinstance(level, dict) or set(level) != {"params", "chunk_size"}:
                got = sorted(level) if isinstance(level, dict) else type(level).__name__
                raise ValueError(f"{name} must be a dict of params and chunk_size, got {got}")
            params = level["params"]
            parameters = [params] if isinstance(params, Tensor) else list(params)
            if any(id(p) not in known for p in parameters):
                raise ValueError(f"{name}: params must all be in the optimizer, got one that is not")
            if any(id(p) in taken for p in parameters) or len({id(p) for p in parameters}) < len(parameters):
                raise ValueError(f"{name}: params must belong to one level only, got one twice")
            taken |= {id(p) for p in parameters}
            self.levels.append(parameters)
            self.chunk_sizes.append(positive_integer(f"{name}: chunk_size", level["chunk_size"]))
        self.tokens = [0] * len(self.levels)  # since each level moved last
        self._gradients: list[list[Tensor | None]] = [[None] * len(parameters) for parameters in self.levels]

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The optimiser's own groups."""
        return self.optimizer.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The optimiser's own state."""
        return self.optimizer.state

    def __getstate__(self) -> dict[str, Any]:
        names = ("optimizer", "defaults", "levels", "chunk_sizes", "tokens", "_gradients")
        return {name: self.__dict__[name] for name in names}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the optimiser; its parameters belong to no level."""
        self.optimizer.add_param_group(param_group)

    @torch.no_grad()
    def step(self, tokens: int, closure: None = None) -> list[bool]:  # type: ignore[override]
        """Take in the gradients of ``tokens`` positions, then let the optimiser move what is due; returns which levels were.

        Args: tokens, positions of one stream that the present gradients come from, >= 1. Raises: ValueError otherwise, and
        for a closure, which might run more than once for these tokens.
        """
        if closure is not None or callable(tokens):
            raise ValueError("closure must be None, got one: call backward() before step(tokens)")
        tokens = positive_integer("tokens", tokens)
        self.tokens = [count + tokens for count in self.tokens]
        due = [count >= size for count, size in zip(self.tokens, self.chunk_sizes, strict=True)]
        for index, (parameters, sums) in enumerate(zip(self.levels, self._gradients, strict=True)):
            for place, parameter in enumerate(parameters):
                if parameter.grad is not None:
                    sums[place] = _added(sums[place], parameter.grad)
                total = sums[place]
                parameter.grad = total.to(parameter.dtype) if due[index] and total is not None else None
        self.optimizer.step()
        for index, parameters in enumerate(self.levels):
            if due[index]:
                self.tokens[index] = 0
                self._gradients[index] = [None] * len(parameters)
                for parameter in parameters:
                    parameter.grad = None  # spent: the next backward starts anew
        return due

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of the present step; what the levels have added up stays."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's state, and the open chunks: tokens and summed gradients of every level."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "tokens": list(self.tokens),
            "gradients": [list(sums) for sums in self._gradients],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned. Raises: ValueError if it does not fit these levels."""
        names = {"optimizer", "tokens", "gradients"}
        if set(state) != names:
            raise ValueError(f"state must hold {sorted(names)}, got {sorted(state)}")
        counts = [len(sums) for sums in state["gradients"]]
        sizes = [len(parameters) for parameters in self.levels]
        if counts != sizes or len(state["tokens"]) != len(sizes):
            raise ValueError(
                f"state must have levels of {sizes} parameters, got {counts} and {len(state['tokens'])} counts"
            )
        if any(type(count) is not int or count < 0 for count in state["tokens"]):
            raise ValueError(f"state: tokens must be integers >= 0, got {state['tokens']!r}")
        gradients: list[list[Tensor | None]] = []
        for index, (parameters, sums) in enumerate(zip(self.levels, state["gradients"], strict=True)):
            gradients.append([])
            for place, (parameter, gradient) in enumerate(zip(parameters, sums, strict=True)):
                if gradient is not None and gradient.shape != parameter.shape:
                    raise ValueError(
                        f"state: gradients[{index}][{place}] must have shape {tuple(parameter.shape)}, "
                        f"got {tuple(gradient.shape)}"
                    )
                own = None if gradient is None else _added(None, gradient.to(parameter.device))
                gradients[-1].append(own)
        self.optimizer.load_state_dict(state["optimizer"])
        self.tokens, self._gradients = list(state["tokens"]), gradients


def _added(total: Tensor | None, gradient: Tensor) -> Tensor:
    """The sum, at least in float32: a tensor of its own, whatever becomes of the gradient."""
    wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    if total is not None:
        return total + wide
    return wide.clone() if wide is gradient else wide
