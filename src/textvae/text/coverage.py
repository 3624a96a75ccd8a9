"""Coverage of text by a vocabulary: the share of unknown tokens, and the tokenizer that suits a text."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from textvae.errors import RequestError
from textvae.settings.tables import Data
from textvae.text.cutting import EASTERN, SPACE, SPECIALS, UNKNOWN, in_python
from textvae.text.readers import require_texts
from textvae.text.store import TokenStore
from textvae.text.tokenizers import EOS, UNK, Tokenizer
from textvae.text.words import JOIN, split

# Share of unknown tokens from which on it is mentioned, with what to do.
MANY_UNKNOWN = 0.03
# Share of unknown words from which on a vocabulary of words does not suit a text.
TOO_MANY = 0.15
# A tokenizer is advised if it leaves no more than this share of the unknown words.
LESS = 0.9
# Share of pieces with a mark from which on a text is raw: punctuation and contractions stand beside words.
RAW = 0.05
# Lines in which shares are measured, of which every fifth is held out.
MEASURED = 10_000

_RUN = re.compile(f"[^{in_python(SPACE)}]+")
_EASTERN = re.compile(f"[{in_python(EASTERN)}]")


class Suggestion(NamedTuple):
    """A value of `data.tokenizer.name`, and the reason in one sentence."""

    name: str
    reason: str


def unknown_tokens(store: TokenStore) -> float:
    """Return the share of a split's tokens, end marks left out, that are unknown to the tokenizer."""
    words = np.count_nonzero(store.ids != EOS)
    return float(np.count_nonzero(store.ids == UNK) / words) if words else 0.0


def suggest_tokenizer(texts: Sequence[str], vocabulary: int = 10_000, min_count: int = 1) -> Suggestion:
    """Return the tokenizer that suits a text, given a sample of its lines.

    Text without spaces, and lines of single words, get characters; text whose punctuation has spaces around it
    `word`, other text `words`; text with many unknown words even so gets byte pairs. Unknown words are measured on
    up to `MEASURED` lines with a vocabulary of the given size (0 is no limit) and least count.

    Raises:
        RequestError: If no line has a word, and for what is not a list of texts.
    """
    lines = [line for text in require_texts(texts) if (line := _RUN.findall(text))]
    if not lines:
        raise RequestError("data: no line of the text has a word, so no tokenizer can be chosen for it")
    runs, characters = sum(map(len, lines)), sum(len(run) for line in lines for run in line)
    eastern = sum(len(_EASTERN.findall(run)) for line in lines for run in line)
    long = characters / len(lines) > 100
    if eastern > 0.3 * characters and characters <= 4 * runs:
        return Suggestion("word", "The text is Chinese or Japanese with spaces between words.")
    if eastern > 0.3 * characters:
        return _without_spaces("The text is Chinese or Japanese without spaces between words", long)
    if sum(len(line) == 1 for line in lines) >= 0.9 * len(lines):
        return _without_spaces("The lines are single words, such as names", long)
    if characters > 15 * runs:
        return Suggestion(
            "bpe", f"The text has few spaces: {characters / runs:.0f} characters from one to the next."
        )
    return _of_words([" ".join(line) for line in lines], vocabulary, min_count)


def _without_spaces(what: str, long: bool) -> Suggestion:
    if long:
        return Suggestion("bpe", f"{what}, in lines of more than 100 characters.")
    return Suggestion("character", f"{what}.")


def _of_words(texts: list[str], vocabulary: int, min_count: int) -> Suggestion:
    """Return the suggestion for a text with spaces."""
    pieces = [piece for text in texts[:MEASURED] for piece in split(text)]
    marked = sum(JOIN in piece for piece in pieces) / len(pieces)
    name = "words" if marked >= RAW else "word"
    unknown = held_out_unknown(name, texts, vocabulary, min_count)
    if unknown > TOO_MANY:
        return Suggestion("bpe", f"{unknown:.0%} of the words of held-out lines are not in a vocabulary of words.")
    if name == "words":
        return Suggestion(name, f"The text is raw: {marked:.0%} of its words and punctuation touch one another.")
    return Suggestion(name, "The text is tokenized already, or has next to no punctuation.")


def held_out_unknown(name: str, texts: Sequence[str], vocabulary: int, min_count: int) -> float:
    """Return the share of unknown tokens in a fifth of up to `MEASURED` lines, after learning from the others.

    Every fifth different line is held out with all its copies, as the splits of a text keep copies together.
    Spellings of unknown words in the text itself are not counted.
    """
    lines = texts[:MEASURED]
    different = list(dict.fromkeys(lines))
    few = len(different) < 5
    apart = set(different if few else different[::5])
    held = [line for line in lines if line in apart]
    learned = lines if few else [line for line in lines if line not in apart]
    tokenizer = Tokenizer.train(name, learned, vocabulary or None, 1 if few else min_count)
    tokens = [word for line in held for word in tokenizer.pieces(line) if word != UNKNOWN]
    known = set(tokenizer.tokens)
    return sum(word not in known for word in tokens) / max(1, len(tokens))


def fewer_unknown(data: Data, tokenizer: Tokenizer, texts: Sequence[str] = ()) -> str:
    """Return what lowers the share of unknown tokens, the best first; measured if lines of the text are given.

    Args:
        data: Settings of the text.
        tokenizer: Its tokenizer.
        texts: Lines of the text.
    """
    settings, name, ways = data.tokenizer, tokenizer.name, list[str]()
    if data.vocabulary_of is not None:
        return "the tokenizer is that of data.vocabulary_of; without it one is learned from this text"
    if texts and name != "bpe":
        spelled = [word == UNKNOWN for text in texts[:MEASURED] for word in tokenizer.pieces(text)]
        if (share := sum(spelled) / max(1, len(spelled))) >= MANY_UNKNOWN:
            return f"the text itself has {UNKNOWN} for {share:.1%} of its words, so only other text has fewer"
        suggested = suggest_tokenizer(texts, settings.vocabulary, settings.min_count).name
        better = "words" if name == "word" and suggested == "bpe" else suggested
        if better not in (name, "bpe"):
            now, then = (
                held_out_unknown(one, texts, settings.vocabulary, settings.min_count) for one in (name, better)
            )
            if then < LESS * now:
                measured = f"{then:.1%} of the words of held-out lines, where {name!r} has {now:.1%}"
                ways.append(f"data.tokenizer.name = {better!r} ({measured})")
    elif name == "word":
        ways.append("data.tokenizer.name = 'words' if the text is raw")
    full = bool(settings.vocabulary) and len(tokenizer) - len(SPECIALS) >= settings.vocabulary
    if full:
        ways.append(f"a larger data.tokenizer.vocabulary (now {settings.vocabulary:,})")
    if settings.min_count > 1:
        ways.append(f"a lower data.tokenizer.min_count (now {settings.min_count})")
    if name != "bpe":
        ways.append("data.tokenizer.name = 'bpe', parts of words, which has none")
    if not full:
        ways.append("more text")
    return "try " + ", or ".join(ways)
