"""Models of pieces of running text: which tokens a piece has, what is scored, and what comes out."""

import json
import math
import os
import signal
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

import textvae
from textvae.errors import RequestError
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.likelihood import perplexity_of
from textvae.evaluation.values import Missing
from textvae.files import read_tensors
from textvae.generate.decoding import Decoding
from textvae.inference import score
from textvae.objective.presets import load_settings
from textvae.objective.settings import Settings
from textvae.run import Run
from textvae.run.data import check_same_data
from textvae.settings import Data, TokenizerSettings
from textvae.text import grammar
from textvae.text.batches import Batch, TokenStore, build, collate, epoch_batches
from textvae.text.corpus import open_corpus
from textvae.text.tokenizers import EOS, PAD, UNK
from textvae.training.epochs import epoch_data
from textvae.training.loop import resume, train

LINES = ["ab", "c", "dab"]  # a, b, c, d are 4, 5, 6, 7
COUNTS = dict.fromkeys(("dropped", "cut", "blank"), 0) | {"fingerprint": "f"}
CHARACTERS = TokenizerSettings(name="character")


def stored(*lengths) -> TokenStore:
    """Sentences of the given numbers of tokens: 4, 5, 6, ... through all of them, and their end marks."""
    words = iter(range(4, 4 + sum(lengths)))
    ids = np.array([i for n in lengths for i in [*(next(words) for _ in range(n)), EOS]], dtype="<u2")
    offsets = np.cumsum([0, *(n + 1 for n in lengths)])
    return TokenStore(ids, offsets, None, {**COUNTS, "sentences": len(lengths), "tokens": len(ids)}, [])


@pytest.fixture
def files(tmp_path):
    """A file for each split, one of which has a character that training has not."""
    for split, lines in (("train", LINES), ("valid", ["cé", "a"]), ("test", ["bad"])):
        (tmp_path / f"{split}.txt").write_text("\n".join(lines) + "\n")
    return {split: str(tmp_path / f"{split}.txt") for split in ("train", "valid", "test")}


def test_pieces_by_hand(files):
    corpus = open_corpus(Data(**files, tokenizer=CHARACTERS, window=4))
    assert corpus.tokenizer.tokens[4:] == ["a", "b", "c", "d"]
    store = corpus.split("train")
    assert [store[i].tolist() for i in range(len(store))] == [[4, 5, EOS, 6], [EOS, 7, 4, 5], [EOS]]
    assert store.counts == {"sentences": 3, "tokens": 9, "dropped": 0, "cut": 0, "blank": 0}
    assert store.end_marks(np.array([0, 2])) == 2 and store.end_marks(np.array([], dtype=int)) == 0
    batch = collate(store, np.array([2, 0]))
    assert batch.ids.tolist() == [[EOS, PAD, PAD, PAD], [4, 5, EOS, 6]] and batch.lengths.tolist() == [1, 4]
    valid, test = corpus.split("valid"), corpus.split("test")
    assert valid[0].tolist() == [6, UNK, EOS, 4] and valid[1].tolist() == [EOS]
    assert [test[i].tolist() for i in range(len(test))] == [[5, 4, 7, EOS]]


def test_words_too_and_sentences_of_any_length(tmp_path):
    (tmp_path / "text.txt").write_text("a b\n" + "b " * 150 + "\n")
    asked = {"train": str(tmp_path / "text.txt"), "valid": str(tmp_path / "text.txt")}
    store = open_corpus(Data(**asked, window=7)).split("train")
    assert store.ids.tolist() == [5, 4, EOS, *[4] * 150, EOS] and store.counts["dropped"] == 0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 30))
def test_pieces_hold_every_token_once(lengths, window):
    store = stored(*lengths)
    view = store.pieces(window)
    rows = [view[i].tolist() for i in range(len(view))]
    assert sum(rows, []) == store.ids.tolist()
    assert {len(row) for row in rows[:-1]} <= {window} and 1 <= len(rows[-1]) <= window
    assert len(view) == math.ceil(len(store.ids) / window) == view.counts["sentences"]
    some = np.arange(0, len(view), 2)
    assert view.end_marks(some) == sum(row.count(EOS) for row in rows[::2])
    assert view.end_marks(np.arange(len(view))) == len(lengths) == store.end_marks(np.arange(len(store)))
    assert view.ids is store.ids and view.labels is None
    assert len({store.fingerprint, view.fingerprint, store.pieces(window + 1).fingerprint}) == 3


def test_positions_of_training_pieces_are_uniform_and_follow_from_seed_and_epoch():
    view = stored(*[9] * 4).pieces(7)  # 40 tokens: 34 positions, 6 pieces an epoch
    epochs = [view.drawn(seed=3, epoch=epoch) for epoch in range(1000)]
    assert all(len(one) == 6 and one.lengths.tolist() == [7] * 6 for one in epochs)
    again = view.drawn(seed=3, epoch=5)
    assert again.starts.tolist() == epochs[5].starts.tolist()
    assert [again[i].tolist() for i in range(6)] == [view.ids[at : at + 7].tolist() for at in again.starts]
    others = (epochs[6], view.drawn(seed=4, epoch=5))
    assert all(again.starts.tolist() != other.starts.tolist() for other in others)
    counts = Counter(np.concatenate([one.starts for one in epochs]).tolist())
    assert set(counts) == set(range(34))
    expected = 6000 / 34
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert statistic <= chi2.isf(1e-4, 33)
    assert stored(9, 9).pieces(20).drawn(0, 0).starts.tolist() == [0]  # the whole text, and nowhere else to begin


def test_an_epoch_is_of_pieces_or_of_sentences_as_they_are():
    settings = Settings.model_validate({"train": {"batch_size": 2, "seed": 8}})
    plain, view = stored(3, 1, 4, 1, 5), stored(3, 1, 4, 1, 5).pieces(4)
    store, batches = epoch_data(plain, settings, 2)
    assert store is plain
    expected = epoch_batches(plain.lengths, 2, 8, 2)
    assert [batch.tolist() for batch in batches] == [batch.tolist() for batch in expected]
    store, batches = epoch_data(view, settings, 2)
    assert store.starts.tolist() == view.drawn(8, 2).starts.tolist() != view.starts.tolist()
    assert sorted(np.concatenate(batches).tolist()) == list(range(5))
    # Every process makes the epoch for itself, and takes its share of the rows.
    elsewhere, theirs = epoch_data(view, settings, 2)
    whole = collate(store, batches[1])
    shares = [collate(elsewhere, theirs[1][part]) for part in (slice(0, 1), slice(1, None))]
    assert torch.equal(torch.cat([share.ids for share in shares]), whole.ids)


@pytest.mark.parametrize(
    ("model", "sorted_by_length"),
    [
        ({}, True),
        ({"encoder": {"name": "convolutional"}}, False),
        ({"decoder": {"name": "hybrid"}}, False),
        ({"encoder": {"name": "convolutional"}, "latent": 0}, True),  # which builds no encoder
    ],
)
def test_like_lengths_come_together_unless_a_part_is_of_fixed_length(model, sorted_by_length):
    settings = Settings.model_validate({"model": model, "train": {"batch_size": 10}})
    store = stored(*np.random.default_rng(0).integers(1, 40, 500).tolist())
    _, batches = epoch_data(store, settings, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    within = np.mean([store.lengths[batch].std() for batch in batches])
    overall = store.lengths.std()
    assert within < 0.1 * overall if sorted_by_length else within > 0.8 * overall


def test_perplexity_without_the_end_counts_what_is_no_end_mark():
    view = stored(2, 1).pieces(2)  # two words | an end mark and a word | an end mark
    rows = np.array([0, 1])
    tokens = int(view.lengths[rows].sum())
    assert perplexity_of(4.0, tokens) == pytest.approx(math.exp(4 / 4))
    assert perplexity_of(4.0, tokens - view.end_marks(rows)) == pytest.approx(math.exp(4 / 3))
    alone = np.array([2])
    without_end = int(view.lengths[alone].sum()) - view.end_marks(alone)
    assert perplexity_of(3.0, without_end) == Missing("there are only end marks")
    assert isinstance(perplexity_of(1e6, 1), Missing)


def test_what_cannot_be(files):
    with pytest.raises(RequestError, match=r"data\.window = 10: the training text of train\.txt has only 9 tokens"):
        open_corpus(Data(**files, tokenizer=CHARACTERS, window=10))
    assert len(open_corpus(Data(**files, tokenizer=CHARACTERS, window=9)).split("valid")) == 1  # shorter: one piece
    for name, value in (("max_length", 50), ("too_long", "cut"), ("label", "x")):
        with pytest.raises(RequestError, match=rf"data\.{name} = '?{value}'?: has no effect with data\.window"):
            open_corpus(Data(**files, **{name: value}, window=4))


def test_positions_are_those_of_the_longest_text():
    assert Data(window=60).positions == 60 and Data(max_length=60).positions == 61


SMALL = {
    "data": {"corpus": "grammar", "tokenizer": {"name": "character"}, "window": 20},
    "model": {
        "latent": 3,
        "embedding": 5,
        "encoder": {"hidden": 8},
        "decoder": {"hidden": 8, "dropout": 0.1},
        "init": 0.5,
    },
    "train": {"batch_size": 2000, "log_every": 5, "validate_every": 1000, "device": "cpu", "precision": "fp32"},
}


@pytest.fixture(scope="module")
def settings():
    """Of two epochs: the running text of the grammar's training split has some thousands of pieces."""
    tokens = sum(len(line) + 1 for line in grammar.splits()["train"])
    batches = math.ceil(math.ceil(tokens / 20) / 2000)
    return load_settings(None, "vanilla", [f"train.max_steps={batches + 3}"], **SMALL), batches


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    return train(settings[0], tmp_path_factory.mktemp("runs") / "run")


def test_a_stopped_run_goes_on_with_the_same_pieces(settings, run, tmp_path):
    wanted, batches = settings

    def stop(step, total, record):
        if step == batches + 1:  # within the second epoch
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(wanted, tmp_path / "run", stop)
    resume(tmp_path / "run")
    for name in ("model.safetensors", "checkpoint/last.safetensors"):
        mine, other = (read_tensors(folder / name)[0] for folder in (tmp_path / "run", run.folder))
        assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)
    untimed = [
        [{key: value for key, value in record.items() if key != "tokens_per_second"} for record in one.log()]
        for one in (Run.open(tmp_path / "run"), run)
    ]
    assert untimed[0] == untimed[1]


def test_scores_are_of_all_pieces_and_say_so(run):
    found = evaluate(run.folder, iw_samples=2, iw_sentences=3)
    lines = grammar.splits()["test"]
    characters = sum(map(len, lines))
    assert found["tokens"] == characters + len(lines) and found["tokens_without_end"] == characters
    assert found["sentences"] == math.ceil(found["tokens"] / 20)
    nats = found["bound"] * found["sentences"]
    assert found["bits_per_character"] == pytest.approx(nats / math.log(2) / (characters + len(lines)))
    assert found["perplexity_bound_without_end"] == pytest.approx(math.exp(nats / characters))
    assert "|window:20|" in found["signature"] and "surprisal" not in found
    recorded = run.environment["data"]["splits"]["test"]
    assert (recorded["sentences"], recorded["tokens"]) == (found["sentences"], found["tokens"])
    # By hand: the piece that begins at token 20, alone in its batch.
    corpus = open_corpus(run.settings.data)
    model, store = run.model(), corpus.split("test")
    scores = score(model, store)
    text = "\n".join(lines)[20:40]
    ids = torch.tensor(corpus.tokenizer.encode_lines([text]))
    assert ids.tolist() == [store[1].tolist()] and ids.shape == (1, 20)
    batch = collate(store, np.array([1]))._replace(ids=ids)
    with torch.no_grad():
        expected = -model.log_px(batch, scores.z[1][None, None]).sum()
    torch.testing.assert_close(scores.reconstruction[1], expected.double(), rtol=1e-5, atol=1e-5)


def test_other_text_is_noticed(run):
    corpus = open_corpus(run.settings.data)
    check_same_data(run, corpus)
    for other in ({"window": 21}, {"right_to_left": True}):
        changed = open_corpus(run.settings.data.model_copy(update=other))
        with pytest.raises(RequestError, match="is not the one that"):
            check_same_data(run, changed)


def test_samples_have_exactly_a_window_of_tokens(run):
    model = textvae.load(run.folder)
    texts = model.sample(50, seed=2, decoding=Decoding("sample", allow_unknown=False))
    assert [len(text) for text in texts] == [20] * 50
    assert any("\n" in text for text in texts), "no sample has a line break, so this shows nothing"
    # With a line break that is certain, all of a text is line breaks: it ends nothing.
    torch.nn.init.constant_(model.model.decoder.words.bias[EOS], 1e4)
    assert model.sample(2) == ["\n" * 20] * 2


def test_texts_are_read_as_pieces(run):
    model = textvae.load(run.folder)
    with torch.no_grad():
        ids = torch.tensor(model.tokenizer.encode_lines([" the\nf"]))
        batch = alone(ids)
        expected = model.model.encode(batch).mean[0].numpy()
    assert ids.shape == (1, 6) and ids[0, 4] == EOS and ids[0, 0] == model.tokenizer.encode([" "])[0][0]
    codes = model.encode([" the\nf", " the \r\n\n f", "the\nf"])
    np.testing.assert_allclose(codes[0], expected, atol=1e-6)
    np.testing.assert_array_equal(codes[0], codes[1])  # lines have no outer spaces, and none is blank
    assert np.abs(codes[0] - codes[2]).max() > 1e-4  # a piece may begin with a space
    with pytest.warns(UserWarning, match=r"1 of 2 texts cut to their first 20 tokens \(data\.window\)"):
        cut = model.encode(["the food was great\nand so on", "the food"])
    np.testing.assert_allclose(cut[0], model.encode(["the food was great\na"])[0], atol=1e-6)
    with pytest.raises(RequestError, match=r"texts\[1\]: is empty"):
        model.encode(["a", ""])
    with pytest.raises(RequestError, match="a list of texts is expected"):
        model.encode("a")
    with pytest.raises(RequestError, match="text 1 is not valid Unicode"):
        model.encode(["a\nb", "c\n\ud800"])


def alone(ids):
    return Batch(ids, torch.full((len(ids),), ids.shape[1]), torch.arange(len(ids)))


def test_the_command_line_keeps_a_text_on_one_line(run):
    from typer.testing import CliRunner

    from textvae.cli import app

    def call(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    model = textvae.load(run.folder)
    drawn = ["--decode", "sample", "--seed", 2]
    texts = model.sample(30, seed=2, decoding=Decoding("sample"))
    assert any("\n" in text for text in texts)
    shown = call("sample", run.folder, "-n", 30, *drawn)
    assert shown.removesuffix("\n").split("\n") == [text.replace("\n", "⏎") for text in texts]
    assert json.loads(call("sample", run.folder, "-n", 30, *drawn, "--json"))["samples"] == texts
    again = json.loads(call("reconstruct", run.folder, "good⏎the", "bad", *drawn, "--json"))["reconstructions"]
    found = model.reconstruct(["good\nthe", "bad"], Decoding("sample"), seed=2)
    assert [pair["text"] for pair in again] == ["good\nthe", "bad"]
    assert [pair["reconstruction"] for pair in again] == found
    path = call("interpolate", run.folder, "good⏎the", "bad", "--steps", 3).removesuffix("\n").split("\n")
    assert path == [text.replace("\n", "⏎") for text in model.interpolate("good\nthe", "bad", 3)]


def test_a_convolutional_model_takes_windows(tmp_path):
    """A window that its strides do not divide: the rest of the positions is padding."""
    tables = {
        **SMALL,
        "data": {**SMALL["data"], "window": 18},
        "model": {
            "latent": 3,
            "embedding": 5,
            "encoder": {"name": "convolutional", "maps": [6, 8]},
            "decoder": {"name": "hybrid", "first_maps": 6, "maps": [6, 6], "top": {"hidden": 8}},
        },
    }
    run = train(load_settings(None, "vanilla", ["train.max_steps=3"], **tables), tmp_path / "run")
    model = textvae.load(run.folder)
    texts = model.sample(4, decoding=Decoding("sample", allow_unknown=False))
    assert [len(text) for text in texts] == [18] * 4
    assert model.encode(texts).shape == (4, 3)


def test_build_is_the_same_store_for_all_windows(files, tmp_path):
    stores = [open_corpus(Data(**files, tokenizer=CHARACTERS, window=n)).split("train") for n in (2, 3)]
    assert stores[0].ids.tolist() == stores[1].ids.tolist()
    assert len({store.ids.base.filename for store in stores}) == 1
    plain = build(tmp_path / "plain", {"train": LINES, "valid": LINES}, tokenizer="character")["train"]
    assert plain.ids.tolist() == stores[0].ids.tolist() and plain.window is None
