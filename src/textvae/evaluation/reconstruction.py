"""Scores of the reconstructions of a split's sentences from their codes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from textvae.errors import RequestError
from textvae.generate.codec import MEASURED
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained, load
from textvae.metrics.scoring import PLAIN, RECONSTRUCTION, How, TextScore, given, score_by_length
from textvae.text.batches import TokenStore


class Reconstructions(NamedTuple):
    """Sentences as the model knows them, unknown words as `<unk>`, and what it makes of each."""

    references: list[str]
    texts: list[str]


def reconstructions(
    trained: Trained, store: TokenStore, rows: np.ndarray | None = None, decoding: Decoding = MEASURED
) -> Reconstructions:
    """Every sentence of a split, or the given `rows`, and the text decoded from the mean of its posterior.

    Raises RequestError by a model of windows or a language model.
    """
    if trained.window is not None:
        raise RequestError(f"{trained.run.folder}: is a model of pieces of running text, not of sentences")
    if trained.model.prior is None:
        raise RequestError(f"{trained.run.folder}: is a language model: it has no latent code to reconstruct from")
    ids, under = store.sentences(rows), store.condition(np.arange(len(store)) if rows is None else rows)
    texts = trained.decode(trained.means_of(ids, under), decoding, condition=under)
    return Reconstructions(trained.tokenizer.decode_batch(ids), texts)


def reconstruction_scores(
    folder: Path | str,
    split: str = "test",
    metrics: Sequence[str] = RECONSTRUCTION,
    how: How = PLAIN,
    training: Iterable[str] | None = None,
) -> dict[str, dict[str, TextScore]]:
    """Return the scores of greedy reconstructions from posterior means, by sentence length, and of all.

    Lengths are in the tokens that `how` counts, without the end mark; the buckets are up to 10, 11 to 20, 21 to 30,
    and all, longer ones among them. An unknown word of the sentence is matched by an unknown word. `training` is
    the text that metrics of copies look in.

    Raises RequestError as `reconstructions` and `score_by_length`, for a split that there is not, and where the
    data has changed since the run was made.

    References: Prokhorov et al. 2019, Table 1.
    """
    trained = load(folder)
    found = reconstructions(trained, trained.corpus.split(split))
    return score_by_length(given(found.texts, found.references, training, how), metrics)
