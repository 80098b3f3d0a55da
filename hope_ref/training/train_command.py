"""``python -m hope_ref train``: train a model on a text, and go on with it after whatever stopped it."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace

from hope_ref.common import command_line
from hope_ref.common.files import read_json
from hope_ref.config import HopeConfig
from hope_ref.parallel.hope import Hope
from hope_ref.training import evaluation, files, folders, memory
from hope_ref.training.loop import train
from hope_ref.training.presets import LARGE, PRESETS
from hope_ref.training.settings import Run, TrainingSettings

TEXT = "train a model on a text, and go on after whatever stopped it"
OUT = Path("runs/hope")
DIVERGED = 3
EPILOG = """examples: `train --out runs/first` trains for 300 steps on Python's own manual, minutes on a laptop;
`train --out runs/first --resume` goes on after Ctrl-C, a crash or a power cut, and with `--steps 600` beyond the end;
`train --text book.txt --steps 1000 --lr 1e-3 --blocks 4 --out runs/book` learns another text;
`train --from runs/first --text book.txt --out runs/second` begins with trained weights;
`torchrun --nproc-per-node 2 -m hope_ref train --out runs/first` uses two GPUs.
In the folder: checkpoint-*.pt (the last two), run.json (every option), metrics.jsonl (a line per logged step), loss.png.
Exit status: 0 done, 1 a file could not be written, 2 wrong input, 3 the loss became NaN or infinite, 130 Ctrl-C."""


def parser(prog: str) -> ArgumentParser:
    """The command line: options of its own, then every option of the model and of its training."""
    own = command_line.parser(prog, TEXT, EPILOG)
    own.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="where the options start: tiny (2 blocks, width 64, 300 steps; the default), small (for one GPU), "
        "760m (on paper: see --describe)",
    )
    own.add_argument(
        "--text", type=str, metavar="FILE", help="any file to learn; default: Python's own manual"
    )
    own.add_argument(
        "--config",
        type=str,
        metavar="FILE.json",
        help="options as JSON, such as another run's run.json; others go over it",
    )
    own.add_argument("--out", type=str, metavar="FOLDER", help=f"where everything goes ({OUT})")
    own.add_argument("--resume", action="store_true", help="go on with the run in the folder, bit for bit")
    own.add_argument(
        "--from",
        type=str,
        metavar="MODEL",
        help="begin with the weights of a checkpoint, of a run's folder or of a model's; the learning rate begins anew",
    )
    own.add_argument(
        "--describe", action="store_true", help="print the run, its parameters and its memory; train nothing"
    )
    own.add_argument(
        "--large", action="store_true", help=f"yes, train more than {LARGE // 10**6} million parameters here"
    )
    own.add_argument(
        "--weights",
        type=str,
        metavar="FOLDER",
        help="in the end, also write the model alone, as Hope.load reads it, to give away",
    )
    own.add_argument(
        "--tensorboard", action="store_true", help="metrics as TensorBoard reads them, too (in the folder)"
    )
    own.add_argument("--quiet", action="store_true", help="no progress")
    own.add_class_arguments(HopeConfig, skip={"seed"})
    own.add_class_arguments(TrainingSettings, skip={"seed", "schedule_start"})
    own.add_argument(
        "--seed",
        type=int,
        metavar="SEED",
        help="of the model's starting values and of the windows (default: 0)",
    )
    tiny = PRESETS["tiny"]
    settings = {**tiny.config.to_dict(), **tiny.training.to_dict()}
    del settings["schedule_start"]
    own.set_defaults(settings)  # what the help shows; those on the command line alone are read
    return own


class Wish(NamedTuple):
    """What a command line asks for."""

    run: Run
    out: Path
    resume: bool
    start: Hope | None
    weights: Path | None


def wish(arguments: Namespace) -> Wish:
    """The run that the command line asks for. Raises: ValueError, naming what is wrong."""
    chosen = vars(arguments)
    out, resume = Path(chosen.get("out", OUT)), bool(chosen.get("resume"))
    changes = {name: value for name, value in chosen.items() if name in _settings()}
    start = None
    if resume:
        if "from" in chosen:
            raise ValueError("from must not be given with resume: the run in the folder has its own weights")
        run = _held(out, chosen, changes)
    else:
        run = PRESETS[chosen.get("preset", "tiny")]
        if "from" in chosen:
            asked = evaluation.trained(chosen["from"], "cpu")
            run, start = _starting(asked, run if "preset" in chosen else None), asked.model
        run = _configured(run, chosen)
    if chosen.get("text") is not None:
        changes |= {"text": str(Path(chosen["text"]).absolute())} | ({} if resume else {"sha256": ""})
    run = run.changed(**changes)
    weights = Path(chosen["weights"]) if chosen.get("weights") is not None else None
    return Wish(run, out, resume, start, weights)


def _settings() -> set[str]:
    return {one.name for kind in (HopeConfig, TrainingSettings) for one in fields(kind)}


def _held(out: Path, chosen: dict[str, Any], changes: dict[str, Any]) -> Run:
    """The run in a folder, extended if it is over and more steps are wanted."""
    held = files.held_run(out) if os.path.isdir(out) else None
    if held is None:
        raise ValueError(f"out must be a folder with a run to resume, got {str(out)!r} without one")
    run = held
    if "preset" in chosen or "config" in chosen:
        run = _configured(PRESETS[chosen.get("preset", "tiny")], chosen)
    over = bool(files.checkpoints(out)) and files.last_step(out) == held.training.steps
    more = changes.get("steps", run.training.steps) > held.training.steps
    return run.extended(changes.pop("steps", run.training.steps)) if over and more else run


def _starting(asked: evaluation.Trained, preset: Run | None) -> Run:
    """A run for weights that are there: their configuration, and the recipe of a preset, else of their own training."""
    recipe = preset or asked.run or PRESETS["tiny"]
    training = recipe.training.to_dict() | {"schedule_start": 0}
    if preset is None and asked.run is not None:
        training["steps"] -= asked.run.training.schedule_start
    return Run(asked.model.config, TrainingSettings.from_dict(training), text=recipe.text)


def _configured(run: Run, chosen: dict[str, Any]) -> Run:
    """The run with the options of the file that --config names."""
    if chosen.get("config") is None:
        return run
    path = Path(chosen["config"])
    try:
        options = read_json(path)
    except OSError as error:
        raise ValueError(
            f"config must be a file that can be read, got {str(path)!r}: {error.strerror}"
        ) from error
    try:
        return run.changed(**options)
    except (ValueError, TypeError) as error:
        raise ValueError(f"config, {path}: {error}") from error


def description(run: Run) -> str:
    """The run as JSON, and what it takes."""
    count = run.parameters()
    gigabytes = 16 * count / 1e9  # float32: the parameter, its gradient, two moments
    return (
        f"{run.to_json()}\n\n{count:,} parameters; with gradients and AdamW's moments {gigabytes:.2f} GB, "
        "activations not counted"
    )


def main(arguments: Namespace) -> int:
    """Train; the exit status is in the help."""
    resume = bool(arguments.get("resume"))
    try:
        wanted = wish(arguments)
        run = wanted.run
        if arguments.get("describe"):
            print(description(run))
            return 0
        count = run.parameters()
        if count > LARGE and not arguments.get("large"):
            raise ValueError(
                f"large must be given to train {count:,} parameters; --describe prints what they take"
            )
        memory.check(run, count)
        if wanted.start is not None and (name := run.config.difference(wanted.start.config)):
            raise ValueError(
                f"{name} must be that of the model to start from, {getattr(wanted.start.config, name)!r}, "
                f"got {getattr(run.config, name)!r}"
            )
        if wanted.weights is not None:
            evaluation.check_place(wanted.weights, wanted.out)
        quiet = bool(arguments.get("quiet"))
        bar = sys.stderr.isatty() and not quiet
        board = wanted.out / "tensorboard" if arguments.get("tensorboard") else None
        if board is not None and not find_spec("tensorboard"):
            raise ValueError("tensorboard must be installed for --tensorboard: pip install tensorboard")
        report = Report(run, bar or quiet, board)
        outcome = train(
            run,
            wanted.out,
            resume=resume,
            start=wanted.start,
            quiet=not bar,
            report=report,
        )
        if wanted.weights is not None and outcome.status == "done":
            evaluation.save(evaluation.trained(outcome.checkpoint, "cpu"), wanted.weights)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {error}\nwhat was written before is whole: make room, then go on with --resume"
            if folders.files_of_a_run(wanted.out)
            else f"error: {error}\nnothing was left behind: make room, then start again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as asked:
        number = asked.args[0] if asked.args else signal.SIGINT
        print(f"{signal.Signals(number).name} twice: ended at once; {_rest(wanted.out)}", file=sys.stderr)
        return 128 + int(number)
    if outcome.status == "diverged":
        print(
            f"error: after {outcome.step} steps the loss or its gradient is not finite (loss {outcome.loss}); "
            f"the weights before that are in {outcome.checkpoint}; try a smaller lr, or clip",
            file=sys.stderr,
        )
        return DIVERGED
    if outcome.status == "interrupted":
        name = signal.Signals(outcome.signal).name
        print(
            f"{name} after {outcome.step} of {run.training.steps} steps; all is in {outcome.checkpoint}; "
            f"go on with --resume --out {wanted.out}",
            file=sys.stderr,
        )
        return 128 + outcome.signal
    print(f"{outcome.step} steps, {count:,} parameters: {outcome.checkpoint}")
    print(f"next: python -m hope_ref evaluate {wanted.out}")
    return 0


def _rest(out: Path) -> str:
    """What there is to go on from."""
    last = files.checkpoints(out)
    return f"go on from {last[-1].name} with --resume --out {out}" if last else "nothing was left behind"


class Report:
    """Prints a line for each record, and hands it to TensorBoard. A terminal that is gone does not stop a training."""

    def __init__(self, run: Run, quiet: bool, board: Path | None) -> None:
        self.run, self.quiet, self.board = run, quiet, board
        self._writer: Any = None

    def __call__(self, record: dict[str, Any]) -> None:
        if not self.quiet:
            try:
                print(_line(record, self.run.training), flush=True)
            except OSError:
                self.quiet = True
        if self.board is not None:
            self._writer = self._writer or board_in(self.board, record["step"])
            for name, value in record.items():
                if name != "step":
                    self._writer.add_scalar(name, value, record["step"])
            self._writer.flush()


def board_in(folder: Path, step: int) -> Any:
    """TensorBoard's writer; what an earlier process wrote from this step on is passed over."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step)


def _line(record: dict[str, Any], training: TrainingSettings) -> str:
    words = f"step {record['step']:>6} of {training.steps}  {record['bits_per_byte']:.3f} bits per byte"
    if "validation_bits_per_byte" in record:
        words += f", validation {record['validation_bits_per_byte']:.3f}"
    speed = record["tokens_per_second"]
    left = (training.steps - record["step"]) * training.batch * training.tokens / speed
    return f"{words}  {speed:.0f} tokens/s  {int(left) // 60}:{int(left) % 60:02d} left"
