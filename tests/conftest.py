"""The order of the files: the longest first, so that none is left to the end when two run at a time."""

from __future__ import annotations

import pytest

LONGEST = (
    "tests/parallel/test_hope_adaptation.py",
    "tests/kernels/test_interpreted.py",
    "tests/test_agreement.py",
    "tests/training/test_processes.py",
    "tests/training/test_crashes.py",
    "tests/test_stability.py",
    "tests/reference/test_hope_adaptation.py",
    "tests/parallel/test_hope.py",
    "tests/teaching/test_exercises.py",
    "notebooks/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable: within a file nothing moves, and the cells of a notebook stay in order."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    items.sort(key=rank)
