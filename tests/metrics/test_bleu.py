import math
import time
import tracemalloc
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction
from nltk.translate.bleu_score import corpus_bleu as nltk_corpus_bleu
from nltk.translate.bleu_score import sentence_bleu as nltk_sentence_bleu
from sacrebleu.metrics.bleu import BLEU

from textvae.errors import RequestError
from textvae.metrics import bleu, ngrams
from textvae.metrics.bleu import (
    corpus_bleu,
    matches,
    paired_matches,
    sampled_self_matches,
    self_matches,
    sentence_bleu,
)
from textvae.metrics.ngrams import Counts, Text, counts, totals
from textvae.metrics.words import tokenized
from textvae.text import grammar

ORDERS = (2, 3, 4, 5)
SMOOTHED = {"none": SmoothingFunction().method0, "method1": SmoothingFunction().method1}
# Few words and few lengths, so that duplicates, ties, single words and empty sentences are frequent.
one_text = st.lists(st.sampled_from("abc"), max_size=7)
texts = st.lists(one_text, min_size=2, max_size=9)


def brute(sentence, references, smoothing):
    """NLTK's BLEU-2 to 5, which walks through all references."""
    weights = [(1 / n,) * n for n in ORDERS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing matches
        found = nltk_sentence_bleu(references, sentence, weights, SMOOTHED[smoothing])
    return np.array(found)


def ours(found, smoothing):
    return np.stack([sentence_bleu(found, n, smoothing) for n in ORDERS], axis=1)


def self_brute(sentences, smoothing):
    return np.stack([brute(s, sentences[:i] + sentences[i + 1 :], smoothing) for i, s in enumerate(sentences)])


def test_bleu_by_hand():
    """The sentence has a b a c a b; the references have "a" twice and once, "a b" once in each."""
    found = matches([list("abacab")], [list("abad"), list("cab")], order=2)
    assert found.matched.tolist() == [[4, 3]]  # a a b c of six; ab ba ca of ab ba ac ca ab
    assert [found.total(n).tolist() for n in (1, 2)] == [[6], [5]]
    assert found.closest.tolist() == [4]
    assert sentence_bleu(found, 2).tolist() == [pytest.approx(math.sqrt(4 / 6 * 3 / 5), abs=1e-15)]


def test_self_bleu_by_hand():
    """Only the first has two a's, so it is measured by the others' one; theirs are within its two."""
    found = self_matches([list("aab"), list("ab"), list("b")], order=2)
    assert found.matched.tolist() == [[2, 1], [2, 1], [1, 0]]
    assert found.closest.tolist() == [2, 1, 2]  # 3 and 1 are as close to 2: the shorter
    first, second, third = sentence_bleu(found, 2).tolist()
    assert (first, second) == (pytest.approx(math.sqrt(2 / 3 * 1 / 2)), 1.0)
    assert third == 0.0
    smoothed = sentence_bleu(found, 2, "method1")[2]
    assert smoothed == pytest.approx(math.exp(1 - 2 / 1) * math.sqrt(1 * 0.1))


def test_repeating_one_sentence_is_a_self_bleu_of_one():
    found = self_matches([list("abcdef")] * 3)
    assert [sentence_bleu(found, n).tolist() for n in ORDERS] == [[1.0] * 3] * 4


@pytest.mark.parametrize("smoothing", SMOOTHED)
@settings(max_examples=200)
@given(sentences=texts)
def test_self_bleu_is_nltks(smoothing, sentences):
    np.testing.assert_allclose(
        ours(self_matches(sentences), smoothing), self_brute(sentences, smoothing), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("smoothing", SMOOTHED)
@settings(max_examples=200)
@given(sentences=texts, references=texts)
def test_bleu_is_nltks(smoothing, sentences, references):
    expected = np.stack([brute(sentence, references, smoothing) for sentence in sentences])
    np.testing.assert_allclose(ours(matches(sentences, references), smoothing), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHED)
def test_self_bleu_is_nltks_on_the_grammar(smoothing):
    sentences = [text.split() for text in grammar.splits()["test"][:50]]
    np.testing.assert_allclose(
        ours(self_matches(sentences), smoothing), self_brute(sentences, smoothing), rtol=0, atol=1e-12
    )


@pytest.mark.corpora
@pytest.mark.slow
@pytest.mark.parametrize("smoothing", SMOOTHED)
def test_self_bleu_is_nltks_on_200_sentences_of_newspaper(smoothing, corpora):
    lines = (corpora / "ptb" / "test.txt").read_text().splitlines()
    sentences = [line.split() for line in lines[:200]]
    np.testing.assert_allclose(
        ours(self_matches(sentences), smoothing), self_brute(sentences, smoothing), rtol=0, atol=1e-12
    )
    references = [line.split() for line in lines[200:400]]
    expected = np.stack([brute(sentence, references, smoothing) for sentence in sentences])
    np.testing.assert_allclose(ours(matches(sentences, references), smoothing), expected, rtol=0, atol=1e-12)


@given(texts, st.integers(0, 100), st.integers(1, 10))
def test_each_sentence_has_as_many_drawn_references_and_never_itself(sentences, seed, at_most):
    """By names that no two sentences share: what matches then says which were the references."""
    found = sampled_self_matches(sentences, at_most, seed)
    shuffled = np.random.default_rng([seed, 3]).permutation(len(sentences)).tolist()
    pool = shuffled[: at_most + 1]
    for i, sentence in enumerate(sentences):
        others = [j for j in pool if j != i][:at_most]
        expected = matches([sentence], [sentences[j] for j in others])
        assert (found.matched[i] == expected.matched[0]).all() and found.closest[i] == expected.closest[0]
        assert len(others) == min(at_most, len(sentences) - 1)


def test_as_many_references_as_there_are_is_all_of_them():
    sentences = [text.split() for text in grammar.splits()["test"][:50]]
    for at_most in (49, 50, 1000):
        found = sampled_self_matches(sentences, at_most, seed=1)
        assert (found.matched == self_matches(sentences).matched).all()
    fewer = [sentence_bleu(sampled_self_matches(sentences, 10, seed), 4).mean() for seed in (1, 2)]
    assert fewer[0] != fewer[1] and max(fewer) < sentence_bleu(self_matches(sentences), 4).mean()


@given(texts, st.randoms())
def test_the_order_of_sentences_and_references_changes_nothing(sentences, random):
    order = random.sample(range(len(sentences)), len(sentences))
    shuffled = self_matches([sentences[i] for i in order])
    assert (ours(shuffled, "none") == ours(self_matches(sentences), "none")[order]).all()


@given(texts, texts)
def test_more_references_never_lower_the_matches(sentences, references):
    some = matches(sentences, references[:1])
    assert (matches(sentences, references).matched >= some.matched).all()


def together_again(parts: list[Counts]) -> Counts:
    """One `Counts` of all n-grams, those of each part numbered after those before."""
    before = np.cumsum([0, *(part.different for part in parts)])
    gram = np.concatenate([part.gram + start for part, start in zip(parts, before, strict=False)])
    rest = (np.concatenate([getattr(part, name) for part in parts]) for name in ("sentence", "often"))
    return Counts(gram, *rest, int(before[-1]))


@given(texts, st.integers(1, 40))
def test_counts_are_those_of_counters_in_any_number_of_parts(sentences, piece):
    for n, parts in enumerate(counts(sentences, order=5, piece=piece), 1):
        found = together_again(list(parts))
        expected = [Counter(zip(*(sentence[i:] for i in range(n)), strict=False)) for sentence in sentences]
        assert found.different == len(set().union(*expected))
        assert totals(Text.of(sentences).sizes(), n).tolist() == [counter.total() for counter in expected]
        for i, counter in enumerate(expected):
            assert sorted(found.often[found.sentence == i].tolist()) == sorted(counter.values())
        together: Counter = Counter()
        for gram, often in zip(found.gram.tolist(), found.often.tolist(), strict=True):
            together[gram] += often
        assert sorted(together.values()) == sorted(sum(expected, Counter()).values())


def test_ten_thousand_sentences_take_less_than_a_second_of_one_core():
    """The mark; it is about a tenth. Walking through all pairs takes hours."""
    drawn = np.random.default_rng(0).zipf(1.3, (10_000, 12)) % 10_000
    texts = [" ".join(map(str, row)) for row in drawn]
    began = time.process_time()
    found = sentence_bleu(self_matches(tokenized(texts), 4), 4)
    assert time.process_time() - began < 1
    assert 0 < found.mean() < 1


@pytest.mark.parametrize("n", ORDERS)
def test_corpus_bleu_is_sacrebleus_and_nltks(n):
    from sacrebleu import BLEU

    lines = grammar.splits()["test"]
    ours_, theirs = lines[:200], lines[1:201]
    found = corpus_bleu([line.split() for line in ours_], [line.split() for line in theirs], n)
    reference = BLEU(tokenize="none", smooth_method="none", max_ngram_order=n, force=True)
    assert found == pytest.approx(reference.corpus_score(ours_, [theirs]).score / 100, abs=1e-12)
    pairs = [[line.split()] for line in theirs]
    expected = nltk_corpus_bleu(pairs, [line.split() for line in ours_], (1 / n,) * n)
    assert 0 < found == pytest.approx(expected, abs=1e-12)


def test_corpus_bleu_takes_tokens_as_they_are():
    """A token with white space or nothing in it is one token all the same."""
    sentence = ["a b", "\u3000", "", "c", " "]
    assert corpus_bleu([sentence], [sentence], 5) == pytest.approx(1.0)
    assert corpus_bleu([["a b"]], [["a", "b"]], 1) == 0.0
    assert corpus_bleu([[], list("ab")], [list("ab"), list("ab")], 2) == pytest.approx(math.exp(1 - 4 / 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: self_matches([["a"]]), "sentences: 1 given; at least 2 needed"),
        (lambda: matches([], [["a"]]), "sentences: 0 given; at least 1 needed"),
        (lambda: matches([["a"]], []), "references: 0 given; at least 1 needed"),
        (
            lambda: matches([["a"]], ["ab"]),
            "references[0]: one string given ('ab'); each sentence is a list of tokens",
        ),
        (lambda: sampled_self_matches([["a"], ["b"]], 0, 0), "at_most = 0: must be 1 or more"),
        (lambda: bleu.sampled_matches([["a"]], [["b"]], 0, 0), "at_most = 0: must be 1 or more"),
        (lambda: sentence_bleu(self_matches([["a"], ["b"]], 2), 3), "BLEU-3: n-grams were counted up to n = 2"),
        (
            lambda: sentence_bleu(self_matches([["a"], ["b"]]), 2, "method2"),
            "smoothing = 'method2': must be one of none, method1",
        ),
        (lambda: corpus_bleu([["a"]], []), "1 sentences for 0 references; give one for each"),
    ],
)
def test_what_cannot_be_scored(call, message):
    with pytest.raises(RequestError) as caught:
        call()
    assert str(caught.value) == message


@settings(deadline=None)
@given(st.lists(st.tuples(one_text, one_text), min_size=1, max_size=6))
def test_pairs_are_counted_each_for_itself_and_sum_up_to_corpus_bleu(pairs):
    sentences, references = map(list, zip(*pairs, strict=True))
    found = paired_matches(sentences, references, 4)
    for row, (sentence, reference) in enumerate(pairs):
        alone = matches([sentence], [reference], 4)
        for name in ("matched", "length", "closest"):
            assert getattr(found, name)[row].tolist() == getattr(alone, name)[0].tolist()
    lines = [[" ".join(tokens) for tokens in texts] for texts in (sentences, references)]
    for n in (2, 4):
        whole = BLEU(tokenize="none", smooth_method="none", max_ngram_order=n, force=True)
        expected = whole.corpus_score(lines[0], [lines[1]]).score / 100
        assert corpus_bleu(sentences, references, n) == pytest.approx(expected, abs=1e-12)


def test_pairs_that_are_none_are_refused():
    with pytest.raises(RequestError, match="1 sentences for 2 references; give one for each"):
        paired_matches([["a"]], [["a"], ["b"]])


@given(texts, texts, st.data())
def test_a_text_is_the_sequence_of_its_sentences(first, second, data):
    text = Text.of(first, Text.of(second))
    assert list(text) == first + second and len(text) == len(first) + len(second)
    rows = data.draw(st.lists(st.integers(0, len(text) - 1)))
    assert list(text.chosen(rows)) == [text[row] for row in rows]
    assert list(text[1:-1]) == list(text)[1:-1] and text[-1] == list(text)[-1]
    assert text.sizes().tolist() == list(map(len, text))


def test_self_bleu_is_the_same_counted_in_small_parts(monkeypatch):
    drawn = np.random.default_rng(0).zipf(1.5, (200, 9)) % 50
    text = tokenized([" ".join(map(str, row)) for row in drawn])
    whole = self_matches(text), matches(text[:50], text[50:]), paired_matches(text[:100], text[100:])
    monkeypatch.setattr(ngrams, "PIECE", 70)
    monkeypatch.setattr(ngrams, "ROWS", 40)
    parts = self_matches(text), matches(text[:50], text[50:]), paired_matches(text[:100], text[100:])
    for one, other in zip(whole, parts, strict=True):
        assert (one.matched == other.matched).all() and (one.closest == other.closest).all()


def test_counting_needs_a_few_bytes_a_token(monkeypatch):
    """Text of four times the size: the working memory is that of a part, so what grows is 5 bytes a token."""
    monkeypatch.setattr(ngrams, "ROWS", 8_000)

    def peak(sentences: int) -> int:
        words = np.random.default_rng(0).integers(0, 500, (sentences, 8), np.int32)
        text = Text(words.ravel(), np.arange(8, 8 * sentences + 1, 8), [str(word) for word in range(500)])
        tracemalloc.start()
        for parts in counts(text, order=3, piece=8_000):
            for _ in parts:
                pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert (peak(8_000) - peak(2_000)) / (8 * 6_000) < 8


@pytest.mark.parametrize("smoothing", bleu.SMOOTHINGS)
def test_scores_are_the_same_some_sentences_at_a_time(smoothing, monkeypatch):
    found = bleu.self_matches([sentence.split() for sentence in grammar.splits()["test"][:50]])
    whole = bleu.sentence_bleu(found, 4, smoothing)
    monkeypatch.setattr(bleu, "ROWS", 7)
    assert np.array_equal(bleu.sentence_bleu(found, 4, smoothing), whole)


def memory_beside(call) -> int:
    """Peak of the bytes that a call holds beside what was there before."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_scores_against_references_copy_no_text(monkeypatch):
    """Beside both texts of 8 words a sentence: 5 bytes a token and what `Matches` holds."""
    monkeypatch.setattr(ngrams, "PIECE", 8_000)
    monkeypatch.setattr(ngrams, "ROWS", 8_000)

    def peak(sentences: int) -> int:
        words = np.random.default_rng(0).integers(0, 500, (2 * sentences, 8), np.int32)
        ends = np.arange(8, 8 * sentences + 1, 8)
        vocabulary = [str(word) for word in range(500)]
        first, second = (Text(half.ravel(), ends, vocabulary) for half in np.split(words, 2))
        return memory_beside(lambda: matches(first, second))

    assert (peak(4_000) - peak(2_000)) / 2_000 < 2 * 8 * 5 + 36 + 16


def test_chosen_sentences_are_copied_some_at_a_time(monkeypatch):
    monkeypatch.setattr(ngrams, "ROWS", 100)
    words = np.random.default_rng(0).integers(0, 500, 80_000, np.int32)
    text = Text(words, np.arange(8, 80_001, 8), [str(word) for word in range(500)])
    rows = np.random.default_rng(1).permutation(10_000)
    assert memory_beside(lambda: text.chosen(rows)) < 10_000 * (8 * 4 + 8 * 4)
    assert (text.chosen(rows).words.reshape(-1, 8) == words.reshape(-1, 8)[rows]).all()


@settings(max_examples=10)
@given(texts, texts, st.integers(1, 40))
def test_texts_are_counted_together_as_one(first, second, piece):
    """Also where their vocabularies number the words differently."""
    apart = [list(parts) for parts in counts(first, second, order=3, piece=piece)]
    together = [list(parts) for parts in counts([*first, *second], order=3, piece=piece)]
    for one, other in zip(apart, together, strict=True):
        assert len(one) == len(other)
        for some, same in zip(one, other, strict=True):
            assert all(np.array_equal(left, right) for left, right in zip(some, same, strict=True))
