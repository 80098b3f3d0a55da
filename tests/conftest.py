"""Which files run in one process, and in what order: see `make test`.

Files stay whole; those that run the same proofs stay together, because a proof runs once in a process. The longest come
first, so that none is left to the end.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from typing import Any

import pytest

PROOFS = (
    "tests/test_agreement.py",
    "tests/symbolic/test_identities.py",
    "tests/symbolic/test_errata.py",
    "tests/symbolic/test_self_modifying_titans.py",
    "tests/teaching/test_gallery_errata.py",
    "tests/test_main.py",
)
LONGEST = (
    *PROOFS,
    "notebooks/12",
    "notebooks/09",
    "notebooks/11",
    "notebooks/06",
    "notebooks/10",
    "notebooks/04",
    "tests/parallel/test_hope_adaptation.py",
    "tests/kernels/test_interpreted.py",
    "tests/training/test_crashes.py",
    "tests/laboratory/test_stability.py",
    "tests/reference/test_hope_adaptation.py",
    "tests/parallel/test_hope.py",
    "tests/teaching/test_exercises.py",
    "notebooks/",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Ten thousand tests stay until the end: to look for garbage among them, while they come and later, takes seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable: within a file nothing moves, and the cells of a notebook stay in order."""

    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start)), len(LONGEST))

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile``, with the files of PROOFS as one."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return PROOFS[0] if file in PROOFS else file

    return Together(config, log)
