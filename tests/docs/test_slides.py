"""The slides: one heading and one equation or figure on each, complete without a network."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from hope_docs import slides as maker
from web_pages import WebPage, asks_elsewhere, broken, unconverted

pytestmark = pytest.mark.slow  # builds all pages

ROOT = Path(__file__).parents[2]
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_every_notebook_has_a_deck_and_the_list_has_them_all(
    slides: Path, slide_pages: dict[Path, WebPage]
) -> None:
    links = slide_pages[(slides / "index.html").resolve()].links
    assert links == [f"{path.stem}.html" for path in COURSE]


def test_pages_are_whole(slides: Path, slide_pages: dict[Path, WebPage]) -> None:
    assert broken(slide_pages) == []
    assert asks_elsewhere(slides, slide_pages) == []
    for file, page in slide_pages.items():
        assert page.language == "en", file
        assert page.title.endswith("hope_ref"), file
        assert page.without_alt == [], file
        assert unconverted(page) == [], file
        assert page.headings[0] == 1, file
        assert set(page.headings[1:]) <= {2}, file
        assert not re.search(
            r"https?://", file.read_text(encoding="utf-8").replace("http://www.w3.org/1998", "")
        ), file


@pytest.mark.parametrize("path", COURSE, ids=lambda p: p.stem)
def test_a_slide_has_one_heading_and_one_thing_to_look_at(path: Path, tmp_path: Path) -> None:
    columns = maker.deck(path, tmp_path).columns
    made = [slide for column in columns for slide in column]
    assert made[0].kind == "title"
    assert all(slide.heading for slide in made[1:])
    assert all(slide.body.count("<img") <= 1 for slide in made)
    figures = sum(
        "image/png" in output.get("data", {})
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    prose = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    figures += len(re.findall(r"^!\[", "\n".join(prose), re.MULTILINE))  # from files
    assert sum(slide.kind == "figure" for slide in made) == figures
    assert not re.search(r">!|\(Picture", "".join(slide.body for slide in made)), "shown, not described"
    if path.stem[0].isdigit():  # an appendix may do without
        assert {slide.kind for slide in made} >= {"equation", "figure", "proved", "errata", "exercise"}
    assert "<details" not in "".join(slide.body for slide in made), "no hints on the wall"
    if "<summary>Hint" in path.read_text(encoding="utf-8"):
        assert "Hint: " in "".join(slide.notes for slide in made), "the speaker has them"


def cell(source: str, *tags: str, code: bool = False) -> object:
    make = nbformat.v4.new_code_cell if code else nbformat.v4.new_markdown_cell
    return make(source, metadata={"tags": list(tags)})


def test_tags_change_the_choice(tmp_path: Path) -> None:
    cells = [
        cell("# 00 · Title\n\nText."),
        cell("## One\n\nFirst words.\n\n> $$a = b$$\n> [D], [[S 3]](../NOTATION.md#s-3)\n\nMore."),
        cell("Shown whole.", "slide"),
        cell("## Two\n\nA word. It is\n\n$$c = d$$", "no-slide"),
        cell("x = 1", "slide", code=True),
        cell("## Three\n\nOnly words.\n\nAnd more."),
    ]
    path = tmp_path / "00_title.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    columns = maker.deck(path, tmp_path).columns
    assert [[slide.kind for slide in column] for column in columns] == [
        ["title"],
        ["equation", "text"],
        ["code"],
        ["filler"],
    ]
    assert "First words." in columns[1][0].body
    assert "[D], [S 3]<" in columns[1][0].body, "the source keeps its brackets"
    assert "More." in columns[1][0].notes
    assert "And more." not in columns[3][0].body


def test_claims_in_a_row_share_a_slide() -> None:
    made = [maker.Slide("a", f"<p>SymPy proves:</p><ul><li>{n}</li></ul>", "proved") for n in range(5)]
    tidy = maker._tidy(made)
    assert [slide.body.count("<li>") for slide in tidy] == [4, 1]
