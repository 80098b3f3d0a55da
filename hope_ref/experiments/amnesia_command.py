"""``python -m hope_ref amnesia``: what an emptied attention forgets, and a continuum memory that learned to remember it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from hope_ref.common.files import replacing
from hope_ref.common.outputs import replaceable, writable_folder
from hope_ref.common.validation import positive_integer, whole_number
from hope_ref.experiments import SHIPPED, amnesia
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.ops import flushed_denormals
from hope_ref.parallel.pretrained import CONFIG, WEIGHTS
from hope_ref.tasks.languages import CHANCE, WORDS

OUT = Path("runs/amnesia")
TABLE, PICTURE, MARK = "table.json", "amnesia.png", "% right once every word is asked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--steps", type=int, default=amnesia.STEPS, metavar="N", help=f"of training ({amnesia.STEPS})"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of starting values, lessons and dictionaries (0)"
    )
    parser.add_argument(
        "--shipped", action="store_true", help="train nothing: take the model that is shipped, at once"
    )
    parser.add_argument(
        "--lesson",
        action="append",
        metavar="PAIRS",
        help='a lesson of your own, such as "hund dog, katze cat"; twice for two. On a terminal it is asked for',
    )
    parser.add_argument(
        "--out", type=Path, default=OUT, metavar="FOLDER", help=f"where model, table and figure go ({OUT})"
    )


def main(arguments: argparse.Namespace) -> int:
    """Train, compare, draw, teach; 0 if all went well, 2 for wrong input."""
    steps, seed = positive_integer("steps", arguments.steps), whole_number("seed", arguments.seed)
    given = [amnesia.parsed(one) for one in arguments.lesson or ()]
    check_place(arguments.out)
    model = show(arguments.out, steps, seed, shipped=arguments.shipped)
    if given:
        print_replies(model, given)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        converse(model)
    return 0


def check_place(out: Path) -> None:
    """Raise a ValueError if something else would be overwritten."""
    writable_folder("out", out)
    replaceable("out", out / TABLE, MARK)
    replaceable("out", out / PICTURE, "PNG", "Description")
    if (out / WEIGHTS).exists() or (out / CONFIG).exists():
        try:
            known = Hope.load(out).config.difference(amnesia.config()) == ""
        except (ValueError, OSError):
            known = False
        if not known:
            raise ValueError(
                f"out must be a new folder or one that this command wrote, got {str(out)!r}, which holds another model"
            )


def show(out: Path, steps: int = amnesia.STEPS, seed: int = 0, *, shipped: bool = False) -> Hope:
    """Train the learned start, or take the shipped one; print the table; leave model, table and figure in a folder."""
    from hope_ref.teaching.figures import save
    from hope_ref.teaching.gallery.amnesia import amnesia as draw

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices of 32 columns are not worth sharing
    try:
        with flushed_denormals():
            model, seconds = _model(steps, seed, shipped)
            rows = amnesia.table(model, Hope.load(SHIPPED / "ordinary"), seed)
    finally:
        torch.set_num_threads(threads)
    print("\n".join(lines(rows, steps, seconds)))
    model.save(out)
    with replacing(out / TABLE) as file:
        file.write(json.dumps({"what": MARK, "rows": [row._asdict() for row in rows]}, indent=2).encode())
    print(f"  the figure: {save(draw(rows), out)}; the model: {out}")
    return model


def _model(steps: int, seed: int, shipped: bool) -> tuple[Hope, float]:
    """The model with a learned start, and the seconds that it took; 0 if it was shipped."""
    if shipped:
        return Hope.load(SHIPPED / "learned"), 0.0
    start = time.perf_counter()
    with tqdm(total=steps, desc="learn to remember", unit="step", leave=False, disable=None) as bar:

        def said(step: int, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.2f}", refresh=False)
            bar.update(step + 1 - bar.n)

        model, _ = amnesia.train(steps, seed, said)
    return model, time.perf_counter() - start


def lines(rows: Sequence[amnesia.Row], steps: int, seconds: float) -> list[str]:
    """The table as text."""
    how = f"trained just now, {steps} steps in {seconds:.0f} seconds" if seconds else "shipped"
    width = max(len(row.name) for row in rows)
    return [
        f"Two dictionaries of {WORDS} words, taught one after the other; then every word is asked on its own.",
        f"{MARK} (a blind guess: {100 * CHANCE:.1f}; the model was {how}):",
        f"  {'':<{width}}  first  second",
        *(f"  {row.name:<{width}}  {row.right[0]:5.1f}  {row.right[1]:6.1f}" for row in rows),
    ]


def converse(model: Hope) -> None:
    """Ask for lessons on the terminal, teach them, and ask every word back; an empty line ends it."""
    print(f'\nTeach it yourself: up to {WORDS} pairs, such as "hund dog, katze cat"; an empty line ends it.')
    given: list[amnesia.Lesson] = []
    while len(given) < amnesia.LANGUAGES:
        try:
            text = input(f"lesson {len(given) + 1}: ")
        except EOFError:
            break
        if not text.strip():
            break
        try:
            given.append(amnesia.parsed(text))
        except ValueError as error:
            print(f"  {error}")
    if given:
        print_replies(model, given)


def print_replies(model: Hope, given: Sequence[amnesia.Lesson]) -> None:
    """What the model says to every word, its attention emptied after each lesson."""
    replies = amnesia.taught(model, given)
    print("\nIts attention was emptied after each lesson; now it is asked:")
    for number, lesson in enumerate(replies, 1):
        for reply in lesson:
            mark = "" if reply.said == reply.wanted else f"   (taught: {reply.wanted})"
            print(f"  lesson {number}  {reply.word} → {reply.said}  {reply.share:.0%}{mark}")
    count = sum(reply.said == reply.wanted for lesson in replies for reply in lesson)
    print(f"  {count} of {sum(map(len, replies))} right")
