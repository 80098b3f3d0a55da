"""A long stream: bounded states are called bounded, and others are not."""

from __future__ import annotations

import pytest
import torch

from hope_ref import soak
from hope_ref.__main__ import main

SMALL = {"width": 8, "memory_chunk_size": 4, "projection_chunk_size": 4, "levels_chunk_sizes": (8, 16)}


@pytest.mark.parametrize("signal", soak.SIGNALS)
def test_every_signal_stays_bounded(signal: str) -> None:
    found = soak.soak(600, signal=signal, stretch=70, marks=4, **SMALL)
    assert [mark.tokens for mark in found] == [210, 350, 490, 600]
    assert soak.passed(found), found
    assert all(5 < mark.loss < 7 for mark in found), "about log 256 = 5.5 on a random stream"


def test_an_overflow_ends_the_stream_and_fails() -> None:
    printed = {"step": "explicit", "surprise_bound": 0.0, "value_norm": False}
    found = soak.soak(600, stretch=60, **(SMALL | printed))
    assert found[-1].largest == float("inf")
    assert found[-1].tokens < 600
    assert not soak.passed(found)


def test_growth_in_size_or_in_number_fails() -> None:
    marks = [soak.Mark(10, 1.0, 5, 5.0), soak.Mark(20, 2.0, 5, 5.0)]
    assert soak.passed(marks)
    assert not soak.passed([marks[0], marks[1]._replace(largest=11.0)])
    assert not soak.passed([marks[0], marks[1]._replace(numbers=6)])
    slowly = [soak.Mark(10 * number, largest, 5, 5.0) for number, largest in enumerate((1.0, 4.0, 11.0), 1)]
    assert soak.passed(slowly[:2])
    assert soak.passed(slowly[1:])
    assert not soak.passed(slowly)  # measured from the first mark


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "--tokens", "40", "--width", "4", "--signal", "associative"]) == 0
    assert "finite, bounded, constant in size" in capsys.readouterr().out
    assert main(["soak", "--tokens", "0"]) == 2
    assert "--tokens must be an integer >= 1, got 0" in capsys.readouterr().err


def test_the_command_fails_where_the_state_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "passed", lambda found: False)
    assert main(["soak", "--tokens", "5", "--width", "4"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="signal must be one of"):
        soak.soak(5, signal="loud")


@pytest.mark.slow
def test_fifty_thousand_tokens_through_the_default_model() -> None:
    with torch.no_grad():
        found = soak.soak(50_000, width=16)
    assert len(found) == 10
    assert found[-1].tokens == 50_000
    assert soak.passed(found), found
