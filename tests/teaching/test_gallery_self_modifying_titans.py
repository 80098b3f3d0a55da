"""Notebook 10's figures: who reads what, from the equations; a trained model's targets and gates, from the other floor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.parallel import self_modifying_titans as in_torch
from hope_ref.teaching.gallery import self_modifying_titans as gallery
from hope_ref.training.evaluation import SHIPPED, trained


@pytest.mark.parametrize("size", [2, 4, 6])
def test_a_token_asks_the_copy_and_changes_the_moving_state(size: int) -> None:
    reads = gallery.one_chunk_data(size).reads
    copy = {name for name, sources in reads.items() if sources["boundary"]}
    moving = {name for name, sources in reads.items() if sources["moving"]}
    start = {name for name, sources in reads.items() if sources["start"]}
    assert copy == set(gallery.MADE) - {"q"}
    assert moving == start == {"W", "o"}


def seen_by_pytorch(monkeypatch: pytest.MonkeyPatch, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Retentions (blocks, heads, T) and ‖M(k) - v̂‖ (blocks, heads, memories, T), looked at inside the chunked floor."""
    model = trained(SHIPPED, "cpu").model.double()
    size = model.config.memory_chunk_size
    alphas: list[torch.Tensor] = []
    errors: list[torch.Tensor] = []
    generate, associations = in_torch.generate, in_torch.associations

    def watched_generate(*given: Any) -> Any:
        token = generate(*given)
        alphas.append(token.alpha[0])  # (heads, C)
        return token

    def watched_associations(*given: Any) -> Any:
        found = associations(*given)
        errors.append(torch.linalg.vector_norm(found[0].u[0], dim=-1))  # W1's u is v̂ - M(k): (heads, M, C)
        return found

    monkeypatch.setattr(in_torch, "generate", watched_generate)
    monkeypatch.setattr(in_torch, "associations", watched_associations)
    with torch.no_grad():
        model(torch.tensor([list(gallery.PASSAGE.encode()[:tokens])]))
    per_block = tokens // size

    def joined(pieces: list[torch.Tensor]) -> np.ndarray:
        blocks = [pieces[at : at + per_block] for at in range(0, len(pieces), per_block)]
        return torch.stack([torch.cat(block, -1) for block in blocks]).numpy()

    return joined(alphas), joined(errors)


@pytest.mark.slow
def test_gates_and_targets_are_those_of_the_chunked_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = 64
    data = gallery.own_targets_data()
    alpha, error = seen_by_pytorch(monkeypatch, tokens)
    np.testing.assert_allclose(data.alpha[:, :tokens], alpha.reshape(4, tokens), atol=1e-9)
    for place, (memory, along) in enumerate(data.errors.items()):
        want = error[:, :, place].reshape(4, tokens)
        np.testing.assert_allclose(along[:, :tokens], want, atol=1e-9, err_msg=memory)


@pytest.mark.slow  # and the notebook itself checks it
def test_what_notebook_and_caption_say_of_the_shipped_model() -> None:
    data = gallery.own_targets_data()
    assert data.blank.sum() == sum(gallery.PASSAGE[:512].count(c) for c in " \n")
    for memory, errors in data.errors.items():
        assert (errors[:, :64].mean(axis=1) > errors[:, -64:].mean(axis=1)).all(), memory
        along = gallery.stretches(errors)
        assert 1.15 < along[0] < 2.65
        assert 1.0 < along[-1] < 1.8
    blanks, others = data.alpha[0, data.blank], data.alpha[0, ~data.blank]
    assert (blanks < 0.1).mean() > 0.95
    assert (others > 0.5).mean() > 0.95
    assert blanks.max() < 0.3
    others_heads = np.median(data.alpha[1:, data.blank], axis=1)
    assert others_heads.min() > 0.2, "one head, not all"


def test_stretches_are_means_over_heads_and_tokens() -> None:
    np.testing.assert_array_equal(gallery.stretches(np.array([[1.0, 3, 5, 7], [3.0, 5, 7, 9]]), 2), [3, 7])


def test_the_passage_is_plain_and_long_enough() -> None:
    assert len(gallery.PASSAGE.encode()) == len(gallery.PASSAGE) >= 512
