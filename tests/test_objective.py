import pytest
import torch

from textvae.errors import RequestError
from textvae.model import Pass
from textvae.objective.objective import Objective
from textvae.objective.presets import combination_problems, load_settings, methods
from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.kl import Kl
from textvae.objective.terms.mu_forcing import MuForcing
from textvae.objective.terms.term import Term
from textvae.settings.schedules import Constant, Linear

# Two samples of three sentences: sums over time -3, -1, -2 and -5, -3, -2; means over samples -4, -2, -2.
LOG_PX = torch.tensor([[[-1.0, -2.0], [-1.0, 0.0], [-2.0, 0.0]], [[-4.0, -1.0], [-3.0, 0.0], [-1.0, -1.0]]])
MEAN = torch.tensor([[1.0], [-1.0], [3.0]])  # KL of unit posteriors 1/2, 1/2, 9/2; variance 8/3


RATES = ", ".join(name for name, term in TERMS.items() if term.is_rate)


def problem(**tables) -> str:
    with pytest.raises(RequestError) as caught:
        load_settings(**tables)
    return str(caught.value)


def test_the_loss_is_the_sum_of_weighted_terms_and_the_parts_are_raw(passed):
    out = passed(MEAN, log_px=LOG_PX)
    objective = Objective({"kl": Kl(weight=Linear(steps=10)), "mu-forcing": MuForcing(margin=3, weight=0.25)}, 100)
    reconstruction, kl, hinge = 8 / 3, 11 / 6, 3 - 4 / 3
    for step, weight in ((0, 0.0), (4, 0.4), (10, 1.0), (50, 1.0)):
        loss, raw = objective(out, step)
        assert loss.item() == pytest.approx(reconstruction + weight * kl + 0.25 * hinge, rel=1e-6)
        assert {name: float(value) for name, value in raw.items()} == pytest.approx(
            {"reconstruction": reconstruction, "kl": kl, "mu-forcing": hinge}, rel=1e-6
        )
        assert objective.weights(step) == pytest.approx({"kl": weight, "mu-forcing": 0.25})


@pytest.mark.parametrize(
    ("value", "kind"), [(torch.zeros(3), "shape (3,)"), (torch.zeros(1), "shape (1,)"), (0.5, "a float")]
)
def test_a_term_that_is_not_a_scalar_tensor_is_refused(passed, value, kind):
    class Bad(Term):
        def __call__(self, out, step):
            return value

    with pytest.raises(RequestError) as caught:
        Objective({"bad": Bad()}, 10)(passed(MEAN), 0)
    needs = "a scalar tensor is needed, as gathered(values).mean()"
    assert str(caught.value) == f"objective.bad: returned {kind}; {needs}"


def test_weights_know_the_planned_total():
    terms = load_settings(method="cyclical").objective
    assert [Objective(terms, 80).weights(step)["kl"] for step in (0, 5, 10, 20, 25)] == [0.0, 0.5, 1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("name", "fields", "learned", "weight"),
    [
        ("kl", {"weight": 0.3}, {}, 0.3),
        ("lagrangian", {}, {"lagrangian": -0.6}, -0.6),
        ("autoencoder", {}, {}, 0.0),
        ("mmd", {"weight": 5}, {}, 0.0),
        ("capacity", {"weight": 5}, {}, 1.0),
    ],
)
def test_what_a_nat_of_kl_costs(name, fields, learned, weight):
    """What the refinement of a posterior pays: the objective's own weight, nothing of a rate that is not paid."""
    assert Objective({"bow": TERMS["bow"](), name: TERMS[name](**fields)}, 10).kl_weight(0, learned) == weight


def test_the_parts_carry_no_gradient_and_the_loss_does():
    log_px = LOG_PX.clone().requires_grad_()
    loss, raw = Objective({}, 10)(Pass(log_px, None, None, None, {}), 0)
    assert not any(value.requires_grad for value in raw.values())
    (gradient,) = torch.autograd.grad(loss, log_px)
    torch.testing.assert_close(gradient, torch.full_like(gradient, -1 / 6))


def test_a_language_model_has_no_rate():
    loss, raw = Objective({}, 10)(Pass(LOG_PX[:1], None, None, None, {}), 0)
    assert list(raw) == ["reconstruction"] and float(loss) == float(raw["reconstruction"]) == 2.0


@pytest.mark.parametrize("reading", ["paper", "per-dimension"])
def test_gradcheck_of_the_whole(passed, reading):
    generator = torch.Generator().manual_seed(0)
    log_px = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    mean, logs = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)
    objective = Objective(
        {"kl": Kl(weight=0.3), "mu-forcing": MuForcing(margin=9, reading=reading, weight=2.0)}, 10
    )
    leaves = tuple(leaf.requires_grad_() for leaf in (log_px, mean, logs.exp()))
    assert torch.autograd.gradcheck(lambda x, mean, std: objective(passed(mean, std, x), 0)[0], leaves)


def test_every_method_loads_and_fits():
    found = {name: load_settings(method=name) for name in methods()}
    assert set(found) >= {"vanilla", "kl-annealing", "cyclical", "mu-forcing", "language-model"}
    for settings in found.values():
        assert combination_problems(settings) == []
    assert found["vanilla"] == load_settings()
    assert found["vanilla"].objective == {"kl": Kl()}
    assert found["kl-annealing"].objective == {"kl": Kl(weight=Linear(start=0, end=1, steps=0.5, unit="run"))}
    assert found["mu-forcing"].objective == {"kl": Kl(), "mu-forcing": MuForcing(margin=2.0, reading="paper")}
    cyclical = found["cyclical"].objective["kl"].weight
    assert (cyclical.schedule, cyclical.cycles, cyclical.ratio) == ("cyclical", 4, 0.5)
    assert found["language-model"].model.latent == 0 and found["language-model"].objective == {}


def test_the_order_is_file_method_tables_assignments(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[objective.mu-forcing]\nmargin = 3\n[train]\nepochs = 3\nseed = 3\n[model]\nlatent = 3\n")
    settings = load_settings(
        file, "mu-forcing", ["train.seed=5", "train.lr=0.25"], train={"seed": 4, "epochs": 4}, data={"corpus": "c"}
    )
    assert settings.objective == {"kl": Kl(), "mu-forcing": MuForcing(margin=2.0)}
    assert (settings.train.seed, settings.train.epochs, settings.model.latent) == (5, 4, 3)
    assert (settings.train.optimizer.lr, settings.data.corpus) == (0.25, "c")


def test_a_method_takes_the_place_of_the_files_objective(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[objective.kl]\nweight = 0.5\n[objective.mu-forcing]\nmargin = 3\n")
    assert load_settings(file).objective == {"kl": Kl(weight=0.5), "mu-forcing": MuForcing(margin=3.0)}
    assert load_settings(file, "vanilla").objective == {"kl": Kl()}
    assert load_settings(file, "language-model").objective == {}


def test_settings_of_terms_are_read_and_written_back(tmp_path):
    settings = load_settings(
        method="mu-forcing",
        assignments=[
            "objective.kl.weight={schedule='sigmoid', middle=7}",
            "objective.mu-forcing.reading=per-dimension",
            "objective.mu-forcing.weight=16",
        ],
    )
    term = settings.objective["mu-forcing"]
    assert (term.reading, term.weight) == ("per-dimension", Constant(value=16.0))
    file = tmp_path / "settings.toml"
    file.write_text(settings.toml())
    assert load_settings(file) == settings


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"method": "mu-forcin"},
            "--method mu-forcin: unknown method; did you mean 'mu-forcing'?",
        ),
        (
            {"method": "somersault"},
            f"--method somersault: unknown method; known: {', '.join(sorted(methods()))}",
        ),
        (
            {"method": "language-model", "model": {"latent": 8}},
            "--method language-model: has no code, but model.latent = 8 asks for one; remove one of the two",
        ),
        (
            {"method": "pretrained", "objective": {"kl": {}, "bow": {}}},
            "objective.bow: no phase uses it, as each has an objective of its own; set phase.1.objective.bow",
        ),
        (
            {"method": "batch-norm", "objective": {"mu-forcing": {"margin": 20}}},
            "objective.mu-forcing.margin = 20.0: the means of the batch-norm posterior spread by at most 5.76;",
        ),
        (
            {"method": "vmf", "objective": {"mu-forcing": {"margin": 2}}},
            "objective.mu-forcing.margin = 2.0: the means of the vmf posterior spread by at most 0.27;",
        ),
        (
            {"method": "mu-forcing", "train": {"batch_size": 1}},
            "objective.mu-forcing: the means of a batch of one have no spread; give train.batch_size 2 or more",
        ),
        (
            {"method": "batch-norm", "train": {"batch_size": 1}},
            "train.batch_size = 1: a batch of one has no statistics for the batch normalisation of "
            "model.posterior.name = 'batch-norm'; give 2 or more",
        ),
        (
            {"method": "capacity", "model": {"posterior": {"name": "delta", "rate": 6.0}}},
            "objective.capacity.target = 5.0: the KL of the delta posterior is at least 6; give that or more",
        ),
        (
            {"method": "lagrangian", "objective": {"lagrangian": {"constraint": "distortion"}}},
            "objective.lagrangian.target: is required for a distortion: the target of reconstruction in nats",
        ),
        (
            {"method": "batch-norm", "model": {"prior": {"name": "gaussian-mixture"}}},
            "model.posterior.name = 'batch-norm': keeps its KL up against the standard normal prior only",
        ),
        (
            {"method": "semi-implicit", "objective": {"capacity": {}}},
            "given: kl and capacity; leave the others out, as --set objective.kl=false does",
        ),
        (
            {"method": "aggressive", "train": {"update": {"check": 200}}},
            "train.update.check = 200: after at most 100 updates the loss would never be looked at",
        ),
        (
            {"method": "aggressive", "train": {"update": {"ramp_components": True}}},
            "train.update.ramp_components: only model.posterior.name = 'semi-implicit' has components",
        ),
        (
            {"model": {"decoder": {"name": "hybrid", "kernel": [3, 3, 3]}}},
            "model.decoder.kernel = [3, 3, 3]: 3 for 2 layers of maps; give one number for all, or one for each",
        ),
        (
            {"model": {"encoder": {"name": "convolutional", "kernel": 2, "stride": [2, 3]}}},
            "model.encoder.kernel = 2: leaves gaps at stride 3; give a kernel of at least the stride",
        ),
        (
            {"model": {"encoder": {"name": "convolutional", "kernel": [3, 1]}}},
            "model.encoder.kernel[1] = 1: leaves gaps at stride 2; give a kernel of at least the stride",
        ),
        (
            {"model": {"encoder": {"name": "convolutional", "kernel": 20, "stride": 20}}, "data": {"window": 60}},
            "model.encoder.stride = 20: 2 layers bring 400 positions together, and the longest text has 60; give "
            "smaller strides or fewer maps, or longer texts",
        ),
        (
            {"model": {"decoder": {"name": "hybrid", "stride": [3, 3]}}, "data": {"max_length": 7}},
            "model.decoder.stride = [3, 3]: 2 layers bring 9 positions together, and the longest text has 8; give",
        ),
        (
            {"model": {"decoder": {"name": "hybrid", "top": {"name": "gru", "norm": "layer"}}}},
            "model.decoder.top.norm = 'layer': is made for the LSTM; set norm = 'none' or name = 'lstm'",
        ),
        (
            {"model": {"encoder": {"name": "gru", "norm": "layer"}}},
            "model.encoder.norm = 'layer': is made for the LSTM; set norm = 'none' or name = 'lstm' in this table",
        ),
        (
            {"model": {"decoder": {"name": "transformer", "heads": 3}}},
            "model.decoder.heads = 3: hidden = 256 must be a multiple of twice that",
        ),
        (
            {"model": {"decoder": {"name": "transformer", "inject": []}}},
            "model.decoder.inject = []: the decoder would never see z; give 'prefix', 'input' or both",
        ),
        (
            {"model": {"latent": 0, "decoder": {"name": "hybrid"}}},
            "model.decoder.name = 'hybrid': unfolds a code, and model.latent = 0 has none",
        ),
        (
            {"model": {"tied": True}},
            "model.tied: the softmax sees 512 units and embeddings have 256; give model.embedding that size",
        ),
        (
            {"model": {"tied": True, "decoder": {"name": "hybrid", "top": {"name": "feed-forward"}}}},
            "model.tied = True: the decoder reads no words, so it has no embeddings to tie or share; set",
        ),
        (
            {"method": "pretrained", "model": {"shared_embedding": True}},
            "model.shared_embedding: a phase that resets the encoder or the decoder would reset both",
        ),
        (
            {"method": "vamp-prior", "model": {"encoder": {"name": "convolutional"}}},
            "model.prior.name = 'vamp': pseudo-sentences would have a part in the batch normalisation",
        ),
        (
            {"method": "hybrid", "train": {"batch_size": 1}},
            "train.batch_size = 1: a batch of one has no statistics for the batch normalisation of "
            "model.encoder.name = 'convolutional' and model.decoder.name = 'hybrid'; give 2 or more",
        ),
        (
            {"model": {"decoder": {"name": "bytenet", "norm": "batch"}}, "train": {"batch_size": 1}},
            "train.batch_size = 1: a batch of one has no statistics for the batch normalisation of "
            "model.decoder.name = 'bytenet'; give 2 or more",
        ),
        (
            {"data": {"window": 20, "max_length": 30}},
            "data.max_length = 30: has no effect with data.window, which cuts running text",
        ),
        (
            {"objective": {"kl": {}, "auxiliary": {}}},
            "objective.auxiliary: needs features of every position, and the lstm decoder has none; "
            "set model.decoder.name = 'hybrid'",
        ),
        (
            {"objective": {"mu-forcing": {}}},
            f"objective: exactly one rate term is needed ({RATES}), given: none",
        ),
        (
            {"model": {"latent": 0}, "objective": {"kl": {}, "mu-forcing": {}}},
            "objective.kl: needs a posterior, and model.latent = 0 is a language model without one; "
            "leave it out, as --method language-model does\n"
            "objective.mu-forcing: needs a posterior, and model.latent = 0 is a language model without one; "
            "leave it out, as --method language-model does",
        ),
        (
            {"model": {"decoder": {"inject": []}}},
            "model.decoder.inject = []: the decoder would never see z; give 'state', 'input' or both",
        ),
        ({"data": {"corpus": "ptb", "train": "a.txt"}}, "data.corpus and data.train: give one of the two"),
        ({"data": {"valid": "a.txt"}}, "data.valid, data.test: need data.train beside them"),
        (
            {"data": {"split": {"valid": 0.5, "test": 0.5}}},
            "data.split: valid + test leave nothing to train on; they must sum to less than 1",
        ),
        (
            {"model": {"posterior": {"name": "vmf"}}},
            "model.posterior.name = 'vmf': its only prior is model.prior.name = 'uniform-sphere'",
        ),
        (
            {"model": {"prior": {"name": "uniform-sphere"}}},
            "model.prior.name = 'uniform-sphere': codes must lie on it; set model.posterior.name = 'vmf'",
        ),
        (
            {"method": "vmf", "objective": {"kl": {}, "capacity": {}}},
            "objective.capacity: cannot steer the KL of vmf, which its settings fix; use objective.kl",
        ),
        (
            {"method": "point", "objective": {"capacity": {}}},
            "objective.capacity: the point posterior has no KL",
        ),
        (
            {"method": "semi-implicit", "objective": {"free-bits": {}}},
            "objective.free-bits: ",
        ),
        (
            {"method": "semi-implicit", "model": {"posterior": {"components": -1}}},
            "model.posterior.components.value = -1: should be greater than or equal to 0",
        ),
        (
            {"method": "semi-implicit", "model": {"inference": {"name": "refined"}}},
            "model.inference.name = 'refined': refines a Gaussian; set model.posterior.name = 'gaussian'",
        ),
        (
            {"method": "semi-implicit", "model": {"prior": {"name": "vamp"}}},
            "model.prior.name = 'vamp': is made of posteriors with a density",
        ),
        (
            {"method": "semi-amortized", "train": {"update": {"name": "aggressive"}}},
            "train.update.name = 'aggressive': the refinement takes its place; choose one of the two",
        ),
        (
            {"method": "cyclical", "train": {"max_steps": 3}},
            "objective.kl.weight.cycles = 4: more cycles than train.max_steps = 3; give fewer cycles",
        ),
        (
            {"objective": {"kl": {"weight": {"schedule": "linear", "steps": 0.5}}}},
            "objective.kl.weight.steps = 0.5: less than a step; for a share of the run give unit = 'run' beside it",
        ),
        (
            {"method": "vmf", "objective": {"kl": False, "mmd": {}}},
            "objective.mmd: compares codes with the standard normal prior only, not with the uniform-sphere prior; "
            "use objective.kl",
        ),
        (
            {"method": "mmd", "objective": {"mmd": {"bandwidth": 1e-200}}},
            "objective.mmd.bandwidth = 1e-200: ",
        ),
        ({"objective": {"klx": {}}}, "objective.klx: unknown term; did you mean 'kl'?"),
        (
            {"objective": {"mu-forcing": {"margn": 1}}},
            "objective.mu-forcing.margn: unknown setting; did you mean 'margin'?",
        ),
        (
            {"objective": {"somersault": {}}},
            f"objective.somersault: unknown term; known: {', '.join(sorted(TERMS))}",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tables, message):
    assert message in problem(**tables)


def test_all_impossible_combinations_come_at_once():
    found = problem(
        model={"decoder": {"inject": []}}, data={"corpus": "a", "train": "b"}, objective={"mu-forcing": {}}
    ).splitlines()
    assert [line.split(":")[0] for line in found] == [
        "objective",
        "model.decoder.inject = []",
        "data.corpus and data.train",
    ]


def test_an_empty_injection_is_fine_without_a_code():
    settings = load_settings(model={"latent": 0, "decoder": {"inject": []}})
    assert combination_problems(settings) == [] and isinstance(settings, Settings)
