"""Training in memory, for experiments: the same steps as `hope_ref.training.loop`, on any loss, without files. [D]"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hope_ref.config import HopeConfig
from hope_ref.parallel.hope import Hope
from hope_ref.tasks.common import IGNORE, Accuracy
from hope_ref.training import optimizers
from hope_ref.training.optimizers import Stepper
from hope_ref.training.settings import TrainingSettings


class Fit(NamedTuple):
    """How a training went."""

    losses: list[float]  # of every step taken, nats
    seconds: float
    steps: int  # fewer than asked for if loss or gradient was not finite: then the last step was not taken

    @property
    def seconds_per_step(self) -> float:
        """Mean over all steps taken."""
        return self.seconds / max(self.steps, 1)


def fit(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    settings: TrainingSettings,
    stepper: Stepper | None = None,
    tokens: int = 1,
) -> Fit:
    """Take ``settings.steps`` steps down ``loss(step)``, with its learning rate, clipping and optimiser.

    Args:
        model: whose parameters ``loss`` depends on.
        loss: of step number 0, 1, …; what it draws should depend on (seed, step) alone.
        settings: of these, optimiser, betas, decay, schedule, clip and steps count; batches are the loss's matter.
        stepper: another optimiser than that of the settings.
        tokens: of each stream in a step, for the levels' own clocks (``continuum="scheduled"``).
    """
    if stepper is None:
        if not isinstance(model, Hope):
            raise ValueError(f"stepper must be given for a model that is no Hope, got {type(model).__name__}")
        stepper = optimizers.make(model, settings)
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses: list[float] = []
    start = time.perf_counter()
    for step in range(settings.steps):
        stepper.zero_grad()
        found = loss(step)
        found.backward()
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        value = float(found.detach())
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            break
        if settings.clip:
            nn.utils.clip_grads_with_norm_(parameters, settings.clip, norm)
        optimizers.advance(stepper, optimizers.learning_rate(settings, step), tokens)
        losses.append(value)
    return Fit(losses, time.perf_counter() - start, len(losses))


def seconds_of_a_step(model: nn.Module, loss: Callable[[int], Tensor], steps: int = 5) -> float:
    """The median time of forward and backward, without a step: to give two models the same time. Model unchanged."""
    times = []
    for step in range(steps + 1):
        start = time.perf_counter()
        loss(step).backward()
        times.append(time.perf_counter() - start)
    model.zero_grad()
    return sorted(times[1:])[steps // 2]


def labelled_loss(model: Hope, tokens: Tensor, labels: Tensor) -> Tensor:
    """Mean -log p of the labels that are not -1, nats: tokens (B, T), labels (B, T)."""
    logits, _ = model(tokens)
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORE)


@torch.no_grad()
def labelled_accuracy(model: Hope, tokens: Tensor, labels: Tensor, batch: int = 250) -> Accuracy:
    """The shares of labels and of whole sequences that are right, computed in pieces of ``batch`` sequences."""
    from hope_ref.tasks.common import accuracy

    found = [model(piece)[0].argmax(-1) for piece in tokens.split(batch)]
    return accuracy(torch.cat(found).numpy(), labels.numpy())


# --- models of equal size ------------------------------------------------------------------------------------------------

MODELS: dict[str, dict[str, Any]] = {
    "HOPE": {},
    "Titans": {"mixer": "titans"},
    "gated delta rule": {"mixer": "gated_delta_rule"},
    "gated delta rule, β < 2": {"mixer": "gated_delta_rule", "beta_max": 2.0},
    "delta rule": {"mixer": "gated_delta_rule", "gated": False},
    "delta rule, β < 2": {"mixer": "gated_delta_rule", "gated": False, "beta_max": 2.0},
    "linear attention": {"mixer": "linear_attention"},
    "softmax attention": {"mixer": "softmax_attention"},
}  # by the names of the tables: what a model's configuration has beside that of HOPE
ELSEWHERE = ("vocabulary", "blocks", "mixer", "beta_max", "gated", "learned_rates", "window", "seed")


def memory_options(config: HopeConfig) -> dict[str, Any]:
    """The options that the settings of a cell call its config; the others follow from its model, task, blocks and seed."""
    options = json.loads(config.to_json())
    return {name: value for name, value in options.items() if name not in ELSEWHERE}


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def build(name: str, config: HopeConfig) -> Hope:
    """A model of `MODELS` at its starting values; a baseline is as wide as it takes to have as many parameters as HOPE.

    The width is the one that comes nearest; the counts differ by a few per cent at most.

    Args:
        name: of `MODELS`.
        config: of the HOPE that the model stands beside.
    Raises:
        ValueError: for an unknown name, or if config is another model's than HOPE's.
    """
    if name not in MODELS:
        raise ValueError(f"name must be one of {', '.join(map(repr, MODELS))}, got {name!r}")
    if config.mixer != "self_modifying_titans":
        raise ValueError(
            f"config must be that of a HOPE, mixer 'self_modifying_titans', got {config.mixer!r}"
        )
    if not MODELS[name]:
        return Hope(config)
    width = _equal_width(name, config.replace(seed=None))
    return Hope(config.replace(width=width, **MODELS[name]))


@lru_cache(maxsize=64)
def _equal_width(name: str, config: HopeConfig) -> int:
    """The width at which a baseline's count of parameters comes nearest to HOPE's."""

    def size(**options: Any) -> int:
        with torch.device("meta"):
            return parameters(Hope(config.replace(**options)))

    target = size()
    # Rotary positions turn pairs, so a head of softmax attention is even.
    step = config.heads * (2 if name == "softmax attention" else 1)
    widths = range(config.width, 2 * config.width + step, step)
    return min(widths, key=lambda width: abs(size(width=width, **MODELS[name]) - target))
