"""Every call of ``golden`` ends with a status and one line at most; a wrong model costs few whole runs."""

import errno
import json
import os
import sys

import numpy as np
import pytest

from hope_ref import golden
from hope_ref.golden import cause, manifest, ours
from hope_ref.golden.components import Sizes
from hope_ref.golden.registry import components

DELTA_RULE = str(golden.FOLDER / "delta_rule.npz")
MODULES = {
    "hostile_syntax": "def (",
    "hostile_exit": "import sys; sys.exit(0)",
    "hostile_error": "raise RuntimeError('one\ntwo')".replace("\n", "\\n"),
    "hostile_stop": "raise KeyboardInterrupt",
    "hostile_name": "def __getattr__(name): raise SystemExit(0)",
    "hostile_functions": """
import sys
from hope_ref.golden import ours

print("loaded")

def talks(**named):
    print("called")
    named["memory"] = named["memory"].copy()
    results = ours.delta_rule(**named)
    for array in named.values():
        array[...] = 0
    return results

def exits(**named):
    sys.exit(0)

def stops(**named):
    raise KeyboardInterrupt

def infinite(**named):
    results = ours.delta_rule(**named)
    results["outputs"][3:] = float("inf")
    return results

class Odd(BaseException):
    def __str__(self):
        raise RuntimeError

def odd(**named):
    raise Odd

def lines(**named):
    raise ValueError("one\\ntwo\\x1b")

class Array:
    def __array__(self, *args, **kwargs):
        raise SystemExit(0)

def array(**named):
    return {"outputs": Array(), 3: None}
""",
}


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Somebody's modules beside us; we stand in an empty folder."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "here").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "here"
    for name in MODULES:
        sys.modules.pop(name, None)


def call(arguments, capsys):
    """(exit status, stdout, stderr)"""
    try:
        status = golden.main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse's
        status = end.code
    return (status, *capsys.readouterr())


IMPLEMENTATIONS = {
    "./mine.py:f": "must be package.module:function, got './mine.py:f'",
    "mine.py:f": "must be package.module:function, got 'mine.py:f': ModuleNotFoundError",
    ".mine:f": "must be package.module:function, got '.mine:f'",
    "...": "must be package.module:function, got '...'",
    ":f": "must be package.module:function, got ':f'",
    "": "must be package.module:function, got ''",
    "m:f:g": "must be package.module:function, got 'm:f:g'",
    "m:": "must be package.module:function, got 'm:'",
    "m f": "must be package.module:function, got 'm f'",
    "m\n:f": "must be package.module:function, got 'm\\n:f'",
    "\udcff:f": "must be package.module:function, got '\\udcff:f'",
    "m" * 5000: "must be package.module:function, got 'mmm",
    "hostile_syntax": "got 'hostile_syntax': SyntaxError",
    "hostile_exit:f": "got 'hostile_exit:f': SystemExit: 0",
    "hostile_error:f": "got 'hostile_error:f': RuntimeError: one two",
    "hostile_name:f": "hostile_name must hold a function f, got SystemExit: 0",
    "json:none": "json must hold a function none, got none",
    "json:__doc__": "json must hold a function __doc__, got none",
}


@pytest.mark.parametrize("where", IMPLEMENTATIONS)
def test_what_is_no_implementation_is_refused(where, theirs, capsys):
    status, out, err = call(["check", DELTA_RULE, f"--implementation={where}"], capsys)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert IMPLEMENTATIONS[where] in err


FUNCTIONS = {
    "exits": "the function raised SystemExit: 0",
    "odd": "the function raised Odd",
    "lines": "the function raised ValueError: one two",
    "array": "must be an array of real numbers: SystemExit: 0",
    "infinite": "worst error inf  first differs at token 3 of 11",
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_function_does_is_its_own_affair(name, theirs, capsys):
    status, out, err = call(["check", DELTA_RULE, "--implementation", f"hostile_functions:{name}"], capsys)
    assert status == 1
    assert err == "loaded\n", "what a module prints is not ours"
    assert FUNCTIONS[name] in out
    assert "DISAGREES  delta_rule\n" in out
    assert out.endswith("0 of 1 vectors agree\n")


def test_a_function_may_print_and_spoil_its_inputs(theirs, capsys):
    arguments = ["check", DELTA_RULE, "--implementation", "hostile_functions:talks"]
    status, out, err = call(arguments, capsys)
    assert (status, out) == (0, "agrees  delta_rule\n1 of 1 vectors agree\n")
    assert err == "loaded\ncalled\n"


@pytest.mark.parametrize("where", ["hostile_stop:f", "hostile_functions:stops"])
def test_control_c_ends_with_130(where, theirs, capsys):
    status, out, err = call(["check", DELTA_RULE, "--implementation", where], capsys)
    assert (status, out) == (130, "")
    assert err.endswith("stopped\n")


CHECK = ["check", "--implementation", "hope_ref.golden.ours"]
MAKE = ["make", "--component", "delta_rule"]
OURS = ["--component", "self_modifying_titans", "new.npz"]
CALLS = [
    *(
        ([*CHECK, DELTA_RULE, f"--tolerance={x}"], "--tolerance must be a number in (0, 1], got")
        for x in ("inf", "nan", "0", "-1", "-inf", "2", "1e400", "x", "", "1" * 400)
    ),
    ([*CHECK, "--component", "m4"], "argument --component: invalid choice: 'm4'"),
    ([*CHECK, "nowhere"], "nowhere must be a golden vector or a folder of them, got nothing there"),
    ([*CHECK, "alien.npz"], "alien.json: format must be 1, got None"),
    ([*CHECK, "alien.json"], "alien.json: format must be 1, got None"),
    ([*CHECK, "folder.npz"], "folder.npz must hold golden vectors (.npz), got none"),
    ([*CHECK, "n" * 1000], "File name too long"),
    (["check"], "the following arguments are required: --implementation"),
    (["list", "alien.npz"], "alien.json: format must be 1, got None"),
    (["list", "nowhere"], "got nothing there"),
    *(
        ([*MAKE, f"--{name}={x}", "new.npz"], message)
        for name, x, message in (
            ("tokens", "nan", "--tokens must be an integer, got 'nan'"),
            ("tokens", "inf", "--tokens must be an integer, got 'inf'"),
            ("tokens", "1.5", "--tokens must be an integer, got '1.5'"),
            ("tokens", "", "--tokens must be an integer, got ''"),
            ("tokens", "-1", "tokens must be an integer >= 0, got -1"),
            ("tokens", "9" * 12, "tokens must be at most 1000000, got 999999999999"),
            ("tokens", "9" * 3000, "tokens must be at most 1000000, got 999"),
            ("tokens", "9" * 9000, "--tokens must be an integer, got '999"),
            ("width", "0", "width must be an integer >= 1, got 0"),
            ("width", "-3", "width must be an integer >= 1, got -3"),
            ("width", "9999", "width must be smaller, got 9999: delta_rule with tokens 11, width 9999"),
            ("hidden", "9999", "hidden must be smaller, got 9999"),
            ("hidden", "999999", "hidden must be at most 10000, got 999999"),
            ("seed", "-1", "seed must be an integer >= 0, got -1"),
            ("seed", "9" * 50, "seed must be below 2^128, got 999"),
            ("seed", "None", "--seed must be an integer, got 'None'"),
        )
    ),
    (["make", "--tokens", "999999", *OURS], "tokens must be smaller, got 999999: self_modifying_titans with"),
    (["make", "--width", "9000", "--hidden", "9001", *OURS], "would need about"),
    (["make", "--component", "m3", "--set", "steps=1000000000", "new.npz"], "steps must be at most 100"),
    (["make", "--component", "m3", "--set", "lr=[[1]]", "new.npz"], "lr must be a number, a word, None or"),
    (["make", "--component", "m3", "--set", "lr=1e999", "new.npz"], "lr must be finite, got inf"),
    (["make", "--component", "m3", "--tokens", "0", "new.npz"], "results must hold at least one number"),
    (["make", "--component", "hope", "--set", "heads=10000", "new.npz"], "heads must be at most 64"),
    (["make", "--component", "hope", "--set", "heads=3", "new.npz"], "width must be a multiple of 3"),
    (
        ["make", "--component", "continuum_memory", "--set", "levels_chunk_sizes=5", "new.npz"],
        "options of continuum_memory must be ones that it can have, got {'levels_chunk_sizes': 5}",
    ),
    (["make", "--component", "m4", "new.npz"], "argument --component: invalid choice: 'm4'"),
    ([*MAKE, "new.npy"], "OUT must end in .npz, got new.npy"),
    ([*MAKE, "."], "OUT must end in .npz"),
    ([*MAKE, "folder.npz"], "OUT must be a file, got a folder: folder.npz"),
    ([*MAKE, "alien.npz"], "OUT must be new or a golden vector, got alien.npz"),
    ([*MAKE, "lonely.npz"], "OUT must be new or a golden vector, got lonely.npz"),
    ([*MAKE, "dangling.npz"], "OUT must be new or a golden vector, got dangling.npz"),
    ([*MAKE, "nowhere/new.npz"], "in a folder that can be written, got nowhere/new.npz: No such file"),
    ([*MAKE, "lonely.npz/new.npz"], "OUT must be in a folder that can be written"),
    ([*MAKE, "n" * 1000 + ".npz"], "OUT must be in a folder that can be written"),
    ([*MAKE], "the following arguments are required: OUT"),
    (["make", "--shipped", "nowhere"], "OUT must be a folder with --shipped, got nowhere"),
    (["make", "--shipped", "filled"], "OUT must be new or a golden vector, got filled/m3.npz"),
]  # fmt: skip


@pytest.fixture
def furnished(theirs):
    """A folder of things that are no vectors, and must stay as they are."""
    for name, content in (("alien.npz", b"mine"), ("alien.json", b"{}"), ("lonely.npz", b"mine")):
        (theirs / name).write_bytes(content)
    (theirs / "folder.npz").mkdir()
    (theirs / "dangling.npz").symlink_to("nothing")
    (theirs / "filled").mkdir()
    (theirs / "filled" / "m3.npz").write_bytes(b"mine")
    return theirs


def state_of(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(("arguments", "message"), CALLS, ids=[" ".join(a)[:60] for a, _ in CALLS])
def test_a_wrong_call_is_one_line_and_status_2(arguments, message, furnished, capsys, monkeypatch):
    before = state_of(furnished)
    if message.startswith("OUT"):
        monkeypatch.setattr("hope_ref.golden.commands.make", None)  # nothing is computed before
    status, out, err = call(arguments, capsys)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert len(err) < 1200
    assert state_of(furnished) == before


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write and read everywhere"
)
def test_what_may_not_be_written_or_read_is_one_line(theirs, capsys):
    os.chmod(theirs, 0o500)
    assert call([*MAKE, "new.npz"], capsys)[0] == 2
    os.chmod(theirs, 0o700)
    (theirs / "a.json").write_bytes(b"{}")
    os.chmod(theirs / "a.json", 0)
    assert "a.json: Permission denied" in call([*CHECK, theirs], capsys)[2]


def test_what_the_system_refuses_is_one_line(theirs, capsys, monkeypatch):
    assert call([*MAKE, "a.npz"], capsys)[0] == 0

    def refuses(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", "a.json")

    monkeypatch.setattr("hope_ref.golden.manifest.read_json", refuses)
    status, out, err = call([*CHECK, "a.npz"], capsys)
    assert (status, out, err) == (2, "", "a.json: Permission denied\n")


# --- what is written, and what stays ---


def test_a_golden_vector_of_any_contract_is_replaced(theirs, capsys):
    assert call([*MAKE, "a.npz"], capsys)[0] == 0
    fields = json.loads((theirs / "a.json").read_text(encoding="utf-8"))
    fields = {**fields, "contract": 0, "older": True}
    fields["manifest_sha256"] = manifest.digest(fields)
    (theirs / "a.json").write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(ValueError, match="contract must be 1, got 0"):
        golden.load(theirs / "a.npz")
    assert call([*MAKE, "--seed", "5", "a.npz"], capsys)[0] == 0
    assert golden.load(theirs / "a.npz").seed == 5
    (theirs / "a.npz").write_bytes(b"mine")
    assert call([*MAKE, "a.npz"], capsys)[0] == 2
    assert (theirs / "a.npz").read_bytes() == b"mine"


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("fails", ["os.fsync", "os.replace"])
@pytest.mark.parametrize("call_number", [1, 2, 3])
@pytest.mark.parametrize(("reason", "status"), [(errno.ENOSPC, 1), (errno.EROFS, 2)])
def test_a_write_that_fails_leaves_what_was_there(
    there, fails, call_number, reason, status, theirs, capsys, monkeypatch
):
    """Either the old pair, or the new one, or nothing: wherever it fails, no half and no mixture."""
    if there:
        assert call([*MAKE, "a.npz"], capsys)[0] == 0
    before, calls, original = state_of(theirs), [], getattr(os, fails.removeprefix("os."))

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == call_number:
            raise OSError(reason, os.strerror(reason))
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(fails, failing)
        got, out, err = call([*MAKE, "--seed", "5", "a.npz"], capsys)
    if call_number > 2 and fails == "os.replace":
        assert got == 0, "there are two files to rename"
        return
    assert (got, out) == (status, "")
    assert err.count("\n") == 1
    assert os.strerror(reason) in err
    assert state_of(theirs) == before


# --- the search for the cause ---


@pytest.fixture
def runs(monkeypatch):
    """(component, tokens) of every run of our reference in the search."""
    seen = []

    def counting(name):
        chosen = components()[name]

        def run(inputs, options):
            length = max((len(inputs[n]) for n in ("tokens", "x") if n in inputs), default=0)
            seen.append((name, length))
            return chosen.run(inputs, options)

        return chosen._replace(run=run)

    monkeypatch.setattr(cause, "component", counting)
    return seen


def shifted(name, start, array="outputs"):
    """Our reference, off by a little from one token on, in a way that no option explains."""

    def function(**named):
        results = ours.__dict__[name](**named)
        results[array][start:] += 1e-3
        return results

    return function


@pytest.mark.parametrize(
    "file", ["hope", "hope_attention", "hope_adaptation", "self_modifying_titans_default"]
)
def test_a_wrong_model_costs_few_whole_runs(file, runs):
    vector = golden.load(golden.FOLDER / f"{file}.npz")
    report = golden.check(vector, shifted(vector.component, 0))
    assert (report.agrees(), report.cause) == (False, "")
    assert "first differs at token 0 of" in report.findings[0].note
    options = components()[vector.component].options
    singles = sum(value != vector.options[name] for name, values in options.items() for value in values)
    assert f"{singles} option values" in report.tried
    assert singles <= len(runs)
    assert {length for _, length in runs} == {1}, "no whole run, and no second token"


def test_a_wrong_state_runs_in_full_what_leaves_the_outputs(runs):
    vector = golden.load(golden.FOLDER / "hope.npz")
    report = golden.check(vector, shifted("hope", 0, "final_w1_1"))
    assert (report.agrees(), report.cause) == (False, "")
    whole = sum(length == vector.tokens for _, length in runs)
    assert 0 < whole < 25, "of 57 options those that change no output"


def test_a_model_with_another_option_is_named(runs):
    vector = golden.load(golden.FOLDER / "hope.npz")
    report = golden.check(vector, lambda **named: ours.hope(**{**named, "read": "pre"}))
    assert report.cause == "read='pre'"
    assert sum(length == vector.tokens for _, length in runs) == 1


def test_pairs_stop_with_the_budget(runs, monkeypatch):
    monkeypatch.setattr(cause, "BUDGET", 50)
    vector = golden.load(golden.FOLDER / "self_modifying_titans_default.npz")
    report = golden.check(vector, shifted("self_modifying_titans", 0))
    assert report.tried.startswith("38 option values, 50 of ")
    assert report.tried.endswith(" pairs of option values")


@pytest.mark.parametrize("name", list(components()))
def test_outputs_are_causal(name):
    """What the search stands on: the outputs of the first tokens are the same without those that follow."""
    vector = golden.make(name, tokens=4, width=2, hidden=3)
    chosen = components()[name]
    of_tokens = chosen.of_tokens(vector.options, vector.draws)
    assert of_tokens or "outputs" not in vector.results
    for length in (1, 3) if "outputs" in vector.results else ():
        inputs = {n: a[:length] if n in of_tokens else a for n, a in vector.inputs.items()}
        outputs = chosen.run(inputs, vector.options)["outputs"]
        np.testing.assert_allclose(outputs, vector.results["outputs"][:length], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", list(components()))
def test_shapes_are_known_before_anything_is_computed(name):
    chosen = components()[name]
    for tokens, width, hidden in ((0, 4, 3), (1, 6, 1), (3, 8, 5)):
        vector = golden.make(name, seed=1, tokens=min(tokens, 2), width=width, hidden=hidden)
        sizes = Sizes(vector.tokens, width, hidden)
        for part, arrays in zip(
            chosen.shapes(vector.options, vector.draws, sizes), (vector.inputs, vector.results), strict=True
        ):
            assert part == {n: array.shape for n, array in arrays.items()}
