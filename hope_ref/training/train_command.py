"""``python -m hope_ref train``: train a model on a text, and go on with it after whatever stopped it."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import Any

from hope_ref.common.assignment import assignment
from hope_ref.training import evaluation, files
from hope_ref.training.loop import train
from hope_ref.training.presets import LARGE, PRESETS
from hope_ref.training.settings import CHOICES, Run, json_object

DIVERGED = 3
EPILOG = """examples:
  python -m hope_ref train --out runs/first                  300 steps on Python's own manual, minutes on a laptop
  python -m hope_ref train --out runs/first --resume         go on after Ctrl-C, a crash or a power cut
  python -m hope_ref train --text book.txt --steps 1000 --set lr=1e-3 --set blocks=4 --out runs/book
  python -m hope_ref evaluate runs/first                     how well does it predict a text it has not seen?
  python -m hope_ref generate runs/first --prompt "The "     let it write
  torchrun --nproc-per-node 2 -m hope_ref train --out runs/first     the same on two GPUs

in the folder: checkpoint-*.pt (the last two), run.json (every option), metrics.jsonl (a line per logged step), loss.png
exit status: 0 done, 1 a file could not be written, 2 wrong input, 3 the loss became NaN or infinite, 130 Ctrl-C
"""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The arguments of ``python -m hope_ref train``."""
    sub.epilog, sub.formatter_class = EPILOG, argparse.RawDescriptionHelpFormatter
    sub.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        help="where the options start: tiny (2 blocks, width 64, 300 steps; the default), small (for one GPU), "
        "760m (on paper: see --describe)",
    )
    sub.add_argument(
        "--text", type=Path, metavar="FILE", help="any file to learn; default: Python's own manual"
    )
    sub.add_argument(
        "--config", type=Path, metavar="FILE.json", help="options as JSON, such as another run's run.json"
    )
    sub.add_argument(
        "--set",
        type=assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any option by name, e.g. lr=1e-3, blocks=4, optimizer=m3; may be given again; --describe lists all; "
        "seed=N sets the seeds of the model's starting values and of the windows",
    )
    sub.add_argument("--steps", type=int, metavar="N", help="optimiser steps")
    sub.add_argument(
        "--device", choices=CHOICES["device"], help="where to compute (auto: CUDA, else the CPU)"
    )
    sub.add_argument(
        "--out",
        type=Path,
        default=Path("runs/hope"),
        metavar="FOLDER",
        help="where everything goes (runs/hope)",
    )
    sub.add_argument("--resume", action="store_true", help="go on with the run in the folder, bit for bit")
    sub.add_argument(
        "--describe", action="store_true", help="print the run, its parameters and its memory; train nothing"
    )
    sub.add_argument(
        "--large", action="store_true", help=f"yes, train more than {LARGE // 10**6} million parameters here"
    )
    sub.add_argument(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="in the end, also write the model alone, as Hope.load reads it, to give away",
    )
    sub.add_argument("--quiet", action="store_true", help="no progress")


def wanted(arguments: argparse.Namespace) -> Run:
    """The run that the command line asks for. Raises: ValueError, naming what is wrong."""
    held = None
    if arguments.resume:
        held = files.held_run(arguments.out)
        if held is None:
            raise ValueError(
                f"out must be a folder with a run to resume, got {str(arguments.out)!r} without one"
            )
    started_from = arguments.preset or arguments.config
    run = held if held is not None and not started_from else PRESETS[arguments.preset or "tiny"]
    if arguments.config is not None:
        if not arguments.config.is_file():
            raise ValueError(f"config must be a file that exists, got {str(arguments.config)!r}")
        try:
            run = run.changed(**json_object(arguments.config.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"config, {arguments.config}: {error}") from error
    changes = dict(arguments.set)
    if arguments.text is not None:
        changes |= {"text": str(arguments.text.absolute()), "sha256": ""}
    for name in ("steps", "device"):
        if getattr(arguments, name) is not None:
            changes[name] = getattr(arguments, name)
    return run.changed(**changes)


def description(run: Run) -> str:
    """The run as JSON, and what it takes."""
    count = run.parameters()
    gigabytes = 16 * count / 1e9  # float32: the parameter, its gradient, two moments
    return (
        f"{run.to_json()}\n\n{count:,} parameters; with gradients and AdamW's moments {gigabytes:.2f} GB, "
        "activations not counted"
    )


def main(arguments: argparse.Namespace) -> int:
    """Train; the exit status is in the help."""
    try:
        run = wanted(arguments)
        if arguments.describe:
            print(description(run))
            return 0
        count = run.parameters()
        if count > LARGE and not arguments.large:
            raise ValueError(
                f"large must be given to train {count:,} parameters; --describe prints what they take"
            )
        bar = sys.stderr.isatty() and not arguments.quiet

        def report(record: dict[str, Any]) -> None:
            if not (bar or arguments.quiet):
                print(_line(record, run.training.steps), flush=True)

        outcome = train(run, arguments.out, resume=arguments.resume, quiet=not bar, report=report)
        if arguments.weights is not None and outcome.status == "done":
            evaluation.save(evaluation.trained(outcome.checkpoint, "cpu"), arguments.weights)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"error: {error}\nwhat was written before is whole: make room, then go on with --resume",
            file=sys.stderr,
        )
        return 1
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
            f"go on with --resume --out {arguments.out}",
            file=sys.stderr,
        )
        return 128 + outcome.signal
    print(f"{outcome.step} steps, {count:,} parameters: {outcome.checkpoint}")
    print(f"next: python -m hope_ref evaluate {arguments.out}")
    return 0


def _line(record: dict[str, Any], steps: int) -> str:
    found = f"step {record['step']:>6} of {steps}  {record['bits_per_byte']:.3f} bits per byte"
    if "validation_bits_per_byte" in record:
        found += f", validation {record['validation_bits_per_byte']:.3f}"
    return f"{found}  {record['tokens_per_second']:.0f} tokens/s"
