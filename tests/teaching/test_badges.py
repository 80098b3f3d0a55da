"""Badges: none without an address; with one, on every notebook, once, removable; and a first cell that installs what is missing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nbformat
import pytest

from hope_ref.__main__ import main
from hope_ref.teaching import badges

ROOT = Path(__file__).parents[2]
HERE = sorted((ROOT / "notebooks").rglob("*.ipynb"))
PUBLIC = '[project]\nname = "hope_ref"\n\n[project.urls]\n{urls}\n'


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A repository of two notebooks and a solution, without an address."""
    for path in (HERE[0], HERE[4], ROOT / "notebooks" / "solutions" / HERE[0].name):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def publish(folder: Path, urls: str = 'Repository = "https://github.com/someone/some.repo"') -> None:
    (folder / "pyproject.toml").write_text(PUBLIC.format(urls=urls), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name + path.parent.name: path.read_bytes() for path in sorted(folder.rglob("*.ipynb"))}


def run(folder: Path, *options: str) -> int:
    return main(["badges", "--folder", str(folder), *options])


def test_a_result_keeps_the_number_of_its_cell() -> None:
    shown = [{"output_type": "execute_result", "execution_count": 1}, {"output_type": "stream"}]
    cell = {"cell_type": "code", "id": "a", "execution_count": 1, "outputs": shown}
    book = {"cells": [cell]}
    badges.with_badges(book, "someone/repo", "notebooks/a.ipynb")
    assert (cell["execution_count"], shown) == (2, [{**shown[0], "execution_count": 2}, shown[1]])
    badges.without_badges(book)
    assert book == {"cells": [cell]}
    assert (cell["execution_count"], shown[0]["execution_count"]) == (1, 1)


def test_badges_here_are_as_the_address_says(capsys: pytest.CaptureFixture[str]) -> None:
    """No public address, no badge; a badge on every notebook as soon as there is one."""
    assert run(ROOT, "--check") == 0, capsys.readouterr().err
    if badges.repository(ROOT / "pyproject.toml") is None:
        for path in HERE:
            assert "badge" not in path.read_text(encoding="utf-8").casefold(), path.name


def test_without_an_address_nothing_changes_and_it_says_so(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy)
    publish(copy, 'Documentation = "https://example.org/hope_ref"\nIssues = "https://github.com/a/b/issues"')
    assert run(copy) == 0
    assert contents(copy) == before
    assert "names no repository on GitHub: no badges, nothing is changed" in capsys.readouterr().out


def test_a_badge_without_an_address_is_found(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(copy)
    run(copy)
    publish(copy, "")
    assert run(copy, "--check") == 1
    assert HERE[0].name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://github.com/someone/some.repo", "someone/some.repo"),
        ("https://github.com/someone/repo.git", "someone/repo"),
        ("https://github.com/some-one/repo/", "some-one/repo"),
        ("https://github.com/someone", None),
        ("https://github.com/someone/repo/issues", None),
        ("http://github.com.example.org/someone/repo", None),
        ("https://gitlab.com/someone/repo", None),
    ],
)
def test_which_addresses_count(tmp_path: Path, url: str, wanted: str | None) -> None:
    publish(tmp_path, f'Home = "https://example.org"\nSource = "{url}"')
    assert badges.repository(tmp_path / "pyproject.toml") == wanted


def test_badges_are_put_on_once_and_come_off_without_a_trace(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(copy)
    publish(copy)
    assert run(copy, "--check") == 1
    assert contents(copy) == before, "--check writes nothing"
    assert run(copy) == 0
    with_badges = contents(copy)
    assert set(with_badges) == set(before), "nothing is left beside them"
    assert all(with_badges[name] != before[name] for name in before)
    assert run(copy) == run(copy, "--check") == 0
    assert contents(copy) == with_badges
    assert "every notebook is as it should be" in capsys.readouterr().out
    publish(copy, 'Source = "https://github.com/other/repo"')
    run(copy)
    moved = contents(copy)
    assert all(b"someone" not in text and text.count(b"other/repo") == 3 for text in moved.values())
    assert run(copy, "--remove") == 0
    assert contents(copy) == before


def test_badges_lead_to_the_notebook_and_have_words(copy: Path) -> None:
    publish(copy)
    run(copy)
    for path in copy.rglob("*.ipynb"):
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        name = path.relative_to(copy).as_posix()
        assert book.cells[0].cell_type == "markdown"
        text = unquote(book.cells[0].source)
        assert f"https://mybinder.org/v2/gh/someone/some.repo/HEAD?labpath={name})" in text
        assert f"https://colab.research.google.com/github/someone/some.repo/blob/HEAD/{name})" in text
        assert text.count("[![Open this notebook on ") == 2
        assert book.cells[1].cell_type == "markdown", "the title stays above the code"
        first = next(cell for cell in book.cells if cell.cell_type == "code")
        assert first.metadata.tags == [badges.INSTALL]
        assert not first.outputs


def test_every_notebook_keeps_the_rules_with_badges_on(tmp_path: Path) -> None:
    specification = importlib.util.spec_from_file_location(
        "hygiene", ROOT / "tests" / "notebooks" / "hygiene.py"
    )
    assert specification is not None
    assert specification.loader is not None
    hygiene = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(hygiene)
    shutil.copytree(
        ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    publish(tmp_path)
    run(tmp_path)
    for path in tmp_path.rglob("*.ipynb"):
        assert hygiene.problems(path) == [], path.name


class Called:
    """Stands in for `subprocess.run`: notes what would be run."""

    def __init__(self) -> None:
        self.commands: list[Any] = []

    def __call__(self, command: list[str], **options: Any) -> None:
        assert options == {"check": True}
        self.commands.append(command)


@pytest.fixture
def first_cell(copy: Path) -> str:
    publish(copy)
    run(copy)
    book = json.loads((copy / "notebooks" / HERE[4].name).read_text(encoding="utf-8"))
    return "".join(next(cell for cell in book["cells"] if cell["cell_type"] == "code")["source"])


def test_the_first_cell_does_nothing_where_hope_ref_is(
    first_cell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = Called()
    monkeypatch.setattr(subprocess, "run", called)
    exec(first_cell, {})
    assert called.commands == []
    assert capsys.readouterr().out == ""


def test_the_first_cell_installs_what_is_missing_and_says_so(
    first_cell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = Called()
    monkeypatch.setattr(subprocess, "run", called)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(first_cell, {})
    ((python, *command),) = called.commands
    assert Path(python).exists()
    source = "hope_ref @ git+https://github.com/someone/some.repo"
    assert command == ["-m", "pip", "install", "--quiet", source]
    assert capsys.readouterr().out == f"hope_ref is missing here; installing {source}\n"
