"""The notebooks as files: executed in order, outputs kept; and proof that nbval and the hygiene test can fail."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from hope_ref.notation import SYMBOLS
from hope_ref.teaching.coverage import anchor, cited
from hope_ref.teaching.exercise import exercises
from hope_ref.teaching.interactive import explorers

ROOT = Path(__file__).parents[2]
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
each = pytest.mark.parametrize("path", COURSE + SOLUTIONS, ids=lambda p: f"{p.parent.name}/{p.stem}")
NUMBERED = [path for path in COURSE if re.match(r"\d\d_", path.stem)]  # the course itself
PRIMER = [path for path in COURSE if path.stem.startswith("A0_")]  # before the course; it has exercises, too
APPENDICES = [path for path in COURSE if re.match(r"A[1-9]_", path.stem)]
each_of_the_course = pytest.mark.parametrize("path", NUMBERED + PRIMER, ids=lambda p: p.stem)
each_appendix = pytest.mark.parametrize("path", APPENDICES, ids=lambda p: p.stem)

_spec = importlib.util.spec_from_file_location("hygiene", Path(__file__).with_name("hygiene.py"))
assert _spec is not None
assert _spec.loader is not None
hygiene = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hygiene)


def code(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def prose(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_every_notebook_is_numbered_or_an_appendix() -> None:
    assert len(PRIMER) == 1
    assert sorted(NUMBERED + PRIMER + APPENDICES) == COURSE
    assert {path.name for path in SOLUTIONS} == {path.name for path in NUMBERED + PRIMER}


@each
def test_hygiene(path: Path) -> None:
    assert hygiene.problems(path) == []


@each
def test_nbformat_is_valid_and_metadata_small(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    assert set(book.metadata) <= {"kernelspec", "language_info"}


def without_number(text: str) -> list[str]:
    """Displayed equations whose paragraph names no source: [S 18], [P 57], [P20 28], [Titans], [D]."""
    paragraphs = re.split(r"\n\s*\n", text)
    return [p for p in paragraphs if "$$" in p and not re.search(r"\[(?:S|P|P20) \w|\[(?:D|Titans)\b", p)]


@each
def test_each_displayed_equation_carries_its_number(path: Path) -> None:
    assert without_number(prose(path)) == []


def test_an_equation_without_its_number_is_seen() -> None:
    assert without_number("> $$a = b$$\n> [S 3], as printed\n\nwords") == []
    assert without_number("> $$a = b$$\n> [[S 3]](../NOTATION.md#s-3)\n\nwords") == []
    assert without_number("words [S 3]\n\n> $$a = b$$\n> where $a$ is") == ["> $$a = b$$\n> where $a$ is"]


# LaTeX that stands for no quantity: layout, operators, relations, functions with a name of their own.
NO_SYMBOLS = set(
    re.findall(
        r"\S+",
        """frac tfrac sqrt sum prod left right begin end top cdot cdots ldots dots quad qquad big Big le ge lt gt in pmod
    lfloor rfloor lceil rceil langle rangle odot otimes approx equiv pm infty partial nabla mathcal mathbf tilde hat bar
    underbrace small min max arg log exp leftarrow Leftarrow iff mid colon ne leq geq vdots ddots mapsto Rightarrow to
    square tanh sin substack bigl bigr Bigl Bigr star circ""",
    )
)


def quantities(latex: str) -> set[str]:
    """The letters and Greek commands of a formula, without words and layout."""
    latex = re.sub(r"\\(text|mathrm|operatorname)\*?\{[^{}]*\}", " ", latex)
    latex = re.sub(r"\\(begin|end)\{[^}]*\}", " ", latex)
    found = re.findall(r"\\[A-Za-z]+|[A-Za-z]", latex)
    return {name for name in found if name.removeprefix("\\") not in NO_SYMBOLS}


KNOWN = set().union(*(quantities(entry.latex) for entry in SYMBOLS))


@each_of_the_course
def test_every_symbol_of_a_displayed_equation_is_in_the_notation(path: Path) -> None:
    equations = re.findall(r"\$\$(.*?)\$\$", prose(path), re.DOTALL)
    assert set().union(*map(quantities, equations), set()) - KNOWN == set()


def test_a_symbol_that_is_nowhere_is_seen() -> None:
    assert quantities(r"\Xi_t = \frac{k}{2} \text{ words}") - KNOWN == {r"\Xi"}


@each_of_the_course
def test_each_notebook_has_its_solutions(path: Path) -> None:
    solved = ROOT / "notebooks" / "solutions" / path.name
    assert solved.exists()
    number = path.stem[:2]
    for name in (f"{number}.{i}" for i in (1, 2, 3)):
        assert name in exercises()
        assert f'attempt("{name}"' in code(path)
        assert f'attempt("{name}"' in code(solved)


@each_of_the_course
def test_each_notebook_has_the_parts_a_learner_looks_for(path: Path) -> None:
    text, source = prose(path), code(path)
    parts = ["You need", "Exercises", "What you checked", "Next"]
    parts += ["Summary", "Elsewhere", "Quiz"] if for_learners(path) else ["You will do", "You will learn"]
    for part in parts:
        assert part in text, part
    calls = ["check(", "what_you_checked()"]
    calls += ["sp.symbols(", "residual"] if path in PRIMER else ["symbols(", "prove("]
    for call in calls:
        assert call in source, call
    pictures = len(re.findall(r"\bshown?\(", source))
    assert 2 <= pictures <= 5, f"{pictures} figures"


def for_learners(path: Path) -> bool:
    return path.stem[:2] in hygiene.FOR_LEARNERS


@pytest.mark.parametrize(
    "path", [path for path in NUMBERED + PRIMER if for_learners(path)], ids=lambda path: path.stem[:2]
)
def test_a_learner_sees_guesses_and_tries(path: Path) -> None:
    assert hygiene.problems_for_learners(path) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda book: book["cells"].append(prose_cell("word " * 1600)), "words, at most 1600"),
        (lambda book: book["cells"].insert(0, prose_cell("word " * 301)), "words before the first picture"),
        (lambda book: first(book, "cell").update(source="x" * 89, metadata={}), "a line of 89 columns"),
        (
            lambda book: first(book, "image/png")["metadata"]["image/png"].update(alt="a" * 251),
            "an alternative text of 251 characters",
        ),
        (
            lambda book: book["cells"].extend(
                code_cell(f"more{i}", "from hope_ref.teaching.gallery import m3") for i in range(2)
            ),
            "figures whose experiment is imported",
        ),
        (lambda book: _without(book, "**Predict"), "0 predictions, at least 2"),
        (lambda book: _without(book, "<details>"), "0 questions of a quiz, at least 3"),
        (lambda book: _without(book, "http"), "0 links to the field, at least 3"),
        (lambda book: strip(book), "None words before the first picture"),
        (lambda book: strip(book), "0 cells that print numbers or draw, at least 4"),
    ],
)
def test_each_rule_for_learners_can_fail(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    found = hygiene.problems_for_learners(tampered(tmp_path / "01_tampered.ipynb", change))
    assert any(message in text for text in found), found


def _without(book: dict[str, Any], text: str) -> None:
    for cell in book["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = "".join(cell["source"]).replace(text, "")


@each_appendix
def test_each_appendix_has_the_parts_a_reader_looks_for(path: Path) -> None:
    """No exercises, no symbols: but what it is for, a check behind what it says, and the way on."""
    text, source = prose(path), code(path)
    for part in ("You will do", "You will learn", "You need", "What you checked", "Next"):
        assert part in text, part
    for call in ("check_true(", "what_you_checked()"):
        assert call in source, call
    assert source.count("show(") <= 5


@each
def test_no_stored_cell_waits_for_a_hand(path: Path) -> None:
    assert not re.search(r"\binteractive\(", code(path)), "its still picture is shown instead"


@each
def test_figures_to_move_that_the_prose_names_are_there(path: Path) -> None:
    assert set(re.findall(r'interactive\("(\w+)"\)', prose(path))) <= set(explorers())


@each
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", prose(path)):
        assert (path.parent / target).exists(), target


TAG = re.compile(r"(\[)?\[([^\][]*)\](?:\]\(([^)]*)\))?(?!\()")  # [S 3], [[S 3]](../NOTATION.md#s-3)
ROWS = set(re.findall(r'^\| <a id="([\w-]+)"></a>', (ROOT / "NOTATION.md").read_text("utf-8"), re.MULTILINE))


def wrong_tags(text: str, page: str) -> list[str]:
    """The tags of equations that do not lead to the row of their first equation; code and formulas have no tags."""
    found = []
    for tag in TAG.finditer(re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", " ", text, flags=re.DOTALL)):
        if not cited(tag[2]):
            continue
        first = re.search(r"\b[SP] \d+", tag[2])
        assert first is not None
        row = anchor(first[0])
        if row not in ROWS or tag[1] is None or tag[3] != f"{page}#{row}":
            found.append(tag[0])
    return found


@each
def test_each_tag_leads_to_the_row_of_its_equation(path: Path) -> None:
    page = "../../NOTATION.md" if path.parent.name == "solutions" else "../NOTATION.md"
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert wrong_tags(cell.source, page) == []


def test_a_tag_that_leads_nowhere_or_elsewhere_is_seen() -> None:
    right = "[[S 3]](a.md#s-3), [[P 15–16]](a.md#p-15), [[P 73, P 85]](a.md#p-73)"
    no_equations = (
        "[D], [P Alg. 1], [P 8.3], [P20 28–29], [Titans], [P section 9], `[S 3]`, $x[S 3]$, [A1](b.ipynb)"
    )
    assert wrong_tags(f"{right}; {no_equations}", "a.md") == []
    wrong = [
        "[S 3]",
        "[[S 3]](a.md#s-4)",
        "[[S 3]](b.md#s-3)",
        "[[S 38]](a.md#s-38)",
        "[[P 15–16]](a.md#p-16)",
    ]
    assert wrong_tags(", ".join(wrong), "a.md") == wrong


def test_the_address_of_a_tag_is_no_word() -> None:
    for text in ("As in [S 3], so in [P 18].", "As in [[S 3]](../N.md#s-3), so in [[P 18]](../N.md#p-18)."):
        picture = nbformat.v4.new_output("display_data", data={"image/png": ""})
        cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("", outputs=[picture])]
        assert hygiene.words_before_a_picture(nbformat.v4.new_notebook(cells=cells)) == 8


def strict(path: Path) -> subprocess.CompletedProcess[str]:
    """nbval on one copy, alone: no configuration of this repository, no coverage, no recursion into these tests."""
    call = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--nbval",
        "--nbval-current-env",
    ]
    return subprocess.run(
        [sys.executable, *call, "--rootdir", str(path.parent), str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


SMALL = ROOT / "notebooks" / "01_derive_linear_attention.ipynb"


def tampered(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    book = json.loads(SMALL.read_text(encoding="utf-8"))
    change(book)
    path.write_text(json.dumps(book), encoding="utf-8")
    return path


def change_one_index(book: dict[str, Any]) -> None:
    """v_{1} becomes v_{2} in the first stored LaTeX output."""
    for cell in book["cells"]:
        for output in cell.get("outputs", []):
            latex = output.get("data", {}).get("text/latex")
            if latex:
                line = "".join(latex)
                assert "v_{1}" in line
                output["data"]["text/latex"] = line.replace("v_{1}", "v_{2}", 1)
                del book["cells"][book["cells"].index(cell) + 1 :]  # the rest would only take time
                return
    raise AssertionError("no LaTeX output found")


def strip(book: dict[str, Any]) -> None:
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None


def test_stripped_outputs_are_seen(tmp_path: Path) -> None:
    found = hygiene.problems(tampered(tmp_path / "stripped.ipynb", strip))
    assert "not executed from top to bottom in one go" in found
    assert any("has no output" in text for text in found)


def first(book: dict[str, Any], what: str) -> Any:
    cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    if what == "cell":
        return cells[0]
    return next(o for cell in cells for o in cell["outputs"] if what in o.get("data", {}))


def stderr(book: dict[str, Any]) -> None:
    first(book, "cell")["outputs"].append({"output_type": "stream", "name": "stderr", "text": "Warning: old"})


def error(book: dict[str, Any]) -> None:
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
    first(book, "cell")["outputs"].append(failed)


def long_float(book: dict[str, Any]) -> None:
    first(book, "cell")["outputs"].append(
        {"output_type": "stream", "name": "stdout", "text": "0.30000000000000004"}
    )


def seven_digits(book: dict[str, Any]) -> None:
    first(book, "cell")["outputs"].append({"output_type": "stream", "name": "stdout", "text": "0.3333333"})


def prose_cell(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "more", "metadata": {}, "source": text}


def code_cell(name: str, text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "id": name,
        "metadata": {},
        "source": text,
        "outputs": [],
        "execution_count": 1,
    }


def bare_expression(book: dict[str, Any]) -> None:
    result = {
        "output_type": "execute_result",
        "execution_count": 1,
        "data": {"text/plain": "3"},
        "metadata": {},
    }
    first(book, "cell")["outputs"].append(result)


TAMPERINGS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda book: first(book, "image/png")["metadata"].clear(), "a picture without alternative text"),
    (lambda book: first(book, "cell")["metadata"].update(tags=["nbval-skip"]), "is skipped or ignored"),
    (lambda book: first(book, "cell").update(source="# NBVAL_IGNORE_OUTPUT"), "is skipped or ignored"),
    (lambda book: first(book, "cell").update(execution_count=7), "not executed from top to bottom"),
    (lambda book: first(book, "cell").update(source="x = 1\n" * 31), "31 lines in one cell"),
    (stderr, "something else on stderr"),
    (error, "stored output is an error, ValueError"),
    (long_float, "prints a float with all its digits"),
    (bare_expression, "ends in a bare expression"),
    (seven_digits, "prints a float with all its digits"),
    (lambda book: book["cells"].append(prose_cell("word " * 2500)), "words, at most 2500"),
    (
        lambda book: book["cells"].extend(code_cell(f"more{i}", "x = 1\n" * 30) for i in range(10)),
        "lines of code, at most 300",
    ),
]


@pytest.mark.parametrize(("change", "message"), TAMPERINGS, ids=[message[:30] for _, message in TAMPERINGS])
def test_each_hygiene_rule_can_fail(
    change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path
) -> None:
    found = hygiene.problems(tampered(tmp_path / "tampered.ipynb", change))
    assert any(message in text for text in found), found


def uncompared(count: int, tag: str = "nbval-ignore-output") -> Callable[[dict[str, Any]], None]:
    """Tag the first so many cells of code."""

    def change(book: dict[str, Any]) -> None:
        cells = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
        for cell in cells[:count]:
            cell["metadata"]["tags"] = [tag]

    return change


@pytest.mark.parametrize("name", ["12_trains.ipynb", "A3_times.ipynb"])
def test_where_it_is_measured_three_outputs_need_not_be_compared_and_a_fourth_is_seen(
    name: str, tmp_path: Path
) -> None:
    assert hygiene.problems(tampered(tmp_path / name, uncompared(3))) == []
    found = hygiene.problems(tampered(tmp_path / name, uncompared(4)))
    assert found == ["cell 4: is skipped or ignored by nbval"]
    for tag in sorted(hygiene.IGNORED - {"nbval-ignore-output"}):
        assert hygiene.problems(tampered(tmp_path / name, uncompared(1, tag))), tag
    assert len(hygiene.problems(tampered(tmp_path / "11_other.ipynb", uncompared(3)))) == 3


def test_only_the_measuring_notebooks_have_outputs_that_are_not_compared() -> None:
    for path in COURSE + SOLUTIONS:
        book = nbformat.read(path, as_version=4)
        tagged = sum("nbval-ignore-output" in cell.metadata.get("tags", []) for cell in book.cells)
        measures = path.parent.name != "solutions" and path.stem.startswith(hygiene.MEASURING)
        assert tagged <= (hygiene.MOST_UNCOMPARED if measures else 0), path


@pytest.mark.slow
def test_one_changed_index_fails(tmp_path: Path) -> None:
    """And nothing else does: all other cells pass."""
    bad = strict(tampered(tmp_path / "index.ipynb", change_one_index))
    assert bad.returncode == 1
    assert "text/latex" in bad.stdout
    assert "1 failed" in bad.stdout
