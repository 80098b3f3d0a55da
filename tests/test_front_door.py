"""`from hope_ref import …`: lazy, complete, and a model that is saved, loaded and continued by its configuration alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import hope_ref
from hope_ref import Hope, HopeConfig
from hope_ref.parallel.continuum_schedule import LevelSchedule
from hope_ref.parallel.hope import MIXERS
from hope_ref.reference.hope import init

SMALL = HopeConfig(width=8, heads=2, vocabulary=11, levels_chunk_sizes=(4, 8))
TOKENS = torch.randint(11, (2, 9), generator=torch.Generator().manual_seed(0))


def test_the_package_loads_numpy_alone_and_torch_when_it_is_asked_for() -> None:
    code = (
        "import sys, hope_ref; assert not {'torch', 'sympy', 'matplotlib'} & set(sys.modules);"
        "from hope_ref import HopeConfig; assert 'torch' not in sys.modules;"
        "from hope_ref import Hope; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", hope_ref.__all__)
def test_every_name_is_there_and_listed(name: str) -> None:
    assert getattr(hope_ref, name) is getattr(hope_ref, name)
    assert name in dir(hope_ref)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'hope_ref' has no attribute 'Hoep'"):
        hope_ref.Hoep  # noqa: B018


def test_the_commands_say_their_version(capsys: pytest.CaptureFixture[str]) -> None:
    from hope_ref.__main__ import main

    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"hope_ref {hope_ref.__version__}\n"


# --- the configuration is the model -----------------------------------------------------------------------------------


def test_a_model_is_built_again_from_its_configuration() -> None:
    model = Hope(SMALL.replace(seed=7))
    other = Hope(HopeConfig.from_json(model.config.to_json()))
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
    assert len(model.embedding) == 11
    assert len(model.blocks) == 2
    assert len(Hope(SMALL.replace(blocks=3)).blocks) == 3


@pytest.mark.parametrize("config", [None, {}, "tiny", 3])
def test_what_is_no_configuration_is_named(config: Any) -> None:
    if config is None:
        assert Hope(config).config == HopeConfig()
        return
    with pytest.raises(ValueError, match=f"config must be a HopeConfig, got {type(config).__name__}"):
        Hope(config)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
def test_any_integer_dtype_is_a_token(dtype: torch.dtype) -> None:
    model = Hope(SMALL)
    want, _ = model(TOKENS)
    assert torch.equal(model(TOKENS.to(dtype))[0], want)
    assert torch.equal(model.adapt(TOKENS.to(dtype))[0], model.adapt(TOKENS)[0])
    assert torch.equal(
        model.generate(TOKENS.to(dtype), 2, temperature=0)[0], model.generate(TOKENS, 2, temperature=0)[0]
    )


def test_bytes_are_tokens() -> None:
    model = Hope(SMALL.replace(vocabulary=256))
    raw = torch.tensor([0, 127, 128, 255], dtype=torch.uint8)
    assert torch.equal(model(raw)[0], model(raw.long())[0])


@pytest.mark.parametrize("tokens", [TOKENS.float(), TOKENS > 3, TOKENS.to(torch.complex64), [1, 2]], ids=str)
def test_what_is_no_integer_is_refused(tokens: Any) -> None:
    with pytest.raises(ValueError, match="tokens must be a tensor of integers, got "):
        Hope(SMALL)(tokens)


@pytest.mark.parametrize("mixer", MIXERS)
def test_every_module_starts_a_stream_by_itself(mixer: str) -> None:
    model = Hope(SMALL.replace(mixer=mixer)).double()
    x = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    block: Any = model.blocks[0]
    for module in (block, block.mixer, block.continuum):
        want, _ = module(x, module.initial_state((2,)))
        first, state = module(x[:, :4])
        second, _ = module(x[:, 4:], state)
        torch.testing.assert_close(torch.cat([first, second], 1), want, rtol=0, atol=1e-12)
        assert torch.equal(module(x)[0], want)


def test_a_subclass_stays_one() -> None:
    class Own(Hope):
        pass

    config = SMALL.replace(blocks=1)
    assert type(Own.from_reference(init(config), config)) is Own


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mixer", MIXERS)
def test_a_saved_model_comes_back_bit_for_bit(mixer: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = Hope(SMALL.replace(mixer=mixer, seed=5)).to(dtype)
    with torch.no_grad():
        model.norm.add_(0.5)
    (tmp_path / "notes.txt").write_text("mine")
    model.save(tmp_path)
    model.save(tmp_path)  # over itself
    for loaded in (Hope.load(tmp_path), Hope.from_pretrained(str(tmp_path))):
        assert loaded.config == model.config
        for (name, one), two in zip(loaded.named_parameters(), model.parameters(), strict=True):
            assert one.dtype == dtype
            assert one.requires_grad
            assert torch.equal(one, two), name
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "notes.txt",
    ]


def test_a_loaded_model_trains_and_its_folder_may_go(tmp_path: Path) -> None:
    Hope(SMALL).save_pretrained(tmp_path / "new" / "folder")
    model = Hope.load(tmp_path / "new" / "folder")
    for file in (tmp_path / "new" / "folder").iterdir():
        file.unlink()
    before = model.embedding.detach().clone()
    functional.cross_entropy(model(TOKENS)[0].flatten(0, 1), TOKENS.flatten()).backward()
    torch.optim.AdamW(model.parameter_groups(), lr=0.1).step()
    assert (model.embedding - before).abs().max() > 0.01


def damaged(folder: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    if name == "no JSON":
        (folder / "config.json").write_text("{")
    elif name == "a list":
        (folder / "config.json").write_text("[]")
    elif name == "another type":
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    elif name == "unknown option":
        (folder / "config.json").write_text(json.dumps({**config, "depth": 3}))
    elif name == "deep":
        (folder / "config.json").write_text("[" * 100_000)
    elif name == "cut":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9])
    elif name == "a parameter less":
        del weights["norm"]
    elif name == "another shape":
        weights["norm"] = weights["norm"][:-1].clone()
    elif name == "integers":
        weights["norm"] = weights["norm"].long()
    if name in ("a parameter less", "another shape", "integers"):
        save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no JSON", r"config\.json must be JSON"),
        ("a list", r"config\.json must be one JSON object, got list"),
        (
            "another type",
            r"config\.json must be the configuration of a HOPE: its model_type must be 'hope_ref'",
        ),
        ("unknown option", r"config\.json must be the configuration of a HOPE: unknown option depth"),
        ("deep", r"config\.json must be JSON, got one that is nested too deeply"),
        ("cut", r"model\.safetensors must be a file of safetensors"),
        ("a parameter less", r"model\.safetensors must hold the parameters .*; missing: norm, unknown: none"),
        (
            "another shape",
            r"model\.safetensors: norm must be F64, F32, F16, BF16 of shape \(8,\), got F32 of shape \(7,\)",
        ),
        ("integers", r"model\.safetensors: norm must be F64, F32, F16, BF16 of shape \(8,\), got I64"),
    ],
)
def test_a_damaged_folder_is_named(name: str, message: str, tmp_path: Path) -> None:
    Hope(SMALL).save(tmp_path)
    damaged(tmp_path, name)
    with pytest.raises(ValueError, match=message):
        Hope.load(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Hope.load(tmp_path / "nowhere")


def test_from_pretrained_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        ValueError, match="pretrained_model_name_or_path must be a folder, got 'someone/hope'"
    ):
        Hope.from_pretrained("someone/hope")


def test_from_pretrained_asks_the_hub_for_the_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hope(SMALL).save(tmp_path)
    asked: list[Any] = []

    class Hub:
        @staticmethod
        def snapshot_download(name: str, **options: Any) -> str:
            asked.append((name, options))
            return str(tmp_path)

    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub)
    assert Hope.from_pretrained("someone/hope", revision="v1").config == SMALL
    assert asked == [
        ("someone/hope", {"revision": "v1", "allow_patterns": ["config.json", "model.safetensors"]})
    ]


def test_the_shipped_model_writes() -> None:
    model = hope_ref.load("tiny")
    prompt = torch.tensor(list(b"The "))
    new, _ = model.generate(prompt, 8, temperature=0)
    assert bytes(new.tolist()).decode("ascii").isprintable()
    assert model.config.vocabulary == 256


# --- groups for optimisers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"signal": "associative", "variant": "independent"}, {"architecture": "linear"}]
)
@pytest.mark.parametrize("mixer", MIXERS)
def test_every_parameter_is_in_one_group(mixer: str, options: dict[str, Any]) -> None:
    model = Hope(SMALL.replace(mixer=mixer, **options))
    groups = model.parameter_groups(weight_decay=0.1)
    held = [parameter for group in groups for parameter in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(model.parameters()))
    named = {group["name"]: group for group in groups}
    for name, group in named.items():
        assert group["weight_decay"] == (0.0 if name in ("vectors", "embedding") else 0.1)
        shapes = {tuple(p.shape) for p in group["params"]}
        if name in ("matrices", "memories"):
            assert all(len(shape) == (2 if name == "matrices" else 3) for shape in shapes)
    assert [named[f"levels.{level}"]["chunk_size"] for level in range(2)] == [4, 8]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    schedule = LevelSchedule(
        optimizer,
        [{"params": g["params"], "chunk_size": g["chunk_size"]} for g in groups if "chunk_size" in g],
    )
    functional.cross_entropy(model(TOKENS)[0].flatten(0, 1), TOKENS.flatten()).backward()
    assert schedule.step(tokens=4) == [True, False]


def test_m3_takes_the_matrices_and_the_memories() -> None:
    model = Hope(SMALL)
    names = ("matrices", "memories", "levels.0", "levels.1")
    groups = [{"params": g["params"]} for g in model.parameter_groups() if g["name"] in names]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    functional.cross_entropy(model(TOKENS)[0].flatten(0, 1), TOKENS.flatten()).backward()
    hope_ref.M3(groups, lr=0.1).step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {"blocks.0.mixer.output", "blocks.0.mixer.w2_k", "blocks.1.continuum.levels.1.w1"} <= moved
    assert not {"embedding", "norm", "blocks.0.mixer.conv_key", "blocks.0.mixer.eta_readout"} & moved
