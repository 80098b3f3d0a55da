"""The three questions: every number against the arrays of the NumPy floor, every frequency against a run."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from entries import entries

from hope_ref import reference
from hope_ref.config import HopeConfig, weight_names
from hope_ref.laboratory.anatomy import Row, add_arguments, anatomy, main, markdown, names, text
from hope_ref.reference import continuum_memory, hope
from hope_ref.reference.continuum_memory import random_levels
from hope_ref.reference.parameters import init_memories, random_parameters
from hope_ref.reference.self_modifying_titans import initial_state

SMALL = HopeConfig(
    width=6, heads=3, hidden=5, levels_chunk_sizes=(2, 4), memory_chunk_size=2, projection_chunk_size=4
)


def by_name(rows: tuple[Row, ...]) -> dict[str, Row]:
    found = {row.name.split(",")[0]: row for row in rows}
    assert len(found) == len(rows)
    return found


def sums(rows: tuple[Row, ...]) -> tuple[int, int]:
    return sum(row.state for row in rows), sum(row.parameters for row in rows)


@pytest.mark.parametrize("what", names())
def test_from_fast_to_slow_and_every_question_answered(what: str) -> None:
    rows = anatomy(what)
    frequencies = [row.frequency for row in rows]
    assert frequencies == sorted(frequencies, reverse=True)
    for row in rows:
        assert row.name
        assert row.context
        assert row.rule
        assert row.clock in ("token", "step")
        assert row.state >= 0
        assert row.parameters >= 0
    by_name(rows)


def test_rules_say_where_they_stand_unless_nothing_learns() -> None:
    for what in names():
        for row in anatomy(what):
            assert "[" in row.rule or row.frequency == 0 or row.name == "convolutions", row


@pytest.mark.parametrize("what", ["linear_attention", "delta_rule", "gated_delta_rule"])
def test_matrix_memories(what: str) -> None:
    rng = np.random.default_rng(0)
    q, k, v = rng.normal(size=(2, 5)), rng.normal(size=(2, 5)), rng.normal(size=(2, 3))
    rates = {"linear_attention": (), "delta_rule": (0.5,), "gated_delta_rule": (0.5, 0.9)}[what]
    module = reference.linear_attention if what == "linear_attention" else reference.delta_rule
    memory = getattr(module, what)(q, k, v, *rates)[1]
    assert sums(anatomy(what, d_k=5, d_v=3)) == (memory.size, 0)
    assert anatomy(what)[0].frequency == 1


def test_softmax_attention_keeps_its_tokens_and_a_network_nothing() -> None:
    (row,) = anatomy("softmax_attention", d_k=5, d_v=3, length=7)
    assert (row.state, row.parameters, row.frequency) == (7 * 5 + 7 * 3, 0, math.inf)
    w1, w2 = np.ones((5, 7)), np.ones((7, 5))
    reference.gradient_descent.mlp(w1, w2, np.ones(5))
    (row,) = anatomy("mlp", width=5, hidden=7)
    assert (row.state, row.parameters, row.frequency) == (0, w1.size + w2.size, 0)


@pytest.mark.parametrize("architecture", ["mlp", "linear"])
def test_titans(architecture: str) -> None:
    weights = [np.ones((5, 7)), np.ones((7, 5))] if architecture == "mlp" else [np.ones((5, 5))]
    state = reference.titans.start(*weights)
    rows = by_name(anatomy("titans", architecture=architecture, width=5, hidden=7))
    assert rows["momentum B"].state == entries(state.momentum)
    assert rows["memory M"].state == entries(state.weights) + entries(state.boundary)
    assert rows["memory M"].parameters == sum(w.size for w in weights)


CORES = [
    HopeConfig(width=5, hidden=7),
    HopeConfig(width=5, architecture="linear", inner_momentum=0.5, adaptive_query=True),
    HopeConfig(width=5, hidden=3, read="boundary", memory_chunk_size=2, projection_chunk_size=4),
    HopeConfig(width=5, hidden=3, writing=("v", "memory"), projection_chunk_size=3, memory_chunk_size=6),
    HopeConfig(width=5, hidden=3, writing=("k",), read="pre"),
]


@pytest.mark.parametrize("config", CORES, ids=range(len(CORES)))
def test_self_modifying_titans(config: HopeConfig) -> None:
    parameters = init_memories(config, 0)
    state = initial_state(parameters, config)
    rows = anatomy("self_modifying_titans", config=config)
    assert sums(rows) == (entries(state), entries(parameters))
    for memory, words in (("k", "M_k"), ("alpha", "M_α"), ("memory", "M_memory")):
        held = [a for part in state[:3] for name, a in part.items() if name.split("_", 1)[1] == memory]
        assert by_name(rows)[words].state == sum(a.size for a in held)


@pytest.mark.parametrize("config", CORES, ids=range(len(CORES)))
def test_frequencies_are_those_of_what_a_run_reads(config: HopeConfig) -> None:
    """Count how often the weights that reads see have changed in 48 tokens."""
    parameters = random_parameters(config, 5, config.hidden_width, 0)
    x, length = np.random.default_rng(0).normal(size=(48, 5)), 48
    state = initial_state(parameters, config)
    rows = by_name(anatomy("self_modifying_titans", config=config))
    seen = {memory: [parameters[weight_names(memory, config)[0]]] for memory in config.memories}
    for t in range(length):
        token = x[t : t + 1]
        state = reference.self_modifying_titans.self_modifying_titans(
            token, token, token, parameters, config, state
        )[1]
        following = reference.self_modifying_titans.at_boundary(state, config)  # what token t + 1 reads
        for memory in config.memories:
            name = weight_names(memory, config)[0]
            now = memory == "memory" and config.read != "boundary"
            seen[memory].append(state.weights[name] if now else following[name])
    words = {"k": "M_k", "v": "M_v", "q": "M_q", "eta": "M_η", "alpha": "M_α", "memory": "M_memory"}
    for memory, states in seen.items():
        changes = sum(not np.array_equal(a, b) for a, b in pairwise(states))
        want = rows[words[memory]].frequency * length
        assert changes == round(want), memory


@pytest.mark.parametrize(
    "options", [{}, {"signal": "associative"}, {"variant": "nested"}, {"signal": "none"}]
)
def test_continuum_memory(options: dict[str, Any]) -> None:
    config = HopeConfig(width=3, levels_chunk_sizes=(2, 4, 8), **options)
    levels = random_levels(3, 3, 0)
    if config.signal != "associative":
        levels = tuple(level._replace(value=None) for level in levels)
    state = continuum_memory.initial_state(levels)
    rows = anatomy("continuum_memory", config=config)
    assert sums(rows) == (entries(state), entries(tuple(tuple(level) for level in levels)))
    assert [row.frequency for row in rows] == ([0] * 3 if config.signal == "none" else [1 / 2, 1 / 4, 1 / 8])
    if config.signal == "associative":
        x, thetas = np.random.default_rng(0).normal(size=(16, 3)), [[level.w1] for level in levels]
        for t in range(16):
            state = continuum_memory.continuum_memory(
                x[t : t + 1], levels, state, levels_chunk_sizes=(2, 4, 8), signal="associative"
            )[1]
            for kept, level in zip(thetas, state.levels, strict=True):
                kept.append(level.w1)
        moves = [sum(not np.array_equal(a, b) for a, b in pairwise(w)) for w in thetas]
        assert moves == [round(16 * row.frequency) for row in rows]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"adaptive_query": True, "inner_momentum": 0.5, "convolution_width": 0},
        {"architecture": "linear", "input_projection": False, "convolution_width": 1},
        {"signal": "associative", "variant": "independent", "heads": 1},
    ],
)
@pytest.mark.parametrize("what", ["hope", "hope_attention"])
def test_models_add_up_to_what_the_arrays_hold(what: str, options: dict[str, Any]) -> None:
    config = SMALL.replace(**options)
    mixer = "self_modifying_titans" if what == "hope" else "softmax_attention"
    config = config.replace(heads=1) if config.head_width % 2 else config
    config = config.replace(vocabulary=7, blocks=3, mixer=mixer)
    parameters = hope.init(config)
    state = hope.hope(np.arange(5), parameters, config)[1]
    rows = anatomy(what, config=config, **({} if what == "hope" else {"length": 5}))
    assert sums(rows) == (entries(state), entries(parameters))
    found = by_name(rows)
    assert found["embedding"].parameters == parameters["embedding"].size
    windows = sum(block.mixer.key_inputs.size * 3 for block in state.blocks) if what == "hope" else 0
    assert ("convolutions" in found) == (what == "hope" and config.convolution_width > 0)
    if "convolutions" in found:
        assert found["convolutions"].state == windows


def test_a_transformer_is_attention_and_what_never_changes() -> None:
    sizes: dict[str, Any] = {"width": 6, "levels_chunk_sizes": (1,), "vocabulary": 7, "blocks": 2}
    parameters = hope.init(HopeConfig(**sizes, signal="none", mixer="softmax_attention"))
    attention, *frozen = anatomy("transformer", width=6, vocabulary=7, blocks=2, length=5)
    assert (attention.frequency, attention.state) == (math.inf, 2 * 2 * 5 * 6)
    assert {row.frequency for row in frozen} == {0}
    assert sums(tuple(frozen)) == (0, entries(parameters))


def test_optimisers() -> None:
    w = np.ones((3, 5))
    module = reference.momentum
    kept = {
        "gradient_descent": (),
        "delta_gradient_descent": (),
        "momentum": module.momentum_step(w, w, w, 0.1, 0.9)[1],
        "delta_momentum": module.delta_momentum_step(w, w, w, 0.1, 0.9)[1],
        "newton_schulz_momentum": module.ema_step(w, w, 0.9),
        "adam": module.adam_step(w, w)[1],
        "m3": reference.m3.m3_step(w, w)[1],
    }
    for what, state in kept.items():
        assert sums(anatomy(what, rows=3, columns=5)) == (entries(state), w.size), what
    assert {row.clock for what in kept for row in anatomy(what)} == {"step"}


def test_m3_has_two_clocks() -> None:
    rows, w, state = by_name(anatomy("m3", rows=3, columns=5, slow_every=4)), np.ones((3, 5)), None
    rng, slow = np.random.default_rng(0), []
    for _ in range(12):
        w, state = reference.m3.m3_step(w, rng.normal(size=w.shape), state, slow_every=4)
        slow.append(state.m2)
    changes = sum(not np.array_equal(a, b) for a, b in zip([np.zeros_like(w), *slow], slow, strict=False))
    assert changes == round(12 * rows["slow momentum m²"].frequency) == 3
    assert rows["slow momentum m²"].state == entries((state.m2, state.o2, state.window))
    assert rows["fast momentum m¹"].frequency == 1


def test_words_follow_the_options() -> None:
    def rule(memory: str, **options: Any) -> str:
        return by_name(anatomy("self_modifying_titans", **options))[memory].rule

    assert rule("M_memory") == "Delta Gradient Descent on ½‖M(k) − v̂‖², α [S 29, P 88]"
    assert rule("M_k").startswith("Delta Gradient Descent on ½‖M(k) − v̂‖² [S 29")
    assert rule("M_k").endswith("seen from the next chunk on")
    assert ", α" in rule("M_k", retention_scope="all")
    assert rule("M_memory", erase="none", objective="dot").startswith("gradient descent on −⟨M(k), v̂⟩")
    assert "with momentum" in rule("M_memory", inner_momentum=0.5)
    assert "next chunk" in rule("M_memory", read="boundary")
    shared = by_name(anatomy("self_modifying_titans", target="shared", writing=("memory",)))
    assert shared["M_memory"].context == "tokens, as pairs (k, v)"
    assert shared["M_k"].context == "the pre-training data"
    levels = {rule: anatomy("continuum_memory", rule=rule)[0].rule for rule in ("gd", "dgd")}
    assert levels["gd"].startswith("one gradient step")
    assert levels["dgd"].startswith("one implicit step")
    assert "restarts" in anatomy("continuum_memory", variant="nested")[0].rule
    assert "adapt" not in anatomy("continuum_memory", signal="associative")[0].rule


def test_updates_in_words() -> None:
    row = anatomy("linear_attention")[0]
    said = [row._replace(frequency=f).updates() for f in (math.inf, 1, 1 / 16, 1 / 8192, 0)]
    assert said == ["∞", "1 / token", "1 / 16 tokens", "1 / 8,192 tokens", "0"]


def test_tables() -> None:
    rows = anatomy("m3", rows=300, columns=10)
    lines = markdown(rows).splitlines()
    assert lines[0] == "| component | context | updates | learning rule | state | parameters |"
    assert len(lines) == len(rows) + 3
    assert lines[-1] == "| all |  |  |  | 15,000 | 3,000 |"
    assert {line.count("|") for line in lines} == {7}
    assert markdown(anatomy("adam", rows=30, columns=10)).endswith("| all |  |  |  | 600 | 300 |")
    lines = text(rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert lines[-1].startswith("all ")
    assert lines[-1].endswith(" 15,000       3,000")
    assert len({len(line.replace("\u0302", "")) for line in lines}) == 1  # aligned, the hat of V̂ aside


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("mamba", {}, r"what must be one of 'linear_attention', .*, got 'mamba'"),
    ("adam", {"blocks": 2}, "sizes of adam must be among rows, columns, got blocks"),
    ("linear_attention", {"d_k": 0}, "d_k must be an integer >= 1, got 0"),
    ("m3", {"slow_every": "often"}, "slow_every must be an integer >= 1, got 'often'"),
    ("hope", {"vocabulary": -1}, "vocabulary must be an integer >= 1, got -1"),
    ("hope", {"colour": "red"}, "unknown option colour; known: width"),
    ("hope", {"width": 5, "heads": 2}, "width must be a multiple of heads, got 5 and 2"),
    ("hope", {"config": 3}, "config must be a HopeConfig, got int"),
    ("hope", {"mixer": "titans"}, "mixer must be 'self_modifying_titans' for 'hope', got 'titans'"),
    ("hope_attention", {"width": 6, "heads": 2}, "width of a head must be even for rotary positions, got 3"),
    ("titans", {"architecture": "cnn"}, "architecture must be one of 'linear', 'mlp', got 'cnn'"),
]


@pytest.mark.parametrize(("what", "sizes", "message"), BAD)
def test_bad_input_is_named(what: str, sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anatomy(what, **sizes)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args(list(words)))


def test_command_prints_hope(capsys: pytest.CaptureFixture[str]) -> None:
    assert command() == 0
    assert capsys.readouterr().out.rstrip("\n") == text(anatomy("hope"))
    assert (
        command("hope-attention", "--set", "width=6", "--vocabulary", "7", "--blocks", "3", "--markdown") == 0
    )
    want = anatomy("hope_attention", width=6, vocabulary=7, blocks=3)
    assert capsys.readouterr().out.rstrip("\n") == markdown(want)
    assert command("self-modifying-titans", "--set", "adaptive_query=true", "--set", "read=pre") == 0
    assert "M_q, makes queries" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mamba",), "got 'mamba'"),
        (("adam", "--blocks", "2"), "sizes of adam must be among rows, columns"),
        (("hope", "--set", "what=3"), "unknown option what"),
        (("hope", "--set", "levels_chunk_sizes=3"), "levels_chunk_sizes must be a tuple"),
        (("hope", "--blocks", "0"), "blocks must be an integer >= 1, got 0"),
    ],
)
def test_command_says_what_is_wrong(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*words) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert not shown.out


@pytest.mark.parametrize("given", ["width", "=3"])
def test_command_wants_names_and_values(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command("hope", "--set", given)
    assert stop.value.code == 2
    assert f"must be NAME=VALUE, got {given!r}" in capsys.readouterr().err


def test_importing_it_loads_no_sympy() -> None:
    code = "import hope_ref.laboratory.anatomy, sys; print('sympy' in sys.modules, 'torch' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    assert out.stdout.split() == ["False", "False"]
