"""Likelihood and latent scores of a run on one split: weight 1, dropout off, float32, every sentence once."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

import textvae
from textvae.errors import RequestError, WorkError
from textvae.evaluation.latent import LATENT, MI_SENTENCES, components_of, latent_scores
from textvae.evaluation.latent import shuffle_gap as shuffle_gap
from textvae.evaluation.nulls import reasons
from textvae.evaluation.opened import Opened, open_run
from textvae.files import write_json
from textvae.inference import Densities, Scores, both_densities, evaluating, looked_at
from textvae.metrics.information import information_bounds
from textvae.metrics.likelihood import bits_per_character, importance_weighted_nll, perplexity, standard_error
from textvae.metrics.signature import SOFTMAX, signature
from textvae.metrics.weights import LOW, SAMPLES, effective_samples, heavy, pareto_shape
from textvae.model import TextVAE
from textvae.parts.noise import sentence_noise
from textvae.run import Run, keep
from textvae.text import grammar
from textvae.text.batches import TokenStore, evaluation_batches
from textvae.text.tokenizers import UNK, Tokenizer

# Every number that an evaluation may have, by its path; which ones it has depends on the model and the text.
NUMBERS = frozenset(
    """sentences tokens tokens_without_end reconstruction kl rate_kind bound bound_samples bound_standard_error
    perplexity_bound perplexity_bound_without_end nll_iw nll_iw_kind nll_iw_standard_error perplexity_iw
    perplexity_iw_without_end iw_samples iw_sentences iw_components iw_effective_samples iw_effective_samples_low
    iw_heavy_tailed bound_iw_sentences kl_standard_error active_units active_units.0.01 active_units.0.2
    bits_per_character surprisal entropy gap_to_surprisal gap_to_surprisal_standard_error information_bounds.lower
    information_bounds.above_lower information_bounds.above_lower_standard_error information_bounds.below_upper
    information_bounds.below_upper_standard_error information_bounds.entropy information_bounds.distortion
    information_bounds.mutual_information information_bounds.mutual_information_lower information_bounds.ceiling
    information_bounds.rate information_bounds.holds information_bounds.sentences information_bounds.reason
    information_bounds""".split()
).union(LATENT)
# Padded tokens, over sentences and samples, that importance weighting works on at once.
IW_TOKENS = 16_384

Progress = Callable[[int, int], None]


class Weighted(NamedTuple):
    """The importance-weighted -log p(x) of each sentence, in nats, and how even its weights are.

    `effective` are the effective samples and `shape` Pareto's k of their tail (`metrics.weights`); None for a
    language model, whose likelihood is exact, and `shape` for fewer than 25 samples.
    """

    nll: Float64[Tensor, " n"]
    effective: Float64[Tensor, " n"] | None
    shape: Float64[Tensor, " n"] | None


def evaluate(
    folder: Path | str | Opened,
    split: str = "test",
    iw_samples: int = 500,
    iw_sentences: int | None = 500,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """All scores of a run on a split, as the JSON contract has them; also written to `evaluation/SPLIT.json`.

    Where the run's folder cannot be written, that is a warning.

    `iw_sentences` is the size of the seeded subset that importance weighting is done on, None for all. Scores that
    the model does not define are None. Nats per sentence unless a name says otherwise.

    Raises:
        RequestError: when the run, the split or a number cannot be used, or the data has changed.
        WorkError: when the likelihood of a sentence is not finite.
    """
    for name, value in (("iw_samples", iw_samples), ("iw_sentences", iw_sentences)):
        if value is not None and value < 1:
            raise RequestError(f"{name} = {value}: must be 1 or more")
    trained = open_run(folder)
    run, model, corpus = trained.run, trained.model, trained.corpus
    store, scores = corpus.split(split), trained.scores(split, seed)
    check_finite(run, split, scores)
    rows = subset(len(store), iw_sentences, seed)
    weighted = importance_weights(model, store, rows, iw_samples, seed, progress)
    nll = None if weighted is None else weighted.nll
    components = components_of(model)
    report = {
        "split": split,
        **likelihoods(scores, store),
        **importance(nll, store, rows, iw_samples if scores.posterior else 0, components),
        **evenness(weighted, iw_samples),
        "bound_iw_sentences": None if scores.bound is None else scores.bound[torch.as_tensor(rows)].mean().item(),
        **latent_scores(model, store, scores, seed, known := both_densities(scores, MI_SENTENCES)),
    }
    if run.settings.data.tokenizer.name == "character" and scores.bound is not None:
        # The end mark stands for the line break, so it counts as a character; in pieces of running text too.
        report["bits_per_character"] = bits_per_character(scores.bound.sum().item(), scores.tokens)
    unbounded = None
    if corpus.name == "grammar":
        if nll is not None and store.window is None:  # which tells sentences alone
            report |= true_distance(nll, store, rows, run.tokenizer)
        report["information_bounds"], unbounded = bounds_of_information(scores, store, *known)
    bound = "exact" if scores.posterior is None else "none" if nll is None else f"iw{iw_samples}"
    report["signature"] = _signature(run, store, scores, bound, components, len(rows), seed)
    report = {name: finite(value) for name, value in report.items()}
    report["reasons"] = reasons(run, report, unbounded)
    keep(run.folder / "evaluation" / f"{split}.json", lambda path: write_json(path, report))
    return report


def _signature(
    run: Run, store: TokenStore, scores: Scores, bound: str, components: int | None, sentences: int, seed: int
) -> str:
    """How the NLL was measured."""
    parts: dict[str, Any] = {"bound": bound}
    if scores.posterior is not None:
        parts["posterior"] = run.settings.model.posterior.name
        parts["rate"] = scores.rate_kind or "none"
        if components is not None:
            parts["k"] = components
    if store.window is not None:
        parts["window"] = store.window
    return signature(
        "nll",
        **parts,
        unit="nats/sentence",
        eos="counted",
        unk="counted",
        vocabulary=len(run.tokenizer),
        softmax=SOFTMAX,
        split=store.fingerprint[:6],
        sentences=sentences,
        textvae=textvae.__version__,
        seed=seed,
    )


def likelihoods(scores: Scores, store: TokenStore) -> dict[str, Any]:
    """Reconstruction, rate and bound, and the bound's perplexity with and without the end mark counted."""
    without_end = scores.tokens - store.end_marks(np.arange(len(store)))
    bound = None if scores.bound is None else scores.bound.sum().item()
    return {
        "sentences": len(scores),
        "tokens": scores.tokens,
        "tokens_without_end": without_end,
        "reconstruction": scores.reconstruction.mean().item(),
        "kl": None if scores.rate is None else scores.rate.mean().item(),
        "kl_standard_error": None if scores.rate is None else standard_error(scores.rate),
        "rate_kind": scores.rate_kind,
        "bound": None if bound is None else bound / len(scores),
        "bound_samples": 1,
        "bound_standard_error": None if scores.bound is None else standard_error(scores.bound),
        "perplexity_bound": None if bound is None else perplexity(bound, scores.tokens),
        # Pieces of one token may all be end marks.
        "perplexity_bound_without_end": perplexity(bound, without_end)
        if bound is not None and without_end
        else None,
    }


def importance(
    nll: Float64[Tensor, " n"] | None,
    store: TokenStore,
    rows: np.ndarray,
    samples: int,
    components: int | None = None,
) -> dict[str, Any]:
    """The importance-weighted likelihood of the scored sentences; of a language model the exact one.

    With a semi-implicit posterior, whose density only a mixture of `components` more draws stands for, its kind is
    `surrogate`: its weights are unbiased all the same.
    """
    tokens = int(store.lengths[rows].sum())
    without_end = tokens - store.end_marks(rows)
    kind = "exact" if not samples else "importance-weighted" if components is None else "surrogate"
    found = {"iw_samples": samples, "iw_sentences": len(rows), "iw_components": components}
    if nll is None:
        names = ("", "_standard_error", "_kind")
        found |= {f"nll_iw{name}": None for name in names} | {"perplexity_iw": None}
        return found | {"perplexity_iw_without_end": None}
    return found | {
        "nll_iw": nll.mean().item(),
        "nll_iw_standard_error": standard_error(nll),
        "nll_iw_kind": kind,
        "perplexity_iw": perplexity(nll.sum().item(), tokens),
        # Pieces of one token may all be end marks.
        "perplexity_iw_without_end": perplexity(nll.sum().item(), without_end) if without_end else None,
    }


def evenness(weighted: Weighted | None, samples: int) -> dict[str, Any]:
    """Effective sample sizes of the weights, and the share of sentences whose weights have a heavy tail.

    The median over sentences, and the 5th percentile, which unlike the smallest does not fall with their number.
    None where nothing is weighted, for one sample a sentence, and the share for fewer than 25.
    """
    effective, shape = (None, None) if weighted is None or samples < 2 else weighted[1:]
    return {
        "iw_effective_samples": None if effective is None else effective.quantile(0.5).item(),
        "iw_effective_samples_low": None if effective is None else effective.quantile(LOW).item(),
        "iw_heavy_tailed": None if shape is None else (shape > heavy(samples)).double().mean().item(),
    }


def importance_weights(
    model: TextVAE,
    store: TokenStore,
    rows: np.ndarray,
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
    tokens: int = IW_TOKENS,
) -> Weighted | None:
    """Estimate -log (1/S) sum_s p(x, z_s) / q(z_s|x) of each of the sentences `rows`, in nats; z_s from q(z|x).

    An upper bound in expectation that falls to -log p(x) as S grows. Of a language model it is -log p(x); None for
    a posterior without density. For a semi-implicit posterior, q is the mixture of the draw's own component and K
    fresh ones, which leaves the weights unbiased. A sentence's codes depend on the seed and its number alone, so
    `tokens`, how much is worked on at once, changes nothing.

    Source: Burda et al. 2016, eq. 8; the estimate of Fu et al. 2020, Table 2.
    """
    found = torch.empty(3, len(store), dtype=torch.float64)
    done, weighs, tailed = 0, model.prior is not None, samples >= SAMPLES
    with evaluating(model):
        prior = model.prior
        for batch in evaluation_batches(store, max(1, tokens // samples), rows):
            index, batch = batch.index, batch.to(model.device)
            noise = sentence_noise(seed, index, model.device)
            posterior = model.encode(batch, noise, samples)
            if posterior is None or prior is None:
                weights = model.log_px(batch, None).double().sum(-1)
            else:
                z = posterior.rsample(noise, samples)
                log_q = posterior.log_prob(z)
                if log_q is None:
                    return None
                log_px = [
                    model.log_px(batch, some).double().sum(-1)
                    for some in z.split(max(1, tokens // batch.ids.numel()))
                ]
                weights = torch.cat(log_px) + (prior.log_prob(z) - log_q).double()
            found[0, index] = importance_weighted_nll(weights).cpu()
            if weighs:
                found[1, index] = effective_samples(weights).cpu()
                if (shape := pareto_shape(weights)) is not None:
                    found[2, index] = shape.cpu()
            done += len(index)
            if progress is not None:
                progress(done, len(rows))
    nll, effective, shapes = found[:, torch.as_tensor(rows)]
    return Weighted(nll, effective if weighs else None, shapes if weighs and tailed else None)


def importance_weighted(
    model: TextVAE,
    store: TokenStore,
    rows: np.ndarray,
    samples: int,
    seed: int = 0,
    progress: Progress | None = None,
    tokens: int = IW_TOKENS,
) -> Float64[Tensor, " n"] | None:
    """Estimate -log p(x) of each of the sentences `rows` as `importance_weights` does, in nats."""
    found = importance_weights(model, store, rows, samples, seed, progress, tokens)
    return None if found is None else found.nll


def subset(sentences: int, wanted: int | None, seed: int) -> np.ndarray:
    """The numbers of `wanted` sentences, drawn without replacement by the seed; all of them for None."""
    if wanted is None or wanted >= sentences:
        return np.arange(sentences)
    return np.sort(np.random.default_rng([seed, 1]).choice(sentences, wanted, replace=False))


def true_distance(
    nll: Float[Tensor, " n"], store: TokenStore, rows: np.ndarray, tokenizer: Tokenizer
) -> dict[str, Any]:
    """How far the model is from the grammar that made the text, whose probabilities are known exactly.

    `surprisal` is the true -log p of the sentences that `nll` was estimated on; the gap to it, a paired difference,
    estimates KL(data || model) and in expectation cannot be negative.
    """
    corpus = grammar.reviews()
    texts = tokenizer.decode_batch(store.sentences(rows))
    surprisal = -torch.tensor([corpus.log_prob(text) for text in texts], dtype=torch.float64)
    gap = nll - surprisal
    return {
        "entropy": corpus.entropy,
        "surprisal": surprisal.mean().item(),
        "gap_to_surprisal": gap.mean().item(),
        "gap_to_surprisal_standard_error": standard_error(gap),
    }


def bounds_of_information(
    scores: Scores, store: TokenStore, above: Densities | None, below: Densities | None
) -> tuple[dict[str, Any] | None, str | None]:
    """H - D <= I <= R of a split of the grammar; or None, and why it cannot be told what they are.

    Source: Prokhorov et al. 2019, section 2.1.
    """
    if scores.posterior is None:
        return None, "a language model has no code"
    if scores.rate is None or above is None:
        return None, "the posterior has no density"
    if store.window is not None or store.counts["dropped"] or store.counts["cut"] or (store.ids == UNK).any():
        return None, "the entropy is of whole sentences, none left out, cut, or with unknown words"
    if len(scores.kept) < 2:
        return None, "one sentence has no standard error, and no other that its code could be told from"
    rows, entropy = scores.kept[looked_at(scores, MI_SENTENCES)], grammar.reviews().entropy
    bounds = information_bounds(entropy, scores.reconstruction[rows], scores.rate[rows], *above, below)
    return {name: finite(value) for name, value in asdict(bounds).items()}, None


def check_finite(run: Run, split: str, scores: Scores) -> None:
    """Raise WorkError if the reconstruction or KL of a sentence is not finite."""
    for name, values in (("reconstruction", scores.reconstruction), ("KL", scores.rate)):
        if values is not None and (wrong := int((~values.isfinite()).sum())):
            raise WorkError(
                f"{run.folder}: the {name} of {wrong:,} of {len(values):,} sentences of {split} is not finite: the "
                "weights give numbers that are too large to compute with; train anew with a lower "
                "train.optimizer.lr"
            )


def finite(value: Any) -> Any:
    """JSON has no nan and no infinity: they become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
