"""From the settings' `[data]` to tokens ready for training, kept in a cache beside the user's other caches."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from textvae.batches import TokenStore, build
from textvae.corpora import grammar, registry
from textvae.errors import RequestError
from textvae.files import writing
from textvae.settings import Data
from textvae.tokenizers import Tokenizer


class Corpus(NamedTuple):
    """A corpus as tokens: its name, tokenizer and splits."""

    name: str
    tokenizer: Tokenizer
    splits: dict[str, TokenStore]

    def split(self, name: str) -> TokenStore:
        """One split.

        Raises:
            RequestError: when the corpus has none of that name.
        """
        if name not in self.splits:
            raise RequestError(f"--split {name}: {self.name} has only {', '.join(self.splits)}")
        return self.splits[name]

    def description(self) -> dict[str, object]:
        """What identifies the data of a run: for each split its counts and the fingerprint of its tokens."""
        splits = {name: {**store.counts, "fingerprint": store.fingerprint} for name, store in self.splits.items()}
        return {"corpus": self.name, "vocabulary": len(self.tokenizer), "splits": splits}


def cache() -> Path:
    """Where token stores are kept: TEXTVAE_CACHE, or `textvae` in the user's cache folder."""
    place = os.environ.get("TEXTVAE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "textvae"
    return Path(place).expanduser()


def open_corpus(data: Data) -> Corpus:
    """The corpus that settings name, tokenized: from the cache where it is there and still right, else built.

    Raises:
        RequestError: for an unknown corpus, an unusable file, or a split that comes out empty.
        WorkError: when the cache cannot be written.
    """
    name, sources, columns = _sources(data)
    arguments = {
        "tokenizer": data.tokenizer.name,
        "vocabulary": data.tokenizer.vocabulary or None,
        "min_count": data.tokenizer.min_count,
        "lowercase": data.tokenizer.lowercase,
        "max_length": data.max_length,
        "too_long": data.too_long,
        "valid": data.split.valid,
        "test": data.split.test,
        "seed": data.split.seed,
        **columns,
    }
    places = {split: str(source.absolute()) for split, source in sources.items() if isinstance(source, Path)}
    identity = json.dumps([name, places, arguments], sort_keys=True)
    folder = cache() / "stores" / hashlib.sha256(identity.encode()).hexdigest()[:20]
    lock = FileLock(f"{folder}.lock")  # several processes may ask at once; the first one builds
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire()
    with held:
        splits = build(folder, sources, **arguments)
        return Corpus(name, Tokenizer.load(folder / "tokenizer.json"), splits)


def _sources(data: Data) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The corpus's name, where each split comes from, and which columns hold text and label."""
    columns: dict[str, Any] = {"column": data.column, "label": data.label}
    if data.train is not None:
        files = {"train": data.train, "valid": data.valid, "test": data.test}
        sources = {split: Path(file) for split, file in files.items() if file is not None}
        return Path(data.train).name, sources, columns
    if data.corpus is None:
        raise RequestError("data.corpus: no text given; name a corpus or a file, such as --data reviews.txt")
    if data.corpus == "grammar":
        return "grammar", dict(grammar.splits()), {"column": None, "label": None}
    if data.corpus in registry.CORPORA:
        found = registry.files(data.corpus, label=data.label)
        column = None if data.label is None else registry.find(data.corpus).label_column(data.label)
        return data.corpus, dict(found), {"column": None, "label": column}
    path = Path(data.corpus)
    if not os.path.exists(path) and path.name == data.corpus and not path.suffix:
        registry.find(data.corpus)  # neither a file nor a corpus: says so, with the nearest name
    return path.name, {"train": path}, columns
