"""Put what `remedies.py` measured into the pages: the tables of `docs/results.md`, a column of `docs/methods.md`.

    python recipes/pages.py

Nothing but these tables is touched; `tests/test_results_page.py` fails where a page says something else.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
# The heading in `results.md` whose first table is that of a corpus; the later ones are what `methods.md` shows.
SECTIONS = {
    "grammar": "## Every remedy on equal terms: the embedded corpus",
    "ptb": "## Penn Treebank: remedies on equal terms",
    "yelp_sentiment": "## Short reviews: remedies on equal terms",
}
# The row that stands for a method whose own has another name; methods without a row here have tables of their own.
STANDS = {"beta": "beta-0.3", "capacity": "capacity-3", "word-dropout": "keep-0.75-annealing"}
ELSEWHERE = {"language-model", "hybrid"}
SIGNS = {"monte-carlo": "≈ ", "upper": "≤ "}


def table(corpus: str) -> str:
    """A corpus's table as it was measured."""
    path = ROOT / "results" / f"remedies-{corpus}" / "table.md"
    return path.read_text(encoding="utf-8").rstrip("\n")


def results(page: str, tables: Mapping[str, str]) -> str:
    """The page with the first table after each corpus's heading replaced."""
    for corpus, measured in tables.items():
        before, heading, after = page.partition(SECTIONS[corpus])
        section = after.partition("\n## ")[0]
        old = re.search(r"(?m)(?:^\|.*\n)+", section)
        assert old is not None, f"there is no table under {SECTIONS[corpus]!r}"
        page = before + heading + after[: old.start()] + measured + "\n" + after[old.end() :]
    return page


def cells(measured: str) -> dict[str, str]:
    """KL, MI, gap and the distance to the language model of every row, means alone."""
    found = {}
    for line in measured.splitlines()[2:]:
        name, _, _, kl, *rest = [re.sub(r" ± \S+", "", cell).strip() for cell in line.split("|")[1:-1]]
        mutual, gap, _, _, against, _ = rest
        kind = re.search(r"\((.*)\)", kl)
        sign = SIGNS[kind[1]] if kind else ""
        found[name] = " / ".join([sign + kl.split(" ")[0], mutual, gap, against])
    return found


def methods(page: str, tables: Mapping[str, str]) -> str:
    """The page with the last cell of each method's line replaced: of short reviews, or else the embedded corpus."""
    found = {name: f"{cell} (`grammar`)" for name, cell in cells(tables["grammar"]).items()}
    found |= cells(tables["yelp_sentiment"])
    plan = tomllib.loads((ROOT / "recipes" / "remedies.toml").read_text(encoding="utf-8"))["rows"]

    def filled(line: re.Match[str]) -> str:
        method = line[1]
        own = [name for name, row in plan.items() if row["method"] == method and "set" not in row]
        row = STANDS.get(method) or next(iter(own), "")
        assert row in found, f"{method} has no measured row in results/"
        return f"{line[0].rstrip('|').rpartition('|')[0]}| {found[row]} |"

    names = {file.stem for file in (ROOT / "src" / "textvae" / "methods").glob("*.toml")} - ELSEWHERE
    return re.sub(rf"(?m)^\| `({'|'.join(sorted(names))})`.*\|$", filled, page)


def main() -> None:
    """Fill both pages."""
    tables = {corpus: table(corpus) for corpus in SECTIONS}
    for name, filled in (("results", results), ("methods", methods)):
        path = ROOT / "docs" / f"{name}.md"
        path.write_text(filled(path.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
