import json

from textvae.text.registry import CORPORA

from .conftest import call, refused


def test_the_list_has_every_corpus_and_whether_it_is_here(tmp_path):
    rows = json.loads(call("data", "list", "--json").stdout)
    assert all((row["source"] is None) == ("source" in row["reasons"]) for row in rows)
    assert [row["name"] for row in rows] == list(CORPORA)
    assert {row["text"] for row in rows[1:]} == {"missing"} and rows[0]["text"] == "embedded"
    lines = call("data", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(CORPORA)


def test_a_corpus_is_here_once_all_its_files_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTVAE_DATA", str(tmp_path))
    (tmp_path / "ptb").mkdir()
    for split in ("train", "valid"):
        (tmp_path / "ptb" / f"{split}.txt").touch()
    assert json.loads(call("data", "describe", "ptb", "--json").stdout)["text"] == "missing"
    (tmp_path / "ptb" / "test.txt").touch()
    assert json.loads(call("data", "describe", "ptb", "--json").stdout)["text"] == "here"


def test_a_description_says_licence_labels_and_files():
    shown = call("data", "describe", "dailydialog").stdout
    for part in (
        "CC BY-NC-SA 4.0",
        "dialogue, turn, speaker, act, emotion",
        "dailydialog/train.utts.txt",
        "TEXTVAE_DATA",
    ):
        assert part in shown
    assert "part of the program" in call("data", "describe", "grammar").stdout


def test_an_unknown_corpus():
    assert refused(call("data", "describe", "ptbb"), "'ptbb'", "did you mean 'ptb'?")


def test_files_are_compared_with_their_checksums(tmp_path, monkeypatch):
    assert refused(call("data", "verify"), "no corpus is here")
    monkeypatch.setenv("TEXTVAE_DATA", str(tmp_path))
    (tmp_path / "ptb").mkdir()
    for split in ("train", "valid", "test"):
        (tmp_path / "ptb" / f"{split}.txt").write_text("altered\n")
    found = call("data", "verify", "ptb", "grammar")
    lines = found.stdout.splitlines()
    assert found.exit_code == 2 and "1 of 2 corpora are not as registered: ptb" in found.stderr
    assert "train.txt: SHA-256 is " in lines[0] and lines[1].split() == ["grammar", "verified"]
    assert json.loads(call("data", "verify", "grammar", "--json").stdout) == {
        "grammar": {"verified": True, "problem": None}
    }
    assert refused(call("data", "verify", "ptbb"), "did you mean 'ptb'?")
