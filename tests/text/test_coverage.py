import numpy as np
import pytest

from textvae.errors import RequestError
from textvae.settings import Data
from textvae.settings.tables import TokenizerSettings
from textvae.text import corpus
from textvae.text.batches import build
from textvae.text.corpus import sample_of
from textvae.text.coverage import fewer_unknown, held_out_unknown, suggest_tokenizer, unknown_tokens
from textvae.text.tokenizers import Tokenizer

WORDS = [a + b for a in ("ba", "ko", "li", "mu", "ne", "sa", "te") for b in ("da", "fo", "gi", "ru", "va", "zo")]
SYLLABLES = "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后"


def lines(kind, n=400, seed=0):
    """Lines of a kind of text with words drawn by their rank."""
    random = np.random.default_rng(seed)

    def words(least, most):
        ranks = np.minimum(random.geometric(0.08, size=random.integers(least, most + 1)), len(WORDS)) - 1
        return [WORDS[rank] for rank in ranks]

    def rare():
        return "".join(chr(97 + letter) for letter in random.integers(0, 26, size=9))

    def syllables(n):
        return "".join(SYLLABLES[place] for place in random.integers(0, len(SYLLABLES), size=n))

    made = {
        "short reviews": lambda: " ".join([*words(4, 9), "."]),
        "film sentences": lambda: ", ".join(" ".join(words(5, 9)) for _ in range(3)).capitalize() + ".",
        "film sentences, tokenized": lambda: " , ".join(" ".join(words(5, 9)) for _ in range(3)) + " .",
        "news": lambda: f'"{" ".join(words(5, 9))}," said {" ".join(words(2, 3))}\'s {" ".join(words(9, 15))}.',
        "captions": lambda: f"a {' '.join(words(7, 10))}.",
        "tweets": lambda: f"@{rare()} {' '.join(words(4, 8))}!!! #{rare()} http://t.co/{rare()}",
        "Chinese words": lambda: " ".join(syllables(1 + place % 2) for place in range(12)),
        "Chinese characters": lambda: syllables(11) + "，" + syllables(7) + "。",
        "names": lambda: "".join(words(2, 3)).capitalize(),
    }
    return [made[kind]() for _ in range(n)]


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("short reviews", "word", "tokenized already"),
        ("film sentences", "words", "is raw: "),
        ("film sentences, tokenized", "word", "tokenized already"),
        ("news", "words", "is raw: "),
        ("captions", "words", "is raw: "),
        ("tweets", "bpe", "are not in a vocabulary of words"),
        ("Chinese words", "word", "with spaces between words"),
        ("Chinese characters", "character", "without spaces between words"),
        ("names", "character", "single words, such as names"),
    ],
)
def test_each_kind_of_text_gets_its_tokenizer(kind, name, reason):
    found = suggest_tokenizer(lines(kind))
    assert found.name == name and reason in found.reason
    assert found.reason.endswith(".") and found.reason.count(". ") == 0
    assert suggest_tokenizer(lines(kind, seed=1)).name == name


def test_a_small_vocabulary_and_long_lines_lead_to_byte_pairs():
    assert suggest_tokenizer(lines("film sentences"), vocabulary=6).name == "bpe"
    assert suggest_tokenizer(lines("film sentences"), vocabulary=0).name == "words"
    long = ["".join(lines("Chinese characters", 8))] * 3
    assert suggest_tokenizer(long).name == "bpe" and "more than 100 characters" in suggest_tokenizer(long).reason
    assert suggest_tokenizer(["ab" * 20 + " " + "cd" * 20] * 9).name == "bpe"


def test_a_text_without_words_is_refused_and_one_word_is_enough():
    for texts in ([], ["", " \t"]):
        with pytest.raises(RequestError, match="no line of the text has a word, so no tokenizer can be chosen"):
            suggest_tokenizer(texts)
    assert suggest_tokenizer(["Anna"]).name == "character" and suggest_tokenizer(["it is fine ."]).name == "word"


def test_the_share_of_unknown_words_in_held_out_lines_by_hand():
    others = ["a b c, d", "b a c, d", "a b c, d d", "b b c, d"]
    texts = ["a x, <unk>", *others, "a b, y"]  # the first and the sixth are held out
    assert held_out_unknown("words", texts, 0, 1) == 2 / 7  # x and y of a x ￭, a b ￭, y
    assert held_out_unknown("word", texts, 0, 1) == 3 / 5  # x, b, y of a x, a b, y
    copied = [*texts, *others, "a b, y"]  # a line is held out with its copies
    assert held_out_unknown("words", copied, 0, 1) == 3 / 11


def test_the_share_of_unknown_tokens_leaves_end_marks_out(tmp_path):
    store = build(tmp_path / "store", {"train": ["a b", "a c d"], "valid": ["b x", "a"]}, min_count=1)
    assert unknown_tokens(store["train"]) == 0 and unknown_tokens(store["valid"]) == 1 / 3


def told(name, texts, given=True, **settings):
    learned = Tokenizer.train(name, texts, settings.get("vocabulary") or None, settings.get("min_count", 1))
    return fewer_unknown(Data(tokenizer=TokenizerSettings(name=name, **settings)), learned, texts if given else ())


def test_what_lowers_the_share_of_unknown_words():
    raw = lines("film sentences")
    found = told("word", raw, vocabulary=30)
    assert found.startswith("try data.tokenizer.name = 'words' (") and "where 'word' has" in found
    assert "a larger data.tokenizer.vocabulary (now 30)" in found and found.endswith("which has none")
    assert told("word", lines("short reviews")).endswith(", or more text")
    assert "try data.tokenizer.name = 'words' (" in told("word", [f"{line}!" for line in lines("tweets")])
    assert "vocabulary" not in told("word", raw) and "'words' if the text is raw" in told("word", raw, given=False)
    assert "a lower data.tokenizer.min_count (now 2)" in told("words", raw, min_count=2)
    assert "'words'" not in told("word", lines("short reviews"))
    assert told("word", ["a <unk> b", "c d"]) == (
        "the text itself has <unk> for 20.0% of its words, so only other text has fewer"
    )
    data = Data(vocabulary_of="run")
    assert "that of data.vocabulary_of" in fewer_unknown(data, Tokenizer.train("word", raw, None, 1), raw)


def test_a_sample_is_spread_over_the_text(tmp_path, monkeypatch):
    (tmp_path / "text.tsv").write_text("text\tlabel\n" + "".join(f"a {n}\tx\n" for n in range(100)))
    data = Data(corpus=str(tmp_path / "text.tsv"), label="label")
    assert sample_of(data, 3) == ["a 0", "a 49", "a 99"]
    assert len(sample_of(data)) == 100
    monkeypatch.setattr(corpus, "READ", 10)
    assert sample_of(data, 3) == ["a 0", "a 4", "a 9"]
