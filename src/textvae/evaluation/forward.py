"""Forward cross entropy: how well a language model that was trained on a model's own text predicts human text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

import textvae
from textvae.errors import RequestError
from textvae.evaluation.synthetic import (
    Files,
    Plan,
    fingerprint,
    human_files,
    kept,
    key,
    synthetic_files,
    vocabulary_file,
)
from textvae.files import file_digest, read_json, write_json
from textvae.inference import score as likelihoods
from textvae.metrics.scoring import Given, score
from textvae.metrics.signature import SOFTMAX, signature
from textvae.metrics.words import tokenized
from textvae.objective.presets import load_settings
from textvae.objective.settings import Settings
from textvae.progress import PartProgress, StepProgress
from textvae.run import Run, model_of
from textvae.run.data import corpus_of
from textvae.text.corpus import Corpus, open_corpus
from textvae.text.cutting import SPECIALS
from textvae.text.packed import Packed
from textvae.text.readers import read
from textvae.training.loop import resume, train

# Self-BLEU-4 is that of so many first sentences, as in prokhorov2019, Table 3; it grows with their number.
SELF_BLEU = 10_000
# Validations without a better one before it ends.
PATIENCE = 2

USUAL = Plan()


class Text(NamedTuple):
    """A corpus as a language model sees it: unknown tokens as a share, different words, tokens a sentence.

    `reason` says why there is no Self-BLEU-4.
    """

    sentences: int
    unknown: float
    words: int
    length: float
    self_bleu_4: float | None
    reason: str | None = None

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON, with reasons for nulls."""
        fields = self._asdict()
        reason = fields.pop("reason")
        return {**fields, "reasons": {} if reason is None else {"self_bleu_4": reason}}


class Draw(NamedTuple):
    """A corpus, and the human text's cross entropy by a language model trained on it, in nats."""

    nats_per_sentence: float
    nats_per_token: float
    text: Text


class Row(NamedTuple):
    """Scores by the corpora of one source, a run or human text (`run` is None): one for each draw."""

    run: str | None
    draws: list[Draw]

    def mean(self, name: str) -> float | None:
        """Return a field of the draws or their texts, averaged; None where one draw has none."""
        values = self._values(name)
        return None if values is None else fmean(values)

    def deviation(self, name: str) -> float | None:
        """Its standard deviation over the draws; None for a single one."""
        values = self._values(name)
        return None if values is None or len(values) < 2 else stdev(values)

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON: means, standard deviations, reasons for nulls, and the draws."""
        found: dict[str, Any] = {"run": self.run}
        reasons = {"run": "human text is of no run"} if self.run is None else dict[str, str]()
        why = next((one.text.reason for one in self.draws if one.text.reason is not None), None)
        for name in (*Draw._fields[:2], *Text._fields[:-1]):
            spread = f"{name}_standard_deviation"
            found |= {name: self.mean(name), spread: self.deviation(name)}
            if found[name] is None:
                reasons |= {name: str(why), spread: str(why)}
            elif found[spread] is None:
                reasons[spread] = "of one draw there is none"
        draws = [{**one._asdict(), "text": one.text.document()} for one in self.draws]
        return {**found, "reasons": reasons, "draws": draws}

    def _values(self, name: str) -> list[float] | None:
        values = [getattr(one, name) if name in Draw._fields else getattr(one.text, name) for one in self.draws]
        return None if None in values else [float(value) for value in values]


@dataclass(frozen=True)
class ForwardCrossEntropy:
    """The rows of the runs and that of human text, the human test text itself, and how many words are known."""

    rows: list[Row]
    human: Row
    test: Text
    vocabulary: int
    signature: str

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "signature": self.signature,
            "vocabulary": self.vocabulary,
            "runs": [row.document() for row in self.rows],
            "human": self.human.document(),
            "test": self.test.document(),
        }


def forward_cross_entropy(
    folders: Sequence[Path | str | Run],
    out: Path | str,
    plan: Plan = USUAL,
    progress: PartProgress | None = None,
) -> ForwardCrossEntropy:
    """Return the cross entropy of the human test text by language models that were trained on the runs' own text.

    Each run decodes the same draws of the prior to `n` sentences. A language model of the run's decoder, without
    dropped words, is trained on them from scratch until text held out from the same draws is no longer better
    predicted, and scores the test split, end marks counted. What the vocabulary lacks is the unknown word
    everywhere. The human row is the same with `n` sentences of the training split (all, if it has fewer).

    All texts, tokenizers and language models are kept in the folder `out`: what is there is not done again, so
    that a call goes on where an earlier one was interrupted.

    Raises RequestError for runs of different data, models of windows, common words of byte pairs, a decoder that is
    no language model, a language model by a decoding without chance, which gives it one sentence, and where
    nothing is written or no word is common. Otherwise as `training.train`.

    References: Prokhorov et al. 2019, section 3.3.2 and Table 3; Cífka et al. 2018, "Eval all, trust a few, do
    wrong to none: comparing sentence generation models".
    """
    runs = [Run.open(folder) for folder in folders]
    _check(runs, plan)
    out = Path(out)
    own = corpus_of(runs[0])
    human = {name: Packed(own.texts(name)) for name in ("train", "valid", "test")}
    test = kept(out, "human-test", [fingerprint(human["test"])], human["test"])
    synthetic = [[synthetic_files(run, plan, seed, out) for seed in plan.seeds] for run in runs]
    real = [human_files(human, plan, seed, out) for seed in plan.seeds]
    known = vocabulary_file(runs[0], [one for files in synthetic for one in files], plan, out)

    def row(run: Run, corpora: list[Files], name: str | None) -> Row:
        found = []
        for number, (seed, files) in enumerate(zip(plan.seeds, corpora, strict=True), 1):
            told = None if progress is None else _named(progress, f"{name or 'human text'}, draw {number}")
            settings = _settings(run, files, test, known, plan, seed)
            found.append(_trained(settings, files, out, told))
        return Row(name, found)

    rows = [row(run, files, str(run.folder)) for run, files in zip(runs, synthetic, strict=True)]
    corpus = open_corpus(_settings(runs[0], real[0], test, known, plan, plan.seed).data)
    return ForwardCrossEntropy(
        rows=rows,
        human=row(runs[0], real, None),
        test=_statistics(corpus, "test"),
        vocabulary=len(corpus.tokenizer) - len(SPECIALS),
        signature=signature(
            "fce",
            unit="nats/sentence",
            eos="counted",
            unk="counted",
            vocabulary=f"{plan.vocabulary}-{len(corpus.tokenizer)}",
            softmax=SOFTMAX,
            split=corpus.split("test").fingerprint[:6],
            decode=plan.decoding.brief,
            sentences=plan.n,
            draws=plan.draws,
            seed=plan.seed,
            epochs=plan.epochs,
            batch=plan.batch_size,
            textvae=textvae.__version__,
        ),
    )


def _check(runs: Sequence[Run], plan: Plan) -> None:
    """Refuse runs that cannot be measured, or not together, or not by this plan."""
    if not runs:
        raise RequestError("runs: 0 given; at least one is needed")
    first = runs[0]
    data, decoding = first.environment.get("data", {}).get("splits"), plan.decoding
    for run in runs:
        settings, decoder = run.settings, run.settings.model.decoder
        if settings.model.latent == 0 and decoding.certain:
            raise RequestError(
                f"{run.folder}: is a language model, which by {decoding.name} decoding writes one sentence again "
                "and again; let it draw, for example --decode nucleus:0.9, or --decode sample"
            )
        if settings.data.window is not None:
            raise RequestError(f"{run.folder}: is a model of pieces of running text, not of sentences")
        if run.tokenizer.name == "bpe" and plan.vocabulary == "common":
            raise RequestError(
                f"{run.folder}: has a tokenizer of byte pairs, and corpora have no words of those in common; take "
                "the runs' own vocabulary (--vocabulary run)"
            )
        if decoder.alone is None:
            raise RequestError(f"{run.folder}: has a feed-forward decoder, which without a code is no model")
        same = run.tokenizer.tokens == first.tokenizer.tokens
        if not same or run.environment.get("data", {}).get("splits") != data:
            raise RequestError(
                f"{run.folder}: was trained on other text or words than {first.folder}; give runs of the same data"
            )


def _settings(run: Run, files: Files, test: Path, known: Path, plan: Plan, seed: int) -> Settings:
    """Return the settings of a language model with the run's decoder, on a corpus.

    Optimizer and batches are the library's own, and not the run's, so that runs trained differently are measured
    alike.
    """
    model, data = run.settings.model, run.settings.data
    decoder = model.decoder.alone
    assert decoder is not None  # runs without one are refused
    sentences = sum(1 for _ in read(files.train))
    return load_settings(
        data={
            **{"train": str(files.train), "valid": str(files.valid), "test": str(test)},
            "vocabulary_of": str(known),
            "tokenizer": {"name": run.tokenizer.name},
            "max_length": max(data.max_length, plan.decoding.max_length),  # nothing that was written is dropped
            "right_to_left": data.right_to_left,
        },
        model={
            "latent": 0,
            "embedding": model.embedding,
            "decoder": decoder.model_dump(mode="json"),
            "tied": model.tied,
            "init": model.init,
        },
        train={
            "epochs": plan.epochs,
            "patience": PATIENCE,
            "batch_size": min(plan.batch_size, sentences),
            "seed": seed,
            "device": run.settings.train.device,
        },
    )


def _trained(settings: Settings, files: Files, out: Path, progress: StepProgress | None) -> Draw:
    """Return a language model's cross entropy of the test text: trained, resumed, or read from its folder."""
    document, data = settings.document(), settings.data
    own = [file_digest(Path(str(path))) for path in (*files, data.test, data.vocabulary_of)]
    table = {name: value for name, value in document["data"].items() if not isinstance(value, str)}
    folder = out / "models" / key([own, table, document["model"], document["train"]])
    result = folder / "forward.json"
    if not result.exists():
        if (folder / "environment.json").exists():
            run = resume(folder, progress)
        else:
            run = train(settings, folder, progress)
        corpus = open_corpus(data)
        found = likelihoods(model_of(run), corpus.split("test"))
        nats = found.reconstruction.sum().item()
        text = _statistics(corpus, "train")
        write_json(result, Draw(nats / len(found), nats / found.tokens, text)._asdict() | {"text": text._asdict()})
    return _read(result)


def _read(path: Path) -> Draw:
    """Return what was measured earlier; raise RequestError for a damaged file."""
    try:
        return TypeAdapter(Draw).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestError(
            f"{path}: damaged: {place}: {first['msg'].removeprefix('Input ')}; delete it, and it is measured again"
        ) from None


def _statistics(corpus: Corpus, split: str) -> Text:
    """Return the columns of prokhorov2019, Table 3, for a split of a corpus."""
    way = {"words": "pieces", "character": "characters"}.get(corpus.tokenizer.name, "words")
    sentences = tokenized(corpus.texts(split), way)
    found = {name: one.value for name, one in score(Given(sentences), ("unknown", "vocabulary", "length")).items()}
    repeats = score(Given(sentences[:SELF_BLEU]), ("self-bleu-4",))["self-bleu-4"]
    unknown, words, length = found["unknown"], found["vocabulary"], found["length"]
    assert unknown is not None and words is not None and length is not None  # no sentence of a store is empty
    return Text(len(sentences), unknown, int(words), length, repeats.value, repeats.reason)


def _named(progress: PartProgress, name: str) -> StepProgress:
    return lambda step, total, _: progress(name, step, total)
