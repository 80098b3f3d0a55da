"""``python -m hope_ref generate``: let a trained model go on from a prompt, after learning from another text if wanted."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from hope_ref.common import command_line
from hope_ref.common.documented import documented
from hope_ref.tasks import text
from hope_ref.training.evaluation import SHIPPED, generate, trained
from hope_ref.training.settings import Device

TEXT = "let a trained model go on from a prompt"


@documented
@dataclass(frozen=True)
class Writing:
    """What is written, and how."""

    prompt: str = "The "
    """What to go on from."""
    count: int = 200
    """Bytes to write."""
    temperature: float = 0.8
    """0 takes the likeliest byte; 1 draws from the model's probabilities."""
    seed: int = 0
    """The same seed writes the same text."""
    adapt: str | None = None
    """A file to read first; the continuum memory learns from it."""
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
        help="a checkpoint, the folder of a run, or that of a model (the tiny model that is shipped)",
    )
    own.add_class_arguments(Writing)
    return own


def main(arguments: Namespace) -> int:
    """Print prompt and continuation; 2 and a message on stderr for wrong input."""
    chosen = vars(arguments)
    place = chosen.pop("checkpoint", None)
    try:
        wanted = Writing(**chosen)
        asked = trained(SHIPPED if place is None else Path(place), wanted.device)
        prompt = wanted.prompt.encode("utf-8", errors="surrogateescape")
        made = generate(
            asked,
            prompt,
            wanted.count,
            temperature=wanted.temperature,
            seed=wanted.seed,
            read_first=text.load(wanted.adapt, "adapt").data.tobytes() if wanted.adapt else b"",
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print((prompt + made).decode("utf-8", errors="replace"))
    return 0
