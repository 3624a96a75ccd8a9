import json

import pytest

from .conftest import call, refused


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.tsv"
    rows = [
        ("category", "condition", "good", "bad"),
        ("simple_agrmt", "sing", "the food is good .", "the food are good ."),
        ("simple_agrmt", "sing", "the phone is bad .", "the phone is is ."),
        ("prep_anim", "plur", "a coffee was so good .", "a coffee so was good ."),
        ("prep_anim", "plur", "a coffee was\x1b[31m .", "a coffee were ."),
    ]
    path.write_text("\n".join(map("\t".join, rows)) + "\n")
    return path


def test_a_row_for_each_category_and_condition(run, pairs):
    result = call("syntax", run, "--pairs", pairs)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    head = ["p1", "p2", "p1", "averaged", "p2", "averaged", "unknown", "pairs"]
    assert lines[0].split() == head
    assert [line.split()[0] for line in lines[1:6]] == ["all", "simple_agrmt", "sing", "prep_anim", "plur"]
    assert lines[1].split()[-2:] == ["2", "4"]
    assert lines[6] == "pairs: 4 given, 2 with an unknown word"
    assert lines[7].startswith("ties: p1 ") and lines[8].startswith("syntax|unit:share|")


def test_the_same_as_json_by_the_paper_s_rows_and_without_unknown_words(run, pairs):
    result = call("syntax", run, "--pairs", pairs, "--table-4", "--known-only", "--json")
    found = json.loads(result.stdout)
    assert [row["category"] for row in found["rows"]] == [
        "all",
        *["agreement: simple"] * 2,
        *["agreement: across a prepositional phrase"] * 2,
    ]
    assert found["left_out"] == 2 and found["rows"][0]["pairs"] == 2
    assert set(found["rows"][0]["shares"]) == {"p1", "p2", "p1_averaged", "p2_averaged"}
    assert found["rows"][3]["standard_errors"]["p1"] is None  # one pair


def test_a_language_model_has_one_column(language_model, pairs):
    result = call("syntax", language_model, "--pairs", pairs)
    assert result.stdout.split("\n")[0].split() == ["accuracy", "unknown", "pairs"]


def test_bad_requests_are_refused(run, pairs, tmp_path):
    assert refused(call("syntax", run), "Missing option '--pairs'")
    assert refused(call("syntax", run, "--pairs", tmp_path / "none.tsv"), "none.tsv: no such file")
    assert refused(call("syntax", tmp_path / "none", "--pairs", pairs), "none: no such run folder")
    pairs.write_text("good\tbad\n\x1b[31ma\t\n")
    assert refused(call("syntax", run, "--pairs", pairs), "pairs.tsv:2: bad is empty; give both sentences")


def test_a_row_with_an_empty_cell_is_named_counted_and_left_out(run, pairs):
    whole = call("syntax", run, "--pairs", pairs)
    with pairs.open("a") as file:
        file.write("simple_agrmt\tsing\tthe food is good .\t\n")
    found = call("syntax", run, "--pairs", pairs)
    assert (found.exit_code, found.stdout) == (0, whole.stdout)
    assert "left out: " in found.stderr and "pairs.tsv:6: bad is empty" in found.stderr
    assert "1 of 5 rows left out; --strict refuses them" in found.stderr
    assert refused(call("syntax", run, "--pairs", pairs, "--strict"), "pairs.tsv:6: bad is empty")
