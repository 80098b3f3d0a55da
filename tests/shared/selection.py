"""Which cases of a test run by default, and which in `make test-all` only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest


def some_slow(cases: Mapping[str, Any], keep: Collection[str]) -> list[Any]:
    """Every case under its name, as a `pytest.param`; those not in ``keep`` are marked slow.

    Raises:
        ValueError: naming what is in ``keep`` and is no case.
    """
    if unknown := set(keep) - set(cases):
        raise ValueError(f"no such cases: {', '.join(sorted(unknown))}")
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[] if name in keep else pytest.mark.slow,
            id=name,
        )
        for name, case in cases.items()
    ]
