"""What a trained model is worth: bits per byte beside what needs no training, and text that it writes. [D]"""

from __future__ import annotations

import math
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch

from hope_ref.parallel.hope import Hope
from hope_ref.parallel.hope_adaptation import adapt
from hope_ref.tasks import text
from hope_ref.training.data import pieces
from hope_ref.training.files import load_checkpoint
from hope_ref.training.processes import DTYPES, autocast, chosen_device, cross_entropy
from hope_ref.training.settings import Run, TrainingSettings

# A tiny HOPE, trained on Python's own manual: weights alone, so that `generate` works at once. How it was made is in it.
SHIPPED = Path(str(resources.files("hope_ref.training") / "shipped.pt"))


class Trained(NamedTuple):
    """A checkpoint as a model that can be asked."""

    model: Hope
    run: Run
    step: int
    device: torch.device


class Worth(NamedTuple):
    """Bits per byte of one text."""

    model: float
    carried: float | None  # with the state carried through the whole text
    bigram: float
    gzip: float
    entropy: float
    bytes: int


def trained(path: str | Path, device: str = "auto") -> Trained:
    """Load a checkpoint, a file or a folder's newest. Raises: ValueError if it is not whole or the device is not there."""
    content, where = load_checkpoint(Path(path)), chosen_device(device)
    run = content["run"]
    model = run.model().to(where, DTYPES[run.training.precision]).eval()
    model.load_state_dict(content["model"])
    return Trained(model, run, content["step"], where)


@torch.no_grad()
def bits_per_byte(
    model: Hope, data: text.Bytes, settings: TrainingSettings, device: torch.device, *, carry: bool = False
) -> float:
    """Mean -log₂ p(next byte) over a text of at least two bytes.

    Windows of the length of training begin afresh, as they did in training; with ``carry`` one state goes through the
    whole text, in as many lanes side by side as a batch has sequences.
    """
    total, count, state = 0.0, 0, None
    lanes = min(settings.batch, max(1, (len(data) - 1) // settings.tokens)) if carry else 1
    source = (
        map(torch.from_numpy, text.stream(data, settings.tokens, lanes))
        if carry
        else pieces(data, settings.tokens, settings.batch)
    )
    for piece in source:
        piece = piece.to(device)
        with autocast(settings, device):
            logits, after = model(piece[:, :-1], state)
        number = piece[:, 1:].numel()
        total += float(cross_entropy(logits, piece[:, 1:])) * number
        count += number
        state = after if carry else None
    return total / count / math.log(2)


def evaluate(asked: Trained, path: str | Path | None = None, *, carry: bool = False) -> Worth:
    """Bits per byte on the run's own test text, or on a whole other file, beside what needs no training.

    Bigrams and gzip have seen the run's training text, as the model has. Raises: ValueError if a text is not there.
    """
    own = text.split(text.load(asked.run.text).data)
    data = own.test if path is None else text.load(path).data
    if len(data) < 2:
        raise ValueError(f"text must have at least 2 bytes, got {len(data)}")
    settings = asked.run.training
    return Worth(
        bits_per_byte(asked.model, data, settings, asked.device),
        bits_per_byte(asked.model, data, settings, asked.device, carry=True) if carry else None,
        text.bigram_bits(own.train, data),
        text.gzip_bits(own.train, data),
        text.byte_entropy(data),
        len(data),
    )


def generate(
    asked: Trained,
    prompt: bytes,
    count: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    read_first: bytes = b"",
) -> bytes:
    """Go on from a prompt, byte by byte; with ``read_first`` the continuum memory learns from that text before.

    Raises: ValueError, naming the argument, what it got and what it wants.
    """
    if not prompt:
        raise ValueError("prompt must have at least 1 byte, got none")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be an integer >= 0, got {seed!r}")

    def tokens(raw: bytes) -> torch.Tensor:
        return torch.tensor(list(raw), dtype=torch.int64, device=asked.device)

    state = None
    if read_first:
        _, learned = adapt(asked.model, tokens(read_first))
        state = learned.now
    generator = torch.Generator(asked.device).manual_seed(seed)
    made, _ = asked.model.generate(tokens(prompt), count, state, temperature=temperature, generator=generator)
    return bytes(made.clamp_max(text.SYMBOLS - 1).tolist())
