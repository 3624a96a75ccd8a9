"""What `docs/` says of the remedies is what their recipe measured."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
METHODS = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
ROWS = tomllib.loads((ROOT / "recipes" / "remedies.toml").read_text(encoding="utf-8"))["rows"]
# The row that stands for a method whose own has another name.
STANDS = {"beta": "beta-0.3", "capacity": "capacity-3", "word-dropout": "keep-0.75-annealing"}
SIGNS = {"monte-carlo": "≈ ", "upper": "≤ "}


def measured(corpus: str) -> list[str]:
    return (ROOT / "results" / f"remedies-{corpus}" / "table.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("corpus", ["grammar", "ptb", "yelp_sentiment"])
def test_the_tables_of_remedies_are_those_that_were_measured(corpus):
    assert "\n".join(measured(corpus)) in RESULTS


def cells(corpus: str) -> dict[str, str]:
    """KL, MI, gap and the distance to the language model of every row, means alone."""
    found = {}
    for line in measured(corpus)[2:]:
        name, _, _, kl, mutual, gap, _, _, against, _ = [cell.strip() for cell in line.split("|")[1:-1]]
        kind = re.search(r"\((.*)\)", kl)
        sign = SIGNS[kind[1]] if kind else ""
        found[name] = " / ".join([sign + kl.split(" ")[0], mutual.split(" ")[0], gap.split(" ")[0], against])
    return found


def test_every_method_has_its_measured_row():
    found = {name: f"{cell} (`grammar`)" for name, cell in cells("grammar").items()} | cells("yelp_sentiment")
    methods = [file.stem for file in (ROOT / "src" / "textvae" / "methods").glob("*.toml")]
    for method in sorted(set(methods) - {"language-model", "hybrid"}):
        own = [name for name, row in ROWS.items() if row["method"] == method and "set" not in row]
        row = STANDS.get(method) or own[0]
        (line,) = re.findall(rf"^\| `{method}`.*\|$", METHODS, re.M)
        assert line.split("|")[-2].strip() == found[row], method
