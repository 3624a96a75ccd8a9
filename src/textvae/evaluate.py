"""Likelihood and latent scores of a run on one split: weight 1, dropout off, float32, every sentence once."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

import textvae
from textvae.batches import TokenStore, collate, evaluation_batches, evaluation_places
from textvae.corpora import grammar
from textvae.errors import RequestError
from textvae.files import write_json
from textvae.metrics import latent
from textvae.metrics.discrepancy import SquaredMmd, squared_mmd
from textvae.metrics.information import MutualInformation, information_bounds, mutual_information
from textvae.metrics.likelihood import (
    bits_per_character,
    cyclic_standard_error,
    importance_weighted_nll,
    perplexity,
    standard_error,
)
from textvae.metrics.signature import SOFTMAX, signature
from textvae.metrics.weights import LOW, SAMPLES, effective_samples, heavy, pareto_shape
from textvae.model import TextVAE
from textvae.parts.noise import mixed, sentence_noise
from textvae.parts.posteriors.posterior import DRAWS as EXPECTED
from textvae.parts.priors import StandardNormal, UniformSphere
from textvae.run import Run, corpus_of, keep
from textvae.scores import KEPT, Both, Densities, Scores, both_densities, evaluating, looked_at, on, score
from textvae.tokenizers import UNK, Tokenizer

# Posteriors mixed in the estimate of I(x; z), and draws of the aggregated posterior that are averaged.
MI_SENTENCES, DRAWS = KEPT, 5
# What `latent_scores` gives.
LATENT = (
    "mutual_information",
    "mutual_information_lower",
    "mutual_information_sentences",
    "mutual_information_ceiling",
    "active_units",
    "latent",
    "kl_per_dimension",
    "log_det_covariance",
    "log_det_covariance_standard_deviation",
    "mean_squared_norm",
    "mean_squared_norm_standard_deviation",
    "kl_moment_matched",
    "kl_moment_matched_standard_deviation",
    "latent_signature",
    "mmd_squared",
    "mmd_squared_standard_error",
    "mmd_squared_prior_deviation",
    "mmd_signature",
    "shuffle_gap",
    "shuffle_gap_standard_error",
)
# Scores that are null for the same reasons.
RATE = ("kl", "kl_standard_error", "rate_kind")
BOUND = (
    "bound",
    "bound_standard_error",
    "bound_iw_sentences",
    "perplexity_bound",
    "perplexity_bound_without_end",
    "bits_per_character",
)
IMPORTANCE = (
    "nll_iw",
    "nll_iw_standard_error",
    "nll_iw_kind",
    "perplexity_iw",
    "perplexity_iw_without_end",
    "surprisal",
    "gap_to_surprisal",
    "gap_to_surprisal_standard_error",
)
SURPRISAL = IMPORTANCE[-3:]
WEIGHTS = ("iw_effective_samples", "iw_effective_samples_low", "iw_heavy_tailed")
INFORMATION = ("mutual_information", "mutual_information_sentences", "mutual_information_ceiling")
GAP = ("shuffle_gap", "shuffle_gap_standard_error")
COVARIANCE = ("log_det_covariance", "log_det_covariance_standard_deviation")
NORM = ("mean_squared_norm", "mean_squared_norm_standard_deviation")
MOMENTS = ("kl_moment_matched", "kl_moment_matched_standard_deviation")
MMD = ("mmd_squared", "mmd_squared_standard_error", "mmd_squared_prior_deviation", "mmd_signature")
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
    folder: Path | str,
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
    """
    for name, value in (("iw_samples", iw_samples), ("iw_sentences", iw_sentences)):
        if value is not None and value < 1:
            raise RequestError(f"{name} = {value}: must be 1 or more")
    run = Run.open(folder)
    corpus = corpus_of(run)
    store = corpus.split(split)
    model = model_of(run)
    scores = score(model, store, seed)
    rows = subset(len(store), iw_sentences, seed)
    weighted = importance_weights(model, store, rows, iw_samples, seed, progress)
    nll = None if weighted is None else weighted.nll
    components = _components(model)
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
    parts: dict[str, Any] = {"bound": "exact"}
    if scores.posterior is not None:
        parts = {"bound": "none" if nll is None else f"iw{iw_samples}"}
        parts["posterior"] = run.settings.model.posterior.name
        parts["rate"] = scores.rate_kind or "none"
        if components is not None:
            parts["k"] = components
    if store.window is not None:
        parts["window"] = store.window
    report["signature"] = signature(
        "nll",
        **parts,
        unit="nats/sentence",
        eos="counted",
        unk="counted",
        vocabulary=len(run.tokenizer),
        softmax=SOFTMAX,
        split=store.fingerprint[:6],
        sentences=len(rows),
        textvae=textvae.__version__,
        seed=seed,
    )
    report = {name: finite(value) for name, value in report.items()}
    report["reasons"] = _reasons(run, report) | ({"information_bounds": unbounded} if unbounded else {})
    for name, value in (report.get("information_bounds") or {}).items():
        if value is None and name != "reason":  # which is that of `holds`
            why = report["information_bounds"]["reason"] if name == "holds" else report["reasons"].get(name)
            report["reasons"][f"information_bounds.{name}"] = why or "not finite"
    keep(run.folder / "evaluation" / f"{split}.json", lambda path: write_json(path, report))
    return report


def _reasons(run: Run, report: dict[str, Any]) -> dict[str, str]:
    """Why a score is null, for every score that is; of several reasons the one that alone suffices."""
    weighed, samples = report["iw_sentences"], report["iw_samples"]
    told = reasons_of_code(run, report["sentences"], report["rate_kind"] is not None)
    if report["shuffle_gap"] is not None:
        why = "neighbours depend on each other so much that their variance comes out below 0; take more sentences"
        told.append({"shuffle_gap_standard_error": why})
    told.append({"iw_components": "only a semi-implicit posterior is a mixture of draws"})
    if weighed == 1:
        names = ("nll_iw_standard_error", "gap_to_surprisal_standard_error")
        told.append(dict.fromkeys(names, "one sentence has no deviation"))
    if samples == 1:
        told.append(dict.fromkeys(WEIGHTS, "one sample a sentence has nothing to be weighed against"))
    if samples < SAMPLES:
        why = f"{samples} samples a sentence are too few for the tail of their weights; it takes {SAMPLES}"
        told.append({"iw_heavy_tailed": why})
    told += [_without_perplexity(report, name) for name in ("bound", "nll_iw")]
    told.append(dict.fromkeys(SURPRISAL, "a sentence is none of the grammar's"))
    return first_reasons(told, [name for name, value in report.items() if value is None])


def first_reasons(told: Sequence[Mapping[str, str]], nulls: Iterable[str]) -> dict[str, str]:
    """For each of the names that are null the first reason that is told of it."""
    return {name: next((own[name] for own in told if name in own), "not finite") for name in nulls}


def reasons_of_code(run: Run, sentences: int, rated: bool) -> list[dict[str, str]]:
    """Why scores of the code or the bound may be null, from the most special reason to the most general.

    The first one that speaks of a score holds. `sentences` is how many were scored, `rated` whether there is a KL.
    """
    model = run.settings.model
    posterior, prior, latent = model.posterior.name, model.prior.name, model.latent
    told: list[dict[str, str]] = []
    density = f"the {posterior} posterior has no density"
    if not latent:
        told.append(dict.fromkeys((*LATENT, *RATE), "a language model has no code"))
        told.append(dict.fromkeys(WEIGHTS, "a language model's likelihood is exact: nothing is weighted"))
    elif not rated:
        scores = (*RATE, *BOUND, *IMPORTANCE, *WEIGHTS, *INFORMATION)
        told.append(dict.fromkeys((*scores, "mutual_information_lower", "kl_per_dimension"), density))
    if prior != "standard-normal":
        why = f"it is the distance to a standard normal, and the prior is {prior}"
        told.append(dict.fromkeys((*MOMENTS, *MMD), why))
    if posterior == "vmf":
        told.append(dict.fromkeys((*COVARIANCE, *NORM), "codes lie on a sphere"))
    if posterior != "semi-implicit":
        why = "there is one estimate, by the posterior's own density"
        told.append({"mutual_information_lower": why})
    told.append({"kl_per_dimension": f"the rate of {posterior} under {prior} has no closed form by dimension"})
    if sentences == 1:
        told.append(dict.fromkeys(("bound_standard_error", "kl_standard_error"), "one sentence has no deviation"))
        why = "one sentence has no other that its code could be told from"
        told.append(dict.fromkeys((*INFORMATION, "mutual_information_lower", *GAP), why))
        told.append({"active_units": "the mean of one sentence does not vary"})
        told.append(dict.fromkeys(MMD, "there is one code only"))
    if sentences < 4:
        told.append({"shuffle_gap_standard_error": "neighbours depend on each other; it takes four sentences"})
    if sentences < 5:
        told.append({"mmd_squared_standard_error": "it takes five codes"})
    few = too_few(sentences, latent)
    told.append(dict.fromkeys((*COVARIANCE, *MOMENTS), few or "the covariance of the codes is singular"))
    return told


def too_few(sentences: int, latent: int) -> str | None:
    """Say that so many sentences have no covariance of full rank; None if they may have."""
    kept = min(sentences, KEPT)
    if kept > latent:
        return None
    return f"{kept:,} sentence{' is' if kept == 1 else 's are'} too few for a covariance of {latent} dimensions"


def _without_perplexity(report: dict[str, Any], nats: str) -> dict[str, str]:
    """Why a perplexity is null where its nats are not."""
    if report[nats] is None:
        return {}
    name = "perplexity_bound" if nats == "bound" else "perplexity_iw"
    whole = f"it is above {sys.float_info.max:.2g}"
    only = whole if report[name] is None else "there are only end marks"
    return {name: whole, f"{name}_without_end": only}


def model_of(run: Run) -> TextVAE:
    """The run's best model, on the device that its settings ask for where there is one."""
    wanted = run.settings.train.device
    return run.model().to("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


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


def latent_scores(
    model: TextVAE, store: TokenStore, scores: Scores, seed: int, known: Both, rows: np.ndarray | None = None
) -> dict[str, Any]:
    """What the code holds and where the aggregated posterior lies; all None for a language model.

    They are computed on the kept sentences, up to 10,000, evenly spaced; the KL of each dimension on all. `known`
    holds the densities for the estimates of I(x; z). Moments of the aggregated posterior are means over 5 draws of
    a code for each sentence, with the standard deviation over these draws.
    """
    if scores.posterior is None:
        return dict.fromkeys(LATENT)
    # With one sentence there is no other that its code could be told from.
    several = len(scores.kept) > 1
    mutual, lowest = (mutual_information(*some) if some and several else None for some in known)
    index = scores.kept if rows is None else torch.as_tensor(rows)[scores.kept]
    with torch.no_grad():
        draws = scores.posterior.rsample(sentence_noise(mixed(seed, 1), index), DRAWS)
    gap = shuffle_gap(model, store, scores, seed, rows) if several else None
    prior, dimensions = model.prior, scores.rate_per_dimension
    assert scores.z is not None
    normal, (means, noise) = isinstance(prior, StandardNormal), scores.expectation(seed, rows)
    mmd = squared_mmd(scores.z) if normal and several else None
    flat = not isinstance(prior, UniformSphere)  # on a sphere a covariance says nothing
    values = (
        mutual and mutual.nats,
        lowest and lowest.nats,
        mutual and mutual.sentences,
        mutual and mutual.ceiling,
        {str(t): latent.active_units(means, t, noise) for t in (0.01, 0.2)} if several else None,
        draws.shape[2],
        None if dimensions is None else dimensions.tolist(),
        *(_over_draws(latent.log_det_covariance, draws) if flat else (None, None)),
        *(_over_draws(latent.mean_squared_norm, draws) if flat else (None, None)),
        *(_over_draws(latent.kl_moment_matched, draws) if normal else (None, None)),
        _latent_signature(model, scores, mutual, store, seed),
        mmd and mmd.value,
        mmd and mmd.standard_error,
        mmd and mmd.prior_deviation,
        mmd and _mmd_signature(mmd, seed),
        None if gap is None else gap.mean().item(),
        None if gap is None else cyclic_standard_error(gap[_cycle(len(gap), seed)]),
    )
    return dict(zip(LATENT, values, strict=True))


def _over_draws(
    measure: Callable[[Float[Tensor, "sentence latent"]], float], draws: Float[Tensor, "draw sentence latent"]
) -> tuple[float, float]:
    """The mean over draws and their standard deviation; the latter nan where a draw has no finite value."""
    values = [measure(z) for z in draws]
    return fmean(values), stdev(values) if all(map(math.isfinite, values)) else math.nan


def _components(model: TextVAE) -> int | None:
    """K of a semi-implicit posterior."""
    return getattr(model.posterior, "components", None)


def _latent_signature(
    model: TextVAE, scores: Scores, mutual: MutualInformation | None, store: TokenStore, seed: int
) -> str:
    components, drawn = _components(model), scores.posterior is not None and scores.posterior.expectation is None
    refined = model.refinement is not None and model.refinement.steps > 0
    return signature(
        "latent",
        **({} if components is None else {"k": components}),
        **({"refinements": 2} if refined else {}),
        unit="nats",
        split=store.fingerprint[:6],
        active=f"variance-of-means-of-{EXPECTED}-codes" if drawn else "variance-of-means",
        draws=DRAWS,
        mi="none" if mutual is None else f"mixture-of-{mutual.sentences}",
        sentences=len(scores.kept),
        seed=seed,
        textvae=textvae.__version__,
    )


def _mmd_signature(mmd: SquaredMmd, seed: int) -> str:
    return signature(
        "mmd-squared",
        kernel="gaussian",
        bandwidth=f"{mmd.bandwidth:.6g}",
        estimator="unbiased",
        codes="one-draw",
        sentences=mmd.sentences,
        seed=seed,
        textvae=textvae.__version__,
    )


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
            index, batch = batch.index, on(model.device, batch)
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


def shuffle_gap(
    model: TextVAE, store: TokenStore, scores: Scores, seed: int, rows: np.ndarray | None = None
) -> Float64[Tensor, " kept"]:
    """How much worse each sentence is reconstructed from another sentence's code, in nats; about 0 if z is unused.

    Codes go round a random cycle of the kept sentences (of `rows`, or of all), so that none keeps its own.
    """
    assert scores.z is not None
    cycle = _cycle(len(scores.kept), seed)
    others = torch.empty_like(scores.z)
    others[cycle] = scores.z[cycle.roll(1)]
    kept = (np.arange(len(store)) if rows is None else np.asarray(rows))[scores.kept.numpy()]
    found = torch.empty(len(kept), dtype=torch.float64)
    with evaluating(model):
        for at in evaluation_places(store, IW_TOKENS, kept):
            batch = on(model.device, collate(store, kept[at]))
            log_px = model.log_px(batch, others[torch.from_numpy(at)].to(model.device)[None])
            found[at] = -log_px.double().sum(-1)[0].cpu()
    return found - scores.reconstruction[scores.kept]


def _cycle(sentences: int, seed: int) -> Int[Tensor, " kept"]:
    """The order in which codes go round: each sentence is given the code of the one before it."""
    return torch.from_numpy(np.random.default_rng([seed, 2]).permutation(sentences))


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


def finite(value: Any) -> Any:
    """JSON has no nan and no infinity: they become None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
