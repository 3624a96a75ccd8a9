"""A run folder is complete or refused: created whole, read back the same, every kind of damage said in words."""

import json
import os
import shutil

import pytest
import torch

from textvae.errors import RequestError, WorkError
from textvae.evaluation.evaluate import evaluate
from textvae.files import write_tensors
from textvae.model import build
from textvae.objective.presets import load_settings
from textvae.run import FORMAT, Run, load_weights
from textvae.run.data import check_same_data
from textvae.run.fitting import fit_prior
from textvae.run.folder import FIXED, check_vacant, own_folder, training_alone
from textvae.text.corpus import Corpus, open_corpus
from textvae.text.tokenizers import Tokenizer
from textvae.training.loop import resume, train

SMALL = {
    "data": {"split": {"valid": 0.3, "test": 0.0, "seed": 7}, "max_length": 20},
    "model": {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4, "inject": ["input"]}},
    "train": {"batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.1}, "plateau": {"factor": 0.3}, "patience": 3},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "pets.txt"
    path.write_text("".join(f"the {pet} is number {i}\n" for i in range(20) for pet in ("cat", "dog")))
    return path


@pytest.fixture(scope="module")
def settings(text):
    tables = {**SMALL, "data": {**SMALL["data"], "corpus": str(text)}}
    kl = {"kl": {"weight": {"schedule": "linear", "steps": 30}}, "mu-forcing": {"margin": 1.5}}
    return load_settings(None, None, (), objective=kl, **tables)


@pytest.fixture(scope="module")
def corpus(settings):
    return open_corpus(settings.data)


@pytest.fixture
def run(tmp_path, settings, corpus):
    run = Run.create(tmp_path / "run", settings, corpus.tokenizer, corpus.description())
    weights = build(settings.model, len(corpus.tokenizer)).state_dict()
    write_tensors(run.folder / "model.safetensors", weights)
    write_tensors(run.folder / "checkpoint" / "last.safetensors", {}, {"step": 3})
    return run


def test_a_run_comes_back_as_it_was_made(run, settings, corpus):
    again = Run.open(str(run.folder))
    assert again.settings == settings
    assert again.settings.toml() == (run.folder / "settings.toml").read_text()
    assert again.tokenizer.tokens == corpus.tokenizer.tokens
    assert again.environment == json.loads((run.folder / "environment.json").read_text())
    check_same_data(again, corpus)


def test_the_environment_says_what_the_numbers_depend_on(run, corpus):
    found = run.environment
    assert found["format"] == FORMAT
    assert {"textvae", "python", "torch", "numpy", "system", "device", "cores", "threads", "seed"} <= found.keys()
    assert found["torch"] == torch.__version__
    train, valid = found["data"]["splits"]["train"], found["data"]["splits"]["valid"]
    assert train["sentences"] + valid["sentences"] == 40
    assert train["fingerprint"] == corpus.split("train").fingerprint != valid["fingerprint"]
    assert found["data"]["vocabulary"] == len(corpus.tokenizer)


def test_no_file_of_a_run_is_a_pickle(run):
    kinds = {path.suffix for path in run.folder.rglob("*") if path.is_file()}
    assert kinds == {".toml", ".json", ".safetensors"}


def test_the_model_is_the_one_that_was_saved_in_evaluation_mode(run, settings, corpus):
    weights = build(settings.model, len(corpus.tokenizer)).state_dict()
    write_tensors(run.folder / "model.safetensors", weights)
    model = run.model()
    assert not model.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_create_refuses_what_exists(run, settings, corpus, tmp_path):
    with pytest.raises(
        RequestError, match=r"run: exists already; give another --out, or resume it with --resume .*run"
    ):
        Run.create(run.folder, settings, corpus.tokenizer, {})
    other = tmp_path / "mine"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    for place in (other, other / "thesis.tex"):
        with pytest.raises(RequestError, match="exists already and is not a run folder; give another --out"):
            Run.create(place, settings, corpus.tokenizer, {})
    assert (other / "thesis.tex").read_text() == "precious"


def test_create_takes_an_empty_folder_and_makes_parents(tmp_path, settings, corpus):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "a" / "b" / "run"):
        Run.create(place, settings, corpus.tokenizer, corpus.description())
        assert Run.open(place).settings == settings


@pytest.mark.parametrize("name", ["settings.toml", "tokenizer.json", "environment.json"])
def test_a_full_disk_at_the_start_leaves_no_half_of_a_run(tmp_path, settings, corpus, monkeypatch, name):
    replace = os.replace

    def full(old, new):
        if new.name == name:
            raise OSError(28, "No space left on device")
        replace(old, new)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(WorkError, match=rf"{name}: cannot be written: No space left on device"):
        Run.create(tmp_path / "run", settings, corpus.tokenizer, corpus.description())
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_hold_a_folder_is_a_failed_work(tmp_path, settings, corpus):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="run: cannot be written: Not a directory"):
        Run.create(tmp_path / "file" / "run", settings, corpus.tokenizer, {})


def test_a_missing_run_and_a_folder_that_is_none_are_refused(tmp_path):
    with pytest.raises(RequestError, match="none: no such run folder; `textvae train` makes one"):
        Run.open(tmp_path / "none")
    with pytest.raises(RequestError, match=r"environment\.json: missing; is .* a run folder\?"):
        Run.open(tmp_path)


@pytest.mark.parametrize("name", ["settings.toml", "tokenizer.json", "environment.json"])
@pytest.mark.parametrize("share", [0, 0.5, 0.98])
def test_a_file_cut_short_is_refused(run, name, share):
    path = run.folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RequestError, match=rf"{name}: .*damaged.*intact copy, or train again") as caught:
        Run.open(run.folder)
    assert "\n" not in str(caught.value)


def test_settings_cut_between_two_lines_are_refused_though_still_toml(run):
    path = run.folder / "settings.toml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(
        RequestError, match=r"settings\.toml: differs from the file the run was made with .*: damaged or edited"
    ):
        Run.open(run.folder)


@pytest.mark.parametrize("name", ["settings.toml", "tokenizer.json"])
def test_a_missing_file_is_refused(run, name):
    (run.folder / name).unlink()
    with pytest.raises(RequestError, match=rf"{name}: cannot be read: No such file"):
        Run.open(run.folder)


def test_a_newer_format_is_refused_with_its_version(run):
    path = run.folder / "environment.json"
    environment = json.loads(path.read_text()) | {"format": FORMAT + 1, "textvae": "9.0"}
    path.write_text(json.dumps(environment))
    message = rf"run: written by textvae 9\.0 in format {FORMAT + 1}, this one reads up to {FORMAT}; update textvae"
    with pytest.raises(RequestError, match=message):
        Run.open(run.folder)


@pytest.mark.parametrize("change", [{"format": "1"}, {"format": None}, {"files": None}, {"files": []}])
def test_an_environment_of_another_kind_is_refused(run, change):
    path = run.folder / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RequestError, match=r"environment\.json: was not written by textvae"):
        Run.open(run.folder)


@pytest.mark.parametrize("data", [None, {}, {"splits": []}, {"splits": {"train": {}}}])
def test_an_environment_that_does_not_know_its_data_is_refused(run, corpus, data):
    run.environment["data"] = data
    with pytest.raises(RequestError, match=r"environment\.json: damaged: it has no record of the data"):
        check_same_data(run, corpus)


def test_other_data_is_refused_with_what_differs(run, corpus):
    swapped = Corpus("pets.txt", corpus.tokenizer, {"train": corpus.split("train"), "valid": corpus.split("train")})
    with pytest.raises(RequestError, match=r"pets\.txt: its valid split is not the one that .* was made with: the"):
        check_same_data(run, swapped)
    without = Corpus("pets.txt", corpus.tokenizer, {"train": corpus.split("train")})
    with pytest.raises(RequestError, match="its valid split is not the one"):
        check_same_data(run, without)


def test_the_same_numbers_for_other_words_are_other_data(run, corpus):
    words = Tokenizer.train("word", ["a a b"], None, 1)
    with pytest.raises(RequestError, match="its vocabulary is not the one"):
        check_same_data(run, Corpus("pets.txt", words, corpus.splits))


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_weights_cut_short_are_refused(run, share):
    path = run.folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RequestError, match=r"model\.safetensors: damaged"):
        run.model()


def test_weights_that_are_not_there_yet_are_said_so(run):
    (run.folder / "model.safetensors").unlink()
    with pytest.raises(RequestError, match="not written yet; the run has not finished its first validation"):
        run.model()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"weight": torch.zeros(2, 2)}, "does not fit the run's settings.toml: it has in another shape weight"),
        ({"bias": None}, "does not fit the run's settings.toml: it lacks bias"),
        (
            {f"x{n}": torch.zeros(1) for n in range(9)},
            "it has, but the model does not, x0, x1, x2 and 6 more",
        ),
        ({"a\nb": torch.zeros(1)}, r"it has, but the model does not, 'a\nb'"),
        ({"bias": torch.zeros(3, dtype=torch.int64)}, "it has in a type other than floating point bias"),
        ({"bias": torch.zeros(3, dtype=torch.bool)}, "it has in a type other than floating point bias"),
        (
            {"bias": torch.zeros(3, dtype=torch.complex64)},
            "it has in a type other than floating point bias",
        ),
        (
            {"bias": torch.tensor([0, torch.nan, 0])},
            "damaged: holds numbers that are not finite in bias; restore an intact",
        ),
        ({"weight": torch.full((3, 2), torch.inf)}, "damaged: holds numbers that are not finite in weight"),
        (
            {"bias": torch.full((3,), 1e300, dtype=torch.float64)},
            "damaged: holds numbers that are not finite in bias",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_model_are_refused(tmp_path, changed, message):
    model = torch.nn.Linear(2, 3)
    before = model.bias.clone()
    tensors = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3), **changed}
    with pytest.raises(RequestError, match=r"m\.safetensors: ") as caught:
        load_weights(model, {name: t for name, t in tensors.items() if t is not None}, tmp_path / "m.safetensors")
    assert message in str(caught.value)
    assert torch.equal(model.bias, before)  # nothing is half loaded


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_precision_are_converted(tmp_path, kind):
    model = torch.nn.Linear(2, 3)
    tensors = {"weight": torch.full((3, 2), 0.5, dtype=kind), "bias": torch.full((3,), -2.0, dtype=kind)}
    load_weights(model, tensors, tmp_path / "m.safetensors")
    assert model.weight.dtype == torch.float32 and model.weight.eq(0.5).all() and model.bias.eq(-2).all()


def test_the_log_leaves_out_a_last_line_cut_short_and_refuses_other_damage(run):
    path = run.folder / "log.jsonl"
    with pytest.raises(RequestError, match=r"log\.jsonl: cannot be read; is .* a run folder\?"):
        run.log()
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert run.log() == [{"step": 1}, {"step": 2}]
    for wrong in (
        "{",
        "3",
        "[1]",
        '{"step": "2"}',
        '{"step": 2, "kl": "x"}',
        '{"step": 2, "kl": 1' + "0" * 400 + "}",
    ):
        path.write_text('{"step": 1}\n' + wrong + '\n{"step": 2}\n')
        with pytest.raises(RequestError, match=r"log\.jsonl, line 2: damaged"):
            run.log()
    path.write_bytes(b'{"step": \xff}\n')
    with pytest.raises(RequestError, match=r"log\.jsonl: cannot be read"):
        run.log()


def test_a_process_that_trains_a_run_keeps_others_out_and_leaves_no_trace(tmp_path, run, settings, corpus):
    with training_alone(run.folder):
        Run.open(run.folder).model()  # reading needs no lock
        with pytest.raises(RequestError, match=rf"run: in use by process {os.getpid()} on .* since .*; wait until"):
            resume(run.folder)
        with pytest.raises(RequestError, match="run: exists already"):
            train(settings, run.folder)
    assert not (run.folder / ".lock").exists()
    with training_alone(tmp_path / "new", new=True):  # before the folder is a run's
        with pytest.raises(RequestError, match="new: in use by process"):
            train(settings, tmp_path / "new")


def test_a_link_in_the_place_of_the_log_is_not_followed(tmp_path, settings, run):
    (tmp_path / "mine").write_text("precious")
    (run.folder / "checkpoint" / "last.safetensors").unlink()
    (run.folder / "log.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(WorkError, match=r"log\.jsonl: cannot be written"):
        resume(run.folder)
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.fixture
def outside(tmp_path):
    """A folder that links within a run lead to; nothing may be written or removed there."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / f".last.safetensors.{'0' * 12}.part").write_text("like what a killed writer leaves")
    yield folder
    assert [path.name for path in folder.iterdir()] == [f".last.safetensors.{'0' * 12}.part"]


@pytest.mark.parametrize("name", ["checkpoint", "text"])
def test_training_refuses_a_run_with_a_link_in_the_place_of_a_folder(tmp_path, settings, run, outside, name):
    shutil.rmtree(run.folder / name, ignore_errors=True)
    half = tmp_path / "half"
    half.mkdir()
    (half / ".lock").write_text("")
    for folder, work in ((run.folder, resume), (half, lambda folder: train(settings, folder))):
        (folder / name).symlink_to(outside)
        with pytest.raises(RequestError, match=rf"{name}: is a link, and a run is|half: .* not a run folder"):
            work(folder)


def test_results_are_not_saved_behind_a_link(tmp_path, run, outside):
    (run.folder / "evaluation").symlink_to(outside)
    with pytest.warns(UserWarning, match=r"results are complete, but .*evaluation: is a link"):
        report = evaluate(run.folder, "valid", iw_samples=2, iw_sentences=2)
    assert report["split"] == "valid"
    (run.folder / "fitted").symlink_to(outside)
    with pytest.raises(RequestError, match="fitted: is a link"):
        fit_prior(run.folder)
    (run.folder / "fitted").unlink()
    (run.folder / "fitted").mkdir()
    (run.folder / "fitted" / "evaluation").symlink_to(outside)
    with pytest.raises(RequestError, match="fitted/evaluation: is a link"):
        own_folder(run.folder, "fitted/evaluation")


@pytest.mark.parametrize(
    "left",
    [
        ["checkpoint/"],
        [".lock"],
        ["checkpoint/", ".settings.toml.part"],
        ["checkpoint/", "settings.toml", ".tokenizer.json.0123456789ab.part", ".lock"],
        ["checkpoint/", "settings.toml", "tokenizer.json"],
    ],
    ids=" ".join,
)
def test_what_is_left_of_a_run_whose_making_was_cut_short_is_in_nobody_s_way(tmp_path, settings, corpus, left):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text("")
    with pytest.raises(RequestError, match=r"interrupted before training began; .*`textvae train \.\.\. --out"):
        Run.open(folder)
    with training_alone(folder, new=True):
        Run.create(folder, settings, corpus.tokenizer, corpus.description())
    assert Run.open(folder).settings == settings
    assert {path.name for path in folder.iterdir()} == {*FIXED, "environment.json", "checkpoint"}


@pytest.mark.parametrize(
    "mine", [["settings.toml"], ["checkpoint/", "notes"], ["checkpoint/last"], [".lock", "model.safetensors"]]
)
def test_a_folder_with_anything_else_is_let_alone(tmp_path, settings, corpus, mine):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in mine:
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("precious")
    before = sorted(folder.rglob("*"))
    with pytest.raises(RequestError, match="exists already and is not a run folder"):
        train(settings, folder)
    assert sorted(folder.rglob("*")) == before


HARMLESS = {
    "line ends": lambda text: text.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "a comment": lambda text: b"# mine\n" + text + b"\n# the end\n",
    "spaces": lambda text: text.replace(b" = ", b"=") + b"\n\n",
}


@pytest.mark.parametrize("change", HARMLESS)
@pytest.mark.parametrize("old", [False, True], ids=["", "of an earlier version"])
def test_settings_in_other_words_are_the_same_settings(run, change, old):
    path = run.folder / "settings.toml"
    path.write_bytes(HARMLESS[change](path.read_bytes()))
    if old:
        forget_values(run)
    assert Run.open(run.folder).settings == run.settings


def test_a_vocabulary_in_other_words_is_the_same_vocabulary(run):
    path = run.folder / "tokenizer.json"
    whole = path.read_bytes()
    path.write_text(json.dumps(json.loads(whole), indent=7))
    assert Run.open(run.folder).tokenizer.tokens == run.tokenizer.tokens
    path.write_bytes(whole.replace(b"\n", b"\r\n"))
    forget_values(run)
    assert Run.open(run.folder).tokenizer.tokens == run.tokenizer.tokens


@pytest.mark.parametrize("old", [False, True], ids=["", "of an earlier version"])
@pytest.mark.parametrize(
    ("name", "change", "how"),
    [
        ("settings.toml", lambda text: text.replace("patience = 3", "patience = 4"), "it holds other settings"),
        ("settings.toml", lambda text: text.replace("patience = 3", "patience = 'x'"), "it holds other settings"),
        ("settings.toml", lambda text: text + "[", "it is not TOML"),
        ("settings.toml", lambda text: "", "it holds other settings"),
        ("tokenizer.json", lambda text: text.replace("cat", "cot"), "it holds another vocabulary"),
        ("tokenizer.json", lambda text: text[1:], "it is not JSON"),
    ],
)
def test_what_was_changed_in_a_run_is_said(run, name, change, how, old):
    path = run.folder / name
    text = path.read_text()
    assert change(text) != text
    path.write_text(change(text))
    if old:
        forget_values(run)
    with pytest.raises(
        RequestError, match=rf"{name}: differs from the file the run was made with \({how}\): damaged or edited"
    ):
        Run.open(run.folder)


def forget_values(run):
    """Make a run one of an earlier version, which kept the digests of bytes alone."""
    path = run.folder / "environment.json"
    environment = json.loads(path.read_text())
    del environment["values"]
    path.write_text(json.dumps(environment))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["device"], {"a": 1}, 'device = {"a": 1}: should be a valid string'),
        (["cores"], "two", 'cores = "two": should be a valid integer'),
        (["cores"], 2**70, "cores = 11805916207174113034...: is not a number that can be computed with"),
        (["data", "splits"], [1], "data.splits = [1]: should be a valid dictionary"),
        (
            ["data", "splits", "train", "fingerprint"],
            7,
            "data.splits.train.fingerprint = 7: should be a valid string",
        ),
        (["data", "splits", "train", "dropped"], -1, "data.splits.train.dropped = -1: should be greater than or"),
        (["files", "settings.toml"], 3, "files.settings.toml = 3: should be a valid string"),
    ],
)
def test_an_environment_of_other_types_is_refused(run, path, value, message):
    file = run.folder / "environment.json"
    document = here = json.loads(file.read_text())
    for name in path[:-1]:
        here = here[name]
    here[path[-1]] = value
    file.write_text(json.dumps(document))
    with pytest.raises(RequestError, match=r"environment\.json: damaged: .*; restore an intact copy") as caught:
        Run.open(run.folder)
    assert message in str(caught.value)


def test_a_name_that_is_not_unicode_is_refused_as_such(tmp_path):
    folder = tmp_path / os.fsdecode(b"a\xff")
    folder.mkdir()
    for use in (Run.open, check_vacant):
        with pytest.raises(RequestError, match="has a name that is not UTF-8"):
            use(folder)
