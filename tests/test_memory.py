"""Settings at their extremes: refused by type, refused by the memory that they need, or trained."""

import random
import re

import pytest
import torch

from textvae.errors import RequestError, WorkError
from textvae.model import build
from textvae.objective.presets import load_settings, methods
from textvae.objective.settings import Settings
from textvae.training import memory
from textvae.training.loop import train
from textvae.training.memory import check_memory, logit_bytes, said, weight_bytes

CPU = torch.device("cpu")
SMALL = ["model.embedding=6", "model.encoder.hidden=6", "data.max_length=12"]


def numbers(table, place=""):
    """Every number of a document by its path."""
    inner = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for name, value in inner:
        path = f"{place}[{name}]" if isinstance(table, list) else f"{place}.{name}" if place else name
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if not isinstance(table, list):  # an entry of one is not set by itself
                yield path.removesuffix(".value"), value
        else:
            yield from numbers(value, path)


def refusal(method, assignments):
    try:
        load_settings(None, method, assignments)
    except RequestError as error:
        return str(error)
    return None


@pytest.mark.parametrize("method", sorted(methods()))
def test_no_setting_takes_a_number_that_no_type_of_the_machine_holds(method):
    settings = load_settings(None, method)
    for path, value in numbers(settings.document()):
        for extreme in ("9223372036854775808",) if isinstance(value, int) else ("1e308", "5e-324"):
            message = refusal(method, [f"{path}={extreme}"])
            assert message is not None, f"{path} = {extreme}"
            assert path in message and len(message) < 600
        if path != "data.split.seed":
            assert refusal(method, [f"{path}=-1"]).startswith(path), path
        assert load_settings(None, method, [f"{path}={value!r}"]) == settings  # nothing is amiss with its own


def test_bytes_of_the_weights_of_a_model_counted_by_hand():
    """An LSTM of n inputs and m units has 4 m (n + m + 2) weights."""
    settings = load_settings(None, "vanilla", [*SMALL, "model.latent=2", "model.decoder.hidden=5"])
    encoder = 10 * 6 + 4 * 6 * (6 + 6 + 2) + (6 + 1) * 4  # 10 words, and mean and variance of 2 dimensions
    decoder = 10 * 6 + 4 * 5 * (6 + 2 + 5 + 2) + (2 + 1) * 10 + (5 + 1) * 10  # the code at every step and at first
    assert weight_bytes(settings, 10) == 4 * (encoder + decoder)


def built(settings, vocabulary):
    model = build(settings.model, vocabulary, settings.terms(), settings.data.positions)
    return [*model.named_parameters(), *model.named_buffers()]


@pytest.mark.parametrize("method", sorted(methods()))
def test_bytes_of_the_weights_are_those_of_the_model_that_is_built(method):
    settings = load_settings(None, method, [] if method in ("language-model", "hybrid") else SMALL)
    tensors = {id(tensor): tensor for _, tensor in built(settings, 11)}.values()
    assert weight_bytes(settings, 11) == sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_bytes_of_the_logits_of_a_batch():
    settings = load_settings(None, "semi-implicit", ["train.batch_size=3", "model.posterior.samples=5"])
    assert logit_bytes(settings, vocabulary=100, tokens=21) == 3 * 7 * 5 * 100 * 4
    half = load_settings(None, "vanilla", ["train.batch_size=3", "train.precision=bf16"])
    assert logit_bytes(half, vocabulary=100, tokens=21) == 3 * 7 * 100 * 2


@pytest.mark.parametrize(
    ("method", "assignments", "message"),
    [
        (
            "vanilla",
            ["model.latent=1000000"],
            r"model\.latent = 1000000: needs 6\d GB of memory to train, this machine",
        ),
        ("vanilla", ["model.encoder.hidden=1000000"], r"model\.encoder\.hidden = 1000000: needs 6\d TB"),
        ("vanilla", ["model.embedding=1048576"], r"model\.embedding = 1048576: needs \d+ GB"),
        (
            "hybrid",
            ["model.decoder.maps=[4096, 4096]", "model.decoder.kernel=64"],
            r"model\.decoder\.maps\[0\] = 4096: needs 1\d GB",
        ),
        (
            "hybrid",
            ["data.max_length=9000000000000000000"],
            r"data\.max_length = 9\d+: needs more than any machine has",
        ),
        (
            "iaf",
            ["model.posterior.hidden=1000000", "model.latent=1000"],
            r"model\.posterior\.hidden = 1000000: needs",
        ),
        ("vamp-prior", ["model.prior.components=1000000"], r"model\.prior\.components = 1000000: needs \d+ GB"),
        ("vamp-prior", ["model.prior.length=1000000"], r"model\.prior\.length = 1000000: needs \d+ GB"),
        (
            "semi-implicit",
            ["model.posterior.components=100000", "model.posterior.hidden=4096"],
            r"model\.posterior\.components = 100000: needs 5\d GB",
        ),
        ("bow", ["objective.bow.hidden=1000000"], r"objective\.bow\.hidden = 1000000: needs \d+ GB"),
        (
            "vanilla",
            ["train.batch_size=1000000"],
            r"train\.batch_size = 1000000: needs 1\.6 TB of memory to train, this",
        ),
        ("vanilla", ["train.optimizer.name=sgd", "model.latent=1000000"], r"model\.latent = 1000000: needs 3\d GB"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_built(monkeypatch, method, assignments, message):
    monkeypatch.setattr(memory, "total_memory", lambda device: 15e9)
    with pytest.raises(RequestError, match=message) as caught:
        settings = load_settings(None, method, assignments)
        check_memory(settings, 10_004, 40 * settings.train.batch_size, CPU)
    assert str(caught.value).endswith("this machine has 15 GB; give less")
    check_memory(load_settings(None, method), 10_004, 40 * 32, CPU)


def test_a_vocabulary_that_is_too_large_is_named(monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda device: 15e9)
    with pytest.raises(
        RequestError, match=r"data\.tokenizer\.vocabulary = 5000000: needs \d+ GB of memory to train"
    ):
        check_memory(Settings(), 5_000_000, 40, CPU)


def test_a_container_s_limit_counts(monkeypatch, tmp_path):
    whole = memory.total_memory()
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "less").write_text(f"{10**9}\n")
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "none", tmp_path / "max"))
    assert memory.total_memory() >= whole > 10**8
    monkeypatch.setattr(memory, "_LIMITS", (tmp_path / "less", tmp_path / "max"))
    assert memory.total_memory() == 10**9 and said(10**9) == "1 GB"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_extreme_numbers_are_refused_or_trained(monkeypatch, tmp_path, tiny_sentences, seed):
    """A draw of all numbers of all presets at extremes that the tables let through: no third end."""
    monkeypatch.setattr(memory, "total_memory", lambda device: 1e9)
    files = {"train": tiny_sentences[:40], "valid": tiny_sentences[40:50], "test": tiny_sentences[50:]}
    for name, texts in files.items():
        (tmp_path / name).write_text("\n".join(texts) + "\n")
    common = [f'data.{name}="{tmp_path / name}"' for name in files]
    common += [
        "train.max_steps=2",
        "train.batch_size=8",
        "model.embedding=8",
        "data.max_length=15",
        "train.device=cpu",
    ]
    cases = [
        (method, f"{path}={extreme}")
        for method in sorted(methods())
        for path, _ in numbers(load_settings(None, method).document())
        for extreme in ("0", "1e-38", "1e38", "1000", "1000000", "2147483648", "9223372036854775807")
        if not path.startswith("train.update")  # how many updates a step makes: long, not wrong
    ]
    ends = {"refused": 0, "failed": 0, "trained": 0}
    for number, (method, extreme) in enumerate(random.Random(seed).sample(cases, 60)):
        try:
            train(load_settings(None, method, [*common, extreme]), tmp_path / f"run{number}")
            ends["trained"] += 1
        except RequestError as error:
            assert re.match(r"[\w.\[\]-]+", str(error)) and len(str(error)) < 2000
            ends["refused"] += 1
        except WorkError as error:
            assert "diverged" in str(error)
            ends["failed"] += 1
    assert min(ends["refused"], ends["trained"]) > 5
