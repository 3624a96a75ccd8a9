"""Scores of responses that a model samples for the contexts of a split: several for each, against the true one."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import textvae
from textvae.errors import RequestError
from textvae.evaluation.opened import Opened
from textvae.files import file_digest
from textvae.generate.decoding import Decoding
from textvae.metrics.dialogue import response_scores
from textvae.metrics.signature import signature
from textvae.parts.noise import mixed
from textvae.text.conditions import Turns
from textvae.text.store import spaced
from textvae.text.vectors import read_vectors

# Contexts of a split that are answered, and responses to each.
CONTEXTS, RESPONSES = 500, 10
# The smoothing of BLEU of the programs that fu2020 compares with.
SMOOTHING = "nltk-3.4"
GREEDY, SAMPLED = Decoding(allow_unknown=True), Decoding("sample", allow_unknown=True)


@dataclass(frozen=True)
class Responses:
    """Responses of a model to contexts of a split.

    Attributes:
        contexts: Utterances of each context, or the source text, as the model knows them.
        references: The true response of each.
        responses: Sampled responses, as many for each context.
        decoding: How they were decoded.
    """

    contexts: list[list[str]]
    references: list[str]
    responses: list[list[str]]
    decoding: Decoding


def responses(
    trained: Opened, split: str = "test", contexts: int = CONTEXTS, number: int = RESPONSES, seed: int = 0
) -> Responses:
    """Sample responses to evenly spaced contexts of a split, each from a code of its own.

    They are decoded greedily from draws of the prior; those of a model without a code are sampled word by word.

    Raises:
        RequestError: For a model that is conditioned on no texts, and fewer than one context or response.

    References:
        Gu et al. 2019, section 4.3; Fu et al. 2020, appendix E.2.
    """
    for name, value in (("contexts", contexts), ("number", number)):
        if value < 1:
            raise RequestError(f"{name} = {value}: must be 1 or more")
    store = trained.corpus.split(split)
    rows = spaced(len(store), contexts)
    given = store.condition(rows)
    if not isinstance(given, Turns):
        raise RequestError(f"{trained.run.folder}: is conditioned on no dialogue or source text to respond to")
    decoding = SAMPLED if trained.model.prior is None else GREEDY
    draws = [trained.sample(len(rows), mixed(seed, draw), decoding, condition=given) for draw in range(number)]
    read = [
        [own[:length].tolist() for own, length in zip(ids, lengths, strict=True) if length]
        for ids, lengths in zip(given.ids, given.lengths.tolist(), strict=True)
    ]
    return Responses(
        contexts=[trained.tokenizer.decode_batch(turns) for turns in read],
        references=trained.tokenizer.decode_batch(store.sentences(rows)),
        responses=[list(own) for own in zip(*draws, strict=True)],
        decoding=decoding,
    )


def scores_of_responses(
    trained: Opened, found: Responses, split: str, seed: int = 0, vectors: Path | str | None = None
) -> dict[str, Any]:
    """Return the scores of responses as JSON has them, with their signature; nulls have a reason.

    Args:
        trained: The model.
        found: Its responses.
        split: The split that they are to.
        seed: Of the codes.
        vectors: A file of word vectors, for the scores of embeddings.

    Raises:
        RequestError: As `read_vectors` and `response_scores`.
    """
    words = {word for text in _all(found) for word in text.split()}
    known = None if vectors is None else read_vectors(vectors, words)
    scores = asdict(response_scores(found.responses, found.references, known, SMOOTHING))
    why = "no word vectors were given (--vectors FILE)" if known is None else "no text has a word with a vector"
    told = signature(
        "responses",
        bleu=f"3-smoothed-as-{SMOOTHING}",
        decoding=found.decoding.brief,
        contexts=len(found.references),
        samples=len(found.responses[0]),
        split=trained.corpus.split(split).fingerprint[:6],
        vectors="none" if vectors is None else file_digest(Path(vectors))[:6],
        seed=seed,
        textvae=textvae.__version__,
    )
    reasons = {name: why for name, value in scores.items() if value is None}
    return {**scores, "signature": told, "reasons": reasons}


def _all(found: Responses) -> Sequence[str]:
    return [*found.references, *(text for own in found.responses for text in own)]
