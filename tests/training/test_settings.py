"""Settings and runs: what is refused and in which words, JSON there and back, what the presets hold."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from hope_ref.config import HopeConfig
from hope_ref.laboratory.anatomy import anatomy
from hope_ref.training.presets import LARGE, PRESETS
from hope_ref.training.settings import CHOICES, Run, TrainingSettings

BAD: list[tuple[str, Any, str]] = [
    ("steps", 0, "steps must be an integer >= 1, got 0"),
    ("batch", 2.5, "batch must be an integer >= 1, got 2.5"),
    ("tokens", -3, "tokens must be an integer >= 1, got -3"),
    ("lr", 0, "lr must be > 0, got 0"),
    ("lr", float("nan"), "lr must be finite"),
    ("betas", 0.9, "betas must be two numbers, got 0.9"),
    ("betas", (0.9, 1.0), "betas must be < 1, got max 1"),
    ("betas", (-0.1, 0.9), "betas must be >= 0, got min -0.1"),
    ("weight_decay", -1, "weight_decay must be >= 0, got min -1"),
    ("warmup", 1.5, "warmup must be <= 1, got max 1.5"),
    ("clip", -1, "clip must be >= 0, got min -1"),
    ("seed", -1, "seed must be an integer >= 0, got -1"),
    ("seed", True, "seed must be an integer >= 0, got True"),
    ("seed", 2**63, "seed must be < 2**63, got 9223372036854775808"),
    ("schedule_start", -1, "schedule_start must be an integer >= 0, got -1"),
    ("schedule_start", 300, "schedule_start must be < steps, 300, got 300"),
    ("slow_every", 0, "slow_every must be an integer >= 1, got 0"),
    ("log_every", 0, "log_every must be an integer >= 1, got 0"),
    ("checkpoint_every", 0, "checkpoint_every must be an integer >= 1, got 0"),
    ("evaluate_every", -1, "evaluate_every must be an integer >= 0, got -1"),
    ("evaluate_bytes", 1, "evaluate_bytes must be an integer >= 2, got 1"),
    ("meta_segments", -1, "meta_segments must be an integer >= 0, got -1"),
    ("meta_plain", 1.0, "meta_plain must be an integer >= 0, got 1.0"),
    ("recompute", 1, "recompute must be True or False, got 1"),
    *[(name, "other", f"{name} must be one of {allowed[0]!r}") for name, allowed in CHOICES.items()],
]
BAD_RUN: list[tuple[str, Any, str]] = [
    ("config", {"width": 64}, "config must be a HopeConfig, got dict"),
    ("training", None, "training must be a TrainingSettings, got NoneType"),
    ("config", HopeConfig(vocabulary=255), "vocabulary must be >= 256 for bytes, got 255"),
    ("config", HopeConfig(seed=None), "seed must be an integer >= 0 in the config of a run, got None"),
    ("text", 3, "text must be the path of a file or None, got 3"),
    ("start", "abc", "start must be 64 hexadecimal digits or '', got 'abc'"),
    ("sha256", None, "sha256 must be 64 hexadecimal digits or '', got None"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_wrong_setting_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        TrainingSettings(**{name: value})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("name", "value", "message"), BAD_RUN)
def test_a_wrong_part_of_a_run_is_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must be") as error:
        Run(**{name: value})
    assert str(error.value).startswith(message)


def test_every_setting_with_a_limit_is_in_the_table() -> None:
    assert {name for name, _, _ in BAD} == {one.name for one in fields(TrainingSettings)}
    assert {name for name, _, _ in BAD_RUN} == {one.name for one in fields(Run)}


@pytest.mark.parametrize("name", PRESETS)
def test_json_there_and_back(name: str) -> None:
    run = PRESETS[name].changed(
        mixer="gated_delta_rule", beta_max=2.0, betas=(0.8, 0.9), text="a.txt", eta_max=0.5
    )
    assert Run.from_json(run.to_json()) == run
    assert TrainingSettings.from_json(run.training.to_json()) == run.training
    assert run != PRESETS[name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "text must be JSON"),
        ("[1]", "text must be one JSON object, got list"),
        ('{"step": 3}', "unknown key step; known: config"),
        ('{"training": {"step": 3}}', "unknown key step; known: steps"),
        ('{"config": {"widht": 3}}', "unknown option widht"),
        ('{"config": 3}', "config must be an object of names and values, got 3"),
        (
            '{"mixer_options": {}}',
            "run must be one of this version, .* got mixer_options beside it: train it anew",
        ),
    ],
)
def test_wrong_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Run.from_json(text)


def test_changes_go_where_the_name_belongs() -> None:
    run = PRESETS["tiny"].changed(lr=0.5, width=32, blocks=3, training={"steps": 7}, config={"heads": 4})
    assert (run.training.lr, run.training.steps, run.config.width, run.config.heads, run.config.blocks) == (
        0.5,
        7,
        32,
        4,
        3,
    )
    assert run.training.betas == PRESETS["tiny"].training.betas  # the rest stays
    with pytest.raises(ValueError, match=r"unknown name learning_rate, widht; known: .*lr.*width"):
        run.changed(learning_rate=1, widht=2)


def test_no_name_but_seed_belongs_to_two() -> None:
    names = [one.name for kind in (Run, TrainingSettings, HopeConfig) for one in fields(kind)]
    assert {name for name in names if names.count(name) > 1} == {"seed"}


def test_a_seed_is_that_of_the_model_and_of_the_windows() -> None:
    run = PRESETS["tiny"].changed(width=8, heads=1, seed=3)
    assert (run.config.seed, run.training.seed) == (3, 3)
    windows_alone = run.changed(training={"seed": 4})
    assert (windows_alone.config.seed, windows_alone.training.seed) == (3, 4)
    weights = [one.model().embedding for one in (run, windows_alone, run.changed(config={"seed": 4}))]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    with pytest.raises(ValueError, match="seed must be an integer >= 0, got None"):
        run.changed(seed=None)


def test_presets_are_what_they_say() -> None:
    tiny = PRESETS["tiny"]
    settings = tiny.training
    config = tiny.config
    assert (config.blocks, config.width, config.heads, config.memory_chunk_size) == (2, 64, 2, 16)
    assert (settings.tokens, settings.batch, settings.steps) == (128, 16, 300)
    stored = sum(parameter.numel() for parameter in tiny.model().parameters())
    counted = sum(row.parameters for row in anatomy("hope", config=tiny.config, vocabulary=256, blocks=2))
    assert tiny.parameters() == stored == counted
    assert abs(PRESETS["760m"].parameters() / 760e6 - 1) < 0.02
    assert PRESETS["small"].parameters() < LARGE < PRESETS["760m"].parameters()
