"""A file is there whole, or as it was before."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from hope_ref.files import replacing, write_json


@pytest.mark.parametrize(("private", "mode"), [(False, 0o644), (True, 0o600)])
def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path, private: bool, mode: int) -> None:
    path = tmp_path / "a"
    path.write_text("old", encoding="utf-8")
    with replacing(path, private=private) as file:
        file.write(b"new")
        assert path.read_text(encoding="utf-8") == "old"
    assert path.read_text(encoding="utf-8") == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old", encoding="utf-8")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_makes_its_folder(tmp_path: Path) -> None:
    path = write_json(tmp_path / "new" / "a.json", {"a": [1]})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1]}
