"""A diagram of HOPE drawn from a configuration: blocks, memories, who reads what, who writes whom, how often. SVG. [D]

What it shows comes from the model's own data: memories and writers from `HopeConfig`, how often each changes from
`hope_ref.laboratory.anatomy`, which view each memory reads from `VIEWS`, which a test holds against the code by perturbation.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import NamedTuple

from hope_ref.common.files import replacing
from hope_ref.config import HopeConfig
from hope_ref.laboratory.anatomy import anatomy
from hope_ref.teaching.figures import BLUE, VERMILION
from hope_ref.teaching.svg import (
    FRAME,
    INK,
    SOFT,
    Box,
    formula,
    frame,
    line,
    page,
    pill,
    plus,
    rect,
    text,
)

VIEWS: dict[str, str] = {"k": "k", "alpha": "k", "v": "v", "eta": "v", "memory": "q", "q": "q"}  # read by M_□
MAKES = {
    "k": "makes keys",
    "v": "makes values",
    "eta": "makes rates",
    "alpha": "makes retention",
    "q": "makes queries",
    "memory": "answers q",
}
LETTER = {"eta": "η", "alpha": "α"}
MOST_LEVELS = 5  # drawn one by one


class Diagram(NamedTuple):
    """The picture, and in words what it shows."""

    svg: str
    alt: str

    def save(self, path: Path) -> Path:
        """Write the picture by way of a temporary file; returns the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(self.svg.encode())
        return path


def diagram(config: HopeConfig | None = None) -> Diagram:
    """HOPE with these options.

    Args:
        config: None: the default.
    Returns:
        a `Diagram`; the SVG has the alternative text as its description.
    """
    config = config or HopeConfig()
    rows = {row.name: row.updates() for row in anatomy("hope", config=config)}
    updates = {name: _found(rows, f"M_{LETTER.get(name, name)},") for name in config.memories}
    levels = [f"1 / {size:,} tokens" for size in config.levels_chunk_sizes]
    if config.signal == "none":
        levels = ["0"] * len(levels)
    alt = _words(config, updates, levels)
    parts: list[str] = []
    height = _draw(parts, config, updates, levels)
    return Diagram(page(parts, height, alt), alt)


def _found(rows: dict[str, str], start: str) -> str:
    """How often the memory changes; its row begins with its name."""
    return next(updates for row, updates in rows.items() if row.startswith(start))


def _words(config: HopeConfig, updates: dict[str, str], levels: list[str]) -> str:
    """The same in words, for those who do not see it."""
    each = ", ".join(f"M_{name} ({often})" for name, often in updates.items())
    quiet = [f"M_{name}" for name in config.memories if name not in config.writers]
    target = "its own answer to the value" if config.target == "self" else "the value itself"
    still = f" {', '.join(quiet)} stay as they are." if quiet else ""
    source = {
        "task": "from the model's own loss on tokens just seen",
        "associative": "toward a fixed linear map of their own input",
        "none": "not at all",
    }[config.signal]
    return (
        f"A block of HOPE, repeated {config.blocks} times along a residual stream of width {config.width}, with {config.heads} "
        f"{'head' if config.heads == 1 else 'heads'}. Three views of each token feed {len(updates)} memories of one shape, named with how "
        f"often what a later token sees of them changes: {each}. The views x^k, x^v and q are read; keys, values, learning rates and "
        f"retention come out and form one write, which goes back into the memories, each toward {target}.{still} M_memory answers "
        f"the query. Behind it {len(levels)} levels of the continuum memory, perceptrons one after the other, learn {source}, "
        f"once in {', '.join(f'{size:,}' for size in config.levels_chunk_sizes)} tokens. A norm and the tied head make the logits."
    )


# --- drawing ----------------------------------------------------------------------------------------------------------


def _draw(parts: list[str], config: HopeConfig, updates: dict[str, str], levels: list[str]) -> float:
    order = sorted(config.memories, key=lambda name: (list("kvq").index(VIEWS[name]), name == "memory"))
    step, top = 62.0, 150.0
    boxes = {name: Box(392, top + step * place, 296, 46) for place, name in enumerate(order)}
    bottom = top + step * len(order)
    views = {
        view: Box(150, mean(boxes[name].middle for name in order if VIEWS[name] == view) - 24, 150, 48)
        for view in "kvq"
    }
    bus = Box(800, top - 6, 30, bottom - top - step * _below_the_bus(order))
    level_top = bottom + 104
    last = level_top + 116

    _stream(parts, config, level_top, last)
    frame(
        parts,
        Box(118, 84, 862, bottom + 62 - 84),
        f"Self-modifying Titans · {_many(config.heads, 'head')}",
    )
    frame(parts, Box(118, level_top - 30, 862, 122), _continuum_title(config))
    text(
        parts,
        980,
        70,
        f"block, {config.blocks} times" if config.blocks > 1 else "block, once",
        size=15,
        anchor="end",
        colour=SOFT,
    )
    _views(parts, config, views)
    for name, box in boxes.items():
        _memory(parts, config, name, box, updates[name])
        if name == "memory" and "q" in boxes:  # the view is read by M_q, whose answer asks M_memory
            line(parts, box.x + 200, boxes["q"].y + 46, box.x + 200, box.y, BLUE)
            text(parts, box.x + 209, box.y - 4, "q", size=15, colour=BLUE, slanted=True)
        else:
            line(parts, views[VIEWS[name]].x + 150, views[VIEWS[name]].middle, box.x, box.middle, BLUE)
    _write(parts, config, boxes, bus)
    _output(parts, boxes["memory"], bottom)
    _levels(parts, config, levels, level_top)
    _ends(parts, last)
    return _legend(parts, last + 88)


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _below_the_bus(order: list[str]) -> int:
    """How many boxes at the end make no part of a write."""
    return sum(VIEWS[name] == "q" for name in order)


def _stream(parts: list[str], config: HopeConfig, levels: float, last: float) -> None:
    """The stream goes past the Titans, and through the levels, which have their own skips, unless they stand side by side."""
    pieces = (
        [(58.0, last)] if config.variant == "independent" else [(58.0, levels + 32.5), (levels + 69.5, last)]
    )
    for top, bottom in pieces:
        parts.append(
            f'<path d="M 62 {top:.1f} V {bottom:.1f}" stroke="#c9c9c9" stroke-width="9" fill="none"/>'
        )
    text(parts, 44, 330, "residual stream", size=13, colour=SOFT, turned=True)


def _views(parts: list[str], config: HopeConfig, views: dict[str, Box]) -> None:
    made = "norm, linear" if config.input_projection else "norm"
    made += f", conv {config.convolution_width}" if config.convolution_width else ""
    linear = f"norm, linear{f', conv {config.convolution_width}' if config.convolution_width else ''}"
    for view, box in views.items():
        line(parts, 66, box.middle, box.x, box.middle, BLUE)
        rect(parts, box, "#ffffff", FRAME)
        asked = view == "q" and not config.adaptive_query
        base, index = ("q", "") if asked else ("x", view)
        formula(parts, box.x + box.width / 2, box.y + 20, base, index, up=True)
        text(
            parts,
            box.x + box.width / 2,
            box.y + 39,
            linear if view == "q" else made,
            size=12,
            anchor="middle",
            colour=SOFT,
        )


def _memory(parts: list[str], config: HopeConfig, name: str, box: Box, updates: str) -> None:
    rect(
        parts,
        box,
        "#f4f8fc" if name in config.writers else "#f4f4f4",
        BLUE if name in config.writers else FRAME,
        2,
    )
    formula(parts, box.x + (48 if name == "memory" else 30), box.middle + 6, "M", LETTER.get(name, name))
    text(parts, box.x + (96 if name == "memory" else 58), box.middle + 5, MAKES[name], size=14)
    pill(parts, box.x + box.width - 6, box.middle, updates)


def _write(parts: list[str], config: HopeConfig, boxes: dict[str, Box], bus: Box) -> None:
    """The bus: what the memories make, and what is written back into them."""
    if not config.writers:
        return
    rect(parts, bus, "#fdf3ec", VERMILION, 2)
    text(
        parts,
        bus.x + bus.width / 2 + 5,
        bus.y + bus.height / 2,
        "one write a token",
        size=14,
        anchor="middle",
        colour=VERMILION,
        turned=True,
    )
    for name, box in boxes.items():
        edge = box.x + box.width
        if VIEWS[name] != "q":
            symbol = LETTER.get(name, name)
            line(parts, edge, box.middle - 8, bus.x, box.middle - 8, BLUE)
            text(
                parts, edge + 50, box.middle - 13, symbol, size=15, anchor="middle", colour=BLUE, slanted=True
            )
        if name in config.writers:
            _back(parts, box, bus)
    target = "M(v), its own" if config.target == "self" else "v, for all"
    loss = "½‖M(k) − v̂‖²" if config.objective == "l2" else "−⟨M(k), v̂⟩"
    for place, words in enumerate(
        ("each memory", "takes a step on", loss, "with the target", f"v̂ = {target}")
    ):
        text(
            parts,
            bus.x + bus.width + 12,
            bus.y + 30 + 21 * place,
            words,
            size=13.5,
            colour=INK if place == 2 else SOFT,
        )
    erase = {"deviation": "W − W₀", "full": "W", "none": "nothing"}[config.erase]
    for place, words in enumerate(
        ("and erases", f"{erase} along", "its own input")
        if config.erase != "none"
        else ("and erases", "nothing")
    ):
        text(parts, bus.x + bus.width + 12, bus.y + 150 + 21 * place, words, size=13.5, colour=SOFT)


def _back(parts: list[str], box: Box, bus: Box) -> None:
    """The write's way into a memory: straight from the bus, or around its end to a memory that lies lower."""
    edge, y = box.x + box.width, box.middle + 9
    if y < bus.y + bus.height:
        line(parts, bus.x, y, edge, y, VERMILION, dashed=True)
    else:
        x = bus.x + bus.width / 2
        parts.append(
            f'<path d="M {x:.0f} {bus.y + bus.height:.0f} V {y:.0f} H {edge + 1:.0f}" stroke="{VERMILION}" stroke-width="1.8" '
            'fill="none" stroke-dasharray="6 4" marker-end="url(#vermilion)"/>'
        )


def _output(parts: list[str], memory: Box, bottom: float) -> None:
    box = Box(150, bottom + 6, 236, 40)
    rect(parts, box, "#ffffff", FRAME)
    text(parts, box.x + box.width / 2, box.middle + 5, "norm per head, linear", size=14, anchor="middle")
    x = memory.x + 40
    parts.append(
        f'<path d="M {x:.0f} {memory.y + memory.height:.0f} V {box.middle:.0f} H {box.x + box.width + 1:.0f}" stroke="{BLUE}" '
        'stroke-width="1.8" fill="none" marker-end="url(#blue)"/>'
    )
    text(parts, x + 9, box.middle - 4, "o", size=15, colour=BLUE, slanted=True)
    line(parts, box.x, box.middle, 76, box.middle, BLUE)
    plus(parts, box.middle)


def _continuum_title(config: HopeConfig) -> str:
    variant = {
        "sequential": "one after the other",
        "nested": "nested: each restarts where the next slower one ended",
        "independent": "side by side, summed",
    }[config.variant]
    return f"Continuum memory · {variant}"


def _levels(parts: list[str], config: HopeConfig, levels: list[str], top: float) -> None:
    order = list(enumerate(levels, 1))
    if config.order == "slow_to_fast" and config.variant != "independent":
        order.reverse()
    shown = order if len(order) <= MOST_LEVELS else [*order[: MOST_LEVELS - 1], order[-1]]
    gap = 34.0
    width = min(240.0, (800 - gap * (len(shown) - 1)) / len(shown))
    beside = config.variant == "independent"
    line(parts, 66, top + 28, 150, top + 28, BLUE)
    for place, (number, updates) in enumerate(shown):
        box = Box(150 + place * (width + gap), top, width, 56)
        rect(parts, box, "#f4f8fc" if updates != "0" else "#f4f4f4", BLUE if updates != "0" else FRAME, 2)
        does = f": {'a MLP(x)' if beside else 'z + MLP(z)'}" if width > 160 else ""
        text(parts, box.x + 12, box.y + 23, f"level {number}{does}", size=14)
        pill(parts, box.x + box.width - 8, box.y + 40, updates)
        if place and beside:
            _up_and_over(parts, box, top, gap)
        elif place:
            line(parts, box.x - gap, box.middle, box.x, box.middle, BLUE)
        if place and len(shown) < len(order) and place == len(shown) - 1:
            text(parts, box.x - gap / 2, box.middle - 8, "…", size=16, anchor="middle")
    end = 150 + len(shown) * (width + gap) - gap
    y = top + 74
    parts.append(
        f'<path d="M {end - width / 2:.0f} {top + 56:.0f} V {y:.0f} H 76" stroke="{BLUE}" stroke-width="1.8" fill="none" marker-end="url(#blue)"/>'
    )
    if beside:
        for place in range(len(shown) - 1):
            x = 150 + place * (width + gap) + width / 2
            parts.append(
                f'<path d="M {x:.0f} {top + 56:.0f} V {y:.0f}" stroke="{BLUE}" stroke-width="1.8" fill="none"/>'
            )
        plus(parts, y)
    if config.signal == "none":
        return
    words = {
        "task": "learn from the model's own loss on tokens just seen",
        "associative": "each learns a fixed linear map of its own input",
    }[config.signal]
    text(parts, 968, top - 9, words, size=13, anchor="end", colour=VERMILION)


def _up_and_over(parts: list[str], box: Box, top: float, gap: float) -> None:
    """The stream reaches a level that stands beside others along a line under their tops."""
    parts.append(
        f'<path d="M 130 {top + 28:.0f} V {top + 65:.0f} H {box.x - gap / 2:.0f} V {box.middle:.0f} H {box.x:.0f}" stroke="{BLUE}" '
        'stroke-width="1.8" fill="none" marker-end="url(#blue)"/>'
    )


def _ends(parts: list[str], last: float) -> None:
    for y, words in ((26.0, "tokens, embedding"), (last, "norm, tied head: logits of the next token")):
        width = 24 + 7.6 * len(words)
        box = Box(30, y, width, 34)
        rect(parts, box, "#ffffff", FRAME)
        text(parts, box.x + width / 2, box.middle + 5, words, size=14, anchor="middle")


def _legend(parts: list[str], y: float) -> float:
    line(parts, 30, y, 76, y, BLUE)
    text(parts, 86, y + 5, "is read by", size=13, colour=SOFT)
    line(parts, 186, y, 232, y, VERMILION, dashed=True)
    text(parts, 242, y + 5, "is written into", size=13, colour=SOFT)
    pill(parts, 430, y, "1 / token")
    text(
        parts,
        440,
        y + 5,
        "how often a later token sees it change: the darker, the faster",
        size=13,
        colour=SOFT,
    )
    return y + 24
