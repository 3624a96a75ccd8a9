"""Tokenization for text metrics: words at white space or apart from punctuation, characters, Chinese words."""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

from textvae.errors import RequestError, did_you_mean
from textvae.metrics.ngrams import Text
from textvae.text.readers import each_text
from textvae.text.words import split, unmarked

TOKENIZATIONS = ("words", "pieces", "characters", "jieba")
# Spellings of unknown words, in lower case, in corpora and in this library's tokenizers.
UNKNOWN = frozenset(("<unk>", "_unk", "[unk]"))

# Models of characters write the unknown character without white space around it.
_CHARACTER = re.compile(r"<unk>|\S")
_UNK = re.compile(r"(<unk>)")


def tokenized(texts: Iterable[str], tokenization: str = "words", lowercase: bool = False) -> Text:
    """Return the tokens of each text: `words` are separated by white space, `characters` are all but white space.

    `pieces` are words and punctuation, split as by the tokenizer `words`. `jieba` segments Chinese text into words
    without white space; there and in `characters` `<unk>` stays one token. Texts are read one at a time, and only
    the numbers of their tokens are kept.

    Raises:
        RequestError: For an argument that is not a list of strings, and as `require_tokenization`.

    >>> list(tokenized(["A cat  sat", ""], lowercase=True))
    [['a', 'cat', 'sat'], []]
    >>> list(tokenized(["It's fine."], "pieces"))
    [['It', "'s", 'fine', '.']]
    >>> list(tokenized(["吃<unk> 了"], "characters"))
    [['吃', '<unk>', '了']]
    """
    require_tokenization(tokenization)
    texts = each_text(texts)
    given = (text.lower() for text in texts) if lowercase else texts
    if tokenization == "words":
        return Text.of(text.split() for text in given)
    if tokenization == "pieces":
        return Text.of([unmarked(piece) for piece in split(text)] for text in given)
    if tokenization == "characters":
        return Text.of(_CHARACTER.findall(text) for text in given)
    return Text.of(_chinese(given))


def _chinese(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the words of each text by jieba."""
    cut = _jieba().lcut
    for text in texts:
        parts = (["<unk>"] if part == "<unk>" else cut(part) for part in _UNK.split(text))
        yield [word for words in parts for word in words if word.strip()]


def require_tokenization(name: str) -> None:
    """Refuse an unknown tokenization.

    Raises:
        RequestError: For another name, or for jieba if it is not installed.
    """
    if name not in TOKENIZATIONS:
        hint = did_you_mean(name, TOKENIZATIONS, "")
        raise RequestError(f"tokenize: {name!r} is not one of {', '.join(TOKENIZATIONS)}{hint}")
    if name == "jieba" and find_spec("jieba") is None:
        raise RequestError(
            "tokenize: jieba is not installed; install it with pip install 'textvae[chinese]', "
            "or use --tokenize characters"
        )


def unknown(token: str) -> bool:
    """Return True if the token stands for an unknown word: `<unk>`, `_UNK` or `[UNK]`, in any case."""
    return token.lower() in UNKNOWN


@cache
def _jieba() -> Any:
    """Return jieba's segmenter with its own dictionary, never with a cached one in a shared folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its outdated escapes in patterns
        import jieba
    jieba.setLogLevel(logging.WARNING)  # it reports its loading time on stderr
    cutter = jieba.Tokenizer()
    with TemporaryDirectory() as folder:
        cutter.tmp_dir = folder
        cutter.initialize()
    return cutter
