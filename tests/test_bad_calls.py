"""Every command with what is wrong: one line on stderr that names it, exit status 2, nothing written, nothing computed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from hope_ref.__main__ import main

NO_INTEGER = ("x", "1.5", "", "1e3", "nan", "inf", "0x10", "[1]")
NO_NUMBER = ("x", "", "nan", "inf", "-inf", "[1]", "1,5", "--")
# A command, some of its options, and what is wrong for each of them.
CROSSED: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "train",
        ("steps", "batch", "tokens", "slow_every", "log_every", "checkpoint_every"),
        (*NO_INTEGER[:3], "0", "-3"),
    ),
    (
        "train",
        ("width", "heads", "blocks", "vocabulary", "memory_chunk_size", "hidden"),
        (*NO_INTEGER[3:6], "0", "-1"),
    ),
    ("train", ("lr", "eta_max", "alpha_init", "beta_max"), (*NO_NUMBER, "0", "-1", "1" * 400)),
    (
        "train",
        ("weight_decay", "warmup", "clip", "nested_rate", "surprise_bound", "inner_momentum"),
        ("x", "nan", "-1", "-inf"),
    ),
    (
        "train",
        ("schedule", "optimizer", "precision", "device", "mixer", "erase", "read", "step", "variant"),
        ("other", ""),
    ),
    (
        "train",
        ("betas", "eta_init", "levels_chunk_sizes"),
        ("x", "1", "[]", "[0.1", "[-1,2]", "[x,y]", "[" * 2000),
    ),
    ("train", ("recompute", "gated", "value_norm"), ("maybe", "2", "")),
    ("train", ("text", "config", "from"), ("nowhere", "{folder}", "{empty}", "x" * 300, "a\0b")),
    ("soak", ("tokens", "width", "vocabulary"), ("0", "-1", "x")),
    ("bench", ("width", "tokens", "repeats"), ("0", "-1", "x")),
)


def crossed() -> Iterator[tuple[tuple[str, ...], bool]]:
    """Each value for each option; one of three at once, another one for the next option, so that no value is left out."""
    for command, names, values in CROSSED:
        every = min(3, len(values))
        for (row, name), (column, value) in product(enumerate(names), enumerate(values)):
            yield (command, f"--{name}={value}"), (row + column) % every == 0


def calls() -> Iterator[tuple[str, ...]]:
    for value in ("x", "-1", str(2**63), str(10**30)):
        yield "train", f"--seed={value}"
        yield "generate", f"--seed={value}"
    yield from (("train", f"--{name}={value}") for name, value in (("width", 10**9), ("vocabulary", 10**20)))
    yield from (("train", f"--{name}={10**12}") for name in ("batch", "blocks"))
    yield "train", "--lr"
    yield "train", "--set", "lr=3"
    yield "train", "--stepz", "3"
    yield "train", "--ste", "3"
    yield "train", "extra"
    for out in ("{file}", "{file}/run", "x" * 300, "/proc/nothing", "{mine}", "a\0b"):
        yield "train", "--out", out
        yield "train", "--out", "{folder}/run", "--weights", out
    for place in ("nowhere", "{folder}", "{empty}", "{file}", "{json}", "x" * 300):
        yield "evaluate", place
        yield "generate", place
    yield from (("evaluate", f"--text={value}") for value in ("nowhere", "{folder}", "{empty}", "{one}"))
    yield from (("evaluate", f"--device={value}") for value in ("cuda", "tpu", ""))
    yield from (("generate", f"--count={value}") for value in ("0", "-1", "x", "1.5"))
    yield from (("generate", f"--temperature={value}") for value in ("-1", "nan", "inf", "x"))
    yield from (("generate", f"--adapt={value}") for value in ("nowhere", "{folder}", "{empty}"))
    yield "generate", "--prompt="
    yield from (("experiment", "recall", f"--seeds={value}") for value in ("0", "-1", "x", str(10**12)))
    yield from (("experiment", "recall", f"--jobs={value}") for value in ("0", "-1", "x", str(10**12)))
    yield from (("experiment", "recall", f"--records={value}") for value in ("{file}", "{file}/x"))
    yield from (
        ("experiment", "recall", f"--results={value}") for value in ("{file}", "{folder}", "{file}/x")
    )
    yield from (("experiment", "recall", "--report", f"--results={value}") for value in ("{file}",))
    yield "experiment", "nothing"
    yield ("experiment",)
    yield "experiment", "recall", "--full", "--report"
    yield from (("soak", f"--width={value}") for value in (10**9, 10**6))
    yield from (("soak", "--set", value) for value in ("read=late", "what=3", "read", "width=3"))
    yield from (
        ("stability", f"--{name}={value}") for name in ("tokens", "seeds") for value in ("0", "-1", "x")
    )
    yield "stability", "--option", "nothing"
    yield "stability", "--start", "nothing"
    yield "bench", f"--width={10**9}"
    yield "bench", "--results", "{file}"
    yield "bench", "--device", "cuda"
    yield "verify", "--component", "nothing"
    yield from (
        ("verify", f"--{name}={value}") for name in ("random", "finite", "seed") for value in ("-1", "x")
    )
    yield "verify", "--random=1", "--report", "{file}"
    yield "verify", "--random=1", "--report", "{folder}"
    yield "figures", "nothing"
    yield "figures", "ladder", "--figures", "{file}"
    yield "figures", "ladder", "--figures", "{mine}"
    yield "run", "--steps=-3"
    yield "run", "--steps=x"
    yield "run", "--figures", "{file}"
    yield "docs", "--folder", "nowhere"
    yield "docs", "--folder", "{file}"
    yield "docs", "--folder", "{mine}"
    yield "anatomy", "nothing"
    yield from (
        ("anatomy", "hope", f"--{name}={value}") for name in ("blocks", "vocabulary") for value in ("0", "x")
    )
    yield "anatomy", "hope", "--set", "levels_chunk_sizes=3"
    yield "completion", "fish"
    yield ("nothing",)
    yield ()


CALLS = [*crossed(), *((tuple(map(str, words)), True) for words in calls())]


def test_the_table_is_long_enough() -> None:
    assert len(CALLS) == len({words for words, _ in CALLS}) >= 150
    at_once = {words for words, quick in CALLS if quick}
    for command, names, values in CROSSED:
        found = [words[1].partition("=")[::2] for words in at_once if words[:1] == (command,) and words[1:]]
        assert {f"--{name}" for name in names} <= {name for name, _ in found}
        assert {*values} <= {value for name, value in found if name[2:] in names}


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            words,
            marks=[] if quick else pytest.mark.slow,
            id=" ".join(words)[:60].replace("\0", "0"),
        )
        for words, quick in CALLS
    ],
)
def test_a_bad_call_is_one_line_and_leaves_nothing(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hope_ref.training.loop.Trainer.advance", lambda *_: pytest.fail("it trains"))
    if words[:1] == ("docs",):  # whose sizes of slips take seconds
        monkeypatch.setattr("hope_ref.symbolic.errata.markdown", lambda: "# Errata\n")
    places = {name: tmp_path / name for name in ("folder", "mine", "file", "empty", "one", "json")}
    for name in ("folder", "mine"):
        places[name].mkdir()
    for name, content in (("file", "mine\n"), ("empty", ""), ("one", "1"), ("json", '{"port": 80}')):
        places[name].write_text(content)
    for name in ("metrics.jsonl", "config.json", "ladder.png", "NOTATION.md", "ERRATA.md"):
        (places["mine"] / name).write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    folders = sorted(path for path in tmp_path.rglob("*") if path.is_dir())
    filled = [word.format(**places) if "{" in word else word for word in words]
    try:
        status = main(filled)
    except SystemExit as ended:  # the parser's
        status = int(str(ended.code))
    printed = capsys.readouterr()
    assert status == 2, printed
    assert printed.err.count("\n") == 1, printed.err
    assert len(printed.err) < 1500  # the longest names every component
    assert printed.out == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert sorted(path for path in tmp_path.rglob("*") if path.is_dir()) == folders
    assert os.getcwd() == str(tmp_path)
