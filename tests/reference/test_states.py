"""Complete states: every leaf is checked by name, a state belongs to one model, and a file gives it back bit for bit."""

from __future__ import annotations

import io
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from damaged_files import damaged
from selection import some_slow

from hope_ref.common.nested import rebuilt
from hope_ref.common.validation import Array
from hope_ref.config import CHOICES, STARTS, HopeConfig
from hope_ref.reference import states as module
from hope_ref.reference.hope import HopeState, hope, init, initial_state
from hope_ref.reference.parameters import MIXERS, random_parameters
from hope_ref.reference.self_modifying_titans import State, self_modifying_titans
from hope_ref.reference.states import flattened, load_state, save_state

# --- a state of any kind, through a file -----------------------------------------------------------------------------


class Inner(NamedTuple):
    w: Any
    nothing: Any = None


class Outer(NamedTuple):
    levels: tuple[Inner, ...]
    position: int
    tokens: Any


STATE = Outer((Inner(np.array([[0.1, np.nan]])), Inner({"k": np.zeros((0, 2)), "v": 3})), 7, np.array([3, 1]))


def test_names_are_paths() -> None:
    assert list(flattened(STATE)) == ["levels.0.w", "levels.1.w.k", "levels.1.w.v", "position", "tokens"]


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    save_state(tmp_path / "a", STATE)
    loaded = load_state(str(tmp_path / "a"), STATE)
    assert isinstance(loaded, Outer)
    assert isinstance(loaded.levels[1], Inner)
    assert loaded.levels[0].nothing is None
    assert type(loaded.levels[1].w) is dict
    assert loaded.levels[1].w["v"] == 3
    assert loaded.position == 7
    assert type(loaded.position) is int
    for name, array in flattened(STATE).items():
        np.testing.assert_array_equal(flattened(loaded)[name], array)
    assert loaded.tokens.dtype == STATE.tokens.dtype
    assert [file.name for file in tmp_path.iterdir()] == ["a"], "nothing temporary is left"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_write_that_stops_leaves_the_old_file(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    save_state(path, STATE)
    before = path.read_bytes()

    def half(file: Any, **leaves: Any) -> None:
        file.write(b"half")
        raise error("disk full")

    monkeypatch.setattr(module.np, "savez", half)
    with pytest.raises(error, match="disk full"):
        save_state(path, STATE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("leaf", ["text", True, np.array(["a"]), 1.5, {1, 2}, {"w": "text"}])
def test_only_arrays_and_integers_are_kept(leaf: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokens(\.w)? must be an array of numbers, an integer"):
        save_state(tmp_path / "a", STATE._replace(tokens=leaf))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (STATE._replace(tokens=None), "missing: none, unknown: tokens"),
        (
            STATE._replace(levels=STATE.levels * 2),
            "missing: levels.2.w, levels.3.w.k, levels.3.w.v, unknown: none",
        ),
        (STATE._replace(tokens=np.array([3.0])), "tokens must be float64 with 1 axes, got int64 of shape"),
        (
            STATE._replace(position=np.ones(2)),
            r"position must be float64 with 1 axes, got int64 of shape \(\)",
        ),
    ],
)
def test_another_kind_of_state_is_refused(like: Any, message: str, tmp_path: Path) -> None:
    save_state(tmp_path / "a", STATE)
    with pytest.raises(ValueError, match=message):
        load_state(tmp_path / "a", like)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.npz must be a \.npz file of a state"):
        load_state(tmp_path / "broken.npz", STATE)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], method: int = zipfile.ZIP_STORED) -> None:
    """A whole archive with other records."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, record in records.items():
            archive.writestr(name, change(name, record))


def array(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


W = "levels.0.w.npy"


@pytest.mark.parametrize(
    ("name", "record", "message"),
    [
        (W, b"", "must be a .npz file of a state: "),
        (W, b"\x93NUMPY\x01\x00\xff\xff{", "must be a .npz file of a state: "),
        (W, array(np.ones((1, 2))).replace(b"(1, 2), }           ", b"(1, 2000000000), }  "), "levels.0.w.npy must have (1, 2000000000) entries"),
        (W, array(np.ones((1, 2)))[:-8], "levels.0.w.npy must have (1, 2) entries of float64, got 8 bytes"),
        (W, array(np.ones((1, 2))).replace(b"NUMPY\x01", b"NUMPY\x02"), "must be an array of format 1.0, got (2, 0)"),
        (W, array(np.array([[1, None]])), "must be an array of numbers or text, got object"),
        (W, array(np.ones((1, 2), np.complex128)), "must be an array of numbers or text, got complex128"),
        (W, array(np.ones((1, 2), np.float32)), "levels.0.w must be float64, got float32"),
        (W, array(np.ones((1, 2), np.int64)), "levels.0.w must be float64 with 2 axes, got int64"),
        (W, array(np.ones(2)), "levels.0.w must be float64 with 2 axes, got float64 of shape (2,)"),
        (W, array(np.array("text")), "levels.0.w must be float64 with 2 axes, got <U4"),
        ("position.npy", array(-3), "position must be an integer >= 0, got -3"),
        ("position.npy", array(3.0), "position must be int64 with 0 axes, got float64"),
        ("position.npy", array(np.ones(2, int)), "position must be int64 with 0 axes, got int64 of shape (2,)"),
    ],
)  # fmt: skip
def test_hostile_records_are_named(name: str, record: bytes, message: str, tmp_path: Path) -> None:
    save_state(tmp_path / "a.npz", STATE)
    rewritten(tmp_path / "a.npz", lambda own, before: record if own == name else before)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_state(tmp_path / "a.npz", STATE)
    assert str(tmp_path / "a.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_compressed_is_not_unpacked(tmp_path: Path) -> None:
    save_state(tmp_path / "a.npz", STATE)
    rewritten(tmp_path / "a.npz", lambda _, record: record + bytes(2**20), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"a\.npz must be .*: its records must be stored uncompressed"):
        load_state(tmp_path / "a.npz", STATE)


def test_files_damaged_at_random(tmp_path: Path) -> None:
    path, draw, messages = tmp_path / "a.npz", random.Random(0), []
    save_state(path, STATE)
    content = path.read_bytes()
    for _ in range(400):
        path.write_bytes(damaged(content, draw))
        try:
            loaded = flattened(load_state(path, STATE))
        except ValueError as error:
            messages.append(str(error))
        else:
            for name, leaf in flattened(STATE).items():
                np.testing.assert_array_equal(loaded[name], leaf)
    assert len(messages) > 250
    assert all(str(path) in message and "\n" not in message for message in messages)


def test_a_single_array_is_no_state_and_a_missing_file_is_missing(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(ValueError, match=r"one\.npy must be a \.npz file of a state"):
        load_state(tmp_path / "one.npy", STATE)
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "none.npz", STATE)


# --- every leaf of a model's state -----------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "width": 4, "heads": 2, "vocabulary": 5, "hidden": 3, "memory_chunk_size": 2, "projection_chunk_size": 4,
    "levels_chunk_sizes": (2, 4), "signal": "associative", "inner_momentum": 0.3,
}  # fmt: skip
TOKENS = [1, 4, 0]
MODELS = {
    "self-modifying Titans": HopeConfig(**SMALL),
    "softmax attention": HopeConfig(**SMALL, mixer="softmax_attention"),
    "attention in a window": HopeConfig(**SMALL, mixer="softmax_attention", window=8),
    "levels that only a driver moves": HopeConfig(**SMALL | {"signal": "task"}),
}
each_model = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)


def after(config: HopeConfig) -> tuple[dict[str, Array], HopeState]:
    """The start of training and the state after three tokens."""
    parameters = init(config)
    return parameters, hope(TOKENS, parameters, config)[1]


def place(name: str) -> str:
    """A leaf's name in `flattened` as Python writes it: ``state.blocks[0].mixer.heads[1].weights['w1_k']``."""
    name = re.sub(r"\.(\d+)", r"[\1]", name)
    return "state." + re.sub(r"\b(weights|boundary|momentum)\.(\w+)", r"\1['\2']", name)


def with_leaf(state: Any, name: str, leaf: Any) -> Any:
    """The state with another leaf in the place of that name."""
    return rebuilt(state, lambda own, old: leaf if own == name else old)


def arrays_and_integers(state: Any) -> Iterator[tuple[str, Any]]:
    leaves = flattened(state)
    assert len(leaves) > 10
    return ((name, leaf) for name, leaf in leaves.items() if not isinstance(leaf, HopeConfig))


def wrong(leaf: Any) -> list[tuple[Any, str]]:
    """What may not stand in the place of a leaf, and the message without the name."""
    if isinstance(leaf, int):
        return [
            (bad, f"must be an integer >= 0, got {bad!r}") for bad in (-1, True, 1.0, None, np.int64(leaf))
        ]
    return [
        (leaf[None], f"must have shape {leaf.shape}, got {(1, *leaf.shape)}"),
        (np.concatenate([leaf, leaf[:1]]), f"must have shape {leaf.shape}, got "),
        (leaf.astype(np.float32), "must be a float64 array, got float32"),
        (leaf.astype(np.int64), "must be a float64 array, got int64"),
        (leaf.tolist(), "must be a float64 array, got list"),
        (None, "must be a float64 array, got NoneType"),
    ]


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_leaf_of_another_shape_dtype_or_type_is_refused_by_name(mixer: str) -> None:
    """Of one block: each refusal takes a check of the whole model."""
    config = HopeConfig(**SMALL, mixer=mixer, blocks=1, architecture="linear")
    parameters, state = after(config)
    for name, leaf in arrays_and_integers(state):
        for bad, message in wrong(leaf):
            with pytest.raises(ValueError, match=re.escape(f"{place(name)} {message}")):
                hope([], parameters, config, with_leaf(state, name, bad))


@pytest.mark.parametrize(
    "config",
    [HopeConfig(inner_momentum=0.5), HopeConfig(architecture="linear", adaptive_query=True)],
    ids=["mlp", "linear"],
)
def test_every_leaf_of_one_head_too(config: HopeConfig) -> None:
    parameters, x = random_parameters(config, 3, 4, 0), np.ones((2, 3))
    _, state = self_modifying_titans(x, x, x, parameters, config)
    for name, leaf in arrays_and_integers(state):
        for bad, message in wrong(leaf):
            with pytest.raises(ValueError, match=re.escape(f"{place(name)} {message}")):
                self_modifying_titans(x, x, x, parameters, config, with_leaf(state, name, bad))


@each_model
def test_a_leaf_that_is_missing_or_too_many_is_named(config: HopeConfig) -> None:
    parameters, state = after(config)
    first = state.blocks[0]
    changes: list[tuple[Any, str]] = [
        (state._replace(blocks=state.blocks[:1]), "state.blocks must have 2 entries, got 1"),
        (state._replace(blocks=list(state.blocks)), "state.blocks must be a tuple, got list"),
        (
            state._replace(blocks=(first, first._replace(mixer=3))),
            f"state.blocks[1].mixer must be a {type(first.mixer).__name__}, got int",
        ),
        (
            state._replace(blocks=(first, first._replace(continuum=first.continuum._replace(levels=())))),
            "state.blocks[1].continuum.levels must have 2 entries, got 0",
        ),
    ]
    if config.mixer == MIXERS[0]:
        own: State = first.mixer.heads[1]  # type: ignore[union-attr]
        for part in State._fields[:-1]:
            arrays = dict(getattr(own, part))
            gone = sorted(arrays)[0]
            less, more = {n: a for n, a in arrays.items() if n != gone}, {**arrays, "extra": arrays[gone]}
            for changed, message in (
                (less, f"missing: {gone}, unknown: none"),
                (more, "missing: none, unknown: extra"),
                (list(arrays.values()), "must be a dict of named arrays, got list"),
            ):
                heads = (first.mixer.heads[0], own._replace(**{part: changed}))  # type: ignore[union-attr]
                mixer = first.mixer._replace(heads=heads)  # type: ignore[call-arg, arg-type]
                blocks = (first._replace(mixer=mixer), state.blocks[1])
                changes.append((state._replace(blocks=blocks), message))
    for bad, message in changes:
        with pytest.raises(ValueError, match=re.escape(message)):
            hope([], parameters, config, bad)


# --- positions -------------------------------------------------------------------------------------------------------


@each_model
def test_a_position_that_contradicts_the_state_is_refused_by_name(config: HopeConfig) -> None:
    parameters, state = after(config)
    own = [name for name, _ in arrays_and_integers(state) if name.endswith("position") and "." in name]
    assert len(own) == 2 * (1 + (config.heads if config.mixer == MIXERS[0] else 0))
    for name in own:
        for other in (2, 4):
            if config.signal == "task" and name.endswith("continuum.position"):
                want = "state.blocks must have one continuum.position, at most 3, got ["
            else:
                want = f"{place(name)} must be 3, as state.position says, got {other}"
            with pytest.raises(ValueError, match=re.escape(want)):
                hope([], parameters, config, with_leaf(state, name, other))
    for other in (2, 4):
        first = (
            "keys must have shape" if config.mixer == "softmax_attention" else r"heads\[0\].position must be"
        )
        with pytest.raises(ValueError, match=rf"state.blocks\[0\].mixer.{first}"):
            hope([], parameters, config, state._replace(position=other))


def test_levels_that_only_a_driver_moves_may_lag_behind_but_not_lead() -> None:
    config = MODELS["levels that only a driver moves"]
    parameters, state = after(config)

    def at(position: int) -> HopeState:
        blocks = (b._replace(continuum=b.continuum._replace(position=position)) for b in state.blocks)
        return state._replace(blocks=tuple(blocks))

    for position in (0, 2):
        hope([], parameters, config, at(position))
    with pytest.raises(ValueError, match=r"blocks must have one continuum.position, at most 3, got \[4, 4\]"):
        hope([], parameters, config, at(4))
    with pytest.raises(ValueError, match=r"continuum.position that is a multiple of 2, .* chunk, got 3"):
        hope([], parameters, config, at(3))


def test_levels_that_nothing_moves_have_taken_nothing_in() -> None:
    config = HopeConfig(**SMALL | {"signal": "none"})
    parameters, state = after(config)
    moved = with_leaf(state, "blocks.1.continuum.position", 2)
    with pytest.raises(ValueError, match=r"state.blocks\[1\].continuum.position must be 0, .* got 2"):
        hope([], parameters, config, moved)


# --- the configuration -----------------------------------------------------------------------------------------------

OTHER: dict[str, Any] = {
    "width": 8, "heads": 1, "vocabulary": 6, "blocks": 1, "hidden": 2, "memory_chunk_size": 4,
    "projection_chunk_size": 2, "eta_max": 0.9, "surprise_bound": 2.0, "value_norm": False, "writing": ("memory",),
    "inner_momentum": 0.2, "read_skip": True, "adaptive_query": True, "input_projection": False,
    "convolution_width": 3, "levels_chunk_sizes": (2, 8), "cms_rate": 0.1, "nested_rate": 0.2, "beta_max": 2.0,
    "gated": False, "learned_rates": True, "window": 3,
}  # fmt: skip
CHANGES = [
    *OTHER.items(),
    *((name, value) for name, values in CHOICES.items() for value in values if name != "mixer"),
    ("mixer", "softmax_attention"),
]
CHANGES = [
    (name, value) for name, value in CHANGES if getattr(MODELS["self-modifying Titans"], name) != value
]
OTHER_ARRAYS = {"heads", "blocks", "architecture", "adaptive_query", "mixer"}  # in the state of such a model
each_change = pytest.mark.parametrize(("name", "value"), CHANGES, ids=[f"{n}={v}" for n, v in CHANGES])
NAMED = {f"{name}={value}": (name, value) for name, value in CHANGES}
BY_NAME = {"width", "erase", "levels_chunk_sizes"}  # some of those that the arrays do not tell
FEW = {key for key, (name, _) in NAMED.items() if name in OTHER_ARRAYS | BY_NAME}


def changeable(name: str) -> HopeConfig:
    """A model in which that option may be another one: rates are learned of levels that the task moves."""
    return MODELS["self-modifying Titans"].replace(**({"signal": "task"} if name == "learned_rates" else {}))


def test_every_option_but_those_of_the_start_is_changed_here() -> None:
    assert {name for name, _ in CHANGES} | set(STARTS) == {field.name for field in fields(HopeConfig)}


@each_change
def test_a_state_of_another_configuration_is_refused_by_the_options_name(name: str, value: Any) -> None:
    config = changeable(name)
    _, state = after(config)
    other = config.replace(**{name: value})
    said = f"state.config must be that of the model, got {name}={getattr(config, name)!r} for {value!r}"
    with pytest.raises(ValueError, match=re.escape(said)):
        hope([], init(other), other, state)


@pytest.mark.parametrize("bad", [None, {}, "HopeConfig()"])
def test_a_state_without_a_configuration_is_refused(bad: Any) -> None:
    config = MODELS["self-modifying Titans"]
    parameters, state = after(config)
    with pytest.raises(ValueError, match=r"state\.config must be a HopeConfig, got"):
        hope([], parameters, config, state._replace(config=bad))


BEGINNINGS: dict[str, Any] = {"seed": 7, "eta_init": (0.5, 0.2), "alpha_init": 0.9, "memory_w1_std": 0.4}


def test_every_option_of_the_start_is_changed_here() -> None:
    assert set(BEGINNINGS) == set(STARTS)


@each_model
@pytest.mark.parametrize("name", STARTS)
def test_where_training_started_is_no_matter_to_a_state(
    name: str, config: HopeConfig, tmp_path: Path
) -> None:
    parameters, state = after(config)
    other = config.replace(**{name: BEGINNINGS[name]})
    same, there = (hope([2, 3], parameters, c, state) for c in (config, other))
    np.testing.assert_array_equal(there[0], same[0])
    assert there[1].config == other
    save_state(tmp_path / "a.npz", state)
    back = load_state(tmp_path / "a.npz", initial_state(parameters, other))
    np.testing.assert_array_equal(hope([2, 3], parameters, other, back)[0], same[0])


@each_model
def test_a_file_carries_the_configuration(config: HopeConfig, tmp_path: Path) -> None:
    parameters, state = after(config)
    save_state(tmp_path / "a.npz", state)
    with np.load(tmp_path / "a.npz") as file:
        assert HopeConfig.from_json(str(file["config"])) == config
    back = load_state(tmp_path / "a.npz", initial_state(parameters, config))
    assert back.config == config
    assert list(flattened(back)) == list(flattened(state))
    for name, leaf in arrays_and_integers(state):
        np.testing.assert_array_equal(flattened(back)[name], leaf)


@pytest.mark.parametrize(("name", "value"), some_slow(NAMED, FEW))
def test_a_file_of_another_configuration_is_refused(name: str, value: Any, tmp_path: Path) -> None:
    """By the option's name; by the arrays where the other model's state has others."""
    config = changeable(name)
    save_state(tmp_path / "a.npz", after(config)[1])
    other = config.replace(**{name: value})
    said = f"config must be that of the model, got {name}={getattr(config, name)!r} for {value!r}"
    said = "must hold the names of such a state" if name in OTHER_ARRAYS else re.escape(said)
    with pytest.raises(ValueError, match=f"a.npz.*{said}"):
        load_state(tmp_path / "a.npz", initial_state(init(other), other))


@pytest.mark.parametrize("poison", [np.inf, np.nan])
def test_a_state_that_is_not_finite_is_not_hidden_not_even_in_a_file(poison: float, tmp_path: Path) -> None:
    config = MODELS["self-modifying Titans"]
    parameters, state = after(config)
    name = "blocks.0.mixer.heads.0.weights.w1_memory"
    state = with_leaf(state, name, flattened(state)[name] + poison)
    save_state(tmp_path / "a.npz", state)
    back = load_state(tmp_path / "a.npz", initial_state(parameters, config))
    with np.errstate(invalid="ignore"):
        outputs = [hope([1], parameters, config, s)[0] for s in (state, back)]
    np.testing.assert_array_equal(*outputs)
    assert np.isnan(outputs[0]).all()
