"""Attribute transfer over strength: is the attribute changed, is the content kept, is the text fluent."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

import textvae
from textvae.errors import RequestError
from textvae.generate.codec import GREEDY
from textvae.generate.codes import ROWS, encoded, in_pieces
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained
from textvae.generate.transfer import moved
from textvae.metrics.attributes import Classifier, content_kept, grammar_scores
from textvae.metrics.signature import SOFTMAX, digest, signature
from textvae.metrics.splits import numbered
from textvae.metrics.words import tokenized
from textvae.text.packed import Packed

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Judges:
    """Judges of texts: a classifier and a language model trained on other text, and the embedded grammar.

    `grammar` names the attribute of the embedded grammar that is to change. What is None scores nothing.
    `tokenization` is what BLEU counts: "words" or "characters".
    """

    classifier: Classifier | None = None
    language_model: Trained | None = None
    grammar: str | None = None
    tokenization: str = "words"


def transfer_curve(
    trained: Trained,
    texts: Sequence[str],
    direction: ArrayLike,
    target: str,
    judges: Judges,
    strengths: Sequence[float] = STRENGTHS,
    references: Sequence[str] | None = None,
    decoding: Decoding = GREEDY,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Scores of texts moved along a direction, a row for each strength; `references` are rewritten texts, if any.

    Before them come the texts as they are (`line` is "input") and, if there are any, the references ("reference").
    Strength 0 is the plain reconstruction. Each row has, where someone judges it:

    - `accuracy`: share that the classifier takes for `target`;
    - `bleu_input`, `bleu_reference`: corpus BLEU with the texts and with the references, 0 to 100;
    - `nll`: nats per sentence under the language model, end mark counted;
    - `grammar`: the scores of `grammar_scores`;
    - `words`: tokens per sentence; `unchanged`: share equal to its input; `different`: share of different texts.

    Raises:
        RequestError: without texts, for references that are not one for each, a target that the classifier does not
            know, and as `Trained.transfer`.
    """
    if not texts:
        raise RequestError("texts: none to transfer")
    if not strengths:
        raise RequestError("strengths: none given")
    if references is not None and len(references) != len(texts):
        raise RequestError(f"references: {len(references)} for {len(texts)} texts; give one for each")
    if judges.classifier is not None and target not in judges.classifier.labels:
        raise RequestError(f"the classifier does not know {target!r}, only {', '.join(judges.classifier.labels)}")
    z = [piece.codes for piece in encoded(trained, texts)]
    begins = list(accumulate(map(len, z), initial=0))
    rows = [{"line": "input", "strength": None, **scores(texts, texts, target, judges, references)}]
    if references is not None:
        rows.append({"line": "reference", "strength": None, **scores(texts, references, target, judges, None)})
    for strength in strengths:
        pieces = (
            trained.decode(moved(trained, codes, direction, strength), decoding, seed, begin)
            for begin, codes in zip(begins, z, strict=False)
        )
        row = scores(texts, Packed(chain.from_iterable(pieces)), target, judges, references)
        rows.append({"line": "transfer", "strength": float(strength), **row})
    return rows


def curve_signature(
    texts: Sequence[str],
    direction: ArrayLike,
    judges: Judges,
    references: Sequence[str] | None = None,
    decoding: Decoding = GREEDY,
    seed: int = 0,
) -> str:
    """Return the signature of `transfer_curve`; a judge that is not used is `none`."""
    way = np.asarray(direction, dtype="<f4")
    return signature(
        "transfer",
        unit="share",
        eos="counted",
        unk="counted",
        softmax=SOFTMAX,
        against=digest(chain(texts, references or ())),
        bleu=f"sacrebleu-{version('sacrebleu')},exp",
        classifier="none" if judges.classifier is None else judges.classifier.fingerprint,
        decode=decoding.brief,
        direction=digest([way.tobytes().hex()]),
        nll="none" if judges.language_model is None else judges.language_model.identity[:6],
        sentences=len(texts),
        seed=seed,
        tokenize=judges.tokenization,
        textvae=textvae.__version__,
    )


def scores(
    before: Sequence[str], after: Sequence[str], target: str, judges: Judges, references: Sequence[str] | None
) -> dict[str, Any]:
    """One row of `transfer_curve`: texts `before` that became `after`."""
    sizes = tokenized(after, judges.tokenization).sizes()
    row: dict[str, Any] = {
        "bleu_input": content_kept(after, before, judges.tokenization),
        "words": float(sizes.mean()),
        "unchanged": sum(a.split() == b.split() for a, b in zip(before, after, strict=True)) / len(after),
        "different": len(np.unique(numbered(text.encode(errors="surrogatepass") for text in after))) / len(after),
    }
    if judges.classifier is not None:
        labels = chain.from_iterable(map(judges.classifier.predict, in_pieces(after, ROWS)))
        row["accuracy"] = sum(label == target for label in labels) / len(after)
    if references is not None:
        row["bleu_reference"] = content_kept(after, references, judges.tokenization)
    if judges.language_model is not None:
        nll = np.concatenate([*map(judges.language_model.nll, in_pieces(after, ROWS))])
        row["nll"] = float(nll.mean())
    # People's rewritten texts are none of the grammar's, but who has the grammar needs no such texts.
    if judges.grammar is not None:
        row["grammar"] = grammar_scores(before, after, judges.grammar, target)._asdict()
        if row["grammar"]["kept"] is None:
            row["grammar"]["reasons"] = {"kept": "no text is in the language"}
    return row
