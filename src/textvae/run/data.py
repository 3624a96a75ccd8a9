"""The text of a run: found where it was, beside the run, in the cache, or where a command is pointed to."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from textvae.errors import RequestError
from textvae.run import Run
from textvae.run.records import label_names
from textvae.settings import Data
from textvae.text.batches import TokenStore
from textvae.text.corpus import Corpus, cached_corpora, named_files, open_corpus, registered


class OtherText(RequestError):
    """Text that is not the text that a run was made with."""


def corpus_of(run: Run, label: str | None = None) -> Corpus:
    """Return the corpus that a run was trained on.

    Its files are looked for at `run.text` if that is given. Else they are taken from their recorded absolute paths,
    or from the same paths relative to the run, or as its settings name them; and if they are gone, from the tokens
    in the cache that have their fingerprint.

    Args:
        run: The run.
        label: A column of labels other than that of the run's settings.

    Raises:
        RequestError: If the text is missing.
        OtherText: If it has changed since the run was made.
    """
    own = {} if label is None else {"label": label}
    if run.text is not None:
        data, mirror = _pointed(run, run.text)
        corpus = open_corpus(data.model_copy(update=own), mirror)
        check_same_data(run, corpus)
        return corpus
    errors = list[RequestError]()
    for data in _candidates(run):
        try:
            corpus = open_corpus(data.model_copy(update=own))
            check_same_data(run, corpus)
            return corpus
        except OtherText as error:
            errors.insert(0, error)
        except RequestError as error:
            present = not registered(data) and _present(data)
            errors.append(_changed(run, data, error) if present and label is None else error)
    if not isinstance(errors[0], OtherText) and label is None:
        for corpus in cached_corpora(run.settings.data, _recorded(run)):
            if not any(_differences(run, corpus)):
                return corpus
    raise errors[0]


def located(run: Run) -> Data:
    """Return the run's `[data]` with its files where they are now, as far as they are found."""
    return next(_candidates(run))


def check_same_data(run: Run, corpus: Corpus) -> None:
    """Refuse to resume or evaluate a run with text other than it was trained on.

    Raises:
        OtherText: Naming the first difference.
    """
    for what, sizes in _differences(run, corpus):
        remedy = "restore the old file, or train again" if run.text is None else "give --data the text itself"
        raise OtherText(
            f"{corpus.name}: its {what} is not the one that {run.folder} was made with: the text has "
            f"changed{sizes}; {remedy}"
        )


def _differences(run: Run, corpus: Corpus) -> Iterator[tuple[str, str]]:
    """Yield what of a corpus is not what a run was made with, and the sizes that differ."""
    for name, then in _recorded(run).items():
        now = corpus.splits.get(name)
        if now is None:
            yield f"{name} split", ", there is none now"
        elif now.fingerprint != then["fingerprint"]:
            yield f"{name} split", _sizes(then, now.counts)
        elif now.condition_hash != then.get("conditions") or not _same_names(run, now):
            yield f"condition of the {name} split", ""
    if run.tokenizer.tokens != corpus.tokenizer.tokens:  # counts of words may agree where words do not
        yield "vocabulary", ""


def _same_names(run: Run, store: TokenStore) -> bool:
    """Return True if numbers of labels stand for the same labels."""
    return store.conditions is None or dict(store.conditions.names) == dict(label_names(run.environment))


def _sizes(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the sizes of a split then and now, if they are known and differ."""
    old, new = ([counts.get("sentences"), counts.get("tokens")] for counts in (then, now))
    if None in old or old == new:
        return ""
    return f" (from {old[0]:,} sentences, {old[1]:,} tokens to {new[0]:,}, {new[1]:,})"


def _recorded(run: Run) -> Mapping[str, Mapping[str, Any]]:
    """Return what the run's folder records of each split of its text."""
    try:
        splits = run.environment["data"]["splits"].items()
        return {name: {**split, "fingerprint": split["fingerprint"]} for name, split in splits}
    except (KeyError, TypeError, AttributeError):
        path = run.folder / "environment.json"
        raise RequestError(f"{path}: damaged: it has no record of the data; restore an intact copy") from None


def _changed(run: Run, data: Data, error: RequestError) -> OtherText:
    """Return the error for text that is there but can no longer be used."""
    name = Path(data.train or data.corpus or "").name
    reason = str(error).partition(";")[0]  # its remedy does not apply here
    return OtherText(
        f"{name}: has changed since {run.folder} was made with it, and cannot be used as it is now ({reason}); "
        "restore the old file, or train again"
    )


def _present(data: Data) -> bool:
    """Return True if all files that settings name can be read."""
    return all(os.access(file, os.R_OK) for file in named_files(data).values())


def _candidates(run: Run) -> Iterator[Data]:
    """Yield the run's `[data]` with its files where they may be now, each combination once."""
    data, seen = run.settings.data, list[Data]()
    for order in (("absolute", "relative", "named"), ("relative", "named", "absolute")):
        paths = {}
        for name, named in named_files(data).items():
            places: Mapping[str, Any] = run.places.get(name) or {}
            relative = places.get("relative")
            known = {
                "absolute": places.get("absolute", named),
                "relative": named if relative is None else os.path.normpath(run.folder.absolute() / relative),
                "named": named,
            }
            there = [known[place] for place in order if os.path.exists(known[place])]
            paths[name] = (there or [named])[0]
        candidate = _with_tokenizer(run, data.model_copy(update=paths))
        if candidate not in seen:
            seen.append(candidate)
            yield candidate


def _with_tokenizer(run: Run, data: Data) -> Data:
    """Return `[data]` with the run's own copy of a given tokenizer, if that is gone from its place."""
    if data.vocabulary_of is None or os.path.exists(data.vocabulary_of):
        return data
    return data.model_copy(update={"vocabulary_of": str(run.folder / "tokenizer.json")})


def _pointed(run: Run, place: Path) -> tuple[Data, Path | None]:
    """Return the run's `[data]` with its files at a place, or the mirror that has its registered corpus.

    Raises:
        RequestError: If it cannot be there.
    """
    data = run.settings.data
    if not place.exists():
        raise RequestError(f"--data {place}: no such file or folder")
    if registered(data):
        if data.corpus == "grammar":
            raise RequestError(f"--data {place}: the text of {run.folder} is part of the program; leave --data out")
        if not place.is_dir():
            raise RequestError(
                f"--data {place}: {run.folder} was made with the corpus {data.corpus}; give the folder of corpora, "
                "as in TEXTVAE_DATA"
            )
        return data, place
    files = {name: file for name, file in named_files(data).items() if name != "vocabulary_of"}
    if not place.is_dir():
        if len(files) > 1:
            names = ", ".join(Path(file).name for file in files.values())
            raise RequestError(f"--data {place}: {run.folder} was made with {names}; give the folder that has them")
        return _with_tokenizer(run, data.model_copy(update=dict.fromkeys(files, str(place)))), None
    whole = {name: os.path.abspath(file) for name, file in files.items()}
    above = os.path.commonpath([os.path.dirname(file) for file in whole.values()])
    found = {}
    for name, file in whole.items():
        both = [place / os.path.relpath(file, above), place / os.path.basename(file)]
        there = [path for path in both if path.is_file()]
        if not there:
            missing = both[0].relative_to(place)
            raise RequestError(f"--data {place}: has no file {missing}, which {run.folder} was made with")
        found[name] = str(there[0])
    return _with_tokenizer(run, data.model_copy(update=found)), None
