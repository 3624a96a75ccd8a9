"""A score is declared once: an entry and a function of it bring it to every document, table and page."""

import csv
import io
import json

import pytest

from textvae.cli.tables import table
from textvae.comparison import compare
from textvae.errors import RequestError
from textvae.evaluation import schema
from textvae.evaluation.entry import Score
from textvae.evaluation.evaluate import evaluate
from textvae.evaluation.record import evaluation_record, known_names
from textvae.evaluation.values import Estimate, Missing, resolved
from textvae.objective.presets import load_settings
from textvae.report.table import table as report_table
from textvae.training.loop import train


def largest_code(measured):
    """Return the largest value of a code, and as its error the smallest."""
    z = measured.scores.z
    return Missing("there is no code") if z is None else Estimate(z.max().item(), abs(z.min().item()))


LARGEST = Score(
    "largest_code",
    largest_code,
    label="largest code",
    unit="standard deviations",
    reading="Far from 0 where codes are.",
    better="lower",
    error="largest_code_standard_error",
    averaged=True,
    column="largest",
    formula="max z",
    source="Nobody 2026",
    caveats="a|b",
)
SMALL = {
    "model": {"latent": 3, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}},
    "train": {"batch_size": 16, "max_steps": 2, "device": "cpu"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_sentences):
    """A model with codes and a language model of the same text."""
    place = tmp_path_factory.mktemp("runs")
    (place / "text.txt").write_text("\n".join(tiny_sentences) + "\n")
    data = {"corpus": str(place / "text.txt"), "split": {"valid": 0.2, "test": 0.3}}
    vae = train(load_settings(method="vanilla", data=data, **SMALL), place / "vae")
    alone = {**SMALL, "model": {**SMALL["model"], "latent": 0}}
    language_model = train(load_settings(method="language-model", data=data, **alone), place / "lm")
    return [vae.folder, language_model.folder]


@pytest.fixture
def larger(monkeypatch):
    monkeypatch.setattr(schema, "SCORES", (*schema.SCORES, LARGEST))


def test_a_score_is_one_entry_and_one_function(runs, larger, pages, monkeypatch):
    found = [evaluate(run, iw_samples=2, iw_sentences=5) for run in runs]
    value, error = found[0]["largest_code"], found[0]["largest_code_standard_error"]
    assert 0 < error != value > 0
    assert found[1]["largest_code"] is None and found[1]["reasons"]["largest_code"] == "there is no code"
    assert json.loads((runs[0] / "evaluation" / "test.json").read_text()) == found[0]

    compared = compare(runs)
    head, first, second = compared.table()
    shown = dict(zip(head, first, strict=True))
    assert shown["largest"] == f"{value:.2f}" and dict(zip(head, second, strict=True))["largest"] == "–"
    rows = compared.document()["rows"]
    assert (rows[0]["largest_code"], rows[0]["largest_code_standard_error"]) == (value, error)
    assert rows[1]["reasons"]["largest_code"] == "there is no code"
    assert float(next(csv.DictReader(io.StringIO(compared.csv())))["largest_code"]) == value
    assert compare(runs, scores=["largest_code"]).table()[1][1].startswith(f"{value:.2f}"[:4])

    lines = table({"vae": found[0], "lm": found[1]}).splitlines()
    (line,) = [line for line in lines if line.startswith("largest code ")]
    assert f"{value:.2f} ± {error:.2f}" in line and line.endswith("–  standard deviations")

    page = report_table(["vae", "lm"], found)
    assert "Largest code<small>standard deviations; lower is better</small>" in page
    assert f'<data value="{value!r}">' in page and "Far from 0 where codes are." in page

    row = (
        "| `largest_code`, `largest_code_standard_error` | max z | standard deviations ↓ | Nobody 2026 | a\\|b |\n"
    )
    assert row in pages.render_scores("code") and row not in pages.render_scores("likelihood")
    monkeypatch.undo()
    assert row not in pages.render_scores("code")


def test_a_score_is_checked_on_reading_and_its_name_is_known(runs, larger):
    assert {"largest_code", "largest_code_standard_error"} <= known_names()
    assert {"largest_code", "largest_code_standard_error"} <= evaluation_record().model_fields.keys()
    path = runs[0] / "evaluation" / "test.json"
    document = evaluate(runs[0], iw_samples=2, iw_sentences=5)
    path.write_text(json.dumps({**document, "largest_code_standard_error": -1.0}))
    with pytest.raises(RequestError, match="largest_code_standard_error = -1.0: should be greater than or equal"):
        compare(runs[:1])
    path.unlink()


def test_names_and_columns_are_declared_once():
    names = [name for score in schema.SCORES for name in score.names]
    assert len(set(names)) == len(names)
    labels = [score.label for score in schema.SCORES if score.label]
    assert len(set(labels)) == len(labels)
    for score in schema.SCORES:
        assert not score.label or score.reading, score.name
        assert not score.column or score.averaged, score.name
        assert (
            not score.formula
            or score.unit
            or score.name in ("mmd_squared", "log_det_covariance", "mean_squared_norm")
        )


def test_what_is_missing_or_not_finite_is_none_with_its_reason():
    values = {"a": 1.5, "b": float("nan"), "c": Missing("few"), "d": {"e": Missing("none"), "f": None}, "g": None}
    plain, reasons = resolved(values)
    assert plain == {"a": 1.5, "b": None, "c": None, "d": {"e": None, "f": None}, "g": None}
    assert reasons == {"b": "not finite", "c": "few", "d.e": "none"}
