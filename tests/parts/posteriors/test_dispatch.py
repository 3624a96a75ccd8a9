"""What every posterior owes the rest: seen through the settings that name it and a whole model."""

import pytest
import torch

from textvae.model import build
from textvae.objective.settings import parse
from textvae.objective.terms import TERMS
from textvae.parts import posteriors
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import Posterior, joined, mapped
from textvae.parts.priors import MixtureOfGaussians, StandardNormal, UniformSphere, VampPrior
from textvae.parts.settings import ModelSettings
from textvae.text.batches import Batch

CLASSES = {
    "gaussian": (posteriors.GaussianPosterior, posteriors.DiagonalGaussian),
    "batch-norm": (posteriors.BatchNormPosterior, posteriors.DiagonalGaussian),
    "delta": (posteriors.DeltaPosterior, posteriors.DiagonalGaussian),
    "gaussian-mixture": (posteriors.MixturePosterior, posteriors.GaussianMixture),
    "semi-implicit": (posteriors.SemiImplicitPosterior, posteriors.SemiImplicit),
    "iaf": (posteriors.IafPosterior, posteriors.Iaf),
    "planar": (posteriors.PlanarPosterior, posteriors.Flowed),
    "radial": (posteriors.RadialPosterior, posteriors.Flowed),
    "multi-step": (posteriors.MultiStepPosterior, posteriors.MultiStep),
    "vmf": (posteriors.VmfPosterior, posteriors.VonMisesFisher),
    "point": (posteriors.PointPosterior, posteriors.Point),
}


def model_settings(posterior: str, prior: str = "standard-normal") -> ModelSettings:
    small = {"embedding": 6, "latent": 3, "encoder": {"hidden": 5}, "decoder": {"hidden": 5}}
    return parse({"model": small | {"posterior": {"name": posterior}, "prior": {"name": prior}}}, TERMS).model


def batch() -> Batch:
    ids = torch.randint(4, 12, (4, 6), generator=torch.Generator().manual_seed(0))
    return Batch(ids, torch.tensor([6, 4, 3, 6]), torch.arange(4))


def test_every_posterior_that_settings_know_is_here():
    assert set(posteriors.POSTERIORS) == set(CLASSES)


def test_capabilities_are_what_posteriors_show():
    """What settings say beforehand is what the posterior does when it is asked."""
    normal = StandardNormal(3)
    for name, kind in posteriors.POSTERIORS.items():
        settings = model_settings(name, "uniform-sphere" if kind.on_sphere else "standard-normal")
        torch.manual_seed(0)
        model = build(settings, 12)  # training, as the least rate of batch normalisation is of a batch
        out = model(batch(), sentence_noise(0, torch.arange(4)))
        rate = out.posterior.rate(out.z, out.prior)
        assert (rate is not None) == kind.has_rate
        assert (out.posterior.rate_per_dimension(normal) is not None) == kind.rate_by_dimension
        assert (out.prior.standard, out.prior.on_sphere) == (settings.prior.standard, settings.prior.on_sphere)
        assert (model.posterior.components is not None) == kind.surrogate
        assert isinstance(model.posterior, posteriors.Restated) == kind.batch_statistics
        if kind.fixed_rate:
            assert len(set(rate.nats.tolist())) == 1
        if kind.density_anywhere:
            assert out.posterior.log_prob(torch.zeros(1, 4, 3)).isfinite().all()
        least = settings.posterior.least_rate(3)
        if least is not None:
            assert rate.nats.mean() >= least[0] - 1e-4


@pytest.mark.parametrize("name", CLASSES)
def test_settings_name_the_network_and_its_distribution(name):
    module = model_settings(name).posterior.build(5, 3)
    assert type(module) is CLASSES[name][0]
    hidden = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    posterior = module(hidden, sentence_noise(0, torch.arange(4)))
    assert type(posterior) is CLASSES[name][1] and isinstance(posterior, Posterior)
    assert posterior.mean.shape == (4, 3)
    assert (module.components is not None) == (name == "semi-implicit")  # only there a surrogate density


def test_settings_reach_the_network():
    table = {"name": "batch-norm", "gamma": 0.9, "scale": "softplus"}
    module = parse({"model": {"posterior": table}}, TERMS).model.posterior.build(5, 3)
    assert (module.gamma, module.scale) == (0.9, "softplus")
    table = {"name": "gaussian-mixture", "components": 7, "scale": "softplus"}
    module = parse({"model": {"posterior": table}}, TERMS).model.posterior.build(5, 3)
    assert (module.parts, module.scale) == (7, "softplus")
    table = {"name": "vmf", "concentration": 9.0}
    assert parse({"model": {"posterior": table}}, TERMS).model.posterior.build(5, 3).concentration == 9.0


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_learns_through_it(name):
    """Codes, scores, rates and densities of the shapes that were promised, and every weight gets a gradient."""
    torch.manual_seed(0)
    model = build(model_settings(name, "uniform-sphere" if name == "vmf" else "standard-normal"), 12)
    out = model(batch(), sentence_noise(0, torch.arange(4)), samples=2, components=3)
    assert out.z.shape == (2, 4, 3)
    rate = out.posterior.rate(out.z, out.prior)
    loss = -out.log_px.sum()
    if name != "point":
        loss = loss + rate.nats.sum()
        assert rate.nats.shape == (4,) and out.posterior.log_prob(out.z).shape == (2, 4)
        with torch.no_grad():
            mixture = out.posterior.mixture_log_prob(out.z[0])
        assert mixture.shape == (4,) and mixture.dtype == torch.float64
    loss.backward()
    for part, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), part
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in model.posterior.parameters())


@pytest.mark.parametrize("name", CLASSES)
def test_batches_are_put_together(name):
    torch.manual_seed(0)
    model = build(model_settings(name, "uniform-sphere" if name == "vmf" else "standard-normal"), 12)
    with torch.no_grad():
        posterior = model.encode(batch(), sentence_noise(0, torch.arange(4)), 1, 2)
    again = joined([mapped(posterior, lambda t: t[:1]), mapped(posterior, lambda t: t[1:])])
    torch.testing.assert_close(again.mean, posterior.mean)


MIXED = [name for name, kind in posteriors.POSTERIORS.items() if kind.density_anywhere]


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("prior", ["gaussian-mixture", "vamp"])
def test_learned_priors_learn(name, prior):
    torch.manual_seed(0)
    model = build(model_settings(name, prior), 12)
    kind = {"gaussian-mixture": MixtureOfGaussians, "vamp": VampPrior}[prior]
    assert type(model.prior_network) is kind
    out = model(batch(), sentence_noise(0, torch.arange(4)), samples=2)
    rate = out.posterior.rate(out.z, out.prior)
    assert rate.kind == "monte-carlo"
    expected = (out.posterior.log_prob(out.z) - out.prior.log_prob(out.z)).mean(0)
    torch.testing.assert_close(rate.nats, expected)
    rate.nats.sum().backward()
    for parameter in model.prior_network.parameters():
        assert float(parameter.grad.abs().max()) > 0


def test_priors_that_settings_name():
    kinds = {"standard-normal": StandardNormal, "uniform-sphere": UniformSphere}
    for name, kind in kinds.items():
        assert type(build(model_settings("vmf", name), 12).prior_network) is kind


@pytest.mark.parametrize("name", CLASSES)
def test_the_expectation_is_the_mean_of_the_draws(name):
    """Of a long run in which what is random in the posterior itself is drawn anew; as far as it is known."""
    torch.manual_seed(0)
    module = model_settings(name).posterior.build(5, 3).eval()
    hidden = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).repeat_interleave(1500, 0)
    index = torch.arange(4500)
    with torch.no_grad():
        noise = sentence_noise(1, index)
        posterior = module(3 * hidden, noise, 1, 1)
        draws = posterior.rsample(noise)[0].double().view(3, 1500, 3)
        value, noises = posteriors.expected(posterior, 2, index, draws=4)
    assert (noises is None) == (name not in ("semi-implicit", "iaf", "planar", "radial", "multi-step"))
    of_each = value.double().view(3, 1500, 3)
    error = (
        draws.var(1) / 1500 + (0 if noises is None else noises.double().view(3, 1500, 3).mean(1) / 1500)
    ).sqrt()
    assert ((draws.mean(1) - of_each.mean(1)).abs() < 4.5 * error + 1e-6).all()
    if noises is not None:  # the variance of the estimates is the one that they state
        torch.testing.assert_close(of_each.var(1), noises.double().view(3, 1500, 3).mean(1), rtol=0.2, atol=1e-6)


@pytest.mark.parametrize("name", CLASSES)
def test_a_posterior_made_without_gradients_never_has_any(name):
    """Reports and people use it once the model's pass is over, and turn what it gives to arrays."""
    model = build(model_settings(name), 12, {})
    with torch.no_grad():
        posterior = model.encode(batch(), sentence_noise(0, torch.arange(4)))
    z = posterior.rsample(sentence_noise(1, torch.arange(4)))
    log_q = posterior.log_prob(z)
    for values in (posterior.mean, z, log_q, posterior.mixture_log_prob(z[0])):
        assert values is None or not values.requires_grad
