"""`make cuda`: what one part has found survives whatever happens to the next, and toys never lie among results."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hope_ref.benchmarks import cuda, cuda_parts
from hope_ref.benchmarks.cuda import PARTS, is_complete

ROOT = Path(__file__).parents[2]
NAMES = [part.name for part in PARTS]
Record = dict[str, Any]


def called(*given: str) -> int:
    parser = argparse.ArgumentParser()
    cuda.add_arguments(parser)
    return cuda.main(parser.parse_args(given))


def held(folder: Path) -> Record:
    (path,) = folder.glob("cuda_*.json")
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


# --- parts that die, hang or lie ------------------------------------------------------------------------------------

CHILD = """
import json, os, subprocess, sys, time
name, path = sys.argv[1:3]
how = json.loads(os.environ["HOW"]).get(name, "complete")
def write(complete, **more):
    result = {"cuda": False, "name": "cpu", "of": name}
    open(path, "w").write(json.dumps({"complete": complete, "versions": {}, "result": result, **more}))
write(how == "complete")
if how == "hangs":
    print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, file=open(os.environ["PID"], "w"), flush=True)
    time.sleep(600)
if how == "dies":
    print("the last word", file=sys.stderr, flush=True)
    os.kill(os.getpid(), 9)
if how == "spoils":
    open(path, "w").write("{")
"""
Told = Callable[..., None]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Parts that do as they are told, at once."""
    script = tmp_path / "child.py"
    script.write_text(CHILD, encoding="utf-8")
    monkeypatch.setattr(cuda, "CALL", (sys.executable, str(script)))
    monkeypatch.setattr(cuda, "lines", lambda record: [])
    monkeypatch.setenv("PID", str(tmp_path / "pid"))

    def tell(**how: str) -> None:
        monkeypatch.setenv("HOW", json.dumps({name.replace("_", " "): word for name, word in how.items()}))

    tell()
    return tell


def test_a_part_that_dies_takes_nothing_with_it_and_is_run_again(told: Told, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    told(kernels="dies", titans="lies", ceilings="spoils")
    assert called("--toy", "--folder", str(folder)) == 1
    record = held(folder)
    assert {name: record["parts"][name]["status"] for name in NAMES} == {
        name: "failed" if name in ("kernels", "titans", "ceilings") else "complete" for name in NAMES
    }
    assert "the last word" in record["parts"]["kernels"]["why"]
    assert record["parts"]["kernels"]["result"]["of"] == "kernels", "what it had found"
    assert record["parts"]["ceilings"]["why"]
    told()
    assert called("--toy", "--folder", str(folder)) == 0
    assert all(is_complete(held(folder), name) for name in NAMES)


def test_each_result_is_on_the_disk_before_the_next_part_begins(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen, own = tmp_path / "out", list[list[str]](), cuda.run

    def run(part: cuda.Part, *given: Any) -> Record:
        seen.append(list(held(folder)["parts"]) if folder.exists() and list(folder.iterdir()) else [])
        if part.name == "titans":
            raise KeyboardInterrupt
        return own(part, *given)

    monkeypatch.setattr(cuda, "run", run)
    with pytest.raises(KeyboardInterrupt):
        called("--toy", "--folder", str(folder))
    assert seen == [NAMES[:count] for count in range(NAMES.index("titans") + 1)]
    assert list(held(folder)["parts"]) == NAMES[: NAMES.index("titans")]


def test_what_is_complete_is_left_as_it_is_unless_it_is_wanted_again(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, own = list[str](), cuda.run
    monkeypatch.setattr(cuda, "run", lambda part, *given: run.append(part.name) or own(part, *given))
    for given, expected in (
        ((), NAMES),
        ((), ["device"]),
        (("fla", "titans"), ["device"]),
        (("fla", "titans", "--again"), ["device", "fla", "titans"]),
        (("--again",), NAMES),
    ):
        run.clear()
        assert called("--toy", "--folder", str(tmp_path / "out"), *given) == 0
        assert run == expected, given


def test_a_part_that_hangs_ends_with_all_that_it_started_and_keeps_what_it_had(
    told: Told, tmp_path: Path
) -> None:
    told(tests="hangs")
    found = cuda.run(cuda.Part("tests", 3, ""), True, 3)
    assert found["status"] == "time limit"
    assert found["result"]["of"] == "tests"
    state = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    for _ in range(50):
        if not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] in "ZX":
            return
        time.sleep(0.1)
    pytest.fail("the process that the part had started goes on")


def test_when_the_time_is_over_the_rest_is_left_for_another_call(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda, "TOTAL", 5.0)
    assert called("--toy", "--folder", str(tmp_path / "out")) == 1
    assert capsys.readouterr().out.count("no time left; call again") == len(NAMES) - 1
    assert list(held(tmp_path / "out")["parts"]) == ["device"]


def test_all_limits_together_are_nine_minutes() -> None:
    assert sum(part.limit for part in PARTS if part.name != cuda.LAST) <= cuda.TOTAL == 9 * 60
    assert NAMES[-1] == cuda.LAST
    assert set(NAMES) == set(cuda_parts.RUNS)


# --- where it may write ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["results", "results/toys", "."])
def test_toys_never_lie_among_results(
    folder: str, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((ROOT / "results").rglob("cuda_*"))
    monkeypatch.chdir(ROOT / "results" if folder == "." else ROOT)
    with pytest.raises(ValueError, match=r"folder must be outside .*results with --toy, got"):
        called("--toy", "--folder", folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(ROOT)
    assert called("--toy") == 0
    assert sorted((ROOT / "results").rglob("cuda_*")) == before
    assert len(list(tmp_path.glob("hope_ref_cuda_*/cuda_cpu.json"))) == 1


def test_another_file_and_a_record_of_another_kind_stay(told: Told, tmp_path: Path) -> None:
    path = tmp_path / "cuda_cpu.json"
    for text, message in (
        ('{"mine": 1}', "folder must be a new file or one that this command wrote"),
        (
            json.dumps({"what": cuda.WHAT, "toy": False, "parts": {}}),
            "folder must hold no record of a real run",
        ),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            called("--toy", "--folder", str(tmp_path))
        assert path.read_text() == text


def test_without_a_gpu_it_says_so_and_writes_nothing(
    told: Told, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called("--folder", str(tmp_path / "out")) == 2
    assert "no CUDA device here; --toy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=r"parts must be of device, tests, .*got speed"):
        called("speed")


# --- what is said of it ---------------------------------------------------------------------------------------------


def record_of(toy: bool = False, **statuses: str) -> Record:
    ratio = {"median": 4.04, "min": 1.0, "max": 9.0}
    results: dict[str, Any] = {
        "device": {"name": "NVIDIA H200", "cuda": True},
        "tests": {"passed": 150, "failed": 0, "error": 0, "skipped": 1},
        "kernels": {"ratios": {f"eager over triton, float32, {part}": ratio for part in ("forward", "forward and backward")}},
        "training hope": {"tokens_per_second": {"torch": 20_000.4, "triton": 31_000.0}},
    }  # fmt: skip
    parts = {
        name: {"status": statuses.get(name.replace(" ", "_"), "complete"), "why": "", "result": results.get(name, {})}
        for name in NAMES
        if name != "training gated_delta_rule"
    }  # fmt: skip
    return {"what": cuda.WHAT, "toy": toy, "parts": parts}


def test_the_sentence_says_what_was_measured_and_what_was_not(tmp_path: Path) -> None:
    assert cuda.sentence(tmp_path) == cuda.NOT_MEASURED
    (tmp_path / "cuda_cpu.json").write_text(json.dumps(record_of(toy=True)))
    assert cuda.sentence(tmp_path) == cuda.NOT_MEASURED
    (tmp_path / "cuda_nvidia_h200.json").write_text(json.dumps(record_of()))
    assert cuda.sentence(tmp_path) == (
        "On one NVIDIA H200 ([cuda_nvidia_h200.json](results/cuda_nvidia_h200.json)): 150 of 151 CUDA tests pass; "
        "eager PyTorch takes 4.0 times as long as the kernels forward, 4.0 with backward (float32); "
        "`small` reads 31,000 tokens/s in training; not measured: training gated_delta_rule."
    )
    (tmp_path / "cuda_nvidia_h200.json").write_text(
        json.dumps(record_of(tests="failed", kernels="time limit"))
    )
    said = cuda.sentence(tmp_path)
    assert "tests pass" not in said
    assert "as long" not in said
    assert said.endswith("not measured: tests, kernels, training gated_delta_rule.")


def test_the_readme_says_what_the_records_say() -> None:
    words = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert cuda.sentence(ROOT / "results") in words
    assert (cuda.NOT_MEASURED in words) is not bool(cuda.records(ROOT / "results"))


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        ("tests/kernels/test_cuda.py::test_it[golden delta_rule] PASSED        [  3%]", ("passed", "tests/kernels/test_cuda.py::test_it[golden delta_rule]")),
        ("tests/kernels/test_cuda.py::test_it[T=1 C=4] SKIPPED (needs a...) [100%]", ("skipped", "tests/kernels/test_cuda.py::test_it[T=1 C=4]")),
        ("[gw7] [ 12%] FAILED tests/parallel/test_titans.py::test_on_cuda[matrix] ", ("failed", "tests/parallel/test_titans.py::test_on_cuda[matrix]")),
        ("ERROR tests/parallel/test_states.py - ModuleNotFoundError: No module named 'x'", ("error", "tests/parallel/test_states.py")),
        ("tests/kernels/test_cuda.py::test_it[T=1] ", None),
        ("150 passed, 3702 deselected in 5.42s", None),
    ],
)  # fmt: skip
def test_a_line_of_pytest_is_read(line: str, outcome: tuple[str, str] | None) -> None:
    assert cuda_parts.outcome_of(line) == outcome


def test_the_other_model_has_as_many_parameters() -> None:
    hope, other = (cuda_parts.recipe(mixer, False) for mixer in ("hope", "gated_delta_rule"))
    assert (hope.config.blocks, hope.config.width) == (6, 256)
    assert other.config.mixer == "gated_delta_rule"
    assert abs(other.parameters() / hope.parameters() - 1) < 0.03
    same = hope.training.to_dict()
    assert other.training.to_dict() == same
    assert (same["device"], same["batch"], same["tokens"]) == ("cuda", 32, 512)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    points = [[float(i), 0.0, 0.0] for i in range(1, 3001)]
    curve = cuda_parts._with({}, points)["curve"]
    assert len(curve) <= cuda_parts.POINTS + 1
    assert (curve[0], curve[-1]) == (points[0], points[-1])
