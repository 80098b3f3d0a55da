"""``continuum="meta"``: training through the updates of the levels, alone; two processes are in `test_processes`."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hope_ref.config import HopeConfig
from hope_ref.parallel import lessons
from hope_ref.parallel.hope import Hope
from hope_ref.training import Run, TrainingSettings, data, evaluation, train
from hope_ref.training.loop import Trainer
from hope_ref.training.processes import joined

pytestmark = pytest.mark.usefixtures("no_curve")

META: dict[str, Any] = {"continuum": "meta", "tokens": 48}


def run_of(toys: SimpleNamespace, text: Path, **training: Any) -> Run:
    options = {**META, **training}
    rates = options.pop("learned_rates", False)
    run: Run = toys.run(text, mixer="softmax_attention", **options)
    return run.changed(learned_rates=rates, cms_rate=0.3)


@pytest.mark.parametrize("mixers", ["carried", "emptied"])
def test_a_step_goes_through_the_updates(
    mixers: str, toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    """The loss and every gradient are those of a window that is read by hand, segment by segment."""
    run, parts = data.prepared(run_of(toys, toy_text, meta_mixers=mixers, clip=0, meta_plain=2))
    with joined(run.training) as world:
        trainer = Trainer(run, parts, world)
    model = run.model()
    windows = data.batch(run, parts, 0)
    logits, _ = lessons.learn(model, windows, emptied=mixers == "emptied", differentiable=True)
    wanted = cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    wanted.backward()
    ordinary = cross_entropy(model(windows[:, :-1])[0].flatten(0, 1), windows[:, 1:].flatten())
    found = trainer.advance([])
    assert found.loss == pytest.approx(float(wanted.detach()), abs=1e-6)
    assert abs(found.loss - float(ordinary.detach())) > 1e-4
    for (name, one), other in zip(trainer.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)
    # the second step of two is an ordinary one
    windows = data.batch(run, parts, 1)
    plain = cross_entropy(trainer.model(windows[:, :-1])[0].flatten(0, 1), windows[:, 1:].flatten())
    assert trainer.advance([]).loss == pytest.approx(float(plain.detach()), abs=1e-6)


def test_truncation_changes_the_gradient_and_not_the_loss(toys: SimpleNamespace, toy_text: Path) -> None:
    found = {}
    for segments in (0, 1, 2):
        run, parts = data.prepared(run_of(toys, toy_text, meta_segments=segments, clip=0))
        with joined(run.training) as world:
            found[segments] = Trainer(run, parts, world).advance([])
    assert found[1].loss == pytest.approx(found[0].loss, abs=1e-6)
    norms = [one.norm for one in found.values()]
    assert (
        min(abs(a - b) for a, b in ((norms[0], norms[1]), (norms[0], norms[2]), (norms[1], norms[2]))) > 1e-5
    )


def test_a_run_stopped_anywhere_goes_on_bit_for_bit(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    """With rates that are learned, and ordinary steps in between."""
    run = run_of(toys, toy_text, learned_rates=True, meta_plain=3, meta_mixers="emptied")
    whole = train(run, tmp_path / "whole")
    for stop in (2, 7):
        folder = tmp_path / f"stopped-{stop}"
        train(run, folder, until=stop)
        again = train(run, folder, resume=True)
        assert toys.same_bits(toys.weights(again), toys.weights(whole)), stop
        assert toys.told(folder) == toys.told(tmp_path / "whole")
    rates = whole.model.log_rates.detach().exp()
    assert abs(float(rates[0]) - 0.3) > 1e-3
    assert float(rates[1]) == pytest.approx(0.3)  # its chunk is longer than a window: there it never moves
    asked = evaluation.trained(whole.checkpoint, "cpu")
    assert torch.equal(asked.model.log_rates, whole.model.log_rates)


@pytest.mark.slow
@pytest.mark.parametrize("mixer", ["self_modifying_titans", "titans", "gated_delta_rule"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_mixer_and_precision_trains(
    mixer: Any, precision: str, toys: SimpleNamespace, toy_text: Path, tmp_path: Path
) -> None:
    run = toys.run(toy_text, mixer=mixer, **META, precision=precision, steps=30)
    outcome = train(run, tmp_path / "run")
    assert outcome.status == "done"
    losses = [line["loss"] for line in toys.told(tmp_path / "run")]
    assert math.isfinite(outcome.loss)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


# --- evaluation -----------------------------------------------------------------------------------------------------------


def test_what_learned_to_learn_is_read_while_it_learns(toys: SimpleNamespace, toy_text: Path) -> None:
    """Window by window, levels from their start each time; ``still`` is the ordinary reading."""
    run, parts = data.prepared(run_of(toys, toy_text))
    model, text = run.model(), parts.train[:150]
    found = {}
    for mixers in ("carried", "emptied"):
        settings = run.changed(meta_mixers=mixers).training
        found[mixers] = evaluation.bits_per_byte(model, text, settings, torch.device("cpu"))
        total = 0.0
        for at in range(0, 149, 48):
            window = torch.from_numpy(text[at : at + 49].astype(np.int64))
            with torch.no_grad():
                carried = model.adapt(window[:-1])[0]
                logits = lessons.read(model, window[:-1]) if mixers == "emptied" else carried
            total += float(cross_entropy(logits, window[1:], reduction="sum"))
        assert found[mixers] == pytest.approx(total / 149 / math.log(2), abs=1e-5)
    still = evaluation.bits_per_byte(model, text, run.training, torch.device("cpu"), still=True)
    plain = run.changed(continuum="every_step").training
    assert still == evaluation.bits_per_byte(model, text, plain, torch.device("cpu"))
    assert len({round(one, 4) for one in (still, *found.values())}) == 3


def test_evaluate_says_both(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hope_ref.__main__ import main

    train(run_of(toys, toy_text, steps=2), tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run"), "--carry"]) == 0
    out = capsys.readouterr().out
    worth = evaluation.evaluate(evaluation.trained(tmp_path / "run", "cpu"))
    assert f"{worth.model:.3f}  this model after 2 steps, in windows of 48 bytes, its levels learning" in out
    assert f"{worth.still:.3f}  the same, its levels held still" in out
    assert worth.model != worth.still


# --- bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recompute": True}, "recompute must be False with continuum='meta', got True"),
        ({"parallelism": "fsdp"}, "parallelism must be 'ddp' with continuum='meta', got 'fsdp'"),
        ({"tokens": 40}, "tokens must be at least two chunks of the fastest level.* got 40"),
        ({"tokens": 16}, "tokens must be at least two chunks of the fastest level.* got 16"),
        ({"signal": "none"}, "signal must be 'task' with continuum='meta', got 'none'"),
        ({"learned_rates": True, "cms_rate": (0.1, 0.0)}, "cms_rate must be > 0 to be learned, got 0"),
        ({"learned_rates": True, "signal": "none"}, "signal must be 'task' for learned_rates, got 'none'"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], message: str) -> None:
    run = Run(HopeConfig(levels_chunk_sizes=(16, 32)), TrainingSettings(**META))
    with pytest.raises(ValueError, match=message):
        run.changed(**changes)


def test_rates_are_parameters_only_if_they_are_learned() -> None:
    plain, learned = (Hope(HopeConfig(width=8, blocks=1, learned_rates=on)) for on in (False, True))
    assert set(dict(learned.named_parameters())) - set(dict(plain.named_parameters())) == {"log_rates"}
    want = [0.1 / size for size in learned.config.levels_chunk_sizes]
    torch.testing.assert_close(learned.log_rates.exp(), torch.tensor(want))
    assert learned.cms_options.rates[0].requires_grad
    assert plain.cms_options == plain.config.cms_options
