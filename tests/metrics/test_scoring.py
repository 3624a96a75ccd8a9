import math
from statistics import fmean, stdev

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import BLEU

import textvae
from textvae.errors import RequestError
from textvae.metrics.bleu import matches, sampled_matches, sampled_self_matches, self_matches, sentence_bleu
from textvae.metrics.scoring import BUCKETS, METRICS, How, available, given, over_draws, score, score_by_length
from textvae.metrics.signature import parse
from textvae.text import grammar

LINES = grammar.splits()["test"]
SAMPLES, REFERENCES, TRAINING = LINES[:30], LINES[20:80], LINES[25:200]


def value(name, *texts, how=How()):  # noqa: B008
    return score(given(*texts, how=how), [name])[name].value


def test_scores_are_those_of_the_functions():
    ours, theirs = ([line.split() for line in lines] for lines in (SAMPLES, REFERENCES))
    found = score(given(SAMPLES, REFERENCES), ["bleu-4", "self-bleu-2", "length"])
    assert found["bleu-4"].value == sentence_bleu(matches(ours, theirs), 4).mean()
    assert found["self-bleu-2"].value == sentence_bleu(self_matches(ours), 2).mean()
    assert found["length"].value == sum(map(len, ours)) / 30
    assert {one.sentences for one in found.values()} == {30}
    assert value("self-bleu-5", SAMPLES, how=How(smoothing="method1")) > value("self-bleu-5", SAMPLES)
    assert value("copied", SAMPLES, None, TRAINING) >= 5 / 30


def test_every_metric_has_a_value_and_says_what_it_depends_on():
    text = given(SAMPLES, SAMPLES[::-1], TRAINING)
    for name, one in score(text, list(METRICS)).items():
        assert one.reason is None and 0 <= one.value < (1000 if METRICS[name].unit == "tokens" else 1.0001)
        metric, parts = parse(one.signature)
        assert metric == name and parts["sentences"] == "30" and parts["tokenize"] == "words"
        assert ("against" in parts) == (METRICS[name].needs in ("references", "pairs"))
        assert ("training" in parts) == (METRICS[name].needs == "training")
    assert set(available(text)) == {name for name, metric in METRICS.items() if metric.needs != "pairs"}
    assert "bleu-2" not in available(given(SAMPLES)) and "copied" not in available(given(SAMPLES))


def test_a_signature_changes_with_what_a_score_depends_on():
    ways = [How(), How(lowercase=True), How(tokenization="characters"), How(smoothing="method1"), How(at_most=5)]
    texts = [(SAMPLES, REFERENCES), (SAMPLES[1:], REFERENCES), (SAMPLES, REFERENCES[1:])]
    signed = {score(given(*text, how=how), ["bleu-4"])["bleu-4"].signature for text in texts for how in ways}
    assert len(signed) == len(ways) * len(texts)


def test_drawn_references_give_mean_and_deviation_over_draws():
    how = How(at_most=8, draws=3, seed=4)
    ours, theirs = ([line.split() for line in lines] for lines in (SAMPLES, REFERENCES))
    found = score(given(SAMPLES, REFERENCES, how=how), ["bleu-2", "self-bleu-2"])
    each = {
        "bleu-2": [sentence_bleu(sampled_matches(ours, theirs, 8, seed), 2).mean() for seed in (4, 5, 6)],
        "self-bleu-2": [sentence_bleu(sampled_self_matches(ours, 8, seed), 2).mean() for seed in (4, 5, 6)],
    }
    for name, one in found.items():
        assert (one.value, one.standard_deviation) == (fmean(each[name]), stdev(each[name]))
        assert one.draws == 3 and one.standard_deviation > 0
        parts = parse(one.signature)[1]
        assert (parts["references"], parts["seed"], parts["draws"]) == ("8", "4", "3")
    some = score(given(SAMPLES, REFERENCES, how=How(at_most=40)), ["bleu-2", "self-bleu-2"])  # of 60, and of 29
    assert [parse(one.signature)[1]["references"] for one in some.values()] == ["40", "others"]
    assert [one.draws for one in some.values()] == [5, None]
    enough = score(given(SAMPLES, REFERENCES, how=How(at_most=60)), ["bleu-2", "self-bleu-2"])
    assert [one.standard_deviation for one in enough.values()] == [None, None]
    assert enough["self-bleu-2"] == score(given(SAMPLES), ["self-bleu-2"])["self-bleu-2"]


@pytest.mark.parametrize(
    ("name", "texts", "reason"),
    [
        ("self-bleu-4", (["a b c d e"],), "one sentence has no others to be compared with"),
        ("self-bleu-4", (["a b c", "a b"],), "no sentence has 4 tokens"),
        ("bleu-3", (["a b"], ["a b"]), "no sentence has 3 tokens"),
        ("bleu-2", (["a b"], [""]), "every reference is empty"),
        ("corpus-bleu-4", (["a b"], ["a b"]), "no sentence has 4 tokens"),
        ("rouge-2", (["a"], ["b"]), "no sentence has 2 tokens"),
        ("distinct-2", (["a", "b"],), "no sentence has 2 tokens"),
        ("distinct-within-1", ([""],), "there is no token"),
        ("unknown", (["", ""],), "there is no token"),
        ("overlap-2", (["a"], None, ["a b"]), "no sentence has 2 tokens"),
    ],
)
def test_what_is_undefined_is_none_with_a_reason_and_never_zero(name, texts, reason):
    found = score(given(*texts), [name])[name]
    assert (found.value, found.reason) == (None, reason)
    assert found.document()["value"] is None and found.document()["reason"] == reason


def test_a_text_that_is_merely_bad_scores_zero():
    assert value("bleu-4", ["a"], ["a b c d"]) == value("corpus-bleu-4", ["a"], ["a b c d"]) == 0.0
    assert value("rouge-4", [""], ["a b c d"]) == 0.0
    assert value("repeated", ["a", "b"]) == value("vocabulary", [""]) == value("length", [""]) == 0


def test_empty_references_are_no_references_of_bleu():
    """Else the closest length to a single word, as far from none as from two, would be none."""
    assert value("bleu-2", ["a b"], ["", "a b c"]) == pytest.approx(math.exp(1 - 3 / 2))


def test_buckets_go_by_the_length_of_the_reference():
    lengths = [1, 10, 11, 20, 21, 30, 31]
    references = [" ".join(f"w{i}" for i in range(length)) for length in lengths]
    text = given([reference + " end" for reference in references], references)
    found = score_by_length(text, ["length", "rouge-1"])
    assert {bucket: scores["length"].sentences for bucket, scores in found.items()} == {
        "1-10": 2,
        "11-20": 2,
        "21-30": 2,
        "all": 7,
    }
    assert found["11-20"]["length"].value == 1 + (11 + 20) / 2
    assert parse(found["11-20"]["length"].signature)[1]["lengths"] == "11-20"


def test_buckets_against_the_reference_libraries():
    ours, theirs = LINES[:300], LINES[1:301]
    found = score_by_length(given(ours, theirs))
    assert list(found) == list(BUCKETS)
    bleu = {n: BLEU(tokenize="none", smooth_method="none", max_ngram_order=n, force=True) for n in (2, 4)}
    for bucket, (least, most) in BUCKETS.items():
        rows = [i for i, line in enumerate(theirs) if least <= len(line.split()) <= most]
        assert rows
        for n in (2, 4):
            some, other = [ours[i] for i in rows], [theirs[i] for i in rows]
            expected = bleu[n].corpus_score(some, [other]).score / 100
            assert found[bucket][f"corpus-bleu-{n}"].value == pytest.approx(expected, abs=1e-12)


def test_rouge_and_its_set_form_differ_only_where_n_grams_are_repeated():
    class Words:
        def tokenize(self, text):
            return text.split()

    ours, theirs = LINES[:50], LINES[1:51]
    found = score(given(ours, theirs), ["rouge-1", "rouge-4", "rouge-set-1"])
    scorer = RougeScorer(["rouge1", "rouge4"], tokenizer=Words())
    each = [scorer.score(b, a) for a, b in zip(ours, theirs, strict=True)]
    for n in (1, 4):
        expected = fmean(one[f"rouge{n}"].fmeasure for one in each)
        assert found[f"rouge-{n}"].value == pytest.approx(expected, abs=1e-12)
    assert found["rouge-set-1"].value != found["rouge-1"].value
    once = given(["a b c"], ["b c d"])
    assert score(once, ["rouge-2"])["rouge-2"].value == score(once, ["rouge-set-2"])["rouge-set-2"].value == 0.5


def test_a_bucket_without_sentences_has_no_scores():
    found = score_by_length(given(["a b"], ["a c"]), ["rouge-1", "self-bleu-2"])
    assert {one.reason for one in found["21-30"].values()} == {"no sentence is of this length"}
    assert {one.value for one in found["21-30"].values()} == {None}


def test_case_matters_unless_it_is_put_aside():
    assert value("rouge-1", ["The Food"], ["the food"]) == 0.0
    assert value("rouge-1", ["The Food"], ["the food"], how=How(lowercase=True)) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: given([]), "sentences: 0 given; at least one is needed"),
        (lambda: given(["a"], []), "references: 0 given; at least one is needed"),
        (lambda: How(at_most=0), "at_most = 0: must be 1 or more"),
        (lambda: How(draws=0), "draws = 0: must be 1 or more"),
        (lambda: How(smoothing="method2"), "smoothing: 'method2' is not one of none, method1"),
        (lambda: value("bleu-4", ["a"]), "bleu-4: needs references; give --references FILE"),
        (lambda: value("copied", ["a"]), "copied: needs the training text; give --train FILE"),
        (lambda: value("rouge-2", ["a"]), "rouge-2: needs a reference for each sentence; give --references FILE"),
        (
            lambda: value("corpus-bleu-4", ["a", "b"], ["a"]),
            "corpus-bleu-4: compares line by line, and there are 2 sentences for 1 references; give one for each",
        ),
        (
            lambda: score_by_length(given(["a", "b"], ["a"]), ["length"]),
            "by length: compares line by line, and there are 2 sentences for 1 references; give one for each",
        ),
    ],
)
def test_what_cannot_be_scored(call, message):
    with pytest.raises(RequestError) as caught:
        call()
    assert str(caught.value) == message


def test_an_unknown_metric_is_told_its_neighbour():
    for name, near in (("self-blue-4", "self-bleu-4"), ("lenght", "length")):
        with pytest.raises(RequestError) as caught:
            score(given(["a"]), [name])
        assert str(caught.value) == f"metrics = {name!r}: unknown metric; did you mean {near!r}?"
    with pytest.raises(RequestError, match="^metrics = 'zzz': unknown metric; known: bleu-2, "):
        score(given(["a"]), ["zzz"])


def test_several_texts_of_a_model_have_a_mean_and_a_deviation():
    draws = [score(given(texts), ["length", "self-bleu-2"]) for texts in (["a b", "a b c"], ["a", "a b c d"])]
    found = over_draws(draws, decode="greedy", seed=7)["length"]
    assert (found.value, found.draws, found.standard_deviation) == (2.5, 2, 0.0)
    assert found.signature == (
        "length|unit:tokens|unk:counted|case:mixed|decode:greedy|draws:2|seed:7|sentences:2|tokenize:words|"
        f"textvae:{textvae.__version__}"
    )
    values = [one["self-bleu-2"].value for one in draws]
    assert over_draws(draws)["self-bleu-2"].standard_deviation == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert over_draws(draws[:1])["length"] == draws[0]["length"]._replace(
        signature=found.signature.replace("|decode:greedy|draws:2|seed:7|", "|draws:1|")
    )


def test_a_score_that_one_text_lacks_is_none_with_its_reason():
    draws = [score(given(texts), ["self-bleu-2"]) for texts in (["a b", "a b"], ["a b"])]
    found = over_draws(draws)["self-bleu-2"]
    assert (found.value, found.reason) == (None, "one sentence has no others to be compared with")
    with pytest.raises(RequestError, match="^draws: 0 given; at least one is needed$"):
        over_draws([])
