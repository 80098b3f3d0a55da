"""What a training run is, as data: `TrainingSettings`, and a `Run` that adds the model's `HopeConfig` and the text. JSON in and out. [D]"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import torch

from hope_ref.common.validation import one_of, positive_integer, scalar
from hope_ref.config import HopeConfig
from hope_ref.parallel.hope import Hope

CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": ("one_cycle", "cosine", "constant"),
    "optimizer": ("adamw", "m3"),
    "continuum": ("every_step", "scheduled"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "precision": ("float32", "bfloat16", "float64"),
    "parallelism": ("ddp", "fsdp"),
}  # the default first
BYTES = 256


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained; every field is checked, a wrong one raises a ValueError that names it."""

    steps: int = 300  # optimiser steps
    batch: int = 16  # sequences per step, over all processes together
    tokens: int = 128  # predictions per sequence
    lr: float = 3e-3  # the highest learning rate of the schedule
    betas: tuple[float, float] = (0.9, 0.98)  # decays of both moments; M3's third stays at its default
    weight_decay: float = 0.01  # of AdamW, on weights and memories; none on embedding, gains and biases
    warmup: float = 0.1  # share of the steps in which the learning rate rises
    schedule: str = "one_cycle"  # "cosine" falls to 0, "constant" stays after its warm-up
    clip: float = 1.0  # largest norm of the whole gradient; 0 does not clip
    optimizer: str = "adamw"  # "m3" for the matrices, AdamW for all else
    slow_every: int = 100  # steps between two moves of M3's slow momentum
    continuum: str = "every_step"  # "scheduled": level ℓ moves once in C^(ℓ) tokens [S 15, P 71]
    seed: int = 0  # of the windows of every step; that of the starting values is the model's
    device: str = "auto"  # CUDA if there is any, else the CPU
    precision: str = "float32"  # "bfloat16": autocast; the recurrences stay whole
    parallelism: str = "ddp"  # under torchrun: copies of the model, or one model in shards (FSDP2)
    recompute: bool = False  # less memory, more time: keep the memories' states between chunks alone
    log_every: int = 10  # steps
    checkpoint_every: int = 100  # steps
    evaluate_every: int = 100  # steps; 0 never evaluates
    evaluate_bytes: int = 8192  # of the validation text, read at every evaluation

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            one_of(name, getattr(self, name), allowed)
        for name in ("steps", "batch", "tokens", "slow_every", "log_every", "checkpoint_every"):
            object.__setattr__(self, name, positive_integer(name, getattr(self, name)))
        for name, least in (("seed", 0), ("evaluate_every", 0), ("evaluate_bytes", 2)):
            object.__setattr__(self, name, _integer(name, getattr(self, name), least))
        for name, high in (("weight_decay", torch.inf), ("warmup", 1.0), ("clip", torch.inf)):
            object.__setattr__(self, name, scalar(name, getattr(self, name), low=0, high=high))
        rate = scalar("lr", self.lr)
        if rate <= 0:
            raise ValueError(f"lr must be > 0, got {rate:g}")
        object.__setattr__(self, "lr", rate)
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas!r}")
        betas = tuple(scalar("betas", beta, low=0) for beta in self.betas)
        if max(betas) >= 1:
            raise ValueError(f"betas must be < 1, got max {max(betas):g}")
        object.__setattr__(self, "betas", betas)
        if not isinstance(self.recompute, bool):
            raise ValueError(f"recompute must be True or False, got {self.recompute!r}")

    def to_dict(self) -> dict[str, Any]:
        """Every setting by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> TrainingSettings:
        """The settings by name, the others at their defaults; an unknown name is an error."""
        return cls(**_known(cls, settings))

    def to_json(self) -> str:
        """Every setting as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> TrainingSettings:
        """The settings that `to_json` wrote; anything but one JSON object is an error."""
        return cls.from_dict(json_object(text))


@dataclass(frozen=True)
class Run:
    """All that decides what a training gives: the model, how it is trained, and on which text."""

    config: HopeConfig = field(default_factory=HopeConfig)  # its vocabulary >= 256: the text is bytes
    training: TrainingSettings = field(default_factory=TrainingSettings)
    text: str | None = None  # path of a file; None is Python's own language reference
    sha256: str = ""  # of the text, filled in when training starts, so that a resumed run cannot change it

    def __post_init__(self) -> None:
        for name, kind in (("config", HopeConfig), ("training", TrainingSettings)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(
                    f"{name} must be a {kind.__name__}, got {type(getattr(self, name)).__name__}"
                )
        if self.config.vocabulary < BYTES:
            raise ValueError(f"vocabulary must be >= {BYTES} for bytes, got {self.config.vocabulary}")
        if self.config.seed is None:
            raise ValueError("seed must be an integer >= 0 in the config of a run, got None")
        if self.text is not None and not isinstance(self.text, str):
            raise ValueError(f"text must be the path of a file or None, got {self.text!r}")
        if not isinstance(self.sha256, str):
            raise ValueError(f"sha256 must be hexadecimal digits or '', got {self.sha256!r}")

    def model(self) -> Hope:
        """The model at its starting values, float32, on the CPU."""
        return Hope(self.config)

    def parameters(self) -> int:
        """How many parameters the model has; counted on PyTorch's "meta" device, where nothing is stored."""
        with torch.device("meta"):
            return sum(one.numel() for one in Hope(self.config.replace(seed=None)).parameters())

    def to_dict(self) -> dict[str, Any]:
        """Everything by name, nested."""
        whole = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**whole, "config": self.config.to_dict(), "training": self.training.to_dict()}

    @classmethod
    def from_dict(cls, run: Mapping[str, Any]) -> Run:
        """The run by names, the others at their defaults; an unknown name, nested or not, is an error."""
        _this_version(run)
        found = _known(cls, run)
        for name, kind in (("config", HopeConfig), ("training", TrainingSettings)):
            if name in found:
                if not isinstance(found[name], dict):
                    raise ValueError(f"{name} must be an object of names and values, got {found[name]!r}")
                found[name] = kind.from_dict(found[name])
        return cls(**found)

    def to_json(self) -> str:
        """Everything as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Run:
        """The run that `to_json` wrote; anything but one JSON object is an error."""
        return cls.from_dict(json_object(text))

    def changed(self, **changes: Any) -> Run:
        """A copy with these changes, validated anew: names of this class, of `TrainingSettings` or of `HopeConfig`.

        ``seed`` is a name of both: of the model's starting values and of the windows. ``config={"seed": 1}`` changes one alone.
        """
        _this_version(changes)
        own = {one.name for one in fields(Run)}
        nested = {
            "config": {one.name for one in fields(HopeConfig)},
            "training": {one.name for one in fields(TrainingSettings)},
        }
        known = (own - set(nested)).union(*nested.values())
        unknown = sorted(set(changes) - own - known)
        if unknown:
            raise ValueError(f"unknown name {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        whole = self.to_dict()
        for name, value in changes.items():
            if name in own:
                parts = name in nested and isinstance(value, dict)
                whole[name] = {**whole[name], **value} if parts else value
            else:
                for part in (part for part, names in nested.items() if name in names):
                    whole[part][name] = value
        return Run.from_dict(whole)


def _this_version(run: Mapping[str, Any]) -> None:
    if "mixer_options" in run:
        raise ValueError(
            "run must be one of this version, whose config holds all options of the model, "
            "got mixer_options beside it: train it anew"
        )


def json_object(text: str) -> dict[str, Any]:
    """One JSON object as a dict. Raises: ValueError for anything else."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"text must be JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"text must be one JSON object, got {type(found).__name__}")
    return found


Kind = TypeVar("Kind")


def _known(kind: type[Kind], given: Mapping[str, Any]) -> dict[str, Any]:
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}; known: {', '.join(known)}")
    return dict(given)


def _integer(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    return value
