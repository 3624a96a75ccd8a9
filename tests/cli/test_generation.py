import json

import pytest

import textvae
from textvae.cli.decoding import COMMON, NUMBERS
from textvae.generate.decoding import Decoding
from textvae.generate.sources import posterior_draws, tail_draws, volume_preserving_bound
from textvae.parts.noise import mixed

from .conftest import call, refused


def lines(result):
    assert result.exit_code == 0, result.stderr
    return result.stdout.removesuffix("\n").split("\n")


def test_samples_are_those_of_the_library(run):
    trained = textvae.load(run)
    assert lines(call("sample", run, "-n", 4, "--seed", 3)) == trained.sample(4, seed=3)
    nucleus = ["--decode", "nucleus", "--top-p", "0.8", "--temperature", "0.7", "--seed", 5]
    found = json.loads(call("sample", run, "-n", 3, *nucleus, "--json").stdout)
    assert found["decoding"] == {
        "name": "nucleus",
        "temperature": 0.7,
        "top_k": 0,
        "top_p": 0.8,
        "allow_unknown": False,
        "beam": 0,
        "normalisation": 0.0,
        "min_length": 0,
        "max_length": 0,
        "no_repeat": 0,
    }
    assert found["samples"] == lines(call("sample", run, "-n", 3, *nucleus)) and found["seed"] == 5
    assert len(lines(call("sample", run))) == 20


def test_unknown_words_only_when_asked(run):
    arguments = ["sample", run, "-n", 100, "--decode", "sample"]
    assert any("<unk>" in line.split() for line in lines(call(*arguments, "--allow-unk")))
    assert not any("<unk>" in line.split() for line in lines(call(*arguments)))
    assert lines(call(*arguments, "--no-unknown")) == lines(call(*arguments))


def test_no_sequence_is_repeated_when_asked(run):
    arguments = ["sample", run, "-n", 20, "--min-length", 6, "--max-length", 12]
    texts = [line.split() for line in lines(call(*arguments, "--no-repeat", 1))]
    assert all(len(set(text)) == len(text) for text in texts)
    assert any(len(set(text.split())) < len(text.split()) for text in lines(call(*arguments)))


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--decode", "nucelus"], ["'nucelus'", "did you mean 'nucleus'?"]),
        (["--decode", "nucleus", "--top-p", "1.5"], ["top_p = 1.5", "(0, 1]"]),
        (["--top-p", "0.9"], ["--top-p 0.9: is for --decode nucleus, and --decode is greedy"]),
        (["--top-k", "0"], ["--top-k 0: is for --decode top-k"]),
        (["--decode", "nucleus", "--top-p", "0.9", "--beam", "3"], ["--beam 3: is for --decode beam"]),
        (["--decode", "top-k"], ["--decode top-k: give its number, for example top-k:15"]),
        (["--decode", "nucleus"], ["--decode nucleus: give its number, for example nucleus:0.9"]),
        (["--decode", "beam"], ["--decode beam: give its number, for example beam:5"]),
        (["--decode", "top-k", "--top-k", "0"], ["top_k = 0", "1 or more"]),
        (
            ["--temperature", "0.5"],
            ["--temperature 0.5: is for --decode sample, top-k or nucleus, and --decode is greedy"],
        ),
        (["--normalisation", "1"], ["--normalisation 1: is for --decode beam, and --decode is greedy"]),
        (["--min-length", "200"], ["min_length = 200: no text has more than ", "give that or less"]),
        (["--min-length", "5", "--max-length", "3"], ["--min-length 5: is more than --max-length 3"]),
        (["--decode", "sample", "--temperature", "0"], ["temperature = 0"]),
        (["--decode", "sample", "--temperature", "nan"], ["temperature"]),
        (["-n", "0"], ["-n", "1"]),
        (["--seed", "-1"], ["--seed", "0"]),
    ],
)
def test_decoding_that_cannot_be(run, arguments, fragments):
    assert refused(call("sample", run, *arguments), *fragments)


def test_reconstructions_come_in_order_however_the_text_is_given(run, tmp_path):
    texts = ["the food was very good .", "a phone", "this coffee is not bad ."]
    expected = textvae.load(run).reconstruct(texts)
    assert lines(call("reconstruct", run, *texts)) == expected
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    assert lines(call("reconstruct", run, "--file", "texts.txt")) == expected
    assert lines(call("reconstruct", run, "--file", "-", input="\n".join(texts))) == expected
    rows = "".join(f"{i}\t{text}\n" for i, text in enumerate(texts))
    (tmp_path / "texts.tsv").write_text("n\tbody\n" + rows)
    assert lines(call("reconstruct", run, "--file", "texts.tsv", "--column", "body")) == expected
    found = json.loads(call("reconstruct", run, *texts, "--json").stdout)["reconstructions"]
    assert [(row["text"], row["reconstruction"]) for row in found] == list(zip(texts, expected, strict=True))


def test_blank_lines_are_left_out_and_said(run, tmp_path):
    (tmp_path / "gaps.txt").write_text("the food\n\n  \na phone\n")
    for arguments in ({"file": "gaps.txt"}, {"file": "-", "input": "the food\n\n  \na phone\n"}):
        file = arguments.pop("file")
        result = call("reconstruct", run, "--file", file, **arguments)
        assert (
            len(lines(result)) == 2
            and result.stderr == f"{'stdin' if file == '-' else file}: 2 blank lines left out\n"
        )


def test_text_that_cannot_be_used(run, tmp_path):
    assert refused(call("reconstruct", run), "no text given", "--file")
    assert refused(call("reconstruct", run, "a", "--file", "b"), "--file b", "not both")
    assert refused(call("reconstruct", run, "a", ""), "empty")
    assert refused(call("reconstruct", run, "a", "--column", "x"), "--column x")
    assert refused(call("reconstruct", run, "--file", "none.txt"), "none.txt", "no such file")
    assert refused(call("reconstruct", run, "--file", "-", input="\n\n"), "stdin", "no sentence")
    assert refused(call("reconstruct", run, "--file", "-", input=b"caf\xe9"), "stdin", "not UTF-8", "byte 3")


def test_a_language_model_samples_and_refuses_the_rest(language_model):
    assert len(lines(call("sample", language_model, "-n", 5, "--decode", "sample"))) == 5
    for arguments in (["reconstruct"], ["encode", "--out", "codes.npy"], ["interpolate", "b"]):
        name, *rest = arguments
        assert refused(call(name, language_model, "a", *rest), "language model", "no latent code")


def test_samples_of_a_language_model_that_must_be_one_sentence_are_told_on_stderr(run, language_model):
    for way in ([], ["--decode", "beam", "--beam", 2], ["--decode", "top-k", "--top-k", 1], ["--json"]):
        result = call("sample", language_model, "-n", 3, *way)
        assert result.exit_code == 0 and "all 3 samples" in result.stderr and "same sentence" in result.stderr
        assert "--decode sample or nucleus:0.9" in result.stderr and len(result.stderr.splitlines()) == 1
    same = call("sample", language_model, "-n", 3).stdout.splitlines()
    assert len(same) == 3 and len(set(same)) == 1
    for other in ([run, "-n", 3], [language_model, "-n", 1], [language_model, "-n", 3, "--decode", "sample"]):
        assert call("sample", *other).stderr == ""


def test_text_written_to_a_file_is_a_sentence_a_line_as_it_is(run, monkeypatch):
    odd = ["one\ntwo", "an escape \x1b[31m", "你好\r\n"]
    monkeypatch.setattr("textvae.generate.trained.Trained.sample", lambda *_, **__: odd)
    assert call("sample", run).stdout_bytes.decode() == "one two\nan escape \x1b[31m\n你好\n"
    monkeypatch.setattr("typer.testing._NamedTextIOWrapper.isatty", lambda _: True)
    assert call("sample", run).stdout_bytes.decode() == "one\\ntwo\nan escape \\x1b[31m\n你好\\r\\n\n"


def test_gaps_are_filled_one_text_a_line(run):
    found = lines(call("impute", run, "the ___ is good .", "___ coffee was ___*2 ."))
    assert len(found) == 2 and found[0].split()[0] == "the" and found[0].split()[2:] == ["is", "good", "."]
    assert len(found[1].split()) == 6 and found[1].split()[1:3] == ["coffee", "was"]
    usual = json.loads(call("impute", run, "the ___ is good .", "--json").stdout)
    assert usual["beam"] is None and usual["reasons"]["beam"] == "--beam was not given: it is 5"
    told = json.loads(call("impute", run, "the ___ is good .", "--beam", 3, "--json").stdout)
    assert told["last"] is None and told["reasons"] == {"last": "--last was not given: gaps are marked"}
    assert (told["beam"], told["rounds"]) == (3, 3)
    assert told["imputations"][0]["text"] == "the ___ is good ." and told["imputations"][0]["log_prob"] < 0
    assert refused(call("impute", run, "the food is good ."), "texts[0]: has no gap; write ___ for a missing word")


def test_the_end_of_every_sentence_of_a_file_is_filled(run, tmp_path):
    texts = ["the food was very good .", "this coffee is zebra bad ."]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    found = lines(call("impute", run, "--file", "texts.txt", "--last", 0.2))
    assert found == textvae.load(run).impute(texts, last=0.2)
    assert [line.split()[:4] for line in found] == [text.split()[:4] for text in texts]
    told = json.loads(call("impute", run, *texts, "--last", 0.2, "--json").stdout)
    assert told["last"] == 0.2 and [row["imputation"] for row in told["imputations"]] == found
    assert refused(call("impute", run, "a phone", "--last", 2), "last = 2.0: must be a share between 0 and 1")
    assert refused(call("impute", run, "the ___", "--last", 0.2), "texts[0]: has a gap, ___, but the share")


@pytest.mark.parametrize("number", [2**62, 2**63])
def test_more_samples_than_any_machine_holds_are_one_message(run, number):
    assert refused(call("reconstruct", run, "a phone", "--samples", number), "out of memory", code=1)
    assert refused(call("sensitivity", run, "a phone", "--directions", number), "out of memory", code=1)


def test_posterior_samples_stand_under_their_sentence(run):
    texts = ["the food was very good .", "a phone"]
    found = json.loads(call("reconstruct", run, *texts, "--samples", 3, "--seed", 2, "--json").stdout)
    trained = textvae.load(run)
    codes = posterior_draws(trained, texts, 3, seed=2)
    rows = found["reconstructions"]
    assert [row["samples"] for row in rows] == [
        trained.decode(codes.reshape(6, 3), seed=2)[i : i + 3] for i in (0, 3)
    ]
    assert [row["reconstruction"] for row in rows] == trained.reconstruct(texts)
    shown = lines(call("reconstruct", run, *texts, "--samples", 3, "--seed", 2))
    assert shown[:2] == [f"input     {texts[0]}", f"mean      {rows[0]['reconstruction']}".rstrip()]
    assert shown[4] == f"sample 3  {rows[0]['samples'][2]}".rstrip()
    assert shown[5] == "" and shown[6] == f"input     {texts[1]}" and len(shown) == 11


def test_texts_of_posterior_samples_have_random_numbers_of_their_own(run):
    """Not those that the means are decoded with; and fewer texts of a sentence are the first of more."""
    texts, way = ["the food was very good .", "a phone"], Decoding("sample")

    def rows(samples: int) -> list[dict]:
        asked = ("--samples", samples, "--seed", 2, "--decode", "sample", "--json")
        return json.loads(call("reconstruct", run, *texts, *asked).stdout)["reconstructions"]

    trained, three, two = textvae.load(run), rows(3), rows(2)
    codes = posterior_draws(trained, texts, 3, seed=2)
    for draw in range(3):
        alone = trained.decode(codes[:, draw], way, mixed(2, draw))
        assert [row["samples"][draw] for row in three] == alone != trained.decode(codes[:, draw], way, 2)
    assert [row["samples"] for row in two] == [row["samples"][:2] for row in three]
    assert all(len(set(row["samples"])) == 3 for row in three)
    assert [row["reconstruction"] for row in three] == trained.reconstruct(texts, way, seed=2)


def test_tail_samples_are_those_of_the_library(run):
    trained = textvae.load(run)
    found = lines(call("sample", run, "-n", 30, "--tail", "0.7", "--seed", 4))
    assert found == trained.decode(tail_draws(trained, 30, 4, 0.7), seed=4)
    told = json.loads(call("sample", run, "-n", 2, "--tail", "auto", "--json").stdout)
    assert told["tail"] == volume_preserving_bound(3)
    assert told["samples"] == trained.decode(tail_draws(trained, 2, 0))
    assert refused(call("sample", run, "--tail", "far"), "--tail far: give a number above 0, or `auto`")
    for tail in ("-1", "0", "nan", "inf"):
        assert refused(call("sample", run, "--tail", tail), f"--tail {tail}: give a number above 0, or `auto`")


def test_the_n_best_of_each_code(run, language_model):
    trained = textvae.load(run)
    way = ["--decode", "beam", "--beam", 4, "--n-best", 2]
    expected = trained.n_best(trained.draw(3), Decoding("beam", beam=4), 2)
    found = json.loads(call("sample", run, "-n", 3, *way, "--json").stdout)["codes"]
    assert [[(one["text"], one["log_prob"]) for one in row["n_best"]] for row in found] == expected
    shown = lines(call("sample", run, "-n", 3, *way))
    assert len(shown) == 8 and shown[2] == "" and shown[0] == f"{expected[0][0][1]:8.2f}  {expected[0][0][0]}"
    told = json.loads(call("reconstruct", run, "a phone", *way, "--json").stdout)["codes"]
    assert told[0]["text"] == "a phone" and len(told[0]["n_best"]) == 2
    assert len(lines(call("sample", language_model, "-n", 1, *way))) == 2
    assert refused(
        call("sample", run, "--n-best", 2), "n_best = 2: greedy decoding finds one text; decode by 'beam'"
    )
    assert refused(
        call("sample", run, "--decode", "beam", "--beam", 2, "--n-best", 3), "n_best = 3: must be 1 to 2"
    )
    assert refused(call("reconstruct", run, "a", "--samples", 2, *way), "--samples 2", "not both")


@pytest.mark.parametrize("command", ["sample", "reconstruct", "evaluate", "sensitivity", "probe"])
def test_seeds_that_no_generator_takes(run, command):
    for seed in (-1, 2**63, 10**45):
        done = call(command, run, "--seed", seed)
        assert done.exit_code == 2 and "Invalid value for '--seed'" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_every_command_that_decodes_has_the_same_options(run):
    for name in ("sample", "reconstruct", "decode", "interpolate"):
        shown = call(name, "--help").stdout
        for option in ("decode", *NUMBERS, *COMMON):
            assert f"--{option.replace('_', '-')} " in shown, (name, option)
    texts = lines(call("sample", run, "-n", 50, "--max-length", 2, "--decode", "sample"))
    assert max(len(text.split()) for text in texts) == 2
    assert refused(call("sample", run, "--max-length", "-1"), "max_length = -1: must be 0 or more")
