"""Tables of `docs/` against the measured ones of `results/`, as `recipes/pages.py` renders them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = {page.stem: page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "results").glob("*.md")}
METHODS = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
GRAMMAR, REVIEWS = "remedies-grammar/table", "remedies-yelp_sentiment/table"
HEAD = "| row | seeds | reconstruction | KL | MI | shuffle gap | active | NLL | against the LM | speed |\n|---|"
SMALL = f"""{HEAD}
| vanilla | 3 | 38.70 ± 0.12 | 0.03 ± 0.01 | 0.02 ± 0.00 | 0.05 ± 0.01 | 0 / 0 | 39.50 ± 0.10 | +0.6 % | 1.00 |
| semi-implicit | 1 | 37.91 | 0.10 (upper) | -0.01 to 0.02 | 0.04 | 0 / 0 | 38.00 | -3.2 % | 0.50 |
| capacity-3 | 2 | 36.53 | 2.91 ± 0.10 | 2.50 | 7.60 | 9 / 4 | 39.00 | -0.7 % | 1.00 |
"""


def test_the_tables_are_those_that_were_measured(pages):
    tables = pages.read_tables()
    for name, (page, heading) in pages.PLACES.items():
        assert pages.fill_tables(RESULTS[page], {heading: tables[name]}) == RESULTS[page], name
        assert 0 <= RESULTS[page].index(f"\n{heading}\n") < RESULTS[page].index(tables[name]), name
    for name in ("remedies-grammar/table", "remedies-ptb/table", "remedies-yelp_sentiment/table"):
        assert tables[name].startswith("| row |"), name


def test_every_method_has_its_measured_row(pages):
    assert pages.fill_methods(METHODS, pages.read_tables()) == METHODS
    for method in (file.stem for file in (ROOT / "src" / "textvae" / "objective" / "methods").glob("*.toml")):
        assert METHODS.count(f"\n| `{method}`") == (method != "language-model"), method


def test_filling_touches_the_tables_alone(pages):
    heading = "## Measured rows"
    page = f"# Results\n| other |\n\n{heading}\nText.\n\n| old |\n| 1 |\n\nMore.\n\n| kept |\n"
    filled = pages.fill_tables(page, {heading: SMALL})
    assert filled == page.replace("| old |\n| 1 |\n", SMALL)


def test_what_has_not_been_measured_cannot_be_filled(pages):
    with pytest.raises(AssertionError, match="no table under"):
        pages.fill_tables("## Measured rows\n\n## Next\n\n| a |\n", {"## Measured rows": SMALL})
    with pytest.raises(AssertionError, match="free-bits has no measured row"):
        pages.fill_methods("| `free-bits` | old |\n", {GRAMMAR: SMALL, REVIEWS: SMALL})


def test_what_is_still_to_be_measured_says_so(pages):
    for method in pages.UNMEASURED:
        (line,) = [line for line in METHODS.splitlines() if line.startswith(f"| `{method}` |")]
        assert line.endswith("| to be measured |")
    measured = SMALL.replace("| vanilla |", "| planar |")
    with pytest.raises(AssertionError, match="planar has been measured: take it out of UNMEASURED"):
        pages.fill_methods("| `planar` | to be measured |\n", {GRAMMAR: measured, REVIEWS: SMALL})


def test_cells_are_means_with_how_the_kl_was_had(pages):
    assert pages.summarize_rows(SMALL) == {
        "vanilla": "0.03 / 0.02 / 0.05 / +0.6 %",
        "semi-implicit": "≤ 0.10 / -0.01 to 0.02 / 0.04 / -3.2 %",
        "capacity-3": "2.91 / 2.50 / 7.60 / -0.7 %",
    }


def test_a_method_is_filled_from_reviews_or_else_from_the_embedded_corpus(pages, monkeypatch):
    """Those that were measured before their presets changed are marked."""
    monkeypatch.setattr(pages, "EARLIER", {"capacity"})
    grammar = SMALL.replace("38.70", "1.00").replace("| 0.03 ± 0.01 |", "| 9.00 |")
    reviews = SMALL.replace("| vanilla |", "| other |")
    page = "| `vanilla` | D + KL | old |\n| `capacity` | b | |\n| `hybrid` | c | kept |\n`vanilla` | x |\n"
    assert pages.fill_methods(page, {GRAMMAR: grammar, REVIEWS: reviews}) == (
        "| `vanilla` | D + KL | 9.00 / 0.02 / 0.05 / +0.6 % (`grammar`) |\n"
        "| `capacity` | b | 2.91 / 2.50 / 7.60 / -0.7 % † |\n| `hybrid` | c | kept |\n`vanilla` | x |\n"
    )


def test_references_are_those_of_the_bibliography(pages):
    bibliography = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "references.md").read_text(encoding="utf-8") == pages.render_references(bibliography)
    keys = [work["key"] for work in pages.read_works(bibliography)]
    assert len(keys) == len(set(keys)) == bibliography.count("\n@") + 1
    assert all({"author", "title", "year"} <= work.keys() for work in pages.read_works(bibliography))


def test_every_work_that_is_cited_is_in_the_bibliography(pages):
    """In docstrings, presets and pages: `Name 2016`, `Name and Other 2016`, `Name et al. 2016`."""
    known = {
        (author.partition(",")[0], int(work["year"]))
        for work in pages.read_works((ROOT / "docs" / "references.bib").read_text(encoding="utf-8"))
        for author in work["author"].split(" and ")
    }
    cited = re.compile(r"([A-Z][\w'-]+)(?:\s+(?:and|&)\s+[A-Z][\w'-]+|\s+et\s+al\.)?,?\s+((?:19|20)\d\d)\b")
    files = [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "src").rglob("*.toml"),
        *(ROOT / "docs" / f"{name}.md" for name in ("methods", "metrics", "architectures", "errata")),
    ]
    missing = {
        (name, int(year))
        for file in files
        for name, year in cited.findall(file.read_text(encoding="utf-8"))
        if (name, int(year)) not in known
    }
    assert missing == set()
