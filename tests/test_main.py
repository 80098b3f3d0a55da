"""``python -m hope_ref``, as a user calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hope_ref import __main__ as command
from hope_ref import agreement, symbolic
from hope_ref.agreement import comparison
from hope_ref.symbolic import errata


def test_run_fails_when_a_proof_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hope_ref.symbolic.identity.Identity.holds", lambda self: False)
    monkeypatch.setattr(agreement, "components", lambda: agreement_components[:1])
    comparison.proofs.cache_clear()
    assert command.main(["run", "--figures", str(tmp_path)]) == 1
    comparison.proofs.cache_clear()
    shown = capsys.readouterr().out
    assert "FAILED  linear_attention.gradient" in shown
    assert "THE FLOORS DISAGREE" in shown


agreement_components = agreement.components()


def test_verify_one_component(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["verify", "--component", "delta rule"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("delta rule")
    assert lines[1].endswith("agrees")


def test_verify_exits_1_when_something_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hope_ref.agreement.comparison.BOUND", 0.0)
    assert command.main(["verify", "--component", "delta rule"]) == 1


def test_unknown_component_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["verify", "--component", "hope"]) == 2
    assert "--component must be one of 'linear attention'" in capsys.readouterr().err


def test_figures_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["figures", "ladder", "--figures", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "ladder.png")
    assert command.main(["figures", "nothing", "--figures", str(tmp_path)]) == 2
    assert "got nothing" in capsys.readouterr().err


def test_docs_are_written_whole_and_only_when_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = "Generated; do not edit.\n"  # the true sizes of slips take seconds
    monkeypatch.setattr(errata, "markdown", lambda: made_up)
    assert command.main(["docs", "--check", "--folder", str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())
    assert command.main(["docs", "--folder", str(tmp_path)]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ERRATA.md", "NOTATION.md"]
    assert "written: NOTATION.md, ERRATA.md" in capsys.readouterr().out
    assert command.main(["docs", "--check", "--folder", str(tmp_path)]) == 0
    (tmp_path / "ERRATA.md").write_text("changed", encoding="utf-8")
    assert command.main(["docs", "--check", "--folder", str(tmp_path)]) == 1
    assert "out of date: ERRATA.md; run `make docs`" in capsys.readouterr().err


def test_as_a_program() -> None:
    call = [sys.executable, "-m", "hope_ref"]
    shown = subprocess.run([*call, "--help"], capture_output=True, text=True, check=True, timeout=600).stdout
    for name in ("run", "verify", "figures", "docs"):
        assert name in shown
    bare = subprocess.run(call, capture_output=True, text=True, check=False, timeout=600)
    assert bare.returncode == 2
    assert "COMMAND" in bare.stderr


@pytest.mark.slow
def test_run_shows_proofs_matrix_figures_training_and_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = tmp_path / "figures"
    monkeypatch.chdir(tmp_path)  # training leaves its files in ./runs
    assert command.main(["run", "--figures", str(figures), "--steps", "2"]) == 0
    shown = capsys.readouterr().out
    identities = symbolic.distinct()
    assert f"{len(identities)} of {len(identities)} identities are proved" in shown
    for identity in identities:
        assert f"proved  {identity.name}" in shown
    for component in agreement.components():
        assert component.name in shown
    assert "DISAGREE" not in shown
    assert {file.stem for file in figures.iterdir()} == set(command.README_FIGURES)
    assert "this HOPE after 2 steps" in shown
    assert "learning while it reads" in shown
    assert "notebooks/00_run_it_and_read_the_map.ipynb" in shown
