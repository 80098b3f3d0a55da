"""The door of the self-modifying Titans, and the state's way to a file and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hope_ref.config import HopeConfig
from hope_ref.reference.self_modifying_titans import (
    State,
    load_state,
    random_parameters,
    save_state,
    self_modifying_titans,
)

MLP = HopeConfig(memory_chunk_size=2, projection_chunk_size=4, inner_momentum=0.5)
LINEAR = HopeConfig(architecture="linear", adaptive_query=True)


def arguments(config: HopeConfig = MLP) -> dict[str, Any]:
    """Three tokens, d = 3, h = 4, and the state after them."""
    x = np.random.default_rng(0).normal(size=(3, 3))
    given = {
        "x_key": x,
        "x_value": x,
        "x_query": x,
        "parameters": random_parameters(config, 3, 4, 0),
        "config": config,
    }
    return given | {"state": self_modifying_titans(**given)[1]}


def after(state: State, **parts: Any) -> State:
    """The state with some of its arrays replaced, or taken out where the replacement is None."""
    changed = {
        part: {n: a for n, a in {**getattr(state, part), **arrays}.items() if a is not None}
        for part, arrays in parts.items()
    }
    return state._replace(**changed)


BAD: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    (lambda a: {"x_key": np.ones(3)}, r"x_key must have shape \(T, d\), got \(3,\)"),
    (lambda a: {n: np.ones((3, 0)) for n in ("x_key", "x_value", "x_query")}, r"d >= 1, got \(3, 0\)"),
    (lambda a: {"x_key": np.ones((3, 3), np.float32)}, "x_key must be float64 .* got dtype float32"),
    (lambda a: {"x_value": np.ones((2, 3))}, r"x_value must have shape \(3, 3\), got \(2, 3\)"),
    (lambda a: {"x_query": np.full((3, 3), np.nan)}, "x_query must be finite, got 9 NaN"),
    (lambda a: {"config": {"read": "post"}}, "config must be a HopeConfig, got dict"),
    (lambda a: {"parameters": None}, "parameters must be a dict of named arrays, got NoneType"),
    (lambda a: {"parameters": {}}, "parameters must hold w_query, .*; missing: alpha_bias, .*, unknown: none"),
    (lambda a: {"parameters": a["parameters"] | {"w1_q": 0}}, "parameters must hold .*; missing: none, unknown: w1_q"),
    (lambda a: {"parameters": a["parameters"] | {"eta_max": 1}}, "missing: none, unknown: eta_max"),
    (lambda a: {"parameters": a["parameters"] | {"w1_k": np.ones((4, 4))}}, r"'w1_k'\] must have shape \(3, h\)"),
    (lambda a: {"parameters": a["parameters"] | {"w2_k": np.ones((5, 3))}}, r"'w2_k'\] must have shape \(4, 3\)"),
    (lambda a: {"parameters": a["parameters"] | {"w1_v": np.ones((3, 5))}}, r"'w1_v'\] must have shape \(3, 4\)"),
    (lambda a: {"parameters": a["parameters"] | {"w_query": np.ones((3, 4))}}, r"'w_query'\] must have shape \(3, 3\)"),
    (lambda a: {"parameters": a["parameters"] | {"eta_readout": np.ones(4)}}, r"'eta_readout'\] .* \(3,\), got \(4,\)"),
    (lambda a: {"parameters": a["parameters"] | {"eta_bias_k": np.ones(1)}}, r"'eta_bias_k'\] .* \(\), got \(1,\)"),
    (lambda a: {"parameters": a["parameters"] | {"alpha_bias": np.inf}}, r"'alpha_bias'\] must be finite"),
    (lambda a: {"parameters": a["parameters"] | {"w1_k": np.ones((3, 4), np.float32)}}, "float64 .* got dtype float32"),
    (lambda a: {"state": 3}, "state must be a State or None, got int"),
    (lambda a: {"state": after(a["state"], weights={"w1_k": None})}, r"state.weights must hold .* missing: w1_k"),
    (lambda a: {"state": after(a["state"], boundary={"w1_k": np.ones((3, 3))})}, r"state.boundary\['w1_k'\] must have"),
    (lambda a: {"state": after(a["state"], weights={"w1_k": np.ones((3, 4), int)})}, "a float64 array, got int64"),
    (lambda a: {"state": after(a["state"], weights={"w1_k": 3.0})}, "a float64 array, got float"),
    (lambda a: {"state": a["state"]._replace(momentum={})}, "state.momentum must hold b1_k, .* missing: b1_alpha"),
    (lambda a: {"state": a["state"]._replace(weights=[1])}, "state.weights must be a dict of named arrays, got list"),
    (lambda a: {"state": a["state"]._replace(position=-1)}, "state.position must be an integer >= 0, got -1"),
    (lambda a: {"state": a["state"]._replace(position=True)}, "state.position must be an integer >= 0, got True"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD, ids=[m[:45] for _, m in BAD])
def test_bad_input_is_named(change: Callable[[dict[str, Any]], dict[str, Any]], message: str) -> None:
    given = arguments()
    with pytest.raises(ValueError, match=message):
        self_modifying_titans(**{**given, **change(given)})


def test_a_linear_memory_has_names_of_its_own() -> None:
    given = arguments(LINEAR)
    with pytest.raises(
        ValueError, match=r"parameters must hold eta_readout, .* missing: none, unknown: w1_k"
    ):
        self_modifying_titans(**given | {"parameters": given["parameters"] | {"w1_k": np.ones((3, 4))}})
    with pytest.raises(ValueError, match=r"'w_q'\] must have shape \(3, 3\), got \(3, 4\)"):
        self_modifying_titans(**given | {"parameters": given["parameters"] | {"w_q": np.ones((3, 4))}})


@pytest.mark.parametrize("config", [MLP, LINEAR], ids=["mlp", "linear"])
@pytest.mark.parametrize("poison", [0.0, np.inf, np.nan])
def test_there_and_back_bit_for_bit(tmp_path: Path, config: HopeConfig, poison: float) -> None:
    """A state that is not finite is not hidden, not even in a file."""
    given = arguments(config)
    state = given["state"]
    name = next(iter(state.weights))
    state = after(state, weights={name: state.weights[name] + poison})
    save_state(tmp_path / "state.npz", state)
    loaded = load_state(str(tmp_path / "state.npz"))
    assert loaded.position == state.position == 3
    for part in ("weights", "boundary", "momentum"):
        assert list(getattr(loaded, part)) == list(getattr(state, part))
        for key, array in getattr(state, part).items():
            np.testing.assert_array_equal(getattr(loaded, part)[key], array)
    outputs = [self_modifying_titans(**given | {"state": s})[0] for s in (state, loaded)]
    np.testing.assert_array_equal(*outputs)
    assert os.listdir(tmp_path) == ["state.npz"]


def test_an_interrupted_save_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = arguments()["state"]
    save_state(tmp_path / "state.npz", state)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", stop)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path / "state.npz", state._replace(position=99))
    assert os.listdir(tmp_path) == ["state.npz"]
    assert load_state(tmp_path / "state.npz").position == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "must hold position, got nothing"),
        ({"w": np.ones(2)}, "must hold position, got w"),
        (
            {"position": 1, "w1_k": np.ones(2)},
            "names must begin with weights., boundary. or momentum., got w1_k",
        ),
        ({"position": 1, "weights.": np.ones(2)}, "names must begin with .* got weights."),
        (
            {"position": 1, "weights.w1_k": np.ones(2, np.float32)},
            "weights.w1_k must be a float64 array, got float32",
        ),
        ({"position": 1.5}, r"position must be one integer, got float64 of shape \(\)"),
        ({"position": np.array([1])}, r"position must be one integer, got int64 of shape \(1,\)"),
        ({"position": -1}, "position must be an integer >= 0, got -1"),
        ({"position": np.array(None)}, "must be a .npz file of a state"),
    ],
)
def test_another_npz_file_is_named(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match=f"other.npz.*{message}"):
        load_state(tmp_path / "other.npz")


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.npz must be a .npz file of a state"):
        load_state(tmp_path / "broken.npz")


def test_a_single_array_is_no_state(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(ValueError, match=r"one\.npy must be a .npz file of a state"):
        load_state(tmp_path / "one.npy")


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "none.npz")
