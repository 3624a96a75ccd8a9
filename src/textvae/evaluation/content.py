"""Content kept by the codes of held-out sentences: words of reconstructions, labels of neighbours; and loops."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from textvae.evaluation.opened import Opened
from textvae.generate.neighbours import distances, nearest_others
from textvae.generate.trained import Trained
from textvae.metrics.content import (
    ContentKept,
    common_words,
    content_words_kept,
    label_agreement,
    loops,
)
from textvae.metrics.words import tokenized, unknown
from textvae.text import grammar
from textvae.text.batches import TokenStore
from textvae.text.store import spaced

# Sentences that are encoded, those of them that are reconstructed, those that are shown.
ENCODED, RECONSTRUCTED, SHOWN = 2000, 500, 5
# Nearest codes whose labels are compared.
NEAREST = 5
# Training sentences in which the common words are counted.
COUNTED = 20_000


@dataclass(frozen=True)
class Example:
    """A held-out sentence, its greedy reconstruction, and the other held-out sentence with the nearest code."""

    text: str
    reconstruction: str
    neighbour: str


@dataclass(frozen=True)
class LabelAgreement:
    """Share of the `NEAREST` codes with the label of a sentence, and the share by chance; from 0 to 1."""

    agreement: float
    by_chance: float


@dataclass(frozen=True)
class Content:
    """Content that the codes of a split keep.

    Attributes:
        content_words: Content words in greedy reconstructions from posterior means.
        labels: Agreement of nearest neighbours for each label that the text has.
        examples: Evenly spaced sentences.
        looping: Share of the reconstructions with a loop.
    """

    content_words: ContentKept
    labels: dict[str, LabelAgreement]
    examples: list[Example]
    looping: float


def content_of(trained: Opened, split: str) -> Content | None:
    """Examine what the codes of a split keep.

    Returns:
        None for a model without codes, one of windows, and a split of one sentence.

    Raises:
        RequestError: If the run's text is missing or has changed, or has no such split.
    """
    store, rows = trained.corpus.split(split), trained.rows(split, ENCODED)
    if trained.model.prior is None or trained.window is not None or len(rows) < 2:
        return None
    ids = store.sentences(rows)
    conditions = store.condition(rows)
    texts, codes = trained.tokenizer.decode_batch(ids), trained.means_of(ids, conditions).numpy()
    some = spaced(len(rows), RECONSTRUCTED)
    under = None if conditions is None else conditions.at(torch.from_numpy(some))
    references, written = [texts[at] for at in some], trained.decode(codes[some], condition=under)
    way = tokenization(trained, references)
    training = trained.corpus.split("train")
    counted = trained.tokenizer.decode_batch(training.sentences(spaced(len(training), COUNTED)))
    tokens = list(tokenized(written, way))
    shown = spaced(len(some), SHOWN)
    return Content(
        content_words=content_words_kept(
            tokens, list(tokenized(references, way)), common_words(tokenized(counted, way))
        ),
        labels=_agreements(_labels(trained, store, rows, texts), texts, codes),
        examples=_examples(shown, some, texts, written, codes),
        looping=float(np.mean([loops(own) for own in tokens])),
    )


def tokenization(trained: Trained, texts: Iterable[str]) -> str:
    """Return "words", "pieces" for a model of those, or "characters" for one whose texts have no spaces."""
    if trained.tokenizer.name == "words":
        return "pieces"
    spaced_out = trained.tokenizer.name != "character" or any(" " in text for text in texts)
    return "words" if spaced_out else "characters"


def flaws(texts: Sequence[str], way: str = "words") -> tuple[float, float]:
    """Return the share of the tokens of texts that are unknown words, and the share of texts with a loop."""
    tokens = list(tokenized(texts, way))
    words = sum(map(len, tokens))
    unknowns = sum(unknown(word) for text in tokens for word in text)
    return (unknowns / words if words else 0.0, sum(map(loops, tokens)) / len(tokens) if tokens else 0.0)


def _examples(
    shown: np.ndarray,
    some: np.ndarray,
    texts: Sequence[str],
    written: Sequence[str],
    codes: Float32[np.ndarray, "n latent"],
) -> list[Example]:
    """Return some of the reconstructed sentences beside the sentence with the nearest code."""
    examples = []
    for number in shown:
        at = int(some[number])
        away = distances(codes[[at]], codes, "cosine")[0]
        away[[other == texts[at] for other in texts]] = np.inf  # another sentence, not the same one once more
        examples.append(Example(texts[at], written[number], texts[int(away.argmin())]))
    return examples


def _labels(trained: Opened, store: TokenStore, rows: np.ndarray, texts: Sequence[str]) -> dict[str, list[str]]:
    """Return the labels of sentences by name: the text's own, or each attribute of the embedded grammar."""
    data = trained.run.settings.data
    if store.labels is not None and data.label is not None:
        return {data.label: [store.label_names[number] for number in store.labels[rows]]}
    if data.corpus != "grammar" or data.train is not None:
        return {}
    language = grammar.reviews()
    attributes = [language.attributes(text) or {} for text in texts]
    return {name: [own.get(name, "") for own in attributes] for name in language.values}


def _agreements(
    labels: dict[str, list[str]], texts: Sequence[str], codes: Float32[np.ndarray, "n latent"]
) -> dict[str, LabelAgreement]:
    """Return the agreement of nearest neighbours for each label, among the sentences that have all of them.

    Of equal sentences the first one counts: copies have one code, whatever it holds.
    """
    different = dict(zip(reversed(texts), reversed(range(len(texts))), strict=True)).values()
    known = np.array(sorted(at for at in different if all(own[at] for own in labels.values())), dtype=np.int64)
    if not labels or len(known) < 2:
        return {}
    nearest = nearest_others(codes[known], NEAREST)
    return {
        name: LabelAgreement(*label_agreement(nearest, [own[at] for at in known])) for name, own in labels.items()
    }
