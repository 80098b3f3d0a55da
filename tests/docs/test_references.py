"""REFERENCES.md: well formed, and the one place where everything is that notebooks link to."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
ENTRIES = re.findall(r"^- .*$", (ROOT / "REFERENCES.md").read_text(encoding="utf-8"), re.MULTILINE)
PAPER = re.compile(r"https?://(?:www\.)?(?:arxiv\.org/(?:abs|pdf)/|(?:dx\.)?doi\.org/)[^\s)>\"]+")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def papers(text: str) -> list[str]:
    """Identifiers of the papers that a text links to: 2512.24695, or a DOI."""
    found = [link.rstrip(".,;") for link in PAPER.findall(text)]
    return [re.sub(r"https?://[^/]+/(?:abs/|pdf/)?|v\d+$|\.pdf$", "", link).lower() for link in found]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry[2:40])
def test_an_entry_says_who_what_when_and_where_it_is_used(entry: str) -> None:
    assert re.search(r"\*[^*]+\*", entry), "no title"
    assert re.search(r"\b(19|20)\d\d\b", entry) or "[S]" in entry, "no year"
    numbers = re.findall(r"\[(\d\d|A\d)\]", entry)
    assert numbers or "[P]" in entry or "[S]" in entry, "used nowhere"
    assert all(any(path.name.startswith(number) for path in NOTEBOOKS) for number in numbers)


def test_what_a_link_says_is_where_it_leads() -> None:
    for entry in ENTRIES:
        for said, target in re.findall(
            r"\[(?:arXiv|doi):([^\]]+)\]\(https://(?:arxiv\.org/abs|doi\.org)/([^)]+)\)", entry
        ):
            assert said == target.replace("%28", "(").replace("%29", ")"), entry


def test_no_paper_stands_there_twice() -> None:
    found = papers("\n".join(ENTRIES))
    assert len(found) > 40
    assert len(found) == len(set(found))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])
def test_every_paper_that_a_notebook_links_to_is_there(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    assert set(papers(prose)) <= set(papers("\n".join(ENTRIES)))


def test_the_citation_names_the_paper() -> None:
    assert "arXiv:2512.24695" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert papers(ENTRIES[0]) == ["2512.24695"]
