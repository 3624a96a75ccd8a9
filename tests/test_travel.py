"""A run is used after it, its text or the working directory has moved, with files as the umask wants them."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from textvae.cli import app
from textvae.errors import RequestError, WorkError
from textvae.evaluation.evaluate import evaluate
from textvae.files import file_digest
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.run import pack as packing
from textvae.run.data import corpus_of
from textvae.run.pack import TIME, pack
from textvae.text.corpus import file_places
from textvae.training.loop import resume, train

MODEL = {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}}
TRAIN = {"batch_size": 4, "max_steps": 2, "log_every": 1}
PETS, COLOURS = ("cat", "dog", "bird", "fish"), ("red", "green", "blue", "black", "white")
SENTENCES = [f"the {pet} is {colour}" for pet in PETS for colour in COLOURS]


def call(*arguments):
    """The command in this process: exit code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def written(folder):
    """A file for each split, and all in one file with a column of labels."""
    folder.mkdir(parents=True)
    parts = {"train": SENTENCES[:12], "valid": SENTENCES[12:16], "test": SENTENCES[16:]}
    for name, lines in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    rows = [f"{text.split()[3]}\t{text.split()[1]}\t{text}" for text in SENTENCES]
    (folder / "all.tsv").write_text("\n".join(["colour\tpet\ttext", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with texts and two runs: `runs/three` of a file for each split, `runs/one` of a labelled file."""
    project = tmp_path_factory.mktemp("made") / "project"
    texts = written(project / "text")
    files = {name: str(texts / f"{name}.txt") for name in ("train", "valid", "test")}
    train(load_settings(data=files, model=MODEL, train=TRAIN), project / "runs" / "three")
    split = {"valid": 0.3, "test": 0.3}
    one = {"corpus": str(texts / "all.tsv"), "label": "pet", "split": split}
    train(load_settings(data=one, model=MODEL, train=TRAIN), project / "runs" / "one")
    return project


@pytest.fixture
def project(made, tmp_path):
    """A copy of it under the same relative paths, whose original is gone, as if it had been moved."""
    moved = tmp_path / "elsewhere"
    shutil.copytree(made, moved)
    for run in (moved / "runs").iterdir():
        place_at(run, tmp_path / "gone" / "text")
    return moved


def place_at(run, texts):
    """Make a run one that was made with the texts of another folder."""
    path = run / "environment.json"
    environment = json.loads(path.read_text())
    for places in environment["text"].values():
        places["absolute"] = str(texts / Path(places["absolute"]).name)
    path.write_text(json.dumps(environment))
    settings = run / "settings.toml"
    old = str(Path(Run.open(run).settings.data.train or Run.open(run).settings.data.corpus).parent)
    settings.write_text(settings.read_text().replace(old, str(texts)))
    environment["files"]["settings.toml"] = file_digest(settings)
    path.write_text(json.dumps(environment))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "cache"))


def test_places_are_absolute_and_relative_to_the_run(made):
    assert Run.open(made / "runs" / "one").places == {
        "corpus": {"absolute": str(made / "text" / "all.tsv"), "relative": "../../text/all.tsv"}
    }
    assert list(Run.open(made / "runs" / "three").places) == ["train", "valid", "test"]
    assert file_places(load_settings(data={"corpus": "grammar"}).data, made) == {}


def test_the_working_directory_may_move(tmp_path, monkeypatch):
    texts = written(tmp_path / "text")
    monkeypatch.chdir(tmp_path)
    settings = load_settings(data={"train": "text/train.txt", "valid": "text/valid.txt"}, model=MODEL, train=TRAIN)
    assert settings.data.train == "text/train.txt"  # as it was typed
    run = train(settings, tmp_path / "run")
    monkeypatch.chdir(texts)
    assert len(corpus_of(Run.open(run.folder)).split("train")) == 12


@pytest.mark.parametrize("name", ["one", "three"])
def test_a_project_may_move(project, empty_cache, name):
    run = project / "runs" / name
    assert evaluate(run, "test", 2, 2)["sentences"] > 0
    assert resume(run).folder == run


def test_a_copy_whose_original_has_changed_reads_its_own_text(project, empty_cache, tmp_path):
    other = written(tmp_path / "gone" / "text")
    (other / "train.txt").write_text("the wolf is grey\n" * 9)
    corpus = corpus_of(Run.open(project / "runs" / "three"))
    assert len(corpus.split("train")) == 12


@pytest.mark.parametrize("name", ["one", "three"])
def test_text_that_is_gone_is_taken_from_the_cache_by_its_fingerprint(project, name, tmp_path, monkeypatch):
    run = project / "runs" / name
    with_text = corpus_of(Run.open(run))
    shutil.rmtree(project / "text")
    without = corpus_of(Run.open(run))
    assert without.description() == with_text.description()
    assert without.split("test").sentences() == with_text.split("test").sentences()
    labels = with_text.split("test").labels
    assert labels is None or without.split("test").labels.tolist() == labels.tolist()
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "other"))
    with pytest.raises(RequestError, match=r"(train\.txt|all\.tsv): (no such file|cannot be read|not found)"):
        corpus_of(Run.open(run))


def test_labels_come_from_the_cache_only_if_they_are_the_runs(project, tmp_path, monkeypatch):
    run = Run.open(project / "runs" / "one")
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "cache"))
    assert corpus_of(run, "colour").split("train").label_names == sorted(COLOURS)  # the only store of this cache
    shutil.rmtree(project / "text")
    with pytest.raises(RequestError, match="all.tsv"):
        corpus_of(run)


def test_pieces_of_running_text_come_from_the_cache(tmp_path):
    texts = written(tmp_path / "text")
    data = {"train": str(texts / "train.txt"), "valid": str(texts / "valid.txt"), "window": 5}
    run = train(load_settings(data=data, model=MODEL, train=TRAIN), tmp_path / "run")
    shutil.rmtree(texts)
    assert corpus_of(run).split("valid").window == 5


def test_text_that_has_changed_is_refused_with_its_sizes(project):
    (project / "text" / "valid.txt").write_text("the dog is red\n")
    with pytest.raises(RequestError) as error:
        corpus_of(Run.open(project / "runs" / "three"))
    assert str(error.value).startswith("train.txt: its valid split is not the one that ")
    assert "(from 4 sentences, 20 tokens to 1, 5)" in str(error.value)


def test_data_points_to_a_file_or_to_the_folder_of_the_files(project, empty_cache, tmp_path):
    shutil.move(project / "text", tmp_path / "new")
    one, three = project / "runs" / "one", project / "runs" / "three"
    moved = tmp_path / "reviews.tsv"
    shutil.copy(tmp_path / "new" / "all.tsv", moved)
    for run, place in ((one, moved), (one, tmp_path / "new"), (three, tmp_path / "new")):
        assert (
            corpus_of(Run.open(run, place)).description()["splits"] == Run.open(run).environment["data"]["splits"]
        )
    for arguments in (["diagnose", one], ["evaluate", one, "--iw-samples", 2], ["probe", one], ["compare", one]):
        again = call(*arguments, "--data", tmp_path / "new")
        assert again.exit_code == 0, again.stderr
    again = call("train", "--resume", three, "--data", tmp_path / "new")
    assert again.exit_code == 0, again.stderr


@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("one", "none", "--data .*none: no such file or folder"),
        ("three", "new/train.txt", r"made with train\.txt, valid\.txt, test\.txt; give the folder that has them"),
        ("three", "runs", r"--data .*runs: has no file train\.txt, which .*three was made with"),
        ("one", "new/train.txt", "has no column|no header|one column|columns"),
    ],
)
def test_data_that_cannot_be_the_text_is_refused(project, name, place, message):
    shutil.move(project / "text", project / "new")
    with pytest.raises(RequestError, match=message):
        corpus_of(Run.open(project / "runs" / name, project / place))


def test_data_that_is_another_text_is_refused_with_what_differs(project):
    other = project / "other.tsv"
    other.write_text((project / "text" / "all.tsv").read_text() + "grey\twolf\tthe wolf is grey\n" * 9)
    found = call("diagnose", project / "runs" / "one", "--data", other)
    assert found.exit_code == 2
    assert "other.tsv: its test split is not the one" in found.stderr
    assert found.stderr.count("\n") == 1 and "give --data the text itself" in found.stderr


def test_a_registered_corpus_is_found_in_a_folder_of_corpora(tmp_path, monkeypatch, empty_cache):
    written(tmp_path / "mirror" / "ptb")
    monkeypatch.setenv("TEXTVAE_DATA", str(tmp_path / "mirror"))
    run = train(load_settings(data={"corpus": "ptb"}, model=MODEL, train=TRAIN), tmp_path / "run")
    monkeypatch.delenv("TEXTVAE_DATA")
    assert len(corpus_of(run).split("train")) == 12  # cached
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(RequestError, match="set TEXTVAE_DATA"):
        corpus_of(run)
    assert len(corpus_of(Run.open(run.folder, tmp_path / "mirror")).split("train")) == 12
    with pytest.raises(RequestError, match="give the folder of corpora"):
        corpus_of(Run.open(run.folder, tmp_path / "mirror" / "ptb" / "train.txt"))
    grammar = Run.create(tmp_path / "g", load_settings(data={"corpus": "grammar"}), run.tokenizer, {"splits": {}})
    with pytest.raises(RequestError, match="part of the program; leave --data out"):
        corpus_of(Run.open(grammar.folder, tmp_path))


def test_the_run_whose_vocabulary_was_taken_may_be_gone(project, empty_cache, tmp_path):
    first = project / "runs" / "three"
    data = {"train": str(project / "text" / "train.txt"), "valid": str(project / "text" / "valid.txt")}
    settings = load_settings(data={**data, "vocabulary_of": str(first)}, model=MODEL, train=TRAIN)
    run = train(settings, tmp_path / "run")
    shutil.rmtree(first)
    assert len(corpus_of(Run.open(run.folder)).split("train")) == 12


def test_what_needs_no_text_works_without_text_and_cache(project, empty_cache, tmp_path):
    run = project / "runs" / "three"
    shutil.rmtree(project / "text")
    (tmp_path / "few.txt").write_text("the cat is red\nthe dog is red\n")
    text = "the cat is red"
    codes = tmp_path / "codes.npy"
    for arguments in (
        ["sample", run, "-n", 2],
        ["reconstruct", run, text],
        ["encode", run, text, "--out", codes],
        ["decode", run, "--codes", codes],
        ["interpolate", run, text, "the dog is blue", "--steps", 3],
        ["homotopy", run, "--steps", 3],
        ["sensitivity", run, text, "--directions", 2],
        ["impute", run, "the ___ is red"],
        ["transfer", run, text, "--from", text, "--to", "the dog is red"],
        ["neighbours", run, text, "--file", tmp_path / "few.txt"],
    ):
        done = call(*arguments)
        assert done.exit_code == 0, (arguments[0], done.stderr)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)])
def test_every_file_of_a_run_has_the_permissions_of_the_umask(made, tmp_path, mask, file, folder):
    settings = Run.open(made / "runs" / "one").settings
    before = os.umask(mask)
    try:
        run = train(settings, tmp_path / "run").folder
        evaluate(run, "test", 2, 2)
        done = call("evaluate", run, "--all", "--iw-samples", 2, "--samples", 4, "--times", 1)
    finally:
        os.umask(before)
    assert done.exit_code == 0, done.stderr
    modes = {path.relative_to(run).as_posix(): path.stat().st_mode & 0o7777 for path in run.rglob("*")}
    folders = {"checkpoint", "evaluation"}
    assert {
        "model.safetensors",
        "checkpoint/last.safetensors",
        "log.jsonl",
        "evaluation/test-all.json",
        "report.html",
    } < modes.keys()
    assert {name for name in modes if modes[name] != (folder if name in folders else file)} == set()
    assert run.stat().st_mode & 0o7777 == folder


class TestPacked:
    @pytest.fixture
    def archive(self, made, tmp_path, monkeypatch):
        """`one.tar.gz`, packed without a name in the working directory."""
        run = made / "runs" / "one"
        evaluate(run, "test", 2, 2)
        (run / "link").symlink_to("/etc/passwd")
        monkeypatch.chdir(tmp_path)
        try:
            done = call("pack", run)
        finally:
            (run / "link").unlink()
        assert done.exit_code == 0, done.stderr
        assert "left out: checkpoint, " in done.stderr and "left out: the text (all.tsv)" in done.stderr
        assert "model.safetensors" in done.stdout
        return tmp_path / "one.tar.gz"

    def test_it_has_what_its_use_needs_and_no_path_of_this_machine(self, made, archive, tmp_path):
        with tarfile.open(archive) as tar:
            assert [entry.name for entry in tar] == [
                f"one/{name}"
                for name in (
                    "environment.json",
                    "evaluation/test.json",
                    "log.jsonl",
                    "model.safetensors",
                    "settings.toml",
                    "tokenizer.json",
                )
            ]
            assert {(entry.uid, entry.uname, entry.mtime, entry.mode) for entry in tar} == {(0, "", TIME, 0o644)}
            tar.extractall(tmp_path / "there", filter="data")
        run = tmp_path / "there" / "one"
        for path in run.rglob("*"):
            assert not path.is_file() or str(made).encode() not in path.read_bytes(), path
        assert Run.open(run).settings.data.corpus == "all.tsv"
        assert Run.open(run).places == {"corpus": {"relative": "../../text/all.tsv"}}

    def test_it_is_used_like_the_run_itself(self, made, archive, tmp_path, empty_cache):
        shutil.unpack_archive(archive, tmp_path / "a" / "b", filter="data")
        shutil.copytree(made / "text", tmp_path / "text")
        run, original = tmp_path / "a" / "b" / "one", made / "runs" / "one"
        assert call("sample", run, "-n", 3).stdout == call("sample", original, "-n", 3).stdout
        found = evaluate(Run.open(run, tmp_path / "text"), "test", 2, 2)
        assert found == json.loads((original / "evaluation" / "test.json").read_text())
        assert call("compare", run, "--json").exit_code == 0
        refused = call("train", "--resume", run)
        assert refused.exit_code == 2 and "is a packed run, which leaves out the checkpoint" in refused.stderr

    @pytest.mark.slow
    def test_another_user_who_may_only_read_uses_it(self, made, archive, tmp_path):
        """As root, files of somebody else are read without the privileges of root."""
        there, mine = tmp_path / "there", tmp_path / "mine"
        shutil.unpack_archive(archive, there, filter="data")
        shutil.copytree(made / "text", there / "text")
        mine.mkdir()
        for path in [there, *there.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
            if os.geteuid() == 0:
                os.chown(path, 65534, 65534)
        drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []

        def program(*arguments):
            command = [*drop, sys.executable, "-m", "textvae", *map(str, arguments)]
            environment = {**os.environ, "HOME": str(mine), "TEXTVAE_CACHE": str(mine / "cache")}
            return subprocess.run(command, cwd=mine, env=environment, capture_output=True, text=True, check=False)

        run, text = there / "one", there / "text"
        for arguments in (
            ("diagnose", run, "--data", text),
            ("reconstruct", run, "the cat is red"),
            ("encode", run, "--file", text / "all.tsv", "--out", mine / "codes.npy"),
        ):
            done = program(*arguments)
            assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        done = program("evaluate", run, "--data", text, "--iw-samples", 3, "--iw-sentences", 2)
        assert "NLL" in done.stdout and "could not be saved in the run" in done.stderr
        report = program("report", run, "--data", text, "--iw-samples", 3, "--iw-sentences", 2)
        assert report.stdout == "report: report.html\n" and (mine / "report.html").exists()

    def test_equal_runs_make_equal_archives(self, made, archive, tmp_path):
        copy = tmp_path / "copy" / "one"
        shutil.copytree(made / "runs" / "one", copy)
        environment = json.loads((copy / "environment.json").read_text())
        (copy / "environment.json").write_text(json.dumps(environment))
        assert pack(copy, tmp_path / "again.tar.gz").out.read_bytes() == archive.read_bytes()
        folder = pack(copy, tmp_path / "folder").out
        again = pack(folder, tmp_path / "third.tgz")
        assert list(again.files) == sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )

    def test_a_folder_that_another_process_has_just_made_stays(self, made, tmp_path, monkeypatch):
        folder, content = tmp_path / "folder", packing._content

        def slow(run):
            folder.mkdir()
            (folder / "theirs").write_text("precious")
            return content(run)

        monkeypatch.setattr(packing, "_content", slow)
        with pytest.raises(WorkError, match="folder: cannot be written: File exists"):
            pack(made / "runs" / "one", folder)
        assert (folder / "theirs").read_text() == "precious"

    def test_what_cannot_be_packed_is_refused(self, made, archive, tmp_path):
        run = made / "runs" / "one"
        shutil.copytree(run, tmp_path / "new", ignore=shutil.ignore_patterns("model.safetensors"))
        for arguments, message in (
            (["pack", tmp_path / "new"], "model.safetensors: not written yet"),
            (["pack", run, "--out", run / "mine.tar.gz"], "is in the run itself"),
            (["pack", run, "--out", tmp_path], "exists already"),
            (["sample", archive], "is an archive; unpack it with `tar -xzf"),
        ):
            done = call(*arguments)
            assert done.exit_code == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
