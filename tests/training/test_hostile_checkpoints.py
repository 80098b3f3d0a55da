"""Whatever a checkpoint holds is looked at: each damage ends in one ValueError of one line that names the file."""

from __future__ import annotations

import copy
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from damaged_files import damaged
from selection import some_slow

from hope_ref.training import Run, files, train, trained

pytestmark = pytest.mark.usefixtures("no_curve")

Content = dict[str, Any]


@pytest.fixture(scope="module")
def honest(toys: SimpleNamespace, toy_text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after two of its steps."""
    folder = tmp_path_factory.mktemp("honest") / "run"
    train(toys.run(toy_text, steps=4, optimizer="m3", continuum="scheduled"), folder, until=2)
    return folder


@pytest.fixture(scope="module")
def content(honest: Path) -> Content:
    return dict(torch.load(files.checkpoints(honest)[-1], weights_only=True))


def put(*path: Any) -> Callable[[Content], None]:
    """Put the last of the path in the place that the others name."""
    *places, last, value = path

    def change(content: Content) -> None:
        part: Any = content
        for place in places:
            part = part[place]
        part[last] = value

    return change


def drop(*path: Any) -> Callable[[Content], None]:
    *places, last = path

    def change(content: Content) -> None:
        part: Any = content
        for place in places:
            part = part[place]
        del part[last]

    return change


ADAMW, M3 = ("optimizer", "optimizer", "optimizers", 1), ("optimizer", "optimizer", "optimizers", 0)
# What the content has, and what the message says; whether the model alone is enough to see it.
CHANGES: dict[str, tuple[Callable[[Content], None], str, bool]] = {
    **{
        f"no {name}": (drop(name), f"{name} must be of type", True)
        for name in ("step", "model", "optimizer", "random")
    },
    **{
        f"{name} is a text": (put(name, "x"), f"{name} must be of type", True)
        for name in ("step", "model", "optimizer", "random")
    },
    "no format": (drop("format"), "must be one of format 2", True),
    "no run": (drop("run"), "must be one of format 2", True),
    "format 3": (put("format", 3), "must be one of format 2", True),
    "run is a number": (put("run", 3), "run must be of type str", True),
    "run is no JSON": (put("run", "{"), "must be JSON", True),
    "run is deep": (put("run", "[" * 100_000), "nested too deeply", True),
    "run has a new option": (put("run", '{"training": {"speed": 3}}'), "unknown key speed", True),
    "run has a list": (put("run", '{"config": [1]}'), "config must be an object", True),
    "run is huge": (put("run", '{"config": {"width": 1000000000}}'), "that some memory can hold", True),
    "run is large": (put("run", '{"config": {"width": 1000000}}'), "checkpoint must be smaller", True),
    "run is deeper than memory": (
        put("run", '{"config": {"blocks": 1000000000000}}'),
        "checkpoint must be smaller",
        True,
    ),
    "step is negative": (put("step", -5), "step must be in [0, 4], got -5", True),
    "step is beyond": (put("step", 10**9), "step must be in [0, 4], got 1000000000", True),
    "step is true": (put("step", True), "step must be of type int, got bool", True),
    "a weight is missing": (drop("model", "embedding"), "missing: embedding", True),
    "a weight is new": (put("model", "zzz", torch.ones(1)), "unknown: zzz", True),
    "a weight has a shape": (
        put("model", "embedding", torch.ones(3)),
        "embedding must be floating point of shape (256, 8)",
        True,
    ),
    "a weight is whole": (
        put("model", "embedding", torch.ones(256, 8, dtype=torch.int64)),
        "embedding must be floating",
        True,
    ),
    "a weight is complex": (
        put("model", "embedding", torch.ones(256, 8, dtype=torch.complex64)),
        "embedding must be floating",
        True,
    ),
    "a weight is a word": (put("model", "embedding", "x"), "embedding must be floating", True),
    "a weight is NaN": (
        put("model", "embedding", torch.full((256, 8), torch.nan)),
        "embedding must be finite",
        True,
    ),
    "optimizer is empty": (put("optimizer", {}), "", False),
    "groups are missing": (drop(*ADAMW, "param_groups"), "", False),
    "groups are empty": (put(*ADAMW, "param_groups", []), "", False),
    "a moment has a shape": (
        put(*ADAMW, "state", 0, "exp_avg", torch.ones(3)),
        "exp_avg must have shape",
        False,
    ),
    "a momentum has a shape": (put(*M3, "state", 0, "m1", torch.ones(3)), "must have shape", False),
    "a moment is NaN": (
        put(*ADAMW, "state", 0, "exp_avg_sq", torch.tensor(torch.nan)),
        "exp_avg_sq must be finite",
        False,
    ),
    "a state is a number": (put(*ADAMW, "state", 0, 3), "", False),
    "levels are missing": (put("optimizer", "gradients", []), "", False),
    "levels have a shape": (
        put("optimizer", "gradients", 0, 0, torch.ones(3)),
        "gradients[0][0] must have shape",
        False,
    ),
    "levels' counts are words": (
        put("optimizer", "tokens", ["x", "y"]),
        "tokens must be integers >= 0",
        False,
    ),
    "random is empty": (put("random", {}), "", False),
    "random is short": (put("random", "torch", torch.zeros(3, dtype=torch.uint8)), "", False),
    "random is a number": (put("random", "python", 3), "", False),
    "random lacks numbers": (put("random", "python", [3, [1, 2], None]), "", False),
}


# Of what goes wrong in one place in several ways one or two are enough.
ALIKE = {
    *(
        "model is a text",
        "optimizer is a text",
        "random is a text",
        "no format",
        "run is huge",
        "run has a list",
    ),
    *("step is beyond", "a weight is whole", "a weight is a word", "groups are empty", "random is empty"),
    *("random lacks numbers", "a momentum has a shape"),
}


@pytest.mark.parametrize("name", some_slow({name: name for name in CHANGES}, CHANGES.keys() - ALIKE))
def test_a_content_that_does_not_fit_is_named(
    name: str, honest: Path, content: Content, tmp_path: Path
) -> None:
    change, words, model_alone = CHANGES[name]
    folder = Path(shutil.copytree(honest, tmp_path / "run"))
    last = files.checkpoints(folder)[-1]
    changed = copy.deepcopy(content)
    change(changed)
    torch.save(changed, last)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    calls: list[Callable[[], Any]] = []
    if model_alone:
        calls.append(lambda: trained(folder, "cpu"))
    if not name.startswith("run is"):  # another run is refused for that alone
        calls.append(lambda: train(run_of(honest), folder, resume=True))
    for call in calls:
        with pytest.raises(ValueError, match=re.escape(str(last))) as refused:
            call()
        assert words in str(refused.value)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 1000
        advice = "move checkpoint-00000002.pt away to go on from that"
        assert (advice in str(refused.value)) == ("must be one of format" not in str(refused.value))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def run_of(folder: Path) -> Run:
    run = files.held_run(folder)
    assert run is not None
    return run


def test_damaged_checkpoints_are_refused_or_read_as_they_were(
    honest: Path, content: Content, tmp_path: Path
) -> None:
    path, draw = tmp_path / "checkpoint.pt", random.Random(18)
    whole = files.checkpoints(honest)[-1].read_bytes()
    refusals: list[str] = []
    for _ in range(150):
        path.write_bytes(damaged(whole, draw))
        try:
            read = files.load_checkpoint(path)
        except ValueError as error:
            refusals.append(str(error))
            continue
        assert read["step"] == content["step"]
        assert all(torch.equal(read["model"][name], value) for name, value in content["model"].items())
    assert len(refusals) > 125
    assert all(str(path) in one and "\n" not in one for one in refusals)


@pytest.mark.parametrize("what", ["run.json", "a text", "an archive", "nothing", "a model"])
def test_another_file_is_no_checkpoint_and_nobody_is_told_to_remove_it(
    what: str, honest: Path, toy_text: Path, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint-00000009.pt"
    if what == "run.json":
        path = honest / "run.json"
    elif what == "a text":
        shutil.copy(toy_text, path)
    elif what == "an archive":
        torch.save(torch.ones(3), path)
    elif what == "a model":
        trained(honest, "cpu").model.save(tmp_path)
        path = tmp_path / "model.safetensors"
    else:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="checkpoint must be") as refused:
        trained(path, "cpu")
    assert "remove" not in str(refused.value)
    assert "away" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_the_run_beside_a_model_is_looked_at(honest: Path, tmp_path: Path) -> None:
    trained(honest, "cpu").model.save(tmp_path)
    for text, words in (
        ("{", "must be JSON"),
        ('{"config": {"width": 32}}', "of the model beside it, got another"),
    ):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=words) as refused:
            trained(tmp_path, "cpu")
        assert str(tmp_path / "run.json") in str(refused.value)
