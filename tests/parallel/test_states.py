"""Complete states and their files: bit for bit, no larger than their numbers, whole or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.hope import MIXERS, Hope
from hope_ref.parallel.hope_adaptation import adapt

CONFIG = HopeConfig(width=4, heads=2, hidden=3, memory_chunk_size=2, projection_chunk_size=4,
                    levels_chunk_sizes=(2, 4), inner_momentum=0.3, vocabulary=5)  # fmt: skip
TOKENS = torch.tensor([[1, 4, 0, 2, 2], [3, 1, 0, 4, 1]])


class Pair(NamedTuple):
    """A state in small."""

    first: Any
    second: Any


def equal(one: Any, other: Any) -> None:
    left, right = states.flattened(one), states.flattened(other)
    assert list(left) == list(right)
    for name, leaf in left.items():
        assert type(leaf) is type(right[name]), name
        assert torch.equal(leaf, right[name]) if isinstance(leaf, torch.Tensor) else leaf == right[name], name


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_goes_through_its_file(mixer: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = Hope(CONFIG.replace(mixer=mixer)).to(dtype)
    _, state = model(TOKENS)
    states.save_state(tmp_path / "state.pt", state)
    back = states.load_state(tmp_path / "state.pt", model.initial_state((2,)))
    equal(back, state)
    assert type(back) is type(state)
    assert type(back.blocks[0].mixer) is type(state.blocks[0].mixer)
    assert not any(leaf.requires_grad for leaf in states.flattened(back).values() if hasattr(leaf, "dtype"))
    assert torch.equal(model(TOKENS, back)[0], model(TOKENS, state)[0])


def test_an_adapting_state_goes_through_its_file(tmp_path: Path) -> None:
    model = Hope(CONFIG).double()
    _, state = adapt(model, TOKENS)
    states.save_state(str(tmp_path / "state.pt"), state)
    _, like = adapt(model, TOKENS[:, :0])
    equal(states.load_state(str(tmp_path / "state.pt"), like), state)


def test_names_are_plain() -> None:
    names = states.flattened(Hope(CONFIG).initial_state())
    wanted = {"position", "config", "blocks.0.mixer.key_inputs", "blocks.1.mixer.memory.weights.w1_k"}
    wanted |= {"blocks.1.continuum.levels.0.gram2", "blocks.0.mixer.memory.position"}
    assert wanted <= set(names)
    assert states.flattened(None) == {}
    assert states.flattened(7, "n") == {"n": 7}
    assert list(states.flattened({"a": [1, None, (2,)], "b": Pair(3, {4: 5})})) == ["a.0", "a.2.0", "b.first", "b.second.4"]  # fmt: skip


@pytest.mark.parametrize("leaf", ["text", 1.5, True, object()])
def test_other_leaves_are_refused(leaf: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"a\.1 must be a tensor, an integer, None or a tuple or dict of these"
    ):
        states.save_state(tmp_path / "state.pt", {"a": (1, leaf)})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="state must be a tensor"):
        states.flattened(leaf)


def test_mapped_keeps_the_structure() -> None:
    one = torch.ones(2, requires_grad=True)
    state = {"a": Pair(one, 3), "b": [None, (one * 2,)]}
    got = states.mapped(lambda tensor: tensor.detach() + 1, state)
    assert type(got["a"]) is Pair
    assert got["a"].second == 3
    assert isinstance(got["b"], list)
    assert got["b"][0] is None
    assert torch.equal(got["a"].first, torch.full((2,), 2.0))
    assert torch.equal(got["b"][1][0], torch.full((2,), 3.0))
    assert not got["b"][1][0].requires_grad


def test_views_are_saved_without_what_lies_behind_them(tmp_path: Path) -> None:
    """A slice of a large tensor costs the slice; an expanded one what it says it holds."""
    large = torch.randn(1000, 1000)
    states.save_state(tmp_path / "slice.pt", {"a": large[:2, :2], "b": large.mT[3:4, :5]})
    assert (tmp_path / "slice.pt").stat().st_size < 10_000
    back = states.load_state(tmp_path / "slice.pt", {"a": large[:1, :1], "b": large[:1, :1]})
    assert torch.equal(back["b"], large.mT[3:4, :5])
    model = Hope(CONFIG.replace(width=32))
    for state in (model.initial_state((3,)), model(TOKENS)[1]):
        states.save_state(tmp_path / "state.pt", state)
        leaves = [leaf for leaf in states.flattened(state).values() if isinstance(leaf, torch.Tensor)]
        numbers = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
        assert (tmp_path / "state.pt").stat().st_size < numbers + 1000 * len(leaves)


def test_what_is_loaded_can_be_written_to(tmp_path: Path) -> None:
    states.save_state(tmp_path / "s.pt", {"a": torch.zeros(()).expand(3)})
    back = states.load_state(tmp_path / "s.pt", {"a": torch.zeros(1)})
    back["a"][0] = 1
    assert back["a"].tolist() == [1, 0, 0]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    states.save_state(path, {"a": torch.ones(3)})

    def half(leaves: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="the disk is full"):
        states.save_state(path, {"a": torch.zeros(3)})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [path]
    assert torch.equal(states.load_state(path, {"a": torch.zeros(3)})["a"], torch.ones(3))

    def interrupted(source: Any, target: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hope_ref.common.files.os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        states.save_state(path, {"a": torch.zeros(3)})
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="no such folder"):
        states.save_state(tmp_path / "no such folder" / "state.pt", {"a": 1})


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        states.load_state(tmp_path / "none.pt", {"a": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a file of a state"),
        (b"no state at all", "must be a file of a state"),
        ([torch.ones(1)], "must hold named tensors, got list"),
        ({"a": torch.ones(3), "n": Path}, "must be a file of a state"),
        ({"a": torch.ones(3)}, "missing: n, unknown: none"),
        ({"a": torch.ones(3), "n": 1, "m": 2}, "missing: none, unknown: m"),
        ({"a": torch.ones(3), "n": 1, 5: 2, "x": 1}, "missing: none, unknown: 5, x"),
        ({"a": torch.ones(3).double(), "n": 1}, "a must be torch.float32 with 1 axes, got torch.float64 with 1 axes"),
        ({"a": torch.ones(3, 1), "n": 1}, "a must be torch.float32 with 1 axes, got torch.float32 with 2 axes"),
        ({"a": 3, "n": 1}, "a must be torch.float32 with 1 axes, got int"),
        ({"a": torch.ones(3), "n": torch.tensor(1)}, "n must be int, got torch.int64 with 0 axes"),
        ({"a": torch.ones(3), "n": "one"}, "n must be int, got str"),
        ({"a": torch.ones(3), "n": True}, "n must be int, got bool"),
    ],
)  # fmt: skip
def test_other_files_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        states.load_state(path, {"a": torch.zeros(3), "n": 0})


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    path, state = tmp_path / "state.pt", Hope(CONFIG.replace(blocks=1)).initial_state()
    states.save_state(path, state)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="must be a file of a state"):
        states.load_state(path, state)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "touched").touch, ())

    torch.save({"a": Evil()}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="must be a file of a state"):
        states.load_state(tmp_path / "state.pt", {"a": 1})
    assert not (tmp_path / "touched").exists()
