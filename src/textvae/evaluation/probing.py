"""Does a run's code tell labels of its sentences? Against the commonest label, and against a bag of words."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import textvae
from textvae.errors import RequestError
from textvae.generate.trained import Trained, load
from textvae.metrics import probe as metric
from textvae.metrics.signature import signature
from textvae.metrics.splits import bag, groups_of, held_out
from textvae.progress import Progress
from textvae.run import Run
from textvae.run.data import OtherText, corpus_of
from textvae.run.records import label_names
from textvae.text import grammar, readers
from textvae.text.conditions import Labels, Turns
from textvae.text.readers import Sentence
from textvae.text.store import TokenStore, spaced

# How many labels are learned from; None is all.
SIZES: tuple[int | None, ...] = (100, 1000, None)
# A label of more values is hardly a label.
MOST_VALUES = 200
# Of a single file one sentence in so many is tested on, and not more than that.
TEST_SHARE, MOST_TESTED = 5, 10_000
# Labelled sentences that are learned from at most, and of a text of its own tested on. A file of any length is read
# in the memory of these.
MOST_LEARNED = 100_000

Ids = list[list[int]]


class Labelled(NamedTuple):
    """Sentences as tokens, end marks included, to learn from and to test on, and their labels by name.

    `place` is where the label was named, for messages. `conditions` are those of the sentences of both, if the
    model has conditions.
    """

    train: Ids
    test: Ids
    labels: dict[str, tuple[list[str], list[str]]]
    unlabelled: int = 0
    place: str = "--label"
    conditions: tuple[Labels | Turns | None, Labels | Turns | None] = (None, None)


def probe_run(
    folder: Path | str | Run,
    label: str | None = None,
    file: Path | str | None = None,
    test_file: Path | str | None = None,
    column: str | None = None,
    sizes: Sequence[int | None] | None = None,
    draws: int = 5,
    seed: int = 0,
    split: str = "test",
    progress: Progress | None = None,
    tell: Callable[[readers.Reading], None] | None = None,
) -> dict[str, Any]:
    """Logistic regression from posterior means, and from a bag of words, to a label; accuracies on other sentences.

    `label` is a column of `file`, or of the run's own text: that of its settings unless it is given. Of the corpus
    `grammar` it is an attribute, by default each. Of one file a fifth is tested on, without a sentence that was
    learned from, else `test_file`; of the run's own text its `split`. Test sentences with the same words as one
    that was learned from, of which the latter two may have some, are counted (`tested_in_training`). `sizes` are
    numbers of labels to learn from, None for all; without them 100, 1,000 and
    all, those that there are. See `metrics.probe` for what is learned and how it is averaged. `tell` is given each
    file's reader at its end, which says which columns were read.

    Raises:
        RequestError: by a language model or a model of windows; where the label is not there, has one value only,
            or more than 200; for more labels than there are; as `corpus_of` and `readers.read`.
    """
    for name, number in (("draws", draws), *(("labels", size) for size in sizes or () if size is not None)):
        if number < 1:
            raise RequestError(f"{name} = {number}: must be 1 or more")
    trained = load(folder)
    require_codes(trained)
    if file is None and (test_file is not None or column is not None):
        raise RequestError("--test-file and --column: say more about --file FILE; give it too")
    given = (
        own_labels(trained, label, split)
        if file is None
        else file_labels(trained, label, file, test_file, column, seed, tell)
    )
    return {"run": str(trained.run.folder), "probes": probes(trained, given, sizes, draws, seed, progress)}


def require_codes(trained: Trained) -> None:
    """Refuse a model without codes of sentences.

    Raises:
        RequestError: by a language model, and by a model of windows.
    """
    if trained.model.prior is None:
        raise RequestError(f"{trained.run.folder}: is a language model: it has no latent code to probe")
    if trained.window is not None:
        raise RequestError(f"{trained.run.folder}: is a model of pieces of running text, which have no labels")


def own_labels(trained: Trained, label: str | None, split: str = "test") -> Labelled:
    """Return the run's own sentences with their labels: those of its training split and of `split`.

    Raises:
        RequestError: where there is no such label, or the data has changed.
    """
    if split == "train":
        raise RequestError("--split train: is what the probe learns from; give valid or test")
    data = trained.run.settings.data
    if data.corpus == "grammar" and data.train is None:
        return _attributes(trained, label, split)
    place = "data.label" if label is None else "--label"
    label = data.label if label is None else label
    if label is None and data.condition_on:
        return _conditions(trained, split)
    if label is None:
        raise RequestError(
            f"{trained.run.folder}: its text has no label; `textvae probe` takes one of its columns with "
            "--label NAME, and other labelled text with --file FILE"
        )
    corpus = trained.corpus
    if label != data.label:
        try:
            corpus = corpus_of(trained.run, label)
        except OtherText:
            raise RequestError(
                f"{place} {label}: the labelled text of {corpus.name} is not, word for word, what the run was "
                "trained on; `textvae probe` takes other labelled text with --file FILE"
            ) from None
    parts = [corpus.split("train"), corpus.split(split)]
    rows = [spaced(len(store), MOST_LEARNED) for store in parts]
    ids = [store.sentences(own) for store, own in zip(parts, rows, strict=True)]
    numbers = [
        [] if store.labels is None else store.labels[own].tolist() for store, own in zip(parts, rows, strict=True)
    ]
    names = [[store.label_names[number] for number in own] for store, own in zip(parts, numbers, strict=True)]
    found = _labelled(str(label), ids[0], names[0], ids[1], names[1])
    train, test = (_under(store, own[kept]) for store, own, kept in zip(parts, rows, _known(names), strict=True))
    return found._replace(place=place, conditions=(train, test))


def _known(names: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Return the positions of labels that are not blank."""
    return [np.array([at for at, name in enumerate(own) if name], dtype=np.int64) for own in names]


def _under(store: TokenStore, rows: np.ndarray) -> Labels | Turns | None:
    """Return the conditions of some sentences; None without such."""
    return store.condition(rows)


def _conditions(trained: Trained, split: str) -> Labelled:
    """Return the run's own sentences with the labels that its model is conditioned on."""
    parts = [trained.corpus.split("train"), trained.corpus.split(split)]
    rows = [spaced(len(store), MOST_LEARNED) for store in parts]
    ids = [store.sentences(own) for store, own in zip(parts, rows, strict=True)]
    labels = {}
    for at, (column, values) in enumerate(label_names(trained.run.environment).items()):
        numbers = [store.conditions.values[own, at] for store, own in zip(parts, rows, strict=True)]  # type: ignore[union-attr]
        train, test = ([values[number] for number in own] for own in numbers)
        labels[column] = (train, test)
    under = [_under(store, own) for store, own in zip(parts, rows, strict=True)]
    return Labelled(ids[0], ids[1], labels, 0, "data.condition_on", (under[0], under[1]))


def file_labels(
    trained: Trained,
    label: str | None,
    file: Path | str,
    test_file: Path | str | None = None,
    column: str | None = None,
    seed: int = 0,
    tell: Callable[[readers.Reading], None] | None = None,
) -> Labelled:
    """Return the labelled sentences of a file, a drawn fifth of them to test on; or of two files.

    Sentences of the same words, in any order, are both learned from or both tested on: to a bag of words they are
    one sentence. So is the fifth smaller where one sentence is more than a fifth of the file.

    Raises:
        RequestError: as `readers.read`, without a label, and where all sentences have the same words.
    """
    if label is None:
        raise RequestError(f"--file {file}: name the column of the label with --label")
    parts = []
    for number, path in enumerate((file,) if test_file is None else (file, test_file)):
        reading = readers.read(path, column, label)
        found = drawn(reading, MOST_LEARNED, seed, number)
        if tell is not None:
            tell(reading)
        ids, seen = trained.token_ids([sentence.text for sentence in found])
        trained.warn_of(seen)
        parts.append((ids, [sentence.label or "" for sentence in found]))
    if test_file is None:
        ids, names = parts[0]
        _check_values(f"--label {label}", [name for name in names if name])
        groups = groups_of(_bags(trained, ids))
        order = np.random.default_rng([seed, 8]).permutation(int(groups.max()) + 1)
        tested = min(max(1, len(ids) // TEST_SHARE), MOST_TESTED)
        held, kept = (np.sort(rows).tolist() for rows in held_out(groups, order, [tested]))
        if not held:
            raise RequestError(
                f"--file {file}: all {len(ids):,} sentences have the same words, so none is left to test on; "
                "give others with --test-file"
            )
        parts = [([ids[i] for i in rows], [names[i] for i in rows]) for rows in (kept, held)]
    return _labelled(label, *parts[0], *parts[1])


def drawn(sentences: Iterable[Sentence], most: int, seed: int, number: int = 0) -> list[Sentence]:
    """All sentences, or of more than `most` that many, each as likely as any other, in their order.

    Draws of several files, each of its `number`, are independent.

    References: Vitter 1985, "Random sampling with a reservoir", algorithm R.
    """
    random, kept = np.random.default_rng([seed, 9, number]), list[tuple[int, Sentence]]()
    for number, sentence in enumerate(sentences):
        if number < most:
            kept.append((number, sentence))
        elif (place := int(random.integers(number + 1))) < most:
            kept[place] = (number, sentence)
    return [sentence for _, sentence in sorted(kept, key=itemgetter(0))]


def probes(
    trained: Trained,
    given: Labelled,
    sizes: Sequence[int | None] | None = None,
    draws: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the accuracies for every label, as JSON has them.

    Raises:
        RequestError: as `probe_run`.
    """
    for label, (train, test) in given.labels.items():
        _check(f"{given.place} {label}", train, test)
    asked = _sizes(sizes, len(given.train))
    codes = metric.standardised(
        trained.means_of(given.train, given.conditions[0]).numpy().astype(np.float64),
        trained.means_of(given.test, given.conditions[1]).numpy().astype(np.float64),
    )
    words = metric.bags(_tokens(trained, given.train), _tokens(trained, given.test))
    learned, tested = set(_bags(trained, given.train)), _bags(trained, given.test)
    again, groups = sum(own in learned for own in tested), groups_of(tested)
    found, done, total = {}, 0, len(given.labels) * len(asked)
    for label, (train, test) in given.labels.items():
        rows = []
        for size in asked:
            told = [
                metric.probe(known, train, other, test, size, draws, seed, groups).document()
                for known, other in (codes, words)
            ]
            rows.append(dict(zip(("code", "bag_of_words"), told, strict=True)))
            done += 1
            if progress is not None:
                progress(done, total)
        found[label] = {
            "values": len(set(train)),
            "labelled": len(train),
            "tested": len(test),
            "tested_in_training": again,
            "unlabelled": given.unlabelled,
            "majority": metric.majority(train, test, groups).document(),
            "sizes": rows,
            "signature": _signature(trained, label, given, draws, seed),
        }
    return found


def _attributes(trained: Trained, label: str | None, split: str) -> Labelled:
    """Return the embedded grammar's sentences with their true attributes, without those that are cut."""
    language = grammar.reviews()
    names = list(language.values) if label is None else [label]
    if not set(names) <= set(language.values):
        raise RequestError(f"--label {label}: the grammar has {', '.join(language.values)}")
    corpus = trained.corpus
    parts, under, left_out = [], list[Labels | Turns | None](), 0
    for store in (corpus.split("train"), corpus.split(split)):
        ids = store.sentences()
        known = [language.attributes(text) for text in trained.tokenizer.decode_batch(ids)]
        kept = [(row, found) for row, found in zip(ids, known, strict=True) if found is not None]
        under.append(_under(store, np.array([at for at, found in enumerate(known) if found is not None], np.int64)))
        left_out += len(ids) - len(kept)
        parts.append(([row for row, _ in kept], {name: [found[name] for _, found in kept] for name in names}))
    labels = {name: (parts[0][1][name], parts[1][1][name]) for name in names}
    return Labelled(parts[0][0], parts[1][0], labels, left_out, conditions=(under[0], under[1]))


def _labelled(label: str, train: Ids, train_labels: list[str], test: Ids, test_labels: list[str]) -> Labelled:
    """Return the sentences with their labels; those whose label is blank are left out."""
    kept = [
        [(row, name) for row, name in zip(ids, names, strict=True) if name]
        for ids, names in ((train, train_labels), (test, test_labels))
    ]
    ids = [[row for row, _ in part] for part in kept]
    names = [[name for _, name in part] for part in kept]
    left_out = len(train) + len(test) - len(ids[0]) - len(ids[1])
    return Labelled(ids[0], ids[1], {label: (names[0], names[1])}, left_out)


def _check(place: str, train: Sequence[str], test: Sequence[str]) -> None:
    """Refuse labels that cannot be probed."""
    if not train or not test:
        raise RequestError(f"{place}: no labelled sentence to {'test on' if train else 'learn from'}")
    _check_values(place, train)


def _check_values(place: str, labels: Sequence[str]) -> None:
    """Refuse labels of one value, and of more than a label has."""
    values = set(labels)
    if len(values) == 1:
        raise RequestError(f"{place}: has one value only, {labels[0]!r}; a probe needs two")
    if len(values) > MOST_VALUES:
        raise RequestError(f"{place}: has {len(values):,} values, more than {MOST_VALUES}; is it the right column?")


def _sizes(sizes: Sequence[int | None] | None, labelled: int) -> list[int | None]:
    """Return the numbers of labels to learn from: those asked for, or those of the usual ones that there are."""
    if sizes is None:
        return [size for size in SIZES if size is None or size < labelled]
    for size in sizes:
        if size is not None and size > labelled:
            raise RequestError(
                f"--label-counts {size}: there are only {labelled:,} labelled sentences to learn from; "
                "ask for fewer, or `all`"
            )
    return list(sizes)


def _tokens(trained: Trained, ids: Ids) -> list[list[Hashable]]:
    """Return the bag of a text: the tokens that the model reads; for a model of characters also its words."""
    if trained.tokenizer.name != "character":
        return [list(row[:-1]) for row in ids]
    return [[*text, *text.split()] for text in trained.tokenizer.decode_batch(ids)]


def _bags(trained: Trained, ids: Ids) -> list[Hashable]:
    """Return a key of each sentence, which those have in common that are one to a bag of words."""
    return [bag(row) for row in _tokens(trained, ids)]


def _signature(trained: Trained, label: str, given: Labelled, draws: int, seed: int) -> str:
    """Return the signature of the accuracies, which also depend on the number of labels."""
    return signature(
        "probe-accuracy",
        unit="share",
        label=label,
        by=f"logistic-regression-sklearn-{version('scikit-learn')}",
        penalty="l2",
        c=f"{metric.PENALTY:g}",
        code="posterior-mean-standardised",
        bag="characters+words" if trained.tokenizer.name == "character" else "tokens",
        labelled=len(given.train),
        sentences=len(given.test),
        draws=draws,
        seed=seed,
        textvae=textvae.__version__,
    )
