"""docs/metrics.md names what the commands give, and its list of the papers' tables names nothing else."""

import re
from dataclasses import fields
from pathlib import Path

from textvae.evaluation.adversarial import Completed
from textvae.evaluation.forward import Draw, ForwardCrossEntropy, Text
from textvae.evaluation.record import known_names
from textvae.evaluation.syntax import CODED, PLAIN
from textvae.generate.paths import Homotopy, Smoothness
from textvae.metrics.adversarial import AdversarialError
from textvae.metrics.scoring import METRICS

PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
TABLES = PAGE.split("## The papers' tables")[1].split("\n## ")[0]
NAMES = {
    "evaluate": known_names(),
    "score": set(METRICS),
    "adversarial": {one.name for one in fields(Completed)} | {"unigram.error", "lstm.error"},
    "fce": {*Draw._fields, *Text._fields, *(one.name for one in fields(ForwardCrossEntropy))},
    "syntax": {*CODED, *PLAIN},
    "homotopy": {one.name for one in fields(Smoothness)} | {"repeated"},
}
# The tables that all metrics of which are to be there, and how many columns each has.
WANTED = {"bowman2016, 4", "liu2019, 1 and 2", "fu2020, 2", *(f"prokhorov2019, {n}" for n in (1, 2, 3, 4))}


def test_the_papers_columns_are_scores_that_commands_give():
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in TABLES.splitlines() if line.startswith("|")][2:]
    assert {row[0].strip() for row in rows} - {""} == WANTED
    for _, _, here in rows:
        command, *names = re.findall(r"`([^`]+)`", here)
        assert names and set(names) <= NAMES[command.split()[0]], here
    assert hasattr(AdversarialError, "error") and hasattr(Homotopy, "repeated")


def test_every_score_is_on_the_page():
    stems = {re.sub(r"-\d$", "", name) for name in METRICS}
    assert [stem for stem in stems if f"`{stem}" not in PAGE] == []
    for name in (*CODED, *PLAIN, *Draw._fields[:2], *Text._fields[:-1]):
        assert re.search(rf"[`…_]{re.escape(name)}\b", PAGE), name


def test_the_scores_of_evaluate_are_those_of_the_schema(pages):
    assert pages.fill_scores(PAGE) == PAGE
    for section in ("likelihood", "code"):
        assert PAGE.count(f"<!-- scores: {section} -->\n{pages.render_scores(section)}<!-- end of scores -->") == 1
    documented = {
        name for section in ("likelihood", "code") for name in re.findall(r"`(\w+)`", pages.render_scores(section))
    }
    assert {name.partition(".")[0] for name in known_names() if not name.endswith("signature")} <= documented
