"""Two processes of half a batch are one of the whole, in copies and in shards; devices and precision."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hope_ref.training import Outcome, files, processes, train
from hope_ref.training.processes import World, chosen_device, joined, sharded, whole
from hope_ref.training.settings import TrainingSettings

KINDS: dict[str, dict[str, Any]] = {
    "ddp": {"optimizer": "m3", "continuum": "scheduled", "slow_every": 3},
    "unused": {"steps": 7, "writing": ("k", "v")},  # an ablation: some parameters get no gradient
    "meta": {
        "continuum": "meta",
        "tokens": 48,
        "meta_mixers": "emptied",
        "meta_segments": 2,
        "meta_plain": 4,
        "learned_rates": True,
    },
    "fsdp": {"parallelism": "fsdp", "continuum": "scheduled", "precision": "float64"},
}
# By address, not `--standalone`: that one looks for this machine's name, which not every machine knows.
LAUNCH = (
    *("torch.distributed.run", "--nproc-per-node", "2", "--local-addr", "127.0.0.1"),
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
)
# A wait that ends nowhere says where it stood, and ends. The second process comes late to what the first has written.
# Stops after 5 steps, goes on, and asks for what is refused: all in one launch, because a launch takes seconds.
WORKER = """
import faulthandler, json, os, sys, time
from pathlib import Path

faulthandler.dump_traceback_later(200, exit=True)
from hope_ref.training import Run, loop, train

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
made = loop.Trainer.__init__


def made_late(*arguments):
    made(*arguments)
    time.sleep(0.5 * rank)


loop.Trainer.__init__ = made_late
found = {}
for kind in ("unused", "ddp", "meta", "fsdp"):
    run = Run.from_json((folder / f"{kind}.json").read_text())
    train(run, folder / kind, until=5)
    train(run, folder / kind, resume=True)
for name, wrong in (("batch", run.changed(batch=3)), ("optimizer", run.changed(optimizer="m3")),
                    ("variant", run.changed(variant="independent"))):
    try:
        train(wrong, folder / name, until=1)
    except ValueError as error:
        found[name] = str(error)
if rank == 0:
    (folder / "refused.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def together(
    toys: SimpleNamespace, toy_text: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Outcome]]:
    """A folder with what two processes made, and the same runs in one process."""
    folder = tmp_path_factory.mktemp("together")
    alone = {}
    for kind, settings in KINDS.items():
        run = toys.run(toy_text).changed(**settings)
        (folder / f"{kind}.json").write_text(run.to_json())
        alone[kind] = train(run, folder / f"{kind}-alone")
    (folder / "worker.py").write_text(WORKER)
    found = subprocess.run(
        [sys.executable, "-m", *LAUNCH, str(folder / "worker.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=toys.root,
        # Names are looked up for every connection: not for long, where no one answers.
        env=toys.environment() | {"GLOO_SOCKET_IFNAME": "lo", "RES_OPTIONS": "timeout:1 attempts:1"},
    )
    assert found.returncode == 0, found.stderr[-8000:]
    return folder, alone


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_are_one(
    kind: str, together: tuple[Path, dict[str, Outcome]], toys: SimpleNamespace
) -> None:
    folder, alone = together
    exact = KINDS[kind].get("precision") == "float64"
    ours, theirs = toys.told(folder / kind), toys.told(folder / f"{kind}-alone")
    assert (
        [line["step"] for line in ours]
        == [line["step"] for line in theirs]
        == list(range(1, KINDS[kind].get("steps", 12) + 1))
    )
    for one, other in zip(ours, theirs, strict=True):
        for name in other:
            assert one[name] == pytest.approx(other[name], rel=1e-12 if exact else 2e-4), (name, one["step"])
    found = files.load_checkpoint(folder / kind)["model"]
    for name, weight in toys.weights(alone[kind]).items():
        bounds = {"rtol": 1e-10, "atol": 1e-12} if exact else {"rtol": 1e-3, "atol": 1e-3}
        torch.testing.assert_close(found[name], weight, **bounds)


@pytest.mark.slow
def test_what_two_processes_leave_one_can_go_on_with(
    together: tuple[Path, dict[str, Outcome]], toys: SimpleNamespace
) -> None:
    folder, _ = together
    names = sorted(one.name for one in (folder / "fsdp").iterdir())
    assert names == sorted(one.name for one in (folder / "fsdp-alone").iterdir())
    ours, theirs = (files.load_checkpoint(folder / name) for name in ("fsdp", "fsdp-alone"))
    (folder / "fsdp" / "checkpoint-00000012.pt").unlink()
    again = train(theirs["run"], folder / "fsdp", resume=True)  # from step 10, alone
    assert again.step == 12
    for name, weight in toys.weights(again).items():
        torch.testing.assert_close(weight, ours["model"][name], rtol=1e-10, atol=1e-12)
    held = ours["optimizer"]["gradients"]
    assert [len(level) for level in held] == [3, 3]
    assert ours["optimizer"]["tokens"] == theirs["optimizer"]["tokens"] == [0, 0]


@pytest.mark.slow
def test_what_does_not_go_together_is_refused(together: tuple[Path, dict[str, Outcome]]) -> None:
    found = json.loads((together[0] / "refused.json").read_text())
    assert found == {
        "batch": "batch must be a multiple of the number of processes, 2, got 3",
        "optimizer": "optimizer must be 'adamw' with parallelism='fsdp': M3 needs whole matrices, got 'm3'",
        "variant": "variant must not be 'independent' with parallelism='fsdp': a number has no shards",
    }


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert chosen_device("auto").type == "cpu"
    assert chosen_device("mps").type == "mps"
    with pytest.raises(ValueError, match="device must be one that this machine has"):
        chosen_device("cuda")
    settings = TrainingSettings(device="mps", precision="float64")
    with pytest.raises(ValueError, match="precision must be float32 or bfloat16 on mps"), joined(settings):
        pass
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device("auto").type == "cuda"


def test_alone_nothing_is_gathered_or_cut() -> None:
    world = World(0, 1, torch.device("cpu"))
    values = torch.ones(2)
    assert world.mean(values) is values
    state = {"a": [values, None], "b": 3}
    assert whole(state) == state
    assert sharded(state, values) is state


def test_bfloat16_halves_the_products_and_nothing_else() -> None:
    a = torch.ones(2, 2)
    with processes.autocast(TrainingSettings(precision="bfloat16"), torch.device("cpu")):
        assert (a @ a).dtype == torch.bfloat16
    with processes.autocast(TrainingSettings(), torch.device("cpu")):
        assert (a @ a).dtype == torch.float32
    logits = torch.randn(3, 5, dtype=torch.bfloat16)
    targets = torch.tensor([0, 1, 4])
    assert processes.cross_entropy(logits, targets).dtype == torch.float32
    assert processes.cross_entropy(logits.double(), targets).dtype == torch.float64
