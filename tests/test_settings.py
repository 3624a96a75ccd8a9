import re
import tomllib
from datetime import date
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from textvae import settings as s
from textvae.errors import RequestError
from textvae.objective.presets import load_settings, methods
from textvae.objective.settings import Settings, parse
from textvae.objective.terms import TERMS
from textvae.parts.decoders import RecurrentDecoderSettings
from textvae.parts.decoders.hybrid import HybridSettings
from textvae.parts.encoders import RecurrentEncoderSettings
from textvae.parts.settings import ModelSettings
from textvae.settings import merge, override, read_document
from textvae.settings.documents import NAMED
from textvae.settings.fields import Scale
from textvae.settings.kinds import OneOf

# The example of the design document: names that are a contract.
CONTRACT = """
[data]
corpus = "ptb"
tokenizer = { name = "word", vocabulary = 10000 }
max_length = 60
[model]
latent = 32
embedding = 256
encoder = { name = "lstm", hidden = 512, bidirectional = false }
posterior = { name = "gaussian" }
prior = { name = "standard-normal" }
decoder = { name = "lstm", hidden = 512, inject = ["state", "input"], dropout = 0.5, word_keep = 1.0 }
[objective.kl]
weight = { schedule = "linear", start = 0.0, end = 1.0, steps = 10000 }
[objective.mu-forcing]
margin = 2.0
reading = "paper"
[train]
epochs = 20
batch_size = 32
optimizer = { name = "adam", lr = 1e-3 }
clip_norm = 5.0
max_steps = 300
precision = "auto"
seed = 0
"""


def read(text: str) -> Settings:
    return parse(tomllib.loads(text), TERMS)


def problems(document) -> str:
    with pytest.raises(RequestError) as caught:
        parse(document, TERMS)
    return str(caught.value)


def nested(path: str, value) -> dict:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def table(**optional):
    """Any choice of the given names, each with any of its values."""
    return st.fixed_dictionaries({}, optional=optional)


positive = st.integers(1, 10**12)
natural = st.integers(0, 10**12)
size = st.integers(1, 2**20)
depth = st.integers(1, 1000)
above = st.floats(1e-38, 1e38)  # such as float32 has
amount = st.just(0.0) | above
share = st.just(0.0) | st.floats(1e-38, 1, exclude_max=True)
probability = st.floats(1e-38, 1) | st.just(0.0)
cell = st.sampled_from(["lstm", "gru"])
schedules = (
    amount
    | st.integers(0, 100)
    | st.fixed_dictionaries({"schedule": st.just("constant")}, optional={"value": amount})
    | st.fixed_dictionaries(
        {"schedule": st.just("linear")},
        optional={"start": amount, "end": amount, "steps": positive, "delay": natural},
    )
    | st.fixed_dictionaries(
        {"schedule": st.just("sigmoid")}, optional={"start": amount, "middle": amount, "width": above}
    )
    | st.fixed_dictionaries(
        {"schedule": st.just("cyclical")},
        optional={"cycles": positive, "ratio": st.floats(1e-38, 1)},
    )
)
adam = {"lr": above | positive, "betas": st.tuples(share, share).map(list), "eps": above}
optimizers = (
    table(name=st.just("adam"), **adam)
    | st.fixed_dictionaries({"name": st.just("adamw")}, optional={**adam, "weight_decay": amount})
    | st.fixed_dictionaries({"name": st.just("sgd")}, optional={"lr": above, "momentum": share})
)
documents = table(
    data=table(
        corpus=st.text(),
        train=st.text(),
        column=st.text(),
        tokenizer=table(
            name=st.sampled_from(["word", "character", "bpe"]),
            vocabulary=natural,
            min_count=positive,
            lowercase=st.booleans(),
        ),
        max_length=positive,
        too_long=st.sampled_from(["drop", "cut"]),
        split=table(valid=share, test=share, seed=st.integers(-(2**40), 2**40)),
    ),
    model=table(
        latent=size | st.just(0),
        embedding=size,
        encoder=table(name=cell, hidden=size, layers=depth, bidirectional=st.booleans()),
        posterior=table(name=st.just("gaussian"), scale=st.sampled_from(get_args(Scale))),
        prior=table(name=st.just("standard-normal")),
        decoder=table(
            name=cell,
            inject=st.lists(st.sampled_from(["state", "input"]), unique=True),
            dropout=share,
        ),
        word_keep=probability,
        init=above,
    ),
    objective=table(
        **{
            "kl": table(weight=schedules),
            "mu-forcing": table(
                margin=amount, reading=st.sampled_from(["paper", "per-dimension"]), weight=schedules
            ),
        }
    ),
    train=table(
        epochs=positive,
        max_steps=positive,
        batch_size=positive,
        optimizer=optimizers,
        plateau=table(factor=st.floats(1e-38, 1, exclude_max=True), patience=positive, min_lr=above),
        clip_norm=amount,
        patience=positive,
        precision=st.sampled_from(["auto", "fp32", "bf16"]),
        device=st.sampled_from(["auto", "cpu", "cuda"]),
        seed=st.integers(0, 2**63 - 1),
    ),
)


@given(documents)
def test_what_is_written_reads_back_to_the_same_settings(document):
    settings = parse(document, TERMS)
    again = read(settings.toml())
    assert again == settings and again.toml() == settings.toml()


def leaves(document: dict, prefix: str = "") -> dict:
    """Every value by its path."""
    found = {}
    for name, value in document.items():
        path = f"{prefix}{name}"
        found |= leaves(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return found


@given(documents)
def test_every_value_given_arrives_and_no_other_moves(document):
    found, defaults = leaves(parse(document, TERMS).document()), leaves(Settings().document())
    given = {path + ".value" * path.endswith(".weight"): value for path, value in leaves(document).items()}
    for path, value in found.items():
        if path in given:
            assert value == given[path]
        elif path in defaults and not path.startswith("train.optimizer."):  # kinds have defaults of their own
            assert value == defaults[path]
    assert set(given) <= set(found) and set(defaults) - set(found) <= {
        "train.optimizer.betas",
        "train.optimizer.eps",
    }


def test_the_contract_holds():
    settings = read(CONTRACT)
    assert (settings.data.corpus, settings.data.tokenizer.vocabulary, settings.data.max_length) == (
        "ptb",
        10_000,
        60,
    )
    assert settings.model.encoder == RecurrentEncoderSettings(name="lstm", hidden=512, bidirectional=False)
    assert settings.model.decoder == RecurrentDecoderSettings(hidden=512, dropout=0.5)
    assert settings.objective["kl"].weight(5_000, 1) == 0.5
    assert settings.objective["mu-forcing"].margin == 2.0
    assert settings.train.optimizer == s.Adam(lr=1e-3) and settings.train.max_steps == 300


def test_the_defaults_are_the_tables_left_out():
    assert parse({}, TERMS) == Settings() == read(Settings().toml())
    assert Settings().model.latent == 32 and Settings().train.optimizer == s.Adam()


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().train.epochs = 3


def test_the_optimizer_is_adam_unless_named():
    assert parse(nested("train.optimizer", {"lr": 2}), TERMS).train.optimizer == s.Adam(lr=2.0)
    named = parse(nested("train.optimizer", {"name": "adamw", "weight_decay": 0.5}), TERMS).train.optimizer
    assert type(named) is s.AdamW and (named.weight_decay, named.lr) == (0.5, 1e-3)
    assert parse(nested("train.optimizer", {"name": "sgd"}), TERMS).train.optimizer == s.Sgd()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # unknown names
        ("trian", {}, "trian: unknown setting; did you mean 'train'?"),
        ("train.epoch", 3, "train.epoch: unknown setting; did you mean 'epochs'?"),
        ("model.word_kepp", 1.0, "model.word_kepp: unknown setting; did you mean 'word_keep'?"),
        ("model.prior.x", 1, "model.prior.x: unknown setting; known: name"),
        (
            "train.optimizer",
            {"name": "sgd", "betas": [0.9, 0.9]},
            "train.optimizer.betas: only train.optimizer.name = 'adam' or 'adamw' has it",
        ),
        (
            "train.optimizer.weight_decay",
            0.1,
            "train.optimizer.weight_decay: only train.optimizer.name = 'adamw' has it",
        ),
        ("objective.mu-forcng", {}, "objective.mu-forcng: unknown term; did you mean 'mu-forcing'?"),
        ("objective.mu-forcing.margn", 1, "objective.mu-forcing.margn: unknown setting; did you mean 'margin'?"),
        (
            "objective.kl.weight",
            {"schedule": "linear", "stps": 4},
            "objective.kl.weight.stps: unknown setting; did you mean 'steps'?",
        ),
        # unknown values
        ("model.encoder.name", "lstn", "model.encoder.name: unknown value 'lstn'; did you mean 'lstm'?"),
        (
            "model.encoder.name",
            7,
            "model.encoder.name: unknown value 7; known: convolutional, gru, lstm, transformer",
        ),
        ("train.precision", "half", "train.precision: unknown value 'half'; known: auto, bf16, fp32"),
        ("train.optimizer.name", "adm", "train.optimizer.name: unknown value 'adm'; did you mean 'adam'?"),
        ("train.optimizer.name", ["adam"], "train.optimizer.name: unknown value ['adam']; did you mean 'adam'?"),
        (
            "model.decoder.inject",
            ["state", "inptu"],
            "model.decoder.inject[1]: unknown value 'inptu'; did you mean 'input'?",
        ),
        (
            "objective.kl.weight.schedule",
            "linaer",
            "objective.kl.weight.schedule: unknown value 'linaer'; did you mean 'linear'?",
        ),
        ("objective.mu-forcing.reading", "code", "objective.mu-forcing.reading: unknown value 'code'; known: "),
        # wrong types: nothing is converted but an integer where a float is wanted
        ("train.epochs", "3", "train.epochs = '3': should be a valid integer"),
        ("train.epochs", 3.0, "train.epochs = 3.0: should be a valid integer"),
        ("train.epochs", True, "train.epochs = True: should be a valid integer"),
        ("train.clip_norm", True, "train.clip_norm = True: should be a valid number"),
        ("model.encoder.bidirectional", 1, "model.encoder.bidirectional = 1: should be a valid boolean"),
        ("data.corpus", 3, "data.corpus = 3: should be a valid string"),
        ("train.optimizer", "adam", "train.optimizer = 'adam': a table is expected; set train.optimizer.name"),
        ("train.update", "agressive", "train.update = 'agressive': a table is expected"),
        (
            "train.update",
            {"name": "aggressive", "inner": -3},
            "train.update.inner = -3: give a number of updates, 0 to 100,000, or 'converged'",
        ),
        (
            "model.posterior",
            {"name": "semi-implicit", "components": 2.5},
            "model.posterior.components = 2.5: components are counted: give a whole number",
        ),
        ("model", 3, "model = 3: a table is expected"),
        ("objective", 3, "objective = 3: a table is expected"),
        ("objective.kl", 3, "objective.kl = 3: a table is expected; set objective.kl.weight"),
        ("model.decoder.inject", "state", "model.decoder.inject = 'state': a list in square brackets is expected"),
        (
            "objective.kl.weight",
            "x",
            "objective.kl.weight = 'x': a number, or a table that names its schedule, is expected",
        ),
        (
            "objective.kl.weight",
            True,
            "objective.kl.weight = True: a number, or a table that names its schedule, is expected",
        ),
        # out of range
        ("train.epochs", 0, "train.epochs = 0: should be greater than 0"),
        ("model.latent", -1, "model.latent = -1: should be greater than or equal to 0"),
        ("model.decoder.dropout", 1.0, "model.decoder.dropout = 1.0: should be less than 1"),
        ("model.decoder.word_keep", 1.5, "model.word_keep = 1.5: should be less than or equal to 1"),
        ("train.optimizer.betas", [0.9, 1.0], "train.optimizer.betas[1] = 1.0: should be less than 1"),
        ("train.optimizer.betas", [0.9], "train.optimizer.betas = [0.9]: too few values"),
        ("train.optimizer.lr", float("inf"), "train.optimizer.lr = inf: should be a finite number"),
        ("train.clip_norm", float("nan"), "train.clip_norm = nan: should be a finite number"),
        ("train.seed", -1, "train.seed = -1: should be greater than or equal to 0"),
        ("train.seed", 2**63, f"train.seed = {2**63}: should be less than {2**63}"),
        ("objective.kl.weight", -1, "objective.kl.weight.value = -1: should be greater than or equal to 0"),
        ("objective.kl.weight", float("inf"), "objective.kl.weight.value = inf: should be a finite number"),
        ("objective.mu-forcing.margin", -2.0, "objective.mu-forcing.margin = -2.0: should be greater than or"),
        # what no number of the machine is
        ("train.epochs", 2**63, f"train.epochs = {2**63}: has more than 64 bits; give a smaller number"),
        ("model.init", 1e308, "model.init = 1e+308: is not a number of float32; give one from 1e-38 to 1e+38"),
        ("train.clip_value", 5e-324, "train.clip_value = 5e-324: is not a number of float32; give one from 1e-38"),
        (
            "train.optimizer.betas",
            [0.9, 1e-300],
            "train.optimizer.betas = [0.9, 1e-300]: is not a number of float32",
        ),
        ("objective.capacity.target", 1e39, "objective.capacity.target = 1e+39: is not a number of float32"),
        (
            "objective.kl.weight",
            {"schedule": "linear", "start": 1e300},
            "objective.kl.weight.start = 1e+300: is not a number of float32",
        ),
        # sizes that no model has
        ("model.latent", 2**31, f"model.latent = {2**31}: should be less than or equal to 1048576"),
        ("model.encoder.layers", 10**6, "model.encoder.layers = 1000000: should be less than or equal to 1000"),
        (
            "model.decoder",
            {"name": "hybrid", "first_maps": 2**31},
            f"model.decoder.first_maps = {2**31}: should be less than or equal to 4096",
        ),
        (
            "model.posterior",
            {"name": "semi-implicit", "components": {"schedule": "linear", "start": 1.0, "end": 1e9}},
            "model.posterior.components = {'schedule': 'linear', 'start': 1.0, 'end': 1000000000.0}: "
            "components are drawn for every sentence: give at most 100,000",
        ),
        # missing
        (
            "objective.kl.weight",
            {"start": 1.0},
            "objective.kl.weight.schedule: is required: it names the kind",
        ),
    ],
)
def test_each_problem_has_its_place_its_value_and_what_would_do(path, value, message):
    found = problems(nested(path, value))
    assert found.startswith(message) and "\n" not in found
    if not message.endswith((" ", "or", "float32", "1e-38")):
        assert found == message


def test_all_problems_come_at_once():
    document = {
        "train": {"epochs": 0, "batchsize": 3, "optimizer": {"name": "adamw", "lr": "fast"}},
        "modl": {},
        "objective": {"kll": {}, "mu-forcing": {"margin": -1.0, "x": 1}},
    }
    assert problems(document).splitlines() == [
        "train.epochs = 0: should be greater than 0",
        "train.optimizer.lr = 'fast': should be a valid number",
        "train.batchsize: unknown setting; did you mean 'batch_size'?",
        "modl: unknown setting; did you mean 'model'?",
        "objective.kll: unknown term; did you mean 'kl'?",
        "objective.mu-forcing.margin = -1.0: should be greater than or equal to 0",
        "objective.mu-forcing.x: unknown setting; known: margin, reading, weight",
    ]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
places = [
    "data",
    "data.corpus",
    "data.tokenizer",
    "data.tokenizer.name",
    "data.split.valid",
    "model.encoder",
    "model.decoder.inject",
    "model.posterior.scale",
    "objective",
    "objective.kl",
    "objective.kl.weight",
    "objective.kl.weight.schedule",
    "objective.mu-forcing.reading",
    "train.optimizer",
    "train.optimizer.name",
    "train.optimizer.betas",
    "train.plateau",
    "train.max_steps",
]


@given(st.sampled_from(places), junk)
def test_whatever_is_given_it_is_settings_or_a_request_error_that_names_the_place(path, value):
    try:
        parse(nested(path, value), TERMS)
    except RequestError as error:
        assert path.split(".")[0] in str(error)


def test_assignments_are_toml_or_else_strings():
    found = override(
        {},
        [
            "train.epochs=3",
            "train.lr=1e-2",
            "model.encoder.bidirectional=true",
            'model.decoder.inject=["state"]',
            "model.decoder.name=gru",
            'data.column="text"',
            "data.train = my reviews.txt ",
            "data.valid=a=b.txt",
            "data.label=",
            "objective.kl.weight={schedule='linear', steps=10}",
        ],
    )
    assert found == {
        "train": {"epochs": 3, "optimizer": {"lr": 0.01}},
        "model": {"encoder": {"bidirectional": True}, "decoder": {"inject": ["state"], "name": "gru"}},
        "data": {"column": "text", "train": "my reviews.txt", "valid": "a=b.txt", "label": ""},
        "objective": {"kl": {"weight": {"schedule": "linear", "steps": 10}}},
    }


def test_an_assignment_sets_one_value():
    assert override({}, ["train.seed=1\nepochs=2"]) == {"train": {"seed": "1\nepochs=2"}}


def test_the_short_form_of_the_learning_rate():
    document = {"train": {"optimizer": {"name": "sgd", "lr": 1.0, "momentum": 0.5}}}
    found = override(document, ["train.lr=0.25"])
    assert found == {"train": {"optimizer": {"name": "sgd", "lr": 0.25, "momentum": 0.5}}}
    assert document["train"]["optimizer"]["lr"] == 1.0  # what was given stays as it was


def test_the_last_assignment_counts():
    assert override({"train": {"seed": 1}}, ["train.seed=2", "train.seed=3"]) == {"train": {"seed": 3}}


@pytest.mark.parametrize("assignment", ["train.epochs", "", "=3", "train..epochs=3", ".epochs=3", "train.=3"])
def test_what_is_no_assignment_is_refused(assignment):
    with pytest.raises(RequestError) as caught:
        override({}, [assignment])
    assert str(caught.value) == f"--set {assignment}: expected path=value, such as train.epochs=3"


@pytest.mark.parametrize(
    ("below", "above", "merged"),
    [
        ({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 4}, "e": 5}, {"a": 1, "b": {"c": 2, "d": 4}, "e": 5}),
        # the same kind, or none named: values meet
        (
            {"optimizer": {"name": "adam", "lr": 1}},
            {"optimizer": {"name": "adam", "eps": 2}},
            {"optimizer": {"name": "adam", "lr": 1, "eps": 2}},
        ),
        (
            {"optimizer": {"name": "sgd", "lr": 1}},
            {"optimizer": {"momentum": 0.5}},
            {"optimizer": {"name": "sgd", "lr": 1, "momentum": 0.5}},
        ),
        (
            {"w": {"schedule": "linear", "steps": 5}},
            {"w": {"end": 1}},
            {"w": {"schedule": "linear", "steps": 5, "end": 1}},
        ),
        # kinds with the same settings keep them
        ({"d": {"name": "lstm", "hidden": 7}}, {"d": {"name": "gru"}}, {"d": {"name": "gru", "hidden": 7}}),
        # another kind: the whole table goes; an optimizer without a name is Adam
        ({"optimizer": {"name": "adam", "eps": 1}}, {"optimizer": {"name": "sgd"}}, {"optimizer": {"name": "sgd"}}),
        ({"optimizer": {"lr": 1}}, {"optimizer": {"name": "sgd"}}, {"optimizer": {"name": "sgd"}}),
        (
            {"w": {"schedule": "linear", "steps": 5}},
            {"w": {"schedule": "sigmoid", "width": 1.0}},
            {"w": {"schedule": "sigmoid", "width": 1.0}},
        ),
        # a table in place of a value and the other way round
        ({"w": 1.0}, {"w": {"schedule": "linear"}}, {"w": {"schedule": "linear"}}),
        ({"w": {"schedule": "linear"}}, {"w": 0.5}, {"w": 0.5}),
    ],
)
def test_merging_by_hand(below, above, merged):
    before = repr((below, above))
    assert merge(below, above) == merged
    assert repr((below, above)) == before


@given(documents)
def test_merging_onto_nothing_or_itself_changes_nothing(document):
    assert merge({}, document) == merge(document, {}) == merge(document, document) == document


def test_files_that_cannot_be_read_are_refused(tmp_path):
    def refused(path) -> str:
        with pytest.raises(RequestError) as caught:
            read_document(path)
        return str(caught.value)

    assert refused(tmp_path / "none.toml") == f"{tmp_path / 'none.toml'}: no such settings file"
    assert refused(tmp_path) == f"{tmp_path}: is a folder; a settings file in TOML is expected"
    file = tmp_path / "settings.toml"
    file.write_bytes(b"\xff\xfe[train]")
    assert refused(file) == f"{file}: not UTF-8 text; a settings file in TOML is expected"
    file.write_text("[train\nepochs = 3")
    assert refused(file).startswith(f"{file}: not valid TOML: ") and "line 1" in refused(file)
    file.write_text("[train]\nseed = 1\nseed = 2")
    assert refused(file).startswith(f"{file}: not valid TOML: Cannot overwrite a value")


def test_a_byte_order_mark_and_crlf_are_no_problem(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_bytes(b"\xef\xbb\xbf[train]\r\nepochs = 3\r\n")
    assert read_document(file) == {"train": {"epochs": 3}}


def test_an_assignment_reaches_into_a_list_by_number():
    document = {"phase": [{"share": 0.3, "objective": {"kl": {"weight": 0.5}}}, {}]}
    found = override(document, ["phase.0.objective.kl.weight=0.25", "phase.1.reset=['decoder']"])
    assert found == {
        "phase": [{"share": 0.3, "objective": {"kl": {"weight": 0.25}}}, {"reset": ["decoder"]}],
    }
    assert document["phase"][0]["objective"]["kl"]["weight"] == 0.5  # what was given stays as it was
    for wrong in ("2", "first"):
        with pytest.raises(
            RequestError, match=rf"phase\.{wrong}: is not in the list; there are phase\.0, phase\.1"
        ):
            override(document, [f"phase.{wrong}.share=0.5"])


def test_short_forms_are_known_in_files_too(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[train]\nlr = 3e-3\nepochs = 2\n")
    assert read_document(file) == {"train": {"optimizer": {"lr": 3e-3}, "epochs": 2}}
    file.write_text('[train]\nlr = 3e-3\noptimizer = { name = "sgd", momentum = 0.5 }\n')
    optimizer = parse(read_document(file), TERMS).train.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum) == ("sgd", 3e-3, 0.5)


def test_the_order_of_assignments_does_not_matter_to_the_kind_of_a_table():
    below = {"model": {"posterior": {"scale": "softplus"}}}
    found = override(below, ["model.posterior.gamma=2.0", "model.posterior.name=batch-norm"])
    assert found["model"]["posterior"] == {"name": "batch-norm", "gamma": 2.0}
    decoder = parse(
        override({}, ["model.decoder.hidden=64", "model.decoder.name=transformer"]), TERMS
    ).model.decoder
    assert (decoder.name, decoder.hidden) == ("transformer", 64)


def test_an_entry_of_a_list_is_named_either_way_and_false_takes_a_table_away():
    below = {"phase": [{"share": 0.5}, {}], "objective": {"kl": {"weight": 0.5}}, "train": {"plateau": {}}}
    assert override(below, ["phase[0].share=0.2"]) == override(below, ["phase.0.share=0.2"])
    found = override(below, ["objective.kl=false", "objective.capacity.target=4", "train.plateau=false"])
    assert found["objective"] == {"capacity": {"target": 4}} and found["train"] == {}
    assert override({"train": {"x": 1}}, ["train.x=false"]) == {"train": {"x": False}}


@pytest.mark.parametrize(
    "path, message",
    [
        ("model.decoder.heads", "only model.decoder.name = 'transformer' has it"),
        ("model.encoder.maps", "only model.encoder.name = 'convolutional' has it"),
        ("model.decoder.blocks", "only model.decoder.name = 'gated-convolutional' has it"),
        ("model.posterior.rate", "only model.posterior.name = 'delta' has it"),
        ("train.update.inner", "only train.update.name = 'aggressive' has it"),
        (
            "model.decoder.tops",
            "unknown setting; known: dropout, embedding_dropout, hidden, inject, layers, name, norm",
        ),
    ],
)
def test_a_setting_of_another_kind_of_part_names_the_kind(path, message):
    assert problems(nested(path, 2)) == f"{path}: {message}"


CONVOLUTIONAL = {"name": "convolutional"}
ONE_OR_MANY = "give one number, 1 to 1,024, for all layers, or a list of one for each"


@pytest.mark.parametrize(
    "table, message",
    [
        ({"kernel": 0}, f"kernel = 0: {ONE_OR_MANY}"),
        ({"kernel": [3, 0]}, f"kernel = [3, 0]: {ONE_OR_MANY}"),
        ({"stride": []}, f"stride = []: {ONE_OR_MANY}"),
        ({"stride": "two"}, f"stride = 'two': {ONE_OR_MANY}"),
        ({"maps": []}, "maps = []: too few values; give 1 or more"),
        ({"maps": 128}, "maps = 128: a list in square brackets is expected"),
        ({"maps": [128, -1]}, "maps[1] = -1: should be greater than 0"),
    ],
)
def test_a_wrong_list_of_layers_has_one_problem(table, message):
    assert problems({"model": {"encoder": {**CONVOLUTIONAL, **table}}}) == f"model.encoder.{message}"


def test_the_default_norm_of_a_hybrids_top_is_one_that_its_cell_has():
    def top(*assignments: str) -> tuple[str, str]:
        decoder = parse(override({}, ["model.decoder.name=hybrid", *assignments]), TERMS).model.decoder
        return decoder.top.name, decoder.top.norm

    assert top() == ("lstm", "layer")
    assert top("model.decoder.top.name=gru") == ("gru", "none")
    assert top("model.decoder.top.norm=layer-per-gate", "model.decoder.top.name=gru") == ("gru", "layer-per-gate")


@pytest.mark.parametrize(
    "given",
    [
        {"model": {"word_keep": 0.5}},
        {"model": {"decoder": {"word_keep": 0.5}}},  # where it was once
        {"model": {"decoder": {"name": "hybrid", "top": {"word_keep": 0.5}}}},
    ],
)
def test_word_dropout_is_every_decoders(given):
    assert parse(given, TERMS).model.word_keep == 0.5
    for name in ("lstm", "gru", "hybrid", "transformer", "bytenet", "gated-convolutional"):
        assert parse(override(given, [f"model.decoder.name={name}"]), TERMS).model.word_keep == 0.5
    assert parse(override(given, ["model.decoder.word_keep=0.25"]), TERMS).model.word_keep == 0.25
    assert (
        parse(override({}, ['model.decoder={name="hybrid", top={word_keep=0.25}}']), TERMS).model.word_keep == 0.25
    )


def test_words_that_no_decoder_reads_cannot_be_dropped():
    hybrid = {"decoder": {"name": "hybrid", "top": {"name": "feed-forward"}}}
    with pytest.raises(RequestError, match=r"model.word_keep = 0.5: the decoder reads no words"):
        load_settings(model={**hybrid, "word_keep": 0.5})
    assert load_settings(model={**hybrid, "word_keep": 0.0}).model.word_keep == 0.0


@pytest.mark.parametrize(
    ("assignments", "norm", "value"),
    [
        ([], 5.0, 0.0),
        (["train.clip_value=5.0"], 0.0, 5.0),
        (["train.clip_value=5.0", "train.clip_norm=5.0"], 5.0, 5.0),
        (["train.clip_norm=0.0"], 0.0, 0.0),
        (["train.clip_value=0.0"], 5.0, 0.0),
    ],
)
def test_clipping_element_by_element_switches_the_default_norm_off(assignments, norm, value):
    settings = parse(override({}, assignments), TERMS)
    assert (settings.train.clip_norm, settings.train.clip_value) == (norm, value)
    written = settings.document()["train"]
    assert (written["clip_norm"], written["clip_value"]) == (norm, value)  # spelled out, so that it is read back so
    assert parse(tomllib.loads(settings.toml()), TERMS) == settings


TYPES = [
    {},
    [],
    [1],
    [{}],
    True,
    False,
    "x",
    5,
    1.5,
    date(1979, 5, 27),
    {"name": {"schedule": "linear"}},
    {"name": ["lstm"]},
]
TYPES += [{"schedule": ["linear"]}, {"schedule": {"a": 1}}, {"top": 5}, {"top": {"name": []}}, [[1]], "y" * 5000]


@pytest.mark.parametrize("value", TYPES, ids=str)
@pytest.mark.parametrize("method", ["kl-annealing-converged", "hybrid", "aggressive-semi-implicit"])
def test_what_is_of_another_type_is_refused_wherever_it_stands(method, value):
    """A kind that is a table or a list, a list of no tables, a date: one message of a length to be read."""
    document = read_document(methods()[method])
    places = {place for path in leaves(document) for place in prefixes(path)}
    for place in sorted(
        places | {"model.decoder", "model.decoder.name", "model.posterior.name", "train.update.name"}
    ):
        for below, above in ((document, nested(place, value)), (nested(place, value), document)):
            try:
                parse(merge(below, above), TERMS)
            except RequestError as error:
                assert len(str(error)) < 2000 and all(len(line) <= 600 for line in str(error).splitlines())


@pytest.mark.parametrize("value", TYPES, ids=str)
def test_a_phase_that_is_no_table_is_refused(value):
    document = {"phase": [{"epochs": 1}, {}]}
    try:
        parse(merge(document, {"phase": {"0": value}}), TERMS)
    except RequestError as error:
        assert str(error).startswith("phase[0]")
    with pytest.raises(RequestError, match=r"phase\[0\] = 3: a table is expected"):
        parse(merge({"phase": [3]}, {"phase": {"0": 3}}), TERMS)
    assert merge({"phase": [3]}, {"phase": {"0": {"epochs": 2}}}) == {"phase": [{"epochs": 2}]}


def prefixes(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]


def test_long_messages_are_shortened():
    many = problems({f"setting{number}": 1 for number in range(100)}).splitlines()
    assert len(many) == 21 and many[0].startswith("setting0: unknown setting; known: ")
    assert many[-1] == "and 80 more problems"
    (line,) = problems(nested("train.epochs", "9" * 10_000)).splitlines()
    assert line.startswith("train.epochs = '999") and line.endswith("999 ...: should be a valid integer")
    assert len(line) < 120


def test_files_with_numbers_of_thousands_of_digits_and_endless_nesting_are_refused(tmp_path):
    for text in ("x = " + "9" * 10_000, "x = " + "[" * 100_000 + "]" * 100_000):
        (tmp_path / "settings.toml").write_text(text)
        with pytest.raises(RequestError, match=r"settings\.toml: (holds a number or a table|not valid TOML)"):
            read_document(tmp_path / "settings.toml")
        assert override({}, [text]) == {"x": text[4:]}


def test_an_integer_of_more_digits_than_python_writes_is_refused_by_its_place():
    for digits in ("0x" + "f" * 5000, "[0o" + "7" * 9000 + "]"):
        with pytest.raises(RequestError, match=r"^model\.latent = an integer of thousands of digits: "):
            load_settings(None, None, [f"model.latent={digits}"])


def test_settings_are_shown_without_what_steers_a_terminal():
    """Those of a file from elsewhere are printed by `train --dry-run`."""
    name = "a\x1b[31mb\x9bc\u202ed\u2028e\x85f\u200fg ü 你"
    text = load_settings(None, None, (), data={"corpus": name}).toml()
    assert text.isprintable() or all(line.isprintable() for line in text.split("\n"))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u200e\u200f]", text)
    assert tomllib.loads(text)["data"]["corpus"] == name


def test_the_kind_of_a_table_without_a_name_is_the_default_wherever_it_is_asked():
    """In merging documents, in validating a table, and where there is no table."""
    tables = {**ModelSettings().__dict__, "top": HybridSettings(name="hybrid").top, **s.Train().__dict__}
    for field, kind in NAMED.items():
        assert tables[field].name == kind, field
    marks = {name: mark for name, field in ModelSettings.model_fields.items() for mark in field.metadata}
    assert {name: mark.default for name, mark in marks.items() if isinstance(mark, OneOf)} == {
        name: NAMED[name] for name in ("encoder", "posterior", "prior", "conditioner", "decoder")
    }
