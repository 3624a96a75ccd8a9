import torch

from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import Point, PointPosterior, Posterior, joined, mapped
from textvae.parts.priors import StandardNormal


def test_the_code_is_linear_and_drawn_as_it_is():
    module = PointPosterior(2, 2)
    with torch.no_grad():
        module.code_of.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
        module.code_of.bias.copy_(torch.tensor([0.5, 0.0]))
    posterior = module(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
    assert posterior.mean.tolist() == [[3.5, 4.0], [-0.5, -2.0]]
    z = posterior.rsample(sentence_noise(0, torch.arange(2)), 3)
    assert torch.equal(z, posterior.mean.expand(3, 2, 2))
    (gradient,) = torch.autograd.grad(z.sum(), module.code_of.bias)
    assert gradient.tolist() == [6.0, 6.0]  # two sentences, three draws


def test_it_has_no_density_and_no_rate():
    posterior = Point(torch.zeros(2, 3))
    z, prior = torch.zeros(1, 2, 3), StandardNormal(3)
    assert isinstance(posterior, Posterior)
    assert posterior.log_prob(z) is posterior.mixture_log_prob(z[0]) is posterior.rate(z, prior) is None
    assert posterior.rate_per_dimension(prior) is None


def test_several_batches_together():
    whole = Point(torch.arange(8.0).view(4, 2))
    parts = [mapped(whole, lambda t: t[:1]), mapped(whole, lambda t: t[1:])]
    assert torch.equal(joined(parts).mean, whole.mean)


def test_full_precision_under_autocast():
    module = PointPosterior(3, 2)
    hidden = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(hidden).mean
    assert torch.equal(found, module(hidden.float()).mean)
