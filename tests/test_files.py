"""Files are replaced whole or not at all, whatever happens in the middle; damaged ones are refused in words."""

import fcntl
import json
import math
import os
import resource
import signal
import socket
import struct
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save

from textvae.errors import RequestError, WorkError
from textvae.files import (
    file_digest,
    locked,
    read_json,
    read_tensors,
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
    with replacing(tmp_path / "a.bin") as file:
        file.write(b"12345")
    assert happened == [("fsync", 5), ("replace", "a.bin")]


@pytest.mark.parametrize("write", ["text", "tensors"])
def test_a_full_disk_is_said_with_the_place_and_the_old_file_stays(tmp_path, write):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"old")
    with full_disk(4096), pytest.raises(WorkError, match=r"weights\.bin: cannot be written: .*unchanged") as caught:
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
    for value, place in (
        ({"a": float("nan")}, "^a = nan: is not finite"),
        ({"a": {"b": (1.0, [2, -math.inf])}}, r"^a\.b\[1\]\[1\] = -inf: is not finite"),
    ):
        with pytest.raises(WorkError, match=place):
            write_json(path, value)
    assert read_json(path) == {"a": 1}


def test_text_that_utf_8_lacks_is_refused_and_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RequestError, match=r"a\.txt: cannot store .*not Unicode"):
        write_text(tmp_path / "a.txt", "name of a file: b\udcff")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    with pytest.raises(RequestError, match="folder: is a folder"), replacing(tmp_path / "folder"):
        pytest.fail("the block was entered")
    write_text(tmp_path / "link", "a link to a folder is replaced like others")
    assert (tmp_path / "link").is_file() and (tmp_path / "folder").is_dir()


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


@contextmanager
def umask(mask: int):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def permissions(path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize(("mask", "expected"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_permissions_of_the_umask(tmp_path, mask, expected):
    with umask(mask):
        write_text(tmp_path / "a.txt", "a")
        write_tensors(tmp_path / "a.safetensors", {"w": torch.zeros(2)})
    assert permissions(tmp_path / "a.txt") == permissions(tmp_path / "a.safetensors") == expected


def test_a_file_keeps_the_permissions_that_it_was_given(tmp_path):
    path = tmp_path / "a.txt"
    for mode in (0o600, 0o664, 0o444):
        path.touch()
        path.chmod(mode)
        with umask(0o022):
            write_text(path, "new")
        assert permissions(path) == mode
        assert path.read_text() == "new"


def test_a_link_is_replaced_and_what_it_leads_to_is_not(tmp_path):
    (tmp_path / "other.txt").write_text("other")
    (tmp_path / "a.txt").symlink_to("other.txt")
    write_text(tmp_path / "a.txt", "new")
    assert not (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "other.txt").read_text() == "other"


def test_no_link_is_followed_on_the_way(tmp_path, monkeypatch):
    """Whoever guesses the temporary name, today's or the one that there once was, plants a link there in vain."""
    names = iter(["0" * 12, "1" * 12])
    monkeypatch.setattr("textvae.files.secrets.token_hex", lambda n: next(names))
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".a.txt.part").symlink_to("victim")
    (tmp_path / f".a.txt.{'0' * 12}.part").symlink_to("victim")
    with pytest.raises(WorkError, match="File exists"):
        write_text(tmp_path / "a.txt", "new")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_device_or_pipe_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null", "/dev/stdout"):
        with pytest.raises(RequestError, match="device or a pipe"), replacing(path):
            pass
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "語" * 85, "a b'\n[*].txt"])
def test_any_name_that_a_file_can_have_is_written(tmp_path, name):
    write_text(tmp_path / name, "new")
    assert names(tmp_path) == [name]


@contextmanager
def process(work):
    """Another process that does some work, a function of what it calls when it has come to its middle."""
    reading, writing_end = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            work(lambda: (os.write(writing_end, b"!"), signal.pause()))
        finally:
            os._exit(0)
    try:
        assert os.read(reading, 1) == b"!"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing_end)


def writer(path):
    """Another process in the middle of writing a file."""

    def work(wait):
        with replacing(path) as file:
            file.write(b"half")
            file.flush()
            wait()

    return process(work)


def test_what_a_killed_writer_left_is_removed_and_a_live_one_is_let_alone(tmp_path):
    path = tmp_path / "a.txt"
    with writer(path):
        with writer(path), writer(tmp_path / "b.txt"):
            pass
        assert len(names(tmp_path)) == 3
        write_text(path, "whole")
        left = names(tmp_path)
        assert path.read_text() == "whole"
        assert len(left) == 3 and sum(name.startswith(".a.txt.") for name in left) == 1  # b's is another file's
    write_text(path, "again")
    assert len(names(tmp_path)) == 2


def test_of_several_writers_at_once_one_wins_whole(tmp_path):
    path = tmp_path / "a.txt"
    racers = []
    for letter in "xyz":
        if not (pid := os.fork()):
            code = 1
            try:
                for _ in range(60):
                    write_text(path, letter * 50_000)
                code = 0
            finally:
                os._exit(code)
        racers.append(pid)
    seen, ends = set(), []
    while len(ends) < len(racers):
        if path.exists():
            text = path.read_text()
            assert len(text) == 50_000 and len(set(text)) == 1
            seen.add(text[0])
        pid, status = os.waitpid(-1, os.WNOHANG)
        ends += [status] if pid else []
    assert ends == [0, 0, 0]
    assert len(seen) > 1 and names(tmp_path) == ["a.txt"]


def test_tensors_are_written_as_the_format_s_own_library_does(tmp_path):
    tensors = {
        "b": torch.randn(3, 5),
        "ü": torch.randn(2).bfloat16(),
        "a": torch.tensor(1.5, dtype=torch.float64),
        "flag": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
        "n": torch.arange(3),
    }
    path = tmp_path / "t.safetensors"
    write_tensors(path, tensors, {"name": "ü", "step": 3})
    state = json.dumps({"name": "ü", "step": 3})
    assert path.read_bytes() == save(tensors, {"state": state})


def test_a_lock_is_held_by_one_and_says_by_whom(tmp_path):
    path = tmp_path / ".lock"

    def hold(wait):
        with locked(path, "runs/a"):
            wait()

    with process(hold) as pid:
        told = rf"runs/a: in use by process {pid} on {socket.gethostname()} since 2\d{{3}}-.* UTC; wait"
        for _ in range(2):
            with pytest.raises(RequestError, match=told), locked(path, "runs/a"):
                pass
    assert names(tmp_path) == [".lock"]
    with locked(path, "runs/a"):  # what a killed process leaves is no lock
        assert json.loads(path.read_text())["pid"] == os.getpid()
        with pytest.raises(RequestError, match=f"process {os.getpid()} "), locked(path, "runs/a"):
            pass
    assert names(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[1]", '"x"', "[" * 5000, '{"pid": []}'])
def test_a_damaged_lock_that_no_one_holds_is_in_nobody_s_way(tmp_path, content):
    path = tmp_path / ".lock"
    path.write_text(content)
    if content.startswith('{"'):
        with pytest.raises(RequestError, match="in use by process"), locked(path, "a"):
            pass
        return
    with locked(path, "a"):
        pass
    assert names(tmp_path) == []


def details(**changed):
    """What the lock of another process says."""
    boot = open("/proc/sys/kernel/random/boot_id").read().strip()
    return {"pid": os.getpid(), "began": "1", "host": socket.gethostname(), "boot": boot, "since": "then"} | changed


def test_a_lock_of_another_machine_is_not_broken(tmp_path):
    path = tmp_path / ".lock"
    path.write_text(json.dumps(details(host="elsewhere", boot="of another")))
    with pytest.raises(RequestError, match=r"on elsewhere since then, which did not release it.*delete .*\.lock"):
        with locked(path, "a"):
            pass
    path.unlink()
    with locked(path, "a"):
        pass


@pytest.mark.parametrize("told", [{"host": "container-2"}, {"boot": "before the crash"}, {}])
def test_a_lock_left_on_this_machine_is_taken_over(tmp_path, told):
    path = tmp_path / ".lock"
    path.write_text(json.dumps(details(**told)))
    with locked(path, "a"):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_where_a_file_system_has_no_locks_the_process_is_looked_for(tmp_path, monkeypatch):
    def refuse(number, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / ".lock"
    with locked(path, "a"):
        with pytest.raises(RequestError, match=f"in use by process {os.getpid()} .*delete"), locked(path, "a"):
            pass
    for ended in (
        details(),
        details(pid=2**22 + 1),
        details(boot="before the crash"),
    ):  # the first: another's number
        path.write_text(json.dumps(ended))
        with locked(path, "a"):
            pass
    write_text(tmp_path / "b.txt", "written all the same")
    assert names(tmp_path) == ["b.txt"]
