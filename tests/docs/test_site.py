"""The site as files: every page is there, every link leads somewhere, nothing is asked of another host."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from fontTools.ttLib import TTFont
from hope_docs import api, notebooks, stage
from web_pages import WebPage, asks_elsewhere, broken, out_of_order, unconverted

pytestmark = pytest.mark.slow  # builds all pages

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))


def test_every_source_has_its_page(site: Path) -> None:
    for path in ROOT.glob("*.md"):
        assert (site / ("index.html" if path.stem == "README" else f"{path.stem}.html")).exists(), path
    assert (site / "docs" / "README.html").exists()
    for path in NOTEBOOKS:
        assert (site / path.relative_to(ROOT).with_suffix(".html")).exists(), path
    for name in api.modules():
        assert (site / "api" / f"{name}.html").exists(), name


def test_every_link_leads_somewhere(site_pages: dict[Path, WebPage]) -> None:
    assert broken(site_pages) == []


def test_tags_lead_to_the_rows_of_their_equations(site: Path, site_pages: dict[Path, WebPage]) -> None:
    rows = set(site_pages[(site / "NOTATION.html").resolve()].ids)
    assert {f"s-{number}" for number in range(1, 38)} <= rows
    leads = re.compile(r'href="([^"]*)NOTATION\.html#([sp]-\d+)"><span[^>]*>\[[SP] \d')
    for path in NOTEBOOKS:
        book = nbformat.read(path, as_version=4)
        prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
        text = (site / path.relative_to(ROOT).with_suffix(".html")).read_text(encoding="utf-8")
        links = leads.findall(text)
        assert len(links) == prose.count("NOTATION.md#"), path
        up = "../" * len(path.relative_to(ROOT).parent.parts)
        assert {folder for folder, _ in links} <= {up}, path
        assert {row for _, row in links} <= rows, path


def test_nothing_is_asked_of_another_host(site: Path, site_pages: dict[Path, WebPage]) -> None:
    assert asks_elsewhere(site, site_pages) == []


def test_every_page_is_readable_by_machines(site_pages: dict[Path, WebPage]) -> None:
    for file, page in site_pages.items():
        assert page.language == "en", file
        assert "hope_ref" in page.title, file
        assert page.without_alt == [], file
        assert len(page.ids) == len(set(page.ids)), file
        assert "skip-to-content" in file.read_text(encoding="utf-8"), file


def test_headings_are_in_order(site_pages: dict[Path, WebPage]) -> None:
    for file, page in site_pages.items():
        assert not out_of_order(page.headings), (file, page.headings)


def test_no_latex_is_left(site_pages: dict[Path, WebPage]) -> None:
    for file, page in site_pages.items():
        if "_modules" not in file.parts:
            assert unconverted(page) == [], file


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_notebook_has_its_code_outputs_and_equations(
    path: Path, site: Path, site_pages: dict[Path, WebPage]
) -> None:
    file = (site / path.relative_to(ROOT).with_suffix(".html")).resolve()
    text, page = file.read_text(encoding="utf-8"), site_pages[file]
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    shown = re.findall(r'<div class="[^"]*\b(input|exercise|output)\b', text)
    assert len([kind for kind in shown if kind != "output"]) == len(code)
    outputs = [output for cell in code for output in cell.outputs]
    data = [output.get("data", {}) for output in outputs]
    prose = "\n".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    assert text.count("<img") == sum("image/png" in d for d in data) + len(re.findall(r"!\[", prose))
    assert page.equations >= sum("text/latex" in d for d in data)
    for output in outputs:
        alt = output.metadata.get("image/png", {}).get("alt") if "metadata" in output else None
        assert not alt or alt[:60].replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;") in text


def test_the_font_has_every_sign_of_every_equation(site: Path) -> None:
    known = set(TTFont(site / "_static" / "math" / "latin-modern-math-subset.woff").getBestCmap())
    missing = set()
    for file in site.rglob("*.html"):
        for element in re.findall(r"<math .*?</math>", file.read_text(encoding="utf-8"), re.DOTALL):
            text = re.sub(r"<mtext>.*?</mtext>|<[^>]+>", "", element)
            text = re.sub(r"&#x([0-9A-Fa-f]+);", lambda hit: chr(int(hit[1], 16)), text)
            missing |= {sign for sign in text if ord(sign) > 127 and ord(sign) not in known}
    assert not missing, "make the subset anew (docs/README.md says how)"


def test_search_knows_the_words_of_a_notebook(site: Path) -> None:
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    known = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)\s*", index, re.DOTALL)[1])  # type: ignore[index]
    assert any("02_fix_interference" in name for name in known["docnames"])
    assert "zigzag" in known["terms"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (r"An equation $\nosuch x$.", r"index.md:3: WARNING: unknown \nosuch in the equation \nosuch x"),
        ("A [link](index.md#nowhere).", "'nowhere'"),
        ("A `word` and $x_t$.", ""),
    ],
)
def test_the_build_fails_and_says_where(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "index.md").write_text(f"# Home\n\n{text}\n", encoding="utf-8")
    call = ["-m", "sphinx", "-b", "html", "-c", str(ROOT / "docs"), "--fail-on-warning", "--quiet"]
    call += [str(tmp_path / "sources"), str(tmp_path / "site")]
    done = subprocess.run([sys.executable, *call], capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is bool(words), done.stderr
    assert words in done.stderr


def small(root: Path, readme: str = "# Home\n", cells: list[dict[str, object]] | None = None) -> Path:
    """A repository with one page and one notebook."""
    (root / "notebooks" / "solutions").mkdir(parents=True)
    (root / "README.md").write_text(readme, encoding="utf-8")
    book = nbformat.v4.new_notebook(cells=cells or [nbformat.v4.new_markdown_cell("# 00 · First")])
    nbformat.write(book, root / "notebooks" / "00_first.ipynb")
    return root


def test_links_are_turned_to_the_pages_of_the_site(tmp_path: Path) -> None:
    readme = "# Home\n[a](notebooks/00_first.ipynb#x) [b](notebooks/solutions) [c](README.md) `[d](no)` [e](#here)\n"
    root = small(tmp_path / "repository", readme.replace("`[d](no)` ", ""))
    at = stage.stage(tmp_path / "sources", root)
    text = (at / "index.md").read_text(encoding="utf-8")
    assert "[a](notebooks/00_first.md#x) [b](notebooks/solutions/index.md) [c](index.md) [e](#here)" in text


def test_a_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(stage.BrokenLink, match=r"README\.md: nothing is at nowhere\.md"):
        stage.stage(tmp_path / "sources", small(tmp_path / "repository", "# Home\n[a](nowhere.md)\n"))


def test_a_named_place_is_one_for_myst(tmp_path: Path) -> None:
    readme = '# Home\n\n| <a id="s-1"></a>S 1 | [[S 1]](README.md#s-1) |\n'
    at = stage.stage(tmp_path / "sources", small(tmp_path / "repository", readme))
    assert "| []{#s-1}S 1 | [[S 1]](index.md#s-1) |" in (at / "index.md").read_text(encoding="utf-8")


def test_links_within_code_are_no_links(tmp_path: Path) -> None:
    readme = "# Home\n\n```text\n[a](nowhere.md)\n```\n"
    at = stage.stage(tmp_path / "sources", small(tmp_path / "repository", readme))
    assert "[a](nowhere.md)" in (at / "index.md").read_text(encoding="utf-8")


def test_what_has_no_source_any_more_goes(tmp_path: Path) -> None:
    root = small(tmp_path / "repository")
    (root / "FAQ.md").write_text("# Questions\n", encoding="utf-8")
    assert (stage.stage(tmp_path / "sources", root) / "FAQ.md").exists()
    (root / "FAQ.md").unlink()
    assert not (stage.stage(tmp_path / "sources", root) / "FAQ.md").exists()


def picture(**metadata: object) -> object:
    one = nbformat.v4.new_output("display_data", data={"image/png": "iVBORw0KGgo="}, metadata=metadata)
    return nbformat.v4.new_code_cell("show()", outputs=[one])


def test_a_picture_without_words_is_an_error(tmp_path: Path) -> None:
    root = small(tmp_path, cells=[nbformat.v4.new_markdown_cell("# 00"), picture()])  # type: ignore[list-item]
    with pytest.raises(
        notebooks.UnknownOutput, match=r"00_first\.ipynb, cell 1: a picture without alternative text"
    ):
        notebooks.page(root / "notebooks" / "00_first.ipynb", tmp_path / "pictures")


def test_an_output_that_no_page_can_show_is_an_error(tmp_path: Path) -> None:
    failed = nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])
    cell = nbformat.v4.new_code_cell("1/0", outputs=[failed])
    root = small(tmp_path, cells=[nbformat.v4.new_markdown_cell("# 00"), cell])  # type: ignore[list-item]
    with pytest.raises(notebooks.UnknownOutput, match="an output of kind error"):
        notebooks.page(root / "notebooks" / "00_first.ipynb", tmp_path / "pictures")


def test_code_with_backticks_stays_in_its_fence() -> None:
    text = notebooks.fenced("{code-block} text", "a\n```\nb")
    assert text.startswith("````{code-block} text\n")
    assert text.endswith("\n````")


def test_the_checks_of_pages_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(
        '<html lang="en"><title>hope_ref</title><style>@import "//cdn.example/x.css";</style><h1>a</h1><h3>b</h3>'
        '<p>left $x_t$ over</p><img src="no.png"><a href="#nowhere">c</a><script src="https://cdn.example/x.js"></script>',
        encoding="utf-8",
    )
    page = WebPage(file)
    assert out_of_order(page.headings)
    assert unconverted(page) == ["left $x_t$ over"]
    assert page.without_alt == ["no.png"]
    assert [problem.split(": ")[1] for problem in broken({file: page})] == ["no such place", "no such file"]
    assert len(asks_elsewhere(tmp_path, {file: page})) == 2
