"""Lessons: levels alone carry. Against `adapt`, the NumPy floor, finite differences of both floors, and by perturbation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hope_ref.config import HopeConfig
from hope_ref.parallel import hope_adaptation, lessons
from hope_ref.parallel.continuum_memory import ContinuumState
from hope_ref.parallel.hope import Hope
from hope_ref.reference import lessons as reference

TINY: dict[str, Any] = {
    "width": 4,
    "vocabulary": 5,
    "memory_chunk_size": 2,
    "projection_chunk_size": 2,
    "levels_chunk_sizes": (3, 6),
    "cms_rate": 0.2,
}
MODELS = {
    "attention, one block": {"blocks": 1, "mixer": "softmax_attention", "learned_rates": True},
    "HOPE, nested": {"blocks": 1, "variant": "nested"},
    "attention, dgd, one level": {
        "blocks": 1,
        "mixer": "softmax_attention",
        "rule": "dgd",
        "levels_chunk_sizes": (3,),
    },
}


def model_of(options: dict[str, Any], shaken: bool = True) -> Hope:
    torch.manual_seed(1)
    model = Hope(HopeConfig(**{**TINY, **options})).double()
    if shaken:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def tokens_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(seed))


def gap(one: ContinuumState, other: ContinuumState) -> float:
    pairs = zip(one.levels, other.levels, strict=True)
    return max(float((a - b).abs().max()) for pair in pairs for a, b in zip(*pair, strict=True))


# --- the same as other ways of computing it -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [*MODELS.values(), {"blocks": 2, "heads": 2, "variant": "independent"}])
def test_a_lesson_is_adapt_without_its_mixers(options: dict[str, Any]) -> None:
    """The same logits and levels as the driver that reads token by token."""
    model, tokens = model_of(options), tokens_of(3, 13)
    found, levels = lessons.learn(model, tokens)
    logits, state = hope_adaptation.adapt(model, tokens)
    torch.testing.assert_close(found, logits[:, :-1], rtol=0, atol=1e-12)
    assert gap(levels, hope_adaptation.stacked(state.now)) < 1e-12
    assert levels.position == 12


@pytest.mark.parametrize(
    ("name", "emptied"),
    [
        ("attention, one block", False),
        ("HOPE, nested", True),
        *(
            pytest.param(name, emptied, marks=pytest.mark.slow)
            for name, emptied in (
                ("attention, one block", True),
                ("HOPE, nested", False),
                ("attention, dgd, one level", False),
                ("attention, dgd, one level", True),
            )
        ),
    ],
)
def test_equals_the_reference(name: str, emptied: bool) -> None:
    model = model_of(MODELS[name])
    parameters, config = model.to_reference(), model.config
    first, second, question = tokens_of(7), tokens_of(4, seed=1), tokens_of(2, seed=2)
    want, kept = reference.learn(first.numpy(), parameters, config, emptied=emptied)
    want_next, kept = reference.learn(second.numpy(), parameters, config, kept, emptied=emptied)
    found, levels = lessons.learn(model, first, emptied=emptied)
    found_next, levels = lessons.learn(model, second, levels, emptied=emptied)
    for got, wanted in ((found, want), (found_next, want_next)):
        np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=1e-9)
    answer = reference.ask(question.numpy(), parameters, config, kept)
    np.testing.assert_allclose(
        lessons.ask(model, question, levels).detach().numpy(), answer, rtol=0, atol=1e-9
    )


def test_emptied_is_a_lesson_for_every_segment() -> None:
    """The mixers begin anew at each: the same as lessons of one segment, each handed the next one's first token."""
    model, tokens = model_of({"blocks": 2}), tokens_of(2, 10)
    found, levels = lessons.learn(model, tokens, emptied=True)
    parts, own = [], None
    for at in range(0, 9, 3):
        logits, own = lessons.learn(model, tokens[:, at : at + 4], own)
        parts.append(logits)
    assert own is not None
    torch.testing.assert_close(found, torch.cat(parts, 1), rtol=0, atol=1e-13)
    assert gap(levels, own) < 1e-13
    carried, _ = lessons.learn(model, tokens)
    assert float((carried - found).abs().max()) > 1e-3


@pytest.mark.parametrize("length", [1, 3, 4, 8, 10])
def test_read_takes_any_length(length: int) -> None:
    """Whole segments as `learn`, the rest with levels as they are then."""
    model, tokens = model_of({"blocks": 1}), tokens_of(2, length)
    found, levels, at = [], lessons.begin(model, (2,)), 0
    while length - at > 3:
        logits, levels = lessons.learn(model, tokens[:, at : at + 4], levels)
        found.append(logits)
        at += 3
    found.append(lessons.ask(model, tokens[:, at:], levels))
    torch.testing.assert_close(lessons.read(model, tokens), torch.cat(found, 1), rtol=0, atol=1e-13)


def test_questions_do_not_hear_each_other() -> None:
    model, tokens = model_of({"blocks": 2}), tokens_of(2, 7)
    _, levels = lessons.learn(model, tokens)
    questions = tokens_of(2, 3, 2, seed=4)
    found = lessons.ask(model, questions, levels)
    assert found.shape == (2, 3, 2, 5)
    for number in range(3):
        alone = lessons.ask(model, questions[:, number], levels)
        torch.testing.assert_close(found[:, number], alone, rtol=0, atol=1e-13)
    other = questions.clone()
    other[:, 1] = (other[:, 1] + 1) % 5
    changed = lessons.ask(model, other, levels)
    assert torch.equal(changed[:, [0, 2]], found[:, [0, 2]])
    assert not torch.equal(changed[:, 1], found[:, 1])


# --- causality of an episode --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixer", ["self_modifying_titans", "softmax_attention"])
def test_nothing_hears_what_comes_later(mixer: str) -> None:
    """A token reaches no logit at or before its place but the next segment's on; the last one, a target, reaches levels alone."""
    model, tokens = model_of({"mixer": mixer, "blocks": 1}), tokens_of(1, 10)
    base, levels = lessons.learn(model, tokens)
    for place in range(10):
        other = tokens.clone()
        other[0, place] = (other[0, place] + 1) % 5
        found, after = lessons.learn(model, other)
        assert torch.equal(found[:, :place], base[:, :place]), place
        heard = float((found[:, place:] - base[:, place:]).abs().amax()) if place < 9 else 1.0
        assert heard > 0, place
        assert gap(after, levels) > 0, place


def test_a_lesson_acts_on_the_next_segment_and_not_before() -> None:
    """Logits of a segment are those of the levels as they stood at its start, and change with the next one."""
    model, tokens = model_of({"blocks": 1, "mixer": "softmax_attention"}), tokens_of(1, 7)
    still = model(tokens[:, :-1])[0].detach()
    found, _ = lessons.learn(model, tokens)
    torch.testing.assert_close(found[:, :3], still[:, :3], rtol=0, atol=1e-13)
    assert float((found[:, 3:] - still[:, 3:]).abs().min(1).values.max()) > 1e-6


def test_a_rate_of_zero_learns_nothing() -> None:
    model, tokens = model_of({"blocks": 2, "cms_rate": 0.0}), tokens_of(2, 13)
    found, levels = lessons.learn(model, tokens)
    torch.testing.assert_close(found, model(tokens[:, :-1])[0], rtol=0, atol=1e-12)
    begin = lessons.begin(model, (2,))
    assert all(torch.equal(a.w1, b.w1) for a, b in zip(levels.levels, begin.levels, strict=True))


# --- the meta-gradient --------------------------------------------------------------------------------------------------

FIRST, SECOND, QUESTION, ANSWER = tokens_of(7), tokens_of(4, seed=1), tokens_of(2, seed=2), 3


def outer(model: Hope, differentiable: bool = True) -> Tensor:
    """-log p of an answer after two lessons and a question, plus the loss while reading: it needs every update."""
    logits, levels = lessons.learn(model, FIRST, differentiable=differentiable)
    _, levels = lessons.learn(model, SECOND, levels, differentiable=differentiable)
    read = torch.nn.functional.cross_entropy(logits, FIRST[1:])
    return read - lessons.ask(model, QUESTION, levels)[-1].log_softmax(-1)[ANSWER]


def outer_of_the_reference(parameters: dict[str, Any], config: HopeConfig) -> float:
    logits, levels = reference.learn(FIRST.numpy(), parameters, config)
    _, levels = reference.learn(SECOND.numpy(), parameters, config, levels)
    answer = reference.ask(QUESTION.numpy(), parameters, config, levels)[-1]

    def lost(row: Any, target: int) -> float:
        return float(np.log(np.exp(row - row.max()).sum()) + row.max() - row[target])

    read = np.mean([lost(row, int(target)) for row, target in zip(logits, FIRST[1:], strict=True)])
    return float(read) + lost(answer, ANSWER)


@pytest.mark.parametrize(
    ("name", "shaken"),
    [
        ("attention, one block", True),
        ("attention, one block", False),
        *(
            pytest.param(name, shaken, marks=pytest.mark.slow)
            for name in ("attention, dgd, one level", "HOPE, nested")
            for shaken in (True, False)
        ),
    ],
)
def test_the_meta_gradient_is_the_slope(name: str, shaken: bool) -> None:
    """Of every parameter, along a random direction each, by four-point central differences of the same floor in float64."""
    model = model_of(MODELS[name], shaken)
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(outer(model), list(named.values()))
    generator = torch.Generator().manual_seed(3)
    for (own, parameter), gradient in zip(named.items(), gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        found = float((gradient * direction).sum())
        wanted = _slope(lambda by: _moved(model, parameter, by * direction))  # noqa: B023
        assert abs(found - wanted) <= 1e-6 * max(abs(wanted), 1e-2), (own, found, wanted)


@pytest.mark.parametrize("shaken", [True, False], ids=["shaken", "untouched start"])
@pytest.mark.parametrize("name", list(MODELS)[1:])
def test_the_meta_gradient_is_the_slope_in_every_quarter(name: str, shaken: bool) -> None:
    """The same of a quarter of all parameters at a time, along one random direction each."""
    model = model_of(MODELS[name], shaken)
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(outer(model), parameters)
    generator = torch.Generator().manual_seed(3)
    for part in range(4):
        chosen, own = parameters[part::4], gradients[part::4]
        along = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in chosen]
        norm = sum(float(one.square().sum()) for one in along) ** 0.5
        found = sum(float((g * one).sum()) for g, one in zip(own, along, strict=True)) / norm

        def at(by: float, chosen: Any = chosen, along: Any = along, norm: float = norm) -> float:
            with torch.no_grad():
                before = [p.clone() for p in chosen]
                for p, one in zip(chosen, along, strict=True):
                    p += by * one / norm
            value = float(outer(model, False).detach())
            with torch.no_grad():
                for p, old in zip(chosen, before, strict=True):
                    p.copy_(old)
            return value

        wanted = _slope(at)
        assert abs(found - wanted) <= 1e-6 * max(abs(wanted), 1e-2), (part, found, wanted)


def _moved(model: Hope, parameter: Tensor, by: Tensor) -> float:
    with torch.no_grad():
        before = parameter.clone()
        parameter += by
    value = float(outer(model, False).detach())
    with torch.no_grad():
        parameter.copy_(before)
    return value


def _slope(function: Any, h: float = 3e-4) -> float:
    near, far = function(h) - function(-h), function(2 * h) - function(-2 * h)
    return float((8 * near - far) / (12 * h))


@pytest.mark.parametrize(
    "name", ["attention, one block", pytest.param("HOPE, nested", marks=pytest.mark.slow)]
)
def test_the_meta_gradient_is_that_of_the_reference(name: str) -> None:
    """Along one direction through all parameters at once: differences of the NumPy floor, whose own updates are differences."""
    model = model_of(MODELS[name])
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(outer(model), list(named.values()))
    generator = torch.Generator().manual_seed(5)
    along = {n: torch.randn(p.shape, generator=generator, dtype=torch.float64) for n, p in named.items()}
    norm = sum(float(one.square().sum()) for one in along.values()) ** 0.5
    along = {name: one / norm for name, one in along.items()}
    found = sum(float((g * along[n]).sum()) for n, g in zip(named, gradients, strict=True))
    at, towards = model.to_reference(), _as_reference(model, along)
    wanted = _slope(
        lambda by: outer_of_the_reference({n: at[n] + by * towards[n] for n in at}, model.config), 3e-3
    )
    assert abs(found - wanted) <= 1e-6 * abs(wanted), (found, wanted)


def _as_reference(model: Hope, values: dict[str, Tensor]) -> dict[str, Any]:
    other = Hope(model.config).double()
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.copy_(values[name])
    return other.to_reference()


def test_truncated_the_movement_counts_as_a_constant() -> None:
    """Values are the same; the gradient is that of a model whose levels' movement in earlier segments is held fixed."""
    options = {"blocks": 1, "mixer": "softmax_attention", "levels_chunk_sizes": (3,)}
    model, tokens = model_of(options), tokens_of(1, 10)

    def loss(segments: int) -> Tensor:
        logits, _ = lessons.learn(model, tokens, emptied=True, segments=segments, differentiable=True)
        return torch.nn.functional.cross_entropy(logits[0], tokens[0, 1:])

    assert float(loss(0).detach()) == pytest.approx(float(loss(1).detach()), abs=1e-13)
    level = model.blocks[0].continuum.levels[0]
    found, whole = (torch.autograd.grad(loss(n), [level.w1])[0] for n in (1, 0))
    # by hand: θ of segment s is θ_0 + Δ_s, Δ_s a number; the gradients of the three segments add up
    wanted, moved = torch.zeros_like(level.w1), lessons.begin(model, (1,))
    for at in range(0, 9, 3):
        own = moved.levels[0].w1[0, 0].detach() - level.w1.detach()
        weights = ((level.w1 + own, moved.levels[0].w2[0, 0].detach()),)
        logits = _with_weights(model, tokens[0, at : at + 3], weights)
        part = torch.nn.functional.cross_entropy(logits, tokens[0, at + 1 : at + 4]) / 3
        wanted += torch.autograd.grad(part, [level.w1])[0]
        _, moved = lessons.learn(model, tokens[:, at : at + 4], moved)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    assert float((found - whole).abs().max()) > 1e-4


def _with_weights(model: Hope, tokens: Tensor, weights: Any) -> Tensor:
    from hope_ref.parallel.continuum_memory import read

    x, _ = model.blocks[0].mixer(model.embedding[tokens])  # type: ignore[operator]
    levels = model.blocks[0].continuum.parameters_of_levels()  # type: ignore[operator, union-attr]
    return model.head(read(x, weights, levels, "sequential", "fast_to_slow")[0])


def test_learned_rates_are_those_that_act() -> None:
    """exp of the parameter, started at the configuration's; `adapt` uses it too."""
    options = {"blocks": 1, "mixer": "softmax_attention"}
    model = model_of({**options, "learned_rates": True}, shaken=False)
    plain = model_of({**options, "cms_rate": (0.03, 0.2)}, shaken=False)
    assert model.log_rates.exp().tolist() == pytest.approx([0.2, 0.2])
    with torch.no_grad():
        model.log_rates.copy_(torch.tensor([0.03, 0.2], dtype=torch.float64).log())
        for (_, own), other in zip(
            ((n, p) for n, p in model.named_parameters() if n != "log_rates"), plain.parameters(), strict=True
        ):
            other.copy_(own)
    tokens = tokens_of(2, 13)
    torch.testing.assert_close(
        lessons.learn(model, tokens)[0], lessons.learn(plain, tokens)[0], rtol=0, atol=1e-12
    )
    torch.testing.assert_close(model.adapt(tokens)[0], plain.adapt(tokens)[0], rtol=0, atol=1e-12)


# --- bad input ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: lessons.learn(m, tokens_of(3)),
            "tokens must have a multiple of 3 tokens.*, and 1 more, got 3",
        ),
        (
            lambda m: lessons.learn(m, tokens_of(6)),
            "tokens must have a multiple of 3 tokens.*, and 1 more, got 6",
        ),
        (lambda m: lessons.learn(m, tokens_of(4), segments=-1), "segments must be an integer >= 0, got -1"),
        (lambda m: lessons.learn(m, tokens_of(4), 3), "levels must be a ContinuumState, got int"),
        (
            lambda m: lessons.learn(m, tokens_of(2, 4), lessons.begin(m)),
            r"levels.levels\[0\].w1 must have shape \(1, 2, 4, 16\), got \(1, 4, 16\)",
        ),
        (
            lambda m: lessons.ask(m, tokens_of(2), lessons.begin(m)._replace(position=4)),
            "levels.position must be a multiple of 3, got 4",
        ),
        (lambda m: lessons.ask(m, tokens_of(2), None), "levels must be a ContinuumState, got NoneType"),
        (lambda m: lessons.ask(m, tokens_of(2) + 5, lessons.begin(m)), r"tokens must be in \[0, 5\), got"),
        (lambda m: lessons.begin("model"), "model must be a Hope with signal='task', got str"),
        (
            lambda m: lessons.begin(Hope(m.config.replace(signal="none"))),
            "model must be a Hope with signal='task', got 'none'",
        ),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(model_of({"blocks": 1}))
