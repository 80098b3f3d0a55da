"""One loop for every training: steps, checkpoints, metrics; what is killed goes on as if nothing had happened. [D]"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from hope_ref.parallel.continuum_schedule import LevelSchedule
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.ops import flushed_denormals
from hope_ref.parallel.pretrained import WEIGHTS
from hope_ref.tasks.text import Split
from hope_ref.training import data, files, folders, optimizers
from hope_ref.training.evaluation import bits_per_byte
from hope_ref.training.processes import (
    DTYPES,
    World,
    autocast,
    joined,
    noted_signals,
    sharded,
    spread,
    whole,
)
from hope_ref.training.settings import Run

CURVE_SECONDS = 20.0  # between two drawings of the loss, at least
Report = Callable[[dict[str, Any]], None]


class Outcome(NamedTuple):
    """How a training ended."""

    status: str  # "done", "paused" (``until``), "interrupted" or "diverged"
    step: int  # steps taken, all told
    loss: float  # of the last batch, nats per byte; NaN if none was seen
    signal: int  # that interrupted it, 130 less 128 for Ctrl-C, else 0
    model: Hope
    checkpoint: Path


class Measured(NamedTuple):
    """What one step saw."""

    loss: float
    norm: float  # of the gradient, before it was clipped
    stop: bool  # whether a process was asked to


class Trainer:
    """The model, its optimiser and how far they are: all that a checkpoint holds."""

    def __init__(self, run: Run, parts: Split, world: World) -> None:
        self.run, self.parts, self.world = run, parts, world
        settings = run.training
        torch.manual_seed(settings.seed)
        self.model = run.model().to(world.device, DTYPES[settings.precision])
        self.objective: nn.Module = spread(self.model, settings, world)
        # After `spread`: of the shards, if there are any.
        self.optimizer = optimizers.make(self.model, settings)
        self.step = 0

    def advance(self, caught: list[int]) -> Measured:
        """One step, unless loss or gradient are not finite: then nothing has changed."""
        settings, world = self.run.training, self.world
        windows = data.batch(self.run, self.parts, self.step, world.rank, world.size).to(world.device)
        self.optimizer.zero_grad()
        with autocast(settings, world.device):
            loss = self.objective(windows, optimizers.is_plain(settings, self.step))
        loss.backward()
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        asked = torch.tensor(float(bool(caught)), device=world.device)
        mean, stop = world.mean(torch.stack([loss.detach().to(norm), asked.to(norm)])).tolist()
        found = Measured(mean, float(norm), bool(stop))
        if math.isfinite(found.loss) and math.isfinite(found.norm):
            if settings.clip:
                nn.utils.clip_grads_with_norm_(self.model.parameters(), settings.clip, norm)
            rate = optimizers.learning_rate(settings, self.step)
            optimizers.advance(self.optimizer, rate, settings.tokens)
            self.step += 1
        return found

    def validate(self) -> float:
        """Bits per byte on the beginning of the validation text; all processes compute the same."""
        settings = self.run.training
        stretch = self.parts.validation[: settings.evaluate_bytes]
        return bits_per_byte(self.model, stretch, settings, self.world.device, backend=settings.backend)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, nothing in shards; all processes must ask."""
        return {
            "run": self.run.to_json(),
            "model": whole(dict(self.model.state_dict())),
            "optimizer": whole(self.optimizer.state_dict()),
            "random": files.random_states(),
        }

    def start_from(self, model: Hope) -> None:
        """Begin with the weights of another model. Raises: ValueError if it is of another configuration."""
        if difference := self.run.config.difference(model.config):
            got, want = getattr(model.config, difference), getattr(self.run.config, difference)
            raise ValueError(f"start must be a model with {difference}={want!r}, got {got!r}")
        own = dict(self.model.named_parameters())
        weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
        self.model.load_state_dict(
            {name: sharded(t.to(own[name].dtype), own[name]) for name, t in weights.items()}
        )

    def load(self, content: dict[str, Any]) -> None:
        """Go on from what `state` returned. Raises: ValueError if it does not fit this run."""
        own = dict(self.model.named_parameters())
        files.check_weights(self.model, content["model"])
        self.model.load_state_dict({name: sharded(t, own[name]) for name, t in content["model"].items()})
        self.optimizer.load_state_dict(self._in_shards(content["optimizer"]))
        optimizers.check_state(self.optimizer)
        files.set_random_states(content["random"])
        self.step = content["step"]

    def _in_shards(self, state: dict[str, Any]) -> dict[str, Any]:
        """The optimiser's state, cut as the parameters are."""
        if isinstance(self.optimizer, LevelSchedule):
            held = [
                [None if g is None else sharded(g, p) for p, g in zip(level, gradients, strict=True)]
                for level, gradients in zip(self.optimizer.levels, state["gradients"], strict=True)
            ]
            return {**state, "gradients": held, "optimizer": self._of_parameters(state["optimizer"])}
        return self._of_parameters(state)

    def _of_parameters(self, state: dict[str, Any]) -> dict[str, Any]:
        if "state" not in state:  # of several optimisers, which are never in shards
            return state
        listed = [p for group in optimizers.groups_of(self.optimizer) for p in group["params"]]
        return {**state, "state": {i: sharded(one, listed[i]) for i, one in state["state"].items()}}


def train(
    run: Run,
    folder: str | Path,
    *,
    resume: bool = False,
    until: int | None = None,
    start: Hope | None = None,
    quiet: bool = True,
    report: Report | None = None,
) -> Outcome:
    """Train a run; everything it leaves lies in ``folder``: checkpoints, run.json, metrics.jsonl, loss.png.

    A run that was stopped, by Ctrl-C, a crash or ``until``, goes on with ``resume`` and gives, on a CPU with as many
    threads, bit for bit what it would have given in one piece. The data position is the step. The folder is locked
    meanwhile. A start that fails before its first step is over leaves nothing behind. Under torchrun all processes call this.

    Args:
        run: the model, how it is trained, the text. With ``resume`` it must be the run that the folder holds, or that
            run `Run.extended` once it has come to its end; the same text may lie elsewhere.
        folder: made if it is not there; without ``resume`` it must not hold files of the names that a run writes.
        until: pause, with a checkpoint, after so many steps all told.
        start: the model whose weights a new run begins with, instead of its configuration's own starting values.
        quiet: no progress bar.
        report: called with every line of metrics, in the process that writes.
    Returns:
        how it ended, with the model.
    Raises:
        ValueError: naming what is wrong; OSError if a file cannot be written: what was there before is whole.
    """
    folder, settings = Path(folder), run.training
    run, parts = data.prepared(run, folder)
    if start is not None:
        run = replace(run, start=fingerprint(start))
    new = not resume or not folders.files_of_a_run(folder)
    with (
        joined(settings) as world,
        flushed_denormals(),
        noted_signals(world.size == 1) as caught,
        ExitStack() as stack,
    ):
        claim = stack.enter_context(folders.Claim(folder, new)) if world.leads else None
        content = None if new else _content(folder, run)
        trainer = Trainer(run, parts, world)
        if content is not None:
            with files.naming(files.checkpoints(folder)[-1]):
                trainer.load(content)
        elif start is not None:
            trainer.start_from(start)
        elif run.start:
            raise ValueError(
                f"start must be the model that this run began with, got none, and no checkpoint in {str(folder)!r}"
            )
        if world.leads:
            _begin(folder, run, trainer.step)
        world.wait()
        if content is None or content["run"].training != settings:
            _save(
                trainer, folder
            )  # so that even the first steps, or the first added ones, can be gone on from
        last = settings.steps if until is None else min(until, settings.steps)
        try:
            return _steps(trainer, folder, last, caught, quiet, report)
        finally:
            if claim is not None and trainer.step:
                claim.keep()


def fingerprint(model: Hope) -> str:
    """The SHA-256 of a model's parameters, names and float32 values, in hexadecimal digits."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


# What may differ between a run and the one that goes on with it: where, by what and how often; and, once it is over, how it is extended.
FREE = ("device", "backend", "log_every", "checkpoint_every")
EXTENDED = ("steps", "schedule_start", "schedule", "lr", "warmup")


def _content(folder: Path, run: Run) -> dict[str, Any] | None:
    """The newest checkpoint, if there is one; what the folder holds must be of this run, or it is an error."""
    content = files.load_checkpoint(folder) if files.checkpoints(folder) else None
    started = files.held_run(folder) if content is None else content["run"]
    if started is None:
        raise ValueError(f"out must be a folder with a run to resume, got {str(folder)!r} without one")
    if content is None and (folder / WEIGHTS).exists():
        raise ValueError(
            f"checkpoint must hold its optimiser to be resumed, got weights alone in {str(folder)!r}"
        )
    held, wanted = started.to_dict(), run.to_dict()
    held["sha256"] = held["sha256"] or run.sha256  # it was killed before it knew
    over = content is not None and content["step"] == started.training.steps
    extended = over and run.training.schedule_start == started.training.steps
    for one in (held, wanted):
        del one["text"]  # a text is known by its checksum, wherever it lies
        for name in FREE + EXTENDED * extended:
            one["training"].pop(name)
    other = sorted(_differences(held, wanted))
    if other:
        raise ValueError(
            f"run must be the one that {str(folder)!r} holds to resume it, got {'; '.join(other)}"
        )
    return content


def _differences(held: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    found = []
    for name, value in held.items():
        if isinstance(value, dict) and isinstance(wanted[name], dict):
            found += _differences(value, wanted[name])
        elif value != wanted[name]:
            found.append(f"{name} {wanted[name]!r} instead of {value!r}")
    return found


def _begin(folder: Path, run: Run, step: int) -> None:
    """Make the folder ready: nothing after the checkpoint, nothing half written."""
    folders.sweep(folder)
    files.write_text(folder / files.RUN, run.to_json() + "\n")
    files.drop_after(folder / files.METRICS, step)


def _steps(
    trainer: Trainer, folder: Path, until: int, caught: list[int], quiet: bool, report: Report | None
) -> Outcome:
    from tqdm import tqdm

    settings, world = trainer.run.training, trainer.world
    found, status, saved = Measured(math.nan, math.nan, False), "done", trainer.step
    first, start = trainer.step, time.perf_counter()
    drawn = start
    with tqdm(
        total=settings.steps, initial=first, unit="step", disable=quiet or not world.leads, dynamic_ncols=True
    ) as bar:
        while trainer.step < until:
            rate = optimizers.learning_rate(settings, trainer.step)
            before, found = trainer.step, trainer.advance(caught)
            if trainer.step == before:
                status = "diverged"
                break
            last = trainer.step == settings.steps
            seconds = time.perf_counter() - start
            speed = (trainer.step - first) * settings.batch * settings.tokens / seconds
            bar.update()
            bar.set_postfix_str(f"loss {found.loss:.3f}, {speed:.0f} tokens/s", refresh=False)
            evaluated = {}
            if settings.evaluate_every and (last or trainer.step % settings.evaluate_every == 0):
                evaluated["validation_bits_per_byte"] = trainer.validate()
            if world.leads and (last or evaluated or trainer.step % settings.log_every == 0):
                record = {
                    "step": trainer.step,
                    "loss": found.loss,
                    "bits_per_byte": found.loss / math.log(2),
                    "lr": rate,
                    "gradient_norm": found.norm,
                    "seconds": seconds,
                    "tokens_per_second": speed,
                }
                files.append_line(folder / files.METRICS, record | evaluated)
                if report is not None:
                    report(record | evaluated)
            if last or trainer.step % settings.checkpoint_every == 0:
                saved = _save(trainer, folder)
                if world.leads and time.perf_counter() - drawn > CURVE_SECONDS:
                    files.draw_curve(folder)
                    drawn = time.perf_counter()
            if (found.stop or (caught and world.size == 1)) and not last:
                status = "interrupted"
                break
    if status == "done" and trainer.step < settings.steps:
        status = "paused"
    if saved != trainer.step and status != "done":
        _save(trainer, folder)
    if world.leads:
        files.draw_curve(folder)
    trainer.optimizer.zero_grad()
    number = 0 if status != "interrupted" else caught[0] if caught else signal.SIGINT
    return Outcome(
        status,
        trainer.step,
        found.loss,
        int(number),
        trainer.model,
        folder / files.checkpoint_name(trainer.step),
    )


def _save(trainer: Trainer, folder: Path) -> int:
    """A checkpoint of where the run is, by the process that writes; all must ask."""
    content = trainer.state()
    if trainer.world.leads:
        files.save_checkpoint(folder, trainer.step, content)
    trainer.world.wait()
    return trainer.step
