import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from textvae.errors import RequestError
from textvae.metrics.rouge import rouge, rouge_set
from textvae.text import grammar

sentence = st.lists(st.sampled_from("abc"), max_size=7)
pairs = st.lists(st.tuples(sentence, sentence), min_size=1, max_size=6)


class Words:
    def tokenize(self, text):
        return text.split()


def reference(sentences, references, n, tokenizer=Words()):  # noqa: B008
    scorer = RougeScorer([f"rouge{n}"], tokenizer=tokenizer)
    return [
        scorer.score(" ".join(theirs), " ".join(ours))[f"rouge{n}"].fmeasure
        for ours, theirs in zip(sentences, references, strict=True)
    ]


def test_both_forms_by_hand():
    """Ab twice against once: of multisets 2 · 2 / (3 + 2), of sets 2 · 2 / (2 + 2)."""
    ours, theirs = [list("abab")], [list("aba")]
    assert rouge(ours, theirs, 2).tolist() == [4 / 5]
    assert rouge_set(ours, theirs, 2).tolist() == [1.0]
    assert rouge_set([list("abc")], [list("bcd")], 1).tolist() == [4 / 6]


@pytest.mark.parametrize("n", [1, 2, 4])
@given(pairs=pairs)
def test_rouge_is_rouge_scores(n, pairs):
    ours, theirs = map(list, zip(*pairs, strict=True))
    np.testing.assert_allclose(rouge(ours, theirs, n), reference(ours, theirs, n), rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 4])
@given(pairs=pairs)
def test_the_set_form_is_f1_of_precision_and_recall_of_sets(n, pairs):
    ours, theirs = map(list, zip(*pairs, strict=True))
    for a, b, found in zip(ours, theirs, rouge_set(ours, theirs, n).tolist(), strict=True):
        mine = {tuple(a[i : i + n]) for i in range(len(a) - n + 1)}
        yours = {tuple(b[i : i + n]) for i in range(len(b) - n + 1)}
        precision, recall = (len(mine & yours) / max(len(side), 1) for side in (mine, yours))
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert found == pytest.approx(expected, abs=1e-12)


def test_rouge_is_rouge_scores_by_its_own_tokenizer_on_plain_words():
    """Lower-case words without punctuation, which its default tokenizer leaves as they are."""
    lines = [[word for word in line.split() if word.isalnum()] for line in grammar.splits()["test"][:100]]
    ours, theirs = lines[:-1], lines[1:]
    for n in (1, 2, 4):
        expected = reference(ours, theirs, n, tokenizer=None)
        np.testing.assert_allclose(rouge(ours, theirs, n), expected, rtol=0, atol=1e-12)
    assert rouge(ours, theirs, 1).mean() > 0


@given(pairs)
def test_a_sentence_and_its_reference_can_change_places(pairs):
    ours, theirs = map(list, zip(*pairs, strict=True))
    for measure in (rouge, rouge_set):
        assert (measure(ours, theirs, 2) == measure(theirs, ours, 2)).all()
        assert all(measure(ours, ours, 1) == [1.0 if sentence else 0.0 for sentence in ours])


def test_what_cannot_be_scored():
    for measure in (rouge, rouge_set):
        with pytest.raises(RequestError, match="^2 sentences for 1 references; give one for each$"):
            measure([["a"], ["b"]], [["a"]], 1)
        with pytest.raises(RequestError, match="^ROUGE-0: n must be 1 or more$"):
            measure([["a"]], [["a"]], 0)
