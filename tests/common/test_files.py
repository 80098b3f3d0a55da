"""A file is there whole, or as it was before."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from hope_ref.common.files import replacing, write_json


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


def test_the_old_one_is_replaced_and_not_written_over(tmp_path: Path) -> None:
    """Who reads it at that moment reads all of it: under its other name it is still what it was."""
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_text("old", encoding="utf-8")
    other.hardlink_to(path)
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_text(encoding="utf-8") == "new"
    assert other.read_text(encoding="utf-8") == "old"
    assert not path.samefile(other)


def test_the_disk_has_it_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def noted(name: str) -> Callable[..., None]:
        own = getattr(os, name)

        def call(*given: object) -> None:
            done.append(name)
            own(*given)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(f"hope_ref.common.files.os.{name}", noted(name))
    with replacing(tmp_path / "a") as file:
        file.write(b"new")
    assert done[:2] == ["fsync", "replace"]
    assert done[2:] == ["fsync"] * (os.name == "posix")  # the folder


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
