"""The text of a run as tensors: windows for training, drawn from (seed, step) alone, and stretches for evaluation. [D]"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from hope_ref.tasks import text
from hope_ref.tasks.text import Split
from hope_ref.training.settings import Run


def prepared(run: Run) -> tuple[Run, Split]:
    """The run with its text's checksum in it, and the text in three parts: for training, validation and test.

    Raises: ValueError if the file is missing, empty or too short, or is not the text that the run was started with.
    """
    found = text.load(run.text)
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
    return replace(run, sha256=found.sha256), parts


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
