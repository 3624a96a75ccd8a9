"""Labels on which a model is conditioned: read from columns, numbered, stored with their sentences."""

import json

import numpy as np
import pytest
import torch

from textvae.errors import RequestError
from textvae.settings import Data
from textvae.text import grammar
from textvae.text.batches import build, collate
from textvae.text.conditions import MISSING, LabelNames
from textvae.text.corpus import cached_corpora, open_corpus
from textvae.text.readers import read
from textvae.text.store import TokenStore

TABLE = "text,stars,place\nthe food was good .,5,bar\nit was bad .,1,cafe\nwe left .,1,bar\nso nice .,5,cafe\n"
NAMES = LabelNames({"stars": ["1", "5"], "place": ["bar", "cafe"]})


def written(folder, text=TABLE, name="reviews.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def stored(folder, text=TABLE, columns=("stars", "place"), **others):
    path = written(folder, text)
    marks = {name: name for name in columns}
    return build(folder / "store", {"train": path}, condition_on=marks, valid=0.0, test=0.0, **others)


@pytest.mark.parametrize("name", ["reviews.csv", "reviews.tsv", "reviews.jsonl"])
def test_several_columns_are_read_beside_the_text_which_is_none_of_them(tmp_path, name):
    rows = [line.split(",") for line in TABLE.splitlines()]
    if name.endswith(".jsonl"):
        text = "\n".join(json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows[1:])
    else:
        text = "\n".join(("," if name.endswith("csv") else "\t").join(row) for row in rows)
    reading = read(written(tmp_path, text, name), marks=("place", "stars"))
    assert [(one.text, one.marks) for one in reading][:2] == [
        ("the food was good .", ("bar", "5")),
        ("it was bad .", ("cafe", "1")),
    ]
    assert "the condition" in reading.notes[0]


def test_numbers_of_labels_are_alphabetical_and_stay_with_their_sentences(tmp_path):
    train = stored(tmp_path)["train"]
    assert dict(train.conditions.names) == dict(NAMES)
    assert train.conditions.values.tolist() == [[1, 0], [0, 1], [0, 0], [1, 1]]
    batch = collate(train, np.array([2, 0]))
    assert batch.condition.values.tolist() == [[0, 0], [1, 0]]
    assert batch.to(torch.device("cpu")).condition.values.dtype == torch.long


def test_a_dropped_sentence_takes_its_labels_along(tmp_path):
    train = stored(tmp_path, max_length=4)["train"]
    assert train.conditions.values.tolist() == [[0, 1], [0, 0], [1, 1]]


def test_a_blank_cell_is_a_missing_label(tmp_path):
    train = stored(tmp_path, TABLE.replace("left .,1,bar", "left .,,bar"))["train"]
    assert train.conditions.values[2].tolist() == [MISSING, 0]


def test_a_store_without_conditions_has_the_key_that_it_had(tmp_path):
    """So that stores of earlier versions are used again."""
    path = written(tmp_path)
    kept = [build(tmp_path / name, {"train": path}, column="text", valid=0.0, test=0.0) for name in "ab"]
    assert kept[0]["train"].conditions is None and collate(kept[0]["train"], np.arange(2)).condition is None
    meta = json.loads((tmp_path / "a" / "meta.json").read_text())
    assert "conditions" not in meta and "condition_hash" not in meta["splits"]["train"]


@pytest.mark.parametrize(
    "text, columns, message",
    [
        (TABLE, ("star",), "no column 'star'; .*'stars'"),
        (TABLE.replace(",1,", ",5,"), ("stars",), "'stars' has the value '5' alone"),
        ("text,stars\na b .,\nc d .,\n", ("stars",), "'stars' has no value"),
    ],
)
def test_columns_that_are_no_condition_are_refused(tmp_path, text, columns, message):
    with pytest.raises(RequestError, match=message):
        stored(tmp_path, text, columns)
    assert not (tmp_path / "store" / "meta.json").exists()


def test_a_label_that_no_training_sentence_has_is_refused(tmp_path):
    sources = {"train": written(tmp_path), "valid": written(tmp_path, "text,stars\nso so .,3\n", "valid.csv")}
    with pytest.raises(RequestError, match="'stars' has the label '3' in no training sentence"):
        build(tmp_path / "store", sources, condition_on={"stars": "stars"})


def test_plain_text_has_no_column_to_condition_on(tmp_path):
    path = written(tmp_path, "a b .\nc d .\n", "a.txt")
    with pytest.raises(RequestError, match="plain text has no column 'stars'"):
        build(tmp_path / "store", {"train": path}, condition_on={"stars": "stars"})


@pytest.mark.parametrize("ending", ["conditions"])
def test_damaged_conditions_are_noticed(tmp_path, ending):
    stored(tmp_path)
    file = tmp_path / "store" / f"train.{ending}"
    file.write_bytes(np.array([7] * 8, dtype="<i4").tobytes())
    with pytest.raises(RequestError, match="damaged"):
        TokenStore.open(tmp_path / "store", "train")
    assert stored(tmp_path)["train"].conditions.values.max() == 1  # built again


def test_attributes_of_the_grammar_are_those_of_its_parser(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path))
    some = grammar.reviews().sample(300, 5)
    monkeypatch.setattr(
        grammar, "splits", lambda: {"train": some[:200], "valid": some[200:250], "test": some[250:]}
    )
    data = Data(corpus="grammar", condition_on=("sentiment", "tense"))
    corpus = open_corpus(data)
    names, store = corpus.splits["train"].conditions.names, corpus.splits["train"]
    for text, numbers in zip(corpus.texts("train"), store.conditions.values, strict=True):
        expected = grammar.reviews().attributes(text)
        assert [names[column][number] for column, number in zip(names, numbers, strict=True)] == [
            expected["sentiment"],
            expected["tense"],
        ]
    with pytest.raises(RequestError, match="no attribute 'sentimen'; .*sentiment"):
        open_corpus(Data(corpus="grammar", condition_on=("sentimen",)))
    described = corpus.description()
    assert described["conditions"]["tense"] == ["future", "past", "present"]
    recorded = described["splits"]
    assert next(cached_corpora(data, recorded)).splits["test"].conditions is not None
    other = Data(corpus="grammar", condition_on=("tense",))
    assert not list(cached_corpora(other, open_corpus(other).description()["splits"] | {"test": recorded["test"]}))


def test_labels_are_given_by_name_for_all_or_for_each():
    assert NAMES.labels({"place": "cafe", "stars": 5}).values.tolist() == [[1, 1]]
    assert NAMES.labels({"stars": ["1", "5"], "place": "bar"}).values.tolist() == [[0, 0], [1, 0]]


@pytest.mark.parametrize(
    "given, message",
    [
        ({"stars": "5"}, "place is not given; it has bar, cafe"),
        ({"stars": "5", "place": "bat"}, "condition place = 'bat': not among the labels trained on.*'bar'"),
        ({"stars": "5", "place": "bar", "plac": "x"}, "no column 'plac'"),
        ({"stars": ["1", "5"], "place": ["bar"] * 3}, "lists of 2 and 3 values"),
        ("negative", "is a str, not a dictionary"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(given, message):
    with pytest.raises(RequestError, match=message):
        NAMES.labels(given)


def test_a_column_is_named_once():
    with pytest.raises(ValueError, match="twice"):
        Data(condition_on=("a", "a"))
    assert Data(condition_on=[1]).condition_on == ("1",)


def test_the_text_of_json_lines_is_not_the_key_of_a_condition(tmp_path):
    path = written(tmp_path, '{"question": "how ?", "answer": "so ."}\n', "a.jsonl")
    assert [(one.text, one.marks) for one in read(path, marks=("question",))] == [("so .", ("how ?",))]
