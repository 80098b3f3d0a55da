"""What `make run` shows after the proofs: training, comparison, a generated line, learning while reading."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hope_ref.tasks import text
from hope_ref.training import Worth, demonstration, files, trained
from hope_ref.training.evaluation import SHIPPED, bits_per_byte


def test_the_shipped_model_is_small_and_better_than_counting_pairs() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 2_000_000
    asked = trained(SHIPPED, "cpu")
    parts = text.split(text.load().data)
    passage = parts.test[:4096]
    bits = bits_per_byte(asked.model, passage, asked.run.training, asked.device)
    assert bits < text.bigram_bits(parts.train, passage) - 0.3


def test_reading_is_causal_and_still_is_what_evaluation_says() -> None:
    """The same passage with another end: what stands before it costs the same; no learning is plain evaluation."""
    asked, data = trained(SHIPPED, "cpu"), demonstration.passage()[:400]
    found = demonstration.adapted(asked, data)
    settings = asked.run.changed(tokens=399).training
    assert found.still == pytest.approx(bits_per_byte(asked.model, data, settings, asked.device), abs=1e-5)
    assert found.changed > 0.001
    assert found.again < found.still  # what was kept helps on the same passage
    # Before the first segment is over nothing has been learnt.
    short = demonstration.adapted(asked, data[:128])
    assert short.learning == pytest.approx(short.still, abs=1e-5)


def test_a_passage_is_learnt_with_the_rate_only() -> None:
    asked = trained(SHIPPED, "cpu")
    still = type(asked.model)(asked.model.config.replace(cms_rate=0.0))
    still.load_state_dict(asked.model.state_dict())
    found = demonstration.adapted(asked._replace(model=still), demonstration.passage()[:300])
    assert found.learning == pytest.approx(found.still, abs=1e-5)
    assert found.again == pytest.approx(found.still, abs=1e-5)
    assert found.changed == 0.0


def test_the_verdict_is_given_only_where_it_holds() -> None:
    asked = trained(SHIPPED, "cpu")
    words = "Better than counting pairs; gzip"

    def lines(model: float) -> str:
        return "\n".join(demonstration.comparison(Worth(model, None, 3.3, 2.0, 4.5, 10), asked))

    assert words in lines(2.5)
    assert words not in lines(3.5)
    assert words not in lines(1.5)
    order = [float(number) for number in re.findall(r"^ +(\d\.\d+)", lines(2.5), re.M)]
    assert order == sorted(order)


def test_an_interrupted_training_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stopped:
        status, signal = "interrupted", 2

    monkeypatch.setattr(demonstration, "train", lambda *_, **__: Stopped)
    assert demonstration.demonstrate(2, tmp_path / "x") == 130
    assert "stopped" in capsys.readouterr().out


def test_the_passage_was_not_trained_on() -> None:
    parts = text.split(text.load().data)
    assert np.array_equal(demonstration.passage(), parts.validation[: demonstration.PASSAGE])


@pytest.mark.slow
def test_the_whole_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demonstration, "PASSAGE", 600)
    folder = tmp_path / "runs" / "demonstration"
    for _ in range(2):  # the second time it finds what the first has left
        assert demonstration.demonstrate(2, folder) == 0
    shown = capsys.readouterr().out
    for words in ("this HOPE after 2 steps", "pairs of bytes", "gzip", "single bytes", "goes on from 'The '"):
        assert words in shown
    assert shown.count("bits per byte, the continuum memory held still") == 2
    assert (folder / "loss.png").is_file()
    assert files.load_checkpoint(folder)["step"] == 2
