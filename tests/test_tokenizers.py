import errno
import json
import os
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from textvae.errors import RequestError, WorkError
from textvae.text.cutting import LONGEST_WORD
from textvae.text.tokenizers import BOS, EOS, NAMES, PAD, SPECIALS, UNK, Tokenizer

LINES = ["the food was great .", "the staff was nice .", "we liked the food", "naïve café ☕ 寿司 !"]
ANY = st.text(st.characters(exclude_categories=["Cs"]))
CONTROL = {PAD, BOS, EOS}
RESERVED = {*SPECIALS, "_unk", "[unk]"}  # in any case, as whole words


def trained(name, lines=LINES, vocabulary=None, min_count=1, lowercase=False):
    return Tokenizer.train(name, iter(lines), vocabulary or (300 if name == "bpe" else None), min_count, lowercase)


BPE = trained("bpe")


@pytest.fixture(scope="module", params=NAMES)
def each(request):
    return trained(request.param)


def test_words_are_ranked_by_count_and_then_by_alphabet():
    words = trained("word", ["b a c", "b a", "b d"])
    assert words.tokens == [*SPECIALS, "b", "a", "c", "d"]
    assert trained("word", ["b a c", "b a", "b d"], vocabulary=2).tokens == [*SPECIALS, "b", "a"]
    assert trained("word", ["b a c", "b a", "b d"], min_count=2).tokens == [*SPECIALS, "b", "a"]
    assert len(words) == 8 and words.name == "word"
    assert words.encode(["a b zzz", ""]) == [[5, 4, UNK], []]


@given(st.lists(ANY), st.integers(1, 3), st.integers(1, 12))
@example(["<eos>"], 1, 1)
@example(["<EOS> <Unk> [UNK] <bos>x"], 1, 2)
@example(["<eo\u017f>"], 1, 2)  # a long s, which is an s in any case
def test_the_word_vocabulary_agrees_with_a_plain_count(lines, min_count, vocabulary):
    lines = [" ".join(line.split()) for line in [*lines, "x x x"]]  # str.split has four separators more
    counts = Counter(word for line in lines for word in line.split() if word.casefold() not in RESERVED)
    ranked = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
    expected = [*SPECIALS, *ranked[:vocabulary]]
    words = trained("word", lines, vocabulary, min_count)
    assert words.tokens == expected
    table = {word: i for i, word in enumerate(expected) if i >= len(SPECIALS)}
    assert words.encode(lines) == [[table.get(word, UNK) for word in line.split()] for line in lines]


def test_printed_unknown_words_are_one_unknown_and_are_not_counted():
    lines = ["<unk> _UNK [UNK] <UNK> a", "<unk> <unk> b_UNK UNK"]
    words = trained("word", lines, vocabulary=1)
    assert words.tokens == [*SPECIALS, "UNK"]
    assert trained("word", lines).tokens == [*SPECIALS, "UNK", "a", "b_UNK"]
    assert trained("word", lines).encode(lines) == [[1, 1, 1, 1, 5], [1, 1, 6, 4]]
    assert words.decode([UNK, 4]) == "<unk> UNK"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lowercase", [False, True])
def test_no_text_produces_a_control_token(name, lowercase):
    nasty = ["<eos> <pad> <bos> a <eos>", "<EOS> <Pad>", "x<eos>y <eos>", " <eos>", "<eos>", "<pad><eos>"] * 50
    tokenizer = trained(name, nasty, vocabulary=400 if name == "bpe" else None, lowercase=lowercase)
    for ids in tokenizer.encode(nasty):
        assert ids and not CONTROL & set(ids)
    assert tokenizer.tokens[:4] == list(SPECIALS) and len(set(tokenizer.tokens)) == len(tokenizer.tokens)
    if name in ("word", "words"):
        assert tokenizer.encode(["<eos> a"]) == [[UNK, tokenizer.tokens.index("a")]]
        inside = {"word": ["x<eos>y"], "words": ["x", "￭<￭", "eos", "￭>￭", "y"]}[name]
        assert set(inside) <= set(tokenizer.tokens)  # inside a word it is text
    else:
        text = nasty[2]
        assert tokenizer.decode(tokenizer.encode([text])[0]) == text


def test_no_white_space_lets_a_control_token_through():
    separators = [chr(c) for c in range(0x110000) if chr(c).isspace() or c in (0x180E, 0x200B, 0xFEFF)]
    words = trained("word", ["a"])
    for ids in words.encode([f"a{s}<eos>{s}<pad>{s}a" for s in separators]):
        assert not CONTROL & set(ids)


@given(text=ANY)
def test_bytes_lose_nothing(text):
    assert BPE.decode(BPE.encode([text])[0]) == text == BPE.normalise(text)


@given(text=ANY)
def test_characters_come_back(text):
    characters = trained("character", ["x", text])
    ids = characters.encode([text])[0]
    assert characters.decode(ids) == text == characters.normalise(text)
    assert len(ids) == len(text) and UNK not in ids


@given(text=ANY, lowercase=st.booleans())
def test_words_come_back_as_normalised(text, lowercase):
    words = trained("word", ["x", text], lowercase=lowercase)
    ids = words.encode([text])[0]
    assert words.decode(ids) == words.normalise(text)
    assert words.encode([words.normalise(text)])[0] == ids


def test_lower_case():
    words = trained("word", ["The FOOD the"], lowercase=True)
    assert words.tokens[4:] == ["the", "food"]
    assert words.normalise(" THE\tFood _UNK ") == "the food <unk>"
    assert trained("character", ["AbA"], lowercase=True).tokens[4:] == ["a", "b"]
    assert BPE.normalise("A  b") == "A  b"


def test_unknown_characters_are_printed():
    characters = trained("character", ["ab"])
    assert characters.decode(characters.encode(["a☕b"])[0]) == "a<unk>b"


def test_decoding_stops_at_the_end_mark_and_drops_padding(each):
    ids = each.encode([LINES[0]])[0]
    for framed in ([BOS, *ids, EOS, *ids, PAD], [BOS, *ids, EOS, PAD, PAD], [*ids, PAD]):
        assert each.decode(framed) == LINES[0]
        assert each.decode(torch.tensor(framed)) == LINES[0]
        assert each.decode(np.array(framed, dtype=np.uint16)) == LINES[0]
    assert each.decode([]) == each.decode([EOS]) == ""
    block = torch.tensor([[*ids, EOS], [EOS, *ids]])
    assert each.decode_batch(block) == each.decode_batch(block.tolist()) == [LINES[0], ""]
    with pytest.raises(RequestError, match=f"id {len(each)} is outside the vocabulary of {len(each)}"):
        each.decode([len(each)])
    with pytest.raises(RequestError, match="id -1 is outside"):
        each.decode([-1, 5])


def test_a_saved_tokenizer_is_the_same(each, tmp_path):
    path = tmp_path / "tokenizer.json"
    each.save(path)
    loaded = Tokenizer.load(path)
    assert (loaded.name, loaded.tokens) == (each.name, each.tokens)
    assert loaded.encode([*LINES, "unseen ☃ <eos>"]) == each.encode([*LINES, "unseen ☃ <eos>"])
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "tokenizer.json"]


@pytest.mark.parametrize("name", NAMES)
def test_training_is_deterministic_and_does_not_depend_on_order(name):
    assert trained(name, LINES * 3).tokens == trained(name, (LINES * 3)[::-1]).tokens


def test_files_that_are_no_tokenizers(each, tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(RequestError, match="cannot read the tokenizer: No such file"):
        Tokenizer.load(path)
    each.save(path)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(RequestError, match="truncated, or not a tokenizer file"):
        Tokenizer.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="not UTF-8"):
        Tokenizer.load(path)

    def refused(change):
        data = json.loads(whole)
        change(data)
        path.write_text(json.dumps(data))
        with pytest.raises(RequestError, match="not a tokenizer"):
            Tokenizer.load(path)

    added = {"id": 3, "content": "<eos>", "single_word": False, "lstrip": False, "rstrip": False}
    refused(lambda d: d["added_tokens"].append({**added, "normalized": False, "special": True}))
    refused(lambda d: d["model"]["vocab"].update({"<eos>": 4, each.tokens[4]: 3}))
    refused(lambda d: d.update(model={"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]]}))
    for number in (2**31, 2**32 - 1):  # would be counted up to
        refused(lambda d, number=number: d["model"]["vocab"].update({each.tokens[4]: number}))
    refused(lambda d: d["model"].update(unk_token="no such token"))
    refused(lambda d: d.update(pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "x"}))
    refused(lambda d: d.update(decoder={"type": "Strip", "content": "a", "start": 1, "stop": 1}))
    if each.name in ("word", "words"):
        refused(lambda d: d.update(normalizer=None))
    else:
        refused(lambda d: d["model"].update(end_of_word_suffix="x"))
        refused(lambda d: d["model"]["merges"].extend([["<", "eos>"]]))
        refused(lambda d: d["model"].update(dropout=0.5))


def test_requests_that_cannot_be_met():
    def refused(match, name, lines, vocabulary=None, min_count=1):
        with pytest.raises(RequestError, match=match):
            Tokenizer.train(name, lines, vocabulary, min_count)

    refused("data.tokenizer.name: 'wrods' is not one of .* did you mean 'words'?", "wrods", LINES)
    refused("data.tokenizer.min_count: 0 is too small", "word", LINES, min_count=0)
    refused("data.tokenizer.vocabulary: 0 is too small", "word", LINES, 0)
    refused("bpe needs 256 or more, not 255", "bpe", LINES, 255)
    refused("bpe needs 256 or more, not None", "bpe", LINES)
    refused("no sentence to learn", "word", [])
    refused("no sentence to learn", "bpe", [], 300)
    refused(r"a vocabulary of nothing but rare words \(2 sentences read", "word", ["a b", "c"], None, 2)
    refused("a vocabulary of nothing but rare words", "word", ["<unk> <unk>"])
    refused("nothing but rare words", "character", ["ab"], None, 2)


def test_text_that_is_no_text_is_named(each):
    with pytest.raises(RequestError, match="text 1 is not valid Unicode: a lone surrogate at character 2"):
        each.encode(["fine", "ab\ud800"])
    with pytest.raises(RequestError, match="wrap a single one"):
        each.encode("a sentence")


def test_an_error_of_the_source_is_passed_on():
    def failing():
        yield "a b"
        raise RequestError("line 2 is broken")

    for name in NAMES:
        with pytest.raises(RequestError, match="line 2 is broken"):
            Tokenizer.train(name, failing(), 300, 1)


def test_a_full_disk_leaves_the_old_file(each, tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkError, match=r"tokenizer.json: cannot be written: No space left on device"):
        each.save(path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_very_long_line(each):
    assert len(each.encode(["the food " * 100_000])[0]) >= 200_000


@pytest.mark.parametrize("name", NAMES)
def test_a_long_text_is_encoded_in_parts_as_in_one(name, monkeypatch):
    words = ["a cat", "Ünï", "<eos>", "\u3000x", "don't", "  ", "12,5", "日本語", "\x85", "_UNK"]
    text = " ".join(words[(i * i + i // 7) % len(words)] for i in range(3000))
    learned = Tokenizer.train(name, [*words, text], 400, 1, lowercase=True)
    whole, normalised = learned.encode([text]), learned.normalise(text)
    assert learned.decode(whole[0]) == (normalised if name != "bpe" else text.lower())
    monkeypatch.setattr("textvae.text.cutting.PART", 64)
    assert learned.encode([text]) == whole and learned.normalise(text) == normalised
    again = Tokenizer.train(name, [*words, text], 400, 1, lowercase=True)
    assert again.tokens == learned.tokens


def test_a_word_that_is_too_long_is_unknown_and_its_byte_pairs_are_those_of_its_pieces():
    long = "ab" * LONGEST_WORD
    words = Tokenizer.train("word", [f"a {long} b {long}"], None, 1)
    assert words.tokens[4:] == ["a", "b"] and words.encode([f"a {long} b"]) == [[4, 1, 5]]
    pairs = Tokenizer.train("bpe", ["ab abab ab abab", long], 300, 1)
    (piece,) = pairs.encode([long[:LONGEST_WORD]])
    assert pairs.encode([long]) == [piece * 2]
    assert [pairs.decode(ids) for ids in pairs.encode([f"ab {long} ab"])] == [f"ab {long} ab"]


def test_a_vocabulary_with_a_longer_word_keeps_it(tmp_path):
    long = "x" * (LONGEST_WORD + 5)
    words = Tokenizer.train("word", ["a b"], None, 1)
    words.save(tmp_path / "tokenizer.json")
    text = (tmp_path / "tokenizer.json").read_text().replace('"b"', f'"{long}"')
    (tmp_path / "tokenizer.json").write_text(text)
    assert Tokenizer.load(tmp_path / "tokenizer.json").encode([f"a {long} {long}x"]) == [[4, 5, 1]]


def test_what_goes_wrong_while_byte_pairs_are_learned_is_raised():
    def sentences():
        yield "a"
        raise RequestError("the file ended")

    with pytest.raises(RequestError, match="the file ended"):
        Tokenizer.train("bpe", sentences(), 300, 1)
