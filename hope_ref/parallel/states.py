"""Complete states of the parallel floor: nested named tuples, tuples and dicts of tensors and integers. [D]

`flattened` names every leaf by its path, as `hope_ref.reference.states` does, so the same names stand in both floors' files.
A state shares no storage with the parameters that it starts from. `StreamState` is what a whole model carries.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree, serialization

from hope_ref.common import nested
from hope_ref.common.files import one_line, replacing, stored_records
from hope_ref.common.validation import name_difference
from hope_ref.config import HopeConfig

State = TypeVar("State", bound="StreamState")

# leaves with an axis of tokens: all that attention has seen, and an open segment
TOKENS = re.compile(r"(?:.*\.)?mixer\.(?:keys|values)|(?P<segment>segment)")
PICKLED = 2**23  # bytes: the names, shapes and settings of more than 20,000 tensors
REBUILT = re.compile(r"torch\._utils\._rebuild_(?:tensor_v[23]|parameter)")
TYPES = re.compile(r"torch\.(?:storage\.)?\w+Storage|torch\.(?:u?int|float)\w+")


class StreamState:
    """What the state of a whole model can do, beside being a named tuple of its parts.

    ``state[i]`` picks sequences of the batch: with an integer one of them, without a batch axis then; with a slice, a list
    or a tensor some of them. Any leading axes count as the batch.
    """

    __slots__ = ()

    @property
    def lead(self) -> tuple[int, ...]:
        """The leading axes: one stream for each entry, () for a single stream."""
        model_state: Any = getattr(self, "now", self)  # of an adaptation, which holds two of a model
        return tuple(model_state.blocks[0].continuum.levels[0].sum1.shape[:-2])

    def __getitem__(self: State, index: Any) -> State:
        axes = len(self.lead)
        if axes == 0:
            raise IndexError(f"state must have a batch axis to be indexed by {index!r}, got a single stream")
        if isinstance(index, tuple) and len(index) > axes:
            raise IndexError(
                f"index must have at most {axes} entries, one per leading axis, got {len(index)}"
            )
        return mapped(lambda leaf: leaf[index], self)

    def to(self: State, *where: torch.device | torch.dtype | str | int) -> State:
        """On another device, and with its floating-point tensors in another dtype: ``state.to("cuda", torch.float64)``.

        A model in half precision carries memories and levels in float32: give such a state another device, and no dtype.
        """
        return mapped(lambda leaf: _moved(leaf, where), self)

    def detach(self: State) -> State:
        """Cut the graph of earlier tokens, so that training goes on along a stream (truncated backpropagation).

        What no token has moved yet, the levels of a continuum memory before their first update and the memories that do
        not write, still *is* a parameter. There the new state holds None: the next call reads the parameter itself, as it
        is then, and a gradient reaches it from every segment of the stream. Without a graph (under `torch.no_grad`) there
        is nothing to cut, and every tensor stays. To detach weights that you have put into a state yourself, use
        ``states.mapped(torch.Tensor.detach, state)``.
        """
        return nested.rebuilt(self, lambda name, leaf: _detached(leaf, unmoved(self, name)))


class UnequalStates(tuple[Any, ...]):
    """One state for each sequence of a batch, without a batch axis: their positions differ."""

    __slots__ = ()

    def detach(self) -> UnequalStates:
        """As `StreamState.detach`, each for itself."""
        return UnequalStates(state.detach() for state in self)

    def to(self, *where: torch.device | torch.dtype | str | int) -> UnequalStates:
        """As `StreamState.to`, each for itself."""
        return UnequalStates(state.to(*where) for state in self)


def stacked(parts: Sequence[Any]) -> Any:
    """One state with a batch axis in front, from states without one whose integers agree."""
    leaves = [flattened(part) for part in parts]
    return nested.rebuilt(
        parts[0],
        lambda name, leaf: torch.stack([one[name] for one in leaves]) if isinstance(leaf, Tensor) else leaf,
    )


def _detached(leaf: Any, is_parameter: bool) -> Any:
    """None for a parameter that a gradient can reach; a tensor that somebody put there stays."""
    if not isinstance(leaf, Tensor):
        return leaf
    return None if is_parameter and leaf.requires_grad else leaf.detach()


def _moved(leaf: Tensor, where: tuple[Any, ...]) -> Tensor:
    for one in where:
        if not isinstance(one, torch.dtype) or leaf.is_floating_point():
            leaf = leaf.to(one)
    return leaf


def unmoved(state: Any, name: str) -> bool:
    """Whether that leaf of a `StreamState`, by its dotted name, is a parameter that no token has moved yet."""
    before, of_block, path = name.rpartition("blocks.")
    if not of_block:
        return False
    whole = getattr(state, before[:-1]) if before else state
    config, position = whole.config, whole.position
    place, kind, *rest = path.split(".")
    if kind == "continuum" and rest[0] == "levels":
        seen, (level, leaf) = whole.blocks[int(place)].continuum.position, (int(rest[1]), rest[-1])
        sizes = (*config.levels_chunk_sizes, None)
        if leaf in ("start1", "start2"):  # moved by the next slower level's boundary, and in one variant only
            slower = sizes[level + 1] if config.variant == "nested" else None
            return slower is None or seen < slower
        return leaf in ("w1", "w2") and seen < sizes[level]
    if rest[:1] != ["memory"] or len(rest) < 3:
        return False
    part, leaf = rest[1:]
    chunk_size = config.memory_chunk_size
    if config.mixer == "self_modifying_titans":
        memory = leaf.split("_", 1)[1]
        if part in ("weights", "boundary") and memory not in config.writers:
            return True
        chunk_size = config.chunk_size(memory)
    return (part == "weights" and position == 0) or (part == "boundary" and position <= chunk_size)


def register(kind: Any) -> None:
    """Let `torch.func` and `torch.export` look into such a state."""
    _pytree.register_pytree_node(
        kind,
        lambda state: (list(state), None),
        lambda parts, _: kind(*parts),
        serialized_type_name=f"{kind.__module__}.{kind.__name__}",
    )


_pytree.register_constant(HopeConfig)


# --- leaves by name -------------------------------------------------------------------------------------------------


def flattened(state: Any, name: str = "") -> dict[str, Any]:
    """The leaves by dotted names, e.g. ``blocks.0.continuum.levels.1.w1``; None is left out.

    Raises: ValueError if a leaf is neither a tensor, an integer nor a configuration.
    """
    return nested.flattened(state, _is_leaf, "a tensor", name)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, Tensor | HopeConfig) or (isinstance(value, int) and not isinstance(value, bool))


def mapped(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The same structure with the function applied to every tensor, e.g. ``mapped(torch.clone, state)``."""
    return nested.rebuilt(state, lambda _, leaf: function(leaf) if isinstance(leaf, Tensor) else leaf)


def checked(state: Any, start: Any, name: str = "state", absent: list[str] | None = None) -> Any:
    """The state, if types, names, shapes, dtypes and devices are those of ``start``.

    It need not be finite: an overflow goes on, so that it is seen. Integers must be those of ``start``, or any >= 0 where
    start holds None. A configuration must compute the same. With a list ``absent`` None is allowed in the place of a tensor:
    what start holds stands there then, and the list takes the name.

    Raises: ValueError, naming the leaf, what it got and what it wants.
    """
    if isinstance(start, Tensor):
        if state is None and absent is not None:
            absent.append(name)
            return copied(start)
        return _checked_tensor(state, start, name)
    if isinstance(start, HopeConfig):
        return _checked_config(state, start, name)
    if start is None or isinstance(start, int):
        return _checked_integer(state, start, name)
    if isinstance(start, dict):
        if not isinstance(state, dict):
            raise ValueError(f"{name} must be a dict of named tensors, got {type(state).__name__}")
        if difference := name_difference(state, start):
            raise ValueError(f"{name} must hold {', '.join(start)}; {difference}")
        return {key: checked(state[key], part, f"{name}['{key}']", absent) for key, part in start.items()}
    if not isinstance(state, type(start)):
        raise ValueError(f"{name} must be a {type(start).__name__}, got {type(state).__name__}")
    parts, pattern = tuple(state), tuple(start)
    if len(parts) != len(pattern):
        raise ValueError(f"{name} must have {len(pattern)} entries, got {len(parts)}")
    fields = getattr(start, "_fields", None)
    places = (
        [f"{name}.{field}" for field in fields] if fields else [f"{name}[{i}]" for i in range(len(parts))]
    )
    filled = [
        checked(part, like, place, absent) for part, like, place in zip(parts, pattern, places, strict=True)
    ]
    return type(start)(*filled) if fields else tuple(filled)


def copied(view: Tensor) -> Tensor:
    """The tensor in storage of its own, which rows that are one and the same still share."""
    rows = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in view.stride())
    return view[rows].clone().expand(view.shape)


def _checked_tensor(got: Any, like: Tensor, name: str) -> Tensor:
    if not isinstance(got, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(got).__name__}")
    if got.dtype != like.dtype:
        raise ValueError(f"{name} must be {like.dtype}, got {got.dtype}")
    if got.device != like.device:
        raise ValueError(f"{name} must be on {like.device}, got {got.device}")
    if got.shape != like.shape:
        raise ValueError(f"{name} must have shape {tuple(like.shape)}, got {tuple(got.shape)}")
    return got


def _checked_config(got: Any, like: HopeConfig, name: str) -> HopeConfig:
    if not isinstance(got, HopeConfig):
        raise ValueError(f"{name} must be a HopeConfig, got {type(got).__name__}")
    if got is not like and (option := like.difference(got)):
        theirs, ours = (one_line(repr(getattr(one, option)), 100) for one in (got, like))
        raise ValueError(f"{name} must be that of the model, got {option}={theirs} for {ours}")
    return like


def _checked_integer(got: Any, like: int | None, name: str) -> Any:
    if isinstance(got, bool) or not isinstance(got, int | torch.SymInt) or got < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {got!r}")
    if like is not None and got != like:
        raise ValueError(f"{name} must be {like}, as state.position says, got {got}")
    return got


# --- files ----------------------------------------------------------------------------------------------------------


def save_state(path: str | Path, state: Any) -> None:
    """Write the state to a temporary file beside ``path``, then rename it: no reader ever meets half a file.

    Args: path, taken as it is; state. Raises: ValueError if the state holds anything else; OSError.
    """
    leaves = {name: _stored(leaf) for name, leaf in flattened(state).items()}
    # with the checksums that `read_torch` compares, whatever the process has set
    checksums = serialization.config.patch("save.compute_crc32", True)  # type: ignore[attr-defined]
    with replacing(path, private=True) as file, checksums:
        torch.save(leaves, file)


def _stored(leaf: Any) -> Any:
    if isinstance(leaf, HopeConfig):
        return leaf.to_json()
    if isinstance(leaf, Tensor):  # a copy: the file would hold the whole storage behind a view
        return leaf.detach().clone(memory_format=torch.contiguous_format)
    return leaf


def load_state(path: str | Path, like: Any) -> Any:
    """Read what `save_state` wrote into the structure, dtypes and devices of ``like``, e.g. of an initial state.

    Args: path; like, a state of the same kind; lengths of leading axes and of the tokens kept may differ, names, dtypes, all
    other shapes and the configuration may not. Of what is no `StreamState` any length may differ, and no number of axes.
    Returns: the state. Raises: ValueError if the file holds anything else; OSError if it cannot be read.
    """
    leaves_of_like = flattened(like)
    leaves = read_torch(path, "a file of a state", pickled=2**16 + 2**10 * len(leaves_of_like))
    if not isinstance(leaves, dict):
        raise ValueError(f"{path} must hold named tensors, got {type(leaves).__name__}")
    _check_names(path, leaves, like)
    read = {
        name: _read(path, name, leaves[name], want) for name, want in leaves_of_like.items() if name in leaves
    }
    state = nested.rebuilt(like, lambda name, _: read.get(name))
    if isinstance(like, StreamState):
        _check_shapes(path, state, like)
    return state


def _check_names(path: str | Path, leaves: dict[Any, Any], like: Any) -> None:
    """Raise a ValueError unless the names are those of ``like``, but for what `StreamState.detach` leaves out."""
    names = list(flattened(like))
    missing = [name for name in names if name not in leaves]
    positions = [name for name in names if name.endswith("position")]
    if isinstance(like, StreamState) and missing and all(isinstance(leaves.get(n), int) for n in positions):
        # what `detach` leaves out: a parameter, as far as the file's own positions say
        there = nested.rebuilt(like, lambda name, leaf: leaves[name] if name in positions else leaf)
        missing = [name for name in missing if not unmoved(there, name)]
    if difference := name_difference(leaves, [name for name in names if name in leaves or name in missing]):
        raise ValueError(f"{path} must hold the names of such a state; {one_line(difference)}")


def _read(path: str | Path, name: str, got: Any, want: Any) -> Any:
    """The leaf of a file as a state has it. Raises: ValueError unless it is of the kind of ``want``."""
    place = f"{path}: {name}"
    if isinstance(want, HopeConfig) and isinstance(got, str):
        return _checked_config(HopeConfig.from_json(got, place), want, place)
    if _kind(got) != _kind(want):
        raise ValueError(f"{place} must be {_kind(want)}, got {_kind(got)}")
    if not isinstance(got, Tensor):
        if _checked_integer(got, None, place) >= 2**63:
            raise ValueError(f"{place} must be below 2**63, got {got}")
        return got
    if got.numel() * got.element_size() > got.untyped_storage().nbytes():
        raise ValueError(f"{place} must hold all its entries, got {tuple(got.shape)} that repeat some")
    return got.detach().to(want.device)


def _check_shapes(path: str | Path, state: StreamState, like: StreamState) -> None:
    """Raise a ValueError unless the shapes are those of ``like``, but for the leading axes and how many tokens are kept."""
    leaves, lead, begin = flattened(state), state.lead, len(like.lead)
    for name, pattern in flattened(like).items():
        got = leaves.get(name)
        if not isinstance(got, Tensor):
            continue
        shape = [*lead, *pattern.shape[begin:]]
        if tokens := TOKENS.fullmatch(name):
            axis = -1 if tokens["segment"] else -2
            shape[axis] = got.shape[axis]
        if got.shape != tuple(shape):
            raise ValueError(f"{path}: {name} must have shape {tuple(shape)}, got {tuple(got.shape)}")


def _kind(leaf: Any) -> str:
    return f"{leaf.dtype} with {leaf.ndim} axes" if isinstance(leaf, Tensor) else type(leaf).__name__


# --- files of torch.save --------------------------------------------------------------------------------------------


def read_torch(path: str | Path, kind: str = "a whole file of torch.save", *, pickled: int = PICKLED) -> Any:
    """What ``torch.save`` wrote, on the CPU: tensors, numbers and text in dicts, lists and tuples; nothing in the file is run.

    Nothing is made of the file before it is looked at, see `stored_records`: PyTorch itself does not read the checksums.

    Args: path; kind, what the file must be, in the words of the error; pickled, the most bytes of names, numbers and text
    beside the tensors.
    Returns: whatever it is; types and names are the caller's to check. Raises: ValueError if the file is damaged or another
    one; OSError if it cannot be opened.
    """
    with stored_records(path, kind) as archive:
        _check_pickle(archive, pickled)
        assert archive.fp is not None
        archive.fp.seek(0)
        try:
            return torch.load(archive.fp, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # its own words advise to run whatever the file holds
            raise ValueError("it must hold tensors, numbers and text alone") from error


def _check_pickle(archive: zipfile.ZipFile, most: int) -> None:
    records = [record for record in archive.infolist() if record.filename.rpartition("/")[2] == "data.pkl"]
    if len(records) != 1:
        raise ValueError(f"it must have one record data.pkl, got {len(records)}")
    if records[0].file_size > most:
        raise ValueError(f"data.pkl must have at most {most} bytes, got {records[0].file_size}")
    _Look(io.BytesIO(archive.read(records[0]))).load()


class _Look(pickle._Unpickler):  # the one in Python, which takes no more memory than a pickle needs
    """Reads a pickle and makes none of its tensors: what it calls is looked at, and done nothing with."""

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in for what a tensor is made of. Raises: ValueError for anything else."""
        whole_name = f"{module}.{name}"
        if whole_name == "collections.OrderedDict":
            return _empty
        if REBUILT.fullmatch(whole_name):
            return _nothing
        if TYPES.fullmatch(whole_name):
            return whole_name
        raise ValueError(f"it must hold tensors, numbers and text alone, got {whole_name}")

    def persistent_load(self, pid: Any) -> None:
        """The numbers of a tensor: PyTorch reads them."""


def _empty(*entries: Any) -> OrderedDict[Any, Any]:
    """An OrderedDict as it is pickled: its entries come later. Raises: ValueError if it is a copy of others."""
    if entries:
        raise ValueError("its OrderedDicts must be pickled empty and filled then")
    return OrderedDict()


def _nothing(*_: Any) -> None:
    """In the place of a tensor."""
