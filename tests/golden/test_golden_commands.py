"""The command line of the golden vectors: exit statuses, and what is said."""

import argparse
import sys

import pytest

from hope_ref import golden
from hope_ref.config import HopeConfig

SHIPPED = golden.paths(golden.FOLDER)
MODULE = """
from hope_ref.golden import ours

def delta_rule(**named):
    results = ours.delta_rule(**named)
    return {**results, "final_memory": results["final_memory"] * 1.001}

def right(**named):
    return ours.delta_rule(**named)

not_a_function = 3
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    (tmp_path / "theirs_for_golden.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "theirs_for_golden"
    sys.modules.pop("theirs_for_golden", None)


def test_check_exits_with_1_and_names_the_array(theirs, capsys):
    path = str(golden.FOLDER / "delta_rule.npz")
    assert golden.main(["check", path, "--implementation", theirs]) == 1
    out = capsys.readouterr().out
    assert "DISAGREES  delta_rule" in out
    assert "WRONG  final_memory" in out
    assert "ok     outputs" in out
    assert "likely cause: none of" in out
    assert "0 of 1 vectors agree" in out
    assert golden.main(["check", path, "--implementation", f"{theirs}:right", "--verbose"]) == 0
    assert "final_memory" in capsys.readouterr().out


def test_one_of_two_that_disagrees_is_enough_for_1(tmp_path, theirs, capsys):
    golden.save(tmp_path / "empty.npz", golden.make("delta_rule", tokens=0)._replace(tolerance=1.0))
    golden.save(tmp_path / "full.npz", golden.make("delta_rule"))
    assert golden.main(["check", str(tmp_path), "--implementation", theirs]) == 1
    assert "1 of 2 vectors agree" in capsys.readouterr().out


def test_check_of_the_whole_folder(capsys):
    assert golden.main(["check", "--implementation", "hope_ref.golden.ours"]) == 0
    assert f"{len(SHIPPED)} of {len(SHIPPED)} vectors agree" in capsys.readouterr().out
    assert golden.main(["check", "--implementation", "hope_ref.golden.ours:m3", "--component", "m3"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--implementation", "hope_ref.golden.ours:m3"], "--component must say which one"),
        (
            ["--implementation", "no_such_package.at_all:f", "--component", "m3"],
            "must be package.module:function",
        ),
        (["--implementation", ":f", "--component", "m3"], "must be package.module:function"),
        (
            ["--implementation", "hope_ref.golden.ours:nothing", "--component", "m3"],
            "must hold a function nothing",
        ),
        (
            ["--implementation", "hope_ref.golden.files:FORMAT", "--component", "m3"],
            "must hold a function FORMAT",
        ),
        (["no/such/place", "--implementation", "hope_ref.golden.ours"], "got nothing there"),
        (
            [str(SHIPPED[0]), "--implementation", "hope_ref.golden.ours", "--component", "m3"],
            "--component must be that of a vector",
        ),
    ],
)
def test_check_exits_with_2_where_nothing_can_be_judged(arguments, message, capsys):
    assert golden.main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_make_writes_one_for_any_options(tmp_path, capsys):
    out = tmp_path / "mine.npz"
    words = (
        "make --component self_modifying_titans --set read=pre --set step=implicit --set erase=none --set "
    )
    words += "read_skip=true --set writing=('k','memory') --seed 7 --tokens 37 --width 8 --hidden 12"
    assert golden.main([*words.split(), str(out)]) == 0
    assert capsys.readouterr().out.endswith("mine.json, contract 1\n")
    made = golden.load(out)
    assert made.results["outputs"].shape == (37, 8)
    assert made.inputs["w1_eta"].shape == (8, 12)
    chosen = {name: made.options[name] for name in ("read", "step", "erase", "read_skip", "writing")}
    assert chosen == {
        "read": "pre",
        "step": "implicit",
        "erase": "none",
        "read_skip": True,
        "writing": ("k", "memory"),
    }
    assert golden.main(["check", str(out), "--implementation", "hope_ref.golden.ours"]) == 0
    assert golden.main(["list", str(out)]) == 0
    assert "read='pre'" in capsys.readouterr().out


@pytest.mark.slow
def test_make_printed_and_shipped(tmp_path):
    base = ["make", "--component", "self_modifying_titans", "--printed", "--tokens", "3", "--set", "read=pre"]
    assert golden.main([*base, str(tmp_path / "p.npz")]) == 0
    options = golden.load(tmp_path / "p.npz").options
    assert options == {n: getattr(HopeConfig.printed(read="pre"), n) for n in options}
    folder = tmp_path / "all"
    folder.mkdir()
    assert golden.main(["make", "--shipped", str(folder)]) == 0
    assert len(golden.paths(folder)) == len(SHIPPED)


OVERFLOWS = ["--component", "self_modifying_titans", "--printed", "--tokens", "40", "--seed", "7"]
OVERFLOWS += ["--set", "memory_chunk_size=1", "--set", "projection_chunk_size=1", "OUT.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["OUT.npz"], "--component must be one of"),
        (["--shipped", "no/such/folder"], "OUT must be a folder"),
        (["--component", "m3", "--printed", "OUT.npz"], "--printed must go with self_modifying_titans"),
        (["--component", "m3", "no/such/folder/OUT.npz"], "No such file"),
        (["--component", "m3", "--set", "accumulate=average", "OUT.npz"], "accumulate must be one of"),
        (OVERFLOWS, "first at token"),
    ],
)
def test_make_refuses_with_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert golden.main(["make", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["read", "=pre"])
def test_an_option_must_be_name_and_value(text, capsys):
    with pytest.raises(SystemExit):
        golden.main(["make", "--component", "m3", "--set", text, "OUT.npz"])
    assert "must be NAME=VALUE" in capsys.readouterr().err


def test_the_commands_can_be_added_to_another_command_line(capsys):
    """As `hope_ref.__main__` does: each command sets ``function``, which returns the exit status."""
    top = argparse.ArgumentParser()
    sub = top.add_subparsers(dest="command", required=True).add_parser("golden")
    golden.add_commands(sub.add_subparsers(dest="golden", required=True))
    chosen = top.parse_args(["golden", "list", str(golden.FOLDER / "m3.npz")])
    assert chosen.function(chosen) == 0
    assert capsys.readouterr().out == "m3  [S 36-37, P Alg. 1, P 75]  T=11  slow_every=3\n"
