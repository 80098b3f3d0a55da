"""A file is there whole, or as it was before; what is read is looked at."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hope_ref.common.files import (
    json_object,
    one_line,
    read_bytes,
    read_json,
    replacing,
    stored_records,
    write_json,
)


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


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON: Expecting value"),
        (b"{", "must be JSON: Expecting property name"),
        (b"[1]", "must be one JSON object, got list"),
        (b"\xff", "must be JSON in UTF-8: invalid start byte at byte 0"),
        (b'{"a": NaN}', "must be JSON: each number must be finite, got NaN"),
        (b'{"a": [1e400]}', "must be JSON: each number must be finite, got 1e400"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "must be JSON: each name must stand once, got 'c' twice"),
        (b'{"a": ' + b"[" * 10**5, "must be JSON, got one that is nested too deeply"),
        (
            b'{"a": -' + b"1" * 50 + b"}",
            "must be JSON: each integer must have at most 40 digits, got one of 50",
        ),
        (b'{"a": "' + b"a" * 2**20 + b'"}', "must have at most 1048576 bytes, got more"),
    ],
)
def test_what_is_no_json_object_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path} {message}")):
        read_json(path)


def test_json_comes_back_and_infinite_numbers_where_they_are_allowed(tmp_path: Path) -> None:
    record = {"a": [1, 2.5, None, True, "é"], "b": {"c": 10**39}}
    assert read_json(write_json(tmp_path / "a.json", record)) == record
    assert read_json(write_json(tmp_path / "b.json", {"a": -math.inf}), finite=False) == {"a": -math.inf}
    assert json_object('{"a": 1}') == {"a": 1}


def test_folders_devices_and_what_is_not_there(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(ValueError, match=rf"{tmp_path} must be a file, got a folder"):
        read_bytes(tmp_path)
    with pytest.raises(ValueError, match="/dev/zero must be a regular file, got a device or a pipe"):
        read_bytes("/dev/zero")
    with pytest.raises(ValueError, match="/dev/zero must have at most 9 bytes, got more"):
        read_bytes("/dev/zero", 9)
    with pytest.raises(FileNotFoundError, match="none"):
        read_json(tmp_path / "none")
    with pytest.raises(OSError, match="loop"):
        read_json(loop)


def test_an_error_on_one_line() -> None:
    assert one_line(ValueError("a\n  b\ud800")) == "a b\\ud800"
    assert one_line(KeyError()) == "KeyError"
    assert one_line("x" * 500, 10) == "x" * 9 + "…"


def archive(path: Path, method: int = zipfile.ZIP_STORED, *names: str) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name in names or ("a",):
            file.writestr(name, b"12345678")
    return path


def test_the_records_of_an_archive_are_whole(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip")
    with stored_records(path, "an archive") as records:
        assert records.read("a") == b"12345678"
    with (
        pytest.raises(ValueError, match=rf"{path} must be an archive: .*no item named 'b'"),
        stored_records(path, "an archive") as records,
    ):
        records.read("b")
    with pytest.raises(FileNotFoundError), stored_records(tmp_path / "none", "an archive"):
        pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(b"text"), "File is not a zip file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"1234", b"1235")), "the checksum of its record 'a' is wrong"),
        (lambda path: archive(path, zipfile.ZIP_DEFLATED), "its records must be stored uncompressed, got 'a'"),
    ],
)  # fmt: skip
def test_another_archive_is_refused(change: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip")
    change(path)
    with pytest.raises(ValueError, match=message), stored_records(path, "an archive"):
        pass


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_record_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """One program would read the first, another the second."""
    path = archive(tmp_path / "a.zip", zipfile.ZIP_STORED, "a", "a")
    with (
        pytest.raises(ValueError, match="each name must stand once, got 'a' twice"),
        stored_records(path, "an archive"),
    ):
        pass
