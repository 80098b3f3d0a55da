"""The text of a run as tensors: windows for training, drawn from (seed, step) alone, and stretches for evaluation. [D]"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hope_ref.tasks import text
from hope_ref.tasks.text import Split
from hope_ref.training.settings import Run


def located(run: Run, folder: Path | None = None) -> Path | None:
    """Where the text of a run lies: at its path, or under the same name in the run's folder, beside it or here.

    Away from its path a text is known by its checksum alone. Returns: None for Python's own manual.
    Raises: ValueError if the text is nowhere.
    """
    if run.text is None:
        return None
    path = Path(run.text)
    if os.path.isfile(path):
        return path
    near = [] if folder is None else [folder, folder.parent]
    for place in (one / path.name for one in (*near, Path())):
        if run.sha256 and os.path.isfile(place) and text.load(place).sha256 == run.sha256:
            return place
    if not run.sha256:
        raise ValueError(f"text must be a file that exists, got {run.text!r}{text.other_kind(run.text)}")
    raise ValueError(
        f"text must be a file that exists, with the SHA-256 {run.sha256[:12]}…, got {run.text!r}, which is not there: "
        "name it with --text"
    )


def prepared(run: Run, folder: Path | None = None) -> tuple[Run, Split]:
    """The run with its text's place and checksum in it, and the text in three parts: for training, validation and test.

    Args: run; folder, the run's own, where its text may lie, too.
    Raises: ValueError if the file is missing, empty or too short, or is not the text that the run was started with.
    """
    place = located(run, folder)
    found = text.load(place, "text")
    if run.sha256 and run.sha256 != found.sha256:
        raise ValueError(
            f"text must be the one that the run was started with (SHA-256 {run.sha256[:12]}…), "
            f"got {found.name} with {found.sha256[:12]}…"
        )
    parts = text.split(found.data)
    least = run.training.tokens + 1
    if len(parts.train) < least or len(parts.validation) < 2:
        raise ValueError(
            f"text must have at least {least} bytes to train on and 2 to validate, "
            f"got {len(parts.train)} and {len(parts.validation)} in {found.name}"
        )
    return replace(run, text=None if place is None else str(place.absolute()), sha256=found.sha256), parts


def batch(run: Run, parts: Split, step: int, rank: int = 0, size: int = 1) -> Tensor:
    """The windows of step number ``step``, counted from 0, (batch / size, tokens + 1), int64: this process's share.

    All processes draw the same whole batch and each takes its rows: two of half a batch see what one of the whole does.
    """
    settings = run.training
    drawn = text.windows(parts.train, settings.batch, settings.tokens, (settings.seed, step))
    share = settings.batch // size
    return torch.from_numpy(drawn[rank * share : (rank + 1) * share])


def pieces(data: text.Bytes, tokens: int, batch: int) -> Iterator[Tensor]:
    """A text once, in windows that begin afresh: (B, tokens + 1) each, B <= batch, a shorter one at the end; every byte but the first is predicted once."""
    waiting: list[Tensor] = []
    for piece in text.stream(data, tokens):
        if waiting and (len(waiting) == batch or piece.shape[1] != waiting[0].shape[1]):
            yield torch.cat(waiting)
            waiting = []
        waiting.append(torch.from_numpy(piece))
    yield torch.cat(waiting)
