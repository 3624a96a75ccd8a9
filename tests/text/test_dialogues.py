"""Dialogues and sources as conditions: read, refused, stored once, and taken as contexts."""

import gzip
import json

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings as drawing
from hypothesis import strategies as some

from textvae.errors import RequestError
from textvae.objective.settings import parse
from textvae.objective.terms import TERMS
from textvae.settings import Data
from textvae.text import registry
from textvae.text.batches import build, collate, evaluation_places
from textvae.text.conditions import Turns
from textvae.text.corpus import cached_corpora, open_corpus, readings, training_texts
from textvae.text.dialogues import DialogueColumns, dialogues
from textvae.text.readers import Sentence
from textvae.text.sources import Columns, texts_of, units_of
from textvae.text.store import TokenStore
from textvae.text.tokenizers import PAD, Tokenizer

HEADER = ("conversation", "turn", "speaker", "act", "utterance")
ROWS = [
    ("7", "0", "ann", "q", "how are you ?"),
    ("7", "1", "bob", "s", "fine ."),
    ("7", "2", "ann", "s", "good ."),
    ("9", "0", "cy", "q", "what now ?"),
    ("9", "3", "cy", "q", "well ?"),
    ("9", "4", "dan", "s", "no idea . really"),
]
COLUMNS = DialogueColumns()
LETTERS = {"tokenizer": {"name": "character"}}  # by which texts of other splits can be read


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "cache"))


def table(rows=ROWS, header=HEADER, separator="\t"):
    return "".join(separator.join(row) + "\n" for row in ([header, *rows] if header else rows))


def written(folder, text=None, name="calls.tsv"):
    path = folder / name
    path.write_text(table() if text is None else text, encoding="utf-8")
    return path


def stored(folder, given, /, **others):
    columns = {"dialogue": COLUMNS, "max_length": None} | others
    return build(folder / "store", {"train": given}, valid=0.0, test=0.0, **columns)["train"]


def spoken(folder, store, window=10):
    """Return what a batch of all responses says: context, flags and response of each."""
    tokenizer, view = Tokenizer.load(folder / "store" / "tokenizer.json"), store.responses(window)
    batch = collate(view, np.arange(len(view)))
    turns = batch.condition
    return [
        (
            [
                tokenizer.decode(turns.ids[row, at, : turns.lengths[row, at]].tolist())
                for at in range(turns.counts[row])
            ],
            turns.speakers[row, : turns.counts[row]].tolist(),
            tokenizer.decode(batch.ids[row, : batch.lengths[row]].tolist()),
        )
        for row in range(len(view))
    ]


EXPECTED = [
    (["how are you ?"], [0], "fine ."),
    (["how are you ?", "fine ."], [1, 0], "good ."),
    (["what now ?"], [1], "well ?"),
    (["what now ?", "well ?"], [0, 0], "no idea . really"),
]


@pytest.mark.parametrize("name", ["calls.tsv", "calls.csv", "calls.jsonl", "calls.tsv.gz"])
def test_dialogues_are_read_from_tables_by_common_names_of_their_columns(tmp_path, name):
    if "jsonl" in name:
        text = "\n".join(json.dumps(dict(zip(HEADER, row, strict=True)) | {"turn": int(row[1])}) for row in ROWS)
    else:
        text = table(separator="," if "csv" in name else "\t")
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    assert spoken(tmp_path, stored(tmp_path, path)) == EXPECTED


def test_columns_are_given_by_position_where_there_is_no_header_and_turns_are_optional(tmp_path):
    path = written(tmp_path, table(header=None))
    assert spoken(tmp_path, stored(tmp_path, path, dialogue=DialogueColumns("0", "2"))) == EXPECTED
    data = Data.model_validate({"train": str(path), "dialogue": {"dialogue": 0, "speaker": 2, "turn": 1}})
    assert data.dialogue.speaker == "2"
    store = open_corpus(
        data.model_copy(update={"split": data.split.model_copy(update={"valid": 0.0, "test": 0.0})})
    )
    assert len(store.splits["train"]) == 4


def test_the_notes_name_the_columns_that_are_read(tmp_path):
    data = Data.model_validate({"train": str(written(tmp_path)), "dialogue": {}})
    reading = next(readings(data))
    next(reading)
    assert 'the text is column "utterance" (4), the dialogue column "conversation" (0)' in reading.notes[0]


@pytest.mark.parametrize(
    "text, message",
    [
        (table([*ROWS, ("7", "5", "ann", "s", "hm .")]), r"calls.tsv:8: dialogue '7' ended on line 4, .* sort"),
        (table([ROWS[1], ROWS[0]]), "calls.tsv:3: turn 0 of dialogue '7' comes after turn 1"),
        (table([ROWS[0], ROWS[0]]), "calls.tsv:3: turn 0 of dialogue '7' comes twice"),
        (table([ROWS[0], ("7", "one", "bob", "s", "hm .")]), "calls.tsv:3: turn 'one' is not a number"),
        (table([ROWS[0], ("7", "nan", "bob", "s", "hm .")]), "calls.tsv:3: turn 'nan' is not a number"),
        (table([ROWS[0], ("7", "1", " ", "s", "hm .")]), "calls.tsv:3: the speaker is blank"),
        (table([ROWS[0], ("", "1", "bob", "s", "hm .")]), "calls.tsv:3: the dialogue is blank"),
        (table([ROWS[0], ROWS[3]]), "calls.tsv: no dialogue has two utterances"),
        (table(header=("a", "turn", "speaker", "act", "utterance")), "calls.tsv:1: no column has .* a dialogue"),
        (table(header=("dialog", "turn", "b", "act", "utterance")), "calls.tsv:1: no column has .* a speaker"),
        (
            table(header=("dialog", "turn", "from", "speaker", "utterance")),
            "which column is the speaker, 'from' and",
        ),
    ],
)
def test_rows_that_are_no_dialogues_are_refused_before_anything_is_written(tmp_path, text, message):
    with pytest.raises(RequestError, match=message):
        stored(tmp_path, written(tmp_path, text))
    assert not (tmp_path / "store" / "meta.json").exists()


def test_plain_text_and_columns_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(RequestError, match="plain text has no columns"):
        stored(tmp_path, written(tmp_path, name="calls.txt"))
    with pytest.raises(RequestError, match="no column 'talk'"):
        stored(tmp_path, written(tmp_path), dialogue=DialogueColumns("talk"))
    with pytest.raises(RequestError, match="no column 7"):
        stored(tmp_path, written(tmp_path), dialogue=DialogueColumns("0", "7"))


def test_a_dialogue_of_one_utterance_is_counted_and_left_out_with_its_words(tmp_path):
    rows = [("3", "0", "ann", "s", "unheard ."), *ROWS, ("11", "0", "ann", "s", "bye .")]
    store = stored(tmp_path, written(tmp_path, table(rows)))
    assert spoken(tmp_path, store) == EXPECTED
    assert store.counts["alone"] == 2 and store.counts["dialogues"] == 2 and store.counts["sentences"] == 6
    assert "unheard" not in Tokenizer.load(tmp_path / "store" / "tokenizer.json").tokens


def test_a_silent_turn_is_left_out_of_contexts_and_responses(tmp_path):
    rows = [*ROWS[:1], ("7", "0.5", "bob", "s", "  "), *ROWS[1:]]
    store = stored(tmp_path, written(tmp_path, table(rows)))
    assert spoken(tmp_path, store) == EXPECTED and store.counts["blank"] == 1


def test_long_utterances_are_cut_and_none_is_dropped(tmp_path):
    path = written(tmp_path)
    store = stored(tmp_path, path, max_length=2, too_long="cut")
    assert store.counts["cut"] == 3 and store.counts["dropped"] == 0
    assert spoken(tmp_path, store)[1] == (["how are", "fine ."], [1, 0], "good .")
    with pytest.raises(RequestError, match=r"data.too_long: .* contexts"):
        stored(tmp_path, path, max_length=2)


def test_the_window_counts_the_response_and_keeps_the_last_utterances(tmp_path):
    store = stored(tmp_path, written(tmp_path))
    assert spoken(tmp_path, store, 2)[1] == (["fine ."], [0], "good .")
    assert spoken(tmp_path, store, 3) == EXPECTED


def test_right_to_left_reverses_every_utterance(tmp_path):
    store = stored(tmp_path, written(tmp_path), right_to_left=True)
    batch, tokenizer = (
        collate(store.responses(10), np.array([1])),
        Tokenizer.load(tmp_path / "store/tokenizer.json"),
    )
    assert [tokenizer.tokens[one] for one in batch.condition.ids[0, 0, :2].tolist()] == ["?", "you"]


@pytest.mark.parametrize("extra", [{}, {"turn": 1}])
def test_settings_of_a_run_are_those_that_were_given(extra):
    settings = parse({"data": {"dialogue": extra}}, TERMS)
    assert settings.data.dialogue and parse(settings.model_dump(exclude_none=True), TERMS) == settings


DIALOGUES = some.lists(
    some.lists(some.tuples(some.sampled_from("AB"), some.integers(1, 4)), min_size=1, max_size=7),
    min_size=1,
    max_size=6,
).filter(lambda found: any(len(dialogue) > 1 for dialogue in found))


@drawing(deadline=None, max_examples=40)
@drawn(DIALOGUES, some.integers(2, 5), some.randoms(use_true_random=False))
def test_contexts_equal_a_slow_construction(tmp_path_factory, found, window, random):
    folder = tmp_path_factory.mktemp("dialogues")
    said = [[(who, " ".join(random.choices("abc", k=size))) for who, size in dialogue] for dialogue in found]
    rows = [(str(i), str(j), who, text) for i, one in enumerate(said) for j, (who, text) in enumerate(one)]
    path = written(folder, table(rows, ("dialogue", "turn", "speaker", "text")))
    expected = [
        ([text for _, text in past], [int(who == one[j][0]) for who, _ in past], one[j][1])
        for one in said
        for j in range(1, len(one))
        for past in [one[max(0, j - window + 1) : j]]
    ]
    store = stored(folder, path)
    assert spoken(folder, store, window) == expected
    view = store.responses(window)
    contexts = [sum(len(text.split()) + 1 for text in past) for past, _, _ in expected]
    assert view.turns.tokens(np.arange(len(view))).tolist() == contexts


def test_a_batch_is_padded_beyond_its_turns_and_its_rows_can_be_taken(tmp_path):
    view = stored(tmp_path, written(tmp_path)).responses(10)
    turns = collate(view, np.array([1, 0])).to(torch.device("cpu")).condition
    assert isinstance(turns, Turns) and turns.ids.shape == (2, 2, 5) and turns.counts.tolist() == [2, 1]
    assert turns.lengths.tolist() == [[5, 3], [5, 0]] and (turns.ids[1, 1] == PAD).all()
    assert turns.speakers.tolist() == [[1, 0], [0, 0]]
    assert all(part.dtype == torch.long for part in turns)
    assert torch.equal(turns.at(torch.tensor([1])).ids, turns.ids[1:])
    assert collate(view, np.arange(0)).condition.ids.shape == (0, 0, 0)


def test_windows_take_no_memory_but_that_of_their_sentences(tmp_path):
    """2,000 utterances in one dialogue: nearly every response has a full context."""
    rows = (Sentence(f"a b c {i % 7}", None, i + 1, ("x", "AB"[i % 2], str(i))) for i in range(2000))
    store = stored(tmp_path, list(rows))
    views = [store.responses(window) for window in (2, 1000)]
    for view in views:
        assert view.ids is store.ids and view.turns.ids is store.ids and view.turns.lengths is store.lengths
        assert np.shares_memory(view.turns.first, store.dialogues)
    own = [sum(part.nbytes for part in (view.starts, view.lengths, view.turns.responses)) for view in views]
    assert own[0] == own[1] == 3 * 8 * 1999
    files = sum(file.stat().st_size for file in (tmp_path / "store").glob("train.*"))
    assert files == 2000 * 5 * 2 + 2001 * 8 + 2000 * 8  # ids, offsets, turns


def test_views_are_told_apart_by_window_speakers_and_dialogues(tmp_path):
    stores = []
    for number, change in enumerate((("", ""), ("bob", "ann"), ("9\t", "7\t"))):
        text = (
            table([row for row in ROWS if row[2] != "cy" or change[0] != "9\t"]).replace(*change)
            if number
            else None
        )
        folder = tmp_path / str(number)
        folder.mkdir()
        stores.append(stored(folder, written(folder, text)))
    prints = {store.responses(window).fingerprint for store in stores for window in (2, 10)}
    assert len(prints) == 6 and stores[0].fingerprint == stores[1].fingerprint
    assert stores[0].pieces(10).fingerprint not in prints
    assert stores[0].pieces(10).counts.keys() == {"sentences", "tokens", "dropped", "cut", "blank"}


def test_a_store_without_dialogues_has_no_responses_and_its_batches_no_condition(tmp_path):
    store = stored(tmp_path, written(tmp_path), dialogue=None)
    assert store.dialogues is None and collate(store, np.arange(2)).condition is None
    with pytest.raises(RequestError, match="no dialogues"):
        store.responses(10)
    meta = json.loads((tmp_path / "store" / "meta.json").read_text())
    assert not {"turn_hash", "alone", "dialogues"} & set(meta["splits"]["train"])


@pytest.mark.parametrize("turns", [[[1, 0]] * 6, [[0, 0]] * 3 + [[2, 0]] * 3, [[0, -1]] * 6])
def test_damaged_turns_are_noticed(tmp_path, turns):
    path = written(tmp_path)
    stored(tmp_path, path)
    (tmp_path / "store" / "train.turns").write_bytes(np.array(turns, dtype="<i4").tobytes())
    with pytest.raises(RequestError, match="turns: damaged"):
        TokenStore.open(tmp_path / "store", "train")
    assert stored(tmp_path, path).dialogues[:, 0].tolist() == [0, 0, 0, 3, 3, 3]  # built again


def test_labels_stay_with_their_responses(tmp_path):
    view = stored(tmp_path, written(tmp_path), label="act").responses(10)
    assert [view.label_names[number] for number in view.labels] == ["s", "s", "q", "s"]


def many(count=200):
    """Return dialogues of three utterances, each twice, under different names."""
    rows = [
        (f"{i}-{copy}", str(j), "AB"[j % 2], f"w{i} t{j}") for i in range(count) for copy in "xy" for j in range(3)
    ]
    return table(rows, ("dialogue", "turn", "speaker", "text"))


def test_a_single_file_is_split_by_dialogue_and_equal_dialogues_share_a_split(tmp_path):
    data = Data.model_validate(
        {"corpus": str(written(tmp_path, many())), "dialogue": {}, "split": {"valid": 0.2, "test": 0.2}, **LETTERS}
    )
    corpus = open_corpus(data)
    words = {split: {text.split()[0] for text in corpus.texts(split)} for split in corpus.splits}
    assert sorted(map(len, words.values()))[0] > 20 and len(set().union(*words.values())) == 200
    assert sum(map(len, words.values())) == 200
    assert all(len(store) == 4 * len(words[split]) for split, store in corpus.splits.items())
    recorded = corpus.description()["splits"]
    assert recorded["train"]["utterances"] == 6 * len(words["train"])
    assert len(list(cached_corpora(data, recorded))) == 1
    other = data.model_copy(update={"dialogue": data.dialogue.model_copy(update={"window": 2})})
    assert not list(cached_corpora(other, recorded))
    assert open_corpus(other).splits["train"].turns.window == 2
    assert len(list((tmp_path / "cache" / "stores").glob("*/meta.json"))) == 1  # one store for all windows


def test_too_few_dialogues_for_a_split_are_counted(tmp_path):
    data = Data.model_validate({"corpus": str(written(tmp_path, many(1))), "dialogue": {}})
    with pytest.raises(RequestError, match="of 2 dialogues 1 are different, and equal ones share a split"):
        open_corpus(data)


@pytest.mark.parametrize(
    "table, message",
    [
        ({"dialogue": {}, "window": 5}, "data.window = 5: cannot be together with data.dialogue"),
        ({"dialogue": {}, "condition_on": ["act"]}, "data.condition_on .*data.dialogue"),
        ({"dialogue": {}, "source": "act"}, "data.source = .*data.dialogue"),
        ({"dialogue": {}, "too_long": "drop"}, "data.too_long = .*contexts .* set 'cut'"),
        ({"source": "text", "column": "text"}, "data.source = .*column of the text itself"),
    ],
)
def test_settings_that_exclude_a_condition_are_refused(tmp_path, table, message):
    data = Data.model_validate({"train": str(written(tmp_path)), **table})
    with pytest.raises(RequestError, match=message):
        open_corpus(data)


def test_utterances_are_cut_by_default_and_sentences_dropped():
    assert Data.model_validate({"dialogue": {}}).too_long == "cut"
    assert Data.model_validate({"source": "de"}).too_long == Data().too_long == "drop"
    assert Data.model_validate(Data.model_validate({"dialogue": {}}).model_dump()).dialogue.window == 10


@pytest.mark.parametrize("window", [1, 1001])
def test_a_window_has_room_for_a_context(window):
    with pytest.raises(RequestError, match=f"data.dialogue.window = {window}: "):
        parse({"data": {"dialogue": {"window": window}}}, TERMS)


def test_dialogues_of_the_registry_are_found_by_the_names_of_their_columns(tmp_path):
    for split in ("train", "valid", "test"):
        path = tmp_path / "mirror" / "swda" / f"{split}.dialogs.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table(header=None), encoding="utf-8")
    data = Data.model_validate({"corpus": "swda", "dialogue": {}, "label": "act"})
    corpus = open_corpus(data, tmp_path / "mirror")
    assert list(corpus.texts("valid")) == [response for _, _, response in EXPECTED]
    assert corpus.splits["test"].label_names == ["q", "s"]
    assert list(training_texts(data, tmp_path / "mirror")) == [row[-1] for row in ROWS]
    with pytest.raises(RequestError, match="data.dialogue: swda has no label 'acts'"):
        open_corpus(Data.model_validate({"corpus": "swda", "dialogue": {"turn": "acts"}}), tmp_path / "mirror")
    with pytest.raises(RequestError, match="data.dialogue: ptb.*no column has a known name of a dialogue"):
        open_corpus(Data.model_validate({"corpus": "ptb", "dialogue": {}}), tmp_path / "mirror")
    for setting in ({"dialogue": {}}, {"source": "text"}):
        with pytest.raises(RequestError, match="grammar has sentences by themselves"):
            open_corpus(Data.model_validate({"corpus": "grammar", **setting}))


def test_all_registered_dialogues_have_the_columns():
    for name in ("swda", "swda_topic", "dailydialog"):
        labels = registry.find(name).labels
        assert {"turn", "speaker"} < set(labels) and {"dialogue", "conversation"} & set(labels)


def test_batches_of_an_evaluation_count_the_tokens_of_contexts(tmp_path):
    rows = [Sentence("a b", None, i + 1, ("x", "A")) for i in range(50)]
    view = stored(tmp_path, rows).responses(10)
    every = np.arange(len(view))
    batches = list(evaluation_places(view, 120, every))
    assert np.sort(np.concatenate(batches)).tolist() == every.tolist()
    costs = [3 * len(own) + int(view.turns.tokens(own).sum()) for own in batches]
    assert max(costs) <= 120 and len(batches) == pytest.approx(sum(costs) / 120, abs=3)
    assert [len(own) for own in evaluation_places(view, 1, every)] == [1] * 49  # none fits: one by one


PAIRS = "source,target\nwie geht 's ?,how are you ?\ngut .,fine .\ngut .,good .\n,lost .\nso lang wie nie,short\n"


def test_a_source_is_the_one_turn_before_its_target(tmp_path):
    store = stored(tmp_path, written(tmp_path, PAIRS, "pairs.csv"), dialogue=None, source="source")
    assert spoken(tmp_path, store, 2) == [
        (["wie geht 's ?"], [0], "how are you ?"),
        (["gut ."], [0], "fine ."),
        (["gut ."], [0], "good ."),
        (["so lang wie nie"], [0], "short"),
    ]
    assert store.counts["blank"] == 1 and store.counts["alone"] == 0
    assert {"geht", "how"} < set(Tokenizer.load(tmp_path / "store" / "tokenizer.json").tokens)


@pytest.mark.parametrize("limit, pairs", [(3, 2), (4, 4)])
def test_a_source_is_dropped_with_its_target(tmp_path, limit, pairs):
    path = written(tmp_path, PAIRS, "pairs.csv")
    store = stored(tmp_path, path, dialogue=None, source="source", max_length=limit)
    assert len(store.responses(2)) == pairs == 4 - store.counts["dropped"]
    cut = stored(tmp_path, path, dialogue=None, source="source", max_length=2, too_long="cut")
    assert spoken(tmp_path, cut, 2)[0] == (["wie geht"], [0], "how are") and cut.counts["cut"] == 3


def test_targets_of_a_source_share_a_split_and_the_source_is_not_the_text(tmp_path):
    rows = "".join(f"s{i},t{i} {way}\n" for i in range(100) for way in "xy")
    path = written(tmp_path, "question,answer\n" + rows, "pairs.csv")
    shares = {"valid": 0.3, "test": 0.0}
    columns = {"column": "answer", "source": "question"}
    data = Data.model_validate({"corpus": str(path), "split": shares, **columns, **LETTERS})
    corpus = open_corpus(data)
    first = {split: {text.split()[0] for text in corpus.texts(split)} for split in corpus.splits}
    assert not first["train"] & first["valid"] and len(corpus.splits["valid"]) == 2 * len(first["valid"])
    turns = collate(corpus.splits["valid"], np.arange(3)).condition
    assert turns.ids.shape[:2] == (3, 1) and turns.counts.tolist() == [1, 1, 1]
    assert len(list(cached_corpora(data, corpus.description()["splits"]))) == 1
    assert sorted(training_texts(data))[:2] == ["s0", "s0"]


def test_utterances_in_memory_have_their_dialogue_and_speaker_as_marks():
    said = [Sentence(f"w{i}", None, i + 1, ("d", "ann")) for i in range(3)]
    (unit,) = units_of(said, Columns(dialogue=COLUMNS))
    assert unit.key == "w0\nw1\nw2" and [one.turn for one in unit.sentences] == [(0, 0), (1, 0), (2, 0)]
    assert list(texts_of(said, Columns(dialogue=COLUMNS))) == ["w0", "w1", "w2"]
    with pytest.raises(RequestError, match="sentence 1: has no marks; they are to be its dialogue and speaker"):
        list(units_of(["a"], Columns(dialogue=COLUMNS)))
    with pytest.raises(RequestError, match="its source"):
        list(units_of(["a"], Columns(source="de")))
    assert len(list(dialogues(said, "here"))) == 1
