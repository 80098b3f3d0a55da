"""RESULTS.md is what the committed records say, and every record is of an experiment as it is now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hope_ref.experiments import NAMES, Cell, experiment, records, report

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / records.FOLDER


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "RESULTS.md").read_text(encoding="utf-8") == report.markdown(FOLDER, "full", range(3))


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_read(name: str) -> None:
    """A record that no cell asks for, say after a recipe has changed, would be dead weight that looks like evidence."""
    known = {records.place(FOLDER, cell): cell for cell in experiment(name).cells("full", range(3))}
    for path in (FOLDER / name).glob("*.json"):
        found = json.loads(path.read_text(encoding="utf-8"))
        assert path in known, path.name
        assert found["checksum"] == known[path].checksum, path.name
        own = Cell(**{key: found[key] for key in ("experiment", "task", "model", "seed", "settings")})
        assert own.checksum == found["checksum"], path.name


def test_the_page_names_its_commands_and_claims() -> None:
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"`python -m hope_ref experiment {name} --full`" in text
    assert "What we claim" in text
    assert "What we do not claim" in text
