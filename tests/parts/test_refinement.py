"""Refinement against its formula on a quadratic, and its gradient against one that is taken through every step."""

import math

import pytest
import torch

from textvae.metrics.information import mutual_information
from textvae.metrics.latent import variance_of_means
from textvae.model import build
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import DiagonalGaussian, gaussian_kl
from textvae.parts.priors import StandardNormal
from textvae.parts.refinement import (
    Refined,
    RefinedGaussian,
    gaussian_of,
    parameters_of,
    refined_path,
    still,
    through_refinement,
)
from textvae.parts.settings import ModelSettings
from textvae.text.batches import Batch

torch_float64 = torch.float64
CURVATURE = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch_float64)
TARGET = torch.tensor([1.0, -1.0], dtype=torch_float64)


def quadratic(parameters):
    """(p - t)' A (p - t) / 2 of each row: the gradient is A (p - t)."""
    apart = parameters - TARGET
    return ((apart @ CURVATURE) * apart).sum(-1) / 2


def test_parameters_and_gaussians_are_each_others_inverse():
    posterior = DiagonalGaussian(torch.randn(3, 2), torch.rand(3, 2) + 0.1)
    again = gaussian_of(parameters_of(posterior))
    torch.testing.assert_close(again.mean, posterior.mean)
    torch.testing.assert_close(again.std, posterior.std)


def test_two_steps_with_momentum_by_hand():
    start = torch.zeros(1, 2, dtype=torch_float64)
    path, factors = refined_path(
        quadratic, start, Refined(name="refined", steps=2, lr=0.1, momentum=0.5, clip_norm=0)
    )
    first = -CURVATURE @ TARGET
    velocity = 0.5 * first + CURVATURE @ (-0.1 * first - TARGET)
    torch.testing.assert_close(path[1][0], -0.1 * first)
    torch.testing.assert_close(path[2][0], -0.1 * first - 0.1 * velocity)
    assert all(bool((factor == 1).all()) for factor in factors)


def test_each_sentence_is_refined_and_clipped_on_its_own():
    start = torch.tensor([[0.0, 0.0], [100.0, 100.0]], dtype=torch_float64)
    settings = Refined(name="refined", steps=3, lr=0.1, clip_norm=2.0)
    path, factors = refined_path(quadratic, start, settings)
    alone, _ = refined_path(quadratic, start[:1], settings)
    torch.testing.assert_close(path[-1][:1], alone[-1])
    assert factors[0][0] == 1 and factors[0][1] < 0.1
    torch.testing.assert_close((path[1] - path[0])[1].norm(), torch.tensor(0.2, dtype=torch_float64))


def test_no_steps_leave_everything():
    start = torch.randn(4, 2, dtype=torch_float64)
    settings = Refined(name="refined", steps=0)
    path, factors = refined_path(quadratic, start, settings)
    gradient = torch.randn(4, 2, dtype=torch_float64)
    assert len(path) == 1 and torch.equal(path[0], start)
    assert torch.equal(through_refinement(quadratic, path, factors, settings, gradient), gradient)


def unrolled(nats, start, settings):
    """The same refinement written with a graph through every step, for what can be differentiated twice."""
    velocity, here = torch.zeros_like(start), start
    for _ in range(settings.steps):
        (gradient,) = torch.autograd.grad(nats(here[None]).sum(), here, create_graph=True)
        velocity = settings.momentum * velocity + gradient
        here = here - settings.lr * velocity
    return here


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_the_gradient_through_refinement_is_that_of_the_unrolled_graph(momentum, monkeypatch):
    """For a bound that is no quadratic and has a weight of its own."""
    monkeypatch.setattr("textvae.parts.refinement.RADIUS", 1e-5)  # in float64 a difference can be this small
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 2, generator=generator, dtype=torch_float64, requires_grad=True)
    start = torch.randn(3, 2, generator=generator, dtype=torch_float64, requires_grad=True)
    settings = Refined(name="refined", steps=4, lr=0.2, momentum=momentum, clip_norm=0)

    def nats(parameters):
        return (parameters @ weight).cos().sum(-1) + parameters.square().sum(-1) / 2

    last = unrolled(nats, start, settings)
    expected = torch.autograd.grad(last.pow(3).sum(), [start, weight])
    path, factors = refined_path(nats, start, settings)
    found = through_refinement(nats, path, factors, settings, 3 * path[-1].square())
    torch.testing.assert_close(found, expected[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(weight.grad, expected[1], rtol=1e-5, atol=1e-7)


@pytest.fixture
def model():
    tables = {
        "latent": 3,
        "embedding": 5,
        "encoder": {"hidden": 6},
        "decoder": {"hidden": 7, "dropout": 0.5},
        "word_keep": 0.5,
        "init": 0.5,
        "inference": {"name": "refined", "steps": 6, "lr": 0.2},
    }
    torch.manual_seed(0)
    return build(ModelSettings.model_validate(tables), 11).double()


BATCH = Batch(torch.tensor([[5, 6, 7, 3], [8, 9, 3, 0]]), torch.tensor([4, 3]), torch.tensor([0, 1]))


def test_refinement_brings_a_models_bound_down_and_is_deterministic(model):
    draw = torch.randn(1, 2, 3, dtype=torch_float64)
    nats = model.negative_bound(BATCH, draw)
    with still([model.decoder]):
        first = parameters_of(model.amortized(BATCH))
        found = parameters_of(model.encode(BATCH, lambda samples, size: draw))
        assert bool((nats(found[None]) < nats(first[None])).all())
    again = parameters_of(model.encode(BATCH, lambda samples, size: draw))
    assert torch.equal(found, again)  # dropout and word dropout have no say
    assert not found.requires_grad and all(weight.grad is None for weight in model.parameters())


def test_a_text_is_refined_the_same_whatever_stands_beside_it(model):
    model.eval()
    both = model.encode(BATCH).mean
    alone = model.encode(Batch(BATCH.ids[1:], BATCH.lengths[1:], BATCH.index[1:])).mean
    torch.testing.assert_close(both[1:], alone)


def test_the_negative_bound_is_that_of_a_pass(model):
    model.eval()
    draw = torch.randn(1, 2, 3, dtype=torch_float64)
    first = model.amortized(BATCH)
    out = model.scored(BATCH, first.mean + first.std * draw, first)
    rate = first.rate(out.z, out.prior).nats
    found = model.negative_bound(BATCH, draw, weight=0.25)(parameters_of(first)[None])[0]
    torch.testing.assert_close(found, 0.25 * rate - out.log_px.sum(-1)[0])


def test_stillness_is_undone(model):
    model.train()
    with still([model.decoder], model.generative()):
        assert not model.decoder.training and model.decoder.network.network.training
        assert not any(parameter.requires_grad for parameter in model.decoder.parameters())
    assert model.decoder.training and all(parameter.requires_grad for parameter in model.parameters())


def test_two_refinements_tell_what_the_first_ones_noise_adds(model):
    """Of one text many times over: all variance of its means is by the draw, and none of it is activity."""
    model.eval()
    many = Batch(BATCH.ids[:1].expand(400, -1), BATCH.lengths[:1].expand(400), torch.arange(400))
    found = model.encode(many, sentence_noise(0, many.index))
    assert isinstance(found, RefinedGaussian)
    value, noise = found.expectation
    torch.testing.assert_close(value, (found.mean + found.beside_mean) / 2)
    raw = variance_of_means(value)
    assert (raw > 1e-6).all()
    torch.testing.assert_close(noise.mean(0), raw, rtol=0.25, atol=0)
    assert (variance_of_means(value, noise).abs() < 0.25 * raw).all()
    between = torch.stack([found.mean[:, 0], found.beside_mean[:, 0]]).corrcoef()[0, 1]
    assert abs(between.item()) < 0.2  # drawn apart
    once = model.encode(many, sentence_noise(0, many.index), 1, 0)
    assert type(once) is DiagonalGaussian and torch.equal(once.mean, found.mean)


def test_the_information_of_refined_gaussians_lies_between_their_estimates():
    """Means 2x + e/2 and a deviation of 1, x and e normal: I(x; z) = ln(1 + 4 / 1.25) / 2, with e ln 5.25 / 2."""
    generator = torch.Generator().manual_seed(0)
    x, e, other = torch.randn(3, 3000, 1, generator=generator, dtype=torch.float64)
    one = torch.ones(3000, 1, dtype=torch.float64)
    q = RefinedGaussian(2 * x + e / 2, one, 2 * x + other / 2, one)
    z = q.rsample(sentence_noise(1, torch.arange(3000)))
    above = mutual_information(q.log_prob(z)[0], q.mixture_log_prob(z[0])).nats
    below = mutual_information(q.apart.log_prob(z)[0], q.apart.mixture_log_prob(z[0])).nats
    truth = math.log(1 + 4 / 1.25) / 2
    assert above == pytest.approx(math.log(5.25) / 2, abs=0.06)
    assert truth - 0.3 < below < truth + 0.03 and truth < above
    assert variance_of_means(*q.expectation).item() == pytest.approx(4 * x.var(correction=0).item(), rel=0.03)
    rate = q.rate(z, StandardNormal(1))
    assert rate.kind == "upper" and torch.equal(rate.nats, gaussian_kl(q.mean, q.std).sum(-1))
