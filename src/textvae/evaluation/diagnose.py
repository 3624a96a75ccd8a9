"""Has the posterior collapsed, and what to try next: reads a run's log and codes and says so in sentences."""

import shlex
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from textvae.errors import RequestError
from textvae.evaluation.advice import ends, next_command, next_folder, remedies
from textvae.evaluation.content import (
    Content,
    Example,
    LabelAgreement,
    content_of,
    flaws,
    tokenization,
)
from textvae.evaluation.latent import Codes, too_few
from textvae.evaluation.opened import Opened, check_finite, open_run
from textvae.evaluation.values import Missing, follow, resolved
from textvae.evaluation.verdict import (
    FAR,
    LITTLE_GAP,
    MANY_LOOPS,
    SAMPLES,
    Written,
    aggregated_posterior,
    keeps_content,
    kept_content,
    kl_text,
    missed_target,
    mutual_information,
    verdict,
)
from textvae.generate.codec import MEASURED
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained
from textvae.metrics.latent import DIMENSION_OFF, LITTLE_KL
from textvae.metrics.text import distinct
from textvae.run import Run
from textvae.text.coverage import fewer_unknown, unknown_tokens

# Lengths of sequences that are not to be repeated, of which the first that leaves few loops is suggested. With 2
# none is left; 3 leaves more of the language.
NO_REPEAT = (3, 2)
# Sentences that the diagnosis looks at.
SENTENCES = 2000
# Scores of the codes that it reports or reads, by their place in `Codes`.
OF_CODES = {
    "mutual_information": "information.nats",
    "mutual_information_lower": "information_lower.nats",
    "mutual_information_sentences": "information.sentences",
    "mutual_information_ceiling": "information.ceiling",
    "shuffle_gap": "shuffle_gap.value",
    "dimensions": "latent",
    "active_units": "active_units",
    "kl_moment_matched": "kl_moment_matched.value",
    "kl_per_dimension": "kl_per_dimension",
}


@dataclass(frozen=True)
class Diagnosis:
    """Diagnosis of a run. `collapsed` is None for a language model; numbers in nats unless the name says otherwise.

    `keeps_content` is True if the code is read and content words of held-out sentences return in reconstructions
    more often than by chance. Content words, agreement, loops and unknown words are shares from 0 to 1. `reasons`
    gives the reason of each number that is None. `prior` names a fitted prior.
    """

    run: str
    split: str
    collapsed: bool | None
    decoder_uses_code: bool | None
    kl: float | None
    rate_kind: str | None
    mutual_information: float | None
    mutual_information_lower: float | None
    mutual_information_sentences: int | None
    mutual_information_ceiling: float | None
    shuffle_gap: float | None
    dimensions: int | None
    dimensions_off: int | None
    active_units: int | None
    collapsed_since_step: int | None
    kl_moment_matched: float | None
    kl_moment_matched_of_prior_codes: float | None
    keeps_content: bool | None
    content_words_kept: float | None
    content_words_kept_by_chance: float | None
    content_words_kept_standard_error: float | None
    neighbour_label_agreement: dict[str, LabelAgreement] | None
    looping_reconstructions: float | None
    unknown_tokens: float
    unknown_words_in_samples: float
    looping_samples: float
    distinct_samples: int
    samples: int
    sentences: list[str]
    examples: list[Example]
    command: str
    reasons: dict[str, str] = field(default_factory=dict)
    prior: str = ""

    def __str__(self) -> str:
        """Return the diagnosis for reading: sentences, examples, and the command to try next."""
        lines = list(self.sentences)
        if self.examples:
            lines += [
                "",
                "held-out sentences, their reconstructions (>) and the sentences with the nearest code (~):",
            ]
        for one in self.examples:
            lines += [f"  {one.text}", f"  > {one.reconstruction}", f"  ~ {one.neighbour}", ""]
        return "\n".join([*lines, f"next: {self.command}"] if self.command else lines)

    def document(self) -> dict[str, Any]:
        """Return the diagnosis as plain values for JSON, `prior` only where one was fitted."""
        return {name: value for name, value in asdict(self).items() if name != "prior" or value}


def diagnose(folder: Path | str | Run | Trained, split: str = "valid", seed: int = 0) -> Diagnosis:
    """Diagnose a run, or a loaded model, on a split. `print` shows what the command `diagnose` prints.

    Raises:
        RequestError: when the run or the split cannot be used, the split has one sentence, or the data has changed.
        WorkError: when the likelihood of a sentence is not finite.
    """
    trained = open_run(folder)
    samples = trained.sample(SAMPLES, seed=seed)
    way = tokenization(trained, samples)
    unknown_words, _ = flaws(trained.sample(SAMPLES, seed, MEASURED), way)
    _, looping = flaws(samples, way)
    written = Written(distinct(samples), unknown_words, looping, unknown_tokens(trained.corpus.split(split)))
    fewer = fewer_unknown(trained.run.settings.data, trained.tokenizer)
    if trained.model.prior is None:
        return _language_model(trained.run, split, written, fewer)
    return _diagnosis(trained, split, written, fewer, seed)


def _diagnosis(trained: Opened, split: str, written: Written, fewer: str, seed: int) -> Diagnosis:
    """Diagnose a model with a code."""
    run, store, rows = trained.run, trained.corpus.split(split), trained.rows(split, SENTENCES)
    if len(rows) < 2:
        raise RequestError(
            f"--split {split}: has one sentence, and a diagnosis compares the codes of several; "
            "take another split, such as --split train"
        )
    codes = Codes.of(trained, split, seed, SENTENCES)
    scores, latent = codes.scores, run.settings.model.latent
    check_finite(run, split, scores)
    values = {name: follow(codes, path) for name, path in OF_CODES.items()}
    values["active_units"] = values["active_units"]["0.01"]
    values |= {"kl": codes.no_density, "rate_kind": codes.no_density, "dimensions_off": values["kl_per_dimension"]}
    dimensions = values.pop("kl_per_dimension")
    if scores.rate is not None:
        values |= {"kl": scores.rate.mean().item(), "rate_kind": scores.rate_kind}
    if not isinstance(dimensions, Missing):
        values["dimensions_off"] = sum(nats < DIMENSION_OFF for nats in dimensions)
    found, _ = resolved(values)
    kl, gap, off, moment = (found[name] for name in ("kl", "shuffle_gap", "dimensions_off", "kl_moment_matched"))
    uses = gap >= LITTLE_GAP
    collapsed = not uses or (kl is not None and kl < LITTLE_KL and off in (None, latent))
    content = content_of(trained, split)
    keeps = keeps_content(content) and not collapsed  # None where content is not known
    since = collapsed_since(run.log()) if collapsed else None
    expected = prior_moment_matched(latent, len(rows))
    far = moment is not None and moment > FAR + expected
    flat, prior = codes.of_normal is None, run.fitted.name if run.fitted else ""
    sentences = [
        verdict(collapsed, uses, keeps, kl_text(scores, prior), since, prior),
        kept_content(content),
        missed_target(run.settings, None if prior else kl, scores.reconstruction.mean().item()),
        mutual_information(found, trained.corpus.split(split).conditions is not None),
        ("" if off is None else f"{off} of {latent} dimensions are off (KL below {DIMENSION_OFF} nats); ")
        + f"{found['active_units']} of {latent} are active units (variance of their means above 0.01).",
        f"Exchanging codes between sentences increases the reconstruction loss by {round(gap, 2) + 0.0:.2f} nats "
        f"per sentence: the decoder {'uses' if uses else 'does not use'} the code.",
        aggregated_posterior(moment, expected, too_few(len(rows), latent)) if flat else "",
        written.on_samples(without_loops(trained, seed) if written.looping_samples >= MANY_LOOPS else ""),
        written.on_unknown_words(fewer),
    ]
    low = f"the KL at the end of the log is {LITTLE_KL} nats or more"
    if not any("kl" in record for record in run.log()):
        low = "the log has no KL"
    why = low if collapsed else "the posterior has not collapsed"
    found, reasons = resolved(
        {
            **values,
            "collapsed_since_step": Missing(why) if since is None else since,
            "kl_moment_matched_of_prior_codes": codes.of_normal or expected,
            **_content_values(content, keeps),
        }
    )
    return Diagnosis(
        **found,
        run=str(run.folder),
        split=split,
        collapsed=collapsed,
        decoder_uses_code=uses,
        **asdict(written),
        samples=SAMPLES,
        sentences=[sentence for sentence in sentences if sentence],
        examples=[] if content is None else content.examples,
        command=next_command(run, remedies(run.settings, collapsed, far, keeps is False), ends(run, store, rows)),
        reasons=reasons,
        prior=prior,
    )


def without_loops(trained: Opened, seed: int) -> str:
    """Return the option of decoding that repeats no sequence and leaves few loops, with the share it leaves."""
    for n in NO_REPEAT:
        samples = trained.sample(SAMPLES, seed, Decoding(no_repeat=n))
        _, looping = flaws(samples, tokenization(trained, samples))
        if looping < MANY_LOOPS:
            break
    return f"{looping:.0%} with --no-repeat {n}"


def collapsed_since(log: list[dict[str, Any]]) -> int | None:
    """Return the first step of the log from which on the KL stayed below `LITTLE_KL`; None where it did not."""
    since = None
    for record in log:
        if record.get("kl") is not None:
            if record["kl"] >= LITTLE_KL:
                since = None
            elif since is None:
                since = record["step"]
    return since


def prior_moment_matched(latent: int, sentences: int) -> float:
    """Return the mean moment-matched KL of codes from N(0, I) itself, d (d + 3) / (4 N): sampling error.

    To first order in 1/N: each of d means and d (d + 1) / 2 covariances is off by its standard error.
    """
    return latent * (latent + 3) / (4 * sentences)


def _content_values(content: Content | None, keeps: bool | None) -> dict[str, Any]:
    """Return the scores of content by their name in a diagnosis."""
    names = ("content_words_kept", "content_words_kept_by_chance", "content_words_kept_standard_error")
    if content is None:
        none = Missing("a model of pieces of running text knows no sentences")
        others = ("keeps_content", "neighbour_label_agreement", "looping_reconstructions")
        return dict.fromkeys((*names, *others), none)
    kept = content.content_words
    numbers: dict[str, Any] = dict(zip(names, (kept.kept, kept.by_chance, kept.standard_error), strict=True))
    nothing = Missing("the split has no content words")
    if not kept.words:
        numbers = dict.fromkeys(names, nothing)
    labels = content.labels or Missing("the text has no labels")
    return {
        "keeps_content": nothing if keeps is None else keeps,
        **numbers,
        "neighbour_label_agreement": labels,
        "looping_reconstructions": content.looping,
    }


def _language_model(run: Run, split: str, written: Written, fewer: str) -> Diagnosis:
    """Return the diagnosis of a language model, which has no posterior that could collapse."""
    none: dict[str, Any] = {one.name: None for one in fields(Diagnosis) if type(None) in get_args(one.type)}
    no_code = "This is a language model: it has no latent code, so nothing can collapse."
    settings = shlex.quote(str(run.folder / "settings.toml"))
    out = next_folder(run.folder, "auto")
    return Diagnosis(
        **none,
        reasons=dict.fromkeys(none, "a language model has no code"),
        run=str(run.folder),
        split=split,
        **asdict(written),
        samples=SAMPLES,
        sentences=[sentence for sentence in (no_code, written.on_unknown_words(fewer)) if sentence],
        examples=[],
        command=f"textvae train {settings} --method auto --set model.latent=32 --out {out}",
    )
