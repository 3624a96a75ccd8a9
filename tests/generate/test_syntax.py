from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from textvae.errors import RequestError
from textvae.evaluation import syntax
from textvae.evaluation.syntax import TABLE_4, Pair, read_pairs, syntactic_test
from textvae.files import write_tensors
from textvae.generate import prefixes
from textvae.generate.trained import Trained, load
from textvae.model import TextVAE, build
from textvae.objective.presets import TERMS
from textvae.objective.settings import parse
from textvae.parts.posteriors import DiagonalGaussian
from textvae.parts.priors import StandardNormal
from textvae.run import Run
from textvae.text.batches import Batch
from textvae.text.tokenizers import EOS, Tokenizer

# Of each sentence its code, and log p(x|z) = first + second * z.
KNOWN = {
    "a x": (1.0, 0.0, 1.0),  # by z the difference of the first pair is z
    "a y": (-1.0, 0.0, 0.0),
    "b x": (3.0, -2.0, 1.0),  # of the second 5 + z
    "b y": (-3.0, -7.0, 0.0),
    "c x": (0.0, -9.0, 2.0),  # of the third -1
    "c y": (4.0, -8.0, 2.0),
    "d x": (7.0, -1.0, 0.5),  # and of the fourth 0
    "d y": (8.0, -1.0, 0.5),
}
PAIRS = [
    Pair("a x", "a y", "agreement", "singular"),
    Pair("b x", "b y", "agreement", "singular"),
    Pair("c x", "c y", "agreement", "plural"),
    Pair("d x", "d y", "reflexives", "singular"),
]


class Stub(TextVAE):
    """A model whose codes and log-probabilities are known; without a prior a language model, of z = 0."""

    device = torch.device("cpu")
    prior = property(lambda self: self.known_prior)

    def __init__(self, tokenizer, prior):
        nn.Module.__init__(self)
        self.tokenizer, self.known_prior = tokenizer, prior

    def known(self, batch, place):
        texts = self.tokenizer.decode_batch(batch.ids.tolist())
        return torch.tensor([KNOWN[text][place] for text in texts])

    def encode(self, batch):
        mean = self.known(batch, 0)[:, None]
        return DiagonalGaussian(mean, torch.ones_like(mean))

    def log_px(self, codes, which, sentences):
        z = torch.zeros(1, 1) if codes is None else codes
        ids = pad_sequence([torch.tensor(one) for one in sentences], batch_first=True)
        first, second = (self.known(Batch(ids, ids, ids), place)[:, None] for place in (1, 2))
        return (first + second * z[which, 0]).double()

    def log_ratios(self, codes, which, good, bad):
        return self.log_px(codes, which, good) - self.log_px(codes, which, bad)


@pytest.fixture(autouse=True)
def known_log_ratios(monkeypatch):
    real = syntax.log_ratios

    def log_ratios(model, codes, which, good, bad, progress=None):
        if isinstance(model, Stub):
            return model.log_ratios(codes, which, good, bad)
        return real(model, codes, which, good, bad, progress)

    monkeypatch.setattr(syntax, "log_ratios", log_ratios)


def stubbed(prior=True, words=None, **data):
    tokenizer = Tokenizer.train("word", words or list(KNOWN), None, 1)
    settings = parse({"data": {"max_length": 9, **data}, "model": {"latent": 1}}, TERMS)
    return Trained(
        Run(Path("runs/stub"), settings, tokenizer, {}), Stub(tokenizer, StandardNormal(1) if prior else None)
    )


def test_shares_by_hand():
    found = syntactic_test(stubbed(), PAIRS)
    rows = {(row.category, row.condition): row for row in found.rows}
    assert list(rows) == [
        ("all", None),
        ("agreement", None),
        ("agreement", "singular"),
        ("agreement", "plural"),
        ("reflexives", None),
        ("reflexives", "singular"),
    ]
    # By z+ the differences are 1, 8, -1, 0, by z- they are -1, 2, -1, 0.
    # The singular's averages are 2 and -2: 2 and 7, -2 and 3.
    singular = {"p1": 1.0, "p2": 0.5, "p1_averaged": 1.0, "p2_averaged": 0.5}
    assert rows["agreement", "singular"].shares == singular
    assert set(rows["agreement", "plural"].shares.values()) == {0.0}
    # p1 and p2 are pooled over pairs, the averaged ones over conditions.
    whole = {"p1": 2 / 3, "p2": 1 / 3, "p1_averaged": 1 / 2, "p2_averaged": 1 / 4}
    assert rows["agreement", None].shares == pytest.approx(whole)
    every = {"p1": 2 / 4, "p2": 1 / 4, "p1_averaged": 1 / 3, "p2_averaged": 1 / 6}
    assert rows["all", None].shares == pytest.approx(every)
    assert [row.pairs for row in found.rows] == [4, 3, 2, 1, 1, 1]


def test_equally_likely_sentences_are_counted_and_not_likelier():
    found = syntactic_test(stubbed(), PAIRS)
    assert found.rows[-1].shares["p1"] == 0.0 and found.rows[-1].ties["p1"] == 1
    assert found.rows[0].ties == {"p1": 1, "p2": 1, "p1_averaged": 1, "p2_averaged": 1}
    assert "ties:not-likelier" in found.signature


def test_standard_errors_by_hand():
    rows = syntactic_test(stubbed(), PAIRS).rows
    # Of 1, 1, 0: the variance is 1/3 over 3 pairs.
    assert rows[1].standard_errors["p1"] == pytest.approx((1 / 3 / 3) ** 0.5)
    assert rows[2].standard_errors["p2"] == pytest.approx((1 / 2 / 2) ** 0.5)
    assert rows[3].standard_errors["p1"] is None  # one pair
    assert rows[1].standard_errors["p1_averaged"] is None
    assert list(rows[1].document()["reasons"]) == ["p1_averaged", "p2_averaged", "condition"]
    assert rows[3].document()["reasons"]["p1"] == "one pair has no deviation"
    assert "mean over conditions, one of which" in rows[1].document()["reasons"]["p1_averaged"]


def test_pairs_with_a_sentence_in_common_are_one_for_the_standard_error():
    """The first pair three times, and its good sentence beside another bad one: one group of four, and one pair."""
    more = [*PAIRS[:1] * 3, Pair("a x", "b y", "agreement", "singular"), PAIRS[2]]
    found = syntactic_test(stubbed(), more).rows
    assert (found[1].pairs, found[1].groups, found[1].shares["p1"]) == (5, 2, 0.8)
    # Sums of deviations from 4/5: four times 1/5, and -4/5.
    assert found[1].standard_errors["p1"] == pytest.approx((2 * (0.8**2 + 0.8**2)) ** 0.5 / 5)
    singular = found[2]
    assert (singular.pairs, singular.groups, singular.standard_errors["p1"]) == (4, 1, None)
    assert "one group has no deviation" in singular.document()["reasons"]["p1"]


def test_a_category_s_averaged_error_is_that_of_a_mean_over_conditions():
    more = [*PAIRS[:3], Pair("a y", "a x", "agreement", "plural")]
    row = syntactic_test(stubbed(), more).rows[1]
    # singular 1, 0 by z- = -2; plural: z- = mean of 4 and 1 = 2.5: -1 and -2.5.
    assert row.shares["p2_averaged"] == 0.25
    assert row.standard_errors["p2_averaged"] == pytest.approx(((1 / 2 / 2) + 0) ** 0.5 / 2)


def test_a_language_model_has_its_accuracy():
    found = syntactic_test(stubbed(prior=False), PAIRS)
    assert found.rows[1].shares == {"accuracy": 1 / 3} and found.rows[1].ties == {"accuracy": 1}
    assert "codes:none" in found.signature


def test_unknown_words_are_counted_and_can_be_left_out():
    model = stubbed(words=["a b c x y", "<unk>"])
    pairs = [Pair("a x", "a y"), Pair("x q", "y q"), Pair("a q b", "a y b"), Pair("a v", "a w")]
    for name in ("q", "v", "w"):
        assert name not in model.tokenizer.tokens
    model.model.known = lambda batch, place: torch.zeros(len(batch.ids))
    found = syntactic_test(model, pairs)
    assert (found.given, found.unknown, found.left_out, found.rows[0].unknown) == (4, 3, 0, 2)
    assert "unk:counted" in found.signature
    known = syntactic_test(model, pairs, known_only=True)
    assert (known.unknown, known.left_out, known.rows[0].pairs, known.rows[0].unknown) == (3, 2, 2, 0)
    assert "unk:left-out" in known.signature and "pairs:2" in known.signature
    with pytest.raises(RequestError, match="in each an unknown word tells the two sentences apart"):
        syntactic_test(model, pairs[2:], known_only=True)


@pytest.mark.parametrize("right_to_left", [False, True])
@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("a q x", "a q y", False),
        ("q a x", "q a x x", False),  # one has a word more
        ("q a x", "q x", False),
        ("a a q", "a q", False),
        ("a q", "a q q", True),
        ("q x", "v x", True),  # one id, two words
        ("a x", "q x", True),
        ("x a q", "y a q", False),
    ],
)
def test_which_words_tell_two_sentences_apart(good, bad, told, right_to_left):
    tokenizer = Tokenizer.train("word", ["a x y"], None, 1, right_to_left=right_to_left)
    ids = tokenizer.encode([good, bad])
    assert syntax._told_by_unknown(tokenizer, Pair(good, bad), *ids) == told


def test_pieces_of_words_tell_two_sentences_apart():
    tokenizer = Tokenizer.train("words", ["a (x), a y"], None, 1)
    for good, bad, told in (("q, a (x)", "q, a y", False), ("a, (q)", "a, y", True), ("a, x. a", "a, y. a", False)):
        assert syntax._told_by_unknown(tokenizer, Pair(good, bad), *tokenizer.encode([good, bad])) == told


def test_the_same_ids_are_a_tie(tmp_path):
    found = syntactic_test(load(made(tmp_path / "run", 4)), [Pair("we liked q", "we liked v"), *TEXTS])
    assert found.rows[1].category == "all" and found.rows[1].ties["p1"] == found.rows[1].ties["p2_averaged"] == 1


def test_sentences_that_are_too_long_are_left_out_and_counted():
    found = syntactic_test(stubbed(max_length=2), [*PAIRS, Pair("a x", "a y x")])
    assert (found.given, found.too_long, found.rows[0].pairs) == (5, 1, 4)
    with pytest.raises(RequestError, match=r"every one has a sentence of more than 1 tokens \(data.max_length\)"):
        syntactic_test(stubbed(max_length=1), PAIRS)


def test_pairs_of_twice_the_same_sentence_are_left_out_and_counted():
    found = syntactic_test(stubbed(), [*PAIRS, Pair("a x", "a x")])
    assert (found.given, found.alike, found.rows[0].pairs) == (5, 1, 4)


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(RequestError, match="runs/stub: is a model of pieces of running text, not of sentences"):
        syntactic_test(stubbed(window=5), PAIRS)
    with pytest.raises(RequestError, match="pairs: each is twice the same sentence"):
        syntactic_test(stubbed(), [Pair("a x", "a x ")])
    with pytest.raises(RequestError, match="pairs: 0 given"):
        syntactic_test(stubbed(), [])
    with pytest.raises(RequestError, match="one is empty; give both sentences"):
        syntactic_test(stubbed(), [Pair("a x", " ")])


TEXTS = [
    Pair("the food was great .", "the food were great .", "k", "1"),
    Pair("we liked the staff", "we likes the staff", "k", "1"),
    Pair("great place", "place great", "k", "2"),
    Pair("i will never come back", "i will never come come", "k", "2"),
    Pair("we", "the staff was nice .", "k", "2"),
]


@pytest.mark.parametrize("rows", [2000, 7, 1])
@pytest.mark.parametrize("latent", [4, 0])
def test_any_batching_gives_what_one_sentence_at_a_time_does(tmp_path, monkeypatch, rows, latent):
    model = load(made(tmp_path / "run", latent))
    monkeypatch.setattr(prefixes, "ROWS", rows)
    read = syntax._Read()
    read.add(model, TEXTS, known_only=False)
    found = syntax.preferences(model, read)

    def nats(text, z):
        (ids,) = model.tokenizer.encode([text])
        batch = Batch(torch.tensor([[*ids, EOS]]), torch.tensor([len(ids) + 1]), torch.tensor([0]))
        with torch.no_grad():
            return model.model.log_px(batch, None if z is None else z[None, None]).sum()

    for row, pair in zip(found, TEXTS, strict=True):
        group = [other for other in TEXTS if other.condition == pair.condition]
        codes = [None]
        if latent:
            good, bad = (
                torch.from_numpy(model.encode(texts)) for texts in zip(*[p[:2] for p in group], strict=True)
            )
            own = [torch.from_numpy(model.encode([text])[0]) for text in pair[:2]]
            codes = [*own, good.mean(0), bad.mean(0)]
        expected = torch.stack([nats(pair.good, z) - nats(pair.bad, z) for z in codes])
        torch.testing.assert_close(row, expected.double(), atol=1e-4, rtol=0)
    assert len({round(value, 3) for value in found.flatten().tolist()}) > 4


def made(folder, latent):
    """A run folder with a model that was never trained."""
    document = {
        "data": {"corpus": "somewhere.txt", "max_length": 7},
        "model": {
            "latent": latent,
            "embedding": 6,
            "encoder": {"hidden": 8},
            "decoder": {"hidden": 8},
            "init": 1.0,
        },
    }
    settings = parse(document, TERMS)
    words = Tokenizer.train("word", [text for pair in TEXTS for text in pair[:2]], None, 1)
    Run.create(folder, settings, words, {})
    torch.manual_seed(1)
    write_tensors(folder / "model.safetensors", build(settings.model, len(words)).state_dict())
    return folder


def write(path, *rows):
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return path


def test_pairs_of_a_file_with_categories(tmp_path):
    head = ("category", "condition", "contrast", "good", "bad")
    rows = ("k", "1", "main", "a  b ", "a c"), (), ("prep_anim", "2", "x", "a", "b")
    assert read_pairs(write(tmp_path / "pairs.tsv", head, *rows)) == [
        Pair("a  b", "a c", "k", "1 main"),
        Pair("a", "b", "prep_anim", "2 x"),
    ]
    (found,) = read_pairs(write(tmp_path / "pairs.tsv", head, rows[2]), TABLE_4)
    assert found == Pair("a", "b", "agreement: across a prepositional phrase", "prep_anim 2 x")


def test_pairs_of_a_file_with_another_column_or_none(tmp_path):
    rows = ("n_attractors", "good", "bad"), ("0", 'a " b', "a c"), ("1", "a b", "a c")
    file = write(tmp_path / "pairs.tsv", *rows)
    assert read_pairs(file) == [Pair('a " b', "a c", "0"), Pair("a b", "a c", "1")]
    assert [(row.category, row.condition) for row in syntactic_test(silent(), read_pairs(file)).rows] == [
        ("all", None),
        ("0", None),
        ("1", None),
    ]
    (tmp_path / "pairs.csv").write_text('good,bad\n"a, b",c\n')
    assert read_pairs(tmp_path / "pairs.csv") == [Pair("a, b", "c")]


def silent():
    model = stubbed(words=["a b c"])
    model.model.known = lambda batch, place: torch.zeros(len(batch.ids))
    return model


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("good", "worse"), ("a", "b")], r"pairs.tsv:1: no column 'bad'; the columns are 'good', 'worse'"),
        ([("good", "bad"), ("a", " ")], r"pairs.tsv:2: bad is empty; give both sentences"),
        ([("good", "bad"), ("", "b")], r"pairs.tsv:2: good is empty; give both sentences"),
        ([("good", "bad"), ("a", "b", "c")], r"pairs.tsv:2: 3 columns, but the first row has 2"),
        ([("good", "bad")], r"pairs.tsv: no pair in it, only a header"),
    ],
)
def test_bad_files_are_refused(tmp_path, rows, message):
    with pytest.raises(RequestError, match=message):
        read_pairs(write(tmp_path / "pairs.tsv", *rows))


def test_other_bad_files_are_refused(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        read_pairs(tmp_path / "pairs.tsv")
    (tmp_path / "pairs.txt").write_text("a\n")
    with pytest.raises(RequestError, match="a table with the columns good, bad is needed; name it .tsv or .csv"):
        read_pairs(tmp_path / "pairs.txt")
    file = write(tmp_path / "pairs.tsv", ("category", "good", "bad"), ("k", "a", "b"))
    with pytest.raises(RequestError, match="pairs.tsv:2: category 'k' is in no row of that table"):
        read_pairs(file, TABLE_4)


@pytest.mark.corpora
def test_the_real_files(corpora):
    pairs = read_pairs(corpora / "syntax_marvin_linzen" / "pairs_small.tsv", TABLE_4)
    assert len(pairs) == 13_748 and {pair.category for pair in pairs} == set(TABLE_4.values())
    wiki = read_pairs(corpora / "syntax_agreement_wiki" / "pairs.tsv")
    assert len(wiki) == 7_485 and {pair.category for pair in wiki} == {"0", "1", "2", "3", "4"}
