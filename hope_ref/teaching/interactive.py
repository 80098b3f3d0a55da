"""Figures to move by hand: `interactive("chunk_size")` shows a picture and the controls that change it.

The course shows six settings of each side by side, as every other figure; so a page, a print, a screen reader and a
strict comparison of outputs lose nothing. Who has ipywidgets may ask for any other setting.

Every control is a list with a name, which a screen reader reads out with its value; a number has a slider beside it.
Without a mouse: Tab; on a slider the arrow keys, Home and End; on a list the first letters of the wanted entry, Home and
End (JupyterLab keeps the arrow keys of a list for itself). Under the picture stands what it shows, in words; the picture
has the same words as its alternative text.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hope_ref.teaching.display import show

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hope_ref.teaching.figures import Drawing


@dataclass(frozen=True)
class Control:
    """One thing that a hand can change: the argument of the data function, its label, its positions, and the first one."""

    argument: str
    label: str
    positions: tuple[Any, ...]
    start: Any
    spoken: dict[str, str] = field(default_factory=dict)  # how a word among the positions is called

    def options(self) -> list[tuple[str, Any]]:
        """Every position with its name."""
        return [(self.spoken.get(p, p) if isinstance(p, str) else f"{p:g}", p) for p in self.positions]


@dataclass(frozen=True)
class Explorer:
    """A figure to move: what is measured at one setting, how it is drawn, what it says, and the still picture."""

    controls: tuple[Control, ...]
    data: Callable[..., Any]
    draw: Callable[[Axes, Any], None]
    words: Callable[[Any], str]
    still: Callable[[], Drawing]


def explorers() -> dict[str, Explorer]:
    """All of them by name."""
    from hope_ref.teaching.gallery import by_hand_clocks as clocks
    from hope_ref.teaching.gallery import by_hand_writes as writes

    alphas = (1.0, 0.99, 0.95, 0.9, 0.8, 0.5, 0.0)
    longer = (1, 2, 3, 4)
    return {
        "write": Explorer(
            (
                Control(
                    "eta", "learning rate η", (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 1.9, 2.0, 2.1), 0.5
                ),
                Control("alpha", "retention α", alphas, 1.0),
            ),
            writes.write_data,
            writes.draw_write,
            writes.write_words,
            writes.write_by_hand,
        ),
        "stability": Explorer(
            (
                Control("step", "step", tuple(writes.STEP_NAMES), "explicit", writes.STEP_NAMES),
                Control("objective", "loss", tuple(writes.SPOKEN_LOSSES), "dot", writes.SPOKEN_LOSSES),
                Control("alpha", "retention α", alphas, 1.0),
            ),
            writes.region_data,
            writes.draw_region,
            writes.region_words,
            writes.stability_by_hand,
        ),
        "chunk_size": Explorer(
            (
                Control("chunk_size", "chunk size C", (1, 2, 4, 8, 12, 16, 24, 32, 48, 64), 16),
                Control("eta", "learning rate η", (0.0625, 0.125, 0.25, 0.5, 0.75, 1.0), 1.0),
            ),
            clocks.chunk_size_data,
            clocks.draw_chunk_size,
            clocks.chunk_size_words,
            clocks.chunk_size_by_hand,
        ),
        "clocks": Explorer(
            (
                Control("first", "chunk size of the first level", (1, 2, 3, 4, 6, 8, 12, 16), 4),
                Control("second", "the second is longer by", longer, 2),
                Control("third", "the third again by", longer, 2),
                Control("variant", "levels", ("sequential", "nested", "independent"), "sequential"),
            ),
            clocks.frequencies_data,
            clocks.draw_frequencies,
            clocks.frequencies_words,
            clocks.clocks_by_hand,
        ),
    }


def at(explorer: Explorer, setting: dict[str, Any]) -> tuple[bytes, str]:
    """The picture of one setting, as PNG, and what it shows in words."""
    from matplotlib import pyplot as plt

    from hope_ref.teaching.figures import in_house_style

    data = explorer.data(**setting)
    with in_house_style():
        picture, axes = plt.subplots(figsize=(7.6, 4.2))
        explorer.draw(axes, data)
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png")
        plt.close(picture)
    return buffer.getvalue(), explorer.words(data)


class Panel:
    """The controls of an explorer, and the picture and the words that follow them. Needs ipywidgets."""

    def __init__(self, explorer: Explorer) -> None:
        import ipywidgets as widgets

        self.explorer = explorer
        self.lists = {}  # argument -> the list of its positions
        self.picture, self.words = widgets.HTML(), widgets.HTML()
        rows = []
        wide = {"description_width": "16em"}
        for control in explorer.controls:
            options = control.options()
            chosen = widgets.Dropdown(
                options=options,
                value=control.start,
                description=control.label,
                style=wide,
                layout={"width": "26em"},
            )
            chosen.observe(self.follow, names="value")
            self.lists[control.argument], row = chosen, [chosen]
            if not isinstance(control.start, str):
                slider = widgets.SelectionSlider(options=options, value=control.start, readout=False)
                widgets.link((chosen, "index"), (slider, "index"))
                row.append(slider)
            rows.append(widgets.HBox(row))
        self.box = widgets.VBox([*rows, self.picture, self.words])
        self.follow()

    def follow(self, _change: Any = None) -> None:
        """Draw what the controls say now."""
        setting = {argument: chosen.value for argument, chosen in self.lists.items()}
        picture, words = at(self.explorer, setting)
        alt, source = html.escape(words), base64.b64encode(picture).decode()
        self.picture.value = f'<img alt="{alt}" style="max-width: 100%" src="data:image/png;base64,{source}">'
        self.words.value = f'<p role="status">{alt}</p>'


def interactive(name: str) -> None:
    """Show a figure with controls; without ipywidgets say how to get them, and show six settings of it.

    Args: name: "write", "stability", "chunk_size" or "clocks". Raises: KeyError with these names for any other.
    """
    known = explorers()
    if name not in known:
        raise KeyError(f"nothing to move is named {name!r}; known: {', '.join(known)}")
    if find_spec("ipywidgets") is None:
        print(
            "for controls: pip install ipywidgets, restart the kernel and reload the page; here are six settings:"
        )
        show(known[name].still())
        return
    from IPython.display import display

    display(Panel(known[name]).box)
