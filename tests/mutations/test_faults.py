"""The list of planted faults stays alive, and the runner tells a caught fault from one that survives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import run
from faults import Fault, faults

FAULTS = faults()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_can_be_planted(fault: Fault) -> None:
    assert fault.problem() == ""
    assert fault.breaks.endswith(".")
    assert fault.first(), "no tests to try first"


def test_there_are_eighty_with_names_of_their_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 80


def planted(tmp_path: Path, **changes: object) -> Fault:
    """A fault in a package of one line, with a test that sees a sign and nothing else."""
    (tmp_path / "one.py").write_text("def one() -> int:\n    return 1 * 1\n")
    (tmp_path / "test_one.py").write_text("import one\n\n\ndef test_one():\n    assert one.one() > 0\n")
    fields = {"name": "sign", "file": "one.py", "stands": "return 1", "put": "return -1", "breaks": "One."}
    return Fault(**{**fields, "tests": ("test_one.py",), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "two.py"}, "sign: no file two.py"),
        ({"stands": "return 3"}, "sign: its text stands 0 times in one.py, expected once"),
        ({"stands": "1"}, "sign: its text stands 2 times in one.py, expected once"),
        ({"put": "return 1"}, "sign: changes nothing"),
        ({"tests": ("test_two.py",)}, "sign: no test test_two.py"),
    ],
)
def test_what_cannot_be_planted_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    assert planted(tmp_path, **changes).problem(tmp_path) == message


OPTIONS = ["-c", "/dev/null", "--rootdir", "."]  # nothing of this repository


@pytest.fixture(autouse=True)
def without_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs that the tests start need none, and they take longer to load than the rest."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def test_a_caught_fault_names_its_test(tmp_path: Path) -> None:
    fault = planted(tmp_path)
    assert run.tried(fault, tmp_path, OPTIONS, ["test_one.py"], set()) == "test_one.py::test_one"
    assert "return 1 * 1" in (tmp_path / "one.py").read_text(), "the copy is as it was"


def test_a_fault_that_no_test_sees_survives(tmp_path: Path) -> None:
    fault = planted(tmp_path, put="return 2")
    assert run.tried(fault, tmp_path, OPTIONS, ["test_one.py"], set()) == ""


def test_a_test_that_is_red_anyway_catches_nothing(tmp_path: Path) -> None:
    fault = planted(tmp_path)
    (tmp_path / "test_one.py").write_text("def test_one():\n    assert False\n")
    with pytest.raises(RuntimeError, match="is red without the fault"):
        run.tried(fault, tmp_path, OPTIONS, ["test_one.py"], set())


def test_a_case_may_be_named_by_what_the_fault_changes(tmp_path: Path) -> None:
    fault = planted(tmp_path)
    case = "@pytest.mark.parametrize('found', [one.one()])\ndef test_one(found):\n    assert found > 0\n"
    (tmp_path / "test_one.py").write_text(f"import one\nimport pytest\n\n\n{case}")
    assert run.tried(fault, tmp_path, OPTIONS, ["test_one.py"], set()) == "test_one.py::test_one[-1]"


def test_a_fault_that_stops_the_tests_from_loading_is_not_judged(tmp_path: Path) -> None:
    fault = planted(tmp_path, put="return (1")
    with pytest.raises(RuntimeError, match="pytest ended with"):
        run.tried(fault, tmp_path, OPTIONS, ["test_one.py"], set())


def test_the_selection_is_that_of_make_test() -> None:
    options, paths = run.selection()
    assert options[:2] == ["--nbval", "--nbval-current-env"]
    assert options[options.index("-m") + 1] == "not slow"
    assert paths == ["tests", "notebooks"]
    assert options[-1] == "--ignore=tests/mutations", "there every fault is red"
