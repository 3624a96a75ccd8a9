"""The texts that language models of forward cross entropy are trained on, kept under names of what made them."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from textvae.errors import RequestError
from textvae.files import file_digest, replacing
from textvae.generate.codec import MEASURED
from textvae.generate.decoding import GPU_ROWS, Decoding
from textvae.generate.trained import Trained
from textvae.run import Run, model_of
from textvae.run.folder import own_folder
from textvae.text.cutting import SPECIALS
from textvae.text.packed import Packed
from textvae.text.readers import one_line
from textvae.text.tokenizers import UNK, Tokenizer

# Of every so many synthetic sentences one more is drawn, to validate on.
HELD_OUT = 20
# Sentences decoded at once: a multiple of those that are decoded side by side.
SAMPLED = GPU_ROWS
# Keeps the drawing of human sentences apart from other uses of a seed.
_HUMAN = 5


@dataclass(frozen=True)
class Plan:
    """Settings of forward cross entropy.

    `n` sentences make a synthetic corpus and there are `draws` of them, from the seeds `seed`, `seed` + 1, ...
    `vocabulary` is that of the language models: `common`, the words (characters in models of those) that every
    corpus has, of all runs and draws (the paper's are those of three corpora, one a run), or `run`, that of the
    runs. A language model is trained for
    `epochs` at most.

    Raises RequestError for a number below 1 and an unknown vocabulary.
    """

    decoding: Decoding = MEASURED
    n: int = 20_000
    draws: int = 3
    vocabulary: str = "common"
    seed: int = 0
    epochs: int = 20
    batch_size: int = 32

    def __post_init__(self) -> None:
        for name in ("n", "draws", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} = {getattr(self, name)}: must be 1 or more")
        if self.vocabulary not in ("common", "run"):
            raise RequestError(f"vocabulary: {self.vocabulary!r} is neither 'common' nor 'run'")

    @property
    def seeds(self) -> range:
        """One for each draw."""
        return range(self.seed, self.seed + self.draws)


class Files(NamedTuple):
    """The files that one language model is trained and validated on."""

    train: Path
    valid: Path


def synthetic_files(run: Run, plan: Plan, seed: int, out: Path) -> Files:
    """Return the run's text from the seed's draws of the prior, and more from further draws to validate on."""
    held = -(-plan.n // HELD_OUT)
    made_from = [file_digest(run.folder / "model.safetensors"), asdict(plan.decoding), plan.n, held, seed]
    if run.fitted is not None:
        made_from.append(run.fitted.name)
    if run.beta is not None:
        made_from.append(run.beta)
    files = Files(*(_place(out, name, made_from) for name in ("train", "valid")))
    if not all(file.exists() for file in files):
        texts = Packed(_sampled(Trained(run, model_of(run)), plan.n + held, seed, plan.decoding))
        filled = np.fromiter(map(bool, texts), bool, len(texts))
        if not filled[: plan.n].any():
            raise RequestError(
                f"{run.folder}: writes only empty sentences by {plan.decoding.brief} decoding; "
                "there is nothing to train on"
            )
        if not filled[plan.n :].any():
            raise RequestError(
                f"{run.folder}: with n = {plan.n}, {held} further sentences are to tell when a language model has "
                f"learned enough, and all that it wrote are empty; draw more, {10 * plan.n} for example"
            )
        _write(files.train, islice(texts, plan.n))
        _write(files.valid, islice(texts, plan.n, None))
    return files


def _sampled(trained: Trained, n: int, seed: int, decoding: Decoding) -> Iterator[str]:
    """Yield sentences from the prior, decoded some at a time."""
    for begin in range(0, n, SAMPLED):
        yield from trained.sample(min(SAMPLED, n - begin), seed, decoding, begin)


def human_files(human: Mapping[str, Sequence[str]], plan: Plan, seed: int, out: Path) -> Files:
    """Return as many human sentences of the training split, drawn by the seed, and the validation split."""
    texts = human["train"]
    chosen = np.arange(len(texts))
    if plan.n < len(texts):
        chosen = np.sort(np.random.default_rng([seed, _HUMAN]).choice(len(texts), plan.n, replace=False))
    drawn = Packed(texts[row] for row in chosen.tolist())
    return Files(
        kept(out, "human-train", [fingerprint(drawn)], drawn),
        kept(out, "human-valid", [fingerprint(human["valid"])], human["valid"]),
    )


def vocabulary_file(run: Run, synthetic: Sequence[Files], plan: Plan, out: Path) -> Path:
    """Return the tokenizer of all language models."""
    if plan.vocabulary == "run":
        return (run.folder / "tokenizer.json").absolute()
    name = run.tokenizer.name
    each = [_pieces(files.train, run.tokenizer) for files in synthetic]
    common = sorted(reduce(set.intersection, each) - {SPECIALS[UNK]})
    if not common:
        raise RequestError(
            "vocabulary: no word is in every synthetic corpus; draw more sentences, or take the runs' vocabulary"
        )
    path = out / "vocabulary" / f"{fingerprint(common if name == 'word' else [name, *common])[:20]}.json"
    if not path.exists():
        own_folder(out, "vocabulary")
        Tokenizer.of(name, common).save(path)
    return path


def _pieces(path: Path, tokenizer: Tokenizer) -> set[str]:
    """Return the different words or characters of a file, whether or not they are in the vocabulary."""
    with path.open(encoding="utf-8") as file:
        return {piece for line in file for piece in tokenizer.pieces(line.rstrip("\n"))}


def fingerprint(texts: Iterable[str]) -> str:
    """Return a digest of sentences."""
    hashed = hashlib.sha256()
    for number, text in enumerate(texts):
        hashed.update((f"\n{text}" if number else text).encode())
    return hashed.hexdigest()


def kept(out: Path, name: str, made_from: Any, texts: Sequence[str]) -> Path:
    """Return the file of texts, written unless it is there."""
    path = _place(out, name, made_from)
    if not path.exists():
        _write(path, texts)
    return path


def _place(out: Path, name: str, made_from: Any) -> Path:
    """Return the path of a kept text, whose name identifies what it was made from."""
    return (out / "text" / f"{key(made_from)}-{name}.txt").absolute()


def _write(path: Path, texts: Iterable[str]) -> None:
    own_folder(path.parent.parent, path.parent.name)
    with replacing(path) as file:
        for text in texts:
            file.write(one_line(text).encode() + b"\n")  # bytes of a `bpe` model may be line breaks, and NUL


def key(made_from: Any) -> str:
    """Return a name for what was made from these values."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:20]
