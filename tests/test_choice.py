"""What the method `auto` chooses for a text and an aim, and what it leaves to the user."""

import pytest

import textvae
from textvae.errors import RequestError
from textvae.training.choice import AIMS, AUTO, choose, default_method, load_chosen
from textvae.training.loop import train

REVIEWS = [
    f"the {noun} was {word} , and the {other} too ."
    for noun in "abcdefgh"
    for word in "ijklmnop"
    for other in "qrst"
]


def write(folder, lines):
    file = folder / "text.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def test_epochs_are_so_many_that_training_sees_three_million_tokens():
    def epochs(sentences):
        return choose("word word word word word" for _ in range(sentences)).document["train"]["epochs"]

    assert epochs(50_000) == 10  # of 5 words, 6 tokens with punctuation
    assert epochs(200) == 40 and epochs(1_000_000) == 5


def test_a_small_text_gets_a_small_model():
    small, large = (choose(["one two three four five"] * count).document["model"] for count in (1000, 100_000))
    assert small["latent"] < large["latent"] and small["encoder"]["hidden"] < large["encoder"]["hidden"]


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (["It's raw, isn't it? Yes."] * 300, "words"),
        (["it 's tokenized , is n't it ? yes ."] * 300, "word"),
        (["anna", "bertil", "cesar"] * 100, "character"),
        (["今天天气很好"] * 300, "character"),
    ],
)
def test_the_tokenizer_is_chosen_by_the_text(lines, name):
    choice = choose(lines)
    assert choice.document["data"]["tokenizer"]["name"] == name
    assert name in choice.reasons["data"] and choice.reasons.keys() == choice.document.keys()


def test_what_is_given_is_not_chosen(tmp_path):
    file = write(tmp_path, REVIEWS)
    below = {"data": {"corpus": str(file), "tokenizer": {"name": "bpe"}}, "model": {"latent": 5}}
    settings, reasons = load_chosen(below, AUTO, ["train.epochs=2"], train={"lr": 0.5})
    assert reasons == []  # something of every table was given
    assert settings.data.tokenizer.name == "bpe" and settings.model.latent == 5
    assert settings.train.epochs == 2 and settings.train.optimizer.lr == 0.5
    assert settings.model.encoder.hidden == 128 and settings.train.fit_prior


@pytest.mark.parametrize("aim", AIMS)
def test_an_aim_is_the_price_of_a_nat(tmp_path, aim):
    data = {"corpus": str(write(tmp_path, REVIEWS))}
    settings, _ = load_chosen(None, AUTO, aim=aim, data=data)
    assert settings.objective["selected-kl"].end == {"representation": 0.1, "balance": 0.3, "generation": 1.0}[aim]
    assert settings.model.word_keep == (1.0 if aim == "generation" else 0.8)
    settings, _ = load_chosen(None, AUTO, ["objective.selected-kl.end=0.7"], aim=aim, data=data)
    assert settings.objective["selected-kl"].end == 0.7


def test_the_usual_aim_is_balance(tmp_path):
    settings, reasons = load_chosen(None, AUTO, data={"corpus": str(write(tmp_path, REVIEWS))})
    assert [reason.split()[1] for reason in reasons] == ["tokenizer", "latent", "40"]
    assert settings.objective["selected-kl"].end == 0.3


def test_what_it_refuses(tmp_path):
    data = {"corpus": str(write(tmp_path, REVIEWS[:50]))}
    with pytest.raises(RequestError, match="50 sentences are too few for that; give 200 or more, or another"):
        load_chosen(None, AUTO, data=data)
    with pytest.raises(RequestError, match="--aim beauty: unknown aim"):
        load_chosen(None, AUTO, aim="beauty", data=data)
    with pytest.raises(RequestError, match="--aim balance: is for --method auto alone"):
        load_chosen(None, "vanilla", aim="balance", data=data)
    assert load_chosen(None, "vanilla", data=data)[1] is None


def test_auto_is_the_method_unless_the_objective_is_ones_own(tmp_path):
    assert default_method(["model.latent=4", "objective.bow.weight=0.5", "train.lr=0.1"]) == AUTO
    assert default_method(model={"latent": 4}, data={"corpus": "grammar"}) == AUTO
    for own in (["objective.kl={}"], ["objective.mu-forcing.margin=2"], ["model.latent=0"], ["phase=[{}]"]):
        assert default_method(own) == "vanilla"
    assert default_method(objective={"capacity": {"target": 3}}) == "vanilla"
    run = textvae.train(
        iter(REVIEWS), tmp_path / "run", False, train={"max_steps": 3}, assignments=iter(["model.latent=3"])
    )
    assert run.settings.objective.keys() == {"selected-kl", "bow"} and run.settings.model.latent == 3


def test_texts_in_memory_that_can_be_read_once(tmp_path):
    run = textvae.train((text for text in REVIEWS), tmp_path / "run", False, method="auto", train={"max_steps": 3})
    assert run.settings.objective.keys() == {"selected-kl", "bow"} and run.settings.data.tokenizer.name == "word"
    assert len(run.log()) > 3


def test_a_run_of_auto_ends_with_a_fitted_prior_or_the_reason(tmp_path):
    settings, _ = load_chosen(
        None, AUTO, ["train.max_steps=30"], data={"corpus": str(write(tmp_path, REVIEWS))}, model={"latent": 4}
    )
    run = train(settings, tmp_path / "run")
    assert (run.folder / "fitted/prior.json").exists()
    assert textvae.load(run.folder).run.fitted is not None
