import pytest
import torch

from textvae.terms import TERMS
from textvae.terms.term import Term


def test_every_term_is_a_frozen_setting_with_a_weight_and_no_parameters(passed):
    for term in TERMS.values():
        made = term(weight=0.5)
        assert isinstance(made, Term) and made.weight(3, 10) == 0.5
        assert not any(isinstance(value, torch.Tensor | torch.nn.Module) for value in vars(made).values())
        with pytest.raises(ValueError, match="frozen"):
            made.weight = 1.0
        value = made(passed(torch.randn(4, 2)), 0)
        assert value.shape == () and value.dtype == torch.float32


def test_a_term_must_say_what_it_computes(passed):
    with pytest.raises(TypeError, match="Term does not say what it computes"):
        Term()(passed(torch.zeros(1, 1)), 0)
