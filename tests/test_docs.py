"""Links, anchors and lists of the documentation against what they refer to."""

import inspect
import json
import re
import sys
import types
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

import textvae
from textvae.cli import app
from textvae.evaluation.advice import remedies
from textvae.generate.trained import Trained
from textvae.metrics.scoring import METRICS
from textvae.objective.presets import load_settings, methods
from textvae.objective.terms import TERMS
from textvae.parts.conditioners import CONDITIONERS
from textvae.parts.decoders import DECODERS
from textvae.parts.encoders import ENCODERS
from textvae.parts.posteriors import POSTERIORS
from textvae.parts.priors import PRIORS
from textvae.training.choice import default_method

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
VERDICTS = (ROOT / "docs" / "results" / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CLAIM = re.compile(r"^\| (?:<a id=\"\w+\"></a>|\[)([BSLPFX]\d+)\b", re.MULTILINE)


def prose(page: str) -> str:
    """Return the page without its blocks and spans of code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^```.*?^```$", "", page))


def anchors(page: str) -> set[str]:
    """Return the anchors of a page: its headings as GitHub names them, and explicit ones.

    >>> sorted(anchors('# A *b*: `c-d`, e\\n<a id="f"></a>\\n## Twice\\n## Twice\\n'))
    ['a-b-c-d-e', 'f', 'twice', 'twice-1']
    """
    found: set[str] = set(re.findall(r'<a id="([^"]+)"></a>', page))
    for heading in re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^```.*?^```$", "", page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        number = 1
        while (unique := name if name not in found else f"{name}-{number}") in found:
            number += 1
        found.add(unique)
    return found


def broken_links(path: Path) -> list[str]:
    """Return the relative links of a page that lead to no file, or to no anchor of a page."""
    broken = []
    for link in LINK.findall(prose(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = unquote(link).partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_resolves(path):
    assert broken_links(path) == []


def test_broken_links_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# Some `name`, twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[a](other.md) [b](other.md#some-name-twice) [c](#page) [d](https://example.org/#x) `[e](code)`\n"
        "```\n[f](code)\n# No heading\n```\n[g](gone.md) [h](other.md#some) ![i](figure.png) [j](#no-heading)\n"
    )
    assert broken_links(page) == ["gone.md", "other.md#some", "figure.png", "#no-heading"]


def test_the_readme_lists_every_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"(?m)^\| `textvae ([\w-]+)", readme)
    assert listed == list(typer.main.get_command(app).commands)


def test_the_readme_counts_the_presets():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"(\d+) \[presets\]", readme) == [str(len(methods()))]


def named_in_rows(page: str, header: str) -> list[str]:
    """Return the names in the first column of the table of a page whose first header is `header`.

    >>> named_in_rows("| term | x |\\n|---|---|\\n| `a` (rate) | |\\n| `b`, `c` | `d` |\\n\\n| `e` |", "term")
    ['a', 'b', 'c']
    """
    table = page.split(f"| {header} |", 1)[1].split("\n\n", 1)[0]
    firsts = [row.split("|")[1] for row in table.splitlines()[2:]]
    return [name for first in firsts for name in re.findall(r"`([\w-]+)`", first)]


@pytest.mark.parametrize(
    ("header", "registry"),
    [
        ("term", TERMS),
        ("`encoder.name`", ENCODERS),
        ("`decoder.name`", DECODERS),
        ("`posterior.name`", POSTERIORS),
        ("`prior.name`", PRIORS),
        ("`conditioner.name`", CONDITIONERS),
    ],
)
def test_settings_has_a_row_for_every_kind(header, registry):
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert sorted(named_in_rows(page, header)) == sorted(registry.own)


def test_rate_terms_are_marked_in_their_rows():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    marked = re.findall(r"(?m)^\| `([\w-]+)` \(rate\)", page)
    assert sorted(marked) == sorted(name for name, term in TERMS.own.items() if term.is_rate)


def test_readme_guide_and_diagnose_advise_what_train_takes(python_page):
    assert default_method() == "auto"
    pages = {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in ("README.md", "docs/guide.md", "docs/methods.md")
    }
    readme = pages["README.md"]
    commands = re.findall(r"(?m)^textvae train --data \S+(.*?)#", readme)
    assert commands and "--method" not in commands[0] and "\nrun = textvae.train(sentences)" in readme
    assert "Without `--method` it is [`auto`]" in readme and "**Which first?** [`auto`]" in pages["docs/methods.md"]
    assert "leave out `--method` and `--set`: [`auto`]" in pages["docs/guide.md"]
    assert "run = textvae.train(sentences, train=" in python_page
    for method in ("vanilla", "mu-forcing", "capacity", "free-bits", "bow-annealing", "pretrained"):
        settings = load_settings(None, method)
        for collapsed in (True, False):
            options, _ = next(remedies(settings, collapsed, far=False, empty=not collapsed))
            assert options == "--method auto"


def test_every_claim_with_a_verdict_is_in_the_glossary():
    claims = CLAIM.findall(VERDICTS)
    assert len(claims) > 25 and len(set(claims)) == len(claims)
    assert set(claims) <= set(CLAIM.findall(GLOSSARY))
    for claim in claims:
        assert f"[{claim}](../glossary.md#{claim.lower()})" in VERDICTS


def test_the_readme_shows_the_recorded_quickstart():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = json.loads((ROOT / "results" / "quickstart" / "comparison.json").read_text(encoding="utf-8"))["rows"]
    assert [row["name"] for row in rows] == ["vanilla", "auto", "auto (fitted prior)"]
    rows = [rows[0], rows[2]]
    shown = {
        "reconstruction": "reconstruction",
        "KL": "kl",
        "NLL": "nll",
        "MI of sentence and code": "mutual_information",
        "active units": "active_units_0.01",
        "shuffle gap": "shuffle_gap",
    }
    for words, score in shown.items():
        (line,) = re.findall(rf"(?m)^{words}  (.*)$", readme)
        values = [float(value) for value in re.findall(r"\d+(?:\.\d+)?", re.sub(r"[±/] \S+", "", line))[:2]]
        assert values == pytest.approx([row[score] for row in rows], abs=0.005), words


def test_the_examples_of_extending_run(monkeypatch):
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    package = types.ModuleType("mypackage")
    monkeypatch.setitem(sys.modules, "mypackage", package)
    for block in blocks:
        exec(block, package.__dict__)
    package.test_code_norm_by_hand()
    entries = ((TERMS, package.CodeNorm), (POSTERIORS, package.UnitSettings), (METRICS, package.UPPERCASE))
    assert [registry.check(entry) for registry, entry in entries] == [None] * 3


@pytest.fixture
def python_page():
    return (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_examples_of_the_python_page_run(python_page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parts = (
        ("the", "a", "this"),
        ("food", "coffee", "phone", "place"),
        ("is", "was"),
        ("very", "so"),
        ("good", "bad"),
    )
    lines = [f"{' '.join(words)} ." for words in product(*parts)]
    sentences = [f"{start}{line}\n" for start in ("", "i think ", "we say ") for line in lines]
    (tmp_path / "reviews.txt").write_text("".join(sentences))
    names: dict[str, object] = {}
    for block in re.findall(r"(?ms)^```python\n(.*?)^```$", python_page):
        exec(block, names)
    printed = capsys.readouterr().out
    assert printed.startswith("runs/texts-auto\n") and "next: textvae" in printed and "tensor(" in printed


def test_the_python_page_has_the_arguments_of_every_function(python_page):
    rows = re.findall(r"(?m)^\| `(textvae\.)?(\w+)\((.*?)\)`", python_page)
    assert {name for package, name, _ in rows if package} == set(textvae.__all__)
    for package, name, given in rows:
        function = getattr(textvae if package else Trained, name)
        own = [one for one in inspect.signature(function).parameters if one != "self"]
        listed = [one.strip("* ") for one in given.split(",") if one.strip() != "*"]
        complete = listed[-1] != "..."
        assert (own if complete else own[: len(listed) - 1]) == (listed if complete else listed[:-1]), name
