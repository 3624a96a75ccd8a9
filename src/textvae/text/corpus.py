"""Corpora as tokens, made from the settings' `[data]` and cached in the user's cache folder."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
from filelock import FileLock

from textvae.errors import RequestError, did_you_mean
from textvae.files import writing
from textvae.settings import Data
from textvae.settings.problems import Problem, refuse
from textvae.text import grammar, registry
from textvae.text.batches import TokenStore, build
from textvae.text.coverage import MEASURED, unknown_tokens
from textvae.text.dialogues import DialogueColumns, known_columns
from textvae.text.readers import Reading, Sentence
from textvae.text.reviews import ATTRIBUTES
from textvae.text.sources import Columns, reading, texts_of
from textvae.text.store import fingerprints, finished, spaced
from textvae.text.tokenizers import Tokenizer

# Lines of a text from which a sample of it is drawn.
READ = 40_000
# Sentences that are turned into text at once.
DECODED = 4096


class FilePlaces(TypedDict, total=False):
    """Places of a file: its absolute path, and its path relative to a run."""

    absolute: str
    relative: str


class Corpus(NamedTuple):
    """A tokenized corpus: its name, tokenizer and splits, of sentences or of pieces of running text."""

    name: str
    tokenizer: Tokenizer
    splits: dict[str, TokenStore]

    def split(self, name: str) -> TokenStore:
        """Return one split.

        Raises:
            RequestError: If the corpus has no split of that name.
        """
        if name not in self.splits:
            raise RequestError(f"--split {name}: {self.name} has only {', '.join(self.splits)}")
        return self.splits[name]

    def texts(self, name: str) -> Iterator[str]:
        """Yield the sentences of one split as text, some at a time.

        Raises:
            RequestError: As `split`.
        """
        store = self.split(name)
        for begin in range(0, len(store), DECODED):
            rows = np.arange(begin, min(begin + DECODED, len(store)))
            yield from self.tokenizer.decode_batch(store.sentences(rows))

    def description(self) -> dict[str, object]:
        """Return the description that identifies the data of a run: counts and fingerprints of each split."""
        splits = {
            name: {
                **store.counts,
                "fingerprint": store.fingerprint,
                **({} if store.label_hash is None else {"labels": store.label_hash}),
                **({} if store.condition_hash is None else {"conditions": store.condition_hash}),
            }
            for name, store in self.splits.items()
        }
        unknown = {name: unknown_tokens(store) for name, store in self.splits.items()}
        shown: dict[str, object] = {"corpus": self.name, "vocabulary": len(self.tokenizer)}
        conditions = self.splits["train"].conditions if "train" in self.splits else None
        if conditions is not None:
            shown["conditions"] = dict(conditions.names)
            shown["condition_counts"] = self.splits["train"].conditions.counts()  # type: ignore[union-attr]
        return {**shown, "unknown_tokens": unknown, "splits": splits}


def training_texts(data: Data, mirror: Path | None = None) -> Iterator[str]:
    """Yield the texts that settings name to train on, blank ones left out; of a single file, split later, all.

    Texts that are conditions are among them, since they have the same vocabulary.

    Raises:
        RequestError: As `open_corpus`, for the text.
    """
    _, sources, columns = _sources(data, mirror)
    return texts_of(sources["train"], columns)


def readings(data: Data) -> Iterator[Reading]:
    """Yield the user's own files, opened.

    Raises:
        RequestError: As `open_corpus`, for the files.
    """
    files = own_files(data)
    return (reading(path, _sources(data, None)[2]) for path in files.values())


def sample_of(data: Data, lines: int = MEASURED, mirror: Path | None = None) -> list[str]:
    """Return up to `lines` training texts, evenly spaced over the first `READ`.

    Raises:
        RequestError: As `training_texts`.
    """
    texts = list(islice(training_texts(data, mirror), READ))
    return [texts[number] for number in spaced(len(texts), lines)]


def cache() -> Path:
    """Return the folder of the token stores: TEXTVAE_CACHE, or `textvae` in the user's cache folder."""
    place = os.environ.get("TEXTVAE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "textvae"
    return Path(place).expanduser()


def open_corpus(data: Data, mirror: Path | None = None) -> Corpus:
    """Return the corpus that settings name, tokenized: from the cache if it is there and up to date, else built.

    With `data.window` every split is divided into pieces of its running text; with `data.dialogue` or `data.source`
    its sentences are the utterances with others before them, or the targets. One cached store serves all windows.
    A registered corpus is read from the folder `mirror`, by default that of TEXTVAE_DATA.

    Raises:
        RequestError: For an unknown corpus, an unusable file, an empty split, a training text shorter than a
            window, and settings that have no effect with a window or exclude one another.
        WorkError: If the cache cannot be written.
    """
    refuse(window_problems(data) + condition_problems(data) + vocabulary_problems(data))
    name, sources, columns = _sources(data, mirror)
    arguments = {
        "tokenizer": data.tokenizer.name,
        "vocabulary": data.tokenizer.vocabulary or None,
        "min_count": data.tokenizer.min_count,
        "lowercase": data.tokenizer.lowercase,
        "max_length": None if data.window else data.max_length,
        "too_long": data.too_long,
        "right_to_left": data.right_to_left,
        "valid": data.split.valid,
        "test": data.split.test,
        "seed": data.split.seed,
        # names of stores without conditions stay as they were
        **{
            name: value
            for name, value in columns._asdict().items()
            if value is not None or name in ("column", "label")
        },
    }
    if data.vocabulary_of is not None:
        arguments["vocabulary_of"] = _given_tokenizer(data)
    places = {split: str(source.absolute()) for split, source in sources.items() if isinstance(source, Path)}
    identity = json.dumps([name, places, arguments], sort_keys=True, default=str)
    folder = cache() / "stores" / hashlib.sha256(identity.encode()).hexdigest()[:20]
    lock = FileLock(f"{folder}.lock")  # of several processes the first one builds
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire()
    with held:
        splits = build(folder, sources, **arguments)
        tokenizer = Tokenizer.load(folder / "tokenizer.json", data.right_to_left)
    if data.window is not None:
        tokens = len(splits["train"].ids)
        if tokens < data.window:
            raise RequestError(
                f"data.window = {data.window}: the training text of {name} has only {tokens} tokens; "
                f"give more text, or a window of {tokens} or less"
            )
    return Corpus(name, tokenizer, _viewed(splits, data))


def _viewed(splits: dict[str, TokenStore], data: Data) -> dict[str, TokenStore]:
    """Return the splits as settings name them: sentences, pieces of running text, responses, or targets."""
    if data.window is not None:
        return {split: store.pieces(data.window) for split, store in splits.items()}
    window = _response_window(data)
    return splits if window is None else {split: store.responses(window) for split, store in splits.items()}


def _response_window(data: Data) -> int | None:
    """Return the most texts of a condition and what it conditions; None for sentences by themselves."""
    if data.dialogue is not None:
        return data.dialogue.window
    return None if data.source is None else 2


def cached_corpora(data: Data, recorded: Mapping[str, Mapping[str, Any]]) -> Iterator[Corpus]:
    """Yield corpora of the cache whose splits have the recorded fingerprints, for text that is gone.

    Args:
        data: Settings of the text.
        recorded: Of each split its `fingerprint`, and those of its `labels` and `conditions` if `data` names such.
    """
    name, window = Path(data.train or data.corpus or "").name, _response_window(data)
    wanted = {split: own["fingerprint"] for split, own in recorded.items()}
    for folder in sorted((cache() / "stores").glob("*")):
        own = fingerprints(folder, data.window, window)
        if own != wanted or (splits := finished(folder)) is None:
            continue
        splits = _viewed(splits, data)
        for store in splits.values():  # what another run of this text has, this one may not have
            if data.label is None:
                store.labels, store.label_names, store.label_hash = None, [], None
            if not data.condition_on:
                store.conditions, store.condition_hash = None, None
        own_hashes = {split: (store.label_hash, store.condition_hash) for split, store in splits.items()}
        if all(
            hashes == (recorded[split].get("labels"), recorded[split].get("conditions"))
            for split, hashes in own_hashes.items()
        ):
            yield Corpus(name, Tokenizer.load(folder / "tokenizer.json", data.right_to_left), splits)


def registered(data: Data) -> bool:
    """Return True if settings name a corpus of the registry, not files."""
    return data.train is None and data.corpus in registry.CORPORA


def named_files(data: Data) -> dict[str, str]:
    """Return the files that settings name by path, and the run whose tokenizer they take, by setting."""
    names = ["train", "valid", "test", "vocabulary_of"]
    if data.train is None and not registered(data):
        names.insert(0, "corpus")
    return {name: value for name in names if (value := getattr(data, name)) is not None}


def file_places(data: Data, folder: Path) -> dict[str, FilePlaces]:
    """Return the places of `named_files`: absolute, and relative to a folder."""
    return {name: file_place(value, folder) for name, value in named_files(data).items()}


def file_place(file: Path | str, folder: Path) -> FilePlaces:
    """Return the places of a file: absolute, and relative to a folder."""
    path = os.path.abspath(file)
    own = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    places = FilePlaces(absolute=path)
    if os.path.splitdrive(own)[0] == os.path.splitdrive(os.path.realpath(folder))[0]:
        places["relative"] = Path(os.path.relpath(own, os.path.realpath(folder))).as_posix()
    return places


def places_of(places: Mapping[str, Any], folder: Path) -> list[Path]:
    """Return the paths at which a file may be that was recorded by `file_place` for a folder."""
    absolute, relative = places.get("absolute"), places.get("relative")
    paths = [] if absolute is None else [Path(absolute)]
    return paths if relative is None else [*paths, Path(os.path.normpath(folder.absolute() / relative))]


def window_problems(data: Data) -> list[Problem]:
    """Return the settings that have no effect with a window."""
    default = Data()
    reason = "has no effect with data.window, which cuts running text"
    return [
        Problem(f"data.{name}", reason, "remove one of the two", value=getattr(data, name))
        for name in ("max_length", "too_long", "label")
        if data.window is not None and getattr(data, name) != getattr(default, name)
    ]


def condition_problems(data: Data) -> list[Problem]:
    """Return the settings that exclude a dialogue or a source as the condition."""
    problems = []
    for name in ("dialogue", "source"):
        if getattr(data, name) is None:
            continue
        for other in ("condition_on", "source", "window"):
            if other != name and getattr(data, other):
                reason = f"cannot be together with data.{name}"
                problems.append(
                    Problem(f"data.{other}", reason, "remove one of the two", value=getattr(data, other))
                )
    if data.dialogue is not None and data.too_long == "drop":
        reason = "with data.dialogue, a dropped utterance would break the contexts after it"
        problems.append(Problem("data.too_long", reason, "set 'cut', or leave it out", value="drop"))
    if data.source is not None and data.source == data.column:
        reason = "is the column of the text itself"
        problems.append(Problem("data.source", reason, "name another one", value=data.source))
    return problems


def vocabulary_problems(data: Data) -> list[Problem]:
    """Return the settings that have no effect with a given tokenizer."""
    default = type(data.tokenizer)()
    reason = "has no effect with data.vocabulary_of, which gives the tokenizer"
    return [
        Problem(f"data.tokenizer.{name}", reason, "remove one of the two", value=getattr(data.tokenizer, name))
        for name in ("vocabulary", "min_count", "lowercase")
        if data.vocabulary_of is not None and getattr(data.tokenizer, name) != getattr(default, name)
    ]


def _given_tokenizer(data: Data) -> Path:
    """Return the file of the tokenizer that settings name, after checking its kind."""
    named = Path(data.vocabulary_of or "")
    path = (named / "tokenizer.json" if named.is_dir() else named).absolute()
    if not path.is_file():
        raise RequestError(f"data.vocabulary_of = {data.vocabulary_of!r}: is neither a run nor a tokenizer.json")
    kind = Tokenizer.load(path).name
    if kind != data.tokenizer.name:
        remedy = f"set data.tokenizer.name = {kind!r}"
        raise RequestError(f"data.vocabulary_of = {data.vocabulary_of!r}: is a {kind} tokenizer; {remedy}")
    return path


def own_files(data: Data) -> dict[str, Path]:
    """Return the text files that settings name by path, by split; none for a known corpus.

    Raises:
        RequestError: For a name that is neither a file nor a known corpus.
    """
    if data.train is not None:
        files = {"train": data.train, "valid": data.valid, "test": data.test}
        return {split: Path(file) for split, file in files.items() if file is not None}
    if data.corpus is None or data.corpus in registry.CORPORA:
        return {}
    path = Path(data.corpus)
    if not os.path.exists(path) and path.name == data.corpus and not path.suffix:
        registry.find(data.corpus)  # raises, with the nearest name
    return {"train": path}


def _reviews(attributes: Sequence[str]) -> dict[str, Any]:
    """Return the splits of `grammar`, with the attributes of each sentence if some are named.

    Raises:
        RequestError: For an attribute that the grammar does not have.
    """
    for name in attributes:
        if name not in ATTRIBUTES:
            near = did_you_mean(name, ATTRIBUTES, f"; it has {', '.join(ATTRIBUTES)}")
            raise RequestError(f"data.condition_on: grammar has no attribute {name!r}{near}")
    splits: dict[str, Any] = dict(grammar.splits())
    if attributes:
        language = grammar.reviews()
        for split, texts in splits.items():
            parsed = ((text, language.attributes(text) or {}) for text in texts)
            splits[split] = [
                Sentence(text, None, line, tuple(values[name] for name in attributes))
                for line, (text, values) in enumerate(parsed, 1)
            ]
    return splits


def _sources(data: Data, mirror: Path | None) -> tuple[str, dict[str, Any], Columns]:
    """Return the corpus's name, the source of each split, and the columns of text, label and conditions."""
    named = data.dialogue
    dialogue = None if named is None else DialogueColumns(named.dialogue, named.speaker, named.turn)
    conditions: dict[str, str | int] = {name: name for name in data.condition_on}
    columns = Columns(data.column, data.label, conditions, data.source, dialogue)
    if data.train is not None:
        return Path(data.train).name, dict(own_files(data)), columns
    if data.corpus is None:
        raise RequestError("data.corpus: no text given; name a corpus or a file, such as --data reviews.txt")
    if data.corpus == "grammar":
        for setting in ("dialogue", "source"):
            if getattr(data, setting) is not None:
                raise RequestError(f"data.{setting}: grammar has sentences by themselves; give another corpus")
        return "grammar", _reviews(data.condition_on), Columns(condition_on=conditions)
    if data.corpus in registry.CORPORA:
        return _registered_sources(data.corpus, columns, mirror)
    return Path(data.corpus).name, dict(own_files(data)), columns


def _registered_sources(name: str, asked: Columns, mirror: Path | None) -> tuple[str, dict[str, Any], Columns]:
    """Return what `_sources` does for a corpus of the registry, whose columns have names but no header."""
    known = registry.find(name)

    def at(label: str | int, setting: str) -> int:
        return known.label_column(str(label), setting)

    label = None if asked.label is None else at(asked.label, "label")
    conditions: dict[str, str | int] = {str(one): at(one, "condition_on") for one in asked.condition_on or {}}
    source = None if asked.source is None else at(asked.source, "source")
    dialogue = None
    if asked.dialogue is not None:
        own = known_columns(asked.dialogue, list(known.labels), f"data.dialogue: {name}")
        dialogue = DialogueColumns(*(at(one, "dialogue") for one in own))
    tables = label is not None or source is not None or dialogue is not None or bool(conditions)
    files = registry.files(name, mirror, next(iter(known.labels)) if tables else None)
    return name, dict(files), Columns(None, label, conditions, source, dialogue)
