import re
from itertools import islice

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from textvae.text.cutting import LONGEST_WORD, RESERVED, SPACE, in_python
from textvae.text.tokenizers import UNK, Tokenizer
from textvae.text.words import JOIN, SPACED, decoder, split

DECODER = decoder()
RUNS = re.compile(f"[^{in_python(SPACE)}]+")
# Parts of raw text, in any order and with or without spaces between them.
PARTS = st.sampled_from(
    [
        *"don't I'm it's dogs' l'homme O'Brien can't've rock'n'roll DON’T x’s n't 's".split(),
        *"\" ' “ ” ‘ ( ) [ ] - -- ... … .... . , ! ?! ; :) `` ''".split(),
        *"3.5 1,000 10:30 $5 90% 3.5kg 1.2.3 U.S. e.g. Mr. well-known a_b ___".split(),
        *"https://a.b/c?d=e www.x.org/ me@x.org @joe #tag C# #1 &amp; * <b> x<eos>y".split(),
        *"👍 👍🏽 👨\u200d👩\u200d👧 🇩🇪 1️⃣ © e\u0301 हिन्दी ไทย 한국어".split(),
        *"我 喜欢 。 ， 「 」 カタカナ ひらがな か\u3099 NLP好 〰 々".split(),
    ]
)
MIXED = st.lists(st.tuples(PARTS, st.sampled_from(["", " "])), max_size=12).map(
    lambda parts: "".join(part + space for part, space in parts).strip()
)
TEXTS = st.one_of(MIXED, st.text(st.characters(exclude_categories=["Cs"])))


def pieces(text):
    return " ".join(split(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it 's great , do n't you think .", "it 's great , do n't you think ."),  # is tokenized already
        ("It's great, don't you think?", "It ￭'s great ￭, do ￭n't you think ￭?"),
        ('She said: "no".', 'She said ￭: "￭ no ￭" ￭.'),
        ("(well-known)", "(￭ well ￭-￭ known ￭)"),
        ("CAN’T we'll dogs' 'tis", "CA ￭N’T we ￭'ll dogs ￭' '￭ tis"),
        ("l'homme O'Brien", "l'￭ homme O'￭ Brien"),
        ("Wait... what?!", "Wait ￭... what ￭? ￭!"),
        ("3.5 1,000 10:30 90% $5 3.5kg 20th", "3.5 1,000 10:30 90 ￭% $￭ 5 3.5 ￭kg 20th"),
        ("see http://t.co/a1, or www.x.org.", "see http://t.co/a1 ￭, or www.x.org ￭."),
        ("@joe: #fun me@x.org's C#", "@joe ￭: #fun me@x.org ￭'s C ￭#"),
        ("in the U.S., e.g. Mr. X", "in the U.S. ￭, e.g. Mr ￭. X"),
        ("ok👍🏽👍 🇩🇪", "ok ￭👍🏽 ￭👍 🇩🇪"),
        ("我爱NLP，你 好。", "我 爱￭ NLP ￭， 你 ␣好 。"),
        ("<unk>, _UNK. x<eos> <unk>n't", "<unk> ￭, _UNK ￭. x ￭<￭ eos ￭> <unk> ￭n't"),
        ("a ￭b c␣ d", "a <unk> <unk> d"),  # marks of the text's own
        ("", ""),
    ],
)
def test_pieces(text, expected):
    assert pieces(text) == expected


@given(TEXTS)
@example("a\u3099 \u3099か 我 好")
@example("''' ``` `` ''")
@example("' s'S n'T can'tt x's's")
def test_every_text_with_single_spaces_is_restored(text):
    text = " ".join(RUNS.findall(text))
    assume(JOIN not in text and SPACED not in text)
    assert DECODER.decode(split(text)) == text


@given(st.lists(TEXTS, min_size=1, max_size=4), st.booleans())
def test_encoded_text_is_restored(texts, lowercase):
    texts = [" ".join(RUNS.findall(text)) for text in ["x", *texts]]
    tokenizer = Tokenizer.train("words", texts, None, 1, lowercase)
    for text, ids in zip(texts, tokenizer.encode(texts), strict=True):
        again = tokenizer.decode(ids)
        assert again == tokenizer.normalise(text) and tokenizer.encode([again]) == [ids]
        if not (re.search(f"(?i){RESERVED}|[{JOIN}{SPACED}]", text) or lowercase):
            assert again == text and UNK not in ids


@given(st.lists(PARTS, min_size=1, max_size=6))
def test_words_have_one_spelling_whatever_is_beside_them(parts):
    text = " ".join(["word", *(f'"{part}"' for part in parts), '("word"), word! word-word; word\'s word.'])
    assert [piece for piece in split(text) if "word" in piece] == ["word"] * 7


def test_tokens_of_text_in_any_order_are_text():
    tokenizer = Tokenizer.train("words", ["(a) b-c, 'd' 我 好 e我"], None, 1)
    assert tokenizer.decode([]) == ""
    joined = [tokenizer.joined(some) for some in (["￭,", "a"], ["a", "(￭"], ["￭-￭", "￭-￭"], ["␣好"], ["a", "␣好"])]
    assert joined == [", a", "a (", "--", "好", "a 好"]


def test_a_line_of_chinese_without_spaces_may_be_long():
    line = "我喜欢吃饭，" * LONGEST_WORD + "a" * (LONGEST_WORD + 1) + "好 饭"
    tokenizer = Tokenizer.train("words", ["我喜欢吃饭，好 饭", "，a好"], None, 1)
    (ids,) = tokenizer.encode([line])
    assert len(ids) == 6 * LONGEST_WORD + 3 and ids.count(UNK) == 1
    assert tokenizer.tokens[ids[-1]] == "␣饭"


@pytest.mark.parametrize(
    "file", ["tweets/train.txt", "yelp_sentiment/train.txt", "ptb/train.txt", "zh_shopping/train.tsv"]
)
def test_lines_of_real_text_are_restored(file, corpora):
    with (corpora / file).open(encoding="utf-8") as text:
        lines = [" ".join(RUNS.findall(line)) for line in islice(text, 1000)]
    assert [DECODER.decode(split(line)) for line in lines] == lines
