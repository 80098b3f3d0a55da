"""The shipped vectors, their files and their making."""

import importlib
import json
import os

import numpy as np
import pytest
from selection import some_slow

from hope_ref import golden
from hope_ref.config import CHOICES, HopeConfig
from hope_ref.golden import self_modifying
from hope_ref.golden.check import relative_error
from hope_ref.golden.registry import components

SHIPPED = golden.paths(golden.FOLDER)
NAMES = [path.stem for path in SHIPPED]
FIRST = {
    item.component: item.file for item in reversed(golden.shipped())
}.values()  # the first of each component
SILENT = {"target_gradient"}  # nothing is differentiated here


def test_the_shipped_files_are_those_of_the_list_and_small():
    assert sorted(item.file for item in golden.shipped()) == sorted(NAMES)
    assert sum(file.stat().st_size for file in golden.FOLDER.iterdir()) < 520_000
    assert {file.suffix for file in golden.FOLDER.iterdir()} == {".npz", ".json"}


def test_nine_digits_are_asked_for():
    assert golden.make("delta_rule").tolerance == 1e-9
    assert {json.loads(p.with_suffix(".json").read_text(encoding="utf-8"))["tolerance"] for p in SHIPPED} == {
        1e-9
    }


def test_every_manifest_says_the_version_of_the_contract(tmp_path):
    manifests = [json.loads(p.with_suffix(".json").read_text(encoding="utf-8")) for p in SHIPPED]
    assert {manifest["contract"] for manifest in manifests} == {golden.CONTRACT} == {1}
    golden.save(tmp_path / "a.npz", golden.make("delta_rule"))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["contract"] == 1


def test_every_component_and_every_named_value_is_covered():
    vectors = [golden.load(path) for path in SHIPPED]
    assert {vector.component for vector in vectors} == set(components())
    for name, chosen in components().items():
        # What is inside the whole model has vectors of its own; those of the model cover what is around it.
        whole = name in ("hope", "hope_adaptation")
        own = [vector for vector in vectors if whole or vector.component == name]
        for option, values in {**chosen.options, **chosen.draws}.items():
            seen = [{**vector.options, **vector.draws}.get(option) for vector in own]
            for value in values:
                if isinstance(value, str | bool) or value is None:
                    assert value in seen, (name, option, value)


@pytest.mark.parametrize(("name", "config"), [("default", HopeConfig()), ("printed", HopeConfig.printed())])
def test_both_configurations_are_there_as_they_are(name, config):
    vector = golden.load(golden.FOLDER / f"self_modifying_titans_{name}.npz")
    assert vector.options == {option: getattr(config, option) for option in vector.options}
    others = {"order", "signal", "rule", "variant", "mixer"}  # not of these memories
    assert set(CHOICES) - set(vector.options) == others


def _truncate(folder):
    path = folder / "a.npz"
    path.write_bytes(path.read_bytes()[:-50])


def _flip(folder):
    content = bytearray((folder / "a.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "a.npz").write_bytes(bytes(content))


def _rewrite(**changes):
    def change(folder):
        manifest = json.loads((folder / "a.json").read_text(encoding="utf-8"))
        (folder / "a.json").write_text(json.dumps({**manifest, **changes}), encoding="utf-8")

    return change


def _without(name):
    def change(folder):
        manifest = json.loads((folder / "a.json").read_text(encoding="utf-8"))
        del manifest[name]
        (folder / "a.json").write_text(json.dumps(manifest), encoding="utf-8")

    return change


def _text(text):
    return lambda folder: (folder / "a.json").write_bytes(text)


DAMAGE = [
    (_truncate, "a.npz: sha256 must be [0-9a-f]{64}, got [0-9a-f]{64}"),
    (_flip, "a.npz: sha256 must be"),
    (_rewrite(tolerance=1.0), "a.json: the manifest was changed"),
    (_rewrite(options={"read": "pre"}), "a.json: the manifest was changed"),
    (_rewrite(format=2), "format must be 1, got 2"),
    (_rewrite(contract=2), "a.json: contract must be 1, got 2"),
    (_rewrite(contract="one"), "a.json: contract must be 1, got one"),
    (_without("contract"), "a.json: contract must be 1, got none"),
    (_rewrite(seed="seven"), "wrong or missing: seed"),
    (_rewrite(extra=1), "must hold .*; wrong or missing: none"),
    (_text(b"[]"), "a.json must be one JSON object, got list"),
    (_text(b'{"format":'), "a.json must be JSON"),
    (lambda folder: (folder / "a.json").unlink(), "a.json must be there"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_vector_is_refused(tmp_path, damage, message):
    golden.save(tmp_path / "a.npz", golden.make("delta_rule"))
    golden.load(tmp_path / "a.npz")
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        golden.load(tmp_path / "a.npz")
    assert golden.main(["check", str(tmp_path), "--implementation", "hope_ref.golden.ours"]) == 2
    assert golden.main(["list", str(tmp_path)]) == 2


@pytest.mark.parametrize("item", some_slow({item.file: (item,) for item in golden.shipped()}, FIRST))
def test_a_shipped_vector_can_be_made_again(item):
    seed = golden.shipped().index(item)
    again = golden.make(item.component, item.options, seed, item.tokens)
    stored = golden.load(golden.FOLDER / f"{item.file}.npz")
    assert (again.options, again.draws, again.seed) == (stored.options, stored.draws, stored.seed)
    for part in ("inputs", "results"):
        assert list(getattr(again, part)) == list(getattr(stored, part))
        for name, array in getattr(stored, part).items():
            np.testing.assert_allclose(getattr(again, part)[name], array, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("path", some_slow(dict(zip(NAMES, SHIPPED, strict=True)), FIRST))
def test_rounding_does_not_reach_the_tolerance(path):
    """A vector whose results hang on the last digit would refuse honest implementations."""
    vector = golden.load(path)
    rng = np.random.default_rng(0)
    nudged = {n: a * (1 + 1e-15 * rng.normal(size=a.shape)) for n, a in vector.inputs.items()}
    results = components()[vector.component].run(nudged, vector.options)
    assert (
        max(relative_error(results[n], want) for n, want in vector.results.items()) < vector.tolerance / 100
    )


@pytest.mark.parametrize(
    "path", [p for p in SHIPPED if "self_modifying" in p.stem], ids=lambda path: path.stem
)
def test_a_vector_tells_the_named_values_apart(path):
    """Each vector of one changed option would notice any other named value of that option."""
    vector = golden.load(path)
    default = {**self_modifying.of_config(HopeConfig()), "memory_chunk_size": 4, "projection_chunk_size": 2}
    for option, values in self_modifying.OPTIONS.items():
        if option in SILENT or vector.options[option] == default[option] or "printed" in path.stem:
            continue
        for value in set(values) - {vector.options[option]}:
            try:
                other = self_modifying.run(vector.inputs, {**vector.options, option: value})
            except ValueError:
                continue  # needs other inputs
            if isinstance(value, str | bool):
                assert relative_error(other["outputs"], vector.results["outputs"]) > 1e-6, (option, value)


def test_names_and_shapes_are_those_of_the_contract():
    vector = golden.load(golden.FOLDER / "self_modifying_titans_inner_momentum.npz")
    memories = ("k", "v", "eta", "alpha", "memory")
    weights = {f"{w}_{m}" for w in ("w1", "w2") for m in memories}
    others = {"x", "w_query", "eta_readout", "alpha_readout", "alpha_bias", "eta_max"}
    assert set(vector.inputs) == weights | others | {f"eta_bias_{m}" for m in memories}
    assert set(vector.results) == {"outputs"} | {f"final_{n}" for w in weights for n in (w, "b" + w[1:])}
    assert vector.inputs["w1_k"].shape == (4, 5)
    assert vector.inputs["w2_k"].shape == (5, 4)
    assert all(array.dtype == np.float64 for array in {**vector.inputs, **vector.results}.values())
    adaptive = golden.load(golden.FOLDER / "self_modifying_titans_adaptive_query.npz")
    assert "w_query" not in adaptive.inputs
    assert {"w1_q", "eta_bias_q"} <= set(adaptive.inputs)
    linear = golden.load(golden.FOLDER / "self_modifying_titans_architecture_linear.npz")
    assert linear.inputs["w_memory"].shape == linear.results["final_w_memory"].shape == (4, 4)
    explicit = golden.load(golden.FOLDER / "self_modifying_titans_step_explicit.npz")
    assert explicit.inputs["eta_max"] == 0.5
    assert "eta_max" not in explicit.options


def test_no_tokens_are_a_vector_too():
    vector = golden.load(golden.FOLDER / "self_modifying_titans_no_tokens.npz")
    assert vector.results["outputs"].shape == (0, 4)
    for name, array in vector.results.items():
        if name != "outputs":
            np.testing.assert_array_equal(array, vector.inputs[name.removeprefix("final_")])


def test_the_bytes_are_the_same_every_time(tmp_path):
    vector = golden.make("titans", {"architecture": "mlp"}, seed=3)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        golden.save(tmp_path / name / "a.npz", vector)
    for file in ("a.npz", "a.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert sorted(os.listdir(tmp_path / "one")) == ["a.json", "a.npz"]


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def fails(*names):
        raise OSError("disk is gone")

    monkeypatch.setattr("hope_ref.common.files.os.replace", fails)
    with pytest.raises(OSError, match="disk is gone"):
        golden.save(tmp_path / "a.npz", golden.make("delta_rule"))
    assert list(tmp_path.iterdir()) == []


def test_make_names_the_first_bad_token():
    """What is printed overflows from this seed; one token fewer does not."""
    options = self_modifying.of_config(HopeConfig.printed(memory_chunk_size=1, projection_chunk_size=1))
    with pytest.raises(ValueError, match=r"outputs must be finite.* first at token \d+ of 40 ") as error:
        golden.make("self_modifying_titans", options, seed=7, tokens=40)
    first = int(str(error.value).split("token ")[1].split()[0])
    golden.make("self_modifying_titans", options, seed=7, tokens=first)
    with pytest.raises(ValueError, match=f"first at token {first} of {first + 1} "):
        golden.make("self_modifying_titans", options, seed=7, tokens=first + 1)


def test_make_names_a_bad_final_array(monkeypatch):
    chosen = components()["delta_rule"]

    def run(inputs, options):
        return {"outputs": np.zeros((2, 2)), "final_memory": np.array([np.nan])}

    module = importlib.import_module("hope_ref.golden.make")  # the package has a function of this name
    monkeypatch.setattr(module, "component", lambda name: chosen._replace(run=run))
    with pytest.raises(ValueError, match="final_memory must be finite"):
        golden.make("delta_rule")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "dalta_rule"}, "component must be one of .*'delta_rule'.*got 'dalta_rule'"),
        ({"options": {"raed": "pre"}}, "options of self_modifying_titans must be among .*read.*, got raed"),
        ({"options": {"read": "late"}}, "read must be one of 'post', 'pre', 'boundary', got 'late'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"seed": True}, "seed must be an integer >= 0, got True"),
        ({"tokens": -1}, "tokens must be an integer >= 0, got -1"),
        ({"width": 1.5}, "width must be an integer >= 1, got 1.5"),
        (
            {"name": "titans", "options": {"architecture": "cnn"}},
            "architecture must be one of 'matrix', 'mlp'",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        golden.make(**{"name": "self_modifying_titans", **arguments})


def test_a_lost_array_file_is_refused(tmp_path, capsys):
    golden.save(tmp_path / "a.npz", golden.make("delta_rule"))
    (tmp_path / "a.npz").unlink()
    assert golden.main(["check", str(tmp_path), "--implementation", "hope_ref.golden.ours"]) == 2
    assert "a.npz" in capsys.readouterr().err


def test_paths_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="must hold golden vectors"):
        golden.paths(tmp_path)
    with pytest.raises(ValueError, match="got nothing there"):
        golden.paths(tmp_path / "none")
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        golden.save(tmp_path / "a.txt", golden.make("delta_rule"))
