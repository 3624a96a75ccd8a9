"""Imputations of several models against the true texts: two classifiers, and the likelihood by another model."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

import textvae
from textvae.errors import RequestError
from textvae.generate.codes import ROWS, in_pieces
from textvae.generate.imputation import impute, missing, usual_beam
from textvae.generate.trained import Trained
from textvae.metrics.adversarial import AdversarialError, lstm_error, unigram_error
from textvae.metrics.likelihood import standard_error
from textvae.metrics.signature import SOFTMAX, digest, signature
from textvae.metrics.splits import numbered
from textvae.progress import PartProgress, Progress
from textvae.text.packed import Packed
from textvae.text.readers import each_text, one_line
from textvae.text.tokenizers import UNK, Tokenizer

# Texts that are shown with what each model made of them.
EXAMPLES = 12


@dataclass(frozen=True)
class Completed:
    """Completions of the texts by one model.

    `unigram` and `lstm` are the classifiers' adversarial errors. `nll` is that of the completed texts under the
    independent language model, nats per sentence, end mark counted. `recovered` is the share of texts that came out
    as they were, `endings` how many different completions there are. `rounds` of a language model is 1.
    """

    run: str
    beam: int
    rounds: int
    unigram: AdversarialError
    lstm: AdversarialError
    nll: float
    nll_standard_error: float
    recovered: float
    endings: int
    texts: Sequence[str]


@dataclass(frozen=True)
class Adversarial:
    """Table 4 of Bowman et al. 2016: a row for each model, and what the true texts have.

    `left_out` says why texts were not used, and how many. `endings` counts the different true endings.
    """

    models: list[Completed]
    texts: Sequence[str]
    known: Sequence[str]
    nll: float
    nll_standard_error: float
    endings: int
    left_out: Mapping[str, int]
    signature: str

    def document(self) -> dict[str, Any]:
        """Everything but the texts, of which there are a few as examples, for JSON."""
        rows = []
        for model in self.models:
            row = asdict(replace(model, texts=()))
            del row["texts"]
            for name in ("unigram", "lstm"):
                found: AdversarialError = getattr(model, name)
                row[name] = found.document()
            rows.append(row)
        return {
            "sentences": len(self.texts),
            "left_out": dict(self.left_out),
            "true": {"nll": self.nll, "nll_standard_error": self.nll_standard_error, "endings": self.endings},
            "models": rows,
            "examples": self.examples(),
            "signature": self.signature,
        }

    def examples(self) -> list[dict[str, str]]:
        """Return what is known of the first texts, how they end, and how each model ends them."""
        found = []
        for number, (known, true) in enumerate(zip(self.known[:EXAMPLES], self.texts[:EXAMPLES], strict=True)):
            ends = {model.run: model.texts[number].removeprefix(known).strip() for model in self.models}
            found.append({"known": known, "true": true.removeprefix(known).strip(), **ends})
        return found


def adversarial(
    runs: Sequence[Trained],
    texts: Iterable[str],
    language_model: Trained,
    last: float = 0.2,
    beam: int | None = None,
    rounds: int = 3,
    sentences: int | None = None,
    seed: int = 0,
    progress: PartProgress | None = None,
) -> Adversarial:
    """Let models complete texts, and measure how well the completions can be told from the true endings.

    Of each text the last share `last` of its words is missing, see `imputation.impute`, which `beam` and `rounds`
    are for; as there, beams are of 15 for language models and 5 for others. Then two classifiers learn to tell
    completed texts from true ones (`metrics.adversarial`), with the same parts for all models unless texts repeat,
    and the likelihood of whole texts is that under `language_model`, which should have been trained apart from all
    `runs`. Texts should be ones that none of the models has been trained on.

    Left out are texts of which nothing would be left, which are too long for a model, or in which a missing word is
    not in the vocabulary: there no completion could be right, and an unknown word would give a true text away.
    `sentences` is how many of the others are used, the first ones; by default all.

    Raises:
        RequestError: for runs whose vocabularies differ, a language model that has codes or is one of the runs,
            fewer than ten texts that can be used, and as `impute`.

    References: Bowman et al. 2016, section 5 and Table 4.
    """
    _check(runs, language_model)
    tell = progress or (lambda what, done, total: None)
    tokenizer = runs[0].tokenizer
    longest = min(run.max_length for run in runs)
    true, known, left_out, given = usable(tokenizer, texts, longest, last, sentences)
    if len(true) < 10:
        raise RequestError(
            f"adversarial evaluation: {len(true)} texts of {given} can be used{_reasons(left_out)}; "
            "it takes 10 or more, and thousands to say much"
        )
    models = []
    for run in runs:
        at = partial(tell, f"{run.run.folder}: imputing")
        texts_of = Packed(_completed(run, true, beam, rounds, last, at))
        unigram, lstm = _errors(run, true, texts_of, seed, partial(tell, f"{run.run.folder}: classifiers"))
        nll, error = _nll(language_model, texts_of)
        models.append(
            Completed(
                run=str(run.run.folder),
                beam=beam or usual_beam(run),
                rounds=rounds if run.model.prior is not None else 1,
                unigram=unigram,
                lstm=lstm,
                nll=nll,
                nll_standard_error=error,
                recovered=sum(map(str.__eq__, texts_of, true)) / len(true),
                endings=_endings(texts_of, known),
                texts=texts_of,
            )
        )
    nll, error = _nll(language_model, true)
    by = _signature(tokenizer, true, language_model, last=last, beam=beam or "5,lm15", rounds=rounds, seed=seed)
    return Adversarial(models, true, known, nll, error, _endings(true, known), left_out, by)


def _completed(
    run: Trained, true: Sequence[str], beam: int | None, rounds: int, last: float, tell: Progress
) -> Iterator[str]:
    """Yield the texts as a model completes them."""
    done = 0
    for some in in_pieces(true, ROWS):
        at = lambda now, _, before=done: tell(before + now, len(true))  # noqa: E731
        yield from (found.text for found in impute(run, some, beam, rounds, last, at))
        done += len(some)


def _signature(
    tokenizer: Tokenizer, true: Sequence[str], language_model: Trained, **asked: str | int | float
) -> str:
    return signature(
        "adversarial",
        **asked,
        unit="nats/sentence",
        eos="counted",
        unk="counted",
        vocabulary=len(tokenizer),
        softmax=SOFTMAX,
        split=digest(true),
        sentences=len(true),
        parts="80/10/10,equal-texts-together",
        by=f"unigrams-shuffled-sklearn-{version('scikit-learn')},lstm",
        nll=language_model.identity[:6],
        textvae=textvae.__version__,
    )


def usable(
    tokenizer: Tokenizer, texts: Iterable[str], longest: int, last: float, most: int | None = None
) -> tuple[Packed, Packed, dict[str, int], int]:
    """Return the texts whose ends can be imputed, the known part of each, and why others were left out.

    Of the texts that can be used the first `most` are kept; all are read, a piece at a time. The last value is the
    number of all texts.

    Raises:
        RequestError: for what is no text, and a share that is none.
    """
    if not 0 < last < 1:
        raise RequestError(f"last = {last}: must be a share between 0 and 1, such as 0.2")
    left_out = {"too short": 0, f"longer than {longest} tokens": 0, "with an unknown word at the end": 0}
    left_out["without a known word before it"] = 0
    short, long, unknown, nothing = left_out
    kept, begun, given = Packed(), Packed(), 0
    for some in in_pieces(each_text(texts), ROWS):
        given += len(some)
        lines = [tokenizer.normalise(one_line(text)) for text in some]
        for line, ids in zip(lines, tokenizer.encode(lines), strict=True):
            ids = ids[::-1] if tokenizer.right_to_left else ids
            begin = len(ids) - missing(len(ids), last)
            if not begin:
                left_out[short] += 1
            elif len(ids) > longest:
                left_out[long] += 1
            elif UNK in ids[begin:]:
                left_out[unknown] += 1
            elif set(ids[:begin]) == {UNK}:
                left_out[nothing] += 1
            elif most is None or len(kept) < most:
                kept.extend([line])
                begun.extend([_known(tokenizer, line, ids, begin)])
    return kept, begun, {reason: count for reason, count in left_out.items() if count}, given


def _known(tokenizer: Tokenizer, line: str, ids: list[int], tokens: int) -> str:
    """Return the first tokens of a text, as text."""
    if tokenizer.name == "bpe":
        begin = ids[:tokens]
        return tokenizer.decode(begin[::-1] if tokenizer.right_to_left else begin)
    return tokenizer.joined(tokenizer.pieces(line)[:tokens])


def _words(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return what classifiers read of a text: the model's words or characters, and for byte pairs words."""
    return text.split(" ") if tokenizer.name == "bpe" else tokenizer.pieces(text)


class _Words(Sequence[Sequence[str]]):
    """Words of texts as classifiers read them, split anew at every access."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self.tokenizer, self.texts = tokenizer, texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, row: Any) -> Any:
        return _words(self.tokenizer, self.texts[row])


def _errors(
    run: Trained, true: Sequence[str], made: Sequence[str], seed: int, tell: Progress
) -> tuple[AdversarialError, AdversarialError]:
    """Return the errors of the unigrams' classifier and of the LSTM."""
    whole, split = (_Words(run.tokenizer, texts) for texts in (true, made))
    tell(0, 2)
    unigram = unigram_error(whole, split, seed)
    tell(1, 2)
    lstm = lstm_error(whole, split, seed, run.model.device)
    tell(2, 2)
    return unigram, lstm


def _endings(texts: Sequence[str], known: Sequence[str]) -> int:
    endings = (text.removeprefix(begin).encode() for text, begin in zip(texts, known, strict=True))
    return len(np.unique(numbered(endings)))


def _nll(language_model: Trained, texts: Sequence[str]) -> tuple[float, float]:
    """Return the mean over texts, and its standard error."""
    nats = torch.cat([torch.from_numpy(language_model.nll(some)) for some in in_pieces(texts, ROWS)])
    return nats.mean().item(), standard_error(nats)


def _reasons(left_out: Mapping[str, int]) -> str:
    found = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    return f" ({found})" if found else ""


def _check(runs: Sequence[Trained], language_model: Trained) -> None:
    """Refuse runs that cannot be compared, and a language model that is no independent one."""
    if not runs:
        raise RequestError("adversarial evaluation: no run given; give one or more")
    for run in (*runs, language_model):
        run.require_whole_texts()
    language_model.require_likelihood()
    for run in runs:
        if run.tokenizer.tokens != runs[0].tokenizer.tokens or run.tokenizer.name != runs[0].tokenizer.name:
            raise RequestError(
                f"{run.run.folder}: has another vocabulary than {runs[0].run.folder}; "
                "completions are compared between models of the same words"
            )
        if run.identity == language_model.identity:
            raise RequestError(
                f"{run.run.folder}: is also the language model that measures likelihood; give one trained apart"
            )
