"""Strokes of a diagram as SVG: boxes, arrows, words, tags. Each appends to a list of parts."""

from __future__ import annotations

import math
from html import escape
from typing import NamedTuple

from hope_ref.teaching.figures import BLUE, VERMILION

INK, SOFT, FRAME = "#1a1a1a", "#555555", "#8a8a8a"
PAGE = 1000  # its width


class Box(NamedTuple):
    """Where something stands."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Half way down."""
        return self.y + self.height / 2


def rect(parts: list[str], box: Box, fill: str, stroke: str, width: float = 1.4) -> None:
    parts.append(
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="8" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="{width}"/>'
    )


def frame(parts: list[str], box: Box, title: str) -> None:
    parts.append(
        f'<rect x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" height="{box.height:.0f}" rx="12" fill="none" '
        f'stroke="{FRAME}" stroke-dasharray="2 4"/>'
    )
    text(parts, box.x + 14, box.y + 23, title, size=16, bold=True)


def line(
    parts: list[str], x: float, y: float, to_x: float, to_y: float, colour: str, *, dashed: bool = False
) -> None:
    name = "blue" if colour == BLUE else "vermilion"
    dashes = ' stroke-dasharray="6 4"' if dashed else ""
    parts.append(
        f'<path d="M {x:.1f} {y:.1f} L {to_x:.1f} {to_y:.1f}" stroke="{colour}" stroke-width="1.8" fill="none"{dashes} '
        f'marker-end="url(#{name})"/>'
    )


def plus(parts: list[str], y: float) -> None:
    """Where a sub-layer's output joins the residual stream."""
    parts.append(
        f'<circle cx="62" cy="{y:.1f}" r="11" fill="#ffffff" stroke="{SOFT}" stroke-width="1.6"/>'
        f'<path d="M 56 {y:.1f} H 68 M 62 {y - 6:.1f} V {y + 6:.1f}" stroke="{SOFT}" stroke-width="1.8"/>'
    )


def text(
    parts: list[str], x: float, y: float, words: str, *, size: float, anchor: str = "start", colour: str = INK,
    bold: bool = False, slanted: bool = False, turned: bool = False,
) -> None:  # fmt: skip
    if not words:
        return
    more = ' font-weight="bold"' if bold else ""
    more += ' font-style="italic"' if slanted else ""
    more += f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    parts.append(
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{more}>{escape(words)}</text>'
    )


def formula(parts: list[str], x: float, y: float, base: str, index: str, *, up: bool = False) -> None:
    """A letter with an index below or above, in italics."""
    shift = -6 if up else 5
    small = f'<tspan dy="{shift}" font-size="70%">{escape(index)}</tspan>' if index else ""
    parts.append(
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="18" text-anchor="middle" font-style="italic" fill="{INK}">{base}{small}</text>'
    )


def pill(parts: list[str], right: float, middle: float, updates: str) -> None:
    """A rounded tag that ends at ``right``; shaded by how often."""
    width = 18 + 7.0 * len(updates)
    share = speed(updates)
    grey = round(232 - 170 * share)
    ink = "#ffffff" if share > 0.5 else INK
    parts.append(
        f'<rect x="{right - width:.1f}" y="{middle - 12:.1f}" width="{width:.1f}" height="24" rx="12" fill="rgb({grey - 20},{grey},{min(255, grey + 24)})"/>'
    )
    text(parts, right - width / 2, middle + 4.5, updates, size=13, anchor="middle", colour=ink)


def speed(updates: str) -> float:
    """1 for every token, 0 for once in ten thousand or never; in between by the logarithm."""
    if not updates.startswith("1 / "):
        return 0.0
    digits = "".join(c for c in updates[4:] if c.isdigit())
    ticks = int(digits or 1)
    return max(0.0, 1 - math.log10(ticks) / 4)


def page(parts: list[str], height: float, alt: str) -> str:
    def arrow(name: str, colour: str) -> str:
        return (
            f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
            f'<path d="M 0 1 L 10 5 L 0 9 z" fill="{colour}"/></marker>'
        )

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PAGE} {height:.0f}" width="{PAGE}" height="{height:.0f}" '
        'role="img" aria-labelledby="title description" font-family="DejaVu Sans, Verdana, sans-serif">'
        f'<title id="title">HOPE</title><desc id="description">{escape(alt)}</desc>'
        f"<defs>{arrow('blue', BLUE)}{arrow('vermilion', VERMILION)}</defs>"
        f'<rect width="{PAGE}" height="{height:.0f}" rx="14" fill="#ffffff"/>'
    )
    return "\n".join([head, *parts, "</svg>", ""])
