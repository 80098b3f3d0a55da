"""Reproducibility: the cells, what is measured, and what is read off the records."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from hope_ref.experiments import Cell, Record, Records
from hope_ref.experiments import reproducibility as own
from hope_ref.laboratory import reproducibility as twins
from hope_ref.tasks import text

FULL = own.cells("full", [0, 1, 2])
LEARNS = "width 16, V = 256, levels learn"


def test_cells_are_distinct_and_name_what_they_change() -> None:
    assert len({cell.key for cell in FULL}) == len({cell.checksum for cell in FULL}) == len(FULL) == 30
    assert json.loads(json.dumps([cell.to_dict() for cell in FULL])) == [cell.to_dict() for cell in FULL]
    for cell in FULL:
        options = cell.settings.get("options")
        if options is not None:
            assert f"width {options['width']}, V = {options['vocabulary']}" in cell.model
            assert ("C = 32" in cell.model) == (options.get("memory_chunk_size") == 32)
            assert ("2 blocks" in cell.model) == (options["blocks"] == 2)
            assert ("erases nothing" in cell.model) == (options.get("erase") == "none")
            assert ("levels learn" in cell.model) == (options["signal"] == "task")


def test_models_and_streams_are_what_the_settings_say() -> None:
    by_name = {cell.model: cell for cell in own.cells("quick", [1])}
    model, tokens = own.model_and_stream(by_name["width 16, V = 11, C = 32, 2 blocks"].settings, 1)
    assert (len(model.blocks), len(model.embedding), model.config.memory_chunk_size) == (2, 11, 32)
    assert int(tokens.max()) == 10
    model, own_text = own.model_and_stream(by_name[own.TRAINED].settings, 1)
    assert np.array_equal(own_text.numpy(), text.load().data[1024:2048])
    assert len(own_text) == twins.LEAST
    with torch.no_grad():
        logits, _ = model(own_text)
    assert torch.nn.functional.cross_entropy(logits[:-1], own_text[1:]) < 2.5, (
        "a trained model: nats per byte"
    )


def test_a_quick_cell_is_measured_and_the_levels_learn_where_they_should(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    measure = twins.measure

    def noted(*arguments: Any, learning: bool) -> twins.Reproducibility:
        asked.append(learning)
        return measure(*arguments, learning=learning) if not asked[1:] else CALM

    monkeypatch.setattr(twins, "measure", noted)
    by_name = {cell.model: cell for cell in own.cells("quick", [0])}
    first = own.measure(by_name["width 16, V = 11, C = 32"])
    json.dumps(first, allow_nan=False)
    assert first["tokens"] == twins.LEAST
    assert 0 < first["cut"]["largest"] < first["float32"]["largest"]
    own.measure(by_name[LEARNS])
    own.measure(by_name["trained, its own text"])
    assert asked == [True, True, False]


# --- what is said ---------------------------------------------------------------------------------------------------

CALM = twins.Reproducibility(16384, twins.Drift(None, 3e-6, 2e-6), twins.Drift(None, 5e-15, 4e-15), -0.0002)
WILD = twins.Reproducibility(16384, twins.Drift(5394, 0.9, 0.5), twins.Drift(None, 2e-10, 1e-10), 0.001)


def made_up(outcomes: dict[str, list[twins.Reproducibility]]) -> Records:
    found = []
    for name, seeds in outcomes.items():
        for seed, outcome in enumerate(seeds):
            measures = {
                "tokens": outcome.tokens,
                "exponent_per_1000": 1000 * outcome.exponent,
                "chaotic": outcome.chaotic,
                "float32": outcome.float32._asdict(),
                "cut": outcome.cut._asdict(),
            }
            found.append(Record(Cell("reproducibility", "stream", name, seed, {}), measures, 1.0))
    return Records(found)


SMALL, DEFAULT = "width 16, V = 11", "default: width 64, V = 256"
MIXED = made_up({SMALL: [WILD] * 3, DEFAULT: [CALM] * 3, "width 32, V = 11": [CALM, WILD, CALM]})


def test_the_sentence_follows_the_numbers() -> None:
    assert own.sentence(Records([])) == "Not run yet."
    said = own.sentence(MIXED)
    assert "chaotic: width 16, V = 11 (doubles in 693 tokens);" in said
    assert "in some seeds: width 32, V = 11 (1 of 3);" in said
    assert f"not chaotic: {DEFAULT}." in said
    assert "float32 stays within 3e-06 of float64, and a stream that is cut elsewhere within 5e-15." in said
    assert "chaotic: none; in some seeds: none; not chaotic: default" in own.sentence(
        made_up({DEFAULT: [CALM]})
    )
    assert "Where it is not" not in own.sentence(made_up({SMALL: [WILD]}))


def test_the_table_is_in_the_order_of_the_cells() -> None:
    assert own.tables(Records([])) == []
    (table,) = own.tables(MIXED)
    assert [row[0] for row in table.rows] == [DEFAULT, "width 32, V = 11", SMALL]
    calm, some, wild = table.rows
    assert calm[1:] == (
        "-0.20 ± 0.00",
        "0 of 3",
        "–",
        "– · – · –",
        "3e-06 · 3e-06 · 3e-06",
        "– · – · –",
        "5e-15 · 5e-15 · 5e-15",
    )
    assert wild[1:6] == ("+1.00 ± 0.00", "3 of 3", "693", "5,394 · 5,394 · 5,394", "9e-01 · 9e-01 · 9e-01")
    assert some[2:5] == ("1 of 3", "693", "– · 5,394 · –")
