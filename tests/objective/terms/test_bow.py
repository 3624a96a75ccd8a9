import pytest
import torch

from textvae.objective.terms import TERMS
from textvae.objective.terms.bow import Bow
from textvae.parts.heads import BagOfWords
from textvae.settings.schedules import Constant
from textvae.text.tokenizers import EOS


def test_by_hand(passed):
    """Two codes of two sentences: means over codes -2 and -5, minus their mean."""
    out = passed(torch.zeros(2, 1))._replace(heads={"bow": torch.tensor([[-1.0, -4.0], [-3.0, -6.0]])})
    assert float(Bow()(out, 0)) == 3.5


def test_its_gradient_is_shared_among_codes_and_sentences(passed):
    log_p = torch.randn(2, 3, requires_grad=True)
    (pull,) = torch.autograd.grad(Bow()(passed(torch.zeros(3, 1))._replace(heads={"bow": log_p}), 0), log_p)
    torch.testing.assert_close(pull, torch.full((2, 3), -1 / 6))


@pytest.mark.parametrize("hidden", [0, 7])
def test_it_asks_for_a_head_of_its_size(passed, hidden):
    head = Bow(hidden=hidden).head({"z": 5}, 11)
    assert isinstance(head, BagOfWords) and head.words.out_features == 11
    assert sum(p.numel() for p in head.parameters()) == (5 * 7 + 7 + 7 * 11 + 11 if hidden else 5 * 11 + 11)


def test_a_head_that_does_not_see_z_is_at_best_the_entropy_of_words(passed):
    """Four words alike often, two a sentence: 2 ln 4 nats at best, reached without weights."""
    head = Bow(hidden=0).head({"z": 2}, 4).double()
    for parameter in head.parameters():
        parameter.data.zero_()
    ids, lengths = torch.tensor([[0, 1, EOS], [2, 1, EOS]]), torch.tensor([3, 3])
    out = passed(torch.randn(2, 2).double())
    out = out._replace(heads={"bow": head(out.z, ids, lengths)})
    torch.testing.assert_close(Bow()(out, 0), 2 * torch.tensor(4.0).double().log())


def test_gradcheck_through_the_head(passed):
    head = Bow(hidden=3).head({"z": 2}, 6).double()
    ids, lengths = torch.tensor([[4, 5, 2], [5, 2, 0]]), torch.tensor([3, 2])

    def value(z: torch.Tensor) -> torch.Tensor:
        return Bow()(passed(z)._replace(heads={"bow": head(z[None], ids, lengths)}), 0)

    z = torch.randn(2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (z,))


def test_it_adds_to_a_rate_with_weight_one():
    assert TERMS["bow"] is Bow and not Bow.is_rate and Bow.needs_posterior
    assert (Bow().hidden, Bow().weight) == (400, Constant(value=1.0))
