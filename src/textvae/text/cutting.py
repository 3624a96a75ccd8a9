"""Texts cut for a tokenizer: long ones into parts, and many into batches that are encoded at once."""

import re
from collections.abc import Iterable, Iterator

# Characters of the longest word. A longer one becomes the unknown word, and byte pairs are not merged across its
# pieces of this length: learning byte pairs takes time quadratic in the length.
LONGEST_WORD = 1000

# Sentences, and approximately their characters, passed to the encoder at once: enough to keep every core busy, but
# little memory (the encoder takes some hundred bytes a character). Longer sentences are encoded in parts.
_CHUNK, CHARACTERS, PART = 4096, 1 << 18, 1 << 14

# Stands for an unknown word; and the special entries of a vocabulary, by their ids.
UNKNOWN = "<unk>"
SPECIALS = ("<pad>", UNKNOWN, "<bos>", "<eos>")
# White space: the set that the library's WhitespaceSplit uses, in the notation of its regex engine.
SPACE = r"\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
# Characters of Chinese and Japanese, and their punctuation: text without spaces, in which each is a word.
EASTERN = (
    r"\x{2e80}-\x{2fdf}\x{3001}-\x{312f}\x{31a0}-\x{31ff}\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}"
    r"\x{fe30}-\x{fe4f}\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff20}\x{ff3b}-\x{ff40}\x{ff5b}-\x{ff9f}\x{ffe0}-\x{ffe6}"
    r"\x{20000}-\x{3ffff}"
)
# Spellings that are never looked up: those of unknown words in corpora, and those of the control tokens.
RESERVED = r"<pad>|<unk>|<bos>|<eos>|_unk|\[unk\]"


def in_python(characters: str) -> str:
    """Return a set of characters in Python's notation."""
    return re.sub(r"\\x\{(\w+)\}", lambda match: rf"\U{match[1]:0>8}", characters)


# The same in Python's notation: the end of a word, runs of white space or of other characters, and runs too long.
_WHITE = in_python(SPACE)
_WORD_END = re.compile(rf"(?<=[^{_WHITE}])(?=[{_WHITE}])")
# Where the tokenizer `words` can cut: a space between two Eastern characters belongs to the second one.
_EASTERN = in_python(EASTERN)
_PIECE_END = re.compile(rf"(?<=[^{_WHITE}{_EASTERN}])(?=[{_WHITE}])|(?<=[{_EASTERN}])(?=[{_EASTERN}])")
_RUN = re.compile(rf"[^{_WHITE}]{{1,{LONGEST_WORD}}}|[{_WHITE}]{{1,{LONGEST_WORD}}}")
_LONG_RUN = re.compile(rf"[^{_WHITE}]{{{LONGEST_WORD + 1}}}|[{_WHITE}]{{{LONGEST_WORD + 1}}}")


class Counted:
    """Iterable that counts sentences as they pass and splits long ones into parts."""

    def __init__(self, name: str, sentences: Iterable[str]) -> None:
        self._name, self._sentences = name, sentences
        self.seen = 0

    def __iter__(self) -> Iterator[str]:
        for sentence in self._sentences:
            self.seen += 1
            yield from in_parts(self._name, sentence, LONGEST_WORD)


def in_parts(name: str, text: str, longest: int) -> Iterator[str]:
    """Yield a text in parts whose encodings, concatenated, equal the encoding of the whole.

    A word of more than `longest` characters becomes the unknown word, and byte pairs are not merged across its
    pieces of `LONGEST_WORD` characters.
    """
    if len(text) <= LONGEST_WORD:
        yield text
    elif name == "character":
        for start in range(0, len(text), PART):
            yield text[start : start + PART]
    else:
        if name != "bpe":
            between = _WHITE + _EASTERN * (name == "words")
            text = re.sub(rf"[^{between}]{{{longest + 1},}}", UNKNOWN, text)
        ends, start = _PIECE_END if name == "words" else _WORD_END, 0
        while start < len(text):
            end = match.start() if (match := ends.search(text, start + PART)) else len(text)
            part = text[start:end]
            yield from _pieces(part) if name == "bpe" and _LONG_RUN.search(part) else (part,)
            start = end


def _pieces(text: str) -> Iterator[str]:
    """Yield a text cut after every `LONGEST_WORD` characters of a word or of white space."""
    start = 0
    for run in _RUN.finditer(text):
        if run.end() - run.start() == LONGEST_WORD:
            yield text[start : run.end()]
            start = run.end()
    if start < len(text):
        yield text[start:]


def chunks(texts: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the texts that are encoded at once, with the number of the first of them."""
    start = characters = 0
    for number, text in enumerate(texts):
        if number - start == _CHUNK or characters > CHARACTERS:
            yield start, texts[start:number]
            start, characters = number, 0
        characters += len(text)
    if texts:
        yield start, texts[start:]
