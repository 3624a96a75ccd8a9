import csv
import json
import shutil

import pytest

from .conftest import call, refused

FEW = ("--iw-samples", 5, "--iw-sentences", 10)


@pytest.fixture
def runs(run, language_model, tmp_path):
    """Copies of the two runs that may be written to."""
    return [shutil.copytree(folder, tmp_path / folder.name) for folder in (run, language_model)]


def test_compare_evaluates_what_is_not_yet_and_prints_a_row_a_run(runs):
    first = call("compare", *runs, *FEW)
    assert first.exit_code == 0, first.stderr
    lines = first.stdout.splitlines()
    assert lines[0].split()[:6] == ["run", "NLL", "bound", "of", "these", "by"]
    assert [line.split()[0] for line in lines[1:3]] == ["vae", "lm"]
    scores = [json.loads((folder / "evaluation" / "test.json").read_text()) for folder in runs]
    for line, score in zip(lines[1:3], scores, strict=True):
        assert float(line.split()[1]) == pytest.approx(score["nll_iw"], abs=0.006)
    assert "iw5/10" in lines[1] and "exact/10" in lines[2]
    assert "vs base: NLL relative to lm." in lines
    # Now both are there: nothing is evaluated, whatever numbers are asked for.
    again = call("compare", *runs)
    assert again.stdout == first.stdout and again.stderr == ""
    anew = call("compare", *runs, "--again", "--iw-samples", 3, "--iw-sentences", "all")
    assert "iw3/" in anew.stdout


def test_a_table_that_cannot_be_written_is_printed(runs, tmp_path):
    printed = call("compare", *runs, *FEW)
    for option, value in (("--csv", tmp_path / "none" / "a.csv"), ("--out", runs[0] / "settings.toml" / "a")):
        done = call("compare", *runs, option, value)
        assert done.exit_code == 1 and done.stdout == printed.stdout
        assert done.stderr.startswith("error: ") and "cannot be written" in done.stderr


def test_json_csv_and_the_folder_have_the_same_rows(runs, tmp_path):
    out, table, latex = tmp_path / "out", tmp_path / "table.csv", tmp_path / "table.tex"
    done = call("compare", *runs, *FEW, "--json", "--out", out, "--csv", table, "--latex", latex)
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document == json.loads((out / "comparison.json").read_text())
    assert "\\toprule" in latex.read_text()
    assert table.read_text() == (out / "comparison.csv").read_text()
    rows = list(csv.DictReader(table.open()))
    assert [float(row["nll"]) for row in rows] == [row["nll"] for row in document["rows"]]
    assert (out / "comparison.md").read_text().startswith("| run | NLL |")
    for name in ("curves.png", "rate-distortion.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert "written: " in done.stderr and "curves.png" in done.stderr


def test_seeds_become_one_row(run, runs, tmp_path):
    assert call("compare", runs[0], *FEW).exit_code == 0
    twin = shutil.copytree(runs[0], tmp_path / "vae-again")
    done = call("compare", runs[0], twin, "--by-seed", "--baseline", runs[1], *FEW)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].split()[:3] == ["vae", "2", lines[1].split()[2]] and lines[2].split()[:2] == ["lm", "1"]
    assert "± 0.00" in lines[1] and "runs of the same seed" in done.stdout


def test_the_page_of_runs_has_what_their_evaluations_say(runs, tmp_path):
    done = call("report", *runs, "--out", tmp_path / "page.html", *FEW)
    assert done.exit_code == 0 and done.stdout == f"report: {tmp_path / 'page.html'}\n", done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    scores = json.loads((runs[0] / "evaluation" / "test.json").read_text())
    assert f'value="{scores["kl"]!r}"' in page and "vae, lm: test split" in page
    assert page.count("reconstructed: ") == 5 and page.count('class="meter"') >= 2
    again = call("report", *runs, "--out", tmp_path / "again.html")  # by the evaluations that are there
    assert again.exit_code == 0 and (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_names_cannot_reach_the_terminal(runs, tmp_path):
    evil = shutil.copytree(runs[0], tmp_path / "a\x1b[31mred")
    done = call("compare", evil, *FEW)
    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.stdout and r"a\x1b[31mred" in done.stdout


def test_wrong_requests_end_with_one_line(runs, tmp_path):
    assert refused(call("compare"), "RUN")
    assert refused(call("compare", tmp_path / "none"), "none: no such run folder")
    assert refused(call("compare", runs[0], runs[0]), "given twice")
    assert refused(call("compare", *runs, "--split", "tset"), "--split tset", "train, valid, test")
    assert refused(call("compare", runs[0], "--iw-sentences", "0"), "--iw-sentences 0")
    assert refused(call("compare", runs[0], "--baseline", tmp_path / "none"), "none: no such run folder")
    (tmp_path / "file").write_text("")
    assert refused(call("compare", runs[0], "--out", tmp_path / "file"), "--out", "is a file")
    assert refused(call("compare", runs[0], "--csv", tmp_path), "--csv", "is a folder")
    assert refused(call("compare", runs[0], "--latex", tmp_path), "--latex", "is a folder")
    assert refused(call("report", runs[0], "--out", tmp_path), "--out", "is a folder")
    assert refused(call("report"), "RUN")
    assert refused(call("report", runs[0], "--iw-samples", "0"), "--iw-samples 0")
    (runs[1] / "model.safetensors").unlink()
    assert refused(call("compare", *runs), "model.safetensors", "not written yet")
    (runs[0] / "evaluation").mkdir(exist_ok=True)
    (runs[0] / "evaluation" / "test.json").write_text("{")
    assert refused(call("compare", runs[0]), "test.json: damaged", "--again")
