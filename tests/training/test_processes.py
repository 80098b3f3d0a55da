"""Two processes of half a batch are one of the whole, in copies and in shards; devices and precision."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
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
    "fsdp": {"parallelism": "fsdp", "continuum": "scheduled", "precision": "float64"},
}
# A wait that ends nowhere says where it stood, and ends the process: the limits below stop hangs, nothing else.
BEFORE = """
import faulthandler, json, os, sys
from pathlib import Path
import torch.distributed as dist

faulthandler.dump_traceback_later(200, exit=True)
from hope_ref.training import Run, train
from hope_ref.training.processes import joined

folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
"""
# Meets by a file and talks over the loopback device: no name of a machine is looked up, which some machines do not know.
# Then stops after 5 steps, goes on, and asks for what is refused: all in one start, because a start takes seconds.
WORKER = (
    BEFORE
    + """
dist.init_process_group("gloo", init_method=(folder / "meeting").as_uri(), rank=rank, world_size=2)
dist.barrier()
(folder / f"met-{rank}").touch()
found = {}
for kind in ("unused", "ddp", "fsdp"):
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
dist.destroy_process_group()
"""
)
LAUNCHED = (
    BEFORE
    + """
run = Run.from_json((folder / "unused.json").read_text())
with joined(run.training) as world:
    world.wait()
(folder / f"met-{rank}").touch()
train(run, folder / "launched")
"""
)


def run_together(
    toys: SimpleNamespace, folder: Path, worker: str, *settings: dict[str, str], launch: tuple[str, ...] = ()
) -> None:
    """The worker in a process for each of the settings. Skips if PyTorch's processes did not meet in time; else all must be well."""
    (folder / "worker.py").write_text(worker)
    command = [sys.executable, *launch, str(folder / "worker.py"), str(folder)]
    running, files_of_them = [], [folder / f"said-{number}.txt" for number in range(len(settings))]
    for mine, said in zip(settings, files_of_them, strict=True):
        environment = toys.environment() | {"GLOO_SOCKET_IFNAME": "lo"} | mine
        with said.open("w") as file:
            running.append(
                subprocess.Popen(
                    command, env=environment, cwd=toys.root, stdout=file, stderr=subprocess.STDOUT
                )
            )
    until = time.monotonic() + 300
    try:
        while True:
            codes = [one.poll() for one in running]
            if None not in codes or any(codes) or time.monotonic() > until:
                break  # at the first failure, too: the other process would wait for this one
            time.sleep(0.1)
    finally:
        for one in running:
            one.kill()
            one.wait()
    said_by_all = "\n".join(one.read_text()[-4000:] for one in files_of_them)
    met = all((folder / f"met-{rank}").exists() for rank in (0, 1))
    waited = "Timeout (0:" in said_by_all or (None in codes and not any(codes))
    if waited and not met:
        pytest.skip(f"two processes of PyTorch do not meet on this machine within 200 s:\n{said_by_all}")
    assert codes == [0] * len(settings), said_by_all


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
    run_together(toys, folder, WORKER, *({"RANK": rank, "WORLD_SIZE": "2"} for rank in "01"))
    return folder, alone


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


def test_torchrun_starts_them(
    together: tuple[Path, dict[str, Outcome]], toys: SimpleNamespace, tmp_path: Path
) -> None:
    """What a user types, with an address of its own, so that two such launches on one machine do not meet."""
    (tmp_path / "unused.json").write_text((together[0] / "unused.json").read_text())
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = str(one.getsockname()[1])
    here = (*("--nproc-per-node", "2"), *("--master-addr", "127.0.0.1"), *("--master-port", port))
    patience = {"RES_OPTIONS": "timeout:1 attempts:1"}  # with names that no one answers for
    run_together(toys, tmp_path, LAUNCHED, patience, launch=("-m", "torch.distributed.run", *here))
    ours, theirs = toys.told(tmp_path / "launched"), toys.told(together[0] / "unused")
    assert [line["step"] for line in ours] == list(range(1, KINDS["unused"]["steps"] + 1))
    assert ours == theirs  # in one piece, and stopped between


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
