import collections
import math
import random

import pytest

from textvae.errors import RequestError
from textvae.metrics.attributes import content_kept, grammar_scores, train_classifier
from textvae.text.grammar import reviews


def bleu(texts, references):
    """Corpus BLEU of four orders by its definition, for texts that have matches of every order."""
    shares = []
    for n in range(1, 5):
        matched = total = 0
        for text, reference in zip(texts, references, strict=True):
            ours, theirs = (
                collections.Counter(zip(*(words[at:] for at in range(n)), strict=False))
                for words in (text.split(), reference.split())
            )
            matched += sum((ours & theirs).values())
            total += sum(ours.values())
        shares.append(math.log(matched / total))
    ours, theirs = (sum(len(text.split()) for text in side) for side in (texts, references))
    return 100 * math.exp(sum(shares) / 4 + min(0, 1 - theirs / ours))


def test_content_kept_is_corpus_bleu():
    texts = ["the food was very bad today .", "we will not go back there again", "it is what it is"]
    references = ["the food was very good today", "we will not go back here again .", "it is what it is ."]
    assert content_kept(texts, references) == pytest.approx(bleu(texts, references), rel=1e-9)
    assert content_kept(texts, texts) == pytest.approx(100)
    assert content_kept(["苹果很好吃！"], ["苹果很 好吃！"], "characters") == pytest.approx(100)
    assert content_kept(["苹果很好吃！", "好"], ["苹果很好吃。", "好"], "characters") < 100


def labelled(n, seed, flipped=0.0):
    """Texts whose label is that of their third word, a share of the labels turned round."""
    chosen = random.Random(seed)
    rows = {}
    for _ in range(n):
        mark = chosen.choice(["good", "bad"])
        text = f"the w{chosen.randrange(500)} was {mark} , w{chosen.randrange(500)} ."
        rows[text] = mark if chosen.random() >= flipped else "bad" if mark == "good" else "good"
    return list(rows), list(rows.values())


def test_a_classifier_learns_what_can_be_learned_and_says_how_well():
    texts, labels = labelled(600, 0)
    found = train_classifier(texts, labels)
    assert found.labels == ("bad", "good") and found.accuracy == 1.0
    assert (found.trained_on, found.held_out) == (len(texts) - len(texts) // 10, len(texts) // 10)
    assert found.predict(["the w1 was good , w2 .", "this is bad"]) == ["good", "bad"] and found.predict([]) == []
    assert found.about()["accuracy"] == 1.0
    coin = train_classifier(texts, [random.Random(text).choice(["bad", "good"]) for text in texts])
    assert 0.2 < coin.accuracy < 0.8 and 0.2 < coin.majority < 0.8  # held out: by heart it would be 1
    noisy = train_classifier(*labelled(3000, 1, flipped=0.2))
    assert noisy.accuracy == pytest.approx(0.8, abs=0.08)


def test_the_commonest_label_is_that_of_training():
    """Of two labels as common as each other the one that chance gave the held-out texts more of is no baseline."""
    pairs = [(f"w{n} said", "ab"[n % 2]) for n in range(200)]
    below = 0
    for seed in range(12):
        found = train_classifier(*map(list, zip(*pairs, strict=True)), seed=seed)
        below += found.majority < 0.5
    assert below >= 6  # training has less of the label of which the held-out texts have more


def test_a_classifier_knows_pairs_of_words():
    """Good after "not" is bad: no single word tells."""
    kinds = [("not good", "bad"), ("so good", "good"), ("not bad", "good"), ("so bad", "bad")]
    rows = [(f"w{n} was {said}", label) for n in range(60) for said, label in kinds]
    assert train_classifier(*map(list, zip(*rows, strict=True))).accuracy == 1.0


def test_each_text_counts_once():
    texts, labels = labelled(100, 0)
    found = train_classifier(texts * 3, labels * 3)
    assert found.trained_on + found.held_out == len(texts)
    spaced = [text.replace(" ", "  ") for text in texts]
    assert train_classifier([*texts, *spaced], labels * 2).trained_on == found.trained_on


def test_texts_that_look_the_same_are_not_held_out_once_they_were_learned_from():
    """Labels by chance; each text eight times, its first word ever more often: words and pairs stay the same."""
    chosen, texts, labels = random.Random(0), [], []
    for _ in range(150):
        words, label = [f"w{chosen.randrange(300)}" for _ in range(5)], chosen.choice(["bad", "good"])
        texts += [" ".join([words[0]] * times + words) for times in range(1, 9)]
        labels += [label] * 8
    found = train_classifier(texts, labels)
    assert (found.trained_on, found.held_out) == (1080, 120)
    assert 0.15 < found.accuracy < 0.85  # of 15 coins; by heart it would be 1


def test_classifiers_that_cannot_be():
    with pytest.raises(RequestError, match="one label only, '1'"):
        train_classifier([f"w{n}" for n in range(30)], ["1"] * 30)
    with pytest.raises(RequestError, match="classifier: no text to learn from"):
        train_classifier([], [])
    with pytest.raises(RequestError, match="too many texts have the same words"):
        train_classifier(["a " * n for n in range(2, 32)], ["0", "1"] * 15)
    with pytest.raises(RequestError, match="3 texts of label '0'; it needs 10 or more of each"):
        train_classifier([f"w{n}" for n in range(30)], ["0"] * 3 + ["1"] * 27)


def test_the_grammar_judges_exactly():
    before = ["i disliked the phone because of the screen ."] * 5
    after = [
        "i liked the phone because of the screen .",  # as wanted
        "i liked the bread because of the taste .",  # another product
        "i disliked the phone because of the screen .",  # unchanged
        "i hated the phone .",  # short, strong, still negative
        "the the phone liked",
    ]
    found = grammar_scores(before, after, "sentiment", "positive")
    assert all(reviews().attributes(text) for text in after[:3]) and reviews().attributes(after[4]) is None
    within = [text for text in after if reviews().attributes(text) is not None]
    assert found.in_language == len(within) / 5
    assert (found.wanted, found.exact) == (2 / 5, 1 / 5)
    assert found.kept is not None and found.kept.keys() == {"product", "tense", "person", "intensity", "length"}
    assert found.kept["product"] == (len(within) - 1) / len(within)
    assert found.kept["tense"] == 1.0
    assert grammar_scores(before[:1], ["no"], "tense", "past") == (0.0, 0.0, 0.0, None)


def test_what_the_grammar_cannot_judge():
    for arguments, message in (
        (
            (["the cat sat"], ["x"], "sentiment", "positive"),
            "'the cat sat': is not a sentence of the",
        ),
        (([], [], "mood", "positive"), "no attribute 'mood'; it has product, sentiment"),
        (([], [], "sentiment", "1"), "sentiment: no value '1'; it has positive, negative"),
    ):
        with pytest.raises(RequestError, match=message):
            grammar_scores(*arguments)
