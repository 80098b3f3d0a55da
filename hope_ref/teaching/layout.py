"""What several figures share in their layout: labels that keep apart, settings side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure


def spread(places: list[float], room: float, low: float, high: float) -> list[float]:
    """Move labels apart, in their order, so that they keep ``room`` between them and stay within low … high."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for count, i in enumerate(order):
        least = low if count == 0 else moved[order[count - 1]] + room
        moved[i] = max(moved[i], least)
    for count, i in enumerate(reversed(order)):
        most = high if count == 0 else moved[order[len(order) - count]] - room
        moved[i] = min(moved[i], most)
    return moved


def side_by_side(
    draw: Callable[..., None], settings: Sequence[Any], xlabel: str, ylabel: str, height: float
) -> Figure:
    """Six settings in two rows of three, each drawn by ``draw(axes, setting, small=True)``, with one pair of labels for all."""
    picture, panels = plt.subplots(2, 3, figsize=(9.2, height), sharex=True, sharey=True)
    for axes, setting in zip(panels.flat, settings, strict=True):
        draw(axes, setting, small=True)
    for axes in panels[1]:
        axes.set_xlabel(xlabel)
    for axes in panels[:, 0]:
        axes.set_ylabel(ylabel)
    return picture
