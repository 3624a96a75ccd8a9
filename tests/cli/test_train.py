import json
import re
import signal
import subprocess
import sys

import pytest

from textvae.files import read_tensors
from textvae.objective.presets import load_settings
from textvae.run import Run

from .conftest import SMALL, assigned, call, refused

PROGRAM = [sys.executable, "-m", "textvae"]


def small(*more):
    return assigned([*SMALL, *more])


def numbers(text):
    return [float(found) for found in re.findall(r"-?\d+\.\d+", text)]


def test_train_prints_the_folder_and_the_last_validation_and_says_what_is_next(reviews):
    result = call("train", "--data", reviews, "--method", "vanilla", *small("train.validate_every=6"))
    assert result.exit_code == 0, result.stderr
    folder, line = result.stdout.splitlines()[:2]
    assert folder == "runs/reviews-vanilla"
    last = [record for record in Run.open(folder).log() if record["split"] == "valid"][-1]
    assert "at step 12:" in line
    expected = [last[name] for name in ("reconstruction", "kl", "bound", "perplexity_bound", "mutual_information")]
    assert numbers(line)[:5] == pytest.approx(expected, abs=0.006)
    assert result.stderr.count("validation at step") == 2
    assert result.stderr.endswith("next: textvae diagnose runs/reviews-vanilla\n")


def test_a_folder_that_is_taken_is_not_touched(reviews):
    for expected in ("reviews-mu-forcing", "reviews-mu-forcing-2", "reviews-mu-forcing-3"):
        result = call("train", "--data", reviews, "--method", "mu-forcing", *small("train.max_steps=1"))
        assert result.stdout.splitlines()[0] == f"runs/{expected}"
    assert "mu-forcing" in Run.open("runs/reviews-mu-forcing-3").settings.objective


def test_without_a_method_it_is_auto(reviews):
    result = call("train", "--data", reviews, *small("train.max_steps=1"))
    assert result.stdout.startswith("runs/reviews-auto\n") and "next: textvae" in result.stdout
    assert "selected-kl" in Run.open("runs/reviews-auto").settings.objective
    own = call("train", "--data", reviews, *small("train.max_steps=1", "objective.kl.weight=0.5"))
    assert own.stdout.startswith("runs/reviews-vanilla\n")
    other = call("train", "--data", reviews, *assigned(["model.posterior.name=iaf"]))
    assert refused(other, "the gaussian posterior", "--method vanilla")


def test_a_run_has_one_method(reviews):
    both = call("train", "--data", reviews, "--method", "cyclical", "--method", "mu-forcing")
    assert refused(both, "--method cyclical, --method mu-forcing: a run has one preset", "--set")
    dry = call(
        "train", "--method", "semi-implicit", "--dry-run", *assigned(["objective.kl=false", "objective.mmd={}"])
    )
    assert "[objective.mmd" in dry.stdout and "[objective.kl]" not in dry.stdout


def test_a_settings_file_with_the_command_line_on_top(reviews, tmp_path):
    lines = [f'corpus = "{reviews}"', "max_length = 9", "split = { valid = 0.2, test = 0.2 }"]
    text = "[data]\n" + "\n".join(lines) + "\n[train]\nmax_steps = 1\nepochs = 7\n[objective.kl]\nweight = 0.25\n"
    (tmp_path / "mine.toml").write_text(text)
    result = call("train", "mine.toml", *small("train.max_steps=2", "train.lr=0.125"))
    assert result.stdout.splitlines()[0] == "runs/reviews-mine"
    settings = Run.open("runs/reviews-mine").settings
    assert (settings.train.epochs, settings.train.max_steps, settings.data.max_length) == (7, 2, 9)
    assert settings.train.optimizer.lr == 0.125
    assert settings.objective["kl"].model_dump()["weight"]["value"] == 0.25


@pytest.mark.parametrize("too_long, done", [("drop", "dropped"), ("cut", "cut")])
def test_what_was_too_long_is_said(reviews, too_long, done):
    options = small("train.max_steps=1", "data.max_length=9", f"data.too_long={too_long}")
    result = call("train", "--data", reviews, *options)
    lines = [line.split() for line in reviews.read_text().splitlines()]
    found = re.findall(r"(\w+): (\d+) of (\d+) sentences were (\w+), being longer than (.*)", result.stderr)
    assert sum(int(row[1]) for row in found) == sum(len(line) > 9 for line in lines) > 0
    assert sum(int(row[2]) for row in found) == len(lines)
    assert {row[3:] for row in found} == {(done, "data.max_length = 9")}
    assert "sentences were" not in call("train", "--data", reviews, *small("train.max_steps=1")).stderr


def test_text_from_the_command_line_replaces_that_of_the_settings(reviews, tmp_path):
    (tmp_path / "mine.toml").write_text('[data]\ntrain = "gone.txt"\nvalid = "gone.txt"\n')
    result = call("train", "mine.toml", "--data", reviews, *small("train.max_steps=1"))
    assert result.exit_code == 0, result.stderr
    (tmp_path / "mine.toml").write_text('[data]\ncorpus = "gone.txt"\n')
    files = ["--train", reviews, "--valid", reviews, "--test", reviews]
    result = call("train", "mine.toml", *files, *small("train.max_steps=1"), "--out", "own")
    assert result.exit_code == 0, result.stderr
    counts = {name: split["sentences"] for name, split in Run.open("own").environment["data"]["splits"].items()}
    assert counts == {"train": 200, "valid": 200, "test": 200}


def test_columns_of_a_table(reviews, tmp_path):
    rows = [f"{i % 2}\t{line}" for i, line in enumerate(reviews.read_text().splitlines())]
    (tmp_path / "table.tsv").write_text("\n".join(["stars\tbody", *rows]) + "\n")
    columns = ["--column", "body", "--label", "stars"]
    result = call("train", "--data", "table.tsv", "--method", "vanilla", *columns, *small("train.max_steps=1"))
    assert result.stdout.splitlines()[0] == "runs/table-vanilla"
    vocabulary = Run.open("runs/table-vanilla").tokenizer.tokens
    assert "food" in vocabulary and "stars" not in vocabulary and "0" not in vocabulary
    assert refused(
        call("train", "--data", "table.tsv", "--column", "bodi", *small()), "'bodi'", "did you mean 'body'?"
    )


def test_a_language_model_has_no_kl(reviews):
    result = call("train", "--data", reviews, "--method", "language-model", *assigned(SMALL[1:]))
    assert result.exit_code == 0, result.stderr
    assert "NLL" in result.stdout and "KL" not in result.stdout


def test_weights_kept_from_an_earlier_validation_are_said(reviews, monkeypatch):
    bounds = iter([30.0, 10.0, 20.0])

    def validated(*_):
        return {"reconstruction": 5.0, "bound": next(bounds), "perplexity_bound": 2.0}

    monkeypatch.setattr("textvae.training.loop.validation", validated)
    result = call("train", "--data", reviews, "--method", "vanilla", *small("train.validate_every=4"))
    assert result.stdout.splitlines()[1:] == [
        "validation at step 12: NLL 20.00 nats/sentence, perplexity 2.00",
        "weights kept from the best validation at step 8: NLL 10.00 nats/sentence, perplexity 2.00",
    ]


def test_work_goes_on_where_nobody_reads_the_notes(reviews):
    arguments = [*PROGRAM, "train", "--data", str(reviews), *small("train.validate_every=1"), "--out", "new"]
    program = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    program.stderr.close()
    stdout, _ = program.communicate()
    assert program.returncode == 0 and "validation at step 12:" in stdout


def test_ctrl_c_saves_and_resume_ends_as_planned(reviews, tmp_path):
    settings = small("train.max_steps=300", "train.epochs=1000", "train.validate_every=100")
    arguments = [*PROGRAM, "train", "--data", str(reviews), "--out", "an own run", *settings]
    program = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in program.stderr:
        if "validation at step" in line:
            program.send_signal(signal.SIGINT)
            break
    stdout, stderr = program.communicate()
    assert (program.returncode, stdout) == (130, ""), stderr
    said = re.search(r"Interrupted at step ([\d,]+)\. Resume with: (textvae train --resume 'an own run')\n", stderr)
    assert said, stderr
    checkpoint = tmp_path / "an own run" / "checkpoint" / "last.safetensors"
    step = read_tensors(checkpoint)[1]["step"]
    assert 100 <= step < 300 and step == int(said[1].replace(",", ""))
    result = call("train", "--resume", "an own run")
    assert result.exit_code == 0, result.stderr
    assert "validation at step 300" in result.stdout
    assert read_tensors(checkpoint)[1]["step"] == 300


def test_resuming_a_finished_run_says_so(run):
    before = (run / "log.jsonl").read_bytes()
    result = call("train", "--resume", run)
    assert result.exit_code == 0
    assert "finished already" in result.stderr
    assert result.stdout.splitlines()[0] == str(run)
    assert (run / "log.jsonl").read_bytes() == before


def test_interrupted_before_there_is_a_run(reviews, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("textvae.training.loop.open_corpus", interrupt)
    result = call("train", "--data", reviews)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_diverging_is_failed_work_and_the_checkpoint_stays(reviews):
    result = call("train", "--data", reviews, *small("train.lr=1e30", "train.clip_norm=0.0"), "--out", "diverged")
    assert refused(result, "diverged", "not finite", "--set train.", code=1)


def test_the_first_process_of_a_job_speaks_and_any_one_that_fails(reviews, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = call("train", "--data", reviews, *small("train.max_steps=1"), "--out", "second")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    result = call("train", "--data", "gone.txt")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error in process 1: gone.txt: no such file")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refused(call("train", "--data", reviews), "--out", "several processes")


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("none.txt", None, ["no such file"]),
        ("empty.txt", b"", ["empty"]),
        ("blank.txt", b"\n \n\t\n", ["no sentence"]),
        ("binary.txt", b"a b\n\x00\x01\x02", ["binary"]),
        ("latin.txt", "caf\u00e9 noir\n".encode("latin-1") * 50, ["not UTF-8", "iconv"]),
        ("utf16.txt", "a b\n".encode("utf-16"), ["UTF-16", "iconv"]),
        ("gzip.txt.gz", b"not gzip at all\n", ["gzip"]),
        ("bad.jsonl", b"{'text'}\n", ["bad.jsonl:1", "JSON"]),
    ],
)
def test_text_that_cannot_be_used(tmp_path, name, content, fragments):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert refused(call("train", "--data", name, *small(), "--out", "new"), name, *fragments)
    assert not (tmp_path / "new").exists()


def test_a_folder_is_no_text(tmp_path):
    (tmp_path / "folder").mkdir()
    assert refused(call("train", "--data", "folder", *small(), "--out", "new"), "folder", "give a file")


def test_no_text_at_all():
    assert refused(call("train"), "data.corpus", "--data")


def test_text_that_is_too_little(reviews, tmp_path):
    result = call("train", "--data", reviews, *small("train.batch_size=1000"), "--out", "new")
    assert refused(result, "train.batch_size = 1000", "--set train.batch_size=")
    result = call("train", "--data", reviews, *small("data.tokenizer.min_count=100000"), "--out", "new")
    assert refused(result, "data.tokenizer.min_count", "rare words")
    result = call("train", "--data", reviews, *small("data.max_length=2"), "--out", "new")
    assert refused(result, "data.max_length", "drops every sentence")
    assert not (tmp_path / "new").exists()


def test_sentences_of_every_kind_do_train(tmp_path):
    lines = ["\ufeffthe first", "", *(f"sentence {i} is here ." for i in range(200)), "long " * 100_000, "  "]
    (tmp_path / "odd.txt").write_bytes("\r\n".join(lines).encode())
    result = call("train", "--data", "odd.txt", *small("train.max_steps=2"), "--out", "new")
    assert result.exit_code == 0, result.stderr
    tokens = Run.open("new").tokenizer.tokens
    assert not any("\ufeff" in token or "\r" in token for token in tokens)
    assert sum(s["dropped"] for s in Run.open("new").environment["data"]["splits"].values()) == 1


@pytest.mark.parametrize(
    ("assignments", "fragments"),
    [
        (["train.epochs=many"], ["train.epochs = 'many'"]),
        (["train.epochs=2.5"], ["train.epochs = 2.5"]),
        (["train.epochs=0"], ["train.epochs = 0", "greater than 0"]),
        (["train.lr=-1"], ["train.optimizer.lr = -1"]),
        (["trian.epochs=3"], ["trian", "did you mean 'train'?"]),
        (["train.epoch=3"], ["train.epoch", "did you mean 'epochs'?"]),
        (["model.encoder.name=lstn"], ["model.encoder.name", "did you mean 'lstm'?"]),
        (["objective.mu-forcin.margin=2"], ["objective.mu-forcin", "did you mean 'mu-forcing'?"]),
        (["model.latent=0", "objective.mu-forcing.margin=2"], ["objective.mu-forcing", "language model"]),
        (["model.decoder.inject=[]"], ["model.decoder.inject", "'state', 'input'"]),
        (["data.split.valid=0.5", "data.split.test=0.5"], ["data.split", "train"]),
        (["data.train=a.txt"], ["data.corpus", "data.train"]),
        (["train.epochs"], ["--set train.epochs", "path=value"]),
        (["=3"], ["--set =3", "path=value"]),
        (["train.device=cuda"], ["train.device", "cpu"]),
        (["train.epochs=many", "model.latnt=3", "data.max_length=-1"], ["epochs", "latnt", "max_length"]),
    ],
)
def test_settings_that_cannot_be(reviews, tmp_path, assignments, fragments):
    if "train.device=cuda" in assignments:
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
    result = call("train", "--data", reviews, *small(*assignments), "--out", "new")
    assert refused(result, *fragments)
    assert not (tmp_path / "new").exists()


def test_methods_and_settings_files_that_are_not_there(tmp_path):
    assert refused(call("train", "--data", "grammar", "--method", "vanila"), "vanila", "vanilla")
    assert refused(call("train", "none.toml"), "none.toml", "no such settings file")
    assert refused(call("train", "."), "folder")
    (tmp_path / "bad.toml").write_text("[data\n")
    assert refused(call("train", "bad.toml"), "bad.toml", "not valid TOML", "line 1")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    assert refused(call("train", "latin.toml"), "latin.toml", "not UTF-8")
    assert refused(call("train", "--data", "ptbb"), "'ptbb'", "did you mean 'ptb'?")


def test_an_out_that_exists_is_left_alone(reviews, run, tmp_path):
    before = sorted(run.rglob("*"))
    assert refused(call("train", "--data", reviews, *small(), "--out", run), run, "exists already", "--resume")
    assert sorted(run.rglob("*")) == before
    (tmp_path / "file").write_text("precious")
    assert refused(call("train", "--data", reviews, *small(), "--out", "file"), "exists already")
    assert (tmp_path / "file").read_text() == "precious"


def test_resume_takes_no_other_settings(run):
    assert refused(call("train", "--resume", run, "--method", "bow"), "--resume", "own settings")
    assert refused(call("train", "--resume", run, "--set", "train.lr=3"), "train.optimizer.lr: cannot change")
    assert refused(call("train", "--resume", run, "--data", "grammar"), "--data grammar: no such file")


def test_a_folder_that_cannot_be_made(reviews, tmp_path):
    (tmp_path / "file").write_text("precious")
    result = call("train", "--data", reviews, *small(), "--out", "file/run")
    assert refused(result, "file/run", "cannot be written", code=1)
    assert (tmp_path / "file").read_text() == "precious"


def test_resume_says_when_the_data_changed(reviews, tmp_path):
    (tmp_path / "text.txt").write_bytes(reviews.read_bytes())
    assert call("train", "--data", "text.txt", *small(), "--out", "new").exit_code == 0
    (tmp_path / "text.txt").write_text(reviews.read_text().replace("good", "fine"))
    assert refused(call("train", "--resume", "new"), "text.txt", "new")


def test_the_settings_that_are_written_are_read_again(run):
    settings = (run / "settings.toml").read_text()
    assert "latent = 3" in settings
    assert json.loads((run / "environment.json").read_text())["format"] == 1


def test_a_dry_run_prints_the_settings_and_trains_nothing(reviews, tmp_path):
    found = call("train", "--data", reviews, "--method", "capacity", "--dry-run", *assigned(["train.lr=0.01"]))
    assert found.exit_code == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(found.stdout)
    wanted = load_settings(None, "capacity", ["train.lr=0.01"], data={"corpus": str(reviews)})
    assert load_settings(printed) == wanted
    assert not (tmp_path / "runs").exists()
    assert refused(
        call("train", "--resume", "runs/x", "--dry-run"), "--resume: a run goes on with its own settings"
    )


def test_which_column_is_read_is_told(tmp_path):
    words = ["good", "bad", "fine", "so so", "great", "awful", "nice", "ugly", "new", "old"]
    rows = [f"the food was {one} and {other} .,{i % 5}" for i, one in enumerate(words) for other in words]
    (tmp_path / "a.csv").write_text("comment,stars\n" + "\n".join(rows) + "\n")
    result = call("train", "--data", "a.csv", "--method", "vanilla", "--out", "run", *assigned(SMALL))
    assert result.exit_code == 0, result.stderr
    told = 'a.csv: the text is column "comment" (0); first sentence: "the food was good and good ."'
    assert result.stderr.splitlines()[0] == told
    assert "comment" not in (tmp_path / "run" / "tokenizer.json").read_text()
    numbered = call(
        "train", "--data", "a.csv", "--method", "vanilla", "--out", "other", *assigned([*SMALL, "data.column=1"])
    )
    assert numbered.exit_code in (0, 2), numbered.stderr  # five numbers may leave a split empty
    assert 'a.csv: the text is column "stars" (1); first sentence: "0"' in numbered.stderr
    assert 'a.csv: column "stars" (1) holds numbers; if it is not the text, name another column' in numbered.stderr


def test_equal_sentences_are_named_as_the_reason(tmp_path):
    (tmp_path / "a.txt").write_text("the food is good .\n" * 500)
    assert refused(
        call("train", "--data", "a.txt"), "of 500 sentences 1 are different, and equal ones share a split"
    )
