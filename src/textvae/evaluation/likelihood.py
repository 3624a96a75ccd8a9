"""Likelihood of a split: reconstruction, rate, bound, importance weighting, and the distance to a known grammar."""

import math
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import textvae
from textvae.evaluation.importance import Weighted
from textvae.evaluation.latent import MI_SENTENCES, Codes, components_of
from textvae.evaluation.opened import Opened
from textvae.evaluation.values import NO_CODE, ONE_SENTENCE, Estimate, Missing, finite
from textvae.inference import Scores, looked_at
from textvae.metrics.information import information_bounds
from textvae.metrics.likelihood import bits_per_character, perplexity, standard_error
from textvae.metrics.signature import SOFTMAX, signature
from textvae.metrics.weights import SAMPLES, heavy
from textvae.text import grammar
from textvae.text.batches import TokenStore
from textvae.text.tokenizers import UNK, Tokenizer


@dataclass(frozen=True)
class Truth:
    """Distance of a model to the grammar that made the text, whose probabilities are known exactly.

    `surprisal` is the mean -log p of sentences under the grammar, `gap` that of the model's NLL less it.
    """

    entropy: float
    surprisal: float | Missing
    gap: Estimate | Missing


@dataclass(frozen=True, eq=False)
class Measured:
    """Source of the scores of an evaluation: every score of `schema.SCORES` is computed from one of these.

    `rows` are the sentences that importance weighting is done on, `weighted` what it gave, None for a posterior
    without density.
    """

    trained: Opened
    split: str
    seed: int
    iw_samples: int
    rows: np.ndarray
    weighted: Weighted | None

    @cached_property
    def codes(self) -> Codes:
        """The codes of the split."""
        return Codes.of(self.trained, self.split, self.seed)

    @property
    def store(self) -> TokenStore:
        """The tokens of the split."""
        return self.trained.corpus.split(self.split)

    @property
    def scores(self) -> Scores:
        """Reconstruction, rate and code of every sentence."""
        return self.trained.scores(self.split, self.seed)

    @property
    def sentences(self) -> int:
        """Sentences of the split."""
        return len(self.scores)

    @property
    def tokens(self) -> int:
        """Tokens of the split, end marks counted."""
        return self.scores.tokens

    @property
    def tokens_without_end(self) -> int:
        """Tokens of the split without end marks."""
        return self.tokens - self.store.end_marks(np.arange(len(self.store)))

    @property
    def reconstruction(self) -> float:
        """Mean reconstruction."""
        return self.scores.reconstruction.mean().item()

    @property
    def kl(self) -> Estimate | Missing:
        """Mean rate."""
        return self.codes.no_density if self.scores.rate is None else mean_of(self.scores.rate)

    @property
    def prior(self) -> str | None:
        """Name of the prior that was fitted to the codes; None under the run's own."""
        fitted = self.trained.run.fitted
        return None if fitted is None else fitted.name

    @property
    def rate_kind(self) -> str | Missing:
        """Kind of the rate: exact, an estimate, or an upper bound."""
        return self.scores.rate_kind or self.codes.no_density

    @property
    def bound(self) -> Estimate | Missing:
        """Mean bound on -log p(x)."""
        if self.scores.bound is None:
            return self.codes.no_density
        return Estimate(self.scores.bound.sum().item() / self.sentences, mean_of(self.scores.bound).error)

    @property
    def perplexity_bound(self) -> float | Missing:
        """Perplexity by the bound, end marks counted."""
        if self.scores.bound is None:
            return self.codes.no_density
        return perplexity_of(self.scores.bound.sum().item(), self.tokens)

    @property
    def perplexity_bound_without_end(self) -> float | Missing:
        """Perplexity by the bound, end marks not counted."""
        if self.scores.bound is None:
            return self.codes.no_density
        return perplexity_of(self.scores.bound.sum().item(), self.tokens_without_end)

    @property
    def bits_per_character(self) -> float | None:
        """Bits per character by the bound, for a model of characters."""
        if self.trained.run.settings.data.tokenizer.name != "character" or self.scores.bound is None:
            return None
        # The end mark stands for the line break, so it counts as a character; in pieces of running text too.
        return bits_per_character(self.scores.bound.sum().item(), self.tokens)

    @property
    def bound_iw_sentences(self) -> float | Missing:
        """Mean bound of the sentences that importance weighting is done on."""
        if self.scores.bound is None:
            return self.codes.no_density
        return self.scores.bound[torch.as_tensor(self.rows)].mean().item()

    @property
    def samples(self) -> int:
        """Importance samples a sentence: none for a language model."""
        return 0 if self.scores.posterior is None else self.iw_samples

    @property
    def iw_sentences(self) -> int:
        """Sentences that importance weighting is done on."""
        return len(self.rows)

    @property
    def iw_components(self) -> int | Missing:
        """Components of a semi-implicit posterior."""
        components = components_of(self.trained.model)
        return Missing("only a semi-implicit posterior is a mixture of draws") if components is None else components

    @property
    def nll(self) -> Estimate | Missing:
        """Mean importance-weighted NLL."""
        return self.codes.no_density if self.weighted is None else mean_of(self.weighted.nll)

    @property
    def nll_kind(self) -> str | Missing:
        """Kind of the NLL: exact, importance-weighted, or by a surrogate density.

        With a semi-implicit posterior, whose density only a mixture of more draws stands for, it is by a surrogate;
        its weights are unbiased all the same.
        """
        if self.weighted is None:
            return self.codes.no_density
        if self.scores.posterior is None:
            return "exact"
        return "importance-weighted" if isinstance(self.iw_components, Missing) else "surrogate"

    @property
    def perplexity_iw(self) -> float | Missing:
        """Perplexity by the NLL, end marks counted."""
        if self.weighted is None:
            return self.codes.no_density
        return perplexity_of(self.weighted.nll.sum().item(), int(self.store.lengths[self.rows].sum()))

    @property
    def perplexity_iw_without_end(self) -> float | Missing:
        """Perplexity by the NLL, end marks not counted."""
        if self.weighted is None:
            return self.codes.no_density
        tokens = int(self.store.lengths[self.rows].sum()) - self.store.end_marks(self.rows)
        return perplexity_of(self.weighted.nll.sum().item(), tokens)

    @cached_property
    def unweighted(self) -> Missing | None:
        """Reason for missing importance weights; None if there are several to compare."""
        if self.scores.posterior is None:
            return Missing("a language model's likelihood is exact: nothing is weighted")
        if self.weighted is None:
            return self.codes.no_density
        if self.iw_samples == 1:
            return Missing("one sample a sentence has nothing to be weighed against")
        return None

    def effective_samples(self, quantile: float) -> float | Missing:
        """Quantile over sentences of the effective samples."""
        if self.unweighted is not None:
            return self.unweighted
        assert self.weighted is not None and self.weighted.effective is not None
        return self.weighted.effective.quantile(quantile).item()

    @property
    def heavy_tailed(self) -> float | Missing:
        """Share of sentences whose weights have a heavy tail."""
        if self.unweighted is not None:
            return self.unweighted
        if self.weighted is None or self.weighted.shape is None:
            few = f"{self.iw_samples} samples a sentence are too few for the tail of their weights"
            return Missing(f"{few}; it takes {SAMPLES}")
        return (self.weighted.shape > heavy(self.iw_samples)).double().mean().item()

    @cached_property
    def truth(self) -> Truth | None:
        """Distance to the grammar, of whole sentences of the corpus `grammar`."""
        if self.trained.corpus.name != "grammar" or self.weighted is None or self.store.window is not None:
            return None
        return distance_to_truth(self.weighted.nll, self.store, self.rows, self.trained.tokenizer)

    @cached_property
    def information_bounds(self) -> dict[str, Any] | Missing | None:
        """H - D <= I <= R, on the corpus `grammar`.

        References: Prokhorov et al. 2019, section 2.1.
        """
        scores, store, (above, below) = self.scores, self.store, self.codes.known
        if self.trained.corpus.name != "grammar":
            return None
        if scores.posterior is None:
            return Missing(NO_CODE)
        if scores.rate is None or above is None:
            return Missing("the posterior has no density")
        if store.window is not None or store.counts["dropped"] or store.counts["cut"] or (store.ids == UNK).any():
            return Missing("the entropy is of whole sentences, none left out, cut, or with unknown words")
        if not self.codes.several:
            return Missing("one sentence has no standard error, and no other that its code could be told from")
        rows, entropy = scores.kept[looked_at(scores, MI_SENTENCES)], conditional_entropy(store)
        lower = None if below is None else (below.log_q, below.mixture)
        given = scores.reconstruction[rows], scores.rate[rows], above.log_q, above.mixture
        bounds = information_bounds(entropy, *given, lower)
        found = asdict(bounds)
        if bounds.holds is None:
            found["holds"] = Missing(str(bounds.reason))
        if isinstance(self.codes.information_lower, Missing):
            found["mutual_information_lower"] = self.codes.information_lower
        return found

    @property
    def signature(self) -> str:
        """Signature of the likelihood."""
        run, components = self.trained.run, components_of(self.trained.model)
        bound = "none" if self.weighted is None else f"iw{self.iw_samples}" if self.samples else "exact"
        parts: dict[str, Any] = {"bound": bound}
        if self.store.given is not None:
            parts["given"] = self.store.given
        if self.scores.posterior is not None:
            parts["posterior"] = run.settings.model.posterior.name
            parts["rate"] = self.scores.rate_kind or "none"
            if self.prior is not None:
                parts["prior"] = self.prior
            if components is not None:
                parts["k"] = components
        if run.beta is not None:
            parts["beta"] = f"{run.beta:.6g}"
        if self.store.window is not None:
            parts["window"] = self.store.window
        return signature(
            "nll",
            **parts,
            unit="nats/sentence",
            eos="counted",
            unk="counted",
            vocabulary=len(run.tokenizer),
            softmax=SOFTMAX,
            split=self.store.fingerprint[:6],
            sentences=len(self.rows),
            textvae=textvae.__version__,
            seed=self.seed,
        )


def mean_of(nats: Float[Tensor, " n"]) -> Estimate:
    """Return the mean over sentences with its standard error."""
    return Estimate(nats.mean().item(), finite(standard_error(nats), ONE_SENTENCE))


def perplexity_of(nats: float, tokens: int) -> float | Missing:
    """Return the perplexity; Missing if it overflows, or if all tokens are end marks, as in pieces of one token."""
    if not tokens:
        return Missing("there are only end marks")
    return finite(perplexity(nats, tokens), f"it is above {sys.float_info.max:.2g}")


def distance_to_truth(nll: Float[Tensor, " n"], store: TokenStore, rows: np.ndarray, tokenizer: Tokenizer) -> Truth:
    """Compare the NLL of sentences with their exact -log p under the grammar, given their condition.

    The gap, a paired difference, estimates KL(data || model) and in expectation cannot be negative.
    """
    corpus, entropy = grammar.reviews(), conditional_entropy(store)
    texts = tokenizer.decode_batch(store.sentences(rows))
    surprisal = -torch.tensor([corpus.log_prob(text) for text in texts], dtype=torch.float64)
    if store.conditions is not None:
        for names, numbers in zip(store.conditions.names.items(), store.conditions.values[rows].T, strict=True):
            attribute, values = names
            log_prob = [math.log(corpus.values[attribute][value]) for value in values]
            surprisal += torch.tensor(log_prob, dtype=torch.float64)[torch.from_numpy(numbers.astype(np.int64))]
    mean, unknown = surprisal.mean().item(), "a sentence is none of the grammar's"
    if not math.isfinite(mean):
        return Truth(entropy, Missing(unknown), Missing(unknown))
    return Truth(entropy, mean, mean_of(nll - surprisal))


def conditional_entropy(store: TokenStore) -> float:
    """Return H(x|c) = H(x) - H(c) of the grammar in nats; c are attributes, drawn independently and seen in x."""
    corpus = grammar.reviews()
    attributes = () if store.conditions is None else tuple(store.conditions.names)
    return corpus.entropy + sum(
        weight * math.log(weight) for name in attributes for weight in corpus.values[name].values() if weight
    )
