"""Texts with gaps: which words are missing, by iterated conditional modes."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from textvae.corpora.readers import one_line
from textvae.errors import RequestError
from textvae.generate.beam import BLANK
from textvae.generate.decoding import Decoding, beams
from textvae.generate.trained import Trained
from textvae.scores import evaluating
from textvae.tokenizers import EOS, PAD, UNK

# A gap of one word, or of several: ___*3. Where tokens are not words, one may be within a word.
GAP = re.compile(r"(?<!\w)___(?:\*(\d{1,4}))?(?!\w)")
INNER_GAP = re.compile(r"___(?:\*(\d{1,4}))?")


class Imputation(NamedTuple):
    """A text whose gaps are filled, and its log p(text|z) in nats, end mark counted; without a code log p(text)."""

    text: str
    log_prob: float


def impute(trained: Trained, texts: Sequence[str], size: int | None = None, rounds: int = 3) -> list[Imputation]:
    """Fill the gaps of texts: `___` is one word, `___*3` three; of other tokenizers one token, three.

    Missing words are the unknown word at first. In each of `rounds` the code becomes the mean of q(z|text), the
    posterior's mode, and the words the likeliest that a beam of `size` finds given the code and all other words of
    the text, those behind the gap too. A language model has no code: one round. Beams are of 5, of a language model
    of 15, as in the paper, unless `size` says otherwise.

    Raises:
        RequestError: for a text without a gap, with nothing but gaps, or too long, and by a model of windows.

    Source: Bowman et al. 2016, section 5.
    """
    trained.require_whole_texts()
    coded = trained.model.prior is not None
    size = size if size is not None else 5 if coded else 15
    for name, value in (("beam", size), ("rounds", rounds)):
        if value < 1:
            raise RequestError(f"{name} = {value}: must be 1 or more")
    templates = [_template(trained, text, number) for number, text in enumerate(texts)]
    if not templates:
        return []
    rows = pad_sequence([torch.tensor(row) for row in templates], batch_first=True, padding_value=PAD)
    search = Decoding("beam", allow_unknown=False, beam=size)
    filled = [[UNK if word == BLANK else word for word in row] for row in templates]
    found: list[float] = []
    for _ in range(rounds if coded else 1):
        z = trained.means_of(filled) if coded else None
        with evaluating(trained.model):
            code, decoder = trained.model.code, trained.model.decoder
            best = beams(decoder, z, search, trained.max_length, rows=len(rows), code=code, templates=rows)
        before, filled = filled, [[*texts[0].ids, EOS] for texts in best]
        found = [texts[0].log_prob for texts in best]
        if filled == before:
            break
    written = trained.tokenizer.decode_batch(filled)
    return [Imputation(text, nats) for text, nats in zip(written, found, strict=True)]


def _template(trained: Trained, text: str, number: int) -> list[int]:
    """The ids of a text, BLANK for each missing word, end mark behind, in the order in which the model writes."""
    if not isinstance(text, str):
        raise RequestError(f"texts[{number}]: is a {type(text).__name__}, not a text")
    text, ids, last, gaps = one_line(text), list[int](), 0, 0
    tokenizer = trained.tokenizer

    def known(part: str) -> list[int]:
        (read,) = tokenizer.encode([part])
        return read[::-1] if tokenizer.right_to_left else read

    for gap in (GAP if tokenizer.name == "word" else INNER_GAP).finditer(text):
        missing = int(gap[1] or 1)
        ids += [*known(text[last : gap.start()]), *[BLANK] * missing]
        last, gaps = gap.end(), gaps + missing
    ids += known(text[last:])
    if not gaps:
        raise RequestError(f"texts[{number}]: has no gap; write ___ for a missing word, ___*3 for three")
    if len(ids) == gaps:
        raise RequestError(f"texts[{number}]: is nothing but gaps; give some of its words")
    if len(ids) > trained.max_length:
        raise RequestError(
            f"texts[{number}]: has {len(ids)} tokens, and the model's texts have {trained.max_length} at most"
        )
    return [*(ids[::-1] if tokenizer.right_to_left else ids), EOS]
