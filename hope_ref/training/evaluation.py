"""What a trained model is worth: bits per byte beside what needs no training, and text that it writes. [D]"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from hope_ref.common.outputs import writable_folder
from hope_ref.common.validation import positive_integer, whole_number
from hope_ref.parallel.hope import Hope
from hope_ref.parallel.hope_adaptation import adapt
from hope_ref.parallel.lessons import read
from hope_ref.parallel.pretrained import CONFIG, WEIGHTS
from hope_ref.parallel.sizes import check_fits
from hope_ref.tasks import text
from hope_ref.training import SHIPPED as SHIPPED
from hope_ref.training.data import located, pieces
from hope_ref.training.files import (
    RUN,
    check_weights,
    checkpoints,
    load_checkpoint,
    naming,
    read_run,
    write_text,
)
from hope_ref.training.folders import files_of_a_run
from hope_ref.training.processes import DTYPES, autocast, chosen_device, cross_entropy
from hope_ref.training.settings import BYTES, Run, TrainingSettings


class Trained(NamedTuple):
    """A model that can be asked."""

    model: Hope
    run: Run | None  # how it was made; None if nothing beside it says so
    step: int | None  # steps of its training
    device: torch.device
    folder: Path | None = None  # where it lay


class Worth(NamedTuple):
    """Bits per byte of one text."""

    model: float  # read as in training: with continuum="meta" its levels learn in every window
    carried: float | None  # with the state carried through the whole text
    bigram: float | None  # None without the training text, as for gzip
    gzip: float | None
    entropy: float
    bytes: int
    still: float | None = None  # of a model whose levels learn while they read: with levels that stand still


def trained(path: str | Path, device: str = "auto") -> Trained:
    """Load a checkpoint, a folder's newest, or a model from a folder of `Hope.save`, with its run if run.json lies there.

    Raises: ValueError if it is not whole, its tokens are not bytes, its weights are not finite, or the device is not there;
        OSError if a file cannot be read.
    """
    path, where = Path(path), chosen_device(device)
    if os.path.isdir(path) and (path / WEIGHTS).is_file() and not checkpoints(path):
        model = Hope.load(path, where).eval()
        if model.config.vocabulary < BYTES:
            raise ValueError(
                f"checkpoint must be a model of bytes, vocabulary >= {BYTES}, got {model.config.vocabulary}"
            )
        run = read_run(path / RUN) if (path / RUN).is_file() else None
        if run is not None and (name := model.config.difference(run.config)):
            raise ValueError(f"{path / RUN} must be of the model beside it, got another {name}")
        return Trained(model, run, None if run is None else run.training.steps, where, path)
    content = load_checkpoint(path)
    run = content["run"]
    file = checkpoints(path)[-1] if os.path.isdir(path) else path
    with naming(file):
        check_fits("checkpoint", 4 * run.parameters(), where)
        model = run.model().to(where, DTYPES[run.training.precision]).eval()
        check_weights(model, content["model"])
        model.load_state_dict(content["model"])
    return Trained(model, run, content["step"], where, file.parent)


def save(model: Trained, folder: Path) -> None:
    """Write a model as `Hope.save` does, to give away, with run.json beside it: how it was made.

    Of the training text it says the name and the checksum, not where it lay.
    Raises: ValueError if its training is not over; OSError.
    """
    run = run_of(model)
    if model.step != run.training.steps:
        raise ValueError(f"checkpoint must be the last of its run, {run.training.steps}, got {model.step}")
    model.model.save(folder)
    name = None if run.text is None else Path(run.text).name
    write_text(folder / RUN, replace(run, text=name).to_json() + "\n")


def check_place(folder: Path, out: Path) -> None:
    """Raise a ValueError if a model to give away would be written into a run's folder, or over what is no such model."""
    writable_folder("weights", folder)
    if folder.resolve() == out.resolve():
        raise ValueError(f"weights must be another folder than out, got {str(folder)!r} for both")
    if files_of_a_run(folder) not in ([], [folder / RUN]):
        raise ValueError(f"weights must be a folder without a run, got {str(folder)!r}")
    present = [name for name in (CONFIG, WEIGHTS, RUN) if (folder / name).exists()]
    if not present:
        return
    try:
        Hope.load(folder)
        if RUN in present:
            read_run(folder / RUN)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"weights must be a new folder or that of a model, got {str(folder)!r}, whose {', '.join(present)} "
            "would be overwritten"
        ) from error


def run_of(model: Trained) -> Run:
    """How a model was made. Raises: ValueError if nothing says so."""
    if model.run is None:
        raise ValueError(
            f"checkpoint must have {RUN} beside it to be evaluated: it says how long its windows were, and which text it learnt"
        )
    return model.run


@torch.no_grad()
def bits_per_byte(
    model: Hope,
    data: text.Bytes,
    settings: TrainingSettings,
    device: torch.device,
    *,
    carry: bool = False,
    still: bool = False,
    backend: str = "torch",
) -> float:
    """Mean -log₂ p(next byte) over a text of at least two bytes.

    Windows of the length of training begin afresh, as they did in training; with ``carry`` one state goes through the
    whole text, in as many lanes side by side as a batch has sequences. The levels of a model that was trained with
    ``continuum="meta"`` learn while they read, unless they are to stand ``still``. ``backend``: as `Hope.forward`.
    """
    learning = settings.continuum == "meta" and not still
    total, count = 0.0, 0
    state: Any = None
    lanes = min(settings.batch, max(1, (len(data) - 1) // settings.tokens)) if carry else 1
    source = (
        map(torch.from_numpy, text.stream(data, settings.tokens, lanes))
        if carry
        else pieces(data, settings.tokens, settings.batch)
    )
    for piece in source:
        piece = piece.to(device)
        with autocast(settings, device):
            if learning and settings.meta_mixers == "emptied" and not carry:
                logits, after = read(model, piece[:, :-1]), None
            elif learning:
                logits, after = adapt(model, piece[:, :-1], state)
            else:
                logits, after = model(piece[:, :-1], state, backend=backend)
        number = piece[:, 1:].numel()
        total += float(cross_entropy(logits, piece[:, 1:])) * number
        count += number
        state = after if carry else None
    return total / count / math.log(2)


def evaluate(asked: Trained, path: str | Path | None = None, *, carry: bool = False) -> Worth:
    """Bits per byte on the run's own test text, or on a whole other file, beside what needs no training.

    Bigrams and gzip have seen the run's training text, as the model has; where that text is gone, they are left out.
    Raises: ValueError if the text to be predicted is not there, no run says which, or the model's answer is not finite.
    """
    run = run_of(asked)
    own = training_text(asked)
    if path is None and own is None:
        located(run, asked.folder)  # says what is missing
    data = text.split(own.data).test if path is None and own is not None else text.load(path, "text").data
    seen = (
        text.split(own.data).train if own is not None and (path is None or own.sha256 == run.sha256) else None
    )
    if len(data) < 2:
        raise ValueError(f"text must have at least 2 bytes, got {len(data)}")
    settings = run.training
    worth = Worth(
        bits_per_byte(asked.model, data, settings, asked.device),
        bits_per_byte(asked.model, data, settings, asked.device, carry=True) if carry else None,
        None if seen is None else text.bigram_bits(seen, data),
        None if seen is None else text.gzip_bits(seen, data),
        text.byte_entropy(data),
        len(data),
        bits_per_byte(asked.model, data, settings, asked.device, still=True)
        if settings.continuum == "meta"
        else None,
    )
    if not math.isfinite(worth.model) or (carry and not math.isfinite(worth.carried or 0.0)):
        raise ValueError(
            "checkpoint must be a model whose answers are finite, got NaN or infinite bits per byte"
        )
    return worth


def training_text(asked: Trained) -> text.Text | None:
    """The text that a model learnt, as it is on this machine, which may have changed; None if it is not there."""
    try:
        return text.load(located(run_of(asked), asked.folder))
    except (ValueError, OSError):
        return None


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
    count = positive_integer("count", count)
    if not prompt:
        raise ValueError("prompt must have at least 1 byte, got none")
    whole_number("seed", seed)

    def tokens(raw: bytes) -> torch.Tensor:
        return torch.tensor(list(raw), dtype=torch.int64, device=asked.device)

    state = None
    if read_first:
        _, learned = adapt(asked.model, tokens(read_first))
        state = learned.now
    if seed >= 2**63:
        raise ValueError(f"seed must be < 2**63, got {seed}")
    generator = torch.Generator(asked.device).manual_seed(seed)
    made, _ = asked.model.generate(tokens(prompt), count, state, temperature=temperature, generator=generator)
    return bytes(made.clamp_max(text.SYMBOLS - 1).tolist())
