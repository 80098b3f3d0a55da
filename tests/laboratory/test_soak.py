"""A long stream: bounded states are called bounded, and others are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hope_ref.__main__ import main
from hope_ref.laboratory import reproducibility, soak
from hope_ref.laboratory.reproducibility import Drift, Reproducibility
from hope_ref.parallel.hope import Hope

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
    assert float(torch.tensor(1e-310, dtype=torch.float64) / 2) > 0, "denormals are as they were"
    assert "finite, bounded, constant in size" in capsys.readouterr().out
    assert main(["soak", "--tokens", "0"]) == 2
    assert "--tokens must be an integer >= 1, got 0" in capsys.readouterr().err


def drifted(left: int | None, exponent: float) -> Reproducibility:
    drift = Drift(left, 1e-6 if left is None else 0.5, 1e-7)
    return Reproducibility(10_240, drift, drift._replace(left=None), exponent)


def test_reproducibility_is_told_in_words() -> None:
    calm = soak.in_words(drifted(None, -0.0001), default=True).splitlines()
    assert calm[0].startswith("reproducible to 0.001. 10240 tokens")
    assert calm[1] == "  read in float32: never beyond 0.001; largest error 1.0e-06, at the end 1.0e-07"
    assert calm[3].endswith("exponent -0.100 per 1,000 tokens: differences do not grow")
    grown = soak.in_words(drifted(4321, 0.001), default=False)
    assert grown.startswith("NOT REPRODUCIBLE: rounding changes the outputs of this model.")
    assert "read in float32: beyond 0.001 at token 4321;" in grown
    assert "differences double every 693 tokens" in grown
    assert "outputs of a default model" in soak.in_words(drifted(4321, 0.001), default=True)
    assert soak.in_words(drifted(None, 0.001)).startswith("reproducible to 0.001 so far, but chaotic.")


def test_the_command_reports_reproducibility_and_judges_the_state(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Hope, int]] = []

    def measured(model: Hope, tokens: Tensor) -> Reproducibility:
        seen.append((model, len(tokens)))
        assert int(tokens.max()) < len(model.embedding)
        return drifted(4321, 0.001)

    monkeypatch.setattr(reproducibility, "measure", measured)
    monkeypatch.setattr(soak, "soak", lambda *_, **__: [soak.Mark(5, 1.0, 5, 5.0)])
    chaotic = ["--width", "4", "--vocabulary", "11", "--set", "erase=none", "--set", "memory_chunk_size=32"]
    assert main(["soak", "--tokens", "1100", *chaotic]) == 0
    assert "outputs of this model" in capsys.readouterr().out
    model, tokens = seen.pop()
    assert (tokens, len(model.embedding)) == (1100, 11)
    assert (model.config.erase, model.config.memory_chunk_size, model.config.width) == ("none", 32, 4)
    assert main(["soak", "--tokens", "2100", "--twins", "2000"]) == 0
    assert "outputs of a default model" in capsys.readouterr().out
    assert seen.pop()[1] == 2000
    assert main(["soak", "--tokens", "1100", "--width", "4", "--twins", "0"]) == 0
    assert main(["soak", "--tokens", "1000", "--width", "4"]) == 0
    assert not seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--set", "width=5"), "--set must not name what has an option of its own, got width"),
        (("--set", "reed=pre"), "--set: unknown option reed"),
        (("--set", "read=late"), "--set: read must be one of 'post', 'pre', 'boundary', got 'late'"),
        (("--vocabulary", "0"), "--vocabulary must be an integer >= 1, got 0"),
    ],
)
def test_a_wrong_option_is_named(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["soak", "--tokens", "5", *options]) == 2
    assert message in capsys.readouterr().err


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
