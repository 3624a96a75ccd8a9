"""Scores of responses sampled for contexts of a dialogue, each context with one reference: Fu et al. 2020, Table 1.

Several responses of a model are scored at once, since one context has many good responses and one reference: the
best of them shows what the model can say (recall), their mean how good one of them is (precision).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from textvae.errors import RequestError
from textvae.metrics.bleu import Matches, paired_matches
from textvae.metrics.diversity import distinct_by_group
from textvae.metrics.ngrams import Text, Tokens
from textvae.metrics.similarity import similarities
from textvae.text.readers import each_text
from textvae.text.vectors import WordVectors

# Releases of NLTK whose `method7` smooths BLEU-3.
SMOOTHINGS = ("nltk-3.6", "nltk-3.4")
ORDER = 3
# Of `method7`: its constant K, and the n-grams whose precision comes after the last one, whatever that is.
_K, _AFTER = 5, 5


@dataclass(frozen=True)
class ResponseScores:
    """Scores of sampled responses; None where there is nothing to average.

    Attributes:
        response_contexts: Contexts.
        response_samples: Responses for each context.
        response_bleu_recall: Smoothed BLEU-3 of the best response, mean over contexts.
        response_bleu_precision: Mean of smoothed BLEU-3 over all responses.
        response_bleu_f1: Harmonic mean of these two averages.
        response_embedding_average: Cosine of mean word vectors, of the best response, mean over contexts. None
            without vectors, as the other two.
        response_embedding_extrema: The same of vectors of extrema.
        response_embedding_greedy: The same of greedily matched words.
        response_intra_distinct_1: Different words over words of a response, mean over responses.
        response_intra_distinct_2: The same of pairs of words.
        response_inter_distinct_1: Different words over words of all responses for a context, mean over contexts.
        response_inter_distinct_2: The same of pairs of words.
        response_length: Words of a response, mean over responses.
        response_empty: Responses without a word, which have no intra-distinct.
        response_short: Responses of fewer than two words, which have no intra-distinct of pairs.
        response_without_vector: Responses in which no word has a vector: similarity 0. None without vectors.
        reference_without_vector: References in which no word has a vector: their contexts have no similarity, and
            are left out of its averages. None without vectors.
    """

    response_contexts: int
    response_samples: int
    response_bleu_recall: float
    response_bleu_precision: float
    response_bleu_f1: float
    response_embedding_average: float | None
    response_embedding_extrema: float | None
    response_embedding_greedy: float | None
    response_intra_distinct_1: float | None
    response_intra_distinct_2: float | None
    response_inter_distinct_1: float | None
    response_inter_distinct_2: float | None
    response_length: float
    response_empty: int
    response_short: int
    response_without_vector: int | None
    reference_without_vector: int | None


def response_scores(
    responses: Sequence[object],
    references: Sequence[str],
    vectors: WordVectors | None = None,
    smoothing: str = "nltk-3.6",
) -> ResponseScores:
    """Score texts sampled as responses, their words separated by white space.

    A text ends where its end mark was, which is no word. Some programs count the mark, or what was sampled after
    it; for such numbers give tokens to `token_response_scores`.

    Args:
        responses: For each context the texts sampled for it, equally many for every context. An empty one is a
            response: its BLEU, similarity and length are 0.
        references: The true response of each context.
        vectors: Vectors of words, for the embedding scores.
        smoothing: Smoothing of BLEU, as in `response_bleu`.

    Raises:
        RequestError: Without contexts or responses, for numbers that do not fit, for an empty reference, for what
            is not a list of texts, and for an unknown smoothing.

    References:
        Fu et al. 2020, appendix E.2; Gu et al. 2019, arXiv:1805.12352; Zhao et al. 2017, arXiv:1703.10960.

    >>> scores = response_scores([["yes it is", "no"], ["well well", "i see"]], ["yes it is", "i know"])
    >>> scores.response_length, scores.response_intra_distinct_1, scores.response_short
    (2.0, 0.875, 1)
    """
    tokens = [
        [text.split() for text in each_text(sampled, f"responses[{context}]")]
        for context, sampled in enumerate(responses)
    ]
    return token_response_scores(
        tokens, [text.split() for text in each_text(references, "references")], vectors, smoothing
    )


def token_response_scores(
    responses: Sequence[Sequence[Tokens]],
    references: Sequence[Tokens],
    vectors: WordVectors | None = None,
    smoothing: str = "nltk-3.6",
) -> ResponseScores:
    """Score responses given as lists of tokens, each of which counts as a word.

    For instance, the program of Gu et al. 2019 has the end mark in responses and references when it computes BLEU:
    append it to both.

    Args:
        responses: For each context the responses, as in `response_scores`.
        references: The reference of each context.
        vectors: Vectors of words, for the embedding scores.
        smoothing: Smoothing of BLEU, as in `response_bleu`.

    Raises:
        RequestError: As `response_scores`.
    """
    samples = _checked(responses, references)
    ours = Text.of([tokens for sampled in responses for tokens in sampled])
    theirs = Text.of(references, name="references")
    bleu = response_bleu(
        paired_matches(ours, theirs.chosen(np.repeat(np.arange(len(theirs)), samples)), _AFTER), smoothing
    ).reshape(-1, samples)
    recall, precision = float(bleu.max(1).mean()), float(bleu.mean())
    average, extrema, greedy, unknown, unknown_references = _embedding_scores(ours, theirs, vectors)
    intra, inter = ([_mean(distinct_by_group(ours, size, n)) for n in (1, 2)] for size in (1, samples))
    sizes = ours.sizes()
    return ResponseScores(
        response_contexts=len(theirs),
        response_samples=samples,
        response_bleu_recall=recall,
        response_bleu_precision=precision,
        response_bleu_f1=2 * recall * precision / (recall + precision) if recall + precision else 0.0,
        response_embedding_average=average,
        response_embedding_extrema=extrema,
        response_embedding_greedy=greedy,
        response_intra_distinct_1=intra[0],
        response_intra_distinct_2=intra[1],
        response_inter_distinct_1=inter[0],
        response_inter_distinct_2=inter[1],
        response_length=float(sizes.mean()),
        response_empty=int((sizes == 0).sum()),
        response_short=int((sizes < 2).sum()),
        response_without_vector=unknown,
        reference_without_vector=unknown_references,
    )


def response_bleu(found: Matches, smoothing: str = "nltk-3.6") -> Float64[np.ndarray, "sentence"]:
    """Return BLEU-3 of each sentence, smoothed by NLTK's `method7`.

    The programs of Zhao et al. 2017 and Gu et al. 2019, whose metrics Fu et al. 2020 adopt, call `sentence_bleu`
    with weights of 1/3 and `SmoothingFunction().method7`. Method 4 of Chen and Cherry gives n-grams that never
    match a precision p_n, and method 5 averages: m_n = (m_(n-1) + p_n + p_(n+1)) / 3 with m_0 = p_1 + 1. BLEU is
    the geometric mean of m_1, m_2 and m_3 times the brevity penalty, and 0 where no word matches. For p_4 NLTK
    takes the precision of 5-grams, and so does this function. m_n can exceed 1: a response of five words or more
    that equals its reference has 1.154. Method 4 differs by release, with c the length of the response:

    - `nltk-3.6`: since 3.6, p_n = ln c / (5 · 2^k) over the number of n-grams, for the k-th n that never matches. A
      response of one word is not smoothed.
    - `nltk-3.4`: up to 3.4.5 of 2019, p_n = 1 / (n - 1 + 5 / ln c), whatever the number of n-grams: 0.33 for pairs
      of words in a response of 12, more than for three matches. For a response of one word NLTK fails, and the
      programs score 0. The tables of 2017 to 2019 can have no other; fu2020 takes its baselines from them.

    Args:
        found: Matches up to 5-grams (`bleu.paired_matches`).
        smoothing: One of `SMOOTHINGS`.

    Raises:
        RequestError: If fewer orders were counted, or for an unknown smoothing.

    References:
        Chen and Cherry 2014, "A systematic comparison of smoothing techniques for sentence-level BLEU", W14-3346.
    """
    if smoothing not in SMOOTHINGS:
        raise RequestError(f"smoothing = {smoothing!r}: must be one of {', '.join(SMOOTHINGS)}")
    if found.matched.shape[1] < _AFTER:
        raise RequestError(f"found: n-grams were counted up to n = {found.matched.shape[1]}; count up to {_AFTER}")
    none = found.matched[:, :ORDER] == 0
    several = found.length > 1
    logarithm = np.log(np.maximum(found.length, 2))
    precisions = [found.matched[:, n - 1] / np.maximum(found.total(n), 1) for n in (1, 2, 3, _AFTER)]
    for column in range(ORDER):
        if smoothing == "nltk-3.6":
            smoothed = logarithm / (
                _K * 2.0 ** none[:, : column + 1].sum(1) * np.maximum(found.total(column + 1), 1)
            )
        else:
            smoothed = 1 / (column + _K / logarithm)
        precisions[column] = np.where(none[:, column] & several, smoothed, precisions[column])
    mean, logarithms = precisions[0] + 1, np.minimum(0.0, 1 - found.closest / np.maximum(found.length, 1))
    for precision, following in zip(precisions, precisions[1:], strict=False):
        mean = (mean + precision + following) / 3
        logarithms = logarithms + np.log(mean) / ORDER
    scored = (found.matched[:, 0] > 0) & (several | (smoothing == "nltk-3.6"))
    return np.where(scored, np.exp(logarithms), 0.0)


def _embedding_scores(
    responses: Text, references: Text, vectors: WordVectors | None
) -> tuple[float | None, float | None, float | None, int | None, int | None]:
    """Return average, extrema and greedy, and the numbers of responses and references without a known word."""
    if vectors is None:
        return None, None, None, None, None
    found = similarities(responses, references, vectors)
    best = [
        np.where(found.known_reference, values.reshape(len(references), -1).max(1), np.nan)
        for values in (found.average, found.extrema, found.greedy)
    ]
    average, extrema, greedy = map(_mean, best)
    return average, extrema, greedy, int((~found.known).sum()), int((~found.known_reference).sum())


def _mean(values: Float64[np.ndarray, "value"]) -> float | None:
    """Return the mean of the values that are there; None if there are none."""
    some = values[~np.isnan(values)]
    return float(some.mean()) if len(some) else None


def _checked(responses: Sequence[Sequence[Tokens]], references: Sequence[Tokens]) -> int:
    """Return the number of responses for each context, after refusing what cannot be scored."""
    if not len(references):
        raise RequestError("references: none given; give one for each context")
    if len(responses) != len(references):
        raise RequestError(
            f"responses of {len(responses)} contexts for {len(references)} references; give one reference for each"
        )
    samples = len(responses[0])
    if not samples:
        raise RequestError("responses[0]: no response; give at least one for each context")
    for context, (sampled, reference) in enumerate(zip(responses, references, strict=True)):
        if len(sampled) != samples:
            raise RequestError(
                f"responses[{context}]: {len(sampled)} responses where the first context has {samples}; give "
                "equally many, since the best of more is better"
            )
        for number, tokens in enumerate(sampled):
            if isinstance(tokens, str):
                raise RequestError(
                    f"responses[{context}][{number}]: one string given, not a list of tokens; split it"
                )
        if not len(reference):
            raise RequestError(f"references[{context}]: empty, so nothing can match; leave that context out")
    return samples
