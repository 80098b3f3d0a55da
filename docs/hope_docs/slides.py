"""Slides from the notebooks of the course: one heading and one equation or figure on each.

The rule. Every section of a notebook (``## ``) is a column of slides. In it

- a displayed equation is a slide, with its source number and the sentence before it;
- a figure is a slide, with its caption; so is the errata box, the surprise, and each exercise (without its hint);
- what `prove` showed becomes its claim in words: the LaTeX of a derivation is for reading, not for a wall;
- the code of the section "NumPy from scratch" is a slide, where it is short enough to be read from the last row;
- a section in which nothing of that stands has its first paragraph.

Everything that the notebook says in that cell is in the speaker's notes (key ``s``). A teacher changes the choice by tags
of cells: ``slide`` shows a cell whole, ``no-slide`` leaves it out.
"""

from __future__ import annotations

import base64
import html
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from hope_docs import notebooks, pages
from hope_docs.mathml import mathml

HERE = Path(__file__).resolve().parents[1]
MOST_LINES, MOST_CLAIMS = 16, 4  # on a slide: of code; that were proved
MOST_SIGNS = 33  # of an equation in full size
CLAIM = re.compile(r"<(?P<name>[\w.]+) \[(?P<source>[^]]*)\]: (?P<claim>.*)>", re.DOTALL)
EXERCISE = re.compile(r"\*\*(?:[A-Z]?\d+)\.\d+\*\*")


@dataclass
class Slide:
    """One slide, as HTML."""

    heading: str
    body: str
    kind: str  # title, equation, figure, proved, code, text, errata, surprise, exercise, filler
    notes: str = ""


@dataclass
class Deck:
    """The slides of one notebook; a column for each section."""

    name: str
    title: str
    columns: list[list[Slide]] = field(default_factory=list)


def _renderer() -> MarkdownIt:
    def equation(content: str, options: dict[str, Any]) -> str:
        element = mathml(content, bool(options["display_mode"]))
        signs = len(html.unescape(re.sub(r"<[^>]+>", "", element)))
        smaller = options["display_mode"] and signs > MOST_SIGNS
        return (
            element.replace("<math ", f'<math style="font-size: {60 / signs:.2f}em" ', 1)
            if smaller
            else element
        )

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    reader.use(dollarmath_plugin, renderer=equation, double_inline=False)
    return reader


MARKDOWN = _renderer()
# What a slide cannot lead to: links become their words, and [[S 3]](…) becomes [S 3].
LINK = re.compile(r"\[(\[[^]]+\]|[^]]+)\]\([^)]*\)")


def to_html(text: str) -> str:
    """Markdown with equations as HTML with MathML."""
    text = re.sub(r"</?small>", "", text)
    return str(MARKDOWN.render(LINK.sub(r"\1", notebooks.PICTURE.sub(r"(Picture: \1.)", text))))


def blocks(source: str) -> list[str]:
    """The paragraphs, quotations and lists of a cell; what is folded is left out."""
    return [
        block.strip("\n") for block in re.split(r"\n\s*\n", notebooks.FOLDED.sub("", source)) if block.strip()
    ]


def deck(path: Path, pictures: Path) -> Deck:
    """The slides of a notebook; figures are written into the folder `pictures`."""
    book = notebooks.read(path)
    made = Deck(path.stem, to_html(notebooks.title(book)).removeprefix("<p>").removesuffix("</p>\n"))
    section, said = "", ""
    column: list[Slide] = []
    for number, cell in enumerate(book.cells):
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            for heading, text in _sections(cell.source):
                if heading is not None:
                    made.columns.append(column := [])
                    section = heading
                if number == 0 and not column and len(made.columns) == 1:
                    column.append(Slide("", to_html(text), "title"))
                elif "no-slide" not in tags:
                    new = (
                        [Slide(section, to_html(text), "text")]
                        if "slide" in tags
                        else list(_from_text(section, text, path, pictures))
                    )
                    if not new and not column:
                        first = next((b for b in blocks(text) if not b.startswith((">", "|", "<"))), "")
                        new = [Slide(section, to_html(first), "filler")]
                    said += to_html(notebooks.FOLDED.sub(r"\1: \2", text))
                    said = _told(new, said)
                    column += new
        elif "no-slide" not in tags:
            new = list(_from_code(section, cell, pictures, f"{path.stem}-{number:02d}", "slide" in tags))
            said = _told(new, said)
            column += new
    made.columns = [slides for column in made.columns if (slides := _tidy(column))]
    return made


def _told(new: list[Slide], said: str) -> str:
    """What was said goes into the notes of the next slide that stays; returns what is still to be said."""
    for slide in new:
        if slide.kind != "filler":
            slide.notes, said = said, ""
    return said


def _tidy(column: list[Slide]) -> list[Slide]:
    """Claims that were proved in a row share a slide; the first paragraph is there only if nothing else is."""
    found: list[Slide] = []
    for slide in column:
        if found and slide.kind == found[-1].kind == "proved" and found[-1].body.count("<li>") < MOST_CLAIMS:
            found[-1].body = found[-1].body.replace("</ul>", "") + slide.body.split("<ul>", 1)[1]
            found[-1].notes += slide.notes
        elif slide.body.strip():
            found.append(slide)
    return [slide for slide in found if slide.kind != "filler" or len(found) == 1]


def _sections(source: str) -> Iterator[tuple[str | None, str]]:
    """The heading of each part of a cell, and its text; the text before the first heading has None."""
    parts = re.split(r"^##? (.+)$", source, flags=re.MULTILINE)
    if parts[0].strip():
        yield None, parts[0]
    yield from ((heading.strip(), text) for heading, text in zip(parts[1::2], parts[2::2], strict=True))


def _from_text(section: str, text: str, path: Path, pictures: Path) -> Iterator[Slide]:
    parts = blocks(text)
    for index, block in enumerate(parts):
        before = parts[index - 1] if index else ""
        if "$$" in block:
            lead = "" if before.startswith((">", "|", "-")) or "$$" in before else _last_sentence(before)
            quoted = re.sub(r"^> ?", "", block, flags=re.MULTILINE)
            body = re.sub(r"\s*(\$\$.*?\$\$)\s*", r"\n\n\1\n\n", quoted, flags=re.DOTALL)
            yield Slide(section, to_html(lead) + to_html(body), "equation")
        elif picture := notebooks.PICTURE.fullmatch(block):
            file = path.parent / picture[2]
            pictures.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, pictures / file.name)
            after = parts[index + 1] if index + 1 < len(parts) and parts[index + 1].startswith("*") else ""
            yield _figure(section, f"{pictures.name}/{file.name}", picture[1], after)
        elif block.startswith("> **Errata"):
            yield Slide(section, to_html(re.sub(r"^> ?", "", block, flags=re.MULTILINE)), "errata")
        elif block.startswith("**The surprise"):
            yield Slide(section, to_html(block), "surprise")
        elif EXERCISE.match(block):
            yield Slide(section, to_html(block), "exercise")


def _last_sentence(paragraph: str) -> str:
    """Enough of what comes before an equation to say what it is."""
    return re.split(r"(?<=[.:?!])\s+(?=[A-Z])", " ".join(paragraph.split()))[-1]


def _figure(section: str, address: str, alt: str, caption: str) -> Slide:
    picture = f'<img src="{address}" alt="{html.escape(alt)}">'
    words = to_html(caption.strip().strip("*"))
    return Slide(section, f"<figure>{picture}<figcaption>{words}</figcaption></figure>", "figure")


def _from_code(section: str, cell: Any, pictures: Path, name: str, whole: bool) -> Iterator[Slide]:
    lines = cell.source.count("\n") + 1
    if whole or ("from scratch" in section and lines <= MOST_LINES):
        yield Slide(section, highlight(cell.source, PythonLexer(), HtmlFormatter()), "code")
    claims, outputs = [], cell.outputs
    for index, output in enumerate(outputs):
        data = output.get("data", {})
        if found := CLAIM.match(data.get("text/plain", "") if "text/latex" in data else ""):
            claims.append(
                f"<li>{html.escape(found['claim'])} <small>[{html.escape(found['source'])}]</small></li>"
            )
        elif "image/png" in data:
            alt = output.metadata["image/png"]["alt"]
            after = (
                outputs[index + 1].get("data", {}).get("text/markdown", "")
                if index + 1 < len(outputs)
                else ""
            )
            file = pictures / f"{name}-{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(base64.b64decode(data["image/png"]))
            yield _figure(section, f"{pictures.name}/{file.name}", alt, after)
    if claims:
        yield Slide(section, f"<p>SymPy proves:</p><ul>{''.join(claims)}</ul>", "proved")


def make(out: Path, root: Path = HERE.parent) -> int:
    """A deck for each notebook of the course, a page that lists them, and everything that they need beside them."""
    pages.begin(out, HERE / "slides" / "slides.css")
    shutil.copytree(HERE / "slides" / "reveal", out / "reveal")
    code = HtmlFormatter(style="tango").get_style_defs(".highlight")
    dark = HtmlFormatter(style="monokai").get_style_defs(".highlight")
    (out / "code.css").write_text(
        f"{code}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n", encoding="utf-8"
    )
    decks = [deck(path, out / "pictures") for path in sorted((root / "notebooks").glob("*.ipynb"))]
    pages.write(out, HERE / "slides", "deck", decks)
    return 0
