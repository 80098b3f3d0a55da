"""One loop for every training: steps, checkpoints, metrics; what is killed goes on as if nothing had happened. [D]"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from tqdm import tqdm

from hope_ref.parallel.continuum_schedule import LevelSchedule
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.pretrained import WEIGHTS
from hope_ref.tasks.text import Split
from hope_ref.training import data, files, optimizers
from hope_ref.training.evaluation import bits_per_byte
from hope_ref.training.processes import (
    DTYPES,
    World,
    autocast,
    flushed_denormals,
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
            loss = self.objective(windows)
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
        return bits_per_byte(self.model, stretch, settings, self.world.device)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, nothing in shards; all processes must ask."""
        return {
            "run": self.run.to_json(),
            "model": whole(dict(self.model.state_dict())),
            "optimizer": whole(self.optimizer.state_dict()),
            "random": files.random_states(),
        }

    def load(self, content: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        own = dict(self.model.named_parameters())
        self.model.load_state_dict({name: sharded(t, own[name]) for name, t in content["model"].items()})
        self.optimizer.load_state_dict(self._in_shards(content["optimizer"]))
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
    quiet: bool = True,
    report: Report | None = None,
) -> Outcome:
    """Train a run; everything it leaves lies in ``folder``: checkpoints, run.json, metrics.jsonl, loss.png.

    A run that was stopped, by Ctrl-C, a crash or ``until``, goes on with ``resume`` and gives, on a CPU with as many
    threads, bit for bit what it would have given in one piece. The data position is the step. Under torchrun all
    processes call this.

    Args:
        run: the model, how it is trained, the text. With ``resume`` it must be the run that the folder holds.
        folder: made if it is not there; without ``resume`` it must not hold a run yet.
        until: pause, with a checkpoint, after so many steps all told.
        quiet: no progress bar.
        report: called with every line of metrics, in the process that writes.
    Returns:
        how it ended, with the model.
    Raises:
        ValueError: naming what is wrong; OSError if a file cannot be written: what was there before is whole.
    """
    folder, settings = Path(folder), run.training
    run, parts = data.prepared(run)
    with joined(settings) as world, flushed_denormals(), noted_signals(world.size == 1) as caught:
        content = _content(folder, run) if resume else None
        if world.leads:
            _begin(folder, run, content, resume)
        world.wait()
        trainer = Trainer(run, parts, world)
        if (
            content is None
        ):  # not: no file there, which a later process would find when the first has written it
            _save(trainer, folder)  # so that even the first steps can be gone on from
        else:
            trainer.load(content)
        last = settings.steps if until is None else min(until, settings.steps)
        return _steps(trainer, folder, last, caught, quiet, report)


def _content(folder: Path, run: Run) -> dict[str, Any] | None:
    """The newest checkpoint, if there is one; what the folder holds must be of this run, or it is an error."""
    started = files.held_run(folder)
    if started is None:
        return None
    content = files.load_checkpoint(folder) if files.checkpoints(folder) else None
    if content is None and (folder / WEIGHTS).exists():
        raise ValueError(
            f"checkpoint must hold its optimiser to be resumed, got weights alone in {str(folder)!r}"
        )
    held, wanted = started.to_dict(), run.to_dict()
    for one in (held, wanted):  # where it is computed, and how often it is told, is not what it is
        for name in ("device", "log_every", "checkpoint_every"):
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


def _begin(folder: Path, run: Run, content: dict[str, Any] | None, resume: bool) -> None:
    """Make the folder ready: nothing of another run in it, nothing after the checkpoint, nothing half written."""
    if not resume and (files.checkpoints(folder) or (folder / files.RUN).exists()):
        raise ValueError(
            f"out must be a folder without a run, got {str(folder)!r}: resume it, or name another"
        )
    folder.mkdir(parents=True, exist_ok=True)
    files.sweep(folder)
    files.write_text(folder / files.RUN, run.to_json() + "\n")
    files.drop_after(folder / files.METRICS, 0 if content is None else content["step"])


def _steps(
    trainer: Trainer, folder: Path, until: int, caught: list[int], quiet: bool, report: Report | None
) -> Outcome:
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
