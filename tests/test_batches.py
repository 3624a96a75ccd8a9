import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from textvae.errors import RequestError, WorkError
from textvae.text import readers, registry
from textvae.text.batches import (
    EOS,
    UNK,
    Batch,
    TokenStore,
    build,
    collate,
    epoch_batches,
    equal_length_batches,
    evaluation_batches,
    write_store,
)
from textvae.text.readers import Sentence
from textvae.text.splits import assigned_split
from textvae.text.tokenizers import Tokenizer

TRAIN = ["b a c", "b a", "b"]
PTB_LIKE = np.clip(np.random.default_rng(0).gamma(4.0, 5.3, 42_068).astype(np.int64), 1, 82) + 1


def lines(path: Path, sentences) -> Path:
    path.write_text("".join(f"{sentence}\n" for sentence in sentences))
    return path


def many(n, seed=0):
    """Sentences of 1 to 20 words out of 50, of which no two are equal."""
    random = np.random.default_rng(seed)
    return [
        " ".join([f"n{i}", *(f"w{w}" for w in random.integers(50, size=random.integers(20)))]) for i in range(n)
    ]


@pytest.fixture
def store(tmp_path):
    return build(tmp_path / "store", {"train": TRAIN}, valid=0.0, test=0.0)["train"]


def test_a_store_by_hand(tmp_path):
    folder = tmp_path / "store"
    splits = build(folder, {"train": TRAIN, "valid": ["", " a  zzz ", " \n"]})
    assert list(splits) == ["train", "valid"]
    train, valid = splits.values()
    assert [train[i].tolist() for i in range(len(train))] == [[4, 5, 6, EOS], [4, 5, EOS], [4, EOS]]
    assert train.lengths.tolist() == [4, 3, 2] and train.lengths.dtype == np.int64
    assert train.counts == {"sentences": 3, "tokens": 9, "dropped": 0, "cut": 0, "blank": 0}
    assert valid[-1].tolist() == [5, UNK, EOS] and valid.counts["blank"] == 2
    assert train.labels is None and train.label_names == []
    assert train.ids.dtype == np.uint16 and not train.ids.flags.writeable
    assert (folder / "train.ids").stat().st_size == 18
    assert Tokenizer.load(folder / "tokenizer.json").tokens[4:] == ["b", "a", "c"]
    again = TokenStore.open(folder, "train")
    assert again.fingerprint == train.fingerprint != valid.fingerprint
    with pytest.raises(IndexError):
        train[3]


def test_the_store_holds_what_the_tokenizer_gives(tmp_path):
    sentences = many(5000)  # more than one chunk
    for name, size in (("word", 40), ("character", None), ("bpe", 300)):
        folder = tmp_path / name
        store = build(folder, {"train": sentences}, tokenizer=name, vocabulary=size, valid=0.0, test=0.0)["train"]
        expected = Tokenizer.load(folder / "tokenizer.json").encode(sentences)
        assert [store[i].tolist() for i in range(len(store))] == [[*ids, EOS] for ids in expected]


def test_the_fingerprint_depends_on_ids_and_boundaries(tmp_path):
    def fingerprint(name, sentences):
        return build(tmp_path / name, {"train": sentences}, valid=0.0, test=0.0)["train"].fingerprint

    first = fingerprint("a", ["a b", "a"])
    assert first == fingerprint("b", ["a b", " a\t"])
    assert first != fingerprint("c", ["a", "a b"]) and first != fingerprint("d", ["a b a", "a b"])


def test_a_large_vocabulary_needs_wider_ids(tmp_path):
    store = build(tmp_path, {"train": [" ".join(map(str, range(70_000)))]}, valid=0.0, test=0.0)["train"]
    assert store.ids.dtype == np.int32 and store[0].max() == 70_003


def test_too_long_sentences_are_dropped_or_cut_and_counted(tmp_path):
    source = {"train": [*TRAIN, "a " * 100_000], "valid": TRAIN}
    dropped = build(tmp_path / "a", source, max_length=2)["train"]
    assert dropped.counts == {"sentences": 2, "tokens": 5, "dropped": 2, "cut": 0, "blank": 0}
    cut = build(tmp_path / "b", source, max_length=2, too_long="cut")["train"]
    assert cut.counts == {"sentences": 4, "tokens": 11, "dropped": 0, "cut": 2, "blank": 0}
    tokens = Tokenizer.load(tmp_path / "b" / "tokenizer.json").tokens
    assert [[tokens[i] for i in cut[k][:-1]] for k in (0, 3)] == [["b", "a"], ["a", "a"]]
    assert all(cut[k][-1] == EOS for k in range(4))


def test_labels_are_numbered_in_alphabetical_order_over_all_splits(tmp_path):
    rows = {"train": "pos\tgood\nneg\tbad\nmid\tso so so\n", "valid": "new\tgood\n\npos\tgood\n"}
    sources = {split: tmp_path / f"{split}.tsv" for split in rows}
    for split, text in rows.items():
        sources[split].write_text(text)
    stores = build(tmp_path / "store", sources, label=0, max_length=2)
    assert stores["train"].label_names == ["neg", "new", "pos"]
    assert stores["train"].labels.tolist() == [2, 0]  # "so so so" was dropped, with its label
    assert stores["valid"].labels.tolist() == [1, 2]
    mixed = [Sentence("a", "x", 1), Sentence("b", None, 2)]
    with pytest.raises(RequestError, match="data.label: some sentences of train have a label and some have none"):
        build(tmp_path / "mixed", {"train": mixed}, valid=0.0, test=0.0)
    with pytest.raises(RequestError, match="over 10000 different labels; is it the right column"):
        build(tmp_path / "wide", {"train": [Sentence("a", str(i), i) for i in range(10_001)]}, valid=0.0, test=0.0)


def test_one_file_is_split_by_a_hash_of_each_sentence(tmp_path):
    sentences = many(4000)
    source = lines(tmp_path / "a.txt", [*sentences, *sentences[:500]])
    stores = build(tmp_path / "store", {"train": source, "valid": None, "test": None}, valid=0.1, test=0.2, seed=3)
    tokenizer = Tokenizer.load(tmp_path / "store" / "tokenizer.json")
    sizes = {split: len(store) for split, store in stores.items()}
    assert sum(sizes.values()) == 4500
    assert abs(sizes["valid"] - 450) < 80 and abs(sizes["test"] - 900) < 110  # four standard deviations
    texts = {split: {tokenizer.decode(store[i]) for i in range(len(store))} for split, store in stores.items()}
    # The first words are unique, so in held-out splits they are unknown: the vocabulary is of train alone.
    assert all(text.startswith("<unk>") for text in texts["valid"] | texts["test"])
    expected = Counter(assigned_split(s, 0.1, 0.2, 3) for s in [*sentences, *sentences[:500]])
    assert sizes == expected
    assert texts["train"] == {s for s in sentences if assigned_split(s, 0.1, 0.2, 3) == "train"}


@given(st.text(), st.integers(0, 9))
def test_equal_sentences_share_a_split(text, seed):
    place = assigned_split(text, 0.3, 0.3, seed)
    assert place == assigned_split(f"  {' '.join(text.split())}\t", 0.3, 0.3, seed)
    assert assigned_split(text, 0.0, 0.0, seed) == "train"
    if place == "test":  # a larger share only adds to a split
        assert assigned_split(text, 0.0, 0.5, seed) == "test"


def test_the_split_depends_on_the_seed():
    splits = [[assigned_split(s, 0.5, 0.0, seed) for s in many(100)] for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_a_finished_store_is_used_again_and_only_for_the_same_request(tmp_path, monkeypatch):
    source = lines(tmp_path / "a.txt", many(100))
    folder = tmp_path / "store"

    def stamp(**arguments):
        build(folder, {"train": source}, valid=0.3, test=0.3, **arguments)
        return (folder / "meta.json").stat().st_mtime_ns

    first = stamp()
    assert stamp() == first
    second = stamp(max_length=15)
    assert second != first
    source.write_text(source.read_text() + "more\n")
    third = stamp(max_length=15)
    assert third != second
    (folder / "train.ids").write_bytes((folder / "train.ids").read_bytes()[:-2])
    fourth = stamp(max_length=15)
    assert fourth != third
    (folder / "tokenizer.json").unlink()
    fifth = stamp(max_length=15)
    assert fifth != fourth
    monkeypatch.setattr(readers, "VERSION", readers.VERSION + 1)
    assert stamp(max_length=15) != fifth


def test_the_seed_of_the_split_does_not_matter_where_all_files_are_given(tmp_path):
    sources = {"train": TRAIN, "valid": TRAIN}
    build(tmp_path, sources, seed=0)
    before = (tmp_path / "meta.json").stat().st_mtime_ns
    build(tmp_path, sources, seed=1, valid=0.2)
    assert (tmp_path / "meta.json").stat().st_mtime_ns == before


def test_stores_that_cannot_be_opened(tmp_path):
    folder = tmp_path / "store"
    with pytest.raises(RequestError, match=r"no complete token store \(meta.json is missing\); build it again"):
        TokenStore.open(folder, "train")
    build(folder, {"train": TRAIN}, valid=0.0, test=0.0)
    with pytest.raises(RequestError, match="no split 'valid'; there are train"):
        TokenStore.open(folder, "valid")
    offsets = np.fromfile(folder / "train.offsets", dtype="<i8")
    np.array([0, 4, 2, 9]).tofile(folder / "train.offsets")
    with pytest.raises(RequestError, match="train.offsets: damaged; delete"):
        TokenStore.open(folder, "train")
    offsets.tofile(folder / "train.offsets")
    (folder / "train.ids").write_bytes(b"\0" * 10)
    with pytest.raises(RequestError, match="train.ids: 10 bytes, expected 18; delete .* build the store again"):
        TokenStore.open(folder, "train")
    meta = json.loads((folder / "meta.json").read_text())
    for wrong, message in (
        (meta | {"version": 2}, "format 2, this program reads 1"),
        (meta | {"format": "x"}, "not the table of a token store"),
        (meta | {"splits": {"train": {}}}, "not the table of a token store"),
        (meta | {"splits": {"train": meta["splits"]["train"] | {"tokens": "9"}}}, "not the table of a token store"),
        (meta | {"dtype": "|O"}, "not the table of a token store"),
        ([], "not the table of a token store"),
    ):
        (folder / "meta.json").write_text(json.dumps(wrong))
        with pytest.raises(RequestError, match=message):
            TokenStore.open(folder, "train")
    (folder / "meta.json").write_text(json.dumps(meta)[:-20])
    with pytest.raises(RequestError, match="not the table of a token store; delete"):
        TokenStore.open(folder, "train")
    assert len(build(folder, {"train": TRAIN}, valid=0.0, test=0.0)["train"]) == 3  # and building repairs it


def damaged(name: str, content: bytes):
    """Contents of a store's file as a disk, or another program, may leave them."""
    yield b""
    yield content[:-1]
    yield content + b"\0\0"
    yield content[::-1]
    yield b"\xff" * len(content)
    for place in range(0, len(content), max(1, len(content) // 8)):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    if name == "meta.json":
        meta = json.loads(content)
        train = meta["splits"]["train"]
        yield json.dumps({**meta, "splits": {}}).encode()
        yield json.dumps({**meta, "splits": {"train": train}}).encode()
        yield json.dumps({**meta, "label_names": [0, 1, 2]}).encode()
        for count in (-1, 2**70):
            yield json.dumps({**meta, "splits": {**meta["splits"], "train": {**train, "tokens": count}}}).encode()


@pytest.mark.parametrize("name", ["meta.json", "tokenizer.json", "train.ids", "train.offsets", "train.labels"])
def test_a_damaged_store_is_built_again(tmp_path, name):
    """Not a single changed bit of the tokens, their places or their labels is taken for what was written."""
    rows = [Sentence(f"a b c{i % 7}", "good" if i % 3 else "bad", i) for i in range(40)]

    def made():
        stores = build(tmp_path, {"train": rows, "valid": rows[:5]}, min_count=2)
        return {
            split: (store.sentences(), [store.label_names[i] for i in store.labels], store.fingerprint)
            for split, store in stores.items()
        }

    first, whole = made(), (tmp_path / name).read_bytes()
    for content in damaged(name, whole):
        (tmp_path / name).write_bytes(content)
        assert made() == first


def test_labels_that_name_nothing_are_refused(tmp_path):
    build(tmp_path, {"train": [Sentence("a b", "x", 1)]}, valid=0.0, test=0.0)
    np.array([1], "<i4").tofile(tmp_path / "train.labels")
    with pytest.raises(RequestError, match="train.labels: damaged; delete .* and build it again"):
        TokenStore.open(tmp_path, "train")


def test_an_interruption_leaves_no_store_and_the_next_build_makes_it(tmp_path):
    tokenizer = Tokenizer.train("word", TRAIN, None, 1)

    def interrupted():
        for i in range(10_000):
            yield "train", Sentence("a b", None, i)
        raise KeyboardInterrupt

    write_store(tmp_path, iter([("train", Sentence("a", None, 1))]), tokenizer, ["train"], key="old")
    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path, interrupted(), tokenizer, ["train"], key="new")
    with pytest.raises(RequestError, match="no complete token store"):
        TokenStore.open(tmp_path, "train")
    assert not list(tmp_path.glob(".*"))
    assert len(build(tmp_path, {"train": TRAIN}, valid=0.0, test=0.0)["train"]) == 3


def test_a_killed_build_leaves_no_store(tmp_path):
    source = lines(tmp_path / "a.txt", many(5000))
    killed = (
        "import os, signal, sys; import textvae.text.writing as s; from textvae.text.batches import build\n"
        "add = s._SplitWriter.add\n"
        "def kill(*a): add(*a); os.kill(os.getpid(), signal.SIGKILL)\n"
        "s._SplitWriter.add = kill\n"
        "build(sys.argv[1], {'train': sys.argv[2]})\n"
    )
    done = subprocess.run([sys.executable, "-c", killed, str(tmp_path / "store"), str(source)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list((tmp_path / "store").glob(".*.part"))
    with pytest.raises(RequestError, match="no complete token store"):
        TokenStore.open(tmp_path / "store", "train")
    stores = build(tmp_path / "store", {"train": source})
    assert sum(map(len, stores.values())) == 5000
    assert not list((tmp_path / "store").glob(".*"))


def test_a_full_disk_is_said_with_its_place(tmp_path, monkeypatch):
    source = {"train": many(20_000)}
    build(tmp_path, {"train": TRAIN}, valid=0.0, test=0.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))  # the system itself refuses to write more
    try:
        with pytest.raises(WorkError, match=r"train.ids: cannot be written: File too large"):
            build(tmp_path, source, vocabulary=100, valid=0.0, test=0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(RequestError, match="no complete token store"):
        TokenStore.open(tmp_path, "train")
    assert not list(tmp_path.glob(".*"))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(WorkError, match="cannot be written: No space left on device"):
            build(tmp_path, source, valid=0.0, test=0.0)
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="file/store: cannot be written: Not a directory"):
        build(tmp_path / "file" / "store", {"train": TRAIN}, valid=0.0, test=0.0)


def test_requests_that_cannot_be_met(tmp_path):
    def refused(match, sources, **arguments):
        with pytest.raises(RequestError, match=match):
            build(tmp_path / "store", sources, **arguments)
        assert not (tmp_path / "store" / "meta.json").exists()

    refused("data.train: no source to train on", {"valid": TRAIN})
    refused("data: unknown split 'dev'; there are train, valid, test", {"train": TRAIN, "dev": TRAIN})
    refused("data.split: shares of 0.5 and 0.5 leave nothing to train on", {"train": TRAIN}, valid=0.5, test=0.5)
    refused("data.max_length: 0 is too small", {"train": TRAIN}, max_length=0)
    refused("no such file", {"train": tmp_path / "none.txt"})
    refused("no such file", {"train": TRAIN, "valid": tmp_path / "none.txt"})
    refused("no sentence to learn a vocabulary from", {"train": []}, valid=0.0, test=0.0)
    refused("the valid split came out empty; .* data.split.valid", {"train": ["a"] * 9}, valid=0.01, test=0.0)
    refused("of 500 sentences 1 are different, and equal ones share a split", {"train": ["A  b", "a b"] * 250})
    refused(
        "data.max_length: 3 drops every sentence of valid, the shortest of which has 4 tokens; set at least 4",
        {"train": TRAIN, "valid": ["a b c d e", "a b c d"]},
        max_length=3,
    )


@pytest.mark.parametrize("n, size", [(1, 32), (31, 32), (33, 32), (1000, 7), (10_007, 64), (500, 1)])
def test_every_sentence_is_in_one_batch_of_an_epoch(n, size):
    lengths = np.random.default_rng(n).integers(2, 40, n)
    batches = epoch_batches(lengths, size, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    sizes = [len(batch) for batch in batches]
    assert len(batches) == -(-n // size) and max(sizes) - min(sizes) <= 1 and max(sizes) <= size


@pytest.mark.parametrize("n, size", [(1, 32), (31, 32), (1000, 7), (10_007, 64), (500, 1)])
def test_equal_lengths_alone_are_in_a_batch_and_every_sentence_once(n, size):
    lengths = np.random.default_rng(n).geometric(0.1, n)  # some lengths are rare
    batches = equal_length_batches(lengths, size, seed=1, epoch=0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert all(len(set(lengths[batch].tolist())) == 1 for batch in batches)
    sizes = {}
    for batch in batches:
        sizes.setdefault(int(lengths[batch[0]]), []).append(len(batch))
    for length, found in sizes.items():
        assert len(found) == -(-int((lengths == length).sum()) // size)
        assert max(found) <= size and max(found) - min(found) <= 1
    assert len(equal_length_batches(lengths, size, seed=1, epoch=1)) == len(batches)


def test_equal_lengths_come_in_random_order():
    batches = equal_length_batches(PTB_LIKE, 32, 0, 0)
    assert abs(np.corrcoef([PTB_LIKE[batch[0]] for batch in batches], range(len(batches)))[0, 1]) < 0.15
    assert equal_length_batches(np.zeros(0, dtype=np.int64), 4, -1, 0) == []
    with pytest.raises(RequestError, match="train.batch_size: 0 is too small"):
        equal_length_batches(PTB_LIKE, 0, 0, 0)


@pytest.mark.parametrize("epoch_batches", [epoch_batches, equal_length_batches])
def test_epochs_differ_and_repeat_by_seed(epoch_batches):
    def batches(seed, epoch):
        return [batch.tolist() for batch in epoch_batches(PTB_LIKE[:3000], 32, seed, epoch)]

    assert batches(0, 0) == batches(0, 0)
    different = [batches(0, 0), batches(0, 1), batches(1, 0)]
    assert all(a != b for i, a in enumerate(different) for b in different[:i])
    together = [{frozenset(batch) for batch in epoch} for epoch in different]
    # Other sentences side by side, not only another order, where there are others of their length.
    alike = [np.flatnonzero(PTB_LIKE[:3000] == length).tolist() for length in np.unique(PTB_LIKE[:3000])]
    few = set(map(frozenset, alike))
    assert not (together[0] & together[1]) - (few if epoch_batches is equal_length_batches else set())


def test_padding_is_a_small_share():
    for size in (32, 64, 128):
        batches = epoch_batches(PTB_LIKE, size, seed=0, epoch=0)
        padded = sum(len(batch) * int(PTB_LIKE[batch].max()) for batch in batches)
        assert 1 - PTB_LIKE.sum() / padded < 0.03
    lengths = [int(PTB_LIKE[batch].max()) for batch in epoch_batches(PTB_LIKE, 32, 0, 0)]
    assert abs(np.corrcoef(lengths, range(len(lengths)))[0, 1]) < 0.15  # the order of batches is random


def test_batch_sizes_below_one_are_refused():
    with pytest.raises(RequestError, match="train.batch_size: 0 is too small"):
        epoch_batches(PTB_LIKE, 0, 0, 0)
    assert epoch_batches(np.zeros(0, dtype=np.int64), 4, -1, 0) == []


def test_a_batch_by_hand(store):
    batch = collate(store, np.array([2, 0]))
    assert isinstance(batch, Batch)
    assert batch.ids.tolist() == [[4, EOS, 0, 0], [4, 5, 6, EOS]]
    assert batch.lengths.tolist() == [2, 4] and batch.index.tolist() == [2, 0]
    assert {batch.ids.dtype, batch.lengths.dtype, batch.index.dtype} == {torch.int64}
    wide = collate(store, np.array([1]), pad_to=6)
    assert wide.ids.tolist() == [[4, 5, EOS, 0, 0, 0]]
    with pytest.raises(RequestError, match="pad_to: 3 is shorter than a sentence of 4 tokens"):
        collate(store, np.array([0]), pad_to=3)


def test_evaluation_sees_every_sentence_once_within_its_bound(tmp_path):
    store = build(tmp_path, {"train": [*many(3000), "w1 " * 300]}, valid=0.0, test=0.0)["train"]
    seen = []
    for batch in evaluation_batches(store, tokens=200):
        assert batch.ids.numel() <= 200 or len(batch.index) == 1
        for row, length, i in zip(batch.ids, batch.lengths, batch.index, strict=True):
            assert row[:length].tolist() == store[int(i)].tolist() and not row[length:].any()
            seen.append(int(i))
    assert seen[0] == 3000 and sorted(seen) == list(range(3001))
    rows = np.array([5, 3000, 17])
    some = [i for batch in evaluation_batches(store, 10, rows) for i in batch.index.tolist()]
    assert sorted(some) == sorted(rows.tolist())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path):
    # 200,000 sentences of 20 words: as Python lists of ids alone they would take over 35 MB.
    program = (
        "import sys; from textvae.text.batches import build, epoch_batches\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024\n"
        "build(sys.argv[1] + '/s', {'train': sys.argv[2]}, max_length=30); before = peak()\n"
        "train = build(sys.argv[1] + '/b', {'train': sys.argv[3]}, max_length=30)['train']\n"
        "epoch_batches(train.lengths, 32, 0, 0); print(peak() - before, len(train))\n"
    )
    words = np.array([f"w{i}" for i in range(5000)])
    texts = [" ".join(row) for row in words[np.random.default_rng(0).integers(5000, size=(10_000, 20))]]
    small = lines(tmp_path / "small.txt", texts)
    big = tmp_path / "big.txt"
    with big.open("w") as file:
        for i in range(20):
            file.writelines(f"{text} w{i}\n" for text in texts)
    arguments = [sys.executable, "-c", program, str(tmp_path), str(small), str(big)]
    grown, sentences = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()
    assert int(sentences) > 175_000
    assert float(grown) < 25


@pytest.mark.corpora
@pytest.mark.skipif("TEXTVAE_DATA" not in os.environ, reason="TEXTVAE_DATA names no folder of corpora")
def test_penn_treebank_has_its_published_counts(tmp_path):
    stores = build(tmp_path, registry.files("ptb"), vocabulary=10_000)
    assert {split: len(store) for split, store in stores.items()} == {"train": 42_068, "valid": 3370, "test": 3761}
    assert sum(store.counts["dropped"] for store in stores.values()) == 0
    # 10,000 words, the unknown among them, less the end mark that the published count has
    assert len(Tokenizer.load(tmp_path / "tokenizer.json")) == 9_998 + 4
    assert round(stores["test"].lengths.mean(), 2) == 21.92
    assert stores["train"].lengths.sum() == 929_589


def test_a_pair_is_no_sentence(tmp_path):
    with pytest.raises((RequestError, TypeCheckError)) as error:  # the latter where every call's types are checked
        build(tmp_path / "store", {"train": ["a", ("a", "b")]})
    assert isinstance(error.value, TypeCheckError) or str(error.value) == "sentence 2: is a tuple, not a string"
