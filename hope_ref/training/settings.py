"""What a training run is, as data: `TrainingSettings`, and a `Run` that adds the model's `HopeConfig` and the text. JSON in and out. [D]"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar, get_args

import torch

from hope_ref.common.documented import documented
from hope_ref.common.files import json_object
from hope_ref.common.validation import one_of, positive_integer, scalar, whole_number
from hope_ref.config import HopeConfig
from hope_ref.parallel import kernels
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.parallel.sizes import parameter_count

Schedule = Literal["one_cycle", "cosine", "constant"]
OptimizerName = Literal["adamw", "m3"]
Continuum = Literal["every_step", "scheduled", "meta"]
MetaMixers = Literal["carried", "emptied"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["float32", "bfloat16", "float64"]
Parallelism = Literal["ddp", "fsdp"]
Backend = Literal["torch", "triton", "compiled", "auto"]
CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": get_args(Schedule),
    "optimizer": get_args(OptimizerName),
    "continuum": get_args(Continuum),
    "meta_mixers": get_args(MetaMixers),
    "device": get_args(Device),
    "precision": get_args(Precision),
    "parallelism": get_args(Parallelism),
    "backend": get_args(Backend),
}  # the default first
BYTES = 256


@documented
@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained; every field is checked, a wrong one raises a ValueError that names it."""

    steps: int = 300
    """Optimiser steps, all told."""
    batch: int = 16
    """Sequences per step, over all processes together."""
    tokens: int = 128
    """Predictions per sequence."""
    lr: float = 3e-3
    """Highest learning rate of the schedule."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decays of both moments; M3's third stays at its default."""
    weight_decay: float = 0.01
    """AdamW's, on weights and memories; embedding, gains and biases have none."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises."""
    schedule: Schedule = "one_cycle"
    """How the learning rate falls after the warm-up: "one_cycle" and "cosine" to about 0, "constant" not at all."""
    clip: float = 1.0
    """Largest norm of the whole gradient; 0 does not clip."""
    optimizer: OptimizerName = "adamw"
    """What moves the parameters: AdamW, or "m3" for matrices and stacks of them, with AdamW for all else."""
    slow_every: int = 100
    """Steps between two moves of M3's slow momentum."""
    continuum: Continuum = "every_step"
    """How the levels of the continuum memory are trained: their starts by every step; "scheduled", level ℓ once in C^(ℓ) tokens [S 15, P 71]; "meta", through the updates that they make while reading a window [P 73]."""
    meta_mixers: MetaMixers = "carried"
    """With "meta": whether mixers go through the whole window, or begin anew ("emptied") with every chunk of the fastest level."""
    meta_segments: int = 0
    """With "meta": truncation after so many chunks of the fastest level; beyond, what a level has moved by counts as a constant. 0: none."""
    meta_plain: int = 0
    """With "meta": one step in so many is an ordinary one, with levels that stand still. 0: none is."""
    seed: int = 0
    """Seed of the windows of every step; that of the starting values is the model's."""
    device: Device = "auto"
    """Where to compute; "auto" is CUDA if there is any, else the CPU."""
    precision: Precision = "float32"
    """Of the parameters; "bfloat16" is autocast, in which the recurrences stay in float32."""
    parallelism: Parallelism = "ddp"
    """Under torchrun: copies of the model ("ddp"), or one model in shards ("fsdp", FSDP2)."""
    backend: Backend = "torch"
    """What computes the memories: PyTorch; the Triton kernels, on a GPU; each chunk compiled; "auto": the kernels where they can run."""
    recompute: bool = False
    """Less memory, more time: keep only the states at chunk boundaries."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    checkpoint_every: int = 100
    """Steps between two checkpoints."""
    evaluate_every: int = 100
    """Steps between two evaluations on the validation text; 0 never evaluates."""
    evaluate_bytes: int = 8192
    """Bytes of the validation text that an evaluation reads."""
    schedule_start: int = 0
    """Step at which the learning-rate schedule begins: where an earlier training ended, if this one goes on with it."""

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            one_of(name, getattr(self, name), allowed)
        for name in ("steps", "batch", "tokens", "slow_every", "log_every", "checkpoint_every"):
            object.__setattr__(self, name, positive_integer(name, getattr(self, name)))
        for name, least in (
            ("seed", 0),
            ("evaluate_every", 0),
            ("evaluate_bytes", 2),
            ("schedule_start", 0),
            ("meta_segments", 0),
            ("meta_plain", 0),
        ):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.seed >= 2**63:
            raise ValueError(f"seed must be < 2**63, got {self.seed}")
        if self.schedule_start >= self.steps:
            raise ValueError(f"schedule_start must be < steps, {self.steps}, got {self.schedule_start}")
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
        if self.continuum == "meta":
            if self.recompute:
                raise ValueError("recompute must be False with continuum='meta', got True")
            if self.backend != "torch":
                raise ValueError(f"backend must be 'torch' with continuum='meta', got {self.backend!r}")
            if self.parallelism == "fsdp":
                raise ValueError("parallelism must be 'ddp' with continuum='meta', got 'fsdp'")

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
    sha256: str = ""  # of the text, filled in when training starts: a text is known by it, wherever it lies
    start: str = ""  # SHA-256 of the weights that training started from; "": the configuration's own

    def __post_init__(self) -> None:
        for name, kind in (("config", HopeConfig), ("training", TrainingSettings)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(
                    f"{name} must be a {kind.__name__}, got {type(getattr(self, name)).__name__}"
                )
        if self.config.vocabulary < BYTES:
            raise ValueError(f"vocabulary must be >= {BYTES} for bytes, got {self.config.vocabulary}")
        size, tokens = self.config.levels_chunk_sizes[0], self.training.tokens
        if self.training.continuum == "meta" and self.config.signal != "task":
            raise ValueError(f"signal must be 'task' with continuum='meta', got {self.config.signal!r}")
        if self.training.continuum == "meta" and (tokens % size or tokens < 2 * size):
            raise ValueError(
                f"tokens must be at least two chunks of the fastest level, and whole ones, 2 * {size}, "
                f"with continuum='meta', got {tokens}"
            )
        if lacks := self._backend_lacks():
            raise ValueError(lacks)
        if self.config.seed is None:
            raise ValueError("seed must be an integer >= 0 in the config of a run, got None")
        if self.text is not None and not isinstance(self.text, str):
            raise ValueError(f"text must be the path of a file or None, got {self.text!r}")
        for name in ("sha256", "start"):
            digits = getattr(self, name)
            if not isinstance(digits, str) or (digits and not re.fullmatch("[0-9a-f]{64}", digits)):
                raise ValueError(f"{name} must be 64 hexadecimal digits or '', got {digits!r}")

    def _backend_lacks(self) -> str:
        """Which option, size or dtype of this model the backend does not have; empty if it has all."""
        config, backend = self.config, self.training.backend
        if backend in ("triton", "compiled") and not MIXERS[config.mixer].has_kernels:
            known = ", ".join(repr(name) for name, mixer in MIXERS.items() if mixer.has_kernels)
            return f"mixer must be one of {known} with backend={backend!r}, got {config.mixer!r}"
        if backend != "triton":
            return ""
        dtype = torch.float64 if self.training.precision == "float64" else torch.float32
        if config.mixer == "self_modifying_titans":
            return kernels.unsupported(config, dtype, config.head_width)
        return kernels.too_wide(config.head_width, dtype)

    def model(self) -> Hope:
        """The model at its starting values, float32, on the CPU."""
        return Hope(self.config)

    def parameters(self) -> int:
        """How many parameters the model has, see `parameter_count`."""
        return parameter_count(self.config)

    def extended(self, steps: int, **changes: Any) -> Run:
        """This run with more steps after its end, on a learning-rate schedule of their own: to be resumed.

        Args: steps, all told; changes, of schedule, lr or warmup.
        """
        return self.changed(steps=steps, schedule_start=self.training.steps, **changes)

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


Kind = TypeVar("Kind")


def _known(kind: type[Kind], given: Mapping[str, Any]) -> dict[str, Any]:
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    unknown = [str(name) for name in given if name not in known]
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}; known: {', '.join(known)}")
    return dict(given)
