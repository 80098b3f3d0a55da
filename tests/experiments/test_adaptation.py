"""Learning while reading: the control, what is carried and what is not, and what is read off the records."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.experiments import Cell, Record, Records, text_runs
from hope_ref.experiments import adaptation as own
from hope_ref.parallel.hope import Hope

FULL = own.cells("full", [0, 1, 2])
QUICK = own.cells("quick", [0])[0]


def model(rate: float = 1.0) -> Hope:
    start = text_runs.built(QUICK.settings, 0)
    made = Hope(start.config.replace(cms_rate=rate))
    made.load_state_dict(start.state_dict())
    return made


def tokens(length: int = 65) -> torch.Tensor:
    """Two lanes of one short passage again and again."""
    again = np.tile(np.frombuffer(b"abcd efg", np.uint8), 20)[:length].astype(np.int64)
    return torch.from_numpy(np.stack([again, again]))


# --- cells and passages ---------------------------------------------------------------------------------------------


def test_cells_are_distinct_and_have_the_control_and_the_default() -> None:
    assert len({cell.key for cell in FULL}) == len(FULL) == 3
    assert json.loads(json.dumps([cell.to_dict() for cell in FULL])) == [cell.to_dict() for cell in FULL]
    rates = FULL[0].settings["rates"]
    assert rates[0] == 0
    assert 1 in rates
    assert max(rates) > 1
    assert FULL[0].settings["config"]["signal"] == "task"


def test_passages_begin_at_equal_distances_and_the_unseen_text_behind_them() -> None:
    data = np.arange(200, dtype=np.uint8)
    found = own.passages(data, {"lanes": 2, "passage": 60, "after": 30})
    assert found.read.tolist() == [list(range(0, 61)), list(range(100, 161))]
    assert found.unseen.tolist() == [list(range(60, 91)), list(range(160, 191))]
    with pytest.raises(ValueError, match="data must have 202 bytes, got 200"):
        own.passages(data, {"lanes": 2, "passage": 70, "after": 30})


def test_the_source_is_that_of_the_modules() -> None:
    data, checksum = own.source(["argparse", "statistics"])
    assert b"class ArgumentParser" in data.tobytes()
    assert b"def variance" in data.tobytes()
    assert len(checksum) == 64
    assert own.source(["argparse"])[1] != checksum


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", own.WAYS)
def test_rate_0_changes_nothing_and_another_rate_does_after_the_first_chunk(way: str) -> None:
    chunk = QUICK.settings["config"]["levels_chunk_sizes"][0]
    plain = own.read(model(), tokens(), way, QUICK.settings)
    control, _ = own.learn(model(0.0), tokens(), way, QUICK.settings["training"]["tokens"])
    torch.testing.assert_close(control, plain, rtol=0, atol=1e-5)
    learnt, _ = own.learn(model(0.1), tokens(), way, QUICK.settings["training"]["tokens"])
    torch.testing.assert_close(learnt[:, :chunk], plain[:, :chunk], rtol=0, atol=1e-5)
    assert (learnt[:, chunk] - plain[:, chunk]).abs().min() > 1e-3
    assert learnt[:, -8:].mean() < plain[:, -8:].mean() - 0.5  # what repeats is learnt


def test_read_afresh_every_window_is_every_window_on_its_own() -> None:
    window = QUICK.settings["training"]["tokens"]
    found = own.read(model(), tokens(), "windows", QUICK.settings)
    alone, _ = model()(tokens()[:, window : 2 * window])
    expected = text_runs.bits(alone, tokens()[:, window + 1 : 2 * window + 1])
    torch.testing.assert_close(found[:, window : 2 * window], expected, rtol=0, atol=1e-5)
    carried = own.read(model(), tokens(), "carried", QUICK.settings)
    assert (carried[:, window:] - found[:, window:]).abs().max() > 1e-3


def test_fresh_keeps_the_levels_and_nothing_else() -> None:
    reader = model(0.1)
    _, learned = own.learn(reader, tokens(), "carried", 16)
    found, first = own.fresh(reader, learned.now), reader.initial_state((2,))
    assert found.position == found.blocks[0].continuum.position == 64  # the end of a chunk: 16, 8 and 4
    kept, mixed = found.blocks[0].continuum.levels[0], found.blocks[0].mixer
    assert torch.equal(kept.w1, learned.now.blocks[0].continuum.levels[0].w1)
    assert not torch.equal(kept.w1, first.blocks[0].continuum.levels[0].w1)
    assert torch.equal(mixed.key_inputs, first.blocks[0].mixer.key_inputs)
    assert not torch.equal(mixed.key_inputs, learned.now.blocks[0].mixer.key_inputs)


def test_in_windows_both_levels_move_at_their_own_chunks() -> None:
    reader = model(0.1)
    first = reader.initial_state((2,)).blocks[0].continuum.levels
    for length, moved in ((8, [False, False]), (9, [True, False]), (17, [True, True])):
        _, learned = own.learn(reader, tokens(length), "windows", 16)
        levels = learned.now.blocks[0].continuum.levels
        assert [not torch.equal(a.w1, b.w1) for a, b in zip(levels, first, strict=True)] == moved


@pytest.mark.slow
def test_the_quick_cell_measures_what_it_promises_and_the_same_twice() -> None:
    found, again = own.measure(QUICK), own.measure(QUICK)
    json.dumps(found, allow_nan=False)
    for name in ("training_seconds", "seconds_per_step", "reading_seconds"):
        assert found.pop(name) > 0
        assert again.pop(name) > 0
    assert found == again
    for kind in own.KINDS:
        for way in own.WAYS:
            control, learnt = found[kind][way]["rate0"], found[kind][way]["rate1"]
            assert set(control) == {"whole", "first", "last", "again", "unseen", "manual"}
            assert control["whole"] == pytest.approx(found[kind]["without"][way], abs=1e-5)
            assert all(5 < value < 12 for value in (*control.values(), *learnt.values()))
            assert learnt["again"] < control["again"]  # bytes read are learnt
            assert control["again"] == pytest.approx(found[kind]["without"]["windows"], abs=1e-5)
            assert control["manual"] == pytest.approx(found["manual"]["windows"]["rate0"]["unseen"])


# --- what is said ---------------------------------------------------------------------------------------------------

RATES = [0.0, 1.0, 10.0]


def made_up(gain: float, cost: float, seeds: int = 3, off: float = 0.0) -> Records:
    """The default rate gains so much in the last quarter, 10 times it twice as much; the manual is forgotten by so much."""
    about = {"name": "a text", "sha256": "37d06970", "train_bytes": 9, "test_bytes": 9}
    about |= {"entropy": 4.46, "bigram": 3.3, "gzip": 1.97}
    found = []
    for seed in range(seeds):
        measures: dict[str, Any] = {
            "steps": 1,
            "asked_steps": 1,
            "text": about,
            "source_sha256": "abcdef0123",
        }
        for kind in own.KINDS:
            measures[kind] = {"without": dict.fromkeys(own.WAYS, 3.0 + off)}
            for way in own.WAYS:
                measures[kind][way] = {}
                for number, factor in enumerate((0.0, 1.0, 2.0)):
                    less = factor * gain * (1 + seed / 10)
                    measures[kind][way][f"rate{number}"] = {
                        "whole": 3.0 - less,
                        "first": 3.0,
                        "last": 3.0 - less,
                        "again": 3.0 - 3 * less,
                        "unseen": 3.0 - less / 2,
                        "manual": 3.0 + factor * cost * (1 + seed / 10),
                    }
        settings = {**QUICK.settings, "rates": RATES}
        found.append(Record(Cell("adaptation", "text", "HOPE", seed, settings), measures, 1.0))
    return Records(found)


def test_without_records_or_with_one_seed_nothing_is_claimed() -> None:
    assert own.tables(Records([])) == []
    assert "Not run yet" in own.sentence(Records([]))
    assert "Not run yet" in own.sentence(made_up(0.1, 0.1, seeds=1))
    assert own.tables(made_up(0.1, 0.1, seeds=1))[0].rows[1][3] == "-0.100 (1 seed)"


def test_the_sentence_follows_the_numbers() -> None:
    said = own.sentence(made_up(0.1, 0.05))
    assert said.startswith("Learning from other text forgets the manual: +0.11 ± 0.01 bits per byte")
    assert "helps on the unseen end of the manual: -0.11 ± 0.01 bits per byte in the last quarter" in said
    assert "-0.22 ± 0.02 at the best of the rates (10 times, chosen on this text)" in said
    assert "the passage itself changes by -0.66 ± 0.06, unseen text behind it by -0.11 ± 0.01" in said
    assert "The control fails" not in said
    worse = own.sentence(made_up(-0.1, -0.05))
    assert "hurts on Python's own source: +0.11" in worse
    assert "at the best of the rates (1 times" in worse
    assert "helps on the manual, too: -0.06 ± 0.01" in worse
    none = own.sentence(made_up(0.0, 0.0))
    assert "No difference found by learning while reading on" in none
    assert "No difference found on the manual after" in none


def test_a_control_that_fails_comes_first() -> None:
    assert own.sentence(made_up(0.1, 0.1, off=0.01)).startswith("The control fails: rate 0 changes 0.0100")


def test_a_rate_that_overflows_is_never_the_best() -> None:
    records = made_up(0.1, 0.05)
    for kind in own.KINDS:
        records.all[1].measures[kind]["windows"]["rate2"]["last"] = None
    assert "at the best of the rates (1 times" in own.sentence(records)
    assert own.tables(records)[0].rows[5][3].endswith("(2 seeds)")


def test_tables_show_the_control_as_it_is_and_the_others_beside_it() -> None:
    manual, code = own.tables(made_up(0.1, 0.05))
    assert manual.header[2:] == ("first quarter", "last quarter", "read again", "unseen behind it")
    assert manual.rows[0] == ("carried", "0", *["3.000 ± 0.000"] * 4)
    assert manual.rows[5][:4] == ("afresh", "10", "+0.000 ± 0.000", "-0.220 ± 0.020")
    assert code.header[-1] == "unseen manual"
    assert code.rows[5][-1] == "+0.110 ± 0.010"
    assert "SHA-256 abcdef01…" in code.note


def test_cells_differ_when_what_is_read_differs() -> None:
    other = replace(FULL[0], settings={**FULL[0].settings, "sources": ["argparse"]})
    assert other.checksum != FULL[0].checksum
