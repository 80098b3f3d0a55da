"""Pages that need no server: a folder with style, icon and font, one page for each notebook, and one that lists them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

HERE = Path(__file__).resolve().parents[1]


def begin(out: Path, style: Path) -> None:
    """An empty folder but for the style sheet, the icon, and what equations need."""
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(HERE / "static" / "math", out / "math")
    for file in (style, HERE / "static" / "icon.svg"):
        shutil.copy(file, out)


def write(out: Path, templates: Path, kind: str, made: Sequence[Any]) -> None:
    """NAME.html from the template ``kind``.html, which knows its page by that name, and index.html, which has them all."""
    loader = jinja2.FileSystemLoader(templates)
    pages = jinja2.Environment(loader=loader, autoescape=False, trim_blocks=True, lstrip_blocks=True)
    for one in made:
        plain = re.sub(r"<[^>]+>", "", one.title)
        _write(
            out / f"{one.name}.html", pages.get_template(f"{kind}.html").render({kind: one, "plain": plain})
        )
    _write(out / "index.html", pages.get_template("index.html").render({f"{kind}s": made}))


def _write(file: Path, text: str) -> None:
    file.write_text(text.rstrip() + "\n", encoding="utf-8")
