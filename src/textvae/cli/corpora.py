"""`textvae data`: the corpora known by name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.output import document, result

if TYPE_CHECKING:
    from textvae.corpora.registry import Corpus

AsJson = Annotated[bool, typer.Option("--json", help="Machine output.")]


def list_corpora(as_json: AsJson = False) -> None:
    """List the corpora: name, whether the text is here, what it is.

    The text of all but the embedded one is read from the folder that TEXTVAE_DATA names.
    """
    from textvae.corpora.registry import CORPORA

    rows = [_described(corpus) for corpus in CORPORA.values()]
    if as_json:
        document(rows)
        return
    width = max(len(row["name"]) for row in rows)
    shown = {"embedded": "embedded", "here": "here", "missing": "–"}
    result("\n".join(f"{row['name']:<{width}}  {shown[row['text']]:<8}  {row['description']}" for row in rows))


def describe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The corpus, as `textvae data list` has it.")],
    as_json: AsJson = False,
) -> None:
    """Describe one corpus: what it is, under which terms, its files and labels."""
    from textvae.corpora.registry import MIRROR, find

    corpus = _described(find(name))
    if as_json:
        document(corpus)
        return
    lines = [("name", corpus["name"]), ("what", corpus["description"]), ("licence", corpus["licence"])]
    lines += [("source", corpus["source"])] if corpus["source"] else []
    lines += [("labels", ", ".join(corpus["labels"]))] if corpus["labels"] else []
    lines += [("files", path) for path in corpus["files"]]
    where = {
        "embedded": "part of the program",
        "here": f"in the folder that {MIRROR} names",
        "missing": f"not here; set {MIRROR} to a folder that holds the files",
    }
    result("\n".join(f"{key:<8} {value}" for key, value in [*lines, ("text", where[corpus["text"]])]))


def _described(corpus: "Corpus") -> dict[str, Any]:
    """A corpus as JSON has it; `text` says where its text is: embedded, here or missing."""
    from textvae.corpora.registry import MIRROR

    files = [*corpus.plain.values(), *corpus.labelled.values()]
    mirror = os.environ.get(MIRROR)
    here = bool(mirror) and all((Path(mirror or "") / file).is_file() for file in files)
    return {
        "name": corpus.name,
        "description": corpus.description,
        "licence": corpus.licence,
        "source": corpus.source,
        "files": files,
        "labels": list(corpus.labels),
        "text": "embedded" if corpus.embedded else "here" if here else "missing",
    }
