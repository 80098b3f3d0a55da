"""Peers are timed in processes of their own, in turns; what fails there is said here."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from hope_ref.benchmarks import peers as peers


def program(seconds: float) -> str:
    return f"import json; print('noise'); print(json.dumps([{seconds}, {seconds}, 9.0]))"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    runs = {
        name: (whose, program(1.0 if whose == "ours" else 4.0)) for name, (whose, _) in peers.RUNS.items()
    }
    monkeypatch.setattr(peers, "RUNS", runs)
    return runs


def test_ratios_are_theirs_over_ours_round_by_round(fake: dict[str, Any]) -> None:
    found = peers.measure(sys.executable, 8, 16, 4, 1, rounds=2)
    assert set(found["seconds"]) == set(fake)
    assert all(len(seconds) == 2 for seconds in found["seconds"].values())
    assert found["ratios"] == {name: {"median": 4.0, "min": 4.0, "max": 4.0} for name in peers.RATIOS}
    text = "\n".join(peers.lines(found))
    assert "d = 8, T = 16, C = 4" in text
    assert all(name in text for name in peers.RATIOS)


@pytest.mark.slow
def test_our_own_programs_run() -> None:
    for whose, text in peers.RUNS.values():
        if whose == "ours":
            said = peers.subprocess.run(
                [sys.executable, "-c", text, "8", "16", "4", "1", "2"], capture_output=True, text=True
            )
            assert said.returncode == 0, said.stderr
            assert len(peers.json.loads(said.stdout)) == 2


def test_the_flushed_run_differs_from_the_shipped_one() -> None:
    shipped, flushed = (
        peers.RUNS[f"nested-learning{how}, forward"][1] for how in (" as shipped", ", denormals flushed")
    )
    assert "set_flush_denormal" not in shipped
    assert "set_flush_denormal(True)\ntimed" in flushed


def test_what_fails_is_named(fake: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"--peers must be a Python interpreter, got no/such"):
        peers.measure("no/such/python", 8, 16, 4, 1, rounds=1)
    fake["titans-pytorch, forward"] = ("theirs", "raise SystemExit('not installed')")
    with pytest.raises(ValueError, match="--peers: titans-pytorch, forward failed: not installed"):
        peers.measure(sys.executable, 8, 16, 4, 1, rounds=1)
