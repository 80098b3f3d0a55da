"""The figures of the course: one registry, one style, alternative text and caption with each.

A figure is a function in `hope_ref.teaching.gallery` that draws what another function there measured; the tests
look at the measurements, people at the pictures. `python -m hope_ref figures` draws them all into ``figures/``.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hope_ref.common.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every common colour blindness; always with a line style or a marker too.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)


@dataclass(frozen=True)
class Drawing:
    """A drawn figure with the words that belong to it."""

    name: str
    figure: Figure
    alt: str  # what a reader who cannot see it should know
    caption: str  # one sentence: what to see


_registry: dict[str, Callable[..., Drawing]] = {}


def in_house_style() -> AbstractContextManager[None]:
    """Everything drawn in this context looks like the other figures."""
    import matplotlib.pyplot as plt

    return plt.style.context(str(resources.files("hope_ref.teaching") / "hope_ref.mplstyle"))


def figure(name: str, *, alt: str, caption: str) -> Callable[[Callable[..., Figure]], Callable[..., Drawing]]:
    """Register a drawing function under a name; it then runs in the house style and returns a `Drawing`.

    Raises:
        ValueError: if the name is taken, or the alternative text is shorter than a sentence.
    """
    if len(alt) < 40:
        raise ValueError(f"alt must be a sentence of at least 40 characters, got {alt!r}")

    def register(draw: Callable[..., Figure]) -> Callable[..., Drawing]:
        def in_style(*arguments: Any, **named: Any) -> Drawing:
            with in_house_style():
                return Drawing(name, draw(*arguments, **named), alt, caption)

        if name in _registry:
            raise ValueError(f"name must be new, got {name!r}, which is registered already")
        in_style.__doc__ = draw.__doc__
        in_style.__name__ = draw.__name__
        _registry[name] = in_style
        return in_style

    return register


def gallery() -> dict[str, Callable[..., Drawing]]:
    """All registered figures by name, those of every module of `hope_ref.teaching.gallery`."""
    import hope_ref.teaching.gallery as package

    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")
    return dict(_registry)


def save(drawing: Drawing, folder: Path) -> Path:
    """Write the figure to ``folder/name.png`` by way of a temporary file, close it, and return the path."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{drawing.name}.png"
    try:
        with replacing(path) as file:
            drawing.figure.savefig(file, format="png", metadata={"Description": drawing.alt})
    finally:
        plt.close(drawing.figure)
    return path
