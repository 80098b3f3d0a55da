"""Bits per byte against a loop written out, and text that a checkpoint writes."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hope_ref.parallel.hope import Hope
from hope_ref.tasks import text
from hope_ref.training import SHIPPED, Outcome, bits_per_byte, evaluate, files, generate, train, trained
from hope_ref.training.data import prepared
from hope_ref.training.evaluation import Trained, save

pytestmark = pytest.mark.usefixtures("no_curve")


@pytest.fixture(scope="module")
def asked(whole_run: tuple[Path, Outcome]) -> Trained:
    return trained(whole_run[0], "cpu")


def literal_bits(asked: Trained, data: bytes, tokens: int) -> float:
    """Byte by byte: what the model gives the byte that came, with the bytes of its window before it."""
    total = 0.0
    for place in range(1, len(data)):
        start = (place - 1) // tokens * tokens
        logits, _ = asked.model(torch.tensor(list(data[start:place])))
        total -= float(torch.log_softmax(logits[-1].detach().double(), -1)[data[place]])
    return total / (len(data) - 1) / math.log(2)


def test_a_checkpoint_is_the_model_that_was_trained(
    asked: Trained, whole_run: tuple[Path, Outcome], toys: SimpleNamespace
) -> None:
    ours = {name: p.detach() for name, p in asked.model.named_parameters()}
    assert toys.same_bits(ours, toys.weights(whole_run[1]))
    assert (asked.step, asked.device.type) == (12, "cpu")


@pytest.mark.parametrize("size", [2, 17, 18, 40])
def test_bits_per_byte_is_the_loop_written_out(asked: Trained, toy_text: Path, size: int) -> None:
    data = toy_text.read_bytes()[-size:]
    found = bits_per_byte(asked.model, np.frombuffer(data, np.uint8), asked.run.training, asked.device)
    assert found == pytest.approx(literal_bits(asked, data, 16), rel=1e-5)


def test_a_carried_state_is_one_pass_over_every_lane(asked: Trained, toy_text: Path) -> None:
    data = np.frombuffer(toy_text.read_bytes()[-101:], np.uint8)
    found = bits_per_byte(asked.model, data, asked.run.training, asked.device, carry=True)
    lanes = torch.stack(
        [torch.from_numpy(data[25 * lane : 25 * lane + 26].astype(np.int64)) for lane in range(4)]
    )
    logits, _ = asked.model(lanes[:, :-1])
    share = logits.detach().log_softmax(-1).gather(-1, lanes[:, 1:, None])
    assert found == pytest.approx(-float(share.mean()) / math.log(2), rel=1e-5)
    short = bits_per_byte(asked.model, data[:10], asked.run.training, asked.device, carry=True)
    assert short == pytest.approx(literal_bits(asked, bytes(data[:10]), 16), rel=1e-5)


def test_what_a_text_costs_others(asked: Trained, toy_text: Path, tmp_path: Path) -> None:
    own = text.split(text.load(toy_text).data)
    found = evaluate(asked, carry=True)
    assert found.bytes == len(own.test)
    assert (found.bigram, found.gzip) == (
        text.bigram_bits(own.train, own.test),
        text.gzip_bits(own.train, own.test),
    )
    assert found.entropy == text.byte_entropy(own.test)
    assert found.carried is not None
    other = tmp_path / "other.txt"
    other.write_bytes(b"a text that it has never seen")
    there = evaluate(asked, other)
    assert there.bytes == 29
    assert there.carried is None
    assert there.model == pytest.approx(literal_bits(asked, other.read_bytes(), 16), rel=1e-5)
    other.write_bytes(b"a")
    with pytest.raises(ValueError, match="text must have at least 2 bytes, got 1"):
        evaluate(asked, other)


def test_validation_in_training_is_on_the_validation_text(
    asked: Trained, toys: SimpleNamespace, whole_run: tuple[Path, Outcome]
) -> None:
    _, parts = prepared(asked.run)
    stretch = parts.validation[:40]
    found = toys.told(whole_run[0])[-1]["validation_bits_per_byte"]
    assert found == pytest.approx(literal_bits(asked, stretch.tobytes(), 16), rel=1e-5)


def test_the_same_seed_writes_the_same_text(asked: Trained) -> None:
    found = [generate(asked, b"abc", 30, seed=seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert len(found[0]) == 30
    likeliest = generate(asked, b"abc", 5, temperature=0)
    logits, _ = asked.model(torch.tensor(list(b"abc" + likeliest[:4])))
    assert list(likeliest) == logits[2:].argmax(-1).tolist()
    assert generate(asked, b"abc", 5, temperature=1e-4, seed=1) == likeliest
    assert generate(asked, b"abc", 30, temperature=0.5, seed=1) != found[0]


def test_reading_first_changes_what_it_writes(toys: SimpleNamespace, toy_text: Path, tmp_path: Path) -> None:
    run = toys.run(toy_text)
    train(run.changed(cms_rate=0.1, levels_chunk_sizes=(4, 8)), tmp_path)
    asked = trained(tmp_path, "cpu")
    before = {name: p.detach().clone() for name, p in asked.model.named_parameters()}
    plain = generate(asked, b"hope", 20, temperature=0)
    read = generate(asked, b"hope", 20, temperature=0, read_first=b"zzzzzzzzzzzzzzzz" * 4)
    assert read != plain
    assert read.count(b"z") > 10 + plain.count(b"z")
    assert all(
        torch.equal(before[name], p) for name, p in asked.model.named_parameters()
    )  # only the state learned


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": b""}, "prompt must have at least 1 byte, got none"),
        ({"count": 0}, "count must be an integer >= 1, got 0"),
        ({"temperature": -1.0}, "temperature must be >= 0, got min -1"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": 0.5}, "seed must be an integer >= 0, got 0.5"),
    ],
)
def test_wrong_wishes_are_refused(asked: Trained, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="must") as error:
        generate(asked, **{"prompt": b"a", "count": 1, **options})  # type: ignore[arg-type]
    assert str(error.value).startswith(message)


# --- folders of a model alone ---------------------------------------------------------------------------------------


def test_a_model_to_give_away_answers_as_its_checkpoint_but_cannot_be_resumed(
    asked: Trained, tmp_path: Path
) -> None:
    save(asked, tmp_path / "given")
    assert sorted(one.name for one in (tmp_path / "given").iterdir()) == [
        "config.json",
        "model.safetensors",
        "run.json",
    ]
    again = trained(tmp_path / "given", "cpu")
    assert asked.run is not None
    assert asked.run.text is not None
    assert (again.run, again.step) == (replace(asked.run, text="toy.txt"), 12)
    for (name, one), other in zip(again.model.named_parameters(), asked.model.parameters(), strict=True):
        assert torch.equal(one, other), name
    assert generate(again, b"hope", 9, seed=2) == generate(asked, b"hope", 9, seed=2)
    shutil.copy(asked.run.text, tmp_path / "given")
    assert evaluate(again) == evaluate(asked)
    assert asked.run is not None
    with pytest.raises(ValueError, match="must hold its optimiser to be resumed, got weights alone in"):
        train(asked.run, tmp_path / "given", resume=True)
    with pytest.raises(ValueError, match="checkpoint must be the last of its run, 12, got 7"):
        save(asked._replace(step=7), tmp_path / "early")
    assert not (tmp_path / "early").exists()


def test_a_model_without_its_run_writes_but_is_not_evaluated(asked: Trained, tmp_path: Path) -> None:
    asked.model.save(tmp_path)
    alone = trained(tmp_path, "cpu")
    assert (alone.run, alone.step) == (None, None)
    assert generate(alone, b"hope", 9, seed=2) == generate(asked, b"hope", 9, seed=2)
    with pytest.raises(
        ValueError, match=r"must have run\.json beside it to be evaluated: it says how long its windows"
    ):
        evaluate(alone)
    with pytest.raises(ValueError, match=r"must have run\.json beside it"):
        save(alone, tmp_path / "given")


def test_a_model_of_other_tokens_than_bytes_is_refused(asked: Trained, tmp_path: Path) -> None:
    Hope(asked.model.config.replace(vocabulary=255)).save(tmp_path)
    with pytest.raises(ValueError, match="must be a model of bytes, vocabulary >= 256, got 255"):
        trained(tmp_path, "cpu")


def test_a_run_of_an_earlier_version_is_refused_in_one_line(asked: Trained, tmp_path: Path) -> None:
    save(asked, tmp_path)
    told = json.loads((tmp_path / files.RUN).read_text())
    (tmp_path / files.RUN).write_text(json.dumps({**told, "blocks": 1, "mixer_options": {}}))
    with pytest.raises(ValueError, match=r"run must be one of this version, .*: train it anew") as error:
        trained(tmp_path, "cpu")
    assert "\n" not in str(error.value)


def test_the_shipped_model_is_found_without_pytorch() -> None:
    code = "import sys; from hope_ref.training import SHIPPED; print(SHIPPED, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == f"{SHIPPED} False\n"
    run = files.held_run(SHIPPED)
    assert run is not None
    assert run.config == Hope.load(SHIPPED).config
    assert (run.training.steps, run.training.batch, run.training.tokens) == (1500, 8, 256)
