"""Models that read and write the last token first: nobody sees it in a text, the model sees nothing else."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import textvae
from textvae.errors import RequestError
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.likelihood import distance_to_truth
from textvae.files import write_tensors
from textvae.generate.decoding import Decoding, greedy
from textvae.model import build as build_model
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.settings import Data, TokenizerSettings
from textvae.text import grammar
from textvae.text.batches import Batch, build
from textvae.text.corpus import cache, open_corpus
from textvae.text.tokenizers import BOS, EOS, NAMES, PAD, UNK, Tokenizer
from textvae.training.loop import train

LINES = ["the food was great .", "the staff was nice .", "we liked the food", "naïve café ☕ 寿司 👩‍🚀 !"]
# Combining marks, flags and families of several code points, text that runs from right to left, odd spaces.
AWKWARD = [
    "e\u0301te\u0301",
    "🇩🇪🇫🇷",
    "👩‍👩‍👧 x",
    "שלום עולם",
    "a\u200db",
    "ﷺ",
    "\u202ea b",
    " a  b ",
    "a\u00a0b\tc",
    "\ufeffx",
    "",
]
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.sampled_from([*AWKWARD, *LINES])).map(" ".join)
)


def both(name, lines=LINES):
    """The same tokenizer in either direction."""
    size = 300 if name == "bpe" else None
    return tuple(Tokenizer.train(name, lines, size, 1, right_to_left=turned) for turned in (False, True))


PAIRS = {name: both(name, [*LINES, *AWKWARD]) for name in NAMES}


def test_ids_by_hand():
    plain, turned = both("word", ["a cat sat", "a dog"])
    assert plain.tokens == turned.tokens == ["<pad>", "<unk>", "<bos>", "<eos>", "a", "cat", "dog", "sat"]
    assert turned.encode(["a cat sat", "the dog", ""]) == [[7, 5, 4], [6, UNK], []]
    assert turned.decode([BOS, 7, 5, 4, EOS, 6, PAD]) == "a cat sat"
    assert turned.encode_lines(["a cat\na dog", "\nsat\n\n"]) == [[5, 4, EOS, 6, 4], [EOS, 7, EOS, EOS]]
    assert turned.decode_lines([BOS, 5, 4, EOS, 6, 4, PAD]) == "a cat\na dog"
    assert turned.decode_lines(torch.tensor([EOS, 7, EOS, EOS])) == "\nsat\n\n"
    assert plain.beginning([4, 5, 7], 2) == [4, 5] and turned.beginning([7, 5, 4], 2) == [5, 4]
    with pytest.raises(RequestError, match="id 99 is outside the vocabulary"):
        turned.decode_lines([4, EOS, 99])


@pytest.mark.parametrize("name", NAMES)
@given(text=TEXT, data=st.data())
def test_texts_come_back_as_from_a_model_in_reading_order(name, text, data):
    plain, turned = PAIRS[name]
    (ids,), (back,) = plain.encode([text]), turned.encode([text])
    assert back == ids[::-1]
    assert turned.decode([BOS, *back, EOS, PAD]) == plain.decode(ids)
    assert turned.decode_batch([back, [], back]) == [plain.decode(ids), "", plain.decode(ids)]
    if name == "bpe":  # which loses nothing
        assert turned.decode(back) == text
    tokens = data.draw(st.integers(1, len(ids) + 1))
    assert turned.decode(turned.beginning(back, tokens)) == plain.decode(plain.beginning(ids, tokens))


@pytest.mark.parametrize("name", NAMES)
@given(texts=st.lists(TEXT, max_size=4))
def test_lines_are_turned_round_each_by_itself(name, texts):
    for tokenizer in PAIRS[name]:
        piece = "\n".join(text.replace("\n", " ") for text in texts)
        (ids,) = tokenizer.encode_lines([piece])
        lines = tokenizer.encode(piece.split("\n"))
        assert [*ids, EOS] == [i for line in lines for i in (*line, EOS)]
        assert tokenizer.decode_lines(ids) == "\n".join(map(tokenizer.decode, lines))
        assert tokenizer.encode_lines([tokenizer.decode_lines(ids)] * 2) == [ids] * 2 or UNK in ids


def test_the_file_is_the_same_in_both_directions(tmp_path):
    plain, turned = PAIRS["word"]
    plain.save(tmp_path / "a.json"), turned.save(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    for turn in (False, True):
        assert Tokenizer.load(tmp_path / "b.json", turn).encode(LINES) == (turned if turn else plain).encode(LINES)


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXTVAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("b a c\nb a\nb\n")
    return {split: str(tmp_path / "text.txt") for split in ("train", "valid")}


def test_stores_of_both_directions_live_side_by_side(text):
    rows = {}
    for turned in (False, True, False):
        corpus = open_corpus(Data(**text, right_to_left=turned))
        store = corpus.split("train")
        rows[turned] = [store[i].tolist() for i in range(len(store))]
        assert [corpus.tokenizer.decode(row) for row in rows[turned]] == ["b a c", "b a", "b"]
    assert rows == {
        False: [[4, 5, 6, EOS], [4, 5, EOS], [4, EOS]],
        True: [[6, 5, 4, EOS], [5, 4, EOS], [4, EOS]],
    }
    assert len([path for path in (cache() / "stores").iterdir() if path.is_dir()]) == 2


def test_a_folder_of_the_other_direction_is_built_anew(tmp_path):
    first = build(tmp_path, {"train": ["b a c"], "valid": ["b"]})["train"]
    second = build(tmp_path, {"train": ["b a c"], "valid": ["b"]}, right_to_left=True)["train"]
    assert first.ids.tolist() == second.ids.tolist()[2::-1] + [EOS] and first.fingerprint != second.fingerprint


def test_what_is_cut_is_the_end_of_the_text(text):
    asked = {**text, "max_length": 2, "too_long": "cut"}
    store = open_corpus(Data(**asked, right_to_left=True)).split("train")
    assert store[0].tolist() == [5, 4, EOS]  # "b a", backwards
    assert store.counts["cut"] == 1


def test_pieces_are_of_sentences_turned_round(text):
    characters = TokenizerSettings(name="character")
    corpus = open_corpus(Data(**text, right_to_left=True, window=4, tokenizer=characters))
    store = corpus.split("train")
    shown = [[corpus.tokenizer.tokens[i] for i in store[row]] for row in range(len(store))]
    assert shown == [["c", " ", "a", " "], ["b", "<eos>", "a", " "], ["b", "<eos>", "b", "<eos>"]]
    assert [corpus.tokenizer.decode_lines(store[row]) for row in range(3)] == [" a c", "b\n a", "b\nb\n"]


def test_the_grammars_probabilities_are_those_of_the_texts(tmp_path):
    texts = grammar.reviews().sample(40, seed=5)
    found = []
    for turned in (False, True):
        folder = tmp_path / str(turned)
        store = build(folder, {"train": texts, "valid": texts[:3]}, right_to_left=turned)["train"]
        nll = torch.arange(40, dtype=torch.float64)
        found.append(
            distance_to_truth(nll, store, np.arange(40), Tokenizer.load(folder / "tokenizer.json", turned))
        )
    assert found[0] == found[1] and math.isfinite(found[0].surprisal)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run of a right-to-left model that was never trained, its weights large enough for varied sentences."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    tables = {
        "data": {"corpus": "somewhere.txt", "max_length": 4, "right_to_left": True},
        "model": {"latent": 4, "embedding": 6, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "init": 1.0},
    }
    settings = load_settings(None, "vanilla", (), **tables)
    tokenizer = both("word")[1]
    Run.create(folder, settings, tokenizer, {})
    torch.manual_seed(1)
    untrained = build_model(settings.model, len(tokenizer))
    torch.nn.init.constant_(untrained.decoder.words.bias[EOS], 1.5)
    write_tensors(folder / "model.safetensors", untrained.state_dict())
    return textvae.load(folder)


def test_a_trained_model_reads_the_last_word_first(model):
    names = model.tokenizer.tokens
    batch = Batch(
        torch.tensor([[*(names.index(word) for word in ("food", "the", "liked", "we")), EOS]]),
        torch.tensor([5]),
        torch.tensor([0]),
    )
    with torch.no_grad():
        expected = model.model.encode(batch).mean.numpy()
    np.testing.assert_allclose(model.encode(["we liked the food"]), expected, atol=1e-6)
    with pytest.warns(UserWarning, match=r"cut to their first 4 tokens \(data\.max_length\)"):
        cut = model.encode(["we liked the food was nice"])
    np.testing.assert_allclose(cut, expected, atol=1e-6)


def test_a_trained_model_writes_the_last_word_first(model):
    texts = model.sample(40, decoding=Decoding("sample"))
    assert any(len(text.split()) > 2 for text in texts)
    codes = model.draw(40)
    with torch.no_grad():
        seen = model.model.code(torch.from_numpy(codes))
    rows = greedy(model.model.decoder, seen, 4)
    expected = [" ".join(model.tokenizer.tokens[i] for i in reversed(row)) for row in rows]
    assert model.decode(codes) == expected and model.sample(40) == expected
    assert model.reconstruct(["we liked the food"]) == model.decode(model.encode(["we liked the food"]))
    ends = model.interpolate(codes[0], codes[1], 2)
    assert ends == expected[:2]


def test_from_training_to_scores(tmp_path):
    tables = {
        "data": {"corpus": "grammar", "right_to_left": True},
        "model": {"latent": 2, "embedding": 4, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}},
        "train": {"batch_size": 500, "max_steps": 2, "device": "cpu"},
    }
    run = train(load_settings(None, "vanilla", (), **tables), tmp_path / "run")
    found = evaluate(run.folder, iw_samples=2, iw_sentences=20)
    language = grammar.reviews()
    rows = np.sort(np.random.default_rng([0, 1]).choice(found["sentences"], 20, replace=False))
    texts = grammar.splits()["test"]
    expected = -sum(language.log_prob(texts[row]) for row in rows) / 20
    assert found["surprisal"] == pytest.approx(expected)
