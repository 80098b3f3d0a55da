"""The formal languages: the cells, words computed once, what a cell measures, and what is made of the numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from hope_ref.config import HopeConfig
from hope_ref.experiments import distinct_words, fitting
from hope_ref.experiments import formal_languages as own
from hope_ref.experiments.cells import Cell, Record, Records
from hope_ref.parallel.hope import Hope
from hope_ref.tasks import formal_languages as languages

EXPERIMENT = own.EXPERIMENT
TIMES = ("training_seconds", "seconds_per_step")


@pytest.fixture(scope="module")
def full() -> list[Cell]:
    return EXPERIMENT.cells("full", range(3))


@pytest.fixture(scope="module")
def quick() -> list[Record]:
    return [Record(cell, EXPERIMENT.measure(cell), 0.1) for cell in EXPERIMENT.cells("quick", [0])]


def made(cells: list[Cell], words: dict[tuple[str, str], float], steps: int | None = None) -> Records:
    """A record for every cell: the share of words right by language and model; tokens stand halfway to 1."""
    found = []
    for cell in cells:
        right = words.get((cell.task, cell.model), words.get(("", cell.model), 1.0))
        guess = {"tokens": 0.6, "sequences": 0.1}
        split: dict[str, Any] = {
            "tokens": (1 + right) / 2,
            "sequences": right,
            "wrong": round(1000 * (1 - right)) + (cell.seed if right < 1 else 0),
            "of": 1000,
            "constant_guess": guess,
            "last_symbol_guess": guess,
        }
        measures: dict[str, Any] = {
            "steps": steps or cell.settings["training"]["steps"],
            "parameters": 15628,
            "seconds_per_step": 0.5,
            **dict.fromkeys(cell.settings["test"], split),
        }
        found.append(Record(cell, measures, 1.0))
    return Records(found)


def model_of(vocabulary: int) -> Hope:
    options = {"width": 8, "heads": 2, "memory_chunk_size": 4, "projection_chunk_size": 4}
    return Hope(HopeConfig(**options, vocabulary=vocabulary, blocks=1, levels_chunk_sizes=(512,))).double()


# --- cells ------------------------------------------------------------------------------------------------------------


def test_cells_are_distinct_and_json_and_hold_the_whole_configuration(full: list[Cell]) -> None:
    for cells in (full, EXPERIMENT.cells("quick", [0, 1])):
        assert len({cell.key for cell in cells}) == len(cells)
        for cell in cells:
            assert json.loads(json.dumps(cell.to_dict())) == cell.to_dict()
            own_config = cell.settings["config"]
            assert fitting.memory_options(HopeConfig.from_dict(own_config)) == own_config
            assert cell.settings["model"] in fitting.MODELS
            assert cell.settings["config"]["convolution_width"] == 0
    assert len(full) == 3 * (2 * 3 + 2 * 3 + 6 * 6 + 2 + 2 * 3 + 4 * 3)
    assert [(cell.task, cell.model, cell.seed) for cell in full[:4]] == [
        *(("parity", own.HOPE, seed) for seed in range(3)),
        ("(abab)*", own.HOPE, 0),
    ]
    longer = full[-36:]
    assert {cell.task for cell in full[-54:]} == set(own.COUNTERS)
    assert {cell.model for cell in full[-54:-36]} == {own.HOPE, own.MLP}
    assert {cell.model for cell in longer} == set(own.LONGER)
    assert {cell.settings["training"]["steps"] for cell in longer} == {1000}


def test_on_one_language_all_models_have_the_same_training_and_test(full: list[Cell]) -> None:
    for language in languages.LANGUAGES:
        settings = [
            {key: value for key, value in cell.settings.items() if key not in ("config", "model")}
            for cell in full
            if cell.task == language and cell.model not in own.LONGER
        ]
        assert settings
        assert all(one == settings[0] for one in settings)


def test_the_names_say_what_the_cells_have(full: list[Cell]) -> None:
    for cell in full:
        config, (model, _) = cell.settings["config"], own.MODELS[cell.model]
        if model == "HOPE":
            size = 8 if "C = 8" in cell.model else 1
            assert config["memory_chunk_size"] == config["projection_chunk_size"] == size
            assert config["architecture"] == ("linear" if "linear" in cell.model else "mlp")
            assert config["memory_w1_std"] == pytest.approx(0.125)
            dot = "dot product" in cell.model
            assert (config["objective"], config["eta_max"]) == (("dot", 2.0) if dot else ("l2", 1.0))
        if "delta" in cell.model:
            bound = fitting.MODELS[model].get("beta_max", 1.0)
            assert bound == (2.0 if "β < 2" in cell.model else 1.0)
            assert ("gated" in cell.model) == fitting.MODELS[model].get("gated", True)
        assert cell.settings["training"]["steps"] == (1000 if "1,000 steps" in cell.model else 300)


def test_the_curriculum_grows_by_one_in_so_many_steps() -> None:
    curriculum = {"from": 4, "steps_for_one_more": 3, "to": 40}
    assert [own.longest(curriculum, step) for step in (0, 2, 3, 107, 108, 999)] == [4, 4, 5, 39, 40, 40]


# --- words computed once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", languages.LANGUAGES)
def test_loss_gradient_and_accuracy_are_those_of_the_whole_batch(language: str) -> None:
    batch = languages.draw(language, 30, (1, 12), 3)
    tokens, labels = map(torch.from_numpy, batch)
    model = model_of(4)
    words = distinct_words.distinct(batch)
    assert len(words.tokens) < len(batch.tokens)
    losses, gradients = [], []
    for loss in (distinct_words.loss_of(model, batch), fitting.labelled_loss(model, tokens, labels)):
        model.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-9)
    assert distinct_words.accuracy_of(model, batch) == pytest.approx(
        fitting.labelled_accuracy(model, tokens, labels)
    )


def test_one_word_of_each_length_is_one_row() -> None:
    words = distinct_words.distinct(languages.draw("(aa)*", 50, (1, 12), 0))
    assert words.tokens.shape == (1, 12)
    assert words.counts[0, 0] == 50
    assert (words.counts[0, 1:] <= words.counts[0, :-1]).all()
    assert set(words.row_of) == {0}


def test_a_beginning_goes_to_a_word_that_begins_with_it_and_padding_is_not_a_symbol() -> None:
    given = [[1, 0, 0], [0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0]]
    sizes = [2, 1, 3, 3, 1]  # 10, 0, 101, 010, 0
    tokens = torch.tensor(given).numpy()
    labels = torch.tensor([[0] * size + [-1] * (3 - size) for size in sizes]).numpy()
    words = distinct_words.distinct(languages.Batch(tokens, labels))
    assert words.tokens.tolist() == [[0, 1, 0], [1, 0, 1]]
    assert words.row_of.tolist() == [1, 0, 1, 0, 0]
    assert words.counts.tolist() == [[3, 1, 1], [2, 2, 1]]


# --- measures -----------------------------------------------------------------------------------------------------------


def test_quick_cells_give_shares_counts_and_guessers(quick: list[Record]) -> None:
    for record in quick:
        measures = record.measures
        json.dumps(measures)
        assert measures["steps"] == record.cell.settings["training"]["steps"]
        assert 0 < measures["final_loss"] < 10
        for split in (measures[name] for name in languages.SPLITS):
            assert 0 <= split["sequences"] <= 1
            assert 0 <= split["tokens"] <= 1
            assert split["wrong"] == pytest.approx((1 - split["sequences"]) * split["of"])
            assert split["constant_guess"]["tokens"] <= split["last_symbol_guess"]["tokens"]


def test_a_cell_measured_twice_is_the_same_and_another_seed_is_not(quick: list[Record]) -> None:
    def timeless(cell: Cell) -> dict[str, Any]:
        return {key: value for key, value in EXPERIMENT.measure(cell).items() if key not in TIMES}

    again = timeless(quick[0].cell)
    assert again == {key: value for key, value in quick[0].measures.items() if key not in TIMES}
    other = timeless(Cell("formal_languages", "parity", own.HOPE, 1, quick[0].cell.settings))
    assert other["final_loss"] != again["final_loss"]
    assert other["bin0"]["constant_guess"] == again["bin0"]["constant_guess"]  # the same test


def test_learning_is_measured(quick: list[Record]) -> None:
    """The last symbol alone says most about aⁿbⁿ, and 100 steps are enough to see that."""
    settings = {**quick[2].cell.settings, "language": "a^n b^n", "model": "delta rule"}
    tokens = []
    for steps in (1, 100):
        settings["training"] = {**settings["training"], "steps": steps, "batch": 16, "lr": 0.02}
        found = EXPERIMENT.measure(Cell("formal_languages", "a^n b^n", "x", 0, settings))
        tokens.append(found["bin0"]["tokens"])
    assert tokens[0] < 0.75 < tokens[1]


# --- tables and sentence ------------------------------------------------------------------------------------------------


def test_tables_and_sentence_of_nothing_some_and_quick(full: list[Cell], quick: list[Record]) -> None:
    assert EXPERIMENT.sentence(Records([])) == "not run yet"
    for records in (Records([]), made(full[:1], {}), made(full[:40], {}), made(full, {}), Records(quick)):
        tables = EXPERIMENT.tables(records)
        assert len(tables) == len(languages.LANGUAGES)
        for table in tables:
            assert all(len(row) == len(table.header) for row in table.rows)
            assert all(isinstance(entry, str) for row in table.rows for entry in row)
        assert EXPERIMENT.sentence(records)


def test_a_table_shows_words_tokens_counts_guessers_and_the_paper(full: list[Cell]) -> None:
    parity = EXPERIMENT.tables(made(full, {("parity", own.HOPE): 0.9}))[0]
    rows = {row[0]: row for row in parity.rows}
    hope = rows[own.HOPE]
    assert hope[1] == "90.0 ± 0.0 (95.0)"
    assert hope[5] == "100 101 102 · 100 101 102 · 100 101 102 · 100 101 102"
    assert hope[6] == "100 / 100"
    assert rows["delta rule, β < 1"][6] == "98.2 / 10.1"
    assert hope[7] == "300"
    assert rows["delta rule, β < 2"][6] == "–"
    assert rows["delta rule, β < 2, 1,000 steps"][7] == "1,000"
    assert rows["guesser: by the last symbol alone"][1] == "10.0 (60.0)"
    assert "†" not in hope[0]
    stopped = EXPERIMENT.tables(made(full, {}, steps=5))[0]
    assert stopped.rows[0][0] == f"{own.HOPE} († 5, 5, 5)"
    counters = [row[0] for row in EXPERIMENT.tables(made(full, {}))[3].rows]
    assert counters[:2] == [own.HOPE, own.MLP]
    assert not set(own.CHUNKED) & set(counters)
    assert set(own.LONGER) <= set(counters)
    assert set(own.LONGER) & set(rows) == set(own.LONGER_ON_PARITY)


def test_the_sentence_puts_the_claim_on_the_delta_rule_right_only_if_the_numbers_do(full: list[Cell]) -> None:
    failing = {("parity", f"{rule}, β < 1"): 0.1 for rule in ("delta rule", "gated delta rule")}
    found = EXPERIMENT.sentence(made(full, failing))
    assert "is a statement about β < 1" in found
    assert "55.0 and 55.0 % of the tokens" in found
    assert "100.0 and 100.0 % with β < 2 (100.0 % and 100.0 % of the words)" in found
    both = {**failing, **{("parity", f"{rule}, β < 2"): 0.1 for rule in ("delta rule", "gated delta rule")}}
    for words in (both, {}):
        found = EXPERIMENT.sentence(made(full, words))
        assert "stays open" in found
        assert "is a statement about" not in found


def test_the_sentence_counts_wrong_words(full: list[Cell]) -> None:
    right = EXPERIMENT.sentence(made(full, {}))
    assert right.count("parity none, (abab)* none, (aa)* none") == 2
    wrong = EXPERIMENT.sentence(made(full, {("(aa)*", own.MLP): 0.995}))
    assert "linear memories, C = 1: parity none, (abab)* none, (aa)* none; " in wrong
    assert "MLP memories, C = 1: parity none, (abab)* none, (aa)* 7, 7, 7, 7." in wrong


def test_the_sentence_says_what_chunks_lose(full: list[Cell]) -> None:
    lost = EXPERIMENT.sentence(made(full, {("parity", name): 0.2 for name in own.CHUNKED}))
    assert "In chunks of 8 HOPE has 20.0 % of parity's words of 41 to 80 right, 100.0 % with C = 1." in lost
    found = EXPERIMENT.sentence(made(full, {("parity", own.CHUNKED[0]): 0.2}))
    assert "with C = 1; the dot product with η < 2 brings chunks to 100.0 %." in found


def test_the_sentence_begins_with_the_counters_and_names_the_best_of_each_side(full: list[Cell]) -> None:
    words = {("", name): 0.2 for name in own.MODELS}
    words |= {("a^n b^n", "linear attention"): 0.8, ("shuffle-2", own.MLP): 0.3}
    found = EXPERIMENT.sentence(made(full, words))
    assert found.startswith("Counting beyond the trained lengths")
    assert (
        "a^n b^n 20.0 ± 0.0 % (linear memories, C = 1; best of the baselines, linear attention: 80.0 ± 0.0 %)"
        in found
    )
    assert "shuffle-2 30.0 ± 0.0 % (MLP memories, C = 1; best of the baselines, " in found
