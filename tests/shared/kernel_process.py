"""Kernels in Triton's interpreter need a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def interpreted(code: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: whether kernels are interpreted is settled when they are made."""
    surroundings = {
        **os.environ,
        "TRITON_INTERPRET": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT}/tests/shared",
    }
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=1200, env=surroundings, cwd=ROOT
    )
