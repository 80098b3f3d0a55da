"""``python -m hope_ref generate``: let a trained model go on from a prompt, after learning from another text if wanted."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hope_ref.tasks import text
from hope_ref.training.evaluation import SHIPPED, generate, trained
from hope_ref.training.settings import CHOICES


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The arguments of ``python -m hope_ref generate``."""
    sub.add_argument(
        "checkpoint",
        type=Path,
        nargs="?",
        default=SHIPPED,
        metavar="CHECKPOINT",
        help="a checkpoint, the folder of a run, or that of a model (default: the tiny model that is shipped)",
    )
    sub.add_argument("--prompt", default="The ", metavar="TEXT", help="what to go on from ('The ')")
    sub.add_argument("--count", type=int, default=200, metavar="N", help="bytes to write (200)")
    sub.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        metavar="X",
        help="0 takes the likeliest byte; 1 draws (0.8)",
    )
    sub.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same seed writes the same text (0)"
    )
    sub.add_argument(
        "--adapt", type=Path, metavar="FILE", help="read this first; the continuum memory learns from it"
    )
    sub.add_argument("--device", choices=CHOICES["device"], default="auto", help="where to compute")


def main(arguments: argparse.Namespace) -> int:
    """Print prompt and continuation; 2 and a message on stderr for wrong input."""
    try:
        asked = trained(arguments.checkpoint, arguments.device)
        prompt = arguments.prompt.encode("utf-8", errors="surrogateescape")
        made = generate(
            asked,
            prompt,
            arguments.count,
            temperature=arguments.temperature,
            seed=arguments.seed,
            read_first=text.load(arguments.adapt).data.tobytes() if arguments.adapt else b"",
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print((prompt + made).decode("utf-8", errors="replace"))
    return 0
