import collections
import hashlib
import itertools
import math
import random
import statistics
from collections.abc import Mapping

import pytest

from textvae.errors import RequestError
from textvae.text.grammar import Grammar, reviews, splits

TOY = """
S = 3 SUBJECT VERB it . | 1 it works .
SUBJECT [one] = i
SUBJECT [many] = we | 3 they
VERB [past] = 2 liked | 1 really liked
VERB [present] = like
"""
TOY_ATTRIBUTES = {"number": {"one": 1, "many": 3}, "tense": {"past": 2, "present": 1}}


@pytest.fixture(scope="module")
def grammar() -> Grammar:
    return reviews()


@pytest.fixture(scope="module")
def drawn(grammar: Grammar) -> list[tuple[str, dict[str, str]]]:
    return grammar.sample_with_attributes(20_000, seed=11)


def brute_force(rules: str, attributes: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Probability of every sentence of a grammar without groups, by substitution, from the notation alone."""
    table = []
    for line in filter(None, map(str.strip, rules.splitlines())):
        head, body = line.split("=", 1)
        name, _, when = head.partition("[")
        for part in body.split("|"):
            first, *rest = part.split()
            weight, symbols = (float(first), rest) if first.isdigit() else (1.0, [first, *rest])
            table.append((name.strip(), set(when.strip(" ]").split()), weight, [s for s in symbols if s != "-"]))
    owner = {value: attribute for attribute, values in attributes.items() for value in values}
    language: dict[str, float] = collections.defaultdict(float)
    for values in itertools.product(*attributes.values()):
        prior = math.prod(
            weights[value] / sum(weights.values())
            for weights, value in zip(attributes.values(), values, strict=True)
        )

        def holds(when: set[str], values: tuple[str, ...] = values) -> bool:
            return {owner[value] for value in when} == {owner[value] for value in when & set(values)}

        todo = [([table[0][0]], prior)]
        while todo:
            symbols, prob = todo.pop()
            place = next((i for i, symbol in enumerate(symbols) if symbol.isupper()), None)
            if place is None:
                language[" ".join(symbols)] += prob
                continue
            rules_now = [rule for rule in table if rule[0] == symbols[place] and holds(rule[1])]
            total = sum(rule[2] for rule in rules_now)
            for _, _, weight, body_symbols in rules_now:
                todo.append((symbols[:place] + body_symbols + symbols[place + 1 :], prob * weight / total))
    return dict(language)


def test_log_prob_of_a_sentence_computed_by_hand() -> None:
    toy = Grammar(TOY, TOY_ATTRIBUTES)
    # S 3/4, many 3/4, they 3/4, past 2/3, "really liked" 1/3
    assert toy.log_prob("they really liked it .") == pytest.approx(math.log(3 / 4 * 3 / 4 * 3 / 4 * 2 / 3 / 3))
    assert toy.log_prob("i like it .") == pytest.approx(math.log(3 / 4 * 1 / 4 * 1 / 3))
    assert toy.attributes("i like it .") == {"number": "one", "tense": "present"}


def test_log_prob_sums_over_derivations_and_ambiguity_is_found() -> None:
    toy = Grammar(TOY, TOY_ATTRIBUTES)
    # "it works ." comes from all four choices of attributes, so it betrays none of them
    assert len(toy.derivations("it works .")) == 4
    assert toy.log_prob("it works .") == pytest.approx(math.log(1 / 4))
    assert toy.ambiguity() == "it works ."
    assert Grammar(TOY.replace("| 1 it works .", ""), TOY_ATTRIBUTES).ambiguity() is None
    two_ways = Grammar("S = a B | A b\nA = a\nB = b", {})
    assert [d.log_prob for d in two_ways.derivations("a b")] == pytest.approx([math.log(0.5)] * 2)
    assert two_ways.log_prob("a b") == pytest.approx(0.0)
    assert two_ways.ambiguity() == "a b"


def test_toy_language_is_that_of_substitution_by_hand() -> None:
    toy = Grammar(TOY, TOY_ATTRIBUTES)
    expected = brute_force(TOY, TOY_ATTRIBUTES)
    assert sum(expected.values()) == pytest.approx(1.0)
    assert {s: math.exp(toy.log_prob(s)) for s in expected} == pytest.approx(expected)
    assert {sentence for sentence, _ in toy.language()} == expected.keys()


@pytest.mark.parametrize("seed", range(30))
def test_random_grammars_agree_with_substitution(seed: int) -> None:
    rng = random.Random(seed)
    attributes = {"x": {"p": 1.0, "q": 2.0}, "y": {"r": 1.0, "s": 1.0}}
    names = ["A", "B", "C"]
    lines = []
    for place, name in enumerate(names):
        symbols = ["a", "b", "c", *names[place + 1 :], *names[place + 1 :]]
        for when in ["", rng.choice(["[p]", "[q]", "[r s]", "[p s]", "[q r]"])]:
            parts = []
            for _ in range(rng.randint(1, 2)):
                body = [rng.choice(symbols) for _ in range(rng.randint(0, 3))]
                parts.append(f"{rng.randint(1, 4)} {' '.join(body) or '-'}")
            lines.append(f"{name} {when} = {' | '.join(parts)}")
    rules = "\n".join(lines)
    grammar, expected = Grammar(rules, attributes), brute_force(rules, attributes)
    assert {s: math.exp(grammar.log_prob(s)) for s in expected} == pytest.approx(expected)
    derived = [log_prob for _, log_prob in grammar.language()]
    assert sum(map(math.exp, derived)) == pytest.approx(1.0)
    entropy = -sum(p * math.log(p) for p in expected.values())
    # the entropy is that of derivations: at least that of the sentences, and equal where nothing is ambiguous
    assert grammar.entropy >= entropy - 1e-9
    if grammar.ambiguity() is None:
        assert grammar.entropy == pytest.approx(entropy)
        assert all(len(grammar.derivations(sentence)) == 1 for sentence in expected)
    assert any(len(grammar.derivations(s)) > 1 for s in expected) <= (grammar.ambiguity() is not None)
    lengths = [len(sentence.split()) for sentence in expected]
    assert grammar.lengths == (min(lengths), max(lengths))
    assert set(grammar.vocabulary) >= {word for sentence in expected for word in sentence.split()}
    impossible = {" ".join(rng.choices("abc", k=rng.randint(0, 6))) for _ in range(50)} - expected.keys()
    assert all(grammar.log_prob(sentence) == -math.inf for sentence in impossible)


def test_exhaustive_sub_grammar_sums_to_one_and_has_the_entropy(grammar: Grammar) -> None:
    part = grammar.given(product=("phone", "novel"), tense=("past", "future"), person=("we", "she"), length="short")
    language = list(part.language())
    probs = dict(language)
    assert len(probs) == len(language) > 1_000  # no sentence twice: unambiguous, shown by exhaustion
    assert math.fsum(map(math.exp, probs.values())) == pytest.approx(1.0, abs=1e-12)
    assert -math.fsum(p * math.exp(p) for p in probs.values()) == pytest.approx(part.entropy, rel=1e-12)
    for sentence, log_prob in language[::7]:  # the parser, which shares nothing with the enumeration
        (derivation,) = part.derivations(sentence)
        assert derivation.log_prob == pytest.approx(log_prob, abs=1e-9)


def test_given_conditions_the_distribution(grammar: Grammar) -> None:
    part = grammar.given(sentiment="negative", person=("i", "we"))
    mass = math.log(grammar.values["sentiment"]["negative"]) + math.log(
        grammar.values["person"]["i"] + grammar.values["person"]["we"]
    )
    for sentence in part.sample(50, seed=2):
        assert part.log_prob(sentence) == pytest.approx(grammar.log_prob(sentence) - mass, abs=1e-9)
    assert part.log_prob("she hated the phone .") == -math.inf
    assert grammar.log_prob("she hated the phone .") > -math.inf
    assert "love" not in part.vocabulary and "hate" in part.vocabulary


def test_no_review_has_two_derivations(grammar: Grammar) -> None:
    # the slow test below leaves nothing out; here, whatever ties the rules together: agreement and features
    part = grammar.given(product=("phone", "coat"), person=("we", "she"), tense=("past", "future"))
    assert part.ambiguity() is None


@pytest.mark.slow
def test_no_review_has_two_derivations_whatever_the_product(grammar: Grammar) -> None:
    assert grammar.ambiguity() is None


def test_samples_parse_back_and_their_surprisal_is_the_entropy(
    grammar: Grammar, drawn: list[tuple[str, dict[str, str]]]
) -> None:
    surprisal = []
    for sentence, attributes in drawn[:10_000]:
        (derivation,) = grammar.derivations(sentence)
        assert derivation.attributes == attributes
        surprisal.append(-derivation.log_prob)
    error = statistics.stdev(surprisal) / math.sqrt(len(surprisal))
    assert abs(statistics.fmean(surprisal) - grammar.entropy) < 4 * error
    assert 15 < grammar.entropy < 30
    sentence, attributes = drawn[0]
    assert (grammar.log_prob(sentence), grammar.attributes(sentence)) == (-surprisal[0], attributes)


def test_attributes_are_independent_and_follow_their_priors(
    grammar: Grammar, drawn: list[tuple[str, dict[str, str]]]
) -> None:
    assert set(grammar.values) == {"product", "sentiment", "tense", "person", "intensity", "length"}
    assert len(grammar.values["product"]) >= 20
    n = len(drawn)
    for one, two in itertools.combinations(grammar.values, 2):
        seen = collections.Counter((attributes[one], attributes[two]) for _, attributes in drawn)
        chi_square, cells = 0.0, 0
        for (a, p), (b, q) in itertools.product(grammar.values[one].items(), grammar.values[two].items()):
            chi_square += (seen[a, b] - n * p * q) ** 2 / (n * p * q)
            cells += 1
        # chi-square against the product of the priors, cells - 1 degrees of freedom: 4 standard deviations
        assert chi_square < cells - 1 + 4 * math.sqrt(2 * (cells - 1)), (one, two)


def test_lengths_and_vocabulary_are_as_promised(grammar: Grammar, drawn: list[tuple[str, dict[str, str]]]) -> None:
    shortest, longest = grammar.lengths
    assert 4 <= shortest and longest <= 24
    lengths = [len(sentence.split()) for sentence, _ in drawn]
    assert shortest <= min(lengths) and max(lengths) <= longest
    assert 11 <= statistics.fmean(lengths) <= 13
    words = collections.Counter(word for sentence, _ in drawn for word in sentence.split())
    assert words.keys() == set(grammar.vocabulary)
    assert min(words.values()) >= 10  # enough of every word to learn it
    assert 300 <= len(grammar.vocabulary) <= 500
    assert not {"<pad>", "<unk>", "<bos>", "<eos>"} & words.keys()
    assert all(word == word.lower() and (word.isalpha() or word in ".,") for word in words)


def test_sentences_outside_the_language_are_impossible(grammar: Grammar) -> None:
    assert grammar.log_prob("i loved the phone .") > -math.inf
    for sentence in [
        "",
        " ",
        ".",
        "i loved the phone",  # no end
        "i loved the phone . .",
        "loved i the phone .",
        "i loves the phone .",  # agreement
        "the phone impress me .",
        "i loved the spaceship .",  # unknown word
        "I loved the phone .",
        "<unk> loved the phone .",
        "i returned the phone because the screen was bright .",  # praise for a reason to return
        "i returned the phone because the ending was weak .",  # a novel's feature
        "i returned the phone because the screen is dim .",  # tense
    ]:
        assert grammar.log_prob(sentence) == -math.inf, sentence
        assert grammar.attributes(sentence) is None, sentence
        assert grammar.derivations(sentence) == []


def test_damaged_samples_are_impossible_or_other_sentences(grammar: Grammar) -> None:
    rng = random.Random(0)
    swapped_out = 0
    for sentence in grammar.sample(500, seed=5):
        words = sentence.split()
        assert grammar.log_prob(" ".join(words[:-1])) == -math.inf
        assert grammar.log_prob(f"{sentence} {words[-1]}") == -math.inf
        place = rng.randrange(len(words) - 1)
        words[place], words[place + 1] = words[place + 1], words[place]
        swapped_out += grammar.log_prob(" ".join(words)) == -math.inf
    assert swapped_out == 500


def test_a_seed_decides_the_sample(grammar: Grammar) -> None:
    assert grammar.sample(100, seed=1) == grammar.sample(100, seed=1)
    assert grammar.sample(100, seed=1) == grammar.sample(200, seed=1)[:100]
    assert grammar.sample(100, seed=1) != grammar.sample(100, seed=2)
    assert grammar.sample(0, seed=0) == []


def test_splits() -> None:
    parts = splits(0)
    assert {name: len(sentences) for name, sentences in parts.items()} == {
        "train": 20_000,
        "valid": 2_000,
        "test": 2_000,
    }
    assert parts == splits()
    assert parts["train"][:100] != splits(1)["train"][:100]
    assert len(set(parts["train"])) > 19_000  # rich enough: hardly a sentence twice
    # published numbers belong to these very sentences: whoever changes the grammar must mean to
    text = "\n".join(itertools.chain.from_iterable(parts.values()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "0920f04c1fa019a4"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("", "there are no rules"),
        ("s = a", "grammar rule 's = a': not of the form NAME [when] = alternative | alternative"),
        ("S [blue] = a", "'blue' is no value of ['number', 'tense']"),
        ("S = a T", "grammar rule 'S': there is no rule for 'T'"),
        ("S = a T\nT = b S", "the rules lead in a circle"),
        ("S = 0 a", "'0 a' needs a weight above 0 and symbols"),
        ("S = a | 2", "'2' needs a weight above 0 and symbols"),
    ],
)
def test_rules_that_cannot_be_read_are_refused(rules: str, message: str) -> None:
    with pytest.raises(RequestError) as error:
        Grammar(rules, TOY_ATTRIBUTES)
    assert message in str(error.value)


def test_requests_that_make_no_sense_are_refused(grammar: Grammar) -> None:
    with pytest.raises(RequestError, match="sample: n is -1; give 0 or more"):
        grammar.sample(-1, seed=0)
    with pytest.raises(RequestError, match="attribute 'mood': unknown; one of product, sentiment, tense"):
        grammar.given(mood="good")
    with pytest.raises(RequestError, match=r"tense \['pluperfect'\]: some of past, present, future"):
        grammar.given(tense="pluperfect")
    with pytest.raises(RequestError, match="value 'one' occurs twice"):
        Grammar(TOY, {"number": {"one": 1}, "count": {"one": 1}})
    with pytest.raises(RequestError, match="some above 0, none below"):
        Grammar(TOY, {"number": {"one": 0}})
    with pytest.raises(RequestError, match="grammar rule 'VERB': no alternative for present; add one"):
        _ = Grammar("S = VERB\nVERB [past] = liked", TOY_ATTRIBUTES).entropy
