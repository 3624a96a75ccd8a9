import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from textvae.errors import RequestError
from textvae.metrics.truth import divergences, joined, true_distance
from textvae.text.grammar import Grammar, reviews

TOY = Grammar("S = SUBJECT VERB\nSUBJECT [one] = i\nSUBJECT [many] = we | 3 they\nVERB = like it", {
    "number": {"one": 1, "many": 3},
})  # fmt: skip


def test_by_hand():
    """i: 1/4; we: 3/16; they: 9/16."""
    found = true_distance(["i like it", "we like it", "we like it", "like it", "they like them"], TOY)
    assert (found.sentences, found.inside) == (5, 0.6)
    assert found.inside_standard_error == pytest.approx(math.sqrt(0.6 * 0.4 / 4))
    surprisal = -(math.log(1 / 4) + 2 * math.log(3 / 16)) / 3
    assert found.surprisal == pytest.approx(surprisal)
    true_entropy = -(math.log(1 / 4) / 4 + 3 / 16 * math.log(3 / 16) + 9 / 16 * math.log(9 / 16))
    assert found.entropy == pytest.approx(true_entropy)
    assert found.surprisal_above_entropy == pytest.approx(surprisal - true_entropy)
    # One: 1.5 of 4, many: 2.5 of 4, against 1/4 and 3/4.
    number = found.attributes["number"]
    assert number.reverse == pytest.approx(3 / 8 * math.log(3 / 2) + 5 / 8 * math.log(5 / 6))
    assert number.forward == pytest.approx(1 / 4 * math.log(2 / 3) + 3 / 4 * math.log(6 / 5))
    assert (number.values, number.of_true_sentences) == (2, 1 / 6)
    assert found.joint is None and found.joint_of == ()  # a single attribute


def test_sentences_of_the_grammar_itself_are_at_no_distance():
    language = reviews()
    found = true_distance(language.sample(3000, seed=4), language)
    assert found.inside == 1.0
    assert abs(found.surprisal_above_entropy) < 4 * found.surprisal_standard_error < 0.5
    assert list(found.attributes) == list(language.values)
    for one in (*found.attributes.values(), found.joint):
        # 2n KL is chi-square: its mean is values - 1, its deviation the root of twice that.
        room = 5 * math.sqrt(2 * (one.values - 1)) / 6000
        assert abs(one.reverse - one.of_true_sentences) < room and abs(one.forward - one.of_true_sentences) < room
    assert found.joint_of == ("sentiment", "tense", "person", "intensity", "length") and found.joint.values == 270


def test_a_model_of_one_sentence_is_far():
    language = reviews()
    (text,) = language.sample(1, seed=0)
    found = true_distance([text] * 1000, language)
    assert found.inside == 1.0 and found.surprisal_standard_error == pytest.approx(0.0, abs=1e-12)
    p = language.values["tense"][language.attributes(text)["tense"]]
    assert found.attributes["tense"].reverse == pytest.approx(-math.log(p), abs=0.02)
    assert found.attributes["tense"].forward > 2 * found.attributes["tense"].reverse
    assert found.joint.reverse > found.attributes["tense"].reverse and found.joint_of == (
        "sentiment",
        "tense",
        "intensity",
        "length",
    )


def test_dependence_that_no_attribute_shows_alone_is_in_the_joint_histogram():
    rules = "S = NOUN VERB\nNOUN [one] = i\nNOUN [many] = we\nVERB [past] = saw\nVERB [present] = see"
    language = Grammar(rules, {"number": {"one": 1, "many": 1}, "tense": {"past": 1, "present": 1}})
    found = true_distance(["i saw", "we see"] * 200, language)
    assert found.joint_of == ("number", "tense")
    assert [one.reverse for one in found.attributes.values()] == pytest.approx([0.0, 0.0])
    assert found.joint.reverse == pytest.approx(math.log(2), abs=0.02)


def test_nothing_inside():
    found = true_distance(["no such thing", ""], TOY)
    assert (found.inside, found.surprisal, found.attributes, found.joint) == (0.0, None, None, None)
    assert found.surprisal_above_entropy is None
    assert found.document()["joint_of"] == [] and found.document()["smoothing"] == 0.5
    nulls = ("surprisal", "surprisal_standard_error", "surprisal_above_entropy", "attributes", "joint")
    assert found.document()["reasons"] == dict.fromkeys(nulls, "no sentence is of the language")
    alone = true_distance(["i like it"], TOY).document()
    assert {name for name, value in alone.items() if value is None} == set(alone["reasons"])
    assert alone["reasons"]["inside_standard_error"] == "of one sentence there is none"
    assert alone["reasons"]["surprisal_standard_error"] == "too few sentences are of the language"


@given(st.lists(st.integers(0, 50), min_size=2, max_size=6).filter(any))
def test_divergences_are_those_of_smoothed_counts(counts):
    truth = [n + 1 for n in range(len(counts))]
    p = {n: value / sum(truth) for n, value in enumerate(truth)}
    found = divergences(dict(enumerate(counts)), p)
    smoothed = [count + 0.5 for count in counts]
    assert found.reverse == pytest.approx(entropy(smoothed, truth), abs=1e-12)
    assert found.forward == pytest.approx(entropy(truth, smoothed), abs=1e-12)


def test_the_joint_histogram_has_as_many_attributes_as_there_are_sentences_for():
    names = ("sentiment", "tense", "person", "intensity", "length")
    assert joined(reviews(), 1350) == names
    assert joined(reviews(), 1349) == ("sentiment", "tense", "intensity", "length")
    assert joined(reviews(), 6480 * 5) == ("product", *names)
    assert joined(reviews(), 9) == ()


def test_without_sentences_it_is_refused():
    for none in ([], "i like it"):
        with pytest.raises(RequestError, match="^true_distance: no sentences given"):
            true_distance(none, TOY)
    with pytest.raises(RequestError, match="^divergences: nothing was counted"):
        divergences({}, {"a": 1.0})
