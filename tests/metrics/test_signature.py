import hashlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.metrics.signature import digest, parse, signature

NLL = {
    "bound": "iw500",
    "unit": "nats/sentence",
    "eos": "counted",
    "unk": "counted",
    "vocabulary": "10004",
    "split": "ab12cd",
    "textvae": "0.1.0",
}
TEXT = "nll|bound:iw500|unit:nats/sentence|eos:counted|unk:counted|vocabulary:10004|split:ab12cd|textvae:0.1.0"

names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True) | st.sampled_from(list(NLL))
values = st.text(min_size=1, max_size=12) | st.sampled_from(["a|b", "100%", "%7C", "a:b", " ", "\n", "评论"])


def test_the_signature_of_the_design():
    assert signature("nll", **NLL) == TEXT
    assert parse(TEXT) == ("nll", NLL)


def test_numbers_may_be_given_as_numbers():
    assert signature("nll", vocabulary=10004, threshold=0.2) == "nll|vocabulary:10004|threshold:0.2"


def test_a_metric_alone_is_a_signature():
    assert signature("nll") == "nll"
    assert parse("nll") == ("nll", {})


def test_other_parts_stand_by_name_before_the_version():
    assert (
        signature("mi", textvae="0.1.0", sentences=2000, estimator="mixture", split="ab")
        == "mi|split:ab|estimator:mixture|sentences:2000|textvae:0.1.0"
    )


@settings(deadline=None)
@given(st.permutations(list(NLL)))
def test_the_order_of_the_call_does_not_matter(order):
    assert signature("nll", **{name: NLL[name] for name in order}) == TEXT


@settings(deadline=None)
@given(names, st.dictionaries(names, values, max_size=6))
def test_parse_gives_back_what_went_in(metric, parts):
    text = signature(metric, **parts)
    assert parse(text) == (metric, parts)
    assert signature(metric, **parse(text)[1]) == text
    assert len(text.splitlines()) == 1 and " " not in text
    assert text.count("|") == len(parts)


def test_a_value_cannot_pass_for_another_part():
    text = signature("nll", split="mine|eos:dropped 50%")
    assert text == "nll|split:mine%7Ceos:dropped%2050%25"
    assert parse(text)[1] == {"split": "mine|eos:dropped 50%"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: signature("NLL"),
            "signature: metric 'NLL' given; use a-z, 0-9, _ and -, a letter first",
        ),
        (
            lambda: signature("nll", **{"a:b": "c"}),
            "signature: name 'a:b' given; use a-z, 0-9, _ and -, a letter first",
        ),
        (lambda: signature("nll", split=""), "signature: split is empty; leave it out or give its value"),
        (lambda: parse(""), "signature: metric '' given; use a-z, 0-9, _ and -, a letter first"),
        (lambda: parse("nll|split"), "signature: 'split' given between bars; it must be NAME:VALUE"),
        (lambda: parse("nll|split:"), "signature: 'split:' given between bars; it must be NAME:VALUE"),
        (lambda: parse("nll|"), "signature: '' given between bars; it must be NAME:VALUE"),
        (
            lambda: parse("nll|Split:a"),
            "signature: name 'Split' given; use a-z, 0-9, _ and -, a letter first",
        ),
        (lambda: parse("nll|eos:a|eos:b"), "signature: eos is given twice; each name stands once"),
    ],
)
def test_what_is_no_signature_is_refused(call, message):
    with pytest.raises(RequestError) as caught:
        call()
    assert str(caught.value) == message


def test_a_digest_holds_no_lines():
    """It is that of the lines joined by line breaks, hashed one at a time."""
    lines = ["a b", "", "c", "\ud800 é"]
    joined = "\n".join(lines).encode(errors="surrogatepass")
    assert digest(lines) == hashlib.sha256(joined).hexdigest()[:6]
    tracemalloc.start()
    digest(f"{number:>100}" for number in range(2_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000
