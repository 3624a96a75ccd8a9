"""Sentences of a diagnosis: what its numbers mean."""

from dataclasses import dataclass
from typing import Any

from textvae.evaluation.content import Content
from textvae.inference import Scores
from textvae.metrics.latent import LITTLE_KL
from textvae.metrics.likelihood import standard_error
from textvae.objective.settings import Settings
from textvae.text.coverage import MANY_UNKNOWN

# A decoder whose reconstruction loss rises by less than this when codes are exchanged, nats, does not use them.
LITTLE_GAP = 0.1
# Beyond sampling error, nats between the prior and a Gaussian like the aggregated posterior.
FAR, NEAR = 1.0, 0.1
# A code that brings back less than this share of content words beyond chance keeps little of a sentence.
LITTLE_CONTENT = 0.05
# Share of texts with a loop from which on a sentence mentions them.
MANY_LOOPS = 0.05
# Greedy samples from the prior.
SAMPLES = 100


@dataclass(frozen=True)
class Written:
    """Scores of greedy samples from the prior, and the share of the split's tokens that are unknown."""

    distinct_samples: int
    unknown_words_in_samples: float
    looping_samples: float
    unknown_tokens: float

    def on_samples(self, remedy: str = "") -> str:
        """Return a sentence on the samples; `remedy` stands beside the share of those with a loop."""
        loops = f"; {self.looping_samples:.0%} have a loop" if self.looping_samples >= MANY_LOOPS else ""
        loops += f" ({remedy})" if loops and remedy else ""
        repeat = ": most of them repeat the same few sentences" if self.distinct_samples < SAMPLES // 2 else ""
        return f"{self.distinct_samples} of {SAMPLES} greedy samples from the prior are distinct{repeat}{loops}."

    def on_unknown_words(self, fewer: str) -> str:
        """Return a sentence on unknown words, with what to do if there are many; empty if there are none."""
        share, samples = self.unknown_tokens, self.unknown_words_in_samples
        if not max(share, samples):
            return ""
        shares = f"Unknown words are {share:.1%} of the text" + (
            f" and {samples:.1%} of the samples" * bool(samples)
        )
        return f"{shares}: {fewer}." if max(share, samples) >= MANY_UNKNOWN else f"{shares}."


def kl_text(scores: Scores, prior: str = "") -> tuple[float, str] | None:
    """Return the KL and its text, with the standard error if it is estimated from codes; None without a KL.

    `prior` is the name of a fitted prior.
    """
    if scores.rate is None:
        return None
    kl, exact = scores.rate.mean().item(), scores.rate_kind == "exact"
    error = "" if exact else f" ± {standard_error(scores.rate):.2f}"
    told = ", ".join(filter(None, ("" if exact else scores.rate_kind, f"under {prior}" if prior else "")))
    kind = f" ({told})" if told else ""
    return kl, f"KL = {round(kl, 2) + 0.0:.2f}{error} nats per sentence{kind}"  # never -0.00


def verdict(
    collapsed: bool,
    uses: bool,
    keeps: bool | None,
    rate: tuple[float, str] | None,
    since: int | None,
    prior: str = "",
) -> str:
    """Return the sentence that says if the posterior has collapsed; a code that keeps little is not praised."""
    if rate is None and prior:
        return "This is an autoencoder: the KL has no penalty. Its prior was fitted to its codes afterwards."
    if rate is None:
        return "This is an autoencoder: the KL has no penalty, and prior draws need not resemble its codes."
    kl, text = rate
    if not collapsed and keeps is False:
        return f"The decoder reads the code, but the code keeps little of a sentence: {text}."
    if not collapsed:
        return f"The posterior has not collapsed: {text}."
    if kl >= LITTLE_KL:
        return f"The posterior has in effect collapsed: {text}, but the decoder ignores the code."
    when = "" if since is None else f", below {LITTLE_KL} since step {since:,} of the log"
    return f"The posterior has collapsed: {text}{when}."


def missed_target(settings: Settings, kl: float | None, reconstruction: float) -> str:
    """Return a sentence on a target of the objective that is missed by more than a nat and a tenth of it."""
    held_at = {"kl": ("the KL", kl), "reconstruction": ("the reconstruction loss", reconstruction)}
    terms = settings.phases()[-1].objective or settings.objective
    for name, term in terms.items():
        if (held := term.holds()) is not None:
            what, value = held_at[held[0]]
            if value is not None and abs(value - held[1]) > max(1.0, held[1] / 10):
                return f"objective.{name} misses its target: {what} is {value:.2f} nats, the target {held[1]:g}."
    return ""


def mutual_information(values: dict[str, Any], conditional: bool = False) -> str:
    """Return a sentence on the information in the codes, which may be less than their KL.

    That of a `conditional` model is given the condition.
    """
    nats, lowest = values["mutual_information"], values["mutual_information_lower"]
    if nats is None:
        return ""
    number, ceiling = values["mutual_information_sentences"], values["mutual_information_ceiling"]
    if lowest is None:
        estimate = f"= {round(nats, 2) + 0.0:.2f} nats"
    else:
        estimate = f"between {min(max(0.0, lowest), max(0.0, nats)):.2f} and {max(0.0, nats):.2f} nats"
    what = "I(x; z | c)" if conditional else "I(x; z)"
    return f"Mutual information {what} {estimate} (N = {number:,}, ceiling ln N = {ceiling:.2f})."


def aggregated_posterior(moment: float | None, expected: float, few: str | None) -> str:
    """Return a sentence on the distance of the aggregated posterior from the prior; `few`: a reason for none."""
    if few is not None:
        return f"The distance of the aggregated posterior from the prior is unknown: {few}."
    if moment is None:
        return "The aggregated posterior has a singular covariance: some directions of the code are never used."
    far, near = moment > FAR + expected, moment <= NEAR + 2 * expected
    place = "far from" if far else "close to" if near else "somewhat apart from"
    untrained = ", so codes from the prior fall where the decoder was not trained"
    outside = f"{untrained}; `textvae fit-prior` fits one to the codes" if far else ""
    return (
        f"The aggregated posterior is {place} the prior: moment-matched KL = {moment:.2f} nats "
        f"(sampling error alone: {expected:.2f}){outside}."
    )


def keeps_content(content: Content | None) -> bool | None:
    """Return True if content words return more often than by chance; None if there are none to return."""
    if content is None or not content.content_words.words:
        return None
    kept = content.content_words
    beyond = kept.kept - kept.by_chance
    return beyond >= LITTLE_CONTENT and beyond > 2 * kept.standard_error


def kept_content(content: Content | None) -> str:
    """Return a sentence on the content words and labels that codes keep."""
    keeps = keeps_content(content)
    if content is None or keeps is None:
        return ""
    kept = content.content_words
    share = f"{kept.kept:.1%} of a sentence's content words return in its reconstruction"
    labels = ""
    if len(content.labels) == 1:
        (name, own), *_ = content.labels.items()
        labels = f"; {own.agreement:.0%} of the nearest codes have its {name} ({own.by_chance:.0%} by chance)"
    return f"The code keeps {'content' if keeps else 'little'}: {share} ({kept.by_chance:.1%} by chance){labels}."
