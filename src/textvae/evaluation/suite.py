"""Every evaluation that fits a run, in one document: `textvae evaluate RUN --all`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

import textvae
from textvae.errors import RequestError
from textvae.evaluation.content import tokenization
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.importance import AUTO, importance_weights, iw_numbers, require_iw_numbers, subset
from textvae.evaluation.opened import Opened, open_run
from textvae.evaluation.probing import own_labels, probes
from textvae.evaluation.reconstruction import reconstructions
from textvae.evaluation.responses import responses, scores_of_responses
from textvae.evaluation.values import NO_CODE
from textvae.files import write_json
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained
from textvae.metrics.likelihood import standard_error
from textvae.metrics.scoring import Given, How, TextScore, available, given, over_draws, score, score_by_length
from textvae.metrics.signature import SOFTMAX, signature
from textvae.metrics.truth import TrueDistance, true_distance
from textvae.progress import PartProgress, of_part
from textvae.text import grammar
from textvae.text.batches import TokenStore
from textvae.text.corpus import Corpus
from textvae.text.tokenizers import EOS

DECODINGS: Mapping[str, Decoding] = {
    "greedy": Decoding(allow_unknown=True),
    "sample": Decoding("sample", allow_unknown=True),
}
# Sentences that are reconstructed: drawn by the seed where there are more.
RECONSTRUCTED = 5_000
ALWAYS_THE_SAME = f"{NO_CODE}: it writes one sentence, again and again"
WINDOWS = "a model of pieces of running text knows no sentences"

# A part of the document, or why there is none.
Part = dict[str, Any] | str


def evaluate_all(
    folder: Path | str | Opened,
    split: str = "test",
    iw_samples: int | str = AUTO,
    iw_sentences: int | None | str = AUTO,
    samples: int = 1_000,
    decodings: Mapping[str, Decoding] = DECODINGS,
    draws: int = 5,
    seed: int = 0,
    progress: PartProgress | None = None,
    times: int = 3,
    vectors: Path | str | None = None,
) -> dict[str, Any]:
    """All that `evaluate` gives, and beside it what the model writes, reconstructs, and knows of labels.

    `reconstruction_by_length`: corpus BLEU and ROUGE of reconstructions by bucket. `generated`: for each of
    `decodings`, the scores of `samples` sentences from the prior against the split and the training text, written
    `times` times, of the seeds `seed`, `seed` + 1, ...: mean and standard deviation. `true_distance`: of the first
    of these to the corpus `grammar`. `responses`, of a model of dialogues or source texts: ten to each of up to 500
    contexts, scored against the true one, with `vectors`, a file of word vectors, for the embedding scores.
    `probes`: what codes tell of the text's labels, fewer labels than all drawn `draws` times. What does not fit the
    model or the text is None, and `reasons` says why. Written to `evaluation/SPLIT-all.json`; `evaluate` writes
    `SPLIT.json`.

    Raises:
        RequestError: as `evaluate`, for fewer than 2 samples, and for less than once.
    """
    for name, value, least in (("samples", samples, 2), ("times", times, 1)):
        if value < least:
            raise RequestError(f"{name} = {value}: must be {least} or more")
    require_iw_numbers(iw_samples, iw_sentences)
    told = progress or (lambda part, done, total: None)
    trained = open_run(folder)
    corpus = trained.corpus
    chosen = iw_numbers(trained.run, split, iw_samples, iw_sentences)
    document = evaluate(trained, split, iw_samples, iw_sentences, seed, of_part(told, "likelihood"))
    texts = generated(trained, samples, decodings, range(seed, seed + times), told)
    first = {name: None if written is None else written[0] for name, written in texts.items()}
    numbers = (chosen.samples, chosen.sentences, seed)
    parts: dict[str, Part] = {
        "reconstruction_by_length": _reconstructions(trained, corpus.split(split), seed, told),
        "generated": _generated(trained, corpus, split, texts, decodings, seed),
        "true_distance": _true_distances(trained, corpus, first, decodings, numbers, told),
        "probes": _probes(trained, split, draws, seed, told),
    }
    if corpus.split(split).turns is not None:
        told("responding", 0, 1)
        parts["responses"] = scores_of_responses(
            trained, responses(trained, split, seed=seed), split, seed, vectors
        )
    elif vectors is not None:
        raise RequestError(f"vectors: {trained.run.folder} answers no contexts; leave out the word vectors")
    for name, part in parts.items():
        document[name] = None if isinstance(part, str) else part
        if isinstance(part, str):
            document["reasons"][name] = part
    for name in document["true_distance"] or ():
        if document["true_distance"][name] is None:
            document["reasons"][f"true_distance.{name}"] = ALWAYS_THE_SAME
    trained.save(f"evaluation/{split}-all.json", lambda path: write_json(path, document))
    return document


def generated(
    trained: Trained, samples: int, decodings: Mapping[str, Decoding], seeds: Sequence[int], told: PartProgress
) -> dict[str, list[list[str]] | None]:
    """Sentences from the prior by each way of decoding, of each seed; None where there is one sentence only."""
    found: dict[str, list[list[str]] | None] = {}
    for done, (name, decoding) in enumerate(decodings.items()):
        told("sampling", done, len(decodings))
        alone = trained.model.prior is None and decoding.certain  # no code
        found[name] = None if alone else [trained.sample(samples, seed, decoding) for seed in seeds]
        told("sampling", done + 1, len(decodings))
    return found


def _reconstructions(trained: Trained, store: TokenStore, seed: int, told: PartProgress) -> Part:
    """Return the scores of greedy reconstructions by the length of the sentence.

    References: Prokhorov et al. 2019, Table 1.
    """
    if trained.model.prior is None:
        return NO_CODE
    if trained.window is not None:
        return WINDOWS
    told("reconstructing", 0, 1)
    references, texts = reconstructions(trained, store, subset(len(store), RECONSTRUCTED, seed))
    found = score_by_length(given(texts, references, how=How(tokenization(trained, references))))
    told("reconstructing", 1, 1)
    return {bucket: _documents(scores) for bucket, scores in found.items()}


def _generated(
    trained: Trained,
    corpus: Corpus,
    split: str,
    texts: Mapping[str, list[list[str]] | None],
    decodings: Mapping[str, Decoding],
    seed: int,
) -> Part:
    """Return the scores of what was written, by name of the decoding: means over the seeds.

    References: Liu et al. 2019, Table 1, and the metrics of `docs/metrics.md`.
    """
    if trained.window is not None:
        return WINDOWS
    how = How(tokenization(trained, corpus.texts(split)))
    base = given(["-"], corpus.texts(split), corpus.texts("train"), how)
    found: dict[str, Any] = {}
    for name, written in texts.items():
        if written is None:
            found[name] = {"scores": None, "reason": ALWAYS_THE_SAME}
            continue
        draws = []
        for one in written:
            text = Given(given(one, how=how).sentences, base.references, base.training, how)
            draws.append(score(text, available(text)))
        found[name] = {
            "decoding": asdict(decodings[name]),
            "samples": len(written[0]),
            "draws": len(written),
            "seed": seed,
            "scores": _documents(over_draws(draws, decode=decodings[name].brief, seed=seed)),
        }
    return found


def _true_distances(
    trained: Trained,
    corpus: Corpus,
    texts: Mapping[str, list[str] | None],
    decodings: Mapping[str, Decoding],
    numbers: tuple[int, int | None, int],
    told: PartProgress,
) -> Part:
    """Return the distance of generated text to the grammar, by decoding; for samples also the reverse KL."""
    if corpus.name != "grammar":
        return "the distribution of the text is not known: it is that of `grammar` alone"
    if trained.window is not None:
        return WINDOWS
    found: dict[str, Any] = {}
    for name, written in texts.items():
        if written is None:
            found[name] = None
            continue
        distance = true_distance(written, grammar.reviews())
        found[name] = distance.document()
        conditional = trained.model.conditioning is not None  # log p(x) is one of p(x|c), of some c
        if decodings[name] == Decoding("sample", allow_unknown=True) and not conditional:  # from p(x) itself
            found[name] |= reverse_kl(trained, written, distance, *numbers, told)
            few = (found[name]["reverse_kl_inside_sentences"] or 0) < 2
            why = "fewer than 2 sentences are of the language" if few else "the posterior has no density"
            nulls = ("reverse_kl_inside", "reverse_kl_inside_standard_error")
            found[name]["reasons"] |= {null: why for null in nulls if found[name][null] is None}
        found[name]["signature"] = signature(
            "true-distance",
            unit="nats/sentence",
            softmax=SOFTMAX,
            grammar="reviews",
            decoding=decodings[name].brief,
            smoothing=f"add-{distance.smoothing:g}",
            sentences=len(written),
            reverse=f"iw{numbers[0]}",
            seed=numbers[2],
            textvae=textvae.__version__,
        )
    return found


def reverse_kl(
    trained: Trained,
    texts: list[str],
    distance: TrueDistance,
    iw_samples: int,
    sentences: int | None,
    seed: int,
    told: PartProgress,
) -> dict[str, Any]:
    """KL(model given that a sentence is of the language || grammar), nats, from samples of the model.

    E log p(x) - log P(inside) - E log of the true probability, over the samples inside, of at most `sentences` of
    them. log p(x) is importance-weighted, below the truth in expectation, and so is the KL; of a language model it
    is exact. The KL of all sentences is infinite as soon as the model can write one that the grammar cannot.
    """
    language = grammar.reviews()
    true = torch.tensor([language.log_prob(text) for text in texts], dtype=torch.float64)
    inside = torch.nonzero(true.isfinite())[:, 0][:sentences]
    names = ("reverse_kl_inside", "reverse_kl_inside_standard_error", "reverse_kl_inside_sentences")
    if len(inside) < 2:
        return dict(zip(names, (None, None, len(inside)), strict=True))
    store = _store([[*row, EOS] for row in trained.tokenizer.encode([texts[at] for at in inside.tolist()])])
    rows, progress = np.arange(len(store)), of_part(told, "reverse KL")
    weighted = importance_weights(trained.model, store, rows, iw_samples, seed, progress)
    if weighted is None:
        return dict(zip(names, (None, None, len(inside)), strict=True))
    terms = -weighted.nll - true[inside]
    value = terms.mean().item() - math.log(distance.inside)
    # Of two independent parts: the terms, and the logarithm of the share.
    error = math.hypot(standard_error(terms), distance.inside_standard_error / distance.inside)
    return dict(zip(names, (value, error, len(inside)), strict=True))


def _probes(trained: Trained, split: str, draws: int, seed: int, told: PartProgress) -> Part:
    """Return how well codes predict the text's own labels."""
    if trained.model.prior is None:
        return NO_CODE
    if trained.window is not None:
        return WINDOWS
    try:
        labelled = own_labels(trained, None, "test" if split == "train" else split)
        return probes(trained, labelled, None, draws, seed, of_part(told, "probing"))
    except RequestError as error:
        return str(error)


def _documents(scores: Mapping[str, TextScore]) -> dict[str, Any]:
    return {name: one.document() for name, one in scores.items()}


def _store(ids: list[list[int]]) -> TokenStore:
    """Sentences in memory, to be scored like those of a split."""
    offsets = np.cumsum([0, *map(len, ids)])
    flat = np.array([token for row in ids for token in row], dtype="<i4")
    counts = {"fingerprint": "", "sentences": len(ids), "tokens": len(flat), "dropped": 0, "cut": 0, "blank": 0}
    return TokenStore(flat, offsets, None, counts, [])
