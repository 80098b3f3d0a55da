"""The summary sheets: what the notebook says and no more, complete without a network, one A4 page each."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

import nbformat
import pytest
from browser import Browser
from hope_docs import sheets as maker
from hope_docs.sheets import Unfit, sheet
from web_pages import WebPage, asks_elsewhere, broken, unconverted

ROOT = Path(__file__).parents[2]
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", COURSE, ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build") / "sheets"
    assert maker.make(out) == 0
    return out


def words(element: str) -> str:
    """The words of a piece of HTML, without its equations and what was added behind its links."""
    bare = re.sub(r"<math.*?</math>|<small>.*?</small>", " ", element, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", bare)).split())


@each
def test_a_sheet_says_what_its_notebook_says(path: Path) -> None:
    made, book = sheet(path), nbformat.read(path, as_version=4)
    prose = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    bare = re.sub(r"\[(\[[^]]+\]|[^]]+)\]\([^)]*\)", r"\1", re.sub(r"\$[^$]*\$", " ", prose))
    known = set(re.findall(r"[\w’'-]+", re.sub(r"</?[a-z]+>", " ", bare)))
    said = [made.title, made.question, made.aims, made.summary, made.elsewhere, *made.sections]
    said += [text for pair in made.quiz for text in pair]
    for text in said:
        assert set(re.findall(r"[\w’'-]+", words(text))) <= known, text
    headings = re.findall(r"^## (.+)$", prose, re.MULTILINE)
    assert bool(made.summary) == ("Summary" in headings) != bool(made.sections)
    assert len(made.quiz) == (prose.count("<details>", prose.index("## Quiz")) if "Quiz" in headings else 0)
    assert bool(made.elsewhere) == ("Elsewhere this is called" in prose)
    assert made.question or made.aims
    assert "<strong>Next" not in made.summary + made.elsewhere
    for address in re.findall(r'href="([^"]+)"', made.elsewhere):
        assert address.startswith("http")
        assert html.unescape(address) in prose


@each
def test_every_equation_with_a_source_is_there(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    quoted = "\n\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    count = len(re.findall(r"^> \$\$", quoted, re.MULTILINE))
    made = sheet(path)
    assert sum(len(equation.formulas) for equation in made.equations) == count
    for equation in made.equations:
        assert re.match(r"§ \d+ · .*\[(S|P|D|Titans)", words(equation.source)), equation.source
        assert all(formula.count("<math ") == 1 for formula in equation.formulas)


def test_pages_are_whole(folder: Path) -> None:
    pages = {file: WebPage(file) for file in sorted(folder.resolve().glob("*.html"))}
    assert [page.links for file, page in pages.items() if file.stem == "index"] == [
        [f"{path.stem}.html" for path in COURSE]
    ]
    assert broken(pages) == []
    assert asks_elsewhere(folder, pages) == []
    for file, page in pages.items():
        assert page.language == "en", file
        assert page.title.endswith("hope_ref"), file
        assert unconverted(page) == [], file
        assert page.headings[0] == 1, file
        assert set(page.headings[1:]) <= {2}, file
        text = file.read_text(encoding="utf-8")
        assert "&lt;" not in re.sub(r"<(code|math)\b.*?</\1>", "", text, flags=re.DOTALL), (
            file,
            "tags as words",
        )
        head, _, teacher = text.partition('class="teacher"')
        for question, answer in sheet(ROOT / "notebooks" / f"{file.stem}.ipynb").quiz if teacher else []:
            assert question in head
            assert answer in teacher
            assert f'class="answer">{answer}<' not in head, "the answers are on the teacher's page alone"


def notebook(folder: Path, *texts: str) -> Path:
    path = folder / "99_made_up.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(t) for t in texts]), path)
    return path


def test_both_forms_of_each_part(tmp_path: Path) -> None:
    path = notebook(
        tmp_path,
        "# 99 · Made up\n\nWhat is it?\n\nNothing.\n\n**You need** a pen.",
        "## 1 · One\n\n> $$a = b$$\n> <small>[S 3], with $c$</small>\n\n> $$d = e$$ [[P 4]](../NOTATION.md#p-4)\n\n$$f = g$$",
        "## Summary\n\n1. It is $a$, see [01](01_x.ipynb).\n\n**Elsewhere this is called** *it*"
        " ([X 2000](https://arxiv.org/abs/2001.00001)).",
        "## Quiz\n\n1. First?\n\n<details><summary>Answer</summary>Yes.</details>\n\n"
        "<details><summary>2 · Second?</summary>\nNo.\n</details>\n\n**Next**: nothing.",
    )
    made = sheet(path)
    assert (words(made.question), words(made.aims)) == ("What is it?", "You need a pen.")
    assert [words(equation.source) for equation in made.equations] == ["§ 1 · [S 3], with", "§ 1 · [P 4]"]
    assert words(made.summary) == "It is , see 01."
    assert "arXiv:2001.00001</small>" in made.elsewhere
    assert words(made.elsewhere) == "it ( X 2000 )."
    assert made.quiz == [("First?", "Yes."), ("Second?", "No.")]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["No title.\n\n**You need** it."], "99_made_up.ipynb: the notebook has no heading"),
        (["# 99 · Title\n\n## 1 · One\n\nText."], "99_made_up.ipynb: no purpose"),
        (["# 99 · Title\n\nWhy?\n\n## Summary\n\n## Quiz"], "99_made_up.ipynb: nothing stands under Summary"),
        (["# 99 · Title\n\nWhy?\n\n## Quiz\n\n1. Open?"], "99_made_up.ipynb: nothing stands under Quiz"),
    ],
)
def test_an_unfit_notebook_is_named(texts: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(Unfit, match=re.escape(message)):
        sheet(notebook(tmp_path, *texts))


OUTSIDE = """document.fonts.ready.then(() => [...document.querySelectorAll("body *")].filter(part => {
  const box = part.getBoundingClientRect(), figure = part.closest("figure");
  return box.right > innerWidth + 1 || box.left < -1
    || (figure && box.right > figure.getBoundingClientRect().right + 1);
}).map(part => part.outerHTML.slice(0, 80)))"""


@pytest.mark.slow  # starts a browser
@each
def test_a_sheet_is_one_page_and_nothing_is_cut_off(path: Path, chromium: Browser, folder: Path) -> None:
    chromium.open((folder / f"{path.stem}.html").as_uri())
    assert chromium.problems() == []
    printed = base64.b64decode(chromium.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    pages = len(re.findall(rb"/Type\s*/Page\b(?!s)", printed))
    assert pages == (2 if sheet(path).quiz else 1)
    chromium.resize(688, 1024)  # what the margins of @page leave of A4, at 96 dpi
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.run(OUTSIDE) == []
    asked = "document.fonts.ready.then(() => document.fonts.check('16px \"Latin Modern Math subset\"'))"
    assert chromium.run(asked) or not sheet(path).equations
    chromium.call("Emulation.setEmulatedMedia", media="")
