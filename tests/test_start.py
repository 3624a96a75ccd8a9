"""A run starts from the weights of another one: what may differ, what must agree, and what is recorded."""

import shutil

import pytest
import torch

from textvae.errors import RequestError
from textvae.files import file_digest, read_tensors
from textvae.objective.presets import load_settings
from textvae.run import Run
from textvae.training.loop import resume, train
from textvae.training.start import start_document

MODEL = {"latent": 2, "embedding": 3, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}}
TRAIN = {"batch_size": 4, "max_steps": 4, "log_every": 1}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    lines = [f"the {pet} is {colour}" for pet in ("cat", "dog", "bird") for colour in ("red", "blue", "white")]
    (folder / "first.txt").write_text("\n".join(lines) + "\n")
    (folder / "second.txt").write_text("\n".join(line.replace("bird", "wolf") for line in lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def source(texts, tmp_path_factory):
    first = str(texts / "first.txt")
    settings = load_settings(
        data={"train": first, "valid": first, "tokenizer": {"min_count": 2}}, model=MODEL, train=TRAIN
    )
    return train(settings, tmp_path_factory.mktemp("source") / "run")


def begun(source, *assignments, method=None, **tables):
    """Settings that start from the run's."""
    return load_settings(start_document(source), method, assignments, **tables)


def first_weights(settings, folder, source):
    """The weights before the first step."""

    class Stop(Exception):
        pass

    from textvae.training.loop import Loop

    found = {}
    inner = Loop.run

    def stop(loop, progress=None):
        found.update({name: tensor.clone() for name, tensor in loop.model.state_dict().items()})
        raise Stop

    Loop.run = stop
    try:
        with pytest.raises(Stop):
            train(settings, folder, start=source)
    finally:
        Loop.run = inner
    return found


def test_it_begins_with_the_weights_and_the_tokenizer(source, texts, tmp_path):
    second = str(texts / "second.txt")
    settings = begun(source, "train.lr=0.01", "model.word_keep=0.5", data={"train": second, "valid": second})
    found = first_weights(settings, tmp_path / "run", source)
    weights = read_tensors(source.folder / "model.safetensors")[0]
    assert found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)
    run = Run.open(tmp_path / "run")
    assert run.tokenizer.tokens == source.tokenizer.tokens  # which do not know the wolf
    assert run.environment["start"] == {
        "absolute": str(source.folder / "model.safetensors"),
        "relative": run.environment["start"]["relative"],
        "weights": file_digest(source.folder / "model.safetensors"),
    }


def test_one_that_was_killed_before_its_first_checkpoint_starts_from_them_again(source, tmp_path):
    never = train(begun(source), tmp_path / "never", start=source)
    first_weights(begun(source), tmp_path / "killed", source)
    killed = resume(tmp_path / "killed")
    mine, other = (read_tensors(run.folder / "model.safetensors")[0] for run in (never, killed))
    assert all(torch.equal(mine[name], other[name]) for name in mine)
    scratch = read_tensors(train(begun(source), tmp_path / "scratch").folder / "model.safetensors")[0]
    assert not all(torch.equal(mine[name], scratch[name]) for name in mine)


def test_one_whose_weights_are_gone_before_its_first_checkpoint_is_refused(source, tmp_path):
    shutil.copytree(source.folder, tmp_path / "copy")
    first_weights(begun(source), tmp_path / "run", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy")
    with pytest.raises(RequestError, match="which are gone or have changed, and has no checkpoint"):
        resume(tmp_path / "run")


def test_another_objective_has_its_head_from_scratch_and_back(source, tmp_path):
    bag = train(begun(source, method="bow"), tmp_path / "bow", start=source)
    assert any(name.startswith("heads.bow") for name in bag.model().state_dict())
    back = train(begun(bag, method="vanilla"), tmp_path / "back", start=bag)
    assert back.model().state_dict().keys() == source.model().state_dict().keys()


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["model.latent=5"], r"--from .*run: .* differ in model\.latent = 5 \(there 2\); leave them out"),
        (["model.posterior.scale=softplus-variance"], r"model\.posterior\.scale = .softplus-variance. \(there "),
        (
            ["model.decoder.name=gru", "model.encoder.layers=2"],
            r"model\.encoder\.layers = 2 .*model\.decoder\.name",
        ),
        (["data.right_to_left=true"], r"data\.right_to_left = True \(there False\)"),
        (["data.tokenizer.name=character"], r"data\.tokenizer: .*the word tokenizer of .*run is taken"),
    ],
)
def test_what_must_agree_is_named(source, tmp_path, assignments, message):
    with pytest.raises(RequestError, match=message) as error:
        train(begun(source, *assignments), tmp_path / "run", start=source)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_run_without_weights_is_refused(source, tmp_path):
    shutil.copytree(source.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("model.safetensors"))
    with pytest.raises(RequestError, match="not written yet"):
        train(begun(source), tmp_path / "run", start=tmp_path / "copy")


def test_the_command_takes_settings_from_the_run_and_text_from_the_line(source, texts, tmp_path):
    from typer.testing import CliRunner

    from textvae.cli import app

    def call(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    out = tmp_path / "run"
    done = call(
        "train", "--from", source.folder, "--train", texts / "second.txt", "--valid", texts / "first.txt",
        "--set", "train.max_steps=2", "--out", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    settings = Run.open(out).settings
    assert (settings.model, settings.train.max_steps) == (source.settings.model, 2)
    assert settings.data.train == str(texts / "second.txt")
    refused = call("train", "--from", source.folder, "--set", "model.latent=9", "--out", tmp_path / "other")
    assert refused.exit_code == 2 and "model.latent = 9 (there 2)" in refused.stderr
