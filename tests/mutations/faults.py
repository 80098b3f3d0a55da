"""Planted faults as data: the tables ``[[fault]]`` of the TOML files in this folder.

Each names a file, the text that stands there exactly once, the text put in its place, and the sentence that the change
makes false. ``tests`` lists the tests to try first; without it they are guessed from the name of the file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        name: unique among all faults; ``make mutants ONLY=name`` runs it alone.
        file: the changed file, relative to the root of the repository.
        stands: the text that the file holds exactly once.
        put: the text that replaces it.
        breaks: the statement that is false with the fault, as a sentence.
        tests: files or folders of tests to try first, relative to the root.
    """

    name: str
    file: str
    stands: str
    put: str
    breaks: str
    tests: tuple[str, ...] = ()

    def problem(self, root: Path = ROOT) -> str:
        """Why the fault cannot be planted, in words; empty if it can."""
        path = root / self.file
        if not path.is_file():
            return f"{self.name}: no file {self.file}"
        count = path.read_text(encoding="utf-8").count(self.stands) if self.stands else 0
        if count != 1:
            return f"{self.name}: its text stands {count} times in {self.file}, expected once"
        if self.stands == self.put:
            return f"{self.name}: changes nothing"
        missing = [test for test in self.tests if not (root / test).exists()]
        return f"{self.name}: no test {missing[0]}" if missing else ""

    def first(self, root: Path = ROOT) -> list[str]:
        """The tests to try first: those named, or those whose path mirrors the file's."""
        if self.tests:
            return list(self.tests)
        path = Path(self.file)
        parts = path.parts[1:] if path.parts[0] == "hope_ref" else path.parts
        folder = root / "tests" / Path(*parts[:-1])
        found = sorted(folder.glob(f"test_{path.stem}*.py")) or [folder]
        return [str(one.relative_to(root)) for one in found if one.exists()]


def faults(folder: Path = FOLDER) -> list[Fault]:
    """All faults, file by file; ValueError names a table with a missing or an unknown field."""
    found = []
    for path in sorted(folder.glob("*.toml")):
        for number, table in enumerate(tomllib.loads(path.read_text(encoding="utf-8"))["fault"], start=1):
            try:
                found.append(Fault(**{**table, "tests": tuple(table.get("tests", ()))}))
            except TypeError as error:
                raise ValueError(f"{path.name}, fault {number}: {error}") from None
    return found
