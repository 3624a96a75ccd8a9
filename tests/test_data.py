"""From `[data]` to tokens: the split is made and kept, the cache is used again, and only while it is right."""

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from textvae.errors import RequestError, WorkError
from textvae.settings import Data, Split, TokenizerSettings
from textvae.text import batches
from textvae.text import corpus as data_module
from textvae.text.corpus import cache, open_corpus
from textvae.text.splits import assigned_split

THIRDS = Split(valid=0.3, test=0.2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "pets.txt"
    path.write_text("".join(f"pet {i} is {'good' if i % 2 else 'bad'}\n" for i in range(60)))
    return path


def texts(corpus, split):
    store = corpus.split(split)
    return [corpus.tokenizer.decode(store[i]) for i in range(len(store))]


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.suffix != ".lock"}


def test_a_split_is_turned_into_text_in_pieces(text, monkeypatch):
    corpus = open_corpus(Data(train=str(text), split=THIRDS))
    monkeypatch.setattr(data_module, "DECODED", 7)
    assert list(corpus.texts("train")) == texts(corpus, "train")
    with pytest.raises(RequestError, match="--split dev: pets.txt has only train, valid, test"):
        next(corpus.texts("dev"))


def test_one_file_is_split_by_its_sentences_and_nothing_is_lost(text):
    corpus = open_corpus(Data(corpus=str(text), split=THIRDS, tokenizer=TokenizerSettings(name="character")))
    lines = text.read_text().splitlines()
    for split in ("train", "valid", "test"):
        expected = [line for line in lines if assigned_split(line, 0.3, 0.2, 0) == split]
        # A character that only a held-out sentence has is unknown there.
        assert [len(found) for found in texts(corpus, split)] == [len(line) for line in expected]
        if split == "train":
            assert texts(corpus, split) == expected
    assert corpus.name == "pets.txt"


def test_one_training_file_is_split_in_the_same_way(text):
    alone = open_corpus(Data(train=str(text), split=THIRDS))
    named = open_corpus(Data(corpus=str(text), split=THIRDS))
    assert alone.description() == named.description()


def test_files_for_each_split_are_taken_as_they_are(text, tmp_path):
    other = tmp_path / "held.txt"
    other.write_text("pet 1 is good\npet 1 is purple\n")
    corpus = open_corpus(Data(train=str(text), valid=str(other)))
    assert list(corpus.splits) == ["train", "valid"]
    assert texts(corpus, "train") == text.read_text().splitlines()
    assert texts(corpus, "valid") == ["pet 1 is good", "pet 1 is <unk>"]


def test_a_split_that_is_not_there_is_refused_with_those_that_are(text):
    corpus = open_corpus(Data(corpus=str(text), split=Split(valid=0.3, test=0.0)))
    with pytest.raises(RequestError, match=r"--split test: pets\.txt has only train, valid"):
        corpus.split("test")


def test_the_description_counts_and_identifies_each_split(text):
    corpus = open_corpus(Data(corpus=str(text), split=THIRDS))
    found = corpus.description()
    assert json.loads(json.dumps(found)) == found
    assert found["vocabulary"] == len(corpus.tokenizer)
    for name, split in found["splits"].items():
        store = corpus.split(name)
        assert split["sentences"] == len(store)
        assert split["tokens"] == store.lengths.sum() == 5 * len(store)  # four words and the end mark
        assert split["fingerprint"] == store.fingerprint
    fingerprints = {split["fingerprint"] for split in found["splits"].values()}
    assert len(fingerprints) == 3


def test_the_cache_is_used_again(text, own_cache, monkeypatch):
    first = open_corpus(Data(corpus=str(text), split=THIRDS))
    before = stamps(own_cache)
    monkeypatch.setattr("textvae.text.batches.write_store", None)  # would fail if it were called
    again = open_corpus(Data(corpus=str(text), split=THIRDS))
    assert again.description() == first.description()
    assert all(np.array_equal(again.splits[name].ids, store.ids) for name, store in first.splits.items())
    assert stamps(own_cache) == before


def test_a_changed_file_is_read_anew_in_the_same_place_and_open_stores_stay_whole(text, own_cache):
    asked = Data(corpus=str(text), split=THIRDS)
    first = open_corpus(asked)
    old = {name: store.ids.copy() for name, store in first.splits.items()}
    text.write_text(text.read_text().replace("good", "bad bad"))
    second = open_corpus(asked)
    assert second.split("train").fingerprint != first.split("train").fingerprint
    assert all(np.array_equal(store.ids, old[name]) for name, store in first.splits.items())
    assert len([path for path in (own_cache / "stores").iterdir() if path.is_dir()]) == 1


def test_other_settings_and_other_folders_have_stores_of_their_own(text, own_cache, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "pets.txt").write_text(text.read_text().upper())
    for folder in (tmp_path, tmp_path / "there"):
        monkeypatch.chdir(folder)
        open_corpus(Data(corpus="pets.txt", split=THIRDS))
    open_corpus(Data(corpus=str(text), split=THIRDS, tokenizer=TokenizerSettings(name="character")))
    assert len([path for path in (own_cache / "stores").iterdir() if path.is_dir()]) == 3


def test_a_damaged_store_is_built_again(text, own_cache):
    first = open_corpus(Data(corpus=str(text), split=THIRDS))
    expected = first.description()
    for path in sorted((own_cache / "stores").glob("*/*")):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert open_corpus(Data(corpus=str(text), split=THIRDS)).description() == expected, path.name


def test_two_processes_at_once_build_one_store(text, monkeypatch):
    """The second waits until the first has finished, then finds the store."""
    text.write_text("".join(f"pet {i} is {'good' if i % 2 else 'bad'}\n" for i in range(2_000)))
    forked = multiprocessing.get_context("fork")
    ready, said = forked.Barrier(2), forked.Queue()

    def opened():
        built = []
        write_store = batches.write_store
        monkeypatch.setattr(batches, "write_store", lambda *args, **kw: built.append(1) or write_store(*args, **kw))
        ready.wait(60)
        corpus = open_corpus(Data(corpus=str(text), split=THIRDS))
        said.put((corpus.split("train").fingerprint, int(corpus.split("train").ids.sum()), len(built)))

    both = [forked.Process(target=opened) for _ in range(2)]
    for process in both:
        process.start()
    found = sorted((said.get(timeout=60) for _ in both), key=lambda one: one[2])
    for process in both:
        process.join(60)
    corpus = open_corpus(Data(corpus=str(text), split=THIRDS))
    expected = (corpus.split("train").fingerprint, int(corpus.split("train").ids.sum()))
    assert found == [(*expected, 0), (*expected, 1)]


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    assert cache() == tmp_path / "cache"
    monkeypatch.setenv("TEXTVAE_CACHE", "~/stores")
    assert cache() == Path.home() / "stores"
    monkeypatch.setenv("TEXTVAE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "textvae"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache() == Path.home() / ".cache" / "textvae"


@pytest.mark.parametrize("blocked", ["cache", "stores", "lock"])
def test_a_cache_that_cannot_be_written_is_a_failed_work(text, own_cache, blocked, monkeypatch):
    if blocked == "lock":
        monkeypatch.setattr(data_module.FileLock, "acquire", lambda self: (own_cache / "none" / "x").open("w"))
    else:
        place = own_cache if blocked == "cache" else own_cache / "stores"
        place.parent.mkdir(exist_ok=True)
        place.write_text("a file in the place of a folder")
    with pytest.raises(WorkError, match=r"cache.*: cannot be written: "):
        open_corpus(Data(corpus=str(text), split=THIRDS))


def test_without_text_it_says_what_to_give():
    with pytest.raises(RequestError, match=r"data\.corpus: no text given; name a corpus or a file"):
        open_corpus(Data())


def test_an_unknown_corpus_is_refused_with_the_nearest_name():
    with pytest.raises(RequestError, match="grammer.*did you mean.*grammar"):
        open_corpus(Data(corpus="grammer"))


@pytest.mark.parametrize("name", ["none.txt", "no/such/file", "x" * 5000, "a\0b.txt"])
def test_a_missing_file_is_refused_in_one_line(name):
    with pytest.raises(RequestError) as caught:
        open_corpus(Data(corpus=name))
    assert "\n" not in str(caught.value)


def test_a_folder_and_an_empty_file_are_refused_and_leave_no_store(tmp_path, own_cache):
    (tmp_path / "empty.txt").write_text("\n\n")
    for place in (tmp_path, tmp_path / "empty.txt"):
        with pytest.raises(RequestError):
            open_corpus(Data(corpus=str(place)))
    assert not list(own_cache.glob("stores/*/*"))


def test_a_split_without_sentences_is_refused(tmp_path):
    path = tmp_path / "two.txt"
    path.write_text("one line\n")
    with pytest.raises(RequestError, match="split came out empty"):
        open_corpus(Data(corpus=str(path)))


def test_the_embedded_corpus_needs_no_file():
    corpus = open_corpus(Data(corpus="grammar", max_length=30))
    assert [len(store) for store in corpus.splits.values()] == [20_000, 2_000, 2_000]
    assert corpus.name == "grammar"


def test_a_given_vocabulary_takes_the_place_of_a_learned_one(text, tmp_path):
    given = open_corpus(Data(corpus=str(text), split=THIRDS))
    given.tokenizer.save(tmp_path / "tokenizer.json")
    other = tmp_path / "other.txt"
    other.write_text("a pet is bad\ngood pets\n" * 30)
    for named in (tmp_path, tmp_path / "tokenizer.json"):  # a run's folder, or the file
        corpus = open_corpus(Data(train=str(other), valid=str(other), vocabulary_of=str(named)))
        assert corpus.tokenizer.tokens == given.tokenizer.tokens
        assert set(texts(corpus, "train")) == {"<unk> pet is bad", "good <unk>"}


def test_another_given_vocabulary_is_another_store(text, tmp_path):
    file = tmp_path / "tokenizer.json"
    data = Data(corpus=str(text), split=THIRDS, vocabulary_of=str(file))
    for words in ("pet", "pet is"):
        words_of(words).save(file)
        assert {word for line in texts(open_corpus(data), "train") for word in line.split()} == {
            *words.split(),
            "<unk>",
        }


def words_of(text):
    return data_module.Tokenizer.train("word", [text], None, 1)


def test_a_given_vocabulary_that_cannot_be_used_is_refused(text, tmp_path):
    with pytest.raises(RequestError, match="data.vocabulary_of = .*: is neither a run nor a tokenizer.json"):
        open_corpus(Data(corpus=str(text), vocabulary_of=str(tmp_path / "nowhere")))
    data_module.Tokenizer.train("character", ["abc"], None, 1).save(tmp_path / "tokenizer.json")
    with pytest.raises(RequestError, match="is a character tokenizer; set data.tokenizer.name = 'character'"):
        open_corpus(Data(corpus=str(text), vocabulary_of=str(tmp_path)))
    with pytest.raises(
        RequestError, match=r"data\.tokenizer\.min_count = 2: has no effect with data\.vocabulary_of"
    ):
        open_corpus(Data(corpus=str(text), vocabulary_of=str(tmp_path), tokenizer=TokenizerSettings(min_count=2)))
