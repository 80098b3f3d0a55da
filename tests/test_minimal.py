"""HOPE on one page, NumPy: the reference's numbers, from a file that imports NumPy alone."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hope_ref import golden, minimal
from hope_ref.config import HopeConfig
from hope_ref.reference import hope as reference

FILE = Path(minimal.__file__)
ROOT = Path(__file__).parents[1]
LINES = 120
C = HopeConfig().memory_chunk_size
TOKENS = np.random.default_rng(0).integers(7, size=2 * C + 3)
MODELS = [(1, 1), (1, 2), (2, 1), (2, 2)]  # heads, blocks


@cache
def model(heads: int, blocks: int, noise: float = 0.2) -> tuple[dict[str, Any], HopeConfig]:
    """Parameters of a default model of width 8; without noise they are where training starts."""
    config = HopeConfig(width=8, heads=heads, vocabulary=7, blocks=blocks)
    rng = np.random.default_rng(heads + 10 * blocks)
    start = reference.init(config)
    return {name: array + noise * rng.normal(size=array.shape) for name, array in start.items()}, config


@cache
def expected(heads: int, blocks: int, noise: float = 0.2) -> tuple[Any, reference.HopeState]:
    return reference.hope(TOKENS, *model(heads, blocks, noise))


def largest_difference(state: list[Any], other: reference.HopeState) -> float:
    """Between a state of the page and one of the reference, entry by entry."""
    assert state[0] == other.position
    errors = []
    for (inputs, memories), block in zip(state[1:], other.blocks, strict=True):
        theirs = (block.mixer.key_inputs, block.mixer.value_inputs, block.mixer.query_inputs)
        errors += [np.abs(a - b).max() for a, b in zip(inputs, theirs, strict=True)]
        for (W, copy), head in zip(memories, block.mixer.heads, strict=True):
            assert W.keys() == head.weights.keys() == copy.keys()
            errors += [np.abs(W[name] - head.weights[name]).max() for name in W]
            errors += [np.abs(copy[name] - head.boundary[name]).max() for name in W]
    return max(errors)


@pytest.mark.parametrize("noise", [0.2, 0.0], ids=["awake", "start"])
@pytest.mark.parametrize(("heads", "blocks"), MODELS)
def test_it_is_the_reference(heads: int, blocks: int, noise: float) -> None:
    parameters, config = model(heads, blocks, noise)
    other, other_state = reference.hope([], parameters, config)
    for length in (0, 1, C - 1, C, C + 1, 2 * C + 3):
        more = TOKENS[len(other) : length]  # the reference goes on, the page begins again
        answers, other_state = reference.hope(more, parameters, config, other_state)
        other = np.concatenate([other, answers])
        logits, state = minimal.hope(TOKENS[:length], parameters)
        np.testing.assert_allclose(logits, other, rtol=0, atol=1e-12)
        assert largest_difference(state, other_state) <= 1e-12


@pytest.mark.parametrize(("heads", "blocks"), [(1, 2), (2, 1)])
def test_a_stream_may_be_cut_anywhere(heads: int, blocks: int) -> None:
    parameters, _ = model(heads, blocks)
    other, other_state = expected(heads, blocks)
    for cut in (0, 1, C - 1, C, C + 1, 2 * C + 3):
        first, between = minimal.hope(TOKENS[:cut], parameters)
        second, state = minimal.hope(TOKENS[cut:], parameters, state=between)
        np.testing.assert_allclose(np.concatenate([first, second]), other, rtol=0, atol=1e-12)
        assert largest_difference(state, other_state) <= 1e-12


def test_token_by_token() -> None:
    parameters, _ = model(2, 2)
    other, other_state = expected(2, 2)
    state = None
    for token, row in zip(TOKENS, other, strict=True):
        logits, state = minimal.hope([token], parameters, state=state)
        np.testing.assert_allclose(logits[0], row, rtol=0, atol=1e-12)
    assert state is not None
    assert largest_difference(state, other_state) <= 1e-12


def test_a_state_is_left_as_it_was() -> None:
    parameters, _ = model(2, 1)
    _, state = minimal.hope(TOKENS[:5], parameters)
    first, _ = minimal.hope(TOKENS[5:], parameters, state=state)
    again, _ = minimal.hope(TOKENS[5:], parameters, state=state)
    np.testing.assert_array_equal(first, again)


def test_no_logit_depends_on_a_later_token() -> None:
    parameters, _ = model(2, 2)
    logits, _ = minimal.hope(TOKENS, parameters)
    for changed in (0, C - 1, C, 2 * C + 1):
        tokens = TOKENS.copy()
        tokens[changed] = (tokens[changed] + 1) % 7
        other, _ = minimal.hope(tokens, parameters)
        np.testing.assert_array_equal(other[:changed], logits[:changed])
        assert (np.abs(other[changed:] - logits[changed:]).max(axis=1) > 1e-9).all()


def test_the_golden_write() -> None:
    """The default self-modifying Titans as shipped, C = 16: W_q stands outside of `write`, as in the layer."""
    vector = golden.load(golden.FOLDER / "self_modifying_titans_default.npz")
    parameters = {name: np.asarray(array) for name, array in vector.inputs.items()}
    W = {name: array for name, array in parameters.items() if name[:2] in ("w1", "w2")}
    copy = W
    for t, x in enumerate(parameters["x"]):
        copy = W if t % 16 == 0 else copy
        o, W = minimal.write(x, x, parameters["w_query"] @ x, parameters, W, copy)
        np.testing.assert_allclose(o, vector.results["outputs"][t], rtol=0, atol=1e-12)
    for name, array in W.items():
        np.testing.assert_allclose(array, vector.results[f"final_{name}"], rtol=0, atol=1e-12)


def test_the_golden_model() -> None:
    """As shipped, its chunks of two lengths: 4 of `memory`, 2 of the others, whose copies are taken by hand."""
    vector = golden.load(golden.FOLDER / "hope.npz")
    parameters = {name: np.asarray(array) for name, array in vector.inputs.items()}
    tokens, state = parameters.pop("tokens"), minimal.start(parameters)
    options = vector.options
    assert (options["memory_chunk_size"], options["projection_chunk_size"], options["heads"]) == (4, 2, 1)
    for t, token in enumerate(tokens):
        inputs, [(W, copy)] = state[1]
        chunk = {name: 4 if name.endswith("memory") else 2 for name in W}
        copy = {name: W[name] if t % chunk[name] == 0 else copy[name] for name in W}
        state = [t, (inputs, [(W, copy)])]
        logits, state = minimal.hope([token], parameters, chunk_size=1000, state=state)
        np.testing.assert_allclose(logits[0], vector.results["outputs"][t], rtol=0, atol=1e-12)


def test_large_numbers_do_not_overflow() -> None:
    z = np.array([-1e4, -800.0, 0.0, 800.0, 1e4])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_array_equal(minimal.silu(z), [0.0, 0.0, 0.0, 800.0, 1e4])


def test_it_needs_numpy_alone_and_fits_on_a_page() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES
    assert modules(text) == {"numpy"}


def modules(text: str) -> set[str]:
    """Top-level names of all that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or "").split(".")[0])
    return names


def test_the_readme_shows_the_write_as_it_is() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## HOPE on one page", 1)[1].split("\n## ", 1)[0]
    (block,) = re.findall(r"```py\n(.*?)```", section, re.DOTALL)
    assert block == inspect.getsource(minimal.write)
