"""The laboratory: its measurements against the reference floor, and what the sources' equations do under each option."""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from hope_ref.common.validation import Array
from hope_ref.config import HopeConfig
from hope_ref.laboratory import stability
from hope_ref.laboratory.stability import (
    Trace,
    kept_shares,
    measure,
    random_stream,
    started,
    survey,
)
from hope_ref.reference.parameters import init_memories, random_parameters
from hope_ref.reference.self_modifying_titans import answer, at_boundary, generate, of, self_modifying_titans

WIDTH = 16


def chunks(size: int) -> dict[str, int]:
    return {"memory_chunk_size": size, "projection_chunk_size": size}


another_seed = pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])


def trace_of(config: HopeConfig, tokens: int, seed: int = 0, start: str = "init") -> Trace:
    return measure(config, started(config, seed, start), random_stream(tokens, config.width, seed))


def largest(trace: Trace) -> float:
    return max(float(along[np.isfinite(along)].max()) for along in trace.norms.values())


def worst_error(trace: Trace) -> float:
    return max(float(errors.max()) for errors in trace.errors.values())


def projections_kept(trace: Trace) -> Array:
    squares = [along**2 for name, along in trace.norms.items() if "memory" not in name]
    total = np.sqrt(sum(squares))
    return np.asarray(total / total[0])


# --- what is said of a trace ----------------------------------------------------------------------------------------


def made(overflow: int | None = None, **norms: tuple[float, ...]) -> Trace:
    nothing = np.zeros(0)
    return Trace({n: np.array(a) for n, a in norms.items()}, {}, {}, {}, {}, nothing, nothing, overflow)


@pytest.mark.parametrize(
    ("traces", "words"),
    [
        ([made(w=(1, 1)), made(w=(1, 0.11))], "steady"),
        ([made(w=(1, 999)), made(w=(1, 1))], "steady"),
        ([made(w=(1, 1001, 1)), made(w=(1, 1))], "grows past 1000 times its start"),
        ([made(a=(1, 1001), b=(5, 1))], "steady"),
        ([made(0, w=(1, np.nan)), made(1, w=(1, np.inf))], "overflows"),
        ([made(w=(1, 1)), made(3, w=(1, np.inf))], "overflows on 1 of 2 seeds"),
        ([made(a=(1, 0.09), b=(1, 0.09), c=(0, 0)), made(a=(1, 0), b=(1, 1), c=(0, 0))], "erases a"),
        ([made(a=(1, 0.09), b=(2, 0.1))], "erases everything"),
    ],
)
def test_verdicts_follow_their_thresholds(traces: list[Trace], words: str) -> None:
    assert stability.verdict(traces) == words


def test_the_largest_norm_is_the_largest_finite_one() -> None:
    assert stability._largest(made(0, a=(1, np.inf, np.nan), b=(1, 3, 2))) == 3


def test_kept_shares_leave_out_what_starts_from_nothing() -> None:
    assert kept_shares(made(a=(2, 3, 1), b=(0, 5, 1))) == {"a": 0.5}


# --- the measurement itself -----------------------------------------------------------------------------------------

EACH: dict[str, HopeConfig] = {
    "default": HopeConfig(width=5, memory_chunk_size=2, projection_chunk_size=4),
    "printed, bounded": HopeConfig.printed(width=5, **chunks(2), surprise_bound=0.7),
    "linear, shared": HopeConfig(width=5, architecture="linear", target="shared", retention_scope="all"),
    "some write": HopeConfig(
        width=5, adaptive_query=True, writing=("k", "memory"), step="normalized", **chunks(1)
    ),
    "momentum, dot": HopeConfig(width=5, inner_momentum=0.5, objective="dot", retention_target="zero"),
}


@pytest.mark.parametrize("config", EACH.values(), ids=EACH)
def test_a_trace_says_what_the_reference_computes(config: HopeConfig) -> None:
    """Every number of the trace again, from the states of `self_modifying_titans` and the definitions."""
    parameters, x = started(config, 3, "random"), random_stream(7, 5, 3)
    trace = measure(config, parameters, x)
    assert trace.overflow is None
    assert set(trace.errors) == set(config.writers)
    states = [self_modifying_titans(*[x[:t]] * 3, parameters, config)[1] for t in range(8)]
    for name in states[0].weights:
        for t, state in enumerate(states):
            weight = state.weights[name]
            assert trace.norms[name][t] == pytest.approx(np.linalg.norm(weight), rel=1e-12)
            assert trace.drift[name][t] == pytest.approx(np.linalg.norm(weight - parameters[name]), abs=1e-12)
    for t in range(7):
        frozen = at_boundary(states[t], config)
        made = generate(*[x[t]] * 3, parameters, config, frozen)
        assert trace.alpha[t] == made.alpha
        bare = parameters["alpha_readout"] @ x[t] / math.sqrt(5) + parameters["alpha_bias"]
        logit = math.log(made.alpha / (1 - made.alpha))
        assert trace.alpha_learned[t] == pytest.approx(logit - bare, abs=1e-10)
        for memory in config.memories:
            assert trace.eta[memory][t] == made.eta[memory]
        for memory in config.writers:
            own = of(frozen, memory, config)
            target = made.v if config.target == "shared" else answer(own, made.v)
            want = np.linalg.norm(answer(own, made.k) - target)
            assert trace.errors[memory][t] == pytest.approx(want, rel=1e-12)
        for name, room in trace.room.items():
            memory = name.split("_", 1)[1]
            alpha = made.alpha if memory == "memory" or config.retention_scope == "all" else 1.0
            goes_to = parameters[name] * (config.retention_target == "initial")  # R
            origin = parameters[name] * (config.erase == "deviation")  # E
            back = np.linalg.norm(goes_to - origin)
            before, after = (np.linalg.norm(states[t + i].weights[name] - origin) for i in (0, 1))
            c, eta = config.surprise_bound, made.eta[memory]
            reach = alpha * before + c * math.sqrt(eta) / 2
            if config.erase != "none":
                reach = min(reach, math.sqrt(alpha**2 * before**2 + c**2 * eta * alpha / 2))
            assert room[t] == pytest.approx(reach + (1 - alpha) * back - after, abs=1e-12)
    assert {name.split("_", 1)[1] for name in trace.room} == set(config.writers)


@pytest.mark.parametrize("read", ["post", "pre", "boundary"])
@pytest.mark.parametrize("size", [1, 4])
def test_the_overflow_is_the_first_token_whose_states_or_output_are_not_finite(read: str, size: int) -> None:
    config = HopeConfig.printed(width=8, **chunks(size), read=read)
    parameters, x = init_memories(config, 1), random_stream(60, 8, 1)
    trace = measure(config, parameters, x)
    assert trace.overflow is not None
    for length in (trace.overflow, trace.overflow + 1):
        outputs, state = self_modifying_titans(*[x[:length]] * 3, parameters, config)
        fine = np.isfinite(outputs).all() and all(np.isfinite(w).all() for w in state.weights.values())
        assert fine == (length == trace.overflow)
    for along in trace.norms.values():
        assert np.isfinite(along[: trace.overflow + 1]).all()
        assert np.isnan(along[trace.overflow + 2 :]).all()
    assert np.isnan(trace.alpha[trace.overflow + 1 :]).all()


def test_a_read_of_the_old_state_meets_the_overflow_a_token_later() -> None:
    """Only W1 of `memory` at 1e308 · 10: the first output that reads it is infinite, the weights are finite."""
    config = HopeConfig(width=4, architecture="linear", writing=(), read_skip=True)
    parameters = started(config, 0, "random") | {"w_memory": np.full((4, 4), 1.7e308)}
    parameters["w_query"] = np.ones((4, 4))
    trace = measure(config, parameters, np.ones((3, 4)))
    assert trace.overflow == 0
    assert all(np.isfinite(along[1]) for name, along in trace.norms.items() if name != "w_memory")


def test_a_norm_does_not_overflow_before_its_matrix() -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 4))
    for scale in (1e-250, 1.0, 1e250):
        assert stability.norm(scale * matrix) == pytest.approx(scale * np.linalg.norm(matrix), rel=1e-12)
        assert stability.norm(scale * matrix) > 0
    assert stability.norm(np.zeros((2, 2))) == stability.norm(np.zeros((0, 2))) == 0
    assert stability.norm(np.array([1.0, -np.inf])) == np.inf
    assert np.isnan(stability.norm(np.array([1.0, np.nan])))


def test_the_laboratory_loads_numpy_alone() -> None:
    code = "import sys, hope_ref.laboratory.stability, hope_ref.laboratory.skip_free; print(*{n.split('.')[0] for n in sys.modules})"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    assert not {"torch", "sympy", "matplotlib"} & set(out.stdout.split())


def test_no_tokens_leave_the_start_alone() -> None:
    trace = trace_of(HopeConfig(width=4), 0)
    assert trace.overflow is None
    assert all(along.shape == (1,) for along in trace.norms.values())
    assert trace.alpha.shape == (0,)


def test_streams_are_seeded_and_not_those_of_the_parameters() -> None:
    np.testing.assert_array_equal(random_stream(5, 3, 7), random_stream(5, 3, 7))
    assert np.abs(random_stream(5, 3, 7) - random_stream(5, 3, 8)).max() > 0.1
    assert np.abs(random_stream(5, 3, 7) - np.random.default_rng(7).normal(size=(5, 3))).max() > 0.1
    assert random_stream(4000, 3, 0).std() == pytest.approx(1, abs=0.05)


# --- what overflows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "soonest", "latest"), [(1, 7, 14), (16, 48, 64), (64, 128, 193)])
def test_as_printed_every_seed_overflows_and_a_larger_chunk_only_delays_it(
    size: int, soonest: int, latest: int
) -> None:
    config = HopeConfig.printed(width=WIDTH, **chunks(size))
    found = [trace_of(config, 200, seed).overflow for seed in range(4 if size == 1 else 2)]
    assert all(token is not None and soonest <= token <= latest for token in found), found


@pytest.mark.parametrize("size", [1, 16])
@pytest.mark.parametrize(
    ("repair", "least", "most"),
    [({"value_norm": True}, 0.9, 2), ({"surprise_bound": 1.0}, 5, 100), ({"value_norm": True, "surprise_bound": 1.0}, 0.9, 2)],
    ids=["unit values", "bound", "both"],
)  # fmt: skip
@another_seed
def test_either_repair_alone_keeps_the_printed_form_finite_but_the_bound_leaves_large_errors(
    size: int, repair: dict[str, Any], least: float, most: float, seed: int
) -> None:
    trace = trace_of(HopeConfig.printed(width=WIDTH, **chunks(size), **repair), 130, seed)
    assert trace.overflow is None
    assert least < worst_error(trace) < most
    assert largest(trace) < 10


@another_seed
def test_a_loose_bound_on_explicit_steps_is_no_repair(seed: int) -> None:
    """‖u‖ < 10 is bounded, but η‖φ‖² > 2 multiplies: the growth is exponential; implicit steps of the same bound hold."""
    grown = trace_of(HopeConfig.printed(width=WIDTH, surprise_bound=10.0), 120, seed)
    assert grown.overflow is None
    assert largest(grown) > 1e25
    held = trace_of(HopeConfig.printed(width=WIDTH, surprise_bound=10.0, step="implicit"), 120, seed)
    assert largest(held) < 100


def test_the_default_is_steady() -> None:
    for size in (1, 16):
        trace = trace_of(HopeConfig(width=WIDTH, **chunks(size)), 150)
        assert trace.overflow is None
        assert worst_error(trace) < 1.7
        assert largest(trace) < 8.5


@another_seed
@pytest.mark.parametrize("step", ["explicit", "implicit", "normalized"])
def test_the_dot_product_in_an_mlp_memory_overflows_without_the_bound_even_on_unit_values(
    step: str, seed: int
) -> None:
    config = HopeConfig(width=WIDTH, objective="dot", step=step, surprise_bound=0, **chunks(1))
    overflow = trace_of(config, 400, seed).overflow
    assert overflow is not None
    free = trace_of(config.replace(value_norm=False), 400, seed).overflow
    assert free is not None
    assert overflow > free, "later than with free values"
    held = trace_of(config.replace(surprise_bound=1.0), 80, seed)
    assert held.overflow is None
    assert largest(held) < 15
    assert largest(trace_of(config.replace(objective="l2"), 60, seed)) < 10


@pytest.mark.slow
def test_with_little_retention_about_half_the_seeds_overflow_and_the_others_decay() -> None:
    """Random parameters, α about sigmoid(3): 5 of 10 overflow here, the others are on their way to 0."""
    config = HopeConfig.printed(width=8, **chunks(1))
    traces = [trace_of(config, 250, seed, "random") for seed in range(10)]
    finite = [trace for trace in traces if trace.overflow is None]
    assert 3 <= len(finite) <= 6
    for trace in finite:
        assert max(float(along[-1]) for along in trace.norms.values()) < 0.5
        assert max(kept_shares(trace).values()) < 0.1


def test_with_full_retention_no_random_start_stays_unless_its_own_alpha_shuts_it_off() -> None:
    """α = sigmoid(12) throughout: all grow, most overflow. Where M_α is read too, a huge M_α may bring α to 0 first."""
    config = HopeConfig.printed(width=8, **chunks(1))
    overflows, rescued = [], []
    for seed in range(8):
        x = random_stream(100, 8, seed)
        parameters = random_parameters(config, 8, 8, seed) | {"alpha_bias": np.array(12.0)}
        fixed = measure(config, parameters | {"alpha_readout": np.zeros(8)}, x)
        assert largest(fixed) > 1e3 * max(along[0] for along in fixed.norms.values())
        overflows.append(fixed.overflow)
        free = measure(config, parameters, x)
        if free.overflow is None and max(float(along[-1]) for along in free.norms.values()) < 1e-20:
            rescued.append(float(free.alpha.min()))
    assert sum(token is not None and 4 <= token <= 40 for token in overflows) >= 6
    assert rescued
    assert max(rescued) < 1e-6


OVERFLOWS: list[dict[str, Any]] = [
    {}, {"objective": "dot"}, {"retention_scope": "memory"}, {"retention_target": "initial"}, {"erase": "deviation"}, {"read": "pre"},
    {"read": "boundary"}, {"target": "shared"}, {"adaptive_query": True}, {"writing": ("memory",)}, {"inner_momentum": 0.9},
]  # fmt: skip


@another_seed
@pytest.mark.parametrize("change", OVERFLOWS, ids=str)
def test_no_other_option_repairs_the_printed_form(change: dict[str, Any], seed: int) -> None:
    config = HopeConfig.printed(width=WIDTH, **chunks(1), **change)
    assert trace_of(config, 60, seed).overflow is not None


# --- what erases itself ---------------------------------------------------------------------------------------------


def test_retention_toward_zero_on_every_memory_erases_the_rule() -> None:
    for seed in range(2):
        gone = trace_of(
            HopeConfig(width=WIDTH, retention_scope="all", retention_target="zero", erase="full"),
            120,
            seed,
            "random",
        )
        assert projections_kept(gone)[60] < 0.05
        assert projections_kept(gone)[120] < 1e-3
        first, last = np.abs(gone.alpha_learned[:16]).max(), np.abs(gone.alpha_learned[-16:]).max()
        assert last < 1e-4 * first, "α is left with its bias and the bare token"


@another_seed
def test_retention_on_memory_alone_leaves_the_rest_to_the_erase_and_toward_the_start_it_protects(
    seed: int,
) -> None:
    full = HopeConfig(width=WIDTH, erase="full")
    scoped = projections_kept(trace_of(full, 120, seed, "random"))[-1]
    toward = projections_kept(trace_of(full.replace(retention_scope="all"), 120, seed, "random"))
    spared = projections_kept(trace_of(HopeConfig(width=WIDTH), 120, seed, "random"))
    assert 0.3 < scoped < 0.6
    assert toward[-1] > 0.7
    assert spared[-1] > 0.85


def features_left(**options: Any) -> float:
    """‖W2_T - W2_0‖ / ‖W2_0‖ of `memory` after 120 tokens."""
    trace = trace_of(HopeConfig(width=WIDTH, **options), 120)
    return float(trace.drift["w2_memory"][-1] / trace.norms["w2_memory"][0])


def test_a_full_erase_eats_the_features_with_any_step_and_the_deviation_keeps_them() -> None:
    """A statement about norms alone: what recall makes of it is not measured here."""
    full = {step: features_left(step=step, erase="full") for step in ("normalized", "explicit", "implicit")}
    assert 0.9 < full["normalized"] < 1
    assert 0.9 < full["explicit"] < 1
    assert 0.8 < full["implicit"] < full["normalized"], "slower, for η̃ is smaller; no less complete"
    for step in full:
        assert features_left(step=step) < 0.12, step


def test_on_a_unit_key_the_implicit_step_is_a_normalised_one_with_a_smaller_rate() -> None:
    """W2 sees φ = k: η/(1 + η) stands in the place of η. Given keys; W2 of `memory`, whose W1 is 0, is erased alone."""
    eta, found = 0.7, []
    for step, rate in (("implicit", eta), ("normalized", eta / (1 + eta))):
        config = HopeConfig(
            width=8,
            step=step,
            eta_init=(rate, 0.1),
            writing=("memory",),
            objective="dot",
            surprise_bound=0,
            erase="full",
        )
        parameters = init_memories(config, 0)
        stream = random_stream(16, 8, 0)  # one chunk: W1 = 0 at its boundary, nothing is written into W2
        found.append(measure(config, parameters, stream).norms["w2_memory"])
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert found[0][-1] < 0.6 * found[0][0]


# --- the survey -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> list[stability.Row]:
    return survey(tokens=66, seeds=1)


def test_every_option_is_surveyed_or_said_to_act_elsewhere() -> None:
    named = (*stability.VALUES, *stability.SHARES_OUT, *stability.CONTINUUM, *stability.AROUND)
    assert sorted(named) == sorted(field.name for field in fields(HopeConfig))
    for name, values in stability.VALUES.items():
        assert len(values) >= 2
        assert getattr(HopeConfig(), name) in values or name == "width"
        assert getattr(HopeConfig.printed(), name) in values or name == "width"


def by_name(rows: list[stability.Row], base: str) -> dict[tuple[str, str], stability.Row]:
    return {(row.option, row.value): row for row in rows if row.base == base}


@pytest.mark.slow
def test_the_survey_measures_every_other_value_off_both_bases(rows: list[stability.Row]) -> None:
    for base, config in (("default", HopeConfig()), ("printed", HopeConfig.printed())):
        found = by_name(rows, base)
        assert next(iter(found)) == ("base", "")
        assert all(row.seeds == 1 for row in found.values())
        for name, values in stability.VALUES.items():
            here = 16 if name == "width" else getattr(config, name)
            assert sum(option == name for option, _ in found) == len([v for v in values if v != here]), name


@pytest.mark.slow  # one by one most of it is found above
def test_what_the_survey_finds(rows: list[stability.Row]) -> None:
    default, printed = by_name(rows, "default"), by_name(rows, "printed")
    assert {row.overflows for row in default.values()} == {0}
    assert all(row.verdict == "steady" or "erases" in row.verdict for row in default.values())
    assert printed["base", ""].verdict == "overflows"
    for change in (("value_norm", "True"), ("surprise_bound", "1.0"), ("writing", "()")):
        assert printed[change].verdict == "steady", change
    for change in (("retention_scope", "memory"), ("erase", "deviation"), ("memory_chunk_size", "1")):
        assert printed[change].overflows == 1, change
    for change in (("step", "implicit"), ("step", "normalized"), ("surprise_bound", "10.0")):
        assert printed[change].verdict == "grows past 1000 times its start", change
        assert printed[change].largest > 1e6
    assert printed["memory_chunk_size", "1"].first < printed["base", ""].first  # type: ignore[operator]
    assert printed["alpha_init", "0.9"].least_kept < 0.02


@pytest.mark.parametrize("option", ["target_gradient", "read_skip", "eta_max"])
def test_options_that_cannot_change_a_state_do_not(option: str) -> None:
    rows = survey(tokens=66, seeds=1, option=option)
    for base in ("default", "printed"):
        found = by_name(rows, base)
        (row,) = (row for row in found.values() if row.option == option)
        assert (
            row[3:] == pytest.approx(found["base", ""][3:], nan_ok=True) or row[3:7] == found["base", ""][3:7]
        )


def test_a_row_is_what_its_traces_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of these five seeds overflow, the first one among them, at different tokens."""
    monkeypatch.setitem(stability.VALUES, "memory_chunk_size", (1, 16))
    rows = survey(tokens=50, seeds=5, option="memory_chunk_size", start="random", width=8)
    row = by_name(rows, "printed")["memory_chunk_size", "1"]
    config = HopeConfig.printed(width=8, memory_chunk_size=1)
    traces = [
        measure(config, random_parameters(config, 8, 8, seed), random_stream(50, 8, seed))
        for seed in range(5)
    ]
    tokens = [trace.overflow for trace in traces if trace.overflow is not None]
    assert traces[0].overflow is not None
    assert (row.overflows, row.first) == (len(tokens), min(tokens)) == (3, 13)
    assert min(tokens) < max(tokens)
    assert row.largest == max(largest(trace) for trace in traces) < math.inf
    assert row.least_kept == min(min(kept_shares(t).values()) for t in traces if t.overflow is None)
    assert row.verdict == "overflows on 3 of 5 seeds"
    assert {r.option for r in rows} == {"base", "memory_chunk_size"}


# --- bad input and the command --------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], str]] = [
    ({"tokens": 0}, "tokens must be an integer >= 1, got 0"),
    ({"tokens": 2.0}, "tokens must be an integer >= 1, got 2.0"),
    ({"seeds": -1}, "seeds must be an integer >= 1, got -1"),
    ({"width": True}, "width must be an integer >= 1, got True"),
    ({"start": "zeros"}, "start must be one of 'init', 'random', got 'zeros'"),
    ({"option": "heads"}, "option must be one of 'width', .*, got 'heads'"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_survey_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        survey(**arguments)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (np.zeros(4), r"stream must have shape \(T, d\), got \(4,\)"),
        (np.full((2, 4), np.nan), "stream must be finite, got 8 NaN"),
        (np.zeros((2, 4), dtype=np.float32), "stream must be float64 .* got dtype float32"),
        (np.zeros((2, 3)), r"parameters\['.*'\] must have shape .*3.*, got .*4"),
        ([[1.0], [1.0, 2.0]], "stream must be an array of real numbers"),
    ],
    ids=["flat", "nan", "float32", "width", "ragged"],
)
def test_a_bad_stream_is_named(stream: Any, message: str) -> None:
    config = HopeConfig(width=4)
    with pytest.raises(ValueError, match=message):
        measure(config, init_memories(config, 0), stream)


def test_bad_parameters_are_named() -> None:
    config = HopeConfig(width=4)
    with pytest.raises(ValueError, match="alpha_bias"):
        measure(
            config, {n: a for n, a in init_memories(config, 0).items() if n != "alpha_bias"}, np.zeros((1, 4))
        )
    with pytest.raises(ValueError, match="config must be a HopeConfig, got dict"):
        measure({}, init_memories(config, 0), np.zeros((1, 4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start must be one of 'init', 'random', got 'best'"):
        started(config, 0, "best")


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    stability.add_arguments(parser)
    return stability.main(parser.parse_args(words))


def test_the_command_prints_an_aligned_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--tokens", "14", "--seeds", "1", "--option", "memory_chunk_size") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    assert (
        " ".join(lines[0].split())
        == "base option value overflow first token largest norm least kept what happens"
    )
    for column in (lines[0].index("option"), lines[0].index("value"), lines[0].index("what")):
        assert {line[column - 1] for line in lines} == {" "}
        assert {line[column] != " " for line in lines if "base   " not in line or column < 20} == {True}
    (broken,) = (line for line in lines if line.endswith("  overflows"))
    assert broken.split()[:4] == ["printed", "memory_chunk_size", "1", "1"]


def test_the_command_names_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("--option", "nothing"), "--option must be one of 'width'"),
        (("--tokens", "0"), "--tokens must be an integer >= 1, got 0"),
        (("--seeds", "0"), "--seeds must be an integer >= 1, got 0"),
        (("--start", "warm"), "--start must be one of 'init', 'random', got 'warm'"),
    ):
        assert command(*words) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith(message)
        assert not shown.out
    parser = argparse.ArgumentParser()
    stability.add_arguments(parser)
    given = vars(parser.parse_args([]))
    assert given == {"tokens": 80, "seeds": 3, "option": None, "start": "init"}
