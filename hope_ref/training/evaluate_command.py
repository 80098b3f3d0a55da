"""``python -m hope_ref evaluate``: how well a trained model predicts a text, beside what needs no training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hope_ref.tasks import text
from hope_ref.training.evaluation import SHIPPED, evaluate, run_of, trained
from hope_ref.training.settings import CHOICES


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The arguments of ``python -m hope_ref evaluate``."""
    sub.add_argument(
        "checkpoint",
        type=Path,
        nargs="?",
        default=SHIPPED,
        metavar="CHECKPOINT",
        help="a checkpoint, the folder of a run, or that of a model with its run.json (default: the tiny model that is shipped)",
    )
    sub.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="a whole other text (default: the last 5 %% of the run's own)",
    )
    sub.add_argument(
        "--carry",
        action="store_true",
        help="also with one state carried through the whole text, not in windows",
    )
    sub.add_argument("--device", choices=CHOICES["device"], default="auto", help="where to compute")


def main(arguments: argparse.Namespace) -> int:
    """Print bits per byte; 2 and a message on stderr for wrong input."""
    try:
        asked = trained(arguments.checkpoint, arguments.device)
        found = evaluate(asked, arguments.text, carry=arguments.carry)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    run = run_of(asked)
    tokens = run.training.tokens
    rows = [(f"this model after {asked.step} steps, in windows of {tokens} bytes", found.model)]
    if found.carried is not None:
        rows.append(("this model, its state carried through the text", found.carried))
    rows += [
        ("gzip, which has seen the training text", found.gzip),
        ("pairs of bytes, counted in the training text", found.bigram),
        ("single bytes: their entropy in this text", found.entropy),
        ("a blind guess", 8.0),
    ]
    print(f"bits per byte on {found.bytes:,} bytes (lower is better)")
    for name, bits in rows:
        print(f"  {bits:6.3f}  {name}")
    if arguments.text is None and text.load(run.text).sha256 != run.sha256:
        print("note: the text is not the one of its training (another Python, or the file has changed)")
    return 0
