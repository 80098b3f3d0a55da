"""A sheet to print for each notebook: its question, its equations with their sources, its summary, its quiz.

Everything is taken from the notebook, so that nothing is written twice:

- the *question* is the first paragraph, the *aims* are the paragraphs "You will …", "You can …" and "You need …" before the
  first section;
- an *equation* is a quoted ``$$`` block that names its source in brackets, ``[S 3]``, ``[P 18]`` or ``[D]``;
- *Summary* and *Elsewhere this is called* are the section of that name, or for the latter the paragraph that begins with
  these words; external links keep their words and show their address;
- the *quiz* is on the sheet, its answers are on a second page for the teacher.

A part that a notebook lacks is left out; in the place of a summary the sheet then lists the sections. A notebook without a
title or a purpose, or with a heading under which nothing stands, is an error that names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from hope_docs import notebooks, pages
from hope_docs.mathml import mathml
from hope_docs.slides import blocks

HERE = Path(__file__).resolve().parents[1]
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")
MARKDOWN.use(dollarmath_plugin, renderer=lambda latex, options: mathml(latex, bool(options["display_mode"])))
RELATIVE = re.compile(r"(?<!!)\[(\[[^]]+\]|[^]]+)\]\((?!https?:)[^)\s]+\)")  # [[S 3]](…) becomes [S 3]
ANCHOR = re.compile(r'<a href="([^"]+)">.*?</a>', re.DOTALL)
EQUATION = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
AIM = re.compile(r"\**You (will|can|need)\b")
NUMBER = re.compile(r"(\d+) · ")
FOLD = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
NUMBERED = re.compile(r"^(\d+)(?:\.| ·) (.+?)$", re.MULTILINE)


class Unfit(ValueError):
    """A notebook from which no sheet can be made; the message names it."""


@dataclass
class Equation:
    """The formulas of one quoted block as MathML, and where they stand: ``§ 4 · [S 3], [P 18]``."""

    formulas: list[str]
    source: str


@dataclass
class Sheet:
    """The parts of one sheet, as HTML; a part that the notebook lacks is empty."""

    name: str
    title: str
    question: str
    aims: str
    equations: list[Equation] = field(default_factory=list)
    summary: str = ""
    sections: list[str] = field(default_factory=list)
    elsewhere: str = ""
    quiz: list[tuple[str, str]] = field(default_factory=list)  # question, answer


def address(url: str) -> str:
    """A web address as a reader of paper wants it."""
    if found := re.fullmatch(r"https?://arxiv\.org/abs/([\d.]+)(v\d+)?", url):
        return f"arXiv:{found[1]}"
    return re.sub(r"^https?://(www\.)?", "", url).rstrip("/").replace("%28", "(").replace("%29", ")")


def to_html(text: str, inline: bool = False) -> str:
    """Markdown with equations as HTML; links to other sites stay and show their address, others become words."""
    plain = re.sub(r"</?(?:small|code)>", "", RELATIVE.sub(r"\1", text)).strip()
    made = str(MARKDOWN.renderInline(plain) if inline else MARKDOWN.render(plain))
    return ANCHOR.sub(lambda found: f"{found[0]} <small>{address(found[1])}</small>", made)


def parts(book: Any) -> list[tuple[str, str]]:
    """The sections of a notebook as (heading, its Markdown); the first has no heading and is without the title."""
    found = [("", "")]
    for cell in book.cells:
        if cell.cell_type == "markdown":
            text = re.sub(r"^# .+$", "", cell.source, count=1, flags=re.MULTILINE)
            first, *others = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
            found[-1] = (found[-1][0], f"{found[-1][1]}\n\n{first}")
            found += zip(others[::2], others[1::2], strict=True)
    return [(heading.strip(), text.strip()) for heading, text in found]


def unquoted(block: str) -> str:
    """A block without the marks of a quotation."""
    return re.sub(r"^> ?", "", block, flags=re.MULTILINE)


def equations(heading: str, text: str) -> list[Equation]:
    """The quoted equations of a section that name a source."""
    found, section = [], NUMBER.match(heading)
    for block in blocks(text):
        source = " ".join(EQUATION.sub("", unquoted(block)).split())
        if block.startswith(">") and "$$" in block and "[" in source:
            formulas = [MARKDOWN.render(f"$${latex}$$") for latex in EQUATION.findall(unquoted(block))]
            place = f"§ {section[1]} · " if section else ""
            found.append(Equation(formulas, to_html(place + source, inline=True)))
    return found


def quiz(text: str) -> list[tuple[str, str]]:
    """Question and answer of a quiz; the question stands in the fold's summary, or above a fold named Answer."""
    found, above = [], 0
    for fold in FOLD.finditer(text):
        question = fold[1] if fold[1] != "Answer" else text[above : fold.start()]
        found.append((NUMBERED.sub(r"\2", question.strip()), fold[2].strip()))
        above = fold.end()
    return found


def sheet(path: Path) -> Sheet:
    """The sheet of one notebook.

    Raises:
        Unfit: naming the notebook, if a title or a purpose is missing, or a part is there without content.
    """
    book = notebooks.read(path)
    (_, opening), *sections = parts(book)
    try:
        title = to_html(notebooks.title(book), inline=True)
    except ValueError as error:
        raise Unfit(f"{path.name}: {error}") from error
    first = blocks(opening)
    aims = [
        block
        for before, block in zip(["", *first], first, strict=False)
        if AIM.match(block) or (AIM.match(before) and block.startswith("- "))
    ]
    question = first[0] if first and not AIM.match(first[0]) else ""
    if not question and not aims:
        raise Unfit(f"{path.name}: no purpose stands before its first section")
    made = Sheet(path.stem, title, to_html(question), to_html("\n\n".join(aims)))
    for heading, text in sections:
        made.equations += equations(heading, text)
        stand = [block for block in blocks(text) if not block.startswith("**Next**")]
        named = [block for block in stand if unquoted(block).startswith("**Elsewhere this is called**")]
        rest = "\n\n".join(block for block in stand if block not in named)
        if heading == "Summary":
            made.summary = to_html(rest)
        elif heading.startswith("Elsewhere this is called"):
            named = [rest]
        elif heading == "Quiz":
            made.quiz = [(to_html(q, inline=True), to_html(a, inline=True)) for q, a in quiz(text)]
        made.elsewhere += to_html(
            unquoted("\n\n".join(named)).replace("**Elsewhere this is called**", "").strip()
        )
        filled = {"Summary": made.summary, "Elsewhere": made.elsewhere, "Quiz": made.quiz}
        if (part := heading.split(" ")[0]) in filled and not filled[part]:
            raise Unfit(f"{path.name}: nothing stands under {heading}")
    if not made.summary:
        made.sections = [to_html(heading, inline=True) for heading, _ in sections if NUMBER.match(heading)]
    return made


def make(out: Path, root: Path = HERE.parent) -> int:
    """A sheet for each notebook, a page that lists them, and the style and the font beside them."""
    pages.begin(out, HERE / "sheets" / "sheets.css")
    sheets = [sheet(path) for path in sorted((root / "notebooks").glob("*.ipynb"))]
    pages.write(out, HERE / "sheets", "sheet", sheets)
    return 0
