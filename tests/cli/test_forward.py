import json

from .conftest import call, refused

SHORT = ("-n", "40", "--draws", "2", "--epochs", "1", "--batch-size", "16")


def test_a_row_for_each_run_and_for_human_text(run, language_model, tmp_path):
    arguments = (
        "fce",
        run,
        language_model,
        *SHORT,
        "--decode",
        "nucleus",
        "--top-p",
        "0.9",
        "--out",
        tmp_path / "fce",
    )
    result = call(*arguments)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        str(run),
        str(language_model),
        "human text",
        "test text",
    ]
    assert "±" in lines[1] and lines[4].split()[2:4] == ["–", "–"]
    assert lines[5].startswith("vocabulary: ") and "decode:nucleus,top_p=0.9" in lines[6]
    again = call(*arguments, "--json")  # from what the folder keeps
    found = json.loads(again.stdout)
    assert f"{found['runs'][0]['nats_per_sentence']:.2f} ± " in lines[1]
    assert len(found["runs"]) == 2 and len(found["human"]["draws"]) == 2


def test_a_language_model_that_would_write_one_sentence_is_refused(run, language_model, tmp_path):
    out = ("--out", tmp_path / "fce")
    told = (f"{language_model}: is a language model", "one sentence again and again", "--decode nucleus:0.9")
    assert refused(call("fce", language_model, *SHORT, *out), *told)
    assert refused(call("fce", run, language_model, *SHORT, *out, "--decode", "beam", "--beam", 3), *told)
    assert refused(call("fce", language_model, *SHORT, *out, "--decode", "top-k", "--top-k", 1), *told)
    assert not (tmp_path / "fce").exists()


def test_bad_requests_are_refused(run, tmp_path):
    out = ("--out", tmp_path / "fce")
    refused(call("fce", tmp_path / "none", *out), "none: no such run folder")
    refused(call("fce", run, "--vocabulary", "all", *out), "vocabulary: 'all' is neither 'common' nor 'run'")
    refused(call("fce", run, "--top-k", "5", *out), "--top-k 5: is for --decode top-k, and --decode is greedy")
    refused(call("fce", run, "-n", "0", *out), "-n")
    assert not (tmp_path / "fce").exists()
