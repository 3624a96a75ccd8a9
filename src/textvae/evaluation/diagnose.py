"""Has the posterior collapsed, and what to try next: reads a run's log and codes and says so in sentences."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from textvae.errors import RequestError
from textvae.evaluation.latent import Codes, too_few
from textvae.evaluation.opened import Opened, check_finite, open_run
from textvae.evaluation.values import Missing, follow, resolved
from textvae.inference import Scores
from textvae.metrics.likelihood import standard_error
from textvae.metrics.text import distinct
from textvae.objective.presets import load_settings
from textvae.objective.settings import Settings
from textvae.objective.terms.mu_forcing import MuForcing
from textvae.run import Run
from textvae.text.batches import TokenStore

# A posterior whose KL is below this on average, nats per sentence, says next to nothing.
LITTLE_KL = 0.5
# A decoder whose reconstruction rises by less than this when codes are exchanged, nats, does not use them.
LITTLE_GAP = 0.1
# A dimension whose mean KL is below this, nats, is off.
DIMENSION_OFF = 0.01
# Rate terms that leave the code a reserve of nats, used or not.
RESERVES = ("free-bits", "free-bits-total", "capacity", "capacity-max")
# Beyond sampling error, nats between the prior and a Gaussian like the aggregated posterior.
FAR, NEAR = 1.0, 0.1
SAMPLES = 100
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

    `reasons` say of each number that is None why it is.
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
    distinct_samples: int
    samples: int
    sentences: list[str]
    command: str
    reasons: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the diagnosis as plain values for JSON."""
        return asdict(self)


def diagnose(folder: Path | str | Opened, split: str = "valid", seed: int = 0) -> Diagnosis:
    """Diagnose a run on a split.

    Raises:
        RequestError: when the run or the split cannot be used, the split has one sentence, or the data has changed.
        WorkError: when the likelihood of a sentence is not finite.
    """
    trained = open_run(folder)
    different = distinct(trained.sample(SAMPLES, seed=seed))
    if trained.model.prior is None:
        return _language_model(trained.run, split, different)
    return _diagnosis(trained, split, different, seed)


def _diagnosis(trained: Opened, split: str, different: int, seed: int) -> Diagnosis:
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
    since = collapsed_since(run.log()) if collapsed else None
    expected = prior_moment_matched(latent, len(rows))
    far = moment is not None and moment > FAR + expected
    flat = codes.of_normal is None
    sentences = [
        _verdict(collapsed, uses, _kl_text(scores), since),
        _target(run.settings, kl, scores.reconstruction.mean().item()),
        _information(found),
        ("" if off is None else f"{off} of {latent} dimensions are off (KL below {DIMENSION_OFF} nats); ")
        + f"{found['active_units']} of {latent} are active units (variance of their means above 0.01).",
        f"Exchanging codes between sentences increases the reconstruction loss by {round(gap, 2) + 0.0:.2f} nats "
        f"per sentence: the decoder {'uses' if uses else 'does not use'} the code.",
        _aggregate(moment, expected, too_few(len(rows), latent)) if flat else "",
        f"{different} of {SAMPLES} greedy samples from the prior are distinct"
        + (": most of them repeat the same few sentences." if different < SAMPLES // 2 else "."),
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
        }
    )
    return Diagnosis(
        **found,
        run=str(run.folder),
        split=split,
        collapsed=collapsed,
        decoder_uses_code=uses,
        distinct_samples=different,
        samples=SAMPLES,
        sentences=[sentence for sentence in sentences if sentence],
        command=_next_command(run, remedies(run.settings, collapsed, far), _ends(run, store, rows)),
        reasons=reasons,
    )


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


def _kl_text(scores: Scores) -> tuple[float, str] | None:
    """Return the KL and its text, with the standard error if it is estimated from codes; None without a KL."""
    if scores.rate is None:
        return None
    kl, exact = scores.rate.mean().item(), scores.rate_kind == "exact"
    error = "" if exact else f" ± {standard_error(scores.rate):.2f}"
    kind = "" if exact else f" ({scores.rate_kind})"
    return kl, f"KL = {round(kl, 2) + 0.0:.2f}{error} nats per sentence{kind}"  # never -0.00


def _verdict(collapsed: bool, uses: bool, rate: tuple[float, str] | None, since: int | None) -> str:
    """Return the sentence that says if the posterior has collapsed."""
    if rate is None:
        return "This is an autoencoder: the KL has no penalty, and prior draws need not resemble its codes."
    kl, text = rate
    if not collapsed:
        return f"The posterior has not collapsed: {text}."
    if kl >= LITTLE_KL:
        return f"The posterior has in effect collapsed: {text}, but the decoder ignores the code."
    when = "" if since is None else f", below {LITTLE_KL} since step {since:,} of the log"
    return f"The posterior has collapsed: {text}{when}."


def _target(settings: Settings, kl: float | None, reconstruction: float) -> str:
    """Return a sentence on a target of the objective that is missed by more than a nat and a tenth of it."""
    held_at = {"kl": ("the KL", kl), "reconstruction": ("the reconstruction loss", reconstruction)}
    terms = settings.phases()[-1].objective or settings.objective
    for name, term in terms.items():
        if (held := term.holds()) is not None:
            what, value = held_at[held[0]]
            if value is not None and abs(value - held[1]) > max(1.0, held[1] / 10):
                return f"objective.{name} misses its target: {what} is {value:.2f} nats, the target {held[1]:g}."
    return ""


def _information(values: dict[str, Any]) -> str:
    """Return a sentence on the information in the codes, which may be less than their KL."""
    nats, lowest = values["mutual_information"], values["mutual_information_lower"]
    if nats is None:
        return ""
    number, ceiling = values["mutual_information_sentences"], values["mutual_information_ceiling"]
    if lowest is None:
        estimate = f"= {round(nats, 2) + 0.0:.2f} nats"
    else:
        estimate = f"between {min(max(0.0, lowest), max(0.0, nats)):.2f} and {max(0.0, nats):.2f} nats"
    return f"Mutual information I(x; z) {estimate} (N = {number:,}, ceiling ln N = {ceiling:.2f})."


def _aggregate(moment: float | None, expected: float, few: str | None) -> str:
    """Return a sentence on the distance of the aggregated posterior from the prior; `few`: a reason for none."""
    if few is not None:
        return f"The distance of the aggregated posterior from the prior is unknown: {few}."
    if moment is None:
        return "The aggregated posterior has a singular covariance: some directions of the code are never used."
    far, near = moment > FAR + expected, moment <= NEAR + 2 * expected
    place = "far from" if far else "close to" if near else "somewhat apart from"
    return (
        f"The aggregated posterior is {place} the prior: moment-matched KL = {moment:.2f} nats "
        f"(sampling error alone: {expected:.2f})"
        + (", so codes from the prior fall where the decoder was not trained." if far else ".")
    )


def remedies(settings: Settings, collapsed: bool, far: bool) -> Iterator[tuple[str, str]]:
    """Yield what to change next, the best first: options of `textvae train`, and a name for the new run.

    `far`: the aggregated posterior is far from the prior. A remedy that is there already is made stronger against a
    collapse, weaker against distance; without one mu-forcing is added, and where that cannot be, another posterior.
    """
    own = settings.phase[-1].objective if settings.phase else {}
    terms, where = (own, f"phase.{len(settings.phase) - 1}.objective") if own else (settings.objective, "objective")
    forcing, posterior = terms.get("mu-forcing"), settings.model.posterior
    if collapsed and isinstance(forcing, MuForcing):
        # At its balance the hinge no more than cancels the pull of the KL; above it, it wins.
        balance = forcing.balance(settings.model.latent, terms["kl"].weight.final if "kl" in terms else 1.0)
        yield f"--set {where}.mu-forcing.weight={2 * max(balance, forcing.weight.final):g}", "heavier"
    if collapsed and (stronger := posterior.stronger()) is not None:
        setting, value, word = stronger
        yield f"--set model.posterior.{setting}={value:g}", word
    if collapsed and not settings.phase and any(name in terms for name in RESERVES):
        yield "--method mu-forcing", "mu-forcing"  # the KL is there and says nothing; `pretrained` collapsed again
    if collapsed and any(term.is_rate and term.penalises_kl for term in terms.values()):
        yield f"--set {where}.mu-forcing.margin=2", "mu-forcing"
    if collapsed:
        yield "--method mu-forcing", "mu-forcing"
        yield "--method mu-forcing --set model.posterior.name=gaussian", "mu-forcing"
    if far and not collapsed:
        for name, field in (("mu-forcing", "margin"), *((reserve, "target") for reserve in RESERVES)):
            value = getattr(terms.get(name), field, 0.0)
            if value:
                yield f"--set {where}.{name}.{field}={value / 2:g}", f"smaller-{field}"


def works(settings: Path, options: str) -> bool:
    """Return True if `textvae train` accepts a settings file with these options."""
    words = shlex.split(options)
    given = list(zip(words[::2], words[1::2], strict=True))
    method = next((value for option, value in given if option == "--method"), None)
    try:
        load_settings(settings, method, [value for option, value in given if option == "--set"])
    except RequestError:
        return False
    return True


def _ends(run: Run, store: TokenStore, rows: np.ndarray) -> str:
    """Return the ends of an interpolation as arguments: `--prior`, or two sentences for an autoencoder."""
    if run.settings.model.posterior.has_rate:
        return "--prior"
    texts = run.tokenizer.decode_batch(store.sentences(rows[[0, -1]]))
    dashes = "-- " if any(text.startswith("-") for text in texts) else ""
    return dashes + " ".join(map(shlex.quote, texts))


def _next_command(run: Run, changes: Iterable[tuple[str, str]], ends: str) -> str:
    """Return the command to try next, as it stands."""
    path = run.folder / "settings.toml"
    change = next((change for change in changes if works(path, change[0])), None)
    if change is None:
        return f"textvae interpolate {shlex.quote(str(run.folder))} {ends}"
    options, suffix = change
    return f"textvae train {shlex.quote(str(path))} {options} --out {_next_folder(run.folder, suffix)}"


def _next_folder(folder: Path, suffix: str) -> str:
    """Return a folder beside the run's that does not exist yet."""
    number, path = 2, folder.with_name(f"{folder.name}-{suffix}")
    while path.exists():
        path = folder.with_name(f"{folder.name}-{suffix}-{number}")
        number += 1
    return shlex.quote(str(path))


def _language_model(run: Run, split: str, different: int) -> Diagnosis:
    """Return the diagnosis of a language model, which has no posterior that could collapse."""
    none = dict.fromkeys(
        (
            "collapsed",
            "decoder_uses_code",
            "kl",
            "rate_kind",
            "mutual_information",
            "mutual_information_lower",
            "mutual_information_sentences",
            "mutual_information_ceiling",
            "shuffle_gap",
            "dimensions",
            "dimensions_off",
            "active_units",
            "collapsed_since_step",
            "kl_moment_matched",
            "kl_moment_matched_of_prior_codes",
        )
    )
    settings = shlex.quote(str(run.folder / "settings.toml"))
    out = _next_folder(run.folder, "mu-forcing")
    return Diagnosis(
        **none,
        reasons=dict.fromkeys(none, "a language model has no code"),
        run=str(run.folder),
        split=split,
        distinct_samples=different,
        samples=SAMPLES,
        sentences=["This is a language model: it has no latent code, so nothing can collapse."],
        command=f"textvae train {settings} --method mu-forcing --set model.latent=32 --out {out}",
    )
