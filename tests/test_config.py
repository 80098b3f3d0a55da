"""HopeConfig: defaults, the printed choice, what `help` shows, cross-checks, and the way to JSON and back."""

from __future__ import annotations

import dataclasses
import pydoc
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from hope_ref.config import CHOICES, STARTS, SWITCHES, HopeConfig

DEFAULTS = {
    "architecture": "mlp", "objective": "l2", "step": "implicit", "eta_max": 1.0, "surprise_bound": 1.0,
    "value_norm": True, "retention_scope": "memory", "retention_target": "initial", "erase": "deviation",
    "writing": None, "inner_momentum": 0.0, "input_projection": True, "convolution_width": 4, "heads": 1,
    "hidden": None, "memory_chunk_size": 16, "projection_chunk_size": 16, "eta_init": (0.7, 0.1),
    "alpha_init": 0.999, "memory_w1_std": 0.0, "target": "self", "read": "post", "read_skip": False,
    "adaptive_query": False, "target_gradient": "flow", "order": "fast_to_slow", "signal": "task", "rule": "gd",
    "variant": "sequential", "levels_chunk_sizes": (512, 2048, 8192), "cms_rate": None, "nested_rate": 0.1, "learned_rates": False, "window": 0,
    "vocabulary": 256, "blocks": 2, "mixer": "self_modifying_titans", "beta_max": 1.0, "gated": True, "seed": 0,
}  # fmt: skip
PRINTED = {
    "architecture": "mlp", "objective": "l2", "step": "explicit", "surprise_bound": 0.0, "value_norm": False,
    "retention_scope": "all", "retention_target": "zero", "erase": "full", "writing": None, "inner_momentum": 0.0,
    "input_projection": False, "convolution_width": 4, "target": "self", "read": "post", "read_skip": True,
    "adaptive_query": False, "target_gradient": "flow", "order": "fast_to_slow", "signal": "task", "rule": "dgd",
    "variant": "sequential",
}  # fmt: skip


def test_every_default_is_the_decided_one() -> None:
    assert HopeConfig().to_dict() == {"width": 64, **DEFAULTS}


def test_printed_takes_every_choice_of_the_sources_and_keeps_the_rest() -> None:
    assert HopeConfig.printed().to_dict() == {"width": 64, **DEFAULTS, **PRINTED}


def test_printed_takes_changes_on_top() -> None:
    config = HopeConfig.printed(memory_chunk_size=1, projection_chunk_size=1, read="pre")
    assert (config.memory_chunk_size, config.read, config.step) == (1, "pre", "explicit")


def test_the_first_choice_is_the_default() -> None:
    assert {name: allowed[0] for name, allowed in CHOICES.items()} == {
        name: DEFAULTS[name] for name in CHOICES
    }


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, allowed in CHOICES.items() for v in allowed])
def test_every_choice_is_accepted(name: str, value: str) -> None:
    assert getattr(HopeConfig(**{name: value}), name) == value


@pytest.mark.parametrize("name", CHOICES)
def test_a_word_that_is_no_choice_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be one of '{CHOICES[name][0]}', .*, got 'late'"):
        HopeConfig(**{name: "late"})


NAMES = [field.name for field in dataclasses.fields(HopeConfig)]
HINTS = get_type_hints(HopeConfig)


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_every_option_with_its_docstring_its_choices_and_its_default(name: str) -> None:
    shown = pydoc.render_doc(HopeConfig, renderer=pydoc.plaintext)
    lines = re.findall(rf"^ \|      {name} \((.+), default (.+?)\): (\S.*)$", shown, re.MULTILINE)
    assert len(lines) == 1, shown
    kind, default, text = lines[0]
    assert default == repr(getattr(HopeConfig(), name))
    assert re.fullmatch(r"\S.*\S[.]", text), "one docstring of whole sentences"
    if name in CHOICES:
        assert kind == " | ".join(map(repr, CHOICES[name]))


def test_types_are_literals_exactly_where_there_are_choices() -> None:
    literals = {name: get_args(hint) for name, hint in HINTS.items() if get_origin(hint) is Literal}
    assert literals == CHOICES
    assert {name for name, hint in HINTS.items() if hint is bool} == set(SWITCHES)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_is_true_or_false(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be True or False, got 1"):
        HopeConfig(**{name: 1})


BAD: list[tuple[dict[str, Any], str]] = [
    ({"read": "late"}, "read must be one of 'post', 'pre', 'boundary', got 'late'"),
    ({"width": 0}, "width must be an integer >= 1, got 0"),
    ({"heads": True}, "heads must be an integer >= 1, got True"),
    ({"width": 64, "heads": 3}, "width must be a multiple of heads, got 64 and 3"),
    ({"hidden": 1.5}, "hidden must be an integer >= 1, got 1.5"),
    ({"memory_chunk_size": 0}, "memory_chunk_size must be an integer >= 1, got 0"),
    ({"memory_chunk_size": 6, "projection_chunk_size": 4}, "one must divide the other, got 6 and 4"),
    ({"vocabulary": 0}, "vocabulary must be an integer >= 1, got 0"),
    ({"vocabulary": 1.5}, "vocabulary must be an integer >= 1, got 1.5"),
    ({"blocks": -1}, "blocks must be an integer >= 1, got -1"),
    ({"blocks": "two"}, "blocks must be an integer >= 1, got 'two'"),
    ({"seed": -1}, "seed must be an integer >= 0 or None, got -1"),
    ({"seed": True}, "seed must be an integer >= 0 or None, got True"),
    ({"seed": 0.5}, "seed must be an integer >= 0 or None, got 0.5"),
    ({"beta_max": 0}, "beta_max must be > 0, got 0"),
    ({"beta_max": 2.01}, r"beta_max must be in \(0, 2\], got 2.01"),
    ({"beta_max": "one"}, "beta_max must be float64"),
    ({"mixer": "softmax_attention", "width": 6, "heads": 2}, "width of a head must be even for rotary positions, got 3"),
    ({"eta_max": 0}, "eta_max must be > 0, got 0"),
    ({"eta_max": float("nan")}, "eta_max must be finite"),
    ({"surprise_bound": -0.3}, "surprise_bound must be >= 0, got min -0.3"),
    ({"surprise_bound": None}, "surprise_bound must be float64 .* got dtype object"),
    ({"surprise_bound": True}, "surprise_bound must be float64 .* got dtype bool"),
    ({"inner_momentum": 1.0}, "inner_momentum must be < 1, got 1"),
    ({"inner_momentum": -0.1}, "inner_momentum must be >= 0, got min -0.1"),
    ({"writing": ("k", "w")}, "writing: each name must be one of 'k', 'v', 'eta', 'alpha', 'memory', got 'w'"),
    ({"writing": ("q",)}, "writing: each name must be one of 'k', 'v', 'eta', 'alpha', 'memory', got 'q'"),
    ({"writing": ("k", "k")}, r"writing must name each memory once, got \('k', 'k'\)"),
    ({"writing": "memory"}, "writing must be a tuple of names or None, got 'memory'"),
    ({"convolution_width": -1}, "convolution_width must be a width >= 1, or 0 for none, got -1"),
    ({"convolution_width": False}, "convolution_width must be a width >= 1, or 0 for none, got False"),
    ({"eta_init": 0.7}, "eta_init must be a tuple of at least one number, got 0.7"),
    ({"eta_init": (0.7, 0.1, 0.1)}, "eta_init must be two numbers, of memory and of the others"),
    ({"eta_init": (0.7, 0.0)}, "eta_init must be > 0, got 0"),
    ({"alpha_init": 1.0}, "alpha_init must be < 1, got 1"),
    ({"alpha_init": 0.0}, "alpha_init must be > 0, got 0"),
    ({"memory_w1_std": -1}, "memory_w1_std must be >= 0, got min -1"),
    ({"nested_rate": 1.1}, "nested_rate must be <= 1, got max 1.1"),
    ({"levels_chunk_sizes": ()}, r"levels_chunk_sizes must be a tuple of at least one number, got \(\)"),
    ({"levels_chunk_sizes": (4, 0)}, "levels_chunk_sizes must be an integer >= 1, got 0"),
    ({"levels_chunk_sizes": (8, 4)}, r"levels_chunk_sizes must be listed fast to slow \(rising\), got \(8, 4\)"),
    ({"levels_chunk_sizes": (4, 6)}, "levels_chunk_sizes: signal='task' needs multiples of 4, got 6"),
    (
        {"levels_chunk_sizes": (2, 4, 6), "variant": "nested", "signal": "none"},
        "levels_chunk_sizes: variant='nested' needs multiples of 4, got 6",
    ),
    ({"cms_rate": -1.0}, "cms_rate must be >= 0, got min -1"),
    ({"cms_rate": (0.1, 0.1)}, r"cms_rate must be one number or one per level \(3\), got 2"),
    ({"cms_rate": (0.1, 0.1, -1)}, "cms_rate must be >= 0, got min -1"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD, ids=[m[:50] for _, m in BAD])
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HopeConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"levels_chunk_sizes": (2, 4, 6)},  # multiples of the fastest are enough unless nested
        {"levels_chunk_sizes": (4, 6), "signal": "associative"},
        {"levels_chunk_sizes": (4, 4, 8), "variant": "nested"},
        {"memory_chunk_size": 4, "projection_chunk_size": 12},
        {"memory_chunk_size": 12, "projection_chunk_size": 4},
        {"convolution_width": 0},
        {"cms_rate": 0},
        {"writing": ()},
        {"writing": ("q",), "adaptive_query": True},
        {"vocabulary": 1, "blocks": 1},
        {"seed": None},
        {"beta_max": 2, "mixer": "gated_delta_rule", "gated": False},
        {"width": 6, "heads": 2},  # odd heads, unless they are rotated
    ],
)
def test_these_are_good(options: dict[str, Any]) -> None:
    config = HopeConfig(**options)
    assert HopeConfig.from_json(config.to_json()) == config


def test_memories_and_writers() -> None:
    assert HopeConfig().memories == HopeConfig().writers == ("k", "v", "eta", "alpha", "memory")
    assert HopeConfig(adaptive_query=True).writers == ("k", "v", "q", "eta", "alpha", "memory")
    assert HopeConfig(writing=("memory", "k")).writers == ("k", "memory")
    assert HopeConfig(writing=[]).writers == ()


def test_derived_sizes_and_rates() -> None:
    config = HopeConfig(
        width=24, heads=3, memory_chunk_size=2, projection_chunk_size=6, levels_chunk_sizes=[2, 4]
    )
    assert (config.head_width, config.hidden_width, config.replace(hidden=5).hidden_width) == (8, 8, 5)
    assert [config.chunk_size(name) for name in config.memories] == [6, 6, 6, 6, 2]
    assert config.levels_chunk_sizes == (2, 4)
    assert config.level_rates == (0.05, 0.025)
    assert config.replace(cms_rate=0.3).level_rates == (0.3, 0.3)
    assert config.replace(cms_rate=[0.3, 0.1]).level_rates == (0.3, 0.1)


def test_frozen_hashable_and_comparable() -> None:
    config = HopeConfig(levels_chunk_sizes=[2, 4], eta_init=[0.5, 0.2], writing=["k"], cms_rate=[1, 2])
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.read = "pre"  # type: ignore[misc]
    assert hash(config) == hash(HopeConfig.from_json(config.to_json()))


def test_numbers_become_plain_python() -> None:
    config = HopeConfig(
        heads=np.int64(2), seed=np.int64(3), surprise_bound=np.float64(2), inner_momentum=0, beta_max=1
    )
    assert type(config.heads) is type(config.seed) is int
    assert type(config.surprise_bound) is type(config.inner_momentum) is type(config.beta_max) is float


CHANGES: dict[str, Any] = {
    **{name: values[1] for name, values in CHOICES.items()},
    **{name: not getattr(HopeConfig(), name) for name in SWITCHES},
    "width": 32, "heads": 2, "vocabulary": 5, "blocks": 1, "hidden": 3, "memory_chunk_size": 8,
    "projection_chunk_size": 8, "eta_max": 0.9, "surprise_bound": 0, "writing": (), "inner_momentum": 0.5,
    "convolution_width": 0, "levels_chunk_sizes": (2,), "cms_rate": 0.1, "nested_rate": 0, "beta_max": 2, "window": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_difference_names_every_option_but_those_of_the_start(name: str) -> None:
    config = HopeConfig()
    assert config.difference(config.replace()) == ""
    start = {"eta_init": (0.5, 0.2), "alpha_init": 0.9, "memory_w1_std": 0.3, "seed": None}
    assert set(start) == set(STARTS)
    other = config.replace(**{name: {**CHANGES, **start}[name]})
    assert other != config
    assert config.difference(other) == other.difference(config) == ("" if name in STARTS else name)


@pytest.mark.parametrize(
    "config",
    [HopeConfig(), HopeConfig.printed(cms_rate=(0.1, 0.2, 0.3), writing=("k",)), HopeConfig(seed=None)],
)
def test_there_and_back(config: HopeConfig) -> None:
    assert HopeConfig.from_dict(config.to_dict()) == config
    assert HopeConfig.from_json(config.to_json()) == config


def test_replace_validates_anew() -> None:
    with pytest.raises(ValueError, match="one must divide the other, got 16 and 7"):
        HopeConfig().replace(projection_chunk_size=7)


def test_an_unknown_option_is_named_beside_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown option chunk, 3; known: width, heads, .*, seed$"):
        HopeConfig.from_dict({"chunk": 3, 3: 4, "read": "pre"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "text must be JSON: "),
        ("[1]", "text must be one JSON object, got list"),
        ('{"x": 1}', "unknown option x"),
    ],
)
def test_json_that_is_no_configuration(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HopeConfig.from_json(text)
