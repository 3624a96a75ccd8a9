import torch

from textvae.objective.presets import load_settings
from textvae.objective.terms.auxiliary import Auxiliary
from textvae.parts.heads import Historyless


def test_by_hand(passed):
    """Two codes of two sentences: means over codes -2 and -5, minus their mean."""
    out = passed(torch.zeros(2, 1))._replace(heads={"auxiliary": torch.tensor([[-1.0, -4.0], [-3.0, -6.0]])})
    assert float(Auxiliary()(out, 0)) == 3.5


def test_the_end_mark_counts_and_padding_does_not():
    head = Auxiliary().head({"z": 2, "code": 3}, 8).double()
    assert isinstance(head, Historyless) and head.sees == "code"
    for parameter in head.parameters():
        parameter.data.zero_()
    ids, lengths = torch.tensor([[4, 5, 3], [6, 3, 0]]), torch.tensor([3, 2])
    found = head(torch.randn(2, 2, 6, 3).double(), ids, lengths)
    expected = -torch.tensor([3.0, 2.0]).double() * torch.tensor(8.0).double().log()
    torch.testing.assert_close(found, expected.expand(2, 2))


def test_it_reads_the_features_of_a_hybrid_decoder_and_trains_them():
    from textvae.model import build
    from textvae.parts.noise import same_noise
    from textvae.text.batches import Batch

    settings = load_settings(
        None,
        None,
        ["objective.auxiliary.weight=0.2", "objective.kl.weight=1.0"],
        model={
            "latent": 3,
            "embedding": 4,
            "encoder": {"hidden": 5},
            "decoder": {"name": "hybrid", "maps": [4, 3]},
        },
    )
    model = build(settings.model, 9, settings.terms(), 6)
    batch = Batch(torch.tensor([[4, 5, 3], [6, 3, 0]]), torch.tensor([3, 2]), torch.arange(2))
    out = model(batch, same_noise(torch.zeros(2, 1)), samples=2)
    code = model.code(out.z)
    assert code.shape == (2, 2, 8, 3)
    Auxiliary()(out, 0).backward()
    assert model.expansion is not None
    for part in (model.encoder.embedding.weight, model.expansion.first.weight):
        assert part.grad is not None and part.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.decoder.parameters())  # its softmax is its own
