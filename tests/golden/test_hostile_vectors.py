"""No file is taken on trust: every damage to a golden vector is one ValueError, found in little memory."""

import hashlib
import io
import json
import os
import random
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from hope_ref import golden
from hope_ref.golden import archive, manifest

OURS = "hope_ref.golden.ours"
BASES = {
    "delta_rule": {},
    "titans": {"architecture": "mlp", "chunk_size": 4},
    "memory_step": {"objective": "l2", "step": "implicit"},
    "m3": {"slow_every": 3},
}


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """Per component the vector, the bytes of its arrays, and its manifest."""
    folder, every = tmp_path_factory.mktemp("honest"), {}
    for name, options in BASES.items():
        path = folder / f"{name}.npz"
        golden.save(path, golden.make(name, options, seed=3, tokens=6, width=3, hidden=2))
        fields = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        every[name] = golden.load(path), path.read_bytes(), fields
    return every


def write(path, content, fields, seal=True):
    """The pair as an enemy would write it: with checksums that fit."""
    if seal:
        fields = {**fields, "sha256": hashlib.sha256(content).hexdigest()}
        fields["manifest_sha256"] = manifest.digest(fields)
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps(fields), encoding="utf-8")


def members(content):
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return [(entry.filename, file.read(entry)) for entry in file.infolist()]


def zipped(entries, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in entries:
            file.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0))
    return buffer.getvalue()


def refusal(path):
    """What `load` says: one line, which names the file."""
    with pytest.raises(ValueError) as error:  # noqa: PT011  # each caller looks at the words
        golden.load(path)
    text = str(error.value)
    assert "\n" not in text
    assert str(path.with_suffix("")) in text
    assert type(error.value) is ValueError
    return text


# --- damaged arrays: the manifest is honest but for the checksum of what follows ---


def with_member(change):
    """Every member through ``change(name, data)``, which returns (name, data) or None."""
    return lambda content: zipped(filter(None, (change(*member) for member in members(content))))


def with_array(change, name="k.npy"):
    def changed(member, data):
        array = np.lib.format.read_array(io.BytesIO(data))
        return (member, npy(change(array)) if member == name else data)

    return with_member(changed)


def with_header(header, name="k.npy"):
    """The member with other words in its header, as long as before."""

    def changed(member, data):
        if member != name:
            return member, data
        length = int.from_bytes(data[8:10], "little")
        return member, data[:10] + header.encode().ljust(length - 1) + b"\n" + data[10 + length :]

    return with_member(changed)


def poked(place, value):
    """One array with one entry that is no number."""

    def change(array):
        array.reshape(-1)[place] = value
        return array

    return change


def twice(content, last=None):
    """The first array a second time, behind the others or in the place of the last."""
    entries = members(content)[:last]
    with warnings.catch_warnings(action="ignore"):
        return zipped([*entries, entries[0]])


def counted(content, count):
    """The same file, whose last record says that it has so many arrays."""
    return content[:-14] + 2 * count.to_bytes(2, "little") + content[-10:]


HEADER = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }"
ARRAYS = {
    "empty file": (lambda content: b"", "a.npz must be a whole .npz archive"),
    "half of it": (lambda content: content[: len(content) // 2], "a file that does not end as one"),
    "text": (lambda content: b"these are not arrays" * 9, "must be a whole .npz archive"),
    "one array less": (with_member(lambda n, d: None if n == "k.npy" else (n, d)), "7 arrays, got 6"),
    "another name": (with_member(lambda n, d: ("kk.npy" if n == "k.npy" else n, d)), "unknown: kk"),
    "a path": (with_member(lambda n, d: (f"../{n}" if n == "k.npy" else n, d)), "unknown: ../k.npy"),
    "no ending": (with_member(lambda n, d: ("k" if n == "k.npy" else n, d)), "missing: k.npy, unknown: k"),
    "one array more": (lambda content: zipped([*members(content), ("z.npy", b"")]), "7 arrays, got 8"),
    "an array twice": (lambda content: counted(twice(content), 7), "hold each array once, got q.npy, k"),
    "an array for another": (lambda content: twice(content, last=-1), "missing: final_memory.npy"),
    "bytes": (with_member(lambda n, d: (n, b"x" * len(d) if n == "k.npy" else d)), "k.npy must begin with"),
    "no bytes": (with_member(lambda n, d: (n, b"" if n == "k.npy" else d)), "k.npy must unpack to 144 bytes"),
    "float32": (with_array(lambda a: a.astype("<f4")), "got {'descr': '<f4'"),
    "float32 in name": (with_header(HEADER % ("<f4", False, "(6, 3)")), "must begin with {'descr': '<f8'"),
    "big-endian": (with_array(lambda a: a.astype(">f8")), "got {'descr': '>f8'"),
    "column order": (with_array(np.asfortranarray), "'fortran_order': True"),
    "integers": (with_array(lambda a: a.astype("<i8")), "got {'descr': '<i8'"),
    "objects": (with_header(HEADER % ("|O", False, "(6, 3)")), "got {'descr': '|O'"),
    "words": (with_array(lambda a: a.astype("S8")), "got {'descr': '|S8'"),
    "transposed": (with_array(lambda a: a.T.copy()), "'shape': (6, 3), }, got"),
    "a huge shape": (with_header(HEADER % ("<f8", False, f"({10**12},)")), "'shape': (1000000000000,)"),
    "a negative shape": (with_header(HEADER % ("<f8", False, "(-6, -3)")), "'shape': (-6, -3)"),
    "code for a header": (with_header("__import__('os').abort()"), "got __import__"),
    "a header without an end": (with_header("{'descr': ((((((((('"), "got {'descr': ((((((((('"),
    "another version": (
        with_member(lambda n, d: (n, d[:6] + b"\x03" + d[7:] if n == "k.npy" else d)),
        "k.npy must begin with",
    ),
    "a header over all": (
        with_member(lambda n, d: (n, d[:8] + b"\xff\xff" + d[10:] if n == "k.npy" else d)),
        "k.npy must begin with",
    ),
    "an entry more": (with_array(lambda a: np.append(a, 1.0)), "must begin with"),
    "bytes behind": (with_member(lambda n, d: (n, d + b"12345678")), "bytes after its header, got"),
    "NaN in an input": (with_array(poked(2, np.nan)), "k.npy must be finite, got 1 NaN or infinite"),
    "inf in a result": (with_array(poked(0, -np.inf), "outputs.npy"), "outputs.npy must be finite"),
    "another compression": (lambda c: zipped(members(c), zipfile.ZIP_BZIP2), "must be deflated or stored"),
    "LZMA": (lambda c: zipped(members(c), zipfile.ZIP_LZMA), "must be deflated or stored"),
    "a damaged stream": (lambda c: c[:80] + bytes(30) + c[110:], "must be a whole .npz archive, got"),
    "a comment behind": (lambda c: c[:-2] + b"\x04\x00abcd", "does not end as one"),
    "a large directory": (
        lambda c: c[:-22] + b"PK\x06\x07" + bytes(16) + c[-22:],
        "does not end as one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", ARRAYS)
def test_damaged_arrays_are_refused(damage, honest, tmp_path):
    change, message = ARRAYS[damage]
    _, content, fields = honest["delta_rule"]
    write(tmp_path / "a.npz", change(content), fields)
    text = refusal(tmp_path / "a.npz")
    assert text.startswith(str(tmp_path / "a.npz"))
    assert message in text


def test_stored_arrays_and_any_order_are_welcome(honest, tmp_path):
    """What NumPy writes itself is a vector, too."""
    vector, content, fields = honest["delta_rule"]
    write(tmp_path / "a.npz", zipped(members(content)[::-1], zipfile.ZIP_STORED), fields)
    assert same(golden.load(tmp_path / "a.npz"), vector)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **vector.inputs, **vector.results)
    write(tmp_path / "a.npz", buffer.getvalue(), fields)
    again = golden.load(tmp_path / "a.npz")
    assert same(again, vector)
    assert all(array.flags.writeable for array in again.inputs.values())


def same(one, other):
    """Equal in every field, arrays bit by bit."""
    if [*one.inputs, *one.results] != [*other.inputs, *other.results]:
        return False
    pairs = [
        (getattr(one, part)[n], a) for part in ("inputs", "results") for n, a in getattr(other, part).items()
    ]
    plain = [vector._replace(inputs={}, results={}) for vector in (one, other)]
    return plain[0] == plain[1] and all(
        a.tobytes() == b.tobytes() and a.shape == b.shape and a.dtype == b.dtype for a, b in pairs
    )


# --- damaged manifests: their checksums fit ---


def field(name, value):
    return lambda fields: {**fields, name: value}


def inside(name, key, value):
    return lambda fields: {**fields, name: {**fields[name], key: value}}


def deep(depth):
    nested = []
    for _ in range(depth):
        nested = [nested]
    return nested


FIELDS = {
    "tolerance 0": ("m3", field("tolerance", 0.0), "tolerance must be a number in (0, 1], got 0.0"),
    "tolerance -1": ("m3", field("tolerance", -1e-9), "tolerance must be a number in (0, 1]"),
    "tolerance 2": ("m3", field("tolerance", 2.0), "tolerance must be a number in (0, 1], got 2.0"),
    "tolerance NaN": ("m3", field("tolerance", float("nan")), "each number must be finite, got NaN"),
    "tolerance inf": ("m3", field("tolerance", float("inf")), "each number must be finite, got Infinity"),
    "tolerance an integer": ("m3", field("tolerance", 1), "tolerance (must be float, got int)"),
    "seed -1": ("m3", field("seed", -1), "seed must be an integer in [0, 2^128), got -1"),
    "seed huge": ("m3", field("seed", 2**128), "seed must be an integer in [0, 2^128)"),
    "seed without end": ("m3", field("seed", 10**50), "each integer must have at most 40 digits"),
    "seed a switch": ("m3", field("seed", True), "seed (must be int, got bool)"),
    "format a switch": ("m3", field("format", True), "format (must be int, got bool)"),
    "tokens -1": ("m3", field("tokens", -1), "tokens must be an integer >= 0, got -1"),
    "tokens huge": ("m3", field("tokens", 10**12), "tokens must be at most 1000000, got 1000000000000"),
    "tokens other": ("m3", field("tokens", 7), "inputs: gradient must have shape [7, 2, 3], got [6, 2, 3]"),
    "width 0": ("m3", field("width", 0), "width must be an integer >= 1, got 0"),
    "width huge": ("m3", field("width", 10**9), "width must be at most 10000"),
    "hidden a float": ("m3", field("hidden", 2.0), "hidden (must be int, got float)"),
    "component unknown": ("m3", field("component", "m4"), "component must be one of 'self_modifying"),
    "component of lines": ("m3", field("component", "m3\nm3"), "got 'm3\\nm3'"),
    "component another": ("m3", field("component", "adam_step"), "options of adam_step must be among eta"),
    "component a list": ("m3", field("component", ["m3"]), "component (must be str, got list)"),
    "equations of numbers": ("m3", field("equations", [1]), "equations must be a list of words, got [1]"),
    "equations none": ("m3", field("equations", []), "equations must be a list of words, got []"),
    "no inputs": ("m3", field("inputs", {}), "inputs must be those of the component; missing: gradient, w"),
    "no results": ("m3", field("results", {}), "results must be those of the component; missing: final_m1"),
    "an input more": ("m3", inside("inputs", "z", [3]), "missing: none, unknown: z"),
    "a path as name": ("m3", inside("results", "../z", [3]), "unknown: ../z"),
    "another shape": ("m3", inside("inputs", "w", [3, 2]), "w must have shape [2, 3], got [3, 2]"),
    "a shape of floats": ("m3", inside("inputs", "w", [2.0, 3.0]), "must have shape [2, 3], got [2.0, 3.0]"),
    "a shape of switches": ("m3", inside("inputs", "w", [True, 3]), "must have shape [2, 3], got [True, 3]"),
    "a shape of words": ("m3", inside("inputs", "w", "23"), "w must have shape [2, 3], got 23"),
    "a huge shape": ("m3", inside("inputs", "w", [10**12]), "w must have shape [2, 3], got [1000000000000]"),
    "an unknown option": ("m3", inside("options", "lrr", 1), "options of m3 must be among lr, beta1"),
    "a draw as option": ("titans", inside("options", "architecture", "mlp"), "options of titans must be"),
    "an unknown draw": ("m3", inside("draws", "z", 1), "draws of m3 must be among none, got z"),
    "an unknown word": ("m3", inside("options", "accumulate", "average"), "must be one of 'ema', 'sum'"),
    "a list for a word": ("m3", inside("options", "accumulate", ["ema"]), "accumulate must be one of"),
    "a switch for a number": ("m3", inside("options", "lr", True), "lr must be a number, a word, None or"),
    "a switch for a count": ("m3", inside("options", "slow_every", True), "slow_every must be a number"),
    "an object for a number": ("m3", inside("options", "lr", {"a": 1}), "lr must be a number, a word"),
    "lists within lists": ("m3", inside("options", "lr", [[1.0]]), "lr must be a number, a word"),
    "a long list": ("m3", inside("options", "lr", [1.0] * 1000), "lr must have at most 16 entries, got 1000"),
    "a long word": ("m3", inside("options", "accumulate", "x" * 1000), "a word of at most 40 letters"),
    "work without end": ("m3", inside("options", "steps", 10**9), "steps must be at most 100"),
    "a huge number": ("m3", inside("options", "slow_every", 10**30), "slow_every must be at most"),
    "deep lists": ("m3", inside("options", "lr", deep(500)), "lr must be a number, a word"),
    "sha256 another": ("m3", lambda fields: fields, "sha256 must be 00000000, got"),
    "no numbers": ("m3", lambda f: no_token(f), "results must hold at least one number, got none"),
    "more than fits": ("delta_rule", lambda f: long(f, 999_999), "must have at most 268435456 bytes"),
}  # fmt: skip


def no_token(fields):
    """M3 on no step: it remembers nothing, and has no outputs."""
    return {
        **fields,
        "tokens": 0,
        "inputs": {"w": [2, 3], "gradient": [0, 2, 3]},
        "results": {"outputs": [0, 2, 3]},
    }


def long(fields, tokens):
    """The delta rule on so many tokens, of larger vectors."""
    inputs = {"q": [tokens, 30], "k": [tokens, 30], "v": [tokens, 2], "eta": [tokens], "memory": [2, 30]}
    results = {"outputs": [tokens, 2], "final_memory": [2, 30]}
    return {**fields, "tokens": tokens, "width": 30, "inputs": inputs, "results": results}


@pytest.mark.parametrize("damage", FIELDS)
def test_damaged_manifests_are_refused(damage, honest, tmp_path):
    name, change, message = FIELDS[damage]
    _, content, fields = honest[name]
    fields = change(fields)
    write(tmp_path / "a.npz", content, fields)
    if damage == "sha256 another":
        fields["sha256"] = "0" * 8
        fields["manifest_sha256"] = manifest.digest(fields)
        write(tmp_path / "a.npz", content, fields, seal=False)
    assert message in refusal(tmp_path / "a.npz")


TEXTS = {
    "deep": (b'{"format": ' + b"[" * 100_000, "nested too deeply"),
    "no UTF-8": (b'{"format": "\xff\xfe"}', "must be JSON in UTF-8"),
    "UTF-16": ('{"format": 1}'.encode("utf-16"), "must be JSON in UTF-8"),
    "two of a name": (b'{"format": 1, "format": 1}', "each name must stand once, got 'format' twice"),
    "long": (b" " * 2**20 + b"{}", "must have at most 1048576 bytes"),
    "nothing": (b"", "must be JSON"),
    "null": (b"null", "must be one JSON object, got NoneType"),
    "zeros": (bytes(1000), "must be JSON"),
}


@pytest.mark.parametrize("damage", TEXTS)
def test_what_is_no_manifest_is_refused(damage, honest, tmp_path):
    text, message = TEXTS[damage]
    write(tmp_path / "a.npz", *honest["m3"][1:])
    (tmp_path / "a.json").write_bytes(text)
    assert message in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize("ending", ["npz", "json"])
def test_what_is_no_file_is_refused(ending, honest, tmp_path):
    path = tmp_path / f"a.{ending}"
    write(tmp_path / "a.npz", *honest["m3"][1:])
    path.unlink()
    assert "must be there" in refusal(path)
    path.mkdir()
    assert "must be a file, got a folder" in refusal(path)
    path.rmdir()
    path.symlink_to(tmp_path / "nowhere")
    assert "must be there" in refusal(path)
    path.unlink()
    path.symlink_to(path)
    assert "symbolic links" in refusal(path)
    if hasattr(os, "mkfifo"):
        path.unlink()
        os.mkfifo(path)
        assert "must be a regular file" in refusal(path)


def test_a_path_that_no_file_can_have_is_refused(tmp_path):
    for name in ("a\0b.npz", "n" * 1000 + ".npz"):
        with pytest.raises(ValueError, match=r"null byte|name too long"):
            golden.load(tmp_path / name)


# --- at random ---

JUNK = [None, True, -1, 10**39, -0.5, "x", "", [], {}, [[]], {"a": None}, [None], "\ud800"]


def junk_in(rng, fields):
    """One value anywhere in the manifest is junk, or one name is gone."""
    fields = json.loads(json.dumps(fields))
    parts = ("options", "draws", "inputs", "results")
    places = [(fields, name) for name in fields if not name.endswith("sha256")]
    places += [(fields[part], name) for part in parts for name in fields[part]]
    place, name = rng.choice(places)
    if name in ("options", "draws"):
        place[name] = rng.choice([value for value in JUNK if value != {}])  # which would mean the defaults
    elif rng.random() < 0.2 and (place is fields or name in (*fields["inputs"], *fields["results"])):
        del place[name]
    else:
        place[name] = rng.choice(JUNK)
    return fields


def flipped(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def overwritten(rng, data):
    start = rng.randrange(len(data))
    return data[:start] + rng.randbytes(rng.choice((1, 4, 40))) + data[start + rng.choice((0, 4, 40)) :]


def member_damaged(rng, content):
    """One array is unpacked, damaged, and packed again: its checksum in the archive fits."""
    entries = members(content)
    place = rng.randrange(len(entries))
    name, data = entries[place]
    length = 10 + int.from_bytes(data[8:10], "little")
    header = overwritten(rng, data[:length].rstrip(b" \n"))
    kinds = [
        header + data[length:],
        header.ljust(length - 1)[: length - 1] + b"\n" + data[length:],
        data[: rng.randrange(len(data))],
        data + rng.randbytes(rng.randrange(1, 2000)),
        data[:-8] + struct.pack("<d", rng.choice((float("nan"), float("inf"), float("-inf")))),
    ]
    entries[place] = name, rng.choice(kinds)
    return zipped(entries)


def damaged(rng, honest):
    """(the vector, the arrays' bytes, the manifest's, the kind) of one damaged file."""
    name = rng.choice(list(honest))
    vector, content, fields = honest[name]
    text = json.dumps(fields).encode()
    kind = rng.choice(("cut", "flip", "overwrite", "cut text", "flip text", "swap", "member", "junk"))
    seal = kind in ("swap", "member", "junk") or rng.random() < 0.5
    if kind == "cut":
        content = content[: rng.randrange(len(content))]
    elif kind in ("flip", "overwrite"):
        content = {"flip": flipped, "overwrite": overwritten}[kind](rng, content)
    elif kind in ("cut text", "flip text"):
        seal, text = False, text[: rng.randrange(len(text))] if kind == "cut text" else flipped(rng, text)
    elif kind == "swap":
        content = honest[rng.choice([other for other in honest if other != name])][1]
    elif kind == "member":
        content = member_damaged(rng, content)
    else:
        fields = junk_in(rng, fields)
    if seal:
        fields = {**fields, "sha256": hashlib.sha256(content).hexdigest()}
        fields["manifest_sha256"] = manifest.digest(fields)
        text = json.dumps(fields).encode()
    return vector, content, text, kind


def outcome(path):
    """(the vector, ""), or (None, what the ValueError says); nothing else is raised."""
    try:
        return golden.load(path), ""
    except ValueError as error:
        return None, str(error)


def test_whatever_is_damaged_is_refused_or_harmless(honest, tmp_path):
    """160 files: a ValueError of one line, or the honest vector to the last bit; and little memory for it."""
    rng, path, kinds, harm = random.Random(15), tmp_path / "a.npz", set(), 0
    tracemalloc.start()
    for number in range(160):
        vector, content, text, kind = damaged(rng, honest)
        path.write_bytes(content)
        path.with_suffix(".json").write_bytes(text)
        again, text = outcome(path)
        if again is None:
            assert text.startswith(str(path.with_suffix(""))), (number, kind, text)
            assert "\n" not in text
            harm += 1
        else:
            assert same(again, vector), (number, kind)
        kinds.add(kind)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kinds) == 8
    assert 120 < harm < 160, "some flips hit what nobody reads"
    assert peak < 10 * 2**20


# --- memory ---


def peak_of(function):
    """Bytes that were held at one time, NumPy's, too."""
    tracemalloc.start()
    try:
        function()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def bomb(size):
    """An archive of one array, k, that unpacks to so many zeros: a thousandth of it is in the file."""
    header = npy(np.zeros((6, 3)))[:128]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open("k.npy", "w") as member:
        member.write(header)
        for _ in range(size // 2**20):
            member.write(bytes(2**20))
    return buffer.getvalue()


def shrunk(content):
    """The same file, whose directory says that k has the size that the manifest says."""
    start = content.rindex(b"PK\x01\x02")
    return content[: start + 24] + (144 + 128).to_bytes(4, "little") + content[start + 28 :]


@pytest.mark.parametrize("lie", [False, True])
def test_a_bomb_is_not_unpacked(lie, honest, tmp_path):
    """128 MB stand for gigabytes: nothing is unpacked, whatever the directory says."""
    path, content = tmp_path / "a.npz", bomb(2**27)
    content = shrunk(content) if lie else content
    write(path, content, honest["delta_rule"][2])
    assert peak_of(lambda: refusal(path)) < 3 * 2**20

    def unpack():
        with pytest.raises(ValueError, match="Bad CRC-32" if lie else r"k\.npy must unpack to 144 bytes"):
            archive.unpack(content, {"k": (6, 3)})

    assert peak_of(unpack) < 3 * 2**20


def test_an_honest_vector_needs_twice_its_size(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"k": rng.normal(size=(1000, 1000)), "q": rng.normal(size=(10, 1000))}
    shapes = {name: array.shape for name, array in arrays.items()}
    (tmp_path / "a.npz").write_bytes(archive.pack(arrays))
    size = archive.total(shapes)

    def load():
        again = archive.unpack(archive.read(tmp_path / "a.npz", shapes), shapes)
        assert all((again[name] == array).all() for name, array in arrays.items())

    assert peak_of(load) < 2 * size + 2**22


def test_a_file_that_is_too_long_is_not_read(honest, tmp_path):
    path = tmp_path / "a.npz"
    write(path, *honest["delta_rule"][1:])
    with open(path, "r+b") as file:
        file.truncate(2**26)  # of nothing
    assert peak_of(lambda: refusal(path)) < 3 * 2**20
    assert "must have at most" in refusal(path)
