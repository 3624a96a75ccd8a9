"""Render measured tables into the documentation.

    python recipes/pages.py

Fills the tables in `docs/results/` of remedies, fitted priors, conditional models and the toy, the last column of
`docs/methods.md` from `results/`, the scores of `evaluate` in `docs/metrics.md` from their schema, and makes
`docs/references.md` from `docs/references.bib`. Nothing else on these pages is changed.
`tests/test_results_page.py` and `tests/test_metrics_page.py` fail if a page differs.
"""

import argparse
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Where each table of `results/` goes: the page in `docs/results/` and the heading above it.
PLACES = {
    "remedies-grammar/table": ("remedies-grammar", "## All remedies"),
    "remedies-ptb/table": ("remedies-ptb", "## All remedies"),
    "remedies-yelp_sentiment/table": ("remedies-yelp", "## Measured rows"),
    "fu2020_figure2": ("fu2020", "## Three schedules"),
    "fu2020_figure2_tries": ("fu2020", "## Why not under the constant schedule"),
    "fitted-priors/multi-rate-grammar-likelihood": ("fitted-priors", "## Grammar by KL weight: likelihood"),
    "fitted-priors/multi-rate-grammar-samples": ("fitted-priors", "## Grammar by KL weight: samples"),
    "fitted-priors/remedies-grammar-likelihood": ("fitted-priors", "## Remedies on grammar: likelihood"),
    "fitted-priors/remedies-grammar-samples": ("fitted-priors", "## Remedies on grammar: samples"),
    "fitted-priors/runs-quickstart-likelihood": ("fitted-priors", "## The quickstart's model: likelihood"),
    "fitted-priors/runs-quickstart-samples": ("fitted-priors", "## The quickstart's model: samples"),
    "fitted-priors/choosing-short-reviews-likelihood": ("fitted-priors", "## Short reviews: likelihood"),
    "fitted-priors/choosing-short-reviews-samples": ("fitted-priors", "## Short reviews: samples"),
    "conditional/samples": ("conditional", "## Samples"),
    "conditional/transfer": ("conditional", "## Transfer"),
}
# The row that represents a method whose own row has another name.
STANDS = {"beta": "beta-0.3", "capacity": "capacity-3", "word-dropout": "keep-0.75-annealing"}
# Methods that no row of the remedies' recipe represents.
ELSEWHERE = {"language-model", "hybrid"}
# Methods whose rows have not been measured yet: their cells say so. Remove a method once it has a measured row.
UNMEASURED = {"auto", "multi-rate", "planar", "radial", "multi-step"}
SIGNS = {"monte-carlo": "≈ ", "upper": "≤ "}
# Methods whose rows were measured before their presets changed, and the mark that their cells get.
# Remove a method when its rows are measured again. What differs: `docs/results/other-wiring.md`.
EARLIER = {
    "aggressive",
    "aggressive-semi-implicit",
    "capacity",
    "gaussian-mixture",
    "iaf",
    "mixture-prior",
    "semi-amortized",
    "semi-implicit",
    "vamp-prior",
}
OTHER = " †"


# Which direction of a score is better.
ARROWS = {"lower": "↓", "higher": "↑"}


def read_tables() -> dict[str, str]:
    """Return the measured tables by their place in `results/`."""
    return {name: (ROOT / "results" / f"{name}.md").read_text(encoding="utf-8") for name in PLACES}


def fill_tables(page: str, tables: Mapping[str, str]) -> str:
    """Replace the first table under each heading of `tables` by its table."""
    for heading, table in tables.items():
        before, words, after = page.partition(heading)
        section = after.partition("\n## ")[0]
        old = re.search(r"(?m)(?:^\|.*\n)+", section)
        assert old is not None, f"there is no table under {heading!r}"
        page = before + words + after[: old.start()] + table + after[old.end() :]
    return page


def summarize_rows(table: str) -> dict[str, str]:
    """Return KL, MI, shuffle gap and the distance to the language model of every row, without deviations."""
    cells = {}
    for line in table.splitlines()[2:]:
        name, _, _, kl, *rest = [re.sub(r" ± \S+", "", cell).strip() for cell in line.split("|")[1:-1]]
        mutual, gap, _, _, against, _ = rest
        kind = re.search(r"\((.*)\)", kl)
        sign = SIGNS[kind[1]] if kind else ""
        cells[name] = " / ".join([sign + kl.split(" ")[0], mutual, gap, against])
    return cells


def fill_methods(page: str, tables: Mapping[str, str]) -> str:
    """Replace the last cell of each method's line: measured on short reviews, or else on the embedded corpus."""
    cells = {name: f"{cell} (`grammar`)" for name, cell in summarize_rows(tables["remedies-grammar/table"]).items()}
    cells |= summarize_rows(tables["remedies-yelp_sentiment/table"])
    plan = tomllib.loads((ROOT / "recipes" / "remedies.toml").read_text(encoding="utf-8"))["rows"]

    def fill(line: re.Match[str]) -> str:
        method = line[1]
        own = [name for name, row in plan.items() if row["method"] == method and "set" not in row]
        row = STANDS.get(method) or next(iter(own), "")
        if method in UNMEASURED:
            assert row not in cells, f"{method} has been measured: take it out of UNMEASURED"
            return line[0]
        assert row in cells, f"{method} has no measured row in results/"
        return f"{line[0].rstrip('|').rpartition('|')[0]}| {cells[row]}{OTHER if method in EARLIER else ''} |"

    names = {file.stem for file in (ROOT / "src" / "textvae" / "objective" / "methods").glob("*.toml")} - ELSEWHERE
    return re.sub(rf"(?m)^\| `({'|'.join(sorted(names))})`.*\|$", fill, page)


def read_works(bibliography: str) -> list[dict[str, str]]:
    r"""Return the entries of a BibTeX file with one field per line, the key of each as `key`.

    >>> read_works("@misc{a2016,\n  title = {{On A}},\n  year = {2016},\n}\n")
    [{'key': 'a2016', 'title': 'On A', 'year': '2016'}]
    """
    works = []
    for entry in re.findall(r"(?ms)^@\w+\{(.*?)^\}", bibliography):
        key, _, fields = entry.partition(",")
        pairs = re.findall(r"(?m)^  (\w+) = \{(.*)\},$", fields)
        works.append({"key": key, **{name: value.removeprefix("{").removesuffix("}") for name, value in pairs}})
    return works


def render_references(bibliography: str) -> str:
    """Return the page of all works cited, by first author."""
    lines = ["# References", "Made from [references.bib](references.bib) by `recipes/pages.py`.", ""]
    for work in sorted(read_works(bibliography), key=lambda work: (work["author"].lower(), work["year"])):
        authors = [name.strip() for name in work["author"].split(" and ")]
        names = ", ".join(" ".join(reversed(name.split(", "))) for name in authors)
        where = next((work[name] for name in ("booktitle", "journal", "publisher") if name in work), "")
        title = f"[{work['title']}]({work['url']})" if "url" in work else work["title"]
        lines.append(f"- **{work['key']}** {names}. {title}. {where + ', ' if where else ''}{work['year']}.")
    return "\n".join(lines) + "\n"


def render_scores(section: str) -> str:
    """Render the scores of `evaluate` of one section; those without a formula are named in the row above."""
    from textvae.evaluation import schema

    rows: list[tuple[list[str], list[str]]] = []
    for score in schema.SCORES:
        if score.section != section or score.compute is None or score.name.endswith("signature"):
            continue
        if score.formula:
            unit = f"{score.unit} {ARROWS[score.better]}" if score.better else score.unit
            rows.append(([], [score.formula, unit or "–", score.source, score.caveats]))
        rows[-1][0].extend(f"`{name}`" for name in score.names)
    cells = [[", ".join(names), *(cell.replace("|", "\\|") for cell in rest)] for names, rest in rows]
    head = [["name", "formula", "unit", "source", "caveats"], ["---"] * 5]
    return "".join(f"| {' | '.join(row)} |\n" for row in [*head, *cells])


def fill_scores(page: str) -> str:
    """Replace the tables between the markers of each section by the schema's."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{render_scores(match[2])}{match[3]}"

    return re.sub(r"(?s)(<!-- scores: (\w+) -->\n).*?(<!-- end of scores -->)", fill, page)


def main() -> None:
    """Fill the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    from textvae.files import write_text

    tables, docs = read_tables(), ROOT / "docs"
    for page in sorted({page for page, _ in PLACES.values()}):
        path = docs / "results" / f"{page}.md"
        own = {heading: tables[name] for name, (place, heading) in PLACES.items() if place == page}
        write_text(path, fill_tables(path.read_text(encoding="utf-8"), own))
    write_text(docs / "methods.md", fill_methods((docs / "methods.md").read_text(encoding="utf-8"), tables))
    write_text(docs / "metrics.md", fill_scores((docs / "metrics.md").read_text(encoding="utf-8")))
    bibliography = (docs / "references.bib").read_text(encoding="utf-8")
    write_text(docs / "references.md", render_references(bibliography))


if __name__ == "__main__":
    main()
