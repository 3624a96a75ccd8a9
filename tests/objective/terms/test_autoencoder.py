import torch

from textvae.objective.objective import Objective
from textvae.objective.presets import load_settings
from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.autoencoder import Autoencoder


def test_the_loss_is_reconstruction_alone_and_pulls_on_nothing_else(passed):
    mean = torch.randn(3, 2, requires_grad=True)
    log_px = torch.tensor([[[-1.0, -2.0], [-1.0, 0.0], [-2.0, 0.0]]], requires_grad=True)
    loss, raw = Objective({"autoencoder": Autoencoder()}, 10)(passed(mean, log_px=log_px), 0)
    assert loss.item() == float(raw["reconstruction"]) == 2.0 and float(raw["autoencoder"]) == 0.0
    pull, other = torch.autograd.grad(loss, [mean, log_px], allow_unused=True)
    assert pull is None
    torch.testing.assert_close(other, torch.full_like(log_px, -1 / 3))


def test_zero_is_of_the_precision_of_the_pass(passed):
    for dtype in (torch.float32, torch.float64):
        found = Autoencoder()(passed(torch.randn(2, 2, dtype=dtype)), 3)
        assert found.shape == () and found.dtype == dtype and not found.requires_grad


def test_it_is_a_rate_that_fits_the_point_posterior():
    assert TERMS["autoencoder"] is Autoencoder and Autoencoder.is_rate and not Autoencoder.penalises_kl
    settings = load_settings(objective={"autoencoder": {}}, model={"posterior": {"name": "point"}})
    assert settings.objective == {"autoencoder": Autoencoder()} and Autoencoder().problems(settings) == []
    assert Autoencoder().problems(Settings()) == []
