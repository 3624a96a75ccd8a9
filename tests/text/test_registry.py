import hashlib
import os
from pathlib import Path

import pytest

from textvae.errors import RequestError
from textvae.text import registry
from textvae.text.readers import read


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror with a two-line stand-in for ptb and for the tables of brown_genres."""
    for corpus, lines in (("ptb", "a b\nc d\n"), ("brown_genres", "news\ta b\nfiction\tc d\n")):
        found = registry.find(corpus)
        for relative in (*found.plain.values(), *found.labelled.values()):
            path = tmp_path / relative
            path.parent.mkdir(exist_ok=True)
            path.write_text(lines)
            monkeypatch.setitem(registry.SHA256, relative, hashlib.sha256(lines.encode()).hexdigest())
    return tmp_path


def test_every_corpus_is_described_and_every_file_has_a_hash():
    for name, corpus in registry.CORPORA.items():
        assert corpus.name == name and corpus.description and corpus.licence
        assert corpus.embedded == (name == "grammar")
        assert bool(corpus.labels) == bool(corpus.labelled)
        for files in (corpus.plain, corpus.labelled):
            assert set(files) in (set(), {"train"}, {"train", "valid", "test"})
            for path in files.values():
                assert not Path(path).is_absolute() and len(bytes.fromhex(registry.SHA256[path])) == 32
    listed = {path for c in registry.CORPORA.values() for path in (*c.plain.values(), *c.labelled.values())}
    assert listed == set(registry.SHA256)


def test_files_are_found_in_the_folder_that_the_environment_names(mirror, monkeypatch):
    monkeypatch.setenv("TEXTVAE_DATA", str(mirror))
    assert registry.files("ptb")["valid"] == mirror / "ptb" / "valid.txt"
    monkeypatch.setenv("TEXTVAE_DATA", str(mirror / "elsewhere"))
    assert registry.files("ptb", mirror)["valid"] == mirror / "ptb" / "valid.txt"


def test_a_label_leads_to_the_tables_and_their_column(mirror):
    corpus = registry.find("brown_genres")
    path = registry.files("brown_genres", mirror, label="genre")["train"]
    rows = [(s.text, s.label) for s in read(path, label=corpus.label_column("genre"))]
    assert rows == [("a b", "news"), ("c d", "fiction")]
    assert registry.files("brown_genres", mirror)["train"] == path  # it has no plain files


def test_what_is_missing_is_said(mirror, monkeypatch):
    monkeypatch.delenv("TEXTVAE_DATA", raising=False)
    with pytest.raises(RequestError, match="data.corpus: 'pbt' is neither a file .*; did you mean 'ptb'?"):
        registry.find("pbt")
    with pytest.raises(RequestError, match="'qqqq' .*known are grammar, ptb, "):
        registry.find("qqqq")
    with pytest.raises(RequestError, match="set TEXTVAE_DATA to it, or use the embedded corpus 'grammar'"):
        registry.files("ptb")
    with pytest.raises(RequestError, match="is not a folder"):
        registry.files("ptb", mirror / "none")
    with pytest.raises(RequestError, match="fiction is not in the mirror .* the text comes from https://"):
        registry.files("fiction", mirror)
    with pytest.raises(RequestError, match="grammar is part of the program and has no files"):
        registry.files("grammar", mirror)
    with pytest.raises(RequestError, match="brown_genres has no label 'genra'; it has genre"):
        registry.files("brown_genres", mirror, label="genra")
    with pytest.raises(RequestError, match="ptb has no label 'genre'; it has none"):
        registry.files("ptb", mirror, label="genre")


def test_verify_finds_a_changed_byte(mirror):
    registry.verify("ptb", mirror)
    registry.verify("grammar", mirror)
    (mirror / "ptb" / "test.txt").write_text("a b\nc e\n")
    with pytest.raises(RequestError, match=r"test.txt: SHA-256 is .* the copy is damaged"):
        registry.verify("ptb", mirror)
    (mirror / "ptb" / "test.txt").unlink()
    with pytest.raises(RequestError, match="cannot be read"):
        registry.verify("ptb", mirror)


@pytest.mark.corpora
@pytest.mark.skipif("TEXTVAE_DATA" not in os.environ, reason="TEXTVAE_DATA names no folder of corpora")
@pytest.mark.parametrize("name", registry.CORPORA)
def test_the_mirror_holds_the_registered_files(name):
    registry.verify(name)
    corpus = registry.find(name)
    for label, column in corpus.labels.items():
        first = next(read(registry.files(name, label=label)["train"], label=column))
        assert first.label and first.text
