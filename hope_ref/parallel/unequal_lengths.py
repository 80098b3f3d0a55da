"""Rows of unequal length, and several documents in a row: each is read as if it were alone. [D]

Nothing of the model knows of padding: chunks are counted from the first token of a document, so a token that is not there
cannot be masked. But a stream may be cut anywhere. So the documents that stand at the same position are read side by side
as far as the shortest of them goes; that one is put away, and the others are read on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hope_ref.parallel import states
from hope_ref.parallel.states import UnequalStates


class Document(NamedTuple):
    """Tokens ``begin`` to ``end`` of a row, and what is carried into them; None starts from the parameters."""

    row: int
    begin: int
    end: int
    state: Any


def read(
    model: Any, tokens: Tensor, state: Any, lengths: Any, starts: Tensor | None, how: dict[str, Any]
) -> tuple[Tensor, UnequalStates]:
    """Logits, (B, T, vocabulary), 0 behind a row's end, and one state per row; see `hope_ref.parallel.hope.Hope.forward`."""
    if tokens.ndim != 2:
        raise ValueError(f"tokens must have shape (B, T) with lengths or starts, got {tuple(tokens.shape)}")
    ends = checked_lengths(lengths, tokens)
    begins = checked_starts(starts, tokens)
    before = rows_of(model, state, len(ends))
    logits = model.embedding.new_zeros(*tokens.shape, len(model.embedding))
    after = [model.initial_state() if one is None else one for one in before]
    documents = [
        document
        for row, end in enumerate(ends)
        for document in documents_of(row, end, before[row], begins[row])
    ]
    last = {document.row: document for document in documents}
    for group in alike(documents):
        for document, end_state in read_group(model, tokens, group, logits, how):
            if document is last[document.row]:
                after[document.row] = end_state
    return logits, UnequalStates(after)


def documents_of(row: int, end: int, state: Any, begins: list[int]) -> list[Document]:
    """The documents of a row that has so many tokens; one that begins at the row's first token starts anew."""
    inner = [begin for begin in begins if 0 < begin < end]
    cuts = [0, *inner, end]
    carried = [None if 0 in begins and end else state, *[None] * len(inner)]
    spans = zip(cuts[:-1], cuts[1:], carried, strict=True)
    return [Document(row, begin, stop, one) for begin, stop, one in spans]


def alike(documents: Iterable[Document]) -> list[list[Document]]:
    """The documents in groups whose states have seen the same number of tokens."""
    groups: dict[Any, list[Document]] = {}
    for document in documents:
        leaves = states.flattened(document.state)
        key = tuple(leaf for leaf in leaves.values() if isinstance(leaf, int)) if leaves else None
        groups.setdefault(key, []).append(document)
    return list(groups.values())


def read_group(
    model: Any, tokens: Tensor, group: list[Document], logits: Tensor, how: dict[str, Any]
) -> Iterable[tuple[Document, Any]]:
    """Read documents side by side, the shortest to its end first; gives each with its state, and fills in its logits."""
    fresh = group[0].state is None
    state = model.initial_state((len(group),)) if fresh else states.stacked([one.state for one in group])
    open_, at = list(group), 0
    for stop in sorted({document.end - document.begin for document in group}):
        if stop > at:
            piece = torch.stack([tokens[d.row, d.begin + at : d.begin + stop] for d in open_])
            out, state = model(piece, state, **how)
            for document, row in zip(open_, out, strict=True):
                logits[document.row, document.begin + at : document.begin + stop] = row
        done = [document.end - document.begin == stop for document in open_]
        for place, document in enumerate(open_):
            if done[place]:
                yield document, state[place]
        left = [place for place in range(len(open_)) if not done[place]]
        state, open_, at = state[left], [open_[place] for place in left], stop


# --- checks ---------------------------------------------------------------------------------------------------------


def rows_of(model: Any, state: Any, rows: int) -> list[Any]:
    """One state per row, checked; None where there is none."""
    if state is None:
        return [None] * rows
    if isinstance(state, UnequalStates):
        if len(state) != rows:
            raise ValueError(f"state must have {rows} entries, one per row, got {len(state)}")
        return [model.check_state(one, (), f"state[{row}]") for row, one in enumerate(state)]
    whole = model.check_state(state, (rows,))
    return [whole[row] for row in range(rows)]


def checked_lengths(lengths: Any, tokens: Tensor) -> list[int]:
    """How many tokens of each row are read."""
    rows, most = tokens.shape
    if lengths is None:
        return [most] * rows
    given = torch.as_tensor(lengths)
    if given.is_floating_point() or given.dtype == torch.bool or tuple(given.shape) != (rows,):
        raise ValueError(
            f"lengths must be integers of shape ({rows},), one per row, got {given.dtype} of shape {tuple(given.shape)}"
        )
    numbers: list[int] = given.tolist()
    if rows and not 0 <= min(numbers) <= max(numbers) <= most:
        raise ValueError(f"lengths must be in [0, {most}], got {min(numbers)} to {max(numbers)}")
    return numbers


def checked_starts(starts: Any, tokens: Tensor) -> list[list[int]]:
    """The tokens of each row at which a document begins."""
    if starts is None:
        return [[] for _ in tokens]
    if not isinstance(starts, Tensor) or starts.dtype != torch.bool or starts.shape != tokens.shape:
        got = (
            f"{starts.dtype} of shape {tuple(starts.shape)}"
            if isinstance(starts, Tensor)
            else type(starts).__name__
        )
        raise ValueError(f"starts must be a bool tensor of shape {tuple(tokens.shape)}, got {got}")
    return [row.nonzero()[:, 0].tolist() for row in starts]
