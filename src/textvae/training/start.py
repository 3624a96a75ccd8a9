"""A run that starts from the weights of another one: what must agree, and the weights themselves."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textvae.errors import RequestError, shown
from textvae.files import file_digest, read_tensors
from textvae.model import TextVAE
from textvae.objective.settings import Settings
from textvae.run import Run, load_weights
from textvae.run.data import located
from textvae.run.records import label_names
from textvae.settings import TokenizerSettings, leaves
from textvae.text.corpus import Corpus, file_place, places_of

# Settings of a model, at any depth, that its weights do not depend on.
FREE = ("dropout", "embedding_dropout", "init", "word_keep")
# Most settings named in a message.
NAMED = 3


def start_document(source: Run) -> dict[str, Any]:
    """Return the settings of a run as a document to start from, its text where it is now."""
    data = located(source)
    return source.settings.model_copy(update={"data": data}).document()


def with_tokenizer_of(settings: Settings, source: Run) -> Settings:
    """Return settings that take the tokenizer of a run.

    Raises:
        RequestError: If they ask for another tokenizer.
    """
    data, name = settings.data, source.settings.data.tokenizer.name
    own = TokenizerSettings(name=name)
    if data.tokenizer not in (TokenizerSettings(), source.settings.data.tokenizer, own):
        given = ", ".join(
            f"{field} = {shown(getattr(data.tokenizer, field))}" for field in data.tokenizer.model_fields_set
        )
        raise RequestError(
            f"data.tokenizer: {given}: the {name} tokenizer of {source.folder} is taken with its weights; leave "
            "it out"
        )
    update = {"vocabulary_of": os.path.abspath(source.folder), "tokenizer": own}
    return settings.model_copy(update={"data": data.model_copy(update=update)})


def check_start(settings: Settings, source: Run, folder: Path) -> dict[str, Any]:
    """Return the record, for a new run's folder, of a start from a run's weights, after checking that they fit.

    Raises:
        RequestError: Naming the first settings that differ; if the run has no weights yet.
    """
    source.model()  # refuses weights that are missing or damaged
    mine, theirs = (
        {path: value for path, value in leaves(one.document()["model"], "model") if path.split(".")[-1] not in FREE}
        for one in (settings, source.settings)
    )
    mine["data.right_to_left"] = settings.data.right_to_left
    theirs["data.right_to_left"] = source.settings.data.right_to_left
    if settings.model.fixed_length:
        mine["data.max_length"] = settings.data.positions - 1
        theirs["data.max_length"] = source.settings.data.positions - 1
    different = [path for path in {**theirs, **mine} if mine.get(path) != theirs.get(path)]
    if different:
        named = ", ".join(
            f"{path} = {shown(mine.get(path))} (there {shown(theirs.get(path))})" for path in different[:NAMED]
        )
        more = f" and {len(different) - NAMED} more" if len(different) > NAMED else ""
        raise RequestError(
            f"--from {source.folder}: its weights fit its own model alone, and the settings differ in "
            f"{named}{more}; leave them out"
        )
    weights = source.folder / "model.safetensors"
    return {**file_place(weights, folder), "weights": file_digest(weights)}


def check_labels(source: Run, corpus: Corpus) -> None:
    """Refuse to start from the weights of a run whose model is conditioned on other labels.

    Raises:
        RequestError: Naming the first column whose labels differ.
    """
    conditions = corpus.split("train").conditions
    mine = {} if conditions is None else dict(conditions.names)
    for column, theirs in label_names(source.environment).items():
        own = mine.get(column, [])
        if own != theirs:
            other = next(iter({*own} ^ {*theirs}))
            place = "this text" if other in own else source.folder
            raise RequestError(
                f"--from {source.folder}: its weights are of its own labels, and {column!r} has {other!r} in "
                f"{place} alone; give text with the same labels"
            )


def load_start(model: TextVAE, run: Run) -> None:
    """Load the weights that a run starts from, if it starts from any.

    Heads of terms that the other run did not have keep their first values, and heads that are no longer needed are
    left out.

    Raises:
        RequestError: If the weights are gone or have changed.
    """
    start: Mapping[str, str] | None = run.environment.get("start")
    if start is None:
        return
    path = next((path for path in places_of(start, run.folder) if path.is_file()), None)
    if path is None or file_digest(path) != start["weights"]:
        where = start.get("absolute") or start.get("relative")
        raise RequestError(
            f"{run.folder}: starts from the weights in {where}, which are gone or have changed, and has no "
            "checkpoint of its own yet; start it again"
        )
    tensors, own = read_tensors(path)[0], model.state_dict()
    heads = {name: tensor for name, tensor in own.items() if name.startswith("heads.")}
    for name, tensor in heads.items():
        if name in tensors and tensors[name].shape == tensor.shape:
            heads[name] = tensors[name]
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith("heads.")}
    load_weights(model, {**rest, **heads}, path)
