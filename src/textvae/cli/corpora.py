"""`textvae data`: the corpora known by name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textvae.cli.options import AsJson, Seed
from textvae.cli.output import document, plain, result
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.text.registry import RegisteredCorpus


def list_corpora(as_json: AsJson = False) -> None:
    """List the corpora: name, whether the text is here, what it is.

    The text of all but the embedded one is read from the folder that TEXTVAE_DATA names.
    """
    from textvae.text.registry import CORPORA

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
    from textvae.text.registry import MIRROR, find

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


def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...", help="Corpora; all whose files are here if none is given.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the files of corpora with their registered checksums.

    A file that is missing or differs ends the command with exit code 2, after all others have been read.
    """
    from textvae.text.registry import CORPORA, MIRROR, find
    from textvae.text.registry import verify as verified

    here = [name for name, corpus in CORPORA.items() if _described(corpus)["text"] == "here"]
    chosen = [find(name) for name in names] if names else [CORPORA[name] for name in here]
    if not chosen:
        raise RequestError(f"no corpus is here: set {MIRROR} to a folder that holds their files")
    problems: dict[str, str | None] = {}
    for corpus in chosen:
        problems[corpus.name] = None
        try:
            verified(corpus.name)
        except RequestError as error:
            problems[corpus.name] = str(error)
    if as_json:
        document({name: {"verified": problem is None, "problem": problem} for name, problem in problems.items()})
    else:
        width = max(map(len, problems))
        result("\n".join(f"{name:<{width}}  {plain(problem or 'verified')}" for name, problem in problems.items()))
    if wrong := [name for name, problem in problems.items() if problem]:
        raise RequestError(f"{len(wrong)} of {len(problems)} corpora are not as registered: {', '.join(wrong)}")


def make(
    file: Annotated[Path, typer.Argument(metavar="FILE.tsv", help="The table to write.", show_default=False)],
    count: Annotated[int, typer.Option("-n", min=1, help="How many reviews.")] = 24_000,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE where it is there already.")] = False,
) -> None:
    """Write made-up product reviews with their attributes, a table to try things on.

    They are drawn from the embedded grammar. The columns are its attributes, sentiment among them, and the text.
    """
    from textvae.files import replacing
    from textvae.text.grammar import reviews

    if file.suffix != ".tsv":
        raise RequestError(f"{file}: unknown suffix {file.suffix!r}; a table is written as .tsv")
    if file.exists() and not force:
        raise RequestError(f"{file}: exists already; give another name, or --force to replace it")
    grammar = reviews()
    with replacing(file) as table:
        table.write(("\t".join((*grammar.values, "text")) + "\n").encode())
        for text, values in grammar.each_sample(count, seed):
            table.write(("\t".join((*values.values(), text)) + "\n").encode())
    result(f"{plain(str(file))}: {count:,} reviews")


def _described(corpus: "RegisteredCorpus") -> dict[str, Any]:
    """Return a corpus for JSON; `text` is the place of its text: embedded, here or missing."""
    from textvae.text.registry import MIRROR

    files = [*corpus.plain.values(), *corpus.labelled.values()]
    mirror = os.environ.get(MIRROR)
    here = bool(mirror) and all((Path(mirror or "") / file).is_file() for file in files)
    return {
        "name": corpus.name,
        "description": corpus.description,
        "licence": corpus.licence,
        "source": corpus.source,
        "reasons": {} if corpus.source else {"source": "the program makes the text itself"},
        "files": files,
        "labels": list(corpus.labels),
        "text": "embedded" if corpus.embedded else "here" if here else "missing",
    }
