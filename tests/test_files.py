"""Files are replaced whole or not at all, whatever happens in the middle; damaged ones are refused in words."""

import json
import os
import resource
import signal
import struct
from contextlib import contextmanager

import pytest
import torch

from textvae.errors import RequestError, WorkError
from textvae.files import (
    file_digest,
    read_json,
    read_tensors,
    replacement,
    replacing,
    write_json,
    write_tensors,
    write_text,
    writing,
)


@contextmanager
def full_disk(room: int):
    """A disk with room for files of `room` bytes: writes beyond fail in the kernel, in any library."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_replaced_file_has_the_new_bytes_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "one\n")
    write_text(path, "zwei ü\n")
    assert path.read_bytes() == "zwei ü\n".encode()
    assert names(tmp_path) == ["a.txt"]


def test_the_old_file_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_changes_nothing(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_the_bytes_are_on_the_disk_before_the_name_is_theirs(tmp_path, monkeypatch):
    happened = []
    monkeypatch.setattr(os, "fsync", lambda number: happened.append(("fsync", os.fstat(number).st_size)))
    monkeypatch.setattr(os, "replace", lambda old, new: happened.append(("replace", new.name)))
    with replacement(tmp_path / "a.bin") as part:
        part.write_bytes(b"12345")
    assert happened == [("fsync", 5), ("replace", "a.bin")]


@pytest.mark.parametrize("write", ["text", "tensors"])
def test_a_full_disk_is_said_with_the_place_and_the_old_file_stays(tmp_path, write):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with full_disk(4096), pytest.raises(WorkError, match=r"weights\.bin: cannot be written: .*untouched") as caught:
        if write == "text":
            write_text(path, "x" * 10_000)
        else:
            write_tensors(path, {"w": torch.zeros(10_000)})
    assert "too large" in str(caught.value)  # the kernel's own reason
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["weights.bin"]


def test_a_missing_folder_is_a_failed_work(tmp_path):
    with pytest.raises(WorkError, match=r"none/a\.json: cannot be written: No such file or directory"):
        write_json(tmp_path / "none" / "a.json", {})


def test_a_failed_work_inside_writing_keeps_its_words(tmp_path):
    with pytest.raises(WorkError, match="^mine$"), writing(tmp_path):
        raise WorkError("mine")


def test_json_refuses_what_json_lacks_and_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "b', "damaged: not JSON"),
        (b"", "damaged: not JSON"),
        (b"\xff\xfe{}", "damaged: not JSON"),
        (b"[" * 100_000, "damaged: not JSON"),
        (b"[1, 2]", "damaged: a table is expected"),
        (b"3", "damaged: a table is expected"),
    ],
)
def test_damaged_json_is_refused(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RequestError, match=rf"a\.json: {message}.*intact copy"):
        read_json(path)


def test_missing_json_and_a_folder_in_its_place_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"a\.json: missing; is .* a run folder\?"):
        read_json(tmp_path / "a.json")
    (tmp_path / "b.json").mkdir()
    with pytest.raises(RequestError, match=r"b\.json: cannot be read: Is a directory"):
        read_json(tmp_path / "b.json")


def test_tensors_and_state_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "t.safetensors"
    tensors = {
        "float": torch.tensor([[0.1, -0.0], [float("inf"), 1e-45]]),
        "double": torch.tensor(1 / 3, dtype=torch.float64),
        "integer": torch.arange(6).view(2, 3).mT,  # not contiguous
        "half": torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True),
        "empty": torch.zeros(0, 4),
    }
    state = {"step": 7, "best": float("inf"), "sums": {"kl": 0.1 + 0.2}}
    write_tensors(path, tensors, state)
    found, found_state = read_tensors(path)
    assert found_state == state
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach())
    assert torch.signbit(found["float"][0, 1])


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_tensors_cut_short_are_refused(tmp_path, share):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"w": torch.randn(50, 3)}, {"step": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RequestError, match=r"t\.safetensors: damaged: .*intact copy"):
        read_tensors(path)


def test_missing_tensors_are_refused(tmp_path):
    with pytest.raises(RequestError, match=r"t\.safetensors: missing"):
        read_tensors(tmp_path / "t.safetensors")


@pytest.mark.parametrize("state", ["[1]", "{", "3", "[" * 100_000])
def test_a_state_that_is_no_table_is_refused(tmp_path, state):
    path = tmp_path / "t.safetensors"
    header = json.dumps({"__metadata__": {"state": state}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(RequestError, match=r"t\.safetensors: damaged"):
        read_tensors(path)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "t.safetensors"
    torch.save({"w": torch.zeros(2), "trap": Trap()}, path)
    with pytest.raises(RequestError, match="damaged"):
        read_tensors(path)
    assert not (tmp_path / "sprung").exists()


def test_the_digest_is_that_of_sha256(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(RequestError, match="none: cannot be read: No such file"):
        file_digest(tmp_path / "none")
