"""Notebook 11's figures: sizes against the closed forms, scars against the other floor, the reader against a literal loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.config import HopeConfig
from hope_ref.laboratory.anatomy import anatomy
from hope_ref.parallel.hope import Hope
from hope_ref.reference import hope as reference
from hope_ref.teaching.gallery import hope as gallery
from hope_ref.training.evaluation import SHIPPED, trained


def test_the_wiring_has_the_numbers_of_the_anatomy_table() -> None:
    data = gallery.hope_wiring_data()
    rows = anatomy("hope", config=gallery.SHOWN)
    named = {row.name: row for row in rows}
    levels = [row for row in rows if row.name.startswith("level ")]
    memories = [row for row in rows if row.name.startswith("M_")]
    assert len(levels) == 2
    assert len(memories) == 5
    assert data.parameters["levels"] == sum(row.parameters for row in levels)
    assert data.state["levels"] == sum(row.state for row in levels)
    assert data.parameters["heads"] == sum(row.parameters for row in memories)
    assert data.state["heads"] == sum(row.state for row in memories)
    assert data.parameters["convolutions"] == named["convolutions"].parameters
    assert data.state["convolutions"] == named["convolutions"].state
    assert data.parameters["norms"] == named["norms"].parameters
    projections = data.parameters["projections"] + data.parameters["output"]
    assert projections == named["projections"].parameters
    assert data.parameters["output"] == 2 * 64**2
    assert data.parameters["embedding"] == named["embedding, tied head"].parameters
    assert sum(data.parameters.values()) == sum(p.numel() for p in trained(SHIPPED, "cpu").model.parameters())


def test_a_parameter_without_a_part_is_named() -> None:
    with pytest.raises(ValueError, match=r"got 'blocks\.0\.new'"):
        gallery._part("blocks.0.new")


def left_behind(name: str, state: reference.HopeState, fresh: reference.HopeState) -> reference.HopeState:
    """The same mistakes in the reference's state, head by head."""
    blocks = []
    for here, new in zip(state.blocks, fresh.blocks, strict=True):
        mixer: Any = here.mixer
        start: Any = new.mixer
        if name == "inputs of the convolutions":
            mixer = start._replace(heads=mixer.heads)
        changes: dict[str, Any] = {
            "copy at the boundary": lambda now, _: {"boundary": now.weights},
            "position in the chunk": lambda now, _: {"position": 0},
            "moving weights": lambda _, new: {"weights": new.weights},
        }
        if name in changes:
            pairs = zip(mixer.heads, start.heads, strict=True)
            mixer = mixer._replace(
                heads=tuple(now._replace(**changes[name](now, begin)) for now, begin in pairs)
            )
        blocks.append(here._replace(mixer=mixer))
    position = 0 if name == "position in the chunk" else state.position
    return state._replace(blocks=tuple(blocks), position=position)


def test_scars_are_those_of_the_reference() -> None:
    data, tokens = gallery.cut_anywhere_data(), 10
    model = trained(SHIPPED, "cpu").model
    parameters, config = model.to_reference(), model.config
    read = np.array(list(gallery.PASSAGE.encode()[: data.at + tokens]))
    _, state = reference.hope(read[: data.at], parameters, config)
    right, _ = reference.hope(read[data.at :], parameters, config, state)
    fresh = reference.initial_state(parameters, config)
    assert data.at % data.chunk_size, "inside a chunk"
    for name, errors in data.errors.items():
        rest, _ = reference.hope(read[data.at :], parameters, config, left_behind(name, state, fresh))
        want = np.abs(rest - right).max(axis=1)
        np.testing.assert_allclose(errors[:tokens], want, atol=1e-8, err_msg=name)


def test_what_notebook_and_caption_say_of_the_scars() -> None:
    errors = gallery.cut_anywhere_data().errors
    assert errors["nothing"].max() < 1e-12
    for name in ("copy at the boundary", "inputs of the convolutions"):
        assert errors[name][:8].max() > 1
        assert 1e-3 < errors[name][-32:].max() < errors[name][:8].max() / 20
    assert errors["moving weights"][-32:].max() > 0.1
    assert errors["position in the chunk"][-32:].max() > errors["position in the chunk"][:8].max() / 2
    same = errors["position in the chunk"][:8], errors["copy at the boundary"][:8]
    np.testing.assert_allclose(*same, atol=1e-10)  # both read the moving weights until the next true boundary


@pytest.mark.slow
def test_the_reader_learns_as_a_literal_loop_of_gradient_steps_does() -> None:
    data, word, rounds = gallery.untrained_reader_data(), 24, 3
    found: dict[str, list[np.ndarray]] = {"still": [], "learning": []}
    for seed in range(2):
        config = HopeConfig(
            width=32,
            heads=2,
            vocabulary=32,
            blocks=1,
            memory_chunk_size=8,
            projection_chunk_size=8,
            levels_chunk_sizes=(8, 32),
        )
        model = Hope(config.replace(seed=seed)).double()
        read = torch.from_numpy(np.tile(np.random.default_rng(seed).integers(0, 32, word), rounds + 1))
        for name, learns in (("still", False), ("learning", True)):
            found[name].append(bits(model, read[: rounds * word + 1], learns).reshape(rounds, word).mean(1))
    for name, runs in found.items():
        np.testing.assert_allclose(getattr(data, name)[:rounds], np.mean(runs, axis=0), atol=1e-9)


def bits(model: Hope, read: torch.Tensor, learns: bool) -> np.ndarray:
    """-log₂ p of every next token; after each segment of 8 the levels take their step, due every 8 and every 32 tokens."""
    state, said = model.initial_state(), []
    sums: list[list[Any]] = [[0.0, 0.0], [0.0, 0.0]]
    theta = [[level.w1.detach(), level.w2.detach()] for level in state.blocks[0].continuum.levels]
    for first in range(0, len(read) - 1, 8):
        leaves = [[w.clone().requires_grad_() for w in level] for level in theta]
        block = state.blocks[0]
        levels = tuple(
            old._replace(w1=w1, w2=w2) for old, (w1, w2) in zip(block.continuum.levels, leaves, strict=True)
        )
        block = block._replace(continuum=block.continuum._replace(levels=levels))
        logits, after = model(read[first : first + 8], state._replace(blocks=(block,)))
        loss = torch.nn.functional.cross_entropy(logits, read[first + 1 : first + 9], reduction="none")
        said.append(loss.detach().numpy() / np.log(2))
        slopes = torch.autograd.grad(loss.sum(), [w for level in leaves for w in level])
        for place, (level, size) in enumerate(((0, 8), (0, 8), (1, 32), (1, 32))):
            layer = place % 2
            sums[level][layer] = sums[level][layer] + slopes[place]
            if learns and (first + 8) % size == 0:
                theta[level][layer] = theta[level][layer] - 0.1 / size * sums[level][layer]
                sums[level][layer] = 0.0
        state = after
    return np.concatenate(said)


@pytest.mark.slow  # and the notebook itself checks it
def test_what_notebook_and_caption_say_of_the_reader() -> None:
    data = gallery.untrained_reader_data()
    assert 5.2 < data.still.min() < data.still.max() < 5.6
    assert data.learning[0] > 5.2
    assert data.learning[-1] < 2
    assert (np.diff(data.learning) < 0).all()
    assert data.noise.min() > 5
    assert data.vocabulary == 32
