"""``python -m hope_ref evaluate``: how well a trained model predicts a text, beside what needs no training."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from hope_ref.common import command_line
from hope_ref.common.documented import documented
from hope_ref.training.evaluation import SHIPPED, evaluate, run_of, trained, training_text
from hope_ref.training.settings import Device

TEXT = "how well a trained model predicts a text"


@documented
@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and how."""

    text: str | None = None
    """A whole other file; none: the last 5 % of the text of its training."""
    device: Device = "auto"
    """Where to compute; "auto" is CUDA if there is any, else the CPU."""


def parser(prog: str) -> ArgumentParser:
    """The command line."""
    own = command_line.parser(prog, TEXT)
    own.add_argument(
        "checkpoint",
        type=str,
        nargs="?",
        metavar="CHECKPOINT",
        help="a checkpoint, the folder of a run, or that of a model with its run.json (the tiny model that is shipped)",
    )
    own.add_argument(
        "--carry",
        action="store_true",
        help="also with one state carried through the whole text, not in windows",
    )
    own.add_class_arguments(Evaluation)
    return own


def main(arguments: Namespace) -> int:
    """Print bits per byte; 2 and a message on stderr for wrong input."""
    chosen = vars(arguments)
    carry, place = bool(chosen.pop("carry", False)), chosen.pop("checkpoint", None)
    try:
        options = Evaluation(**chosen)
        asked = trained(SHIPPED if place is None else Path(place), options.device)
        worth = evaluate(asked, options.text, carry=carry)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    run = run_of(asked)
    tokens = run.training.tokens
    how = ", its levels learning" if worth.still is not None else ""
    rows: list[tuple[str, float | None]] = [
        (f"this model after {asked.step} steps, in windows of {tokens} bytes{how}", worth.model),
        ("the same, its levels held still", worth.still),
        ("this model, its state carried through the text", worth.carried),
        ("gzip, which has seen the training text", worth.gzip),
        ("pairs of bytes, counted in the training text", worth.bigram),
        ("single bytes: their entropy in this text", worth.entropy),
        ("a blind guess", 8.0),
    ]
    print(f"bits per byte on {worth.bytes:,} bytes (lower is better)")
    for name, bits in rows:
        if bits is not None:
            print(f"  {bits:6.3f}  {name}")
    own = training_text(asked)
    if worth.gzip is None:
        print(
            "note: the text of its training is not here, so gzip and pairs of bytes, which would learn from it, are left out"
        )
    elif own is not None and own.sha256 != run.sha256:
        print("note: the text is not the one of its training (another Python, or the file has changed)")
    return 0
