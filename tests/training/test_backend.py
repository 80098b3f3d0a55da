"""What computes the memories of a training: a setting that changes no default, and is refused where it cannot be."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kernel_process import interpreted

from hope_ref.parallel import kernels
from hope_ref.parallel.hope import Hope
from hope_ref.training import PRESETS, TrainingSettings, train
from hope_ref.training.settings import CHOICES

pytestmark = pytest.mark.usefixtures("no_curve")


def test_the_words_are_those_of_the_models_and_torch_is_the_default() -> None:
    assert CHOICES["backend"] == kernels.BACKENDS
    assert TrainingSettings().backend == "torch"
    assert {run.training.backend for run in PRESETS.values()} == {"torch"}
    old = TrainingSettings().to_dict()
    del old["backend"]  # of a checkpoint that an earlier version wrote
    assert TrainingSettings.from_dict(old) == TrainingSettings()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"continuum": "meta"}, "backend must be 'torch' with continuum='meta', got 'triton'"),
        ({"mixer": "softmax_attention"}, r"mixer must be one of .*'gated_delta_rule'.* with backend='triton', got 'softmax"),
        ({"mixer": "titans", "backend": "compiled"}, "mixer must be one of .* with backend='compiled', got 'titans'"),
        ({"precision": "float64"}, "dtype must be float32 or bfloat16 with backend='triton', got torch.float64"),
        ({"inner_momentum": 0.5}, "inner_momentum must be 0 with backend='triton', got 0.5"),
        ({"width": 260, "mixer": "gated_delta_rule"}, "d_in must be at most 128 with backend='triton', got 130"),
    ],
)  # fmt: skip
def test_what_a_backend_lacks_is_named_before_anything_starts(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PRESETS["tiny"].changed(**{"backend": "triton", **changes})


def test_where_it_cannot_run_nothing_is_left_behind(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="backend must be 'torch' or 'auto' here, got 'triton': "):
        train(toys.run(toy_text, backend="triton"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_every_reading_of_a_training_takes_it_and_a_resumed_one_may_take_another(
    toys: SimpleNamespace, toy_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    own = Hope.forward

    def forward(self: Hope, *given: Any, **how: Any) -> Any:
        taken.append(how.get("backend", "torch"))
        return own(self, *given, **how)

    monkeypatch.setattr(Hope, "forward", forward)
    first = toys.run(toy_text, steps=2, evaluate_every=1)
    train(first, tmp_path / "one", until=1)
    assert set(taken) == {"torch"}
    taken.clear()
    resumed = train(first.changed(backend="auto"), tmp_path / "one", resume=True)
    assert set(taken) == {"auto"}
    assert len(taken) > 1, "the step, and the validation text"
    whole = train(first, tmp_path / "whole")  # on a CPU "auto" is "torch"
    assert toys.same_bits(toys.weights(resumed), toys.weights(whole))


def test_the_command_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    from hope_ref.__main__ import main

    assert main(["train", "--backend", "auto", "--describe"]) == 0
    assert '"backend": "auto"' in capsys.readouterr().out


STEPS = """
import json, sys
from pathlib import Path
sys.path.insert(0, "tests/training")
import conftest
from hope_ref.training import train
from hope_ref.training import files
files.draw_curve = lambda folder: None
losses = {}
for backend in ("torch", "triton"):
    run = conftest.toy_run(TEXT, steps=3, evaluate_every=0, backend=backend)
    seen = []
    train(run, Path(FOLDER) / backend, report=lambda record: seen.append([record["loss"], record["gradient_norm"]]))
    losses[backend] = seen
print(json.dumps(losses))
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is there on Linux alone")
def test_the_kernels_give_the_same_losses(toy_text: Path, tmp_path: Path) -> None:
    done = interpreted(f"TEXT, FOLDER = {str(toy_text)!r}, {str(tmp_path)!r}\n{STEPS}")
    assert done.returncode == 0, done.stderr[-3000:]
    losses = json.loads(done.stdout.splitlines()[-1])
    assert len(losses["triton"]) == 3
    torch.testing.assert_close(
        torch.tensor(losses["triton"]), torch.tensor(losses["torch"]), rtol=1e-4, atol=1e-5
    )
    assert losses["triton"] != losses["torch"], "other roundings"
