"""The last part of `make run`: train a tiny HOPE on real text, let a shipped one write, and let it learn while it reads. [D]"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import torch

from hope_ref.parallel.hope_adaptation import adapt
from hope_ref.parallel.ops import flushed_denormals
from hope_ref.tasks import text
from hope_ref.training.evaluation import SHIPPED, Trained, Worth, evaluate, generate, run_of, trained
from hope_ref.training.files import held_run
from hope_ref.training.folders import Claim, remove_run
from hope_ref.training.loop import train
from hope_ref.training.presets import PRESETS
from hope_ref.training.processes import cross_entropy

STEPS = 150  # of training, half a minute to a minute on one CPU thread
FOLDER = Path(
    "runs/make_run"
)  # its run is replaced each time: what is worth keeping is trained by `python -m hope_ref train`
PASSAGE = 4096  # bytes that are read twice
PROMPT = "The "


class Adapted(NamedTuple):
    """Bits per byte of one passage that the model has never seen."""

    still: float  # the continuum memory does not learn
    learning: float  # it learns while it reads
    again: float  # read a second time, all but the continuum memory begun afresh
    changed: float  # ‖θ - θ_0‖ / ‖θ_0‖ of the fastest level after the first reading


def passage() -> text.Bytes:
    """The beginning of the validation text: never trained on, not what the test reads."""
    return text.split(text.load().data).validation[:PASSAGE]


@torch.no_grad()
def adapted(asked: Trained, data: text.Bytes) -> Adapted:
    """Read a passage with its levels still, then with levels that learn from each segment once it is over, then again.

    Causal: the loss of a byte is counted before any level has learnt from it [P 71, D].
    """
    tokens = torch.tensor(data.tolist(), device=asked.device)
    targets = tokens[1:]

    def bits(logits: torch.Tensor) -> float:
        return float(cross_entropy(logits, targets)) / math.log(2)

    still, _ = asked.model(tokens[:-1])
    first = asked.model.initial_state()
    learning, after = adapt(asked.model, tokens[:-1])
    # The levels as they are now, everything else as before the first byte.
    blocks = tuple(
        fresh._replace(continuum=fresh.continuum._replace(levels=learnt.continuum.levels))
        for fresh, learnt in zip(first.blocks, after.now.blocks, strict=True)
    )
    again, _ = asked.model(tokens[:-1], first._replace(blocks=blocks))
    before, now = (state.blocks[0].continuum.levels[0].w1 for state in (first, after.now))
    changed = float(torch.linalg.vector_norm(now - before) / torch.linalg.vector_norm(before))
    return Adapted(bits(still), bits(learning), bits(again), changed)


def demonstrate(steps: int = STEPS, folder: Path = FOLDER) -> int:
    """Train, compare, generate, adapt, and print each; returns the exit status.

    Raises: ValueError if the text is not there; OSError if a file cannot be written.
    """
    run = PRESETS["tiny"].changed(steps=steps, checkpoint_every=steps, evaluate_every=0, device="cpu")
    print(f"\nTraining a HOPE of {run.parameters():,} parameters on {text.load().name}, {steps} steps:")
    if held_run(folder) is not None:  # the last demonstration's
        with Claim(folder, new=False):
            remove_run(folder)
    outcome = train(run, folder, quiet=False)
    if outcome.status == "interrupted":
        print("stopped; the rest of `make run` is left out")
        return 128 + outcome.signal
    with flushed_denormals():
        fresh, shipped = trained(outcome.checkpoint, "cpu"), trained(SHIPPED, "cpu")
        print("\n".join(comparison(evaluate(fresh), fresh)))
        print(f"  its loss, step by step: {folder / 'loss.png'}")
        print(f"\nThe shipped model, trained for {shipped.step} steps, goes on from {PROMPT!r}:")
        made = generate(shipped, PROMPT.encode(), 160, temperature=0.6, seed=1)
        print(f"  {PROMPT + made.decode('utf-8', errors='replace')!r}")
        print("\n".join(reading(adapted(shipped, passage()))))
    return 0 if outcome.status == "done" else 3


def comparison(worth: Worth, asked: Trained) -> list[str]:
    """Bits per byte beside what needs no training, and what to think of it."""
    bigram, gzip = worth.bigram or math.inf, worth.gzip or math.inf  # the text is there: it was just learnt
    rows = sorted(
        [
            (worth.model, f"this HOPE after {asked.step} steps"),
            (bigram, "pairs of bytes, counted in the training text"),
            (gzip, "gzip, with its window of 32 kB into the training text"),
            (worth.entropy, "single bytes: their entropy in this text"),
        ]
    )
    lines = [
        f"\nBits per byte on {worth.bytes:,} unseen bytes (lower is better; text {run_of(asked).sha256[:12]}…):",
        *(f"  {bits:6.3f}  {name}" for bits, name in rows),
    ]
    if worth.model < bigram and gzip < worth.model:
        lines.append("  Better than counting pairs; gzip, which remembers whole phrases, is still ahead.")
    return lines


def reading(found: Adapted) -> list[str]:
    """What adaptation changed, as lines."""
    return [
        f"\nThe shipped model reads {PASSAGE:,} unseen bytes; its continuum memory learns from each segment once it is over:",
        f"  {found.still:6.3f}  bits per byte, the continuum memory held still",
        f"  {found.learning:6.3f}  learning while it reads (its fastest level moves by {found.changed:.1%})",
        f"  {found.again:6.3f}  the same passage once more, from what the continuum memory has kept",
    ]
