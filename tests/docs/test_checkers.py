"""The library for students: its checkers judge as the course's do, and hold neither solutions nor wrong answers."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hope_docs import checkers

from hope_ref.teaching.exercise import WrongAnswer, exercises, graded

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / checkers.EXERCISES).glob("*.py") if path.name != "__init__.py")
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def unpacked(path: Path) -> str:
    text = checkers.packed(path.read_text(encoding="utf-8"), path.name)
    found = re.search(r'b85decode\("([^"]+)"\)', text)
    assert found
    return zlib.decompress(base64.b85decode(found[1])).decode()


def of_students(path: Path) -> dict[str, Any]:
    """The exercises of the packed module, run as one."""
    module = ModuleType(f"hope_ref.teaching.exercises.{path.stem}")
    exec(checkers.packed(path.read_text(encoding="utf-8"), path.name), module.__dict__)
    return {entry.name: entry for entry in module.EXERCISES}


@each
def test_nothing_can_be_read_and_nothing_is_kept_that_no_check_needs(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    text = checkers.packed(source, path.name)
    assert len(text.splitlines()) < 8
    for line in source.splitlines():
        assert len(line) < 30 or line.startswith(('"""', "import ")) or line not in text
    kept = unpacked(path)
    assert '"""' not in kept
    defined = set(re.findall(r"^def (\w+)", kept, re.M))
    assert all(len(re.findall(rf"\b{name}\b", kept)) > 1 for name in defined)
    assert len(kept) < 0.8 * len(source)


@each
def test_it_holds_no_answer_and_judges_as_before(path: Path) -> None:
    known = {name: entry for name, entry in exercises().items() if entry.check.__module__.endswith(path.stem)}
    found = of_students(path)
    assert list(found) == list(known)
    for name, entry in found.items():
        assert (entry.solution, entry.wrong_answers, entry.title) == (None, (), known[name].title)
        entry.check(known[name].solution)
        for wrong, hint in known[name].wrong_answers[:3]:
            with pytest.raises(WrongAnswer, match=re.escape(hint)):
                entry.check(wrong)


def test_a_solution_that_no_check_needs_is_gone() -> None:
    assert "_unlearn" in (ROOT / checkers.EXERCISES / "e03.py").read_text(encoding="utf-8")
    assert not re.search(r"\b_unlearn\b", unpacked(ROOT / checkers.EXERCISES / "e03.py"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("EXERCISES = ()\n", r"e99\.py: no EXERCISES made of calls of Exercise"),
        (
            "EXERCISES = (Exercise('1', 't', f, s, ()),)\nif x:\n    y()\n",
            "bind names and do nothing else",
        ),
    ],
)
def test_a_module_that_does_not_fit_is_named(source: str, words: str) -> None:
    with pytest.raises(checkers.Unfit, match=words):
        checkers.without_solutions(source, "e99.py")


@pytest.mark.slow
def test_the_wheel_can_be_installed_and_has_no_solution(tmp_path: Path) -> None:
    wheel = checkers.wheel(tmp_path / "made")
    assert wheel.name.endswith("+student-py3-none-any.whl")
    options = [
        "--quiet",
        "--no-deps",
        "--no-index",
        "--disable-pip-version-check",
        "--target",
        str(tmp_path / "own"),
    ]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True)
    code = (
        "import hope_ref, numpy as np\n"
        "from hope_ref.teaching.exercise import exercises, graded\n"
        "print(hope_ref.__file__)\n"
        "print({e.solution for e in exercises().values()}, len(exercises()))\n"
        "try:\n    graded('03.3', lambda W, x, v, i, eta: W)\n"
        "except AssertionError as error:\n    print(error)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "own"), "PATH": "", "MPLBACKEND": "agg"},
    ).stdout.splitlines()  # fmt: skip
    assert said[0].startswith(str(tmp_path))
    assert said[1] == f"{{None}} {len(exercises())}"
    assert "What is left of example i is still in W" in said[2]


def test_a_graded_answer_is_ones_own() -> None:
    solution = exercises()["01.1"].solution
    for taken in (solution, partial(partial(solution)), lambda *a: exercises()["01.1"].solution(*a)):
        with pytest.raises(WrongAnswer, match="write your own"):
            graded("01.1", taken)
    assert sys.getprofile() is None
    for stub in (..., lambda *a: ...):
        with pytest.raises(NotImplementedError):
            graded("01.1", stub)
    with pytest.raises(WrongAnswer, match=r"shape|expected|returns?"):
        graded("01.1", lambda *a: None)
