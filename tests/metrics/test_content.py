import math

import numpy as np
import pytest

from textvae.errors import RequestError
from textvae.generate.neighbours import nearest_others
from textvae.metrics.content import common_words, content_words_kept, label_agreement, loops


def words(*texts):
    return [text.split() for text in texts]


def test_common_words_are_the_fewest_that_make_half_of_all_tokens():
    text = words("a a a a", "b b c", "d <unk>")  # 9 tokens: a makes 4, a and b 6
    assert common_words(text) == {"a", "b", "<unk>"}
    assert common_words(text, share=0.4) == {"a", "<unk>"}
    assert common_words([]) == frozenset()


def test_kept_words_by_hand():
    references = words("the staff was rude .", "the soup was cold cold .", "my aunt slept .", "<unk> tea .")
    texts = words("the staff was friendly .", "the soup was cold .", "the staff was rude .", "tea tea <unk> .")
    kept = content_words_kept(texts, references, {"the", "was", "my"})
    # Content: staff rude, soup cold cold, aunt slept, tea: 8. Kept: staff, soup, cold, tea. Two away: staff, rude.
    assert kept.words == 8 and kept.kept == 4 / 8
    assert kept.by_chance == 2 / 8


def test_of_unrelated_texts_nothing_is_kept_beyond_chance():
    random = np.random.default_rng(0)
    vocabulary = [f"word{number}" for number in range(30)]
    texts, references = (
        [[vocabulary[at] for at in random.integers(0, 30, 8)] for _ in range(2000)] for _ in range(2)
    )
    kept = content_words_kept(texts, references, set())
    assert kept.kept > 0.15 and abs(kept.kept - kept.by_chance) < 4 * kept.standard_error
    assert content_words_kept(references, references, set()).kept == 1.0


def test_the_standard_error_is_the_spread_over_draws():
    random = np.random.default_rng(1)
    differences, errors = [], []
    for _ in range(300):
        sizes = random.integers(1, 9, 60)
        references = [[f"w{at}" for at in random.integers(0, 40, size)] for size in sizes]
        texts = [[word if random.random() < 0.4 else "x" for word in own] for own in references]
        kept = content_words_kept(texts, references, set())
        differences.append(kept.kept - kept.by_chance)
        errors.append(kept.standard_error)
    assert np.std(differences) == pytest.approx(np.mean(errors), rel=0.15)


def test_without_content_words_the_shares_are_undefined():
    kept = content_words_kept(words("a .", "b ."), words("! .", "<unk> ."), set())
    assert kept.words == 0 and math.isnan(kept.kept)
    with pytest.raises(RequestError, match="1 texts and 1 references; give 2 or more"):
        content_words_kept(words("a"), words("a"), set())


def test_chance_is_measured_with_another_sentence_and_not_with_a_copy():
    four = words("cat", "cat", "dog", "cat")
    assert content_words_kept(four, four, set())[:2] == (1.0, 0.0)  # half the list away, the second is the fourth
    copies = words("cat", "cat", "cat")
    assert content_words_kept(copies, copies, set())[:2] == (1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "looping"),
    [
        ("a a a", True),
        ("a a b a a", False),
        ("x a b a b a b y", True),
        ("a b a b a c", False),
        ("a b c d a b c d a b c d", True),
        ("a b c d e a b c d e a b c d e", False),
        ("", False),
    ],
)
def test_a_loop_is_a_block_three_times_in_succession(text, looping):
    assert loops(text.split()) == looping


def test_labels_agree_where_they_are_clusters_and_by_chance_elsewhere():
    random = np.random.default_rng(0)
    labels = [str(number % 2) for number in range(600)]
    clusters = np.array([[1.0, 0.0], [-1.0, 0.3]])[[int(label) for label in labels]]
    codes = (clusters + 0.05 * random.normal(size=(600, 2))).astype(np.float32)
    agreement, chance = label_agreement(nearest_others(codes, 5), labels)
    assert agreement == 1.0 and chance == pytest.approx(299 / 599)
    apart, _ = label_agreement(nearest_others(random.normal(size=(600, 8)).astype(np.float32), 5), labels)
    assert apart == pytest.approx(chance, abs=0.05)


def test_one_code_has_no_neighbours_to_agree_with():
    with pytest.raises(RequestError, match="1 codes with 1 labels; give 2 or more"):
        label_agreement(np.zeros((1, 0), np.int64), ["a"])
