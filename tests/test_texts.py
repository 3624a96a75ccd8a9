"""`textvae.train` on texts in memory, as people have them, and what is no text."""

import json
import re
import shutil
import sys
import types

import numpy as np
import pyarrow
import pytest
from jaxtyping import TypeCheckError

import textvae
from textvae.errors import RequestError
from textvae.files import read_json
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.run.data import corpus_of
from textvae.run.pack import pack
from textvae.text.splits import assigned_split

PETS, COLOURS = ("cat", "dog", "bird", "fish", "cow"), ("red", "green", "blue", "black", "white", "grey")
SENTENCES = [f"the {pet} is {colour} ." for pet in PETS for colour in COLOURS]
LABELS = [text.split()[1] for text in SENTENCES]
MODEL = {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}}
SMALL = {"method": "vanilla", "model": MODEL, "train": {"batch_size": 4, "max_steps": 2, "log_every": 1}}
SPLIT = {"split": {"valid": 0.3, "test": 0.3}}


class Column:
    """A column of a table as pandas and polars have them: an index of its own, and no list."""

    def __init__(self, values):
        self.values, self.index = list(values), range(100, 100 + len(values))

    def __iter__(self):
        return iter(self.values)

    def __len__(self):
        return len(self.values)


KINDS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda texts: (text for text in texts),
    "column": Column,
    "array": np.array,
    "objects": lambda texts: np.array(texts, dtype=object),
    "pyarrow array": pyarrow.array,
    "pyarrow column": lambda texts: pyarrow.table({"text": texts})["text"],
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def from_file(tmp_path_factory):
    """The run of the same sentences in a file."""
    place = tmp_path_factory.mktemp("file")
    (place / "texts.txt").write_text("\n".join(SENTENCES) + "\n")
    return textvae.train(str(place / "texts.txt"), place / "run", data=SPLIT, **SMALL)


def splits_of(run):
    """The sentences of each split of a run's text."""
    corpus = corpus_of(run)
    return {name: run.tokenizer.decode_batch(store.sentences()) for name, store in corpus.splits.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_every_kind_give_the_run_of_a_file(kind, from_file, folder):
    run = textvae.train(KINDS[kind](SENTENCES), "run", data=SPLIT, **SMALL)
    assert (run.folder / "model.safetensors").read_bytes() == (from_file.folder / "model.safetensors").read_bytes()
    splits = splits_of(run)
    assert splits == splits_of(from_file)
    assert splits["test"] == [text for text in SENTENCES if assigned_split(text, 0.3, 0.3, 0) == "test"]
    recorded = [read_json(one.folder / "environment.json")["data"]["splits"] for one in (run, from_file)]
    assert recorded[0] == recorded[1]


def test_labels_and_splits_of_ones_own(folder):
    parts = {"valid": SENTENCES[::7], "test": SENTENCES[3::7]}
    rest = [text for at, text in enumerate(SENTENCES) if at % 7 not in (0, 3)]
    marks = {"labels": np.arange(21), "valid_labels": [*range(5)], "test_labels": pyarrow.array([0, 1, 2, 3])}
    run = textvae.train(rest, "run", **parts, **marks, **SMALL)
    assert splits_of(run) == {"train": rest, **parts}
    valid = corpus_of(run).split("valid")
    assert [valid.label_names[label] for label in valid.labels] == list("01234")
    (line, *_) = (run.folder / "text" / "valid.jsonl").read_text().splitlines()
    assert json.loads(line) == {"text": SENTENCES[0], "label": 0}


def test_labels_of_texts_that_are_split_stay_with_them(folder):
    run = textvae.train(iter(SENTENCES), "run", labels=(label for label in LABELS), data=SPLIT, **SMALL)
    assert run.settings.data.label == "label"
    for name, texts in splits_of(run).items():
        store = corpus_of(run).split(name)
        assert [store.label_names[label] for label in store.labels] == [text.split()[1] for text in texts]


def test_texts_are_kept_as_they_are(folder):
    odd = [
        "a  b",
        " c\td ",
        "e\r\nf",
        "g\u2028h",
        'i "j" \\',
        "  ",
        "k\x00l",
        "\N{PILE OF POO} \N{CJK UNIFIED IDEOGRAPH-4E2D}",
    ]
    run = textvae.train([*SENTENCES, *odd], "run", data=SPLIT, **SMALL)
    rows = [json.loads(line) for line in (run.folder / "text" / "texts.jsonl").read_text("utf-8").split("\n")[:-1]]
    assert [row["text"] for row in rows] == [*SENTENCES, *odd]
    assert sum(split["blank"] for split in run.environment["data"]["splits"].values()) == 1


def test_a_run_of_texts_travels(folder, monkeypatch):
    run = textvae.train(SENTENCES, "runs/one", data=SPLIT, **SMALL)
    shutil.move(run.folder, "elsewhere")
    monkeypatch.setenv("TEXTVAE_CACHE", str(folder / "cache"))
    monkeypatch.chdir(folder / "elsewhere")
    assert textvae.evaluate(folder / "elsewhere", "test", 2, None)["sentences"] > 2
    assert textvae.resume(".", assignments=["train.max_steps=3"]).log()[-1]["step"] == 3


def test_a_packed_run_leaves_its_texts_behind(folder):
    run = textvae.train(SENTENCES, "run", data=SPLIT, **SMALL)
    packed = pack(run.folder, "packed")
    assert "text" in packed.left_out and packed.text == ("texts.jsonl",)
    assert not (folder / "packed" / "text").exists()
    found = textvae.evaluate(Run.open("packed", run.folder / "text" / "texts.jsonl"), "test", 2, None)
    assert found["sentences"] == len(splits_of(run)["test"])


def test_a_run_may_start_from_one_on_other_texts(folder):
    first = textvae.train(SENTENCES, "one", data=SPLIT, labels=LABELS, **SMALL)
    second = textvae.train(SENTENCES[::-1] + ["a new word ."], "two", start=first, data=SPLIT)
    assert second.tokenizer.tokens == first.tokenizer.tokens and second.settings.data.label is None
    assert second.settings.model == first.settings.model and second.environment["start"]["weights"]


def test_folders_that_are_not_named_are_made_up(folder):
    methods = ("vanilla", "vanilla", "beta")
    runs = [textvae.train(SENTENCES, data=SPLIT, **SMALL | {"method": method}) for method in methods]
    assert [str(run.folder) for run in runs] == ["runs/texts-vanilla", "runs/texts-vanilla-2", "runs/texts-beta"]
    (folder / "some.txt").write_text("\n".join(SENTENCES))
    settings = load_settings(data={"corpus": "some.txt", **SPLIT}, **SMALL)
    assert str(textvae.train(settings).folder) == "runs/some"
    assert str(textvae.train(settings=settings).folder) == "runs/some-2"
    assert str(textvae.train("some.txt", data=SPLIT, **SMALL).folder) == "runs/some-vanilla"


def test_finished_settings_are_trained_as_before(folder, from_file):
    run = textvae.train(from_file.made, "run")
    assert (run.folder / "model.safetensors").read_bytes() == (from_file.folder / "model.safetensors").read_bytes()
    with pytest.raises(RequestError, match="method: the first argument is finished settings; give method to"):
        textvae.train(from_file.made, "other", method="beta")


def refused(message, texts, **given):
    """Train on texts that are refused in one line, where every call is checked for its types by that check."""
    with pytest.raises((RequestError, TypeCheckError)) as error:
        textvae.train(texts, "runs/run", **given)
    if isinstance(error.value, RequestError):
        assert re.search(message, str(error.value)) and "\n" not in str(error.value)


def frame(**columns):
    """A table as pandas and polars have them: to iterate over it gives the names of its columns."""
    return types.SimpleNamespace(columns=list(columns), __iter__=lambda self: iter(columns))


NO_TEXTS = {
    "number": (["we", 3], r"texts\[1\]: is a int, not a string: 3$"),
    "none": ([*SENTENCES, None], r"texts\[30\]: is a NoneType, not a string: None; leave out what is missing"),
    "nan": (
        np.array(["we", np.nan], dtype=object),
        r"texts\[1\]: is a float, not a string: nan; leave out what is",
    ),
    "null": (pyarrow.array(["we", None]), r"texts\[1\]: is a NoneType.*leave out"),
    "long": ([["we"] * 99], r"texts\[0\]: is a list, not a string: \['we', 'we', .* \.\.\.$"),
    "bytes": ([b"we"], r"texts\[0\]: is a bytes, not a string: b'we'; decode it: text\.decode\(\)"),
    "array of bytes": (np.array([b"we"]), r"texts\[0\]: is a bytes_, not a string.*decode it"),
    "pairs": (
        [("we", 1), ("you", 0)],
        r"texts\[0\]: is a tuple, not.*; of pairs give one side: \[first for first, sec",
    ),
    "table": (
        frame(id=[], review=[]),
        r"texts: is a SimpleNamespace.*give one column, table\[NAME\], of 'id', 'review'",
    ),
    "pyarrow table": (
        pyarrow.table({"x": ["we"]}),
        r"texts: is a Table, not a list of texts; give one column.* 'x'",
    ),
    "dict": ({"text": ["we"], "n": [1]}, r"texts: is a dict, not a list of texts; give one column.*'text', 'n'"),
    "matrix": (np.array([["we", "you"]]), "texts: is a ndarray, not a list of texts; give one column"),
    "set": ({"we"}, "texts: is a set, not a list of texts"),
    "nothing": (None, "texts: none given; give a list of sentences, or the path of a file"),
    "empty": ([], "texts: is empty; give sentences"),
    "blank": ([" ", "\n"], "texts: holds 2 blank texts alone; give sentences"),
    "surrogate": (["we", "\ud800"], r"texts\[1\]: a lone surrogate \(\\ud800\) is not a character; remove it"),
    "no file": ("the food was great", "'the food was great' is neither a file nor a known corpus"),
    "few": (["we", "you"] * 20, "of 40 sentences 2 are different|40 sentences are too few for that"),
}


@pytest.mark.parametrize("method", ["vanilla", None])
@pytest.mark.parametrize("kind", NO_TEXTS)
def test_what_is_no_text_is_refused_and_leaves_nothing(kind, method, folder):
    texts, message = NO_TEXTS[kind]
    refused(message, texts, **SMALL | {"method": method})
    assert list(folder.iterdir()) == []


def test_a_generator_that_was_read_before_says_so(folder):
    texts = iter(SENTENCES)
    textvae.train(texts, "one", data=SPLIT, **SMALL)
    with pytest.raises(
        RequestError, match="texts: is empty; what has been read before, such as a generator, is em"
    ):
        textvae.train(texts, "two", data=SPLIT, **SMALL)
    assert [path.name for path in folder.iterdir()] == ["one"]


WRONG = {
    "fewer labels": ({"labels": LABELS[:-1]}, "labels: 29 for 30 texts; give one for each"),
    "more labels": (
        {"labels": iter([*LABELS, "cow", "cow"])},
        "labels: 31 or more for 30 texts; give one for each",
    ),
    "missing label": (
        {"labels": [*LABELS[:-1], None]},
        r"labels\[29\]: None is no label; give a string or a number",
    ),
    "nan": ({"labels": np.array([1.0] * 29 + [np.nan])}, r"labels\[29\]: nan is no label"),
    "blank label": ({"labels": [" ", *LABELS[1:]]}, r"labels\[0\]: ' ' is no label"),
    "table": (
        {"labels": pyarrow.table({"x": LABELS})},
        "labels: is a Table, not a list of labels; give one column",
    ),
    "text": ({"labels": "cat"}, "labels: is a str, not a list of labels"),
    "unlabelled": (
        {"labels": LABELS, "valid": SENTENCES},
        "valid_labels: give labels for every split, or for none",
    ),
    "no texts": ({"labels": LABELS, "test_labels": LABELS}, "test_labels: there are no texts test= to label"),
    "mixed": ({"valid": "valid.txt"}, "valid = 'valid.txt': is a path, but texts are in memory; give all alike"),
    "valid": ({"valid": [*SENTENCES, 3]}, r"valid\[30\]: is a int, not a string: 3"),
    "source": ({"data": {"train": "x.txt"}}, r"data\.train: the texts are given; leave it out"),
    "column": ({"data": {"label": "x"}}, r"data\.label: the texts are given; leave it out"),
    "setting": ({"train": {"epoch": 3}}, r"train\.epoch: unknown.*did you mean 'epochs'"),
    "table of settings": (
        {"epochs": 3},
        r"epochs: is a setting of the table train; give train=\{'epochs': \.\.\.\}",
    ),
    "no setting": ({"epoch": 3}, r"epoch: unknown"),
    "method": ({"method": "mu-forsing"}, "--method mu-forsing: unknown method; did you mean 'mu-forcing'"),
    "batch": (
        {"train": {"batch_size": 64}},
        r"train\.batch_size = 64: the training split of texts\.jsonl has only",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments_are_refused_and_leave_nothing(kind, folder):
    wrong, message = WRONG[kind]
    refused(message, SENTENCES, **(SMALL | {"data": SPLIT} | wrong))
    assert list(folder.iterdir()) == []


def test_files_have_columns_not_labels(from_file):
    path = from_file.settings.data.corpus
    with pytest.raises(RequestError, match="labels: are of texts in memory; name the column of a file: data="):
        textvae.train(path, "run", labels=LABELS)
    with pytest.raises(RequestError, match="valid: is a list, but texts are a file; give all alike"):
        textvae.train(path, "run", valid=SENTENCES)


def test_several_processes_train_on_files(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RequestError, match="texts: several processes train on a file; write the texts to one"):
        textvae.train(SENTENCES, "run", **SMALL)


def test_a_folder_that_holds_something_is_left_alone(folder):
    (folder / "mine" / "text").mkdir(parents=True)
    (folder / "mine" / "text" / "texts.jsonl").write_text("mine")
    with pytest.raises(RequestError, match="mine: exists already and is not a run folder"):
        textvae.train(SENTENCES, "mine", **SMALL)
    assert (folder / "mine" / "text" / "texts.jsonl").read_text() == "mine"


class Terminal:
    """A stream that says that it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return True


def test_a_bar_shows_on_a_terminal_alone(folder, monkeypatch, capsys):
    textvae.train(SENTENCES, "one", data=SPLIT, **SMALL)
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    textvae.train(SENTENCES, "two", progress=False, data=SPLIT, **SMALL)
    assert terminal.text == ""
    run = textvae.train(SENTENCES, "three", data=SPLIT, **SMALL)
    assert "three: 100%" in terminal.text and "2/2" in terminal.text
    assert re.search(r"validation: reconstruction \d+\.\d\d, kl \d\.\d\d, bound \d+\.\d\d", terminal.text)
    terminal.text = ""
    textvae.evaluate(run, "test", 2, None)
    assert "evaluating three: 100%" in terminal.text


def test_without_tqdm_there_is_no_bar(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert textvae.train(SENTENCES, "one", data=SPLIT, **SMALL).log() and terminal.text == ""


def test_a_function_hears_of_every_step(folder):
    heard = []
    textvae.train(SENTENCES, "one", lambda *told: heard.append(told), data=SPLIT, **SMALL)
    assert [(step, total) for step, total, _ in heard] == [(1, 2), (2, 2)] and heard[1][2]["split"] == "valid"


def test_what_train_returns_is_loaded_diagnosed_and_evaluated(folder):
    run = textvae.train(SENTENCES, "run", data=SPLIT, **SMALL)
    model = textvae.load(run)
    assert model.encode(["the cat is red ."]).shape == (1, 2)
    forms = [run, run.folder, str(run.folder), model]
    documents = [textvae.evaluate(form, "test", 3, None) for form in forms]
    assert documents == documents[:1] * 4
    diagnoses = [textvae.diagnose(form) for form in forms]
    assert len({str(one) for one in diagnoses}) == 1
    assert str(diagnoses[0]).startswith(diagnoses[0].sentences[0]) and "next: textvae" in str(diagnoses[0])
