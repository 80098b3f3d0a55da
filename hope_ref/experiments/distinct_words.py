"""A batch of words without those that another one begins with: what is causal answers both alike. [D]

In four of the formal languages there is one word of each length: a batch of 32 has the loss of one word, at 1/32 of the time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hope_ref.parallel.hope import Hope
from hope_ref.tasks import formal_languages as languages
from hope_ref.tasks.common import Accuracy, Integers, accuracy

PIECE = 250  # test words computed at once


class Distinct(NamedTuple):
    """The words of a batch without those that another begins with: what is causal answers both alike."""

    tokens: Tensor  # (N, T)
    labels: Tensor  # (N, T), -1 behind the end
    counts: Tensor  # (N, T): how many of the batch's words are like this one up to here
    row_of: Integers  # (B,): where each word of the batch went


def distinct(batch: languages.Batch) -> Distinct:
    """Each word once, and none that is the beginning of another: the loss is the batch's own, at a fraction of the time."""
    lengths = (batch.labels != -1).sum(axis=1)
    words = [tuple(row[:length].tolist()) for row, length in zip(batch.tokens, lengths, strict=True)]
    ordered = sorted(set(words))  # a word stands right before those that it begins
    goes_to: dict[tuple[int, ...], tuple[int, ...]] = {}
    for word, after in reversed(list(zip(ordered, [*ordered[1:], ()], strict=True))):
        goes_to[word] = goes_to[after] if after[: len(word)] == word else word
    first: dict[tuple[int, ...], int] = {word: row for row, word in reversed(list(enumerate(words)))}
    kept = [word for word in ordered if goes_to[word] == word]
    place = {word: row for row, word in enumerate(kept)}
    rows = [first[word] for word in kept]
    row_of = [place[goes_to[word]] for word in words]
    tokens, labels = (torch.from_numpy(part[rows]) for part in batch)
    counts = torch.zeros(tokens.shape)
    counts.index_add_(0, torch.tensor(row_of), torch.from_numpy(batch.labels != -1).float())
    return Distinct(tokens, labels, counts, torch.tensor(row_of).numpy())


def loss_of(model: Hope, batch: languages.Batch) -> Tensor:
    """Mean -log p of all labels of the batch, nats: `fitting.labelled_loss`, each distinct word computed once."""
    words = distinct(batch)
    logits, _ = model(words.tokens)
    each = cross_entropy(logits.flatten(0, -2), words.labels.flatten(), reduction="none", ignore_index=-1)
    return (each * words.counts.flatten()).sum() / words.counts.sum()


@torch.no_grad()
def accuracy_of(model: Hope, batch: languages.Batch) -> Accuracy:
    """The shares of labels and of whole words that are right."""
    words = distinct(batch)
    found = torch.cat([model(piece)[0].argmax(-1) for piece in words.tokens.split(PIECE)])
    return accuracy(found.numpy()[words.row_of], batch.labels)
