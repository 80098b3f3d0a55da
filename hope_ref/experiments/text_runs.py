"""A small model trained on real text, and what it is worth: what the experiments on text share. [D]

The text is Python's own manual (`tasks.text`), the recipe that of `training.presets.PRESETS["tiny"]`; windows of a step
are drawn from (seed, step) alone, and every model is tested on the same stretch that none has trained on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hope_ref.config import HopeConfig
from hope_ref.experiments import fitting
from hope_ref.experiments.cells import Measures
from hope_ref.parallel.hope import Hope
from hope_ref.tasks import text
from hope_ref.training.evaluation import bits_per_byte
from hope_ref.training.presets import PRESETS
from hope_ref.training.settings import TrainingSettings

LAST = 20  # steps whose mean loss is called the final one
KEPT = ("steps", "batch", "tokens", "lr", "betas", "weight_decay", "warmup", "schedule", "clip", "continuum")
CPU = torch.device("cpu")
Loss = Callable[[int], Tensor]


# --- settings -------------------------------------------------------------------------------------------------------


def settings_of(
    scale: str,
    steps: int,
    options: Mapping[str, Any] | None = None,
    model: str = "HOPE",
    training: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a cell trains: the tiny preset with other options; at the scale "quick" much smaller, for tests.

    Args:
        scale: "quick" or "full".
        steps: at full scale.
        options: of `HopeConfig`, where they differ from the preset's.
        model: a name of `fitting.MODELS`.
        training: of `TrainingSettings`, where they differ.
    """
    preset = PRESETS["tiny"]
    changes, different = {"steps": steps, **(training or {})}, dict(options or {})
    found: dict[str, Any] = {"model": model, "blocks": preset.config.blocks, "text": "pydoc_data.topics"}
    found["test_bytes"] = None  # all of them
    found["long"] = {"length": 8 * preset.training.tokens, "stride": preset.training.tokens}
    if scale == "quick":
        changes |= {"steps": 2, "batch": 2, "tokens": 16}
        different = {"width": 8, "memory_chunk_size": 4, "projection_chunk_size": 4, **different}
        found |= {"blocks": 1, "test_bytes": 200, "long": {"length": 64, "stride": 64}}
    recipe = TrainingSettings.from_dict({**preset.training.to_dict(), **changes}).to_dict()
    found["training"] = {name: recipe[name] for name in KEPT}
    found["config"] = fitting.memory_options(preset.config.replace(**different))
    return dict(json.loads(json.dumps(found)))


def training_of(settings: Mapping[str, Any], seed: int) -> TrainingSettings:
    """The recipe of a cell."""
    return TrainingSettings.from_dict({**settings["training"], "seed": seed})


# --- the text -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def parts() -> tuple[text.Split, dict[str, Any]]:
    """The text in three parts, and what is to be known of it: its name and checksum, and bits per byte without a model."""
    whole = text.load()
    cut = text.split(whole.data)
    return cut, {
        "name": whole.name,
        "sha256": whole.sha256,
        "train_bytes": len(cut.train),
        "test_bytes": len(cut.test),
        "entropy": text.byte_entropy(cut.test),
        "bigram": text.bigram_bits(cut.train, cut.test),
        "gzip": text.gzip_bits(cut.train, cut.test),
    }


def loss_of(model: Hope, training: TrainingSettings) -> Loss:
    """The mean loss of a step's windows, nats per byte."""
    train = parts()[0].train

    def loss(step: int) -> Tensor:
        drawn = text.windows(train, training.batch, training.tokens, (training.seed, step))
        return mean_loss(model, torch.from_numpy(drawn))

    return loss


def mean_loss(model: Hope, windows: Tensor) -> Tensor:
    """Mean -log p of every byte but the first of windows (B, T+1), nats."""
    logits, _ = model(windows[:, :-1])
    return cross_entropy(logits.flatten(0, -2), windows[:, 1:].flatten())


# --- training and testing -------------------------------------------------------------------------------------------


def built(settings: Mapping[str, Any], seed: int) -> Hope:
    """The model of a cell at its starting values; all bytes are its vocabulary."""
    own = {"vocabulary": text.SYMBOLS, "blocks": settings["blocks"], "seed": seed}
    return fitting.build(settings["model"], HopeConfig.from_dict({**settings["config"], **own}))


def trained(settings: Mapping[str, Any], seed: int) -> tuple[Hope, Measures]:
    """Train a cell's model: the model, and how the training went."""
    training, model = training_of(settings, seed), built(settings, seed)
    run = fitting.fit(model, loss_of(model, training), training, tokens=training.tokens)
    return model, {
        "steps": run.steps,
        "asked_steps": training.steps,
        "training_seconds": run.seconds,
        "seconds_per_step": run.seconds_per_step,
        "parameters": fitting.parameters(model),
        "width": model.config.width,
        "final_loss": mean(run.losses[-LAST:]) if run.losses else None,
    }


def tested(model: Hope, settings: Mapping[str, Any], edges: Sequence[int]) -> Measures:
    """Bits per byte of the test text: in windows of the training length, and by the place in long windows.

    Args:
        edges: of the stretches of places that a mean is taken of, rising, the first 0.
    """
    cut, about = parts()
    data = cut.test[: settings["test_bytes"]]
    long = settings["long"]
    by_place = bits_by_place(model, data, long["length"], long["stride"])
    return {
        "bits_per_byte": finite(bits_per_byte(model, data, training_of(settings, 0), CPU)),
        "places": {
            f"{first}-{last - 1}": finite(float(by_place[first:last].mean()))
            for first, last in zip(edges, [*edges[1:], long["length"]], strict=True)
        },
        "text": about,
    }


@torch.no_grad()
def bits_by_place(model: Hope, data: text.Bytes, length: int, stride: int, batch: int = 32) -> Tensor:
    """Mean -log₂ p of the byte at every place of windows that begin afresh every ``stride`` bytes, (length,).

    With a stride much smaller than the window nearly every byte is met at every place, so that places are compared on
    the same text.
    """
    starts = torch.arange(0, len(data) - length, stride)
    if not len(starts):
        raise ValueError(f"data must be longer than a window of {length} bytes, got {len(data)}")
    whole = torch.from_numpy(data.astype("int64"))
    total = torch.zeros(length, dtype=torch.float64)
    for rows in starts.split(batch):
        windows = whole[rows[:, None] + torch.arange(length + 1)]  # (B, length + 1)
        logits, _ = model(windows[:, :-1])
        total += bits(logits, windows[:, 1:]).double().sum(0)
    return total / len(starts)


def bits(logits: Tensor, targets: Tensor) -> Tensor:
    """-log₂ p of the targets one by one: logits (..., T, 256), targets (..., T)."""
    found = cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return found.reshape(targets.shape) / math.log(2)


def finite(value: float) -> float | None:
    """The number, or None where an overflow left none: JSON has no NaN."""
    return value if math.isfinite(value) else None


def time_ratio(model: Hope, other: Hope, loss: Loss, other_loss: Loss, rounds: int = 4) -> float:
    """How many steps of ``other`` fit in one of ``model``: forward and backward, the quickest of some rounds in turn.

    The quickest, since another program on the machine can only make a step slower.
    """
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for kept, own, step in zip(times, (model, other), (loss, other_loss), strict=True):
            kept.append(fitting.seconds_of_a_step(own, step, 3))
    return min(times[0]) / min(times[1])
