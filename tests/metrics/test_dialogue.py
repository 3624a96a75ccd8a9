import math
import time
import warnings
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, modified_precision
from nltk.translate.bleu_score import sentence_bleu as nltk_sentence_bleu

from textvae.errors import RequestError
from textvae.metrics.bleu import paired_matches
from textvae.metrics.dialogue import response_bleu, response_scores, token_response_scores
from textvae.text import grammar
from textvae.text.vectors import WordVectors

# Few words, so that matches, repeats and empty responses are frequent; "d" has no vector, that of "e" is 0.
word = st.sampled_from("abcde")
contexts = st.integers(1, 4).flatmap(
    lambda samples: st.lists(
        st.tuples(
            st.lists(st.lists(word, max_size=7), min_size=samples, max_size=samples),
            st.lists(word, min_size=1, max_size=7),
        ),
        min_size=1,
        max_size=4,
    )
)
VECTORS = WordVectors(
    {"a": 0, "b": 1, "c": 2, "e": 3}, np.array([[1, 0, 0.5], [-2, 0.5, 0], [0.3, -1, 2], [0, 0, 0]], np.float32)
)


def nltk_bleu(tokens, reference):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nothing matches
        return nltk_sentence_bleu([reference], tokens, [1 / 3] * 3, SmoothingFunction().method7)


def old_bleu(tokens, reference):
    """Method 7 of NLTK 3.4.5 as its source has it, and 0 where it fails, as the programs have it."""
    precisions = [modified_precision([reference], tokens, n) for n in (1, 2, 3)]
    if not precisions[0].numerator or len(tokens) < 2:
        return 0.0
    p = [
        1 / (i + 1 * 5 / math.log(len(tokens))) if precision.numerator == 0 else Fraction(precision)
        for i, precision in enumerate(precisions)
    ]
    following = [*p, modified_precision([reference], tokens, 5)]
    m = {-1: p[0] + 1}
    for i in range(3):
        m[i] = (m[i - 1] + p[i] + following[i + 1]) / 3
    penalty = min(0, 1 - len(reference) / len(tokens))
    return math.exp(penalty + sum(math.log(m[i]) / 3 for i in range(3)))


def cosine(one, other):
    product = math.sqrt(sum(x * x for x in one)) * math.sqrt(sum(x * x for x in other))
    return sum(x * y for x, y in zip(one, other, strict=True)) / product if product else 0.0


def looked_up(tokens):
    known = (VECTORS.table[VECTORS.rows[token]].tolist() for token in tokens if token in VECTORS.rows)
    return [vector for vector in known if any(vector)]


def slow_similarity(tokens, reference):
    """Average, extrema, greedy, word by word."""
    one, other = looked_up(tokens), looked_up(reference)
    if not one or not other:
        return 0.0, 0.0, 0.0
    means = [[sum(column) / len(side) for column in zip(*side, strict=True)] for side in (one, other)]
    # Of -2 and 2 the key puts 2 first.
    extrema = [
        [max(column, key=lambda x: (abs(x), x)) for column in zip(*side, strict=True)] for side in (one, other)
    ]
    there = sum(max(cosine(x, y) for y in other) for x in one) / len(one)
    back = sum(max(cosine(x, y) for x in one) for y in other) / len(other)
    return cosine(*means), cosine(*extrema), (there + back) / 2


def grams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def average(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def slow_scores(responses, references, bleu):
    """Every score by loops over contexts and responses."""
    scores = [[bleu(tokens, ref) for tokens in sampled] for sampled, ref in zip(responses, references, strict=True)]
    recall, precision = average(map(max, scores)), average(map(average, scores))
    flat = [tokens for sampled in responses for tokens in sampled]
    known = [number for number, reference in enumerate(references) if looked_up(reference)]
    similar = [
        average(max(slow_similarity(tokens, references[i])[which] for tokens in responses[i]) for i in known)
        for which in range(3)
    ]
    intra, inter = [], []
    for n in (1, 2):
        intra.append(average(len(set(found)) / len(found) for tokens in flat if (found := grams(tokens, n))))
        pooled = [[gram for tokens in sampled for gram in grams(tokens, n)] for sampled in responses]
        inter.append(average(len(set(found)) / len(found) for found in pooled if found))
    return {
        "response_contexts": len(references),
        "response_samples": len(responses[0]),
        "response_bleu_recall": recall,
        "response_bleu_precision": precision,
        "response_bleu_f1": 2 * recall * precision / (recall + precision) if recall else 0.0,
        "response_embedding_average": similar[0],
        "response_embedding_extrema": similar[1],
        "response_embedding_greedy": similar[2],
        "response_intra_distinct_1": intra[0],
        "response_intra_distinct_2": intra[1],
        "response_inter_distinct_1": inter[0],
        "response_inter_distinct_2": inter[1],
        "response_length": average(map(len, flat)),
        "response_empty": sum(len(tokens) == 0 for tokens in flat),
        "response_short": sum(len(tokens) <= 1 for tokens in flat),
        "response_without_vector": sum(not looked_up(tokens) for tokens in flat),
        "reference_without_vector": len(references) - len(known),
    }


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name


@pytest.mark.parametrize(("smoothing", "bleu"), [("nltk-3.6", nltk_bleu), ("nltk-3.4", old_bleu)])
@given(pairs=contexts)
def test_every_score_is_that_of_loops(smoothing, bleu, pairs):
    responses, references = map(list, zip(*pairs, strict=True))
    found = asdict(token_response_scores(responses, references, VECTORS, smoothing))
    assert_same(found, slow_scores(responses, references, bleu))
    texts = [[" ".join(tokens) for tokens in sampled] for sampled in responses]
    assert asdict(response_scores(texts, list(map(" ".join, references)), VECTORS, smoothing)) == found


@given(contexts)
def test_bounds_and_order(pairs):
    responses, references = map(list, zip(*pairs, strict=True))
    found = token_response_scores(responses, references, VECTORS)
    assert found.response_bleu_precision <= found.response_bleu_f1 + 1e-12
    assert found.response_bleu_f1 <= found.response_bleu_recall + 1e-12
    turned = token_response_scores([sampled[::-1] for sampled in responses][::-1], references[::-1], VECTORS)
    assert_same(asdict(turned), asdict(found))
    alone = asdict(token_response_scores(responses, references))
    without = [name for name, value in asdict(found).items() if value is not None and alone[name] is None]
    assert set(without) <= {name for name in alone if "embedding" in name or name.endswith("_vector")}


def test_bleu_by_hand():
    """Of a b c against a b d: p = 2/3, 1/2, and for 3-grams method 4; no 5-grams."""
    found = paired_matches([list("abc")], [list("abd")], 5)
    for smoothing, third in (("nltk-3.6", math.log(3) / (5 * 2)), ("nltk-3.4", 1 / (2 + 5 / math.log(3)))):
        m1 = (5 / 3 + 2 / 3 + 1 / 2) / 3
        m2 = (m1 + 1 / 2 + third) / 3
        m3 = (m2 + third + 0) / 3
        assert response_bleu(found, smoothing).tolist() == [pytest.approx((m1 * m2 * m3) ** (1 / 3), abs=1e-12)]


def test_one_matching_pair_scores_less_than_none_up_to_release_3_4():
    for words, less in ((5, False), (6, True), (12, True)):
        reference = ["a", "b", *"uvwxyz"[:3], *["r"] * (words - 5)]
        rest = list(map(str, range(words - 2)))
        found = paired_matches([["a", "b", *rest], ["a", rest[0], "b", *rest[1:]]], [reference] * 2, 5)
        one, none = response_bleu(found, "nltk-3.4").tolist()
        assert (one < none) == less
        one, none = response_bleu(found).tolist()
        assert one > none


def test_a_response_that_equals_its_reference_exceeds_one():
    found = paired_matches([list("abcde"), ["a"], ["a"], []], [list("abcde"), ["a"], ["b"], ["b"]], 5)
    assert response_bleu(found).tolist() == pytest.approx([(4 / 3 * 10 / 9 * 28 / 27) ** (1 / 3), 1 / 3, 0, 0])
    assert response_bleu(found, "nltk-3.4").tolist() == pytest.approx([1.1539, 0, 0, 0], abs=1e-4)


def test_similarity_by_hand():
    """Right angles and opposites; the unknown word "x" changes nothing."""
    vectors = WordVectors({"n": 0, "e": 1, "s": 2}, np.array([[0, 2], [1, 0], [0, -2]], np.float32))
    found = response_scores([["n e x", "s"], ["x", ""], ["n s", "s s s"]], ["n", "n", "x x"], vectors)
    # Mean (1, 2) / 2 against (0, 2); extrema the same; greedy: (1 + 0) / 2 there, 1 back. The second context has 0
    # and the third is left out.
    assert found.response_embedding_average == pytest.approx(2 / math.sqrt(5) / 2)
    assert found.response_embedding_extrema == pytest.approx(2 / math.sqrt(5) / 2)
    assert found.response_embedding_greedy == pytest.approx(0.75 / 2)
    assert (found.response_without_vector, found.reference_without_vector) == (2, 1)
    opposite = response_scores([["s"]], ["n"], vectors)
    assert opposite.response_embedding_greedy == -1.0
    even = response_scores([["n s"]], ["n"], vectors)  # the mean is 0, of two extremes the positive counts
    assert (even.response_embedding_average, even.response_embedding_extrema) == (0.0, 1.0)
    nothing = response_scores([["n"], ["s"]], ["x", "y"], vectors)
    assert nothing.response_embedding_greedy is None and nothing.reference_without_vector == 2


def test_distinct_by_hand():
    """Within responses 1/2, 1, 1; in the responses of one context a a a b of which two differ, and c d."""
    found = response_scores([["a a", "a b"], ["c d", ""]], ["z", "z"])
    assert found.response_intra_distinct_1 == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert found.response_inter_distinct_1 == pytest.approx((2 / 4 + 2 / 2) / 2)
    assert found.response_inter_distinct_2 == 1.0
    assert (found.response_length, found.response_empty, found.response_short) == (1.5, 1, 1)
    silent = response_scores([["a"]], ["z"])
    assert silent.response_intra_distinct_2 is None and silent.response_inter_distinct_2 is None
    assert silent.response_intra_distinct_1 == 1.0


def test_an_end_mark_that_counts_is_a_token_more():
    """As the program of Gu et al. 2019 counts it, even a response without a right word matches in its end."""
    responses, references = [[["no"]], [["i", "see"]]], [["yes"], ["i", "see"]]
    ended = token_response_scores(
        [[[*tokens, "</s>"] for tokens in sampled] for sampled in responses],
        [[*tokens, "</s>"] for tokens in references],
    )
    plain = token_response_scores(responses, references)
    assert ended.response_length == plain.response_length + 1 == 2.5
    assert ended.response_bleu_precision > plain.response_bleu_precision


def test_five_thousand_contexts_of_ten_take_seconds():
    lines = [line.split() for line in grammar.splits()["train"][:5000]]
    generator = np.random.default_rng(0)
    words = sorted({token for line in lines for token in line})
    vectors = WordVectors(
        dict(zip(words, range(len(words)), strict=True)),
        generator.standard_normal((len(words), 100)).astype(np.float32),
    )
    responses = [[lines[i] for i in row] for row in generator.integers(0, len(lines), (5000, 10)).tolist()]
    begun = time.process_time()
    found = token_response_scores(responses, lines, vectors)
    assert time.process_time() - begun < 40  # about 4 s
    assert found.response_contexts == 5000 and 0 < found.response_embedding_greedy < 1


def test_what_cannot_be_scored():
    for responses, references, message in (
        ([], [], "references: none given; give one for each context"),
        ([["a"]], ["a", "b"], "responses of 1 contexts for 2 references; give one reference for each"),
        ([[]], ["a"], r"responses\[0\]: no response; give at least one for each context"),
        (
            [["a", "b"], ["a"]],
            ["a", "b"],
            r"responses\[1\]: 1 responses where the first context has 2; give equally",
        ),
        ([["a"], ["a"]], ["a", " "], r"references\[1\]: empty, so nothing can match; leave that context out"),
        (["a"], ["a"], r"responses\[0\] = 'a': a list of texts is expected; wrap a single one: \[text\]"),
        ([["a"]], "a", "references = 'a': a list of texts is expected"),
        ([["a", 3]], ["a"], r"responses\[0\]\[1\]: is a int, not a string: 3"),
    ):
        with pytest.raises(RequestError, match=f"^{message}"):
            response_scores(responses, references)
    with pytest.raises(
        RequestError, match=r"^responses\[0\]\[1\]: one string given, not a list of tokens; split it"
    ):
        token_response_scores([[["a"], "ab"]], [["a"]])
    with pytest.raises(RequestError, match=r"^smoothing = 'method7': must be one of nltk-3.6, nltk-3.4$"):
        response_scores([["a"]], ["a"], smoothing="method7")
    with pytest.raises(RequestError, match=r"^found: n-grams were counted up to n = 3; count up to 5$"):
        response_bleu(paired_matches([["a"]], [["a"]], 3))
