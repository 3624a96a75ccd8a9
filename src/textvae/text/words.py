"""Words of raw text: punctuation and contractions apart from words, with marks by which texts are joined again."""

import re
from functools import lru_cache

from tokenizers import Regex, decoders, pre_tokenizers

from textvae.text.cutting import EASTERN, RESERVED, SPACE, UNKNOWN, in_python

# A piece with JOIN before or after it has no space there. SPACED says that there is one between two characters of
# Chinese or Japanese, which otherwise have none.
JOIN, SPACED = "￭", "␣"

_LETTER = rf"[\p{{L}}&&[^{EASTERN}]]"
_CHARACTERS = rf"\p{{L}}\p{{N}}\p{{M}}_&&[^{EASTERN}]"  # of a word
_WORD = rf"[{_CHARACTERS}]"
_SUFFIX = rf"['’](?i:s|m|d|ll|re|ve)(?!{_WORD})"
_NOT = rf"(?i:n['’]t)(?!{_WORD})"
# The pieces of a text between white space, the first alternative that fits at each place.
_PIECES = (
    rf"(?<!{_WORD}|[<>\[\]])(?i:{RESERVED})(?!(?!{_NOT})(?:{_WORD}|[<>\[\]]))",
    rf"(?i:https?://|www\.)[^{EASTERN}]*(?:{_WORD}|/)",
    rf"{_WORD}(?:[.+\-{_CHARACTERS}]*{_WORD})?@{_WORD}+(?:[.\-]{_WORD}+)*\.{_WORD}{{2,}}",
    rf"[@#]{_WORD}+",
    r"\p{Nd}+(?:[.,:/]\p{Nd}+)+",
    rf"(?:{_LETTER}\.){{2,}}",
    _NOT,
    rf"{_LETTER}+?(?={_NOT})",
    rf"{_WORD}+(?:['’](?={_LETTER})(?!(?i:s|m|d|ll|re|ve)(?!{_WORD})))?",
    rf"[{EASTERN}]",
    r"[\x{1f1e6}-\x{1f1ff}]{2}",
    r"\p{Extended_Pictographic}(?:\x{fe0f}|\p{Emoji_Modifier}|[\x{e0020}-\x{e007f}]|\x{200d}\p{Extended_Pictographic})*",
    r"``|''",
    _SUFFIX,
    r"\.{2,3}|!{2,3}|\?{2,3}|…{1,2}|-{2,3}|—{1,2}",
    r".",
)
_SPLITTER = pre_tokenizers.Split(Regex("|".join(_PIECES)), "isolated")
_EASTERN = re.compile(f"[{in_python(EASTERN)}]")
_FIRST_EASTERN = "\u2e80"
_RUN = re.compile(f"[^{in_python(SPACE)}]+")
_REMEMBERED = 1 << 15  # runs of characters between white space


def split(text: str) -> list[str]:
    """Return the pieces of a text, with the marks from which `joined` restores it.

    Punctuation marks, emoji, and characters of Chinese and Japanese are pieces of their own; English contractions
    are cut as in the Penn Treebank; after another apostrophe within a word a new piece begins. Numbers such as
    3.5 or 1,000, addresses, @names, #tags, abbreviations such as U.S., and ... or !! stay whole. Of two pieces
    without a space between them, punctuation is marked rather than words, so that words have one spelling.

    >>> split('We don’t know ("well-known"), sorry...')
    ['We', 'do', '￭n’t', 'know', '(', '￭"￭', 'well', '￭-￭', 'known', '￭"', '￭)', '￭,', 'sorry', '￭...']
    """
    pieces: list[str] = []
    for run in _RUN.findall(text):
        own = _split_run(run)
        if pieces and _EASTERN.match(own[0][0]) and _EASTERN.match(pieces[-1][-1]):
            own = (SPACED + own[0], *own[1:])
        pieces += own
    return pieces


@lru_cache(_REMEMBERED)
def _split_run(run: str) -> tuple[str, ...]:
    """Return the marked pieces of a run of characters without white space."""
    if JOIN in run or SPACED in run:  # a mark of the text's own would be taken for one of ours
        return (UNKNOWN,)
    pieces: list[str] = []
    before = ""
    for piece, _ in _SPLITTER.pre_tokenize_str(run):
        kind = _kind(piece)
        if pieces and not before == kind == "eastern":
            if _right_is_marked(before, kind, pieces[-1]):
                piece = JOIN + piece
            else:
                pieces[-1] += JOIN
        pieces.append(piece)
        before = kind
    return tuple(pieces)


def unmarked(piece: str) -> str:
    """Return a piece without its marks."""
    return piece.strip(JOIN + SPACED)


def decoder() -> decoders.Decoder:
    """Return the decoder that joins marked pieces to a text."""
    return decoders.Sequence(
        [
            decoders.WordPiece(JOIN, cleanup=False),
            decoders.Fuse(),
            decoders.Replace(f"{JOIN} ", ""),
            decoders.Replace(JOIN, ""),
            decoders.Replace(Regex(f"(?<=[{EASTERN}]) (?=[{EASTERN}])"), ""),
            decoders.Replace(f" {SPACED}", " "),
            decoders.Replace(SPACED, ""),
        ]
    )


def _kind(piece: str) -> str:
    first = piece[0]
    if first.isalnum() or first == "_":
        return "eastern" if first >= _FIRST_EASTERN and _EASTERN.match(first) else "word"
    if first in "@#<[" and len(piece) > 1:  # a name, a tag, or a reserved spelling
        return "word"
    return "eastern" if first >= _FIRST_EASTERN and _EASTERN.match(first) else "mark"


def _right_is_marked(left: str, right: str, piece: str) -> bool:
    """Return True if of two pieces without a space between them the second one gets the mark."""
    if right == "mark":
        return True
    if left == "mark" or left == "eastern":
        return False
    return right == "eastern" or piece[-1] not in "'’"
