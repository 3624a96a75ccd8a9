import pytest
import torch

from textvae.objective.settings import Settings
from textvae.objective.terms import TERMS
from textvae.objective.terms.term import Term
from textvae.settings.problems import Problem

RATES = {"kl", "free-bits", "free-bits-total", "capacity", "capacity-max", "mmd", "lagrangian", "autoencoder"}
RATES |= {"selected-kl", "multi-rate"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_term_is_a_frozen_setting_with_a_weight_and_no_parameters(passed, dtype):
    heads = {name: torch.randn(1, 4, dtype=dtype) for name in ("bow", "auxiliary")}
    out = passed(torch.randn(4, 2, dtype=dtype))._replace(heads=heads)
    for term in TERMS.values():
        made = term(weight=0.5)
        assert isinstance(made, Term) and made.weight(3, 10) == 0.5
        assert not any(isinstance(value, torch.Tensor | torch.nn.Module) for value in vars(made).values())
        with pytest.raises(ValueError, match="frozen"):
            made.weight = 1.0
        value = made.planned(7)(out, 0)
        assert value.shape == () and value.dtype == dtype


def test_a_term_must_say_what_it_computes(passed):
    with pytest.raises(TypeError, match="Term does not define __call__"):
        Term()(passed(torch.zeros(1, 1)), 0)


def test_the_rate_terms_are_those_of_the_design():
    assert {name for name, term in TERMS.items() if term.is_rate} == RATES


def test_terms_that_read_a_kl_refuse_a_point():
    settings = Settings.model_validate({"model": {"posterior": {"name": "point"}, "multi_rate": {}}})
    remedy = "use objective.autoencoder, or another model.posterior.name"
    refused = [Problem("", "the point posterior has no KL", remedy)]
    for name, term in TERMS.items():
        if name not in ("auxiliary", "inferred-labels"):
            assert term().problems(settings) == (refused if name in RATES - {"autoencoder", "mmd"} else [])


def test_the_hooks_do_nothing_unless_a_term_says_so():
    term = Term()
    assert term.planned(3) is term and term.head({"z": 2}, 5) is None and term.problems(Settings()) == []
    assert term.settled(100, 10) == 0.0 and not term.learned
    assert {name for name, made in TERMS.items() if made().head({"z": 2, "code": 3}, 5) is not None} == {
        "bow",
        "auxiliary",
    }
    assert {name for name, made in TERMS.items() if made.learned} == {"lagrangian", "selected-kl"}


@pytest.mark.parametrize("name", ["capacity", "capacity-max", "free-bits-total", "lagrangian"])
def test_a_target_below_the_least_kl_is_refused_but_for_none(name):
    for posterior, lower in (
        ({"name": "delta", "rate": 4.5}, "rate"),
        ({"name": "batch-norm", "gamma": 1.5}, "gamma"),
    ):
        settings = Settings.model_validate({"model": {"latent": 4, "posterior": posterior}})  # 4 * 1.5^2 / 2 = 4.5
        reason = f"the KL of the {posterior['name']} posterior is at least 4.5"
        remedy = f"give that or more, or lower model.posterior.{lower}"
        assert TERMS[name](target=4.4).problems(settings) == [Problem("target", reason, remedy, value=4.4)]
        assert TERMS[name](target=4.6).problems(settings) == []
        if name != "lagrangian":
            assert TERMS[name](target=0.0).problems(settings) == []  # the plain KL
        (by_dimension,) = TERMS["free-bits"](target=1.1).problems(settings)  # 4.5 / 4 each
        assert by_dimension.message.startswith(f"the KL of the {posterior['name']} posterior is by dimension")
        assert TERMS["free-bits"](target=1.2).problems(settings) == []
