"""Long work on a terminal: a bar with the time that is left, on stderr, gone when the work is done; nothing in a file or a pipe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, unit: str = "step") -> Iterable[Item]:
    """The same items, with a bar if stderr is a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:  # no bar, then: the work is the same
        return items
    bar: Iterable[Item] = tqdm(items, desc=what, unit=unit, leave=False, dynamic_ncols=True, disable=None)
    return bar


def say(text: str) -> None:
    """Print a line above the bar, if there is one."""
    from tqdm import tqdm

    tqdm.write(text)
