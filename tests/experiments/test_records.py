"""Records on the disk: whatever is read is looked at, and a damaged one never counts as evidence."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damaged_files import damaged

from hope_ref.experiments import Cell, Record, Records, records

CELL = Cell("toy", "a task", "A", 0, {"steps": 3, "rates": [0.1, 0.2]})
MEASURES = {"score": 0.5, "curve": [1.0, 2.0], "10": {"lost": None}, "9": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return records.save(tmp_path, CELL, MEASURES, 1.25)


def load(path: Path) -> Record | None:
    return records.load(path.parents[1], CELL)


def changed(path: Path, change: Callable[[dict[str, Any]], Any], *, digest: bool = False) -> None:
    """The file with other fields, with or without the right digest of them."""
    record = json.loads(path.read_text())
    del record["sha256"]
    change(record)
    path.write_text(json.dumps(record | ({"sha256": "0" * 64} if digest else {})))


def test_a_measure_may_be_no_number_and_names_may_have_been_numbers(tmp_path: Path) -> None:
    """A training that diverges ends so; JSON makes text of names, which are sorted otherwise."""
    measures = {"loss": math.nan, "rate": [math.inf, -math.inf], "by_pairs": {9: 1, 10: 2}}
    records.save(tmp_path, CELL, measures, 1)
    record = records.load(tmp_path, CELL)
    assert record is not None
    assert math.isnan(record.measures["loss"])
    assert record.measures["rate"] == [math.inf, -math.inf]
    assert record.measures["by_pairs"] == {"9": 1, "10": 2}


def test_a_record_of_an_earlier_version_has_no_digest(path: Path) -> None:
    before = load(path)
    changed(path, lambda _: None)
    assert load(path) == before


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "must be JSON: Expecting value"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:200]), "must be JSON"),
    "not UTF-8": (lambda path: path.write_bytes(b'{"a": "\xff"}'), "must be JSON in UTF-8"),
    "a list": (lambda path: path.write_text("[]"), "must be one JSON object, got list"),
    "deep": (lambda path: path.write_text('{"a": ' + "[" * 10**5), "nested too deeply"),
    "5000 digits": (lambda path: path.write_text('{"a": ' + "9" * 5000 + "}"), "at most 40 digits"),
    "a name twice": (lambda path: path.write_text('{"a": 1, "a": 1}'), "got 'a' twice"),
    "another object": (lambda path: path.write_text('{"a": 1}'), "missing: checksum, experiment, format,"),
    "long": (lambda path: path.write_text('{"a": "' + "a" * 2**20 + '"}'), "must have at most 1048576 bytes"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "must be a file, got a folder"),
    "another digest": (lambda path: changed(path, lambda _: None, digest=True), "got another sha256"),
    "other settings": (lambda path: changed(path, lambda own: own["settings"].update(steps=4)), "checksum must be that of its settings"),
    "a format of tomorrow": (lambda path: changed(path, lambda own: own.update(format=2)), "format must be 1, got 2"),
    "a list of measures": (lambda path: changed(path, lambda own: own.update(measures=[1])), "measures must be dict, got list"),
    "text for seconds": (lambda path: changed(path, lambda own: own.update(seconds="1")), "seconds must be int or float, got str"),
    "seconds that are none": (lambda path: changed(path, lambda own: own.update(seconds=math.nan)), "seconds must be finite and >= 0, got nan"),
    "endless seconds": (lambda path: changed(path, lambda own: own.update(seconds=math.inf)), "seconds must be finite and >= 0, got inf"),
    "a switch for a seed": (lambda path: changed(path, lambda own: own.update(seed=True)), "seed must be int, got bool"),
    "no settings": (lambda path: changed(path, lambda own: own.update(settings=None)), "settings must be dict, got NoneType"),
    "a field more": (lambda path: changed(path, lambda own: own.update(more=1)), "missing: none, unknown: more"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_records(name: str, path: Path) -> None:
    damage, message = DAMAGES[name]
    damage(path)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith("; move it elsewhere to run toy/a_task--A--0 again")
    assert "\n" not in str(caught.value)


def test_records_damaged_at_random(path: Path) -> None:
    right, content, draw, messages = load(path), path.read_bytes(), random.Random(0), []
    for _ in range(400):
        path.write_bytes(damaged(content, draw))
        try:
            assert load(path) == right, "a wrong success"
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 300
    assert all(message.startswith(str(path)) and "\n" not in message for message in messages)


def test_a_measure_that_is_no_number_is_named() -> None:
    bad = Records([Record(CELL, {"score": "high"}, 1.0)])
    with pytest.raises(ValueError, match=r"record toy/a_task--A--0: score must be a number, got str"):
        bad.values("a task", "A", "score")
