"""Settings of the method `auto`: the final KL weight by an aim, and tokenizer, sizes and epochs by the text."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from textvae.errors import RequestError, did_you_mean
from textvae.objective.presets import load_settings, methods
from textvae.objective.settings import Settings
from textvae.settings import leaves, merge, override, read_document, spelled_out
from textvae.text.corpus import training_texts
from textvae.text.coverage import MEASURED, suggest_tokenizer
from textvae.text.readers import each_text

# The method of a run where none is given, and that of one with an objective of its own or without a code.
AUTO, PLAIN = "auto", "vanilla"
# Settings for each aim: the final KL weight is what one more nat of KL must bring, in nats of the other losses.
AIMS: dict[str, dict[str, Any]] = {
    "representation": {"objective": {"selected-kl": {"end": 0.1}}},
    "balance": {"objective": {"selected-kl": {"end": 0.3}}},
    "generation": {"objective": {"selected-kl": {"end": 1.0}}, "model": {"word_keep": 1.0}},
}
# Fewest sentences by which something can be chosen.
FEWEST = 200
# Tokens that training is to go through in all, and the bounds of the number of epochs for it.
TOKENS, EPOCHS = 3_000_000, (5, 40)
# Tokens of a text below which the model is small.
SMALL = 200_000
LEARNING_RATE = 2e-3
# Tokens for a word, punctuation apart.
TOKENS_A_WORD = 1.2


class Choice(NamedTuple):
    """Settings chosen for a text, as a document, and a sentence with the reason for each of its tables."""

    document: dict[str, Any]
    reasons: dict[str, str]


def load_chosen(
    below: Path | str | Mapping[str, Any] | None,
    method: str | None,
    assignments: Iterable[str] = (),
    aim: str | None = None,
    texts: object = None,
    **tables: Any,
) -> tuple[Settings, list[str] | None]:
    """Return the settings of `load_settings`, for the method `auto` with what is chosen for the text below them.

    Args:
        below: A settings file or document. What it sets is not chosen.
        method: A preset, if any.
        assignments: As those of `load_settings`.
        aim: One of `AIMS`, for `auto` alone; `balance` if None.
        texts: Training sentences (`each_text`), by default those that the settings name.
        tables: As those of `load_settings`.

    Returns:
        The settings, and sentences on what was chosen and why, without tables of which something else was given;
        None for another method.

    Raises:
        RequestError: As `load_settings`; for an unknown aim, one for another method, and text that cannot be read
            or has fewer than 200 sentences.
    """
    assignments = tuple(assignments)
    if aim is not None and aim not in AIMS:
        raise RequestError(f"--aim {aim}: unknown aim{did_you_mean(aim, AIMS)}")
    if aim is not None and method != AUTO:
        raise RequestError(f"--aim {aim}: is for --method auto alone; remove one of the two")
    if method != AUTO:
        return load_settings(below, method, assignments, **tables), None
    document = dict(below) if isinstance(below, Mapping) else read_document(Path(below)) if below else {}
    if aim is not None:
        tables = merge(AIMS[aim], tables)
    data = load_settings(document, method, assignments, **tables).data
    choice = choose(training_texts(data) if texts is None else each_text(texts))
    if data.vocabulary_of is not None:  # a run's tokenizer is taken
        del choice.document["data"]
    settings = load_settings(merge(choice.document, spelled_out(document)), method, assignments, **tables)
    taken = dict(leaves(settings.document()))
    kept = [
        f"{AUTO}: {choice.reasons[name]}"
        for name, table in choice.document.items()
        if all(taken.get(path) == value for path, value in leaves(table, name))
    ]
    return settings, kept


def default_method(assignments: Iterable[str] = (), **tables: Any) -> str:
    """Return the method where neither settings nor a method are given: `auto`.

    It is `vanilla`, the plain KL, beside terms that `auto` does not have, phases, or a model without a code.

    >>> default_method(), default_method(["train.epochs=3"], model={"latent": 8})
    ('auto', 'auto')
    >>> default_method(["objective.kl.weight=0.5"]), default_method(model={"latent": 0})
    ('vanilla', 'vanilla')
    """
    document = override(tables, assignments)
    objective, model = document.get("objective", {}), document.get("model", {})
    usual = read_document(methods()[AUTO])["objective"]
    other_terms = not isinstance(objective, Mapping) or objective.keys() - usual.keys()
    without_code = isinstance(model, Mapping) and model.get("latent") == 0
    return PLAIN if other_terms or without_code or "phase" in document else AUTO


def choose(texts: Iterable[str]) -> Choice:
    """Choose tokenizer, sizes and epochs for training sentences.

    The tokenizer is that of `suggest_tokenizer`. So many epochs are taken that training goes through about 3
    million tokens, but at least 5 and at most 40. A text of fewer than 200,000 tokens gets a small model.

    Raises:
        RequestError: If there are fewer than 200 sentences, or no word in them.
    """
    kept, every, sentences, words, characters = list[str](), 1, 0, 0, 0
    for text in filter(str.strip, texts):
        if sentences % every == 0:
            kept.append(text)
            if len(kept) > 2 * MEASURED:
                kept, every = kept[::2], 2 * every
        sentences, words, characters = sentences + 1, words + len(text.split()), characters + len(text)
    if sentences < FEWEST:
        raise RequestError(
            f"--method auto: chooses by the text, and {sentences} sentences are too few for that; give {FEWEST} or "
            "more, or another method, such as --method bow-annealing"
        )
    tokenizer = suggest_tokenizer(kept)
    tokens = characters if tokenizer.name == "character" else round(TOKENS_A_WORD * words)
    least, most = EPOCHS
    epochs = min(max(round(TOKENS / max(1, tokens)), least), most)
    latent, embedding, hidden = (16, 64, 128) if tokens < SMALL else (32, 128, 256)
    document = {
        "data": {"tokenizer": {"name": tokenizer.name}},
        "model": {
            "latent": latent,
            "embedding": embedding,
            "encoder": {"hidden": hidden},
            "decoder": {"hidden": hidden},
        },
        "train": {"epochs": epochs, "optimizer": {"lr": LEARNING_RATE}},
    }
    size = f"the text has {sentences:,} sentences of about {tokens / sentences:.0f} tokens."
    reasons = {
        "data": f"tokenizer {tokenizer.name!r}: {tokenizer.reason}",
        "model": f"latent {latent}, embedding {embedding}, hidden {hidden}: {size}",
        "train": f"{epochs} epochs, learning rate {LEARNING_RATE:g}: {size}",
    }
    return Choice(document, reasons)
