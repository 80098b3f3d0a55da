"""How far a reader walks who follows one token through the mathematics: calls, files, and switches between files.

`python tests/shared/reading_path.py` prints it for both floors. Counted are calls of functions in the floor's own folder, from
the model's unchecked loop on, without generator expressions; what only looks up names or options is no mathematics.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import hope_ref
from hope_ref.config import HopeConfig

PACKAGE = Path(hope_ref.__file__).parent
LOOKUPS = {
    "part",
    "of",
    "head_parameters",
    "levels",
    "weights_of",
    "parameters_of_levels",
    "level",
    "tensors",
}


class Walk(NamedTuple):
    """What a call of the model goes through."""

    calls: int
    files: tuple[str, ...]
    switches: int


def walk(floor: str, function: Callable[[], Any]) -> Walk:
    """Follow one call through the files of a floor, "reference" or "parallel"."""
    folder, entered = str(PACKAGE / floor), []  # type: tuple[str, list[str]]

    def watch(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        mathematics = not code.co_name.startswith("<") and code.co_name not in LOOKUPS
        if event == "call" and mathematics and code.co_filename.startswith(folder):
            entered.append(Path(code.co_filename).stem)

    sys.setprofile(watch)
    try:
        function()
    finally:
        sys.setprofile(None)
    switches = sum(one != other for one, other in pairwise(entered))
    return Walk(len(entered), tuple(sorted(set(entered))), switches)


def reference() -> Walk:
    """One token, one block, two levels, in NumPy."""
    from hope_ref.reference import hope

    config = HopeConfig(width=8, blocks=1, vocabulary=5, levels_chunk_sizes=(4, 8))
    parameters = hope.init(config)
    state, token = hope.initial_state(parameters, config), hope.checked_tokens([3], 5)
    return walk("reference", lambda: hope.stream(token, parameters, config, state))


def parallel() -> Walk:
    """One chunk of four tokens, one block, two levels, in PyTorch."""
    import torch

    from hope_ref.parallel.hope import Hope

    model = Hope(
        HopeConfig(
            width=8,
            blocks=1,
            vocabulary=5,
            levels_chunk_sizes=(4, 8),
            memory_chunk_size=4,
            projection_chunk_size=4,
        )
    )
    x, state = model.embedding[torch.tensor([3, 1, 0, 2])], model.blocks[0].initial_state()  # type: ignore[operator]
    with torch.no_grad():
        return walk("parallel", lambda: model.blocks[0](x, state))


if __name__ == "__main__":
    for name, one in (("reference, one token", reference()), ("parallel, one chunk", parallel())):
        print(
            f"{name}: {one.calls} calls, {one.switches} switches between {len(one.files)} files: {', '.join(one.files)}"
        )
