import torch

from textvae.parts.gather import gathered, summed


def test_with_one_process_rows_and_sums_are_what_was_given():
    """Several processes are tested in `test_distributed.py`."""
    rows = torch.randn(3, 2, requires_grad=True)
    assert gathered(rows) is rows
    (gradient,) = torch.autograd.grad(gathered(rows).square().sum(), rows)
    assert torch.equal(gradient, 2 * rows.detach())
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(summed(values), values)
