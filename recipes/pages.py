"""Put measured tables into the pages: those of remedies and the toy's into `docs/results.md`, a column of
`docs/methods.md`; and make `docs/references.md` of `docs/references.bib`.

    python recipes/pages.py

Nothing but these tables is touched; `tests/test_results_page.py` fails where a page says something else.
"""

import argparse
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Of each table in `results/` the words in `results.md` before the table that it is.
PLACES = {
    "remedies-grammar/table": "## Every remedy on equal terms: the embedded corpus",
    "remedies-ptb/table": "## Penn Treebank: remedies on equal terms",
    "remedies-yelp_sentiment/table": "## Short reviews: remedies on equal terms",
    "fu2020_figure2": "## The toy of fu2020, Figure 2 (claim F1)",
    "fu2020_figure2_tries": "**Why not under the constant schedule**",
}
# The row that stands for a method whose own has another name; methods without a row here have tables of their own.
STANDS = {"beta": "beta-0.3", "capacity": "capacity-3", "word-dropout": "keep-0.75-annealing"}
ELSEWHERE = {"language-model", "hybrid"}
# Methods whose rows are still to be measured: their cells say so. A method with a measured row may not be here.
UNMEASURED = {"planar", "radial", "multi-step"}
SIGNS = {"monte-carlo": "≈ ", "upper": "≤ "}
# Methods whose rows were measured before their presets became what they are, and the mark that their cells get.
# Remove a method when its rows are measured anew. What differs: `docs/results.md`, "Measured with other wiring".
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


def measured() -> dict[str, str]:
    """The tables as they were measured."""
    return {name: (ROOT / "results" / f"{name}.md").read_text(encoding="utf-8") for name in PLACES}


def results(page: str, tables: Mapping[str, str]) -> str:
    """The page with the first table after the words of each replaced."""
    for name, table in tables.items():
        before, words, after = page.partition(PLACES[name])
        section = after.partition("\n## ")[0]
        old = re.search(r"(?m)(?:^\|.*\n)+", section)
        assert old is not None, f"there is no table under {PLACES[name]!r}"
        page = before + words + after[: old.start()] + table + after[old.end() :]
    return page


def cells(table: str) -> dict[str, str]:
    """KL, MI, gap and the distance to the language model of every row, means alone."""
    found = {}
    for line in table.splitlines()[2:]:
        name, _, _, kl, *rest = [re.sub(r" ± \S+", "", cell).strip() for cell in line.split("|")[1:-1]]
        mutual, gap, _, _, against, _ = rest
        kind = re.search(r"\((.*)\)", kl)
        sign = SIGNS[kind[1]] if kind else ""
        found[name] = " / ".join([sign + kl.split(" ")[0], mutual, gap, against])
    return found


def methods(page: str, tables: Mapping[str, str]) -> str:
    """The page with the last cell of each method's line replaced: of short reviews, or else the embedded corpus."""
    found = {name: f"{cell} (`grammar`)" for name, cell in cells(tables["remedies-grammar/table"]).items()}
    found |= cells(tables["remedies-yelp_sentiment/table"])
    plan = tomllib.loads((ROOT / "recipes" / "remedies.toml").read_text(encoding="utf-8"))["rows"]

    def filled(line: re.Match[str]) -> str:
        method = line[1]
        own = [name for name, row in plan.items() if row["method"] == method and "set" not in row]
        row = STANDS.get(method) or next(iter(own), "")
        if method in UNMEASURED:
            assert row not in found, f"{method} has been measured: take it out of UNMEASURED"
            return line[0]
        assert row in found, f"{method} has no measured row in results/"
        return f"{line[0].rstrip('|').rpartition('|')[0]}| {found[row]}{OTHER if method in EARLIER else ''} |"

    names = {file.stem for file in (ROOT / "src" / "textvae" / "objective" / "methods").glob("*.toml")} - ELSEWHERE
    return re.sub(rf"(?m)^\| `({'|'.join(sorted(names))})`.*\|$", filled, page)


def works(bibliography: str) -> list[dict[str, str]]:
    r"""The entries of a BibTeX file that has one field a line; the key of each as `key`.

    >>> works("@misc{a2016,\n  title = {{On A}},\n  year = {2016},\n}\n")
    [{'key': 'a2016', 'title': 'On A', 'year': '2016'}]
    """
    found = []
    for entry in re.findall(r"(?ms)^@\w+\{(.*?)^\}", bibliography):
        key, _, fields = entry.partition(",")
        pairs = re.findall(r"(?m)^  (\w+) = \{(.*)\},$", fields)
        found.append({"key": key, **{name: value.removeprefix("{").removesuffix("}") for name, value in pairs}})
    return found


def references(bibliography: str) -> str:
    """The page of all works cited, by first author."""
    lines = ["# References", "Made from [references.bib](references.bib) by `recipes/pages.py`.", ""]
    for work in sorted(works(bibliography), key=lambda work: (work["author"].lower(), work["year"])):
        authors = [name.strip() for name in work["author"].split(" and ")]
        names = ", ".join(" ".join(reversed(name.split(", "))) for name in authors)
        where = next((work[name] for name in ("booktitle", "journal", "publisher") if name in work), "")
        title = f"[{work['title']}]({work['url']})" if "url" in work else work["title"]
        lines.append(f"- **{work['key']}** {names}. {title}. {where + ', ' if where else ''}{work['year']}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fill the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    from textvae.files import write_text

    tables = measured()
    for name, filled in (("results", results), ("methods", methods)):
        path = ROOT / "docs" / f"{name}.md"
        write_text(path, filled(path.read_text(encoding="utf-8"), tables))
    bibliography = (ROOT / "docs" / "references.bib").read_text(encoding="utf-8")
    write_text(ROOT / "docs" / "references.md", references(bibliography))


if __name__ == "__main__":
    main()
