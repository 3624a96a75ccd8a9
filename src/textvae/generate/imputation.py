"""Imputation of texts with gaps by iterated conditional modes."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from textvae.errors import RequestError
from textvae.generate.beam import BLANK, Hypothesis
from textvae.generate.codec import Codec
from textvae.generate.decoding import Decoding, beams, side_by_side
from textvae.inference import evaluating
from textvae.progress import Progress
from textvae.text.readers import one_line, require_texts
from textvae.text.tokenizers import EOS, PAD, UNK, Tokenizer
from textvae.text.words import unmarked

# A gap of one word, or of several: ___*3. If tokens are not words, a gap may be within a word.
GAP = re.compile(r"(?<!\w)___(?:\*(\d{1,4}))?(?!\w)")
INNER_GAP = re.compile(r"___(?:\*(\d{1,4}))?")
_GAP = "___"


class Imputation(NamedTuple):
    """A text with its gaps filled, and its log p(text|z), nats, end mark included; without a code, log p(text)."""

    text: str
    log_prob: float


class Template(NamedTuple):
    """A text with gaps in the form that a model works on.

    `ids` are in the order of generation, BLANK for each missing token, the end mark last. `units` are the words or
    characters as given, in reading order, None for missing ones; they are not used with byte pairs, which encode
    every text without loss.
    """

    ids: list[int]
    units: list[str | None]


def impute(
    trained: Codec,
    texts: Iterable[str],
    size: int | None = None,
    rounds: int = 3,
    last: float | None = None,
    progress: Progress | None = None,
) -> list[Imputation]:
    """Fill the gaps of texts: `___` is one word, `___*3` three; with other tokenizers one token, three.

    A word is a token of the tokenizer: to `words` punctuation marks and parts of contractions are words too.

    With `last`, a share, texts have no marks: that share of each text's words is missing at its end, rounded up as
    in Table 3 of the paper. Given words are returned unchanged, including words outside the vocabulary.

    Missing words start as the unknown word. In each of `rounds` the code becomes the mean of q(z|text), the
    posterior's mode, and the words become the likeliest that a beam of `size` finds given the code and all other
    words of the text, including those after the gap. A language model has no code and takes one round. The default
    beam is the paper's: 5, or 15 for a language model.

    Raises:
        RequestError: For a text that is empty, without a gap, only gaps, without a known word, or too long, and for
            a model of windows.

    References:
        Bowman et al. 2016, section 5.
    """
    trained.require_whole_texts()
    size = size if size is not None else usual_beam(trained)
    for name, value in (("beam", size), ("rounds", rounds)):
        if value < 1:
            raise RequestError(f"{name} = {value}: must be 1 or more")
    require_share(last)
    given = enumerate(require_texts(texts))
    templates = [template(trained, text, f"texts[{number}]", last) for number, text in given]
    order = sorted(range(len(templates)), key=lambda number: len(templates[number].ids))
    together = side_by_side(trained.model.device, size)
    found: dict[int, Imputation] = {}
    for start in range(0, len(order), together):
        chosen = order[start : start + together]
        texts_of = _filled(trained, [templates[number].ids for number in chosen], size, rounds)
        for number, (ids, log_prob) in zip(chosen, texts_of, strict=True):
            found[number] = Imputation(_written(trained.tokenizer, templates[number], ids), log_prob)
        if progress is not None:
            progress(len(found), len(order))
    return [found[number] for number in range(len(order))]


def unusable(trained: Codec, rows: Sequence[tuple[str, str]], last: float | None = None) -> dict[int, str]:
    """Return by number why texts cannot be imputed; each text comes with the place named in its reason."""
    trained.require_whole_texts()
    reasons = {}
    for number, (text, place) in enumerate(rows):
        try:
            template(trained, text, place, last)
        except RequestError as error:
            reasons[number] = str(error)
    return reasons


def require_share(last: float | None) -> None:
    """Refuse a share outside of (0, 1).

    Raises:
        RequestError: For such a share.
    """
    if last is not None and not 0 < last < 1:
        raise RequestError(f"last = {last}: must be a share between 0 and 1, such as 0.2")


def usual_beam(trained: Codec) -> int:
    """Return the paper's beam: 5 in each round of a model with codes, 15 for a language model."""
    return 15 if trained.model.prior is None else 5


def missing(tokens: int, share: float) -> int:
    """Return the number of tokens in that share of a text, rounded up.

    >>> [missing(tokens, 0.2) for tokens in (2, 5, 6, 7, 17)]
    [1, 1, 2, 2, 4]
    """
    return math.ceil(share * tokens - 1e-9)  # a binary share may exceed the decimal one slightly


def template(trained: Codec, text: str, place: str, last: float | None = None) -> Template:
    """Return a text with gaps in the form that the model works on; errors name `place`.

    Raises:
        RequestError: As `impute`.
    """
    text, tokenizer = one_line(text), trained.tokenizer
    if not text:
        raise RequestError(f"{place}: is empty; remove it")
    longest = trained.max_length
    # If tokens are not words between white space, a star after a gap may be one of them.
    gap = GAP if tokenizer.of_words else INNER_GAP
    star = re.compile(r"\*") if tokenizer.name == "word" else re.compile(r"\*[-+]?\d")
    fraction = re.compile(r"\.\d")
    parts, read = list[str | int](), 0
    for match in gap.finditer(text):
        gaps = int(match[1] or 1)
        if not gaps or star.match(text, match.end()) or (match[1] and fraction.match(text, match.end())):
            raise RequestError(
                f"{place}: has {_whole(text, match)}, which is not a number of words; "
                "write ___ for one, ___*3 for three"
            )
        parts += [text[read : match.start()], gaps]
        read = match.end()
    ids, units = _read(tokenizer, [*parts, text[read:]], place, longest)
    if last is not None:
        if BLANK in ids:
            raise RequestError(
                f"{place}: has a gap, ___, but the share missing at the end is given too; give only one of them"
            )
        gaps = missing(len(ids), last)
        ids[-gaps:], units[-gaps:] = [BLANK] * gaps, [None] * gaps
    _check(ids, place)
    return Template([*(ids[::-1] if tokenizer.right_to_left else ids), EOS], units)


def _whole(text: str, match: re.Match[str]) -> str:
    """Return a gap with the text that follows it immediately."""
    return match[0] + re.split(r"\s", text[match.end() :], maxsplit=1)[0]


def _read(
    tokenizer: Tokenizer, parts: list[str | int], place: str, longest: int
) -> tuple[list[int], list[str | None]]:
    """Return the tokens and units of a text in reading order, given its parts and the lengths of gaps between them.

    Raises:
        RequestError: For more than `longest` tokens.
    """
    if tokenizer.name == "words":
        return _read_pieces(tokenizer, parts, place, longest)
    ids, units = list[int](), list[str | None]()
    for part in parts:
        if isinstance(part, int):
            ids += [BLANK] * part
            units += [None] * part
            continue
        (tokens,) = tokenizer.encode([part])
        ids += tokens[::-1] if tokenizer.right_to_left else tokens
        _require_short(ids, place, longest)
        units += [] if tokenizer.name == "bpe" else tokenizer.pieces(part)
    return ids, units


def _read_pieces(
    tokenizer: Tokenizer, parts: list[str | int], place: str, longest: int
) -> tuple[list[int], list[str | None]]:
    """Return what `_read` does, where a gap is part of the text: what is beside a word depends on it."""
    text = "".join(part if isinstance(part, str) else " ".join([_GAP] * part) for part in parts)
    units = [None if unmarked(piece) == _GAP else piece for piece in tokenizer.pieces(text)]
    if units.count(None) != sum(part for part in parts if isinstance(part, int)):
        raise RequestError(f"{place}: has a gap within a name or an address; put ___ in place of the whole")
    (tokens,) = tokenizer.encode([text])
    ids = tokens[::-1] if tokenizer.right_to_left else tokens
    _require_short(ids, place, longest)
    return [BLANK if unit is None else word for word, unit in zip(ids, units, strict=True)], units


def _require_short(ids: list[int], place: str, longest: int) -> None:
    if len(ids) > longest:
        raise RequestError(f"{place}: has more than {longest} tokens, the most that the model's texts have")


def _check(ids: list[int], place: str) -> None:
    """Refuse a text without gaps, and one without known words."""
    known = [word for word in ids if word != BLANK]
    if len(known) == len(ids):
        raise RequestError(f"{place}: has no gap; write ___ for a missing word, ___*3 for three")
    if not known:
        raise RequestError(f"{place}: has only gaps; give some of its words")
    if set(known) == {UNK}:
        raise RequestError(f"{place}: the model knows none of its words; give some that it was trained on")


def _filled(trained: Codec, templates: list[list[int]], size: int, rounds: int) -> list[tuple[list[int], float]]:
    """Return the ids of texts with their gaps filled, and their log p in nats.

    A text that a round left unchanged would not change in later rounds either, and is finished.
    """
    filled = [[UNK if word == BLANK else word for word in row] for row in templates]
    nats = [0.0] * len(templates)
    changing = list(range(len(templates)))
    for _ in range(rounds if trained.model.prior is not None else 1):
        best = _likeliest(trained, [templates[row] for row in changing], [filled[row] for row in changing], size)
        changed = []
        for row, text in zip(changing, best, strict=True):
            ids, nats[row] = [*text.ids, EOS], text.log_prob
            if ids != filled[row]:
                changed.append(row)
            filled[row] = ids
        changing = changed
        if not changing:
            break
    return list(zip(filled, nats, strict=True))


def _likeliest(trained: Codec, templates: list[list[int]], filled: list[list[int]], size: int) -> list[Hypothesis]:
    """Return the likeliest texts that fit the templates, given the codes of the texts as currently filled."""
    rows = pad_sequence([torch.tensor(row) for row in templates], batch_first=True, padding_value=PAD)
    z = None if trained.model.prior is None else trained.means_of(filled)
    search = Decoding("beam", beam=size)
    with evaluating(trained.model):
        code, decoder = trained.model.code, trained.model.decoder
        ranked = beams(decoder, z, search, trained.max_length, rows=len(rows), code=code, templates=rows)
    return [texts[0] for texts in ranked]


def _written(tokenizer: Tokenizer, given: Template, ids: list[int]) -> str:
    """Return a filled text: given words unchanged, missing words as the model writes them."""
    if tokenizer.name == "bpe":
        return tokenizer.decode(ids)
    words = ids[:-1][::-1] if tokenizer.right_to_left else ids[:-1]
    return tokenizer.joined(
        [tokenizer.tokens[word] if unit is None else unit for word, unit in zip(words, given.units, strict=True)]
    )
