"""Whatever is loaded is looked at: models, configurations and states from damaged, foreign and hostile files.

Each ends in one ValueError of one line that names the file; where a file cannot be read because of the system, in an OSError.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damaged_files import damaged

from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.hope import Hope
from hope_ref.training import SHIPPED

safetensors = pytest.importorskip("safetensors.torch")
load_file, save_file = safetensors.load_file, safetensors.save_file

CONFIG = HopeConfig(width=4, blocks=1, vocabulary=5, levels_chunk_sizes=(2, 4))
Damage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a state of it."""
    folder = tmp_path_factory.mktemp("honest")
    model = Hope(CONFIG)
    model.save(folder)
    states.save_state(folder / "state.pt", model(torch.tensor([1, 2, 3]))[1])
    return folder


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Path:
    """A copy of it to be damaged."""
    return Path(shutil.copytree(honest, tmp_path / "copy"))


def state_of(path: Path) -> Any:
    return states.load_state(path, Hope(CONFIG).initial_state())


def refused(call: Callable[[], Any], path: Path, *parts: str) -> None:
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        call()
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert "\n" not in message
    assert len(message) < 700
    assert "weights_only" not in message
    assert "remove" not in message


def same(these: Iterable[Any], those: Iterable[Any]) -> bool:
    return all(
        type(a) is type(b) and (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b)
        for a, b in zip(these, those, strict=True)
    )


# --- what is no file of any of them ---------------------------------------------------------------------------------


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))


FOREIGN: dict[str, Damage] = {
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"{"),
    "text": lambda path: path.write_text("To be, or not to be, that is the question.\n" * 9),
    "zeros": lambda path: path.write_bytes(bytes(5000)),
    "ones": lambda path: path.write_bytes(b"\xff" * 5000),
    "npz": _npz,
    "another model": lambda path: torch.save(torch.nn.Linear(3, 2).state_dict(), path),
    "a pickle": lambda path: torch.save([1], path, _use_new_zipfile_serialization=False),
    "folder": _folder,
}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "state.pt"])
@pytest.mark.parametrize("damage", FOREIGN)
def test_foreign_files(damage: str, name: str, folder: Path) -> None:
    FOREIGN[damage](folder / name)
    load = (lambda: state_of(folder / name)) if name == "state.pt" else (lambda: Hope.load(folder))
    refused(load, folder / name, "must")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "state.pt"])
def test_what_the_system_cannot_read_is_an_os_error(name: str, folder: Path) -> None:
    load = (lambda: state_of(folder / name)) if name == "state.pt" else (lambda: Hope.load(folder))
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load()
    (folder / name).symlink_to(folder / name)
    with pytest.raises(OSError, match=name):
        load()


def test_a_file_or_a_device_is_no_model(folder: Path) -> None:
    refused(lambda: Hope.load(folder / "state.pt"), folder / "state.pt", "must be a folder", "got a file")
    refused(
        lambda: Hope.from_pretrained(folder / "state.pt"),
        folder / "state.pt",
        "must be a folder",
        "got a file",
    )
    refused(lambda: state_of(Path("/dev/zero")), Path("/dev/zero"), "must be a regular file")


# --- config.json ----------------------------------------------------------------------------------------------------

CONFIGURATIONS: dict[str, tuple[Any, str]] = {
    "deep": ('{"width": ' + "[" * 100_000, "nested too deeply"),
    "deep names": ('{"a": ' * 50_000, "nested too deeply"),
    "not UTF-8": (b'{"width": "\xff"}', "must be JSON in UTF-8: invalid start byte at byte 11"),
    "half": ('{"width": 4', "must be JSON: Expecting"),
    "a list": ("[1]", "must be one JSON object, got list"),
    "twice": ('{"width": 4, "width": 4}', "each name must stand once, got 'width' twice"),
    "NaN": ({"eta_max": float("nan")}, "each number must be finite, got NaN"),
    "Infinity": ({"surprise_bound": float("inf")}, "each number must be finite, got Infinity"),
    "too large a float": ('{"eta_max": 1e999}', "each number must be finite, got 1e999"),
    "5000 digits": ('{"width": ' + "9" * 5000 + "}", "at most 40 digits, got one of 5000"),
    "long": ('{"' + "a" * 2**20 + '": 1}', "must have at most 1048576 bytes"),
    "long name": ('{"' + "a\\n" * 9999 + '": 1}', "unknown option a a a"),
    "no text": ('{"\\ud800": 1}', "unknown option \\ud800"),
    "another type": ({"model_type": "gpt2"}, "its model_type must be 'hope_ref'"),
    "no type": ({"model_type": None}, "its model_type must be 'hope_ref'"),
    "unknown": ({"depth": 1}, "unknown option depth"),
    "text for a size": ({"width": "4"}, "width must be an integer >= 1, got '4'"),
    "a float for a size": ({"blocks": 1.0}, "blocks must be an integer >= 1, got 1.0"),
    "a switch for a size": ({"heads": True}, "heads must be an integer >= 1, got True"),
    "a list for a word": ({"mixer": ["titans"]}, "mixer must be one of"),
    "an object for a number": ({"eta_max": {}}, "eta_max must be float64"),
    "a dict for sizes": ({"levels_chunk_sizes": {"2": 4}}, "levels_chunk_sizes must be a tuple"),
    "deep rates": ({"cms_rate": [[[0.1]]]}, "cms_rate must"),
    "names twice": ({"writing": ["k"] * 9999}, "writing must name each memory once"),
    "another width": ({"width": 8}, "model.safetensors, got width=8 for 4"),
    "another rule": ({"erase": "none"}, "model.safetensors, got erase='none' for 'deviation'"),
    "another read": ({"read": "pre"}, "model.safetensors, got read='pre' for 'post'"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_damaged_configurations(name: str, folder: Path) -> None:
    content, message = CONFIGURATIONS[name]
    path = folder / "config.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(lambda: Hope.load(folder), path, message)


SIZES: dict[str, tuple[dict[str, Any], str]] = {
    "a trillion parameters": ({"width": 10**6}, "got F32 of shape (5, 4)"),
    "a large vocabulary": ({"vocabulary": 10**12}, "got F32 of shape (5, 4)"),
    "a large memory": ({"hidden": 10**12}, "got F32 of shape (1, 4, 4)"),
    "a large convolution": ({"convolution_width": 10**12}, "got F32 of shape (4, 4)"),
    "a billion blocks": ({"blocks": 10**9}, "1000000000 blocks have at least"),
    "many levels": ({"levels_chunk_sizes": [1] * 10**5}, "1 blocks have at least 300005"),
    "beyond 64 bits": (
        {"vocabulary": 10**30},
        "must be the configuration of a HOPE: width, hidden and vocabulary must be of a model that some memory can hold",
    ),
    "beyond 64 bits in all": (
        {"width": 10**10},
        "must be the configuration of a HOPE: width, hidden and vocabulary must be of a model that some memory can hold",
    ),
    "another mixer": ({"mixer": "titans"}, "must hold the parameters of"),
    "less blocks": ({"blocks": 2}, "missing: blocks.1."),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_compared_before_anything_is_allocated(name: str, folder: Path) -> None:
    """Weights of another program say nothing of their configuration, but what their shapes say."""
    changes, message = SIZES[name]
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict() | changes))
    refused(lambda: Hope.load(folder), folder, message)


# --- model.safetensors ----------------------------------------------------------------------------------------------


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    """Other weights, as another program writes them."""

    def damage(path: Path) -> None:
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


def header(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Another header before the same numbers."""

    def damage(path: Path) -> None:
        content = path.read_bytes()
        end = 8 + struct.unpack("<Q", content[:8])[0]
        entries = json.loads(content[8:end])
        text = change(entries)
        text = (text if isinstance(text, str) else json.dumps(entries)).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[end:])

    return damage


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flipped(place: float) -> Damage:
    """One bit of the file, at a share of its length."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return damage


def entry(**changes: Any) -> Damage:
    return header(lambda entries: entries["norm"].update(changes))


WEIGHTS: dict[str, tuple[Damage, str]] = {
    "cut": (cut(0.99), "must be a file of safetensors: it must have"),
    "cut in the header": (cut(0.05), "bytes without its header"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), "must be a file of safetensors: it must have"),
    "a bit of a weight": (flipped(1), "got weights whose checksum is not its hope_ref.sha256"),
    "a header of 2**63 bytes": (lambda path: path.write_bytes(struct.pack("<Q", 2**63) + b"{}"), "without its header"),
    "a deep header": (header(lambda _: '{"a": ' * 9999), "its header must be JSON, got one that is nested too deeply"),
    "a list": (header(lambda _: "[]"), "its header must be one JSON object"),
    "no entries": (header(lambda _: "{}"), "it must have 10 bytes"),
    "a name twice": (header(lambda entries: json.dumps(entries)[:-1] + ', "norm": {}}'), "got 'norm' twice"),
    "an entry that is none": (header(lambda entries: entries.update(norm=3)), "norm must have a dtype and a shape, got 3"),
    "no dtype": (entry(dtype=None), "norm must have a dtype and a shape"),
    "an unknown dtype": (entry(dtype="F31"), "norm must be F64, F32, F16, BF16 of shape (4,), got F31"),
    "a shape of text": (entry(shape="4"), "norm must have a dtype and a shape"),
    "a shape below 0": (entry(shape=[-4]), "norm must have a shape of integers >= 0"),
    "an absurd shape": (entry(shape=[10**12]), "it must have 4000000"),
    "an absurd product": (entry(shape=[10**39] * 99), "must be a file of safetensors: it must have"),
    "another shape of that size": (entry(shape=[2, 2]), "norm must be F64, F32, F16, BF16 of shape (4,), got F32 of shape (2, 2)"),
    "offsets of another": (entry(data_offsets=[0, 16]), "must be a file of safetensors"),
    "no offsets": (header(lambda entries: entries["norm"].pop("data_offsets")), "must be a file of safetensors"),
    "a checksum of another model": (header(lambda entries: entries["__metadata__"].update({"hope_ref.sha256": "0" * 64})), "checksum"),
    "a configuration that is none": (header(lambda entries: entries["__metadata__"].update({"hope_ref.config": "{"})), "hope_ref.config must be JSON"),
    "metadata that are none": (header(lambda entries: entries.update(__metadata__=[1])), "its metadata must be texts by name, got list"),
    "NaN": (weights(lambda tensors: tensors["norm"].__setitem__(1, float("nan"))), "norm must be finite, got 1 NaN or infinite entries of 4"),
    "infinite": (weights(lambda tensors: tensors["norm"].fill_(-float("inf"))), "norm must be finite, got 4 NaN or infinite entries of 4"),
    "integers": (weights(lambda tensors: tensors.update(norm=torch.ones(4, dtype=torch.int32))), "got I32 of shape (4,)"),
    "complex": (weights(lambda tensors: tensors.update(norm=torch.ones(4, dtype=torch.complex64))), "got C64 of shape (4,)"),
    "eight bits": (weights(lambda tensors: tensors.update(norm=torch.ones(4).to(torch.float8_e4m3fn))), "got F8_E4M3 of shape (4,)"),
    "another name": (weights(lambda tensors: tensors.update(gain=tensors.pop("norm"))), "missing: norm, unknown: gain"),
    "another vocabulary": (weights(lambda tensors: tensors.update(embedding=torch.ones(6, 4))), "got F32 of shape (6, 4)"),
    "another model's": (lambda path: save_file({"weight": torch.ones(2, 3)}, path), "must hold the parameters of"),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights(name: str, folder: Path) -> None:
    damage, message = WEIGHTS[name]
    path = folder / "model.safetensors"
    damage(path)
    refused(lambda: Hope.load(folder), path, message)


def test_weights_of_other_programs_and_of_earlier_versions_load(folder: Path) -> None:
    path, model = folder / "model.safetensors", Hope.load(folder)
    before = path.read_bytes()
    model.save(folder)
    assert path.read_bytes() == before, "the same model makes the same file"
    for metadata in ({"format": "pt"}, None, {"format": "pt", "trained by": "somebody"}):
        save_file(load_file(path), path, metadata=metadata)
        for name, parameter in Hope.load(folder).named_parameters():
            assert torch.equal(parameter, model.get_parameter(name))
    assert Hope.load(SHIPPED).config.vocabulary >= 256


# --- states ---------------------------------------------------------------------------------------------------------


def leaves(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Other leaves in a whole file."""

    def damage(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        changed = change(content)
        torch.save(content if changed is None else changed, path)

    return damage


def one(name: str, value: Any) -> Damage:
    return leaves(lambda content: content.update({name: value(content[name]) if callable(value) else value}))


def record(
    change: Callable[[str, bytes], tuple[str, bytes] | None], method: int = zipfile.ZIP_STORED
) -> Damage:
    """Other records in a whole zip archive."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            content = [(name, archive.read(name)) for name in archive.namelist()]
        with zipfile.ZipFile(path, "w", method) as archive:
            for own in content:
                if new := change(*own):
                    archive.writestr(*new)

    return damage


def pickled(content: bytes) -> Damage:
    return record(lambda name, own: (name, content if name.endswith("data.pkl") else own))


def swollen(path: Path) -> None:
    """A directory that says of each record that it is longer than the file."""
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        begin = archive.start_dir
    for mark in (b"PK\x01\x02",):
        at = content.find(mark, begin)
        content = content[: at + 20] + struct.pack("<II", 2**31, 2**31) + content[at + 28 :]
    path.write_bytes(content)


W1, SUM = "blocks.0.mixer.memory.weights.w1_k", "blocks.0.continuum.levels.0.sum1"
POSITION = "blocks.0.mixer.memory.position"
STATES: dict[str, tuple[Damage, str]] = {
    "cut": (cut(0.9), "must be a file of a state: File is not a zip file"),
    "a bit of a number": (flipped(0.5), "must be a file of a state: it is damaged, the checksum of its record"),
    "compressed": (record(lambda *own: own, zipfile.ZIP_DEFLATED), "its records must be stored uncompressed"),
    "swollen": (swollen, "must fit into its"),
    "a record less": (record(lambda *own: None if own[0].endswith("/7") else own), "must be a file of a state"),
    "no pickle": (record(lambda *own: None if own[0].endswith(".pkl") else own), "it must have one record data.pkl, got 0"),
    "a pickle cut": (record(lambda name, own: (name, own[:99] if name.endswith(".pkl") else own)), "must be a file of a state"),
    "a long pickle": (pickled(b"\x80\x02}" + b"0}" * 2**17 + b"."), "data.pkl must have at most"),
    "code": (pickled(b"cos\nsystem\n(S'true'\ntR."), "it must hold tensors, numbers and text alone, got os.system"),
    "bytes to be allocated": (pickled(b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."), "alone, got __builtin__.bytearray"),
    "a tensor to be allocated": (pickled(b"\x80\x02ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R."), "alone, got torch.FloatTensor"),
    "copies of copies": (pickled(b"\x80\x02ccollections\nOrderedDict\nq\x00]\x85R."), "must be a file of a state"),
    "a deep pickle": (pickled(b"\x80\x02" + b"]" * 9999 + b"a" * 9998 + b"."), "must hold named tensors, got list"),
    "an object": (leaves(lambda _: {"a": torch.nn.Linear(2, 2)}), "alone, got torch.nn.modules.linear.Linear"),
    "a list": (leaves(lambda content: list(content.values())), "must hold named tensors, got list"),
    "a sparse tensor": (one(W1, torch.eye(4).to_sparse()), "it must hold tensors, numbers and text alone"),
    "a repeated tensor": (one(W1, torch.ones(1).expand(1, 4, 4)), "that repeat some"),
    "a large repeated tensor": (one(W1, torch.ones(1).expand(1, 2**40, 2**20)), "that repeat some"),
    "integers": (one(W1, lambda own: own.long()), f"{W1} must be torch.float32 with 3 axes, got torch.int64"),
    "complex": (one(W1, lambda own: own * 1j), f"{W1} must be torch.float32 with 3 axes, got torch.complex64"),
    "eight bits": (one(W1, lambda own: own.to(torch.float8_e4m3fn)), "got torch.float8_e4m3fn"),
    "double": (one(W1, lambda own: own.double()), "got torch.float64 with 3 axes"),
    "another shape": (one(W1, torch.ones(1, 4, 5)), f"{W1} must have shape (1, 4, 4), got (1, 4, 5)"),
    "another batch": (one(W1, torch.ones(2, 1, 4, 4)), f"{W1} must be torch.float32 with 3 axes"),
    "no axes": (one(SUM, torch.ones(())), f"{SUM} must be torch.float32 with 2 axes"),
    "a number": (one(W1, 3), f"{W1} must be torch.float32 with 3 axes, got int"),
    "a list in its place": (one(W1, [1]), "got list"),
    "nothing": (one(W1, None), "got NoneType"),
    "a position below 0": (one(POSITION, -3), f"{POSITION} must be an integer >= 0, got -3"),
    "a position beyond 64 bits": (one(POSITION, 2**70), f"{POSITION} must be below 2**63"),
    "a position of text": (one("position", "3"), "position must be int, got str"),
    "a switch for a position": (one("position", True), "position must be int, got bool"),
    "a name less": (leaves(lambda content: content.pop("position") and None), "missing: position, unknown: none"),
    "a name more": (leaves(lambda content: content.update(more=1)), "missing: none, unknown: more"),
    "a number for a name": (leaves(lambda content: content.update({3: 1})), "unknown: 3"),
    "many names": (leaves(lambda content: content.update({f"x{i}": 1 for i in range(999)})), "missing: none, unknown: x0"),
    "another configuration": (one("config", CONFIG.replace(read="pre").to_json()), "config must be that of the model, got read='pre' for 'post'"),
    "no configuration": (one("config", "{"), "config must be JSON"),
    "a deep configuration": (one("config", "[" * 99999), "config must be JSON, got one that is nested too deeply"),
    "another kind of configuration": (one("config", torch.ones(3)), "config must be HopeConfig, got torch.float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_states(name: str, folder: Path) -> None:
    damage, message = STATES[name]
    damage(folder / "state.pt")
    refused(lambda: state_of(folder / "state.pt"), folder / "state.pt", message)


def test_a_state_of_another_model(tmp_path: Path) -> None:
    for number, changes in enumerate(
        ({"width": 8}, {"mixer": "titans"}, {"blocks": 2}, {"memory_chunk_size": 8})
    ):
        path = tmp_path / f"{number}.pt"
        states.save_state(path, Hope(CONFIG.replace(**changes)).initial_state())
        refused(lambda path=path: state_of(path), path, "must")


@pytest.mark.parametrize("mixer", ["softmax_attention", "titans", "self_modifying_titans"])
def test_batches_and_lengths_may_be_others(mixer: str, tmp_path: Path) -> None:
    model, tokens, path = Hope(CONFIG.replace(mixer=mixer)), torch.ones(2, 3, 5).long(), tmp_path / "state.pt"
    for read in (model, model.adapt):
        _, state = read(tokens)
        _, like = read(tokens[:1, :1, :4])
        states.save_state(path, state)
        back = states.flattened(states.load_state(path, like))
        assert same(back.values(), states.flattened(state).values())


def test_of_the_keys_of_attention_the_number_alone_may_be_another(tmp_path: Path) -> None:
    model, path, name = (
        Hope(CONFIG.replace(mixer="softmax_attention")),
        tmp_path / "state.pt",
        "blocks.0.mixer.keys",
    )
    states.save_state(path, model.initial_state())
    one(name, torch.ones(1, 9, 4))(path)
    assert states.load_state(path, model.initial_state()).blocks[0].mixer.keys.shape == (1, 9, 4)
    one(name, torch.ones(1, 9, 5))(path)
    refused(
        lambda: states.load_state(path, model.initial_state()),
        path,
        f"{name} must have shape (1, 9, 4), got (1, 9, 5)",
    )


def test_a_state_may_overflow_and_a_file_of_torch_may_hold_other_things(tmp_path: Path) -> None:
    state = states.mapped(lambda leaf: leaf * float("nan"), Hope(CONFIG).initial_state())
    states.save_state(tmp_path / "state.pt", state)
    assert state_of(tmp_path / "state.pt").blocks[0].mixer.memory.weights["w1_k"].isnan().all()
    content = OrderedDict(a=[torch.ones(2, dtype=torch.bfloat16), {"b": (1, 2.5, None, True, "text")}], c=torch.nn.Parameter(torch.ones(1)))  # fmt: skip
    torch.save(content, tmp_path / "any.pt")
    assert states.read_torch(tmp_path / "any.pt")["a"][1] == content["a"][1]


def test_states_have_their_checksums_whatever_the_process_has_set(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        states.save_state(tmp_path / "state.pt", Hope(CONFIG).initial_state())
        assert not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(
        states.flattened(state_of(tmp_path / "state.pt")).values(),
        states.flattened(Hope(CONFIG).initial_state()).values(),
    )


# --- at random ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "state.pt"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_damaged_at_random(name: str, folder: Path) -> None:
    path, draw = folder / name, random.Random(name)
    like, content = Hope(CONFIG).initial_state(), path.read_bytes()

    def values() -> list[Any]:
        if name == "state.pt":
            return list(states.flattened(states.load_state(path, like)).values())
        model = Hope.load(folder)
        return [model.config, *model.state_dict().values()]

    right, messages = values(), []
    for _ in range(170):
        path.write_bytes(damaged(content, draw))
        try:
            assert same(values(), right), "a wrong success"
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 128
    assert all(str(path) in message and "\n" not in message for message in messages)


# --- memory ---------------------------------------------------------------------------------------------------------

BOMBS = """
import json, pickle, resource, struct, sys, zipfile
from pathlib import Path
import torch
from hope_ref.config import HopeConfig
from hope_ref.parallel import states
from hope_ref.parallel.hope import Hope

folder = Path(sys.argv[1])
config = HopeConfig(width=4, blocks=1, vocabulary=5)
model = Hope(config)
like = model.initial_state()
model.save(folder)
states.save_state(folder / "state.pt", like)
Hope.load(folder), states.load_state(folder / "state.pt", like)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "linux" else 1024)

def bomb(name, load):
    before = peak()
    try:
        load()
    except ValueError as error:
        print(f"{name}: {peak() - before:.0f} kB, {error}")
        assert peak() - before < 60_000, name
    else:
        raise AssertionError(name)

weights, state = folder / "model.safetensors", folder / "state.pt"
honest, settings = weights.read_bytes(), json.loads((folder / "config.json").read_text())
content = torch.load(state, weights_only=True)

with zipfile.ZipFile(state, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
    with archive.open("archive/data.pkl", "w") as file:
        for _ in range(100):
            file.write(bytes(2**20))
bomb("deflated pickle", lambda: states.load_state(state, like))

torch.save({**content, "position": bytearray(8)}, state)
bomb("bytearray", lambda: states.load_state(state, like))

big = b"(" + b"K\\x01" * 30_000 + b"lq\\x01"
bytes_ = b"\\x80\\x02ccollections\\nOrderedDict\\nq\\x00" + big + b"(" + b"h\\x00h\\x01\\x85R" * 4_000 + b"t."
with zipfile.ZipFile(state, "w") as archive:
    archive.writestr("archive/data.pkl", bytes_)
bomb("copies", lambda: states.load_state(state, like))

torch.save({**content, "blocks.0.mixer.memory.weights.w1_k": torch.ones(1).expand(1, 2**20, 2**20)}, state)
bomb("expanded", lambda: states.load_state(state, like))

with open(weights, "wb") as file:  # sparse: declares what it has, and has nothing
    text = json.dumps({"embedding": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}).encode()
    file.write(struct.pack("<Q", len(text)) + text)
    file.truncate(8 + len(text) + 2**40)
bomb("a terabyte of weights", lambda: Hope.load(folder))

weights.write_bytes(struct.pack("<Q", 2**60) + b"{}")
bomb("a header beyond the file", lambda: Hope.load(folder))

from safetensors.torch import save_file
save_file(dict(model.named_parameters()), weights)
for changes in ({"width": 10**6}, {"hidden": 10**12}, {"vocabulary": 10**12}, {"blocks": 10**9}, {"width": 10**10}, {"heads": 4, "hidden": 2**31}):
    (folder / "config.json").write_text(json.dumps({**settings, **changes}))
    bomb(str(changes), lambda: Hope.load(folder))

with open(folder / "config.json", "wb") as file:
    file.truncate(2**40)
bomb("a terabyte of configuration", lambda: Hope.load(folder))
(folder / "config.json").write_text("[" + "[]," * 2**18 + "]")
bomb("many lists", lambda: Hope.load(folder))
"""


@pytest.mark.slow  # a process and its memory; that such files are refused is tested above
@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_no_file_makes_us_allocate_what_it_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
