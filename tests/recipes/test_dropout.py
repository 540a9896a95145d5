"""Dropout of spike trains: probabilities, seeds, gradients, several threads."""

import pytest
import torch

from recipes.deckers.network import DeckersNetwork
from recipes.engine.training.dropout import Dropout, draw, drawn_as


@pytest.mark.parametrize("p", [0.5, 0.25, 0.4, 0.1, 1 / 3, 0.999, 2e-5, 1 - 1e-7])
def test_dropout_drops_with_p_and_keeps_the_mean(p):
    torch.manual_seed(0)
    mask = Dropout(p)(torch.ones(400, 1001, 1, dtype=torch.float64))[..., 0]
    n, kept = mask.numel(), (mask != 0).double().mean().item()
    assert abs(kept - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-4 * min(p, 1 - p)
    scales = mask[mask != 0].unique()
    assert scales.numel() <= 1 and torch.allclose(scales, torch.tensor(1 / (1 - p)).double(), rtol=2e-4)
    if scales.numel() and kept > 0.01:  # neighbours are drawn independently: bits are not shared
        dropped = (mask == 0).double()
        together = (dropped[:, 1:] * dropped[:, :-1]).mean().item()
        assert abs(together - p * p) < 6 * (p * p * (1 - p * p) / n) ** 0.5 + 2e-4 * p


def test_dropout_at_the_edges_and_in_evaluation():
    x = torch.rand(5, 3, 7)
    assert Dropout(0.0)(x) is x and torch.equal(Dropout(0.5).eval()(x), x)
    assert not Dropout(1.0)(x).any()
    assert Dropout(0.5)(x[:0]).shape == (0, 3, 7)
    assert Dropout(0.5)(x[:, :, :1]).shape == (5, 3, 1)
    assert Dropout(0.5)(x.transpose(0, 2)).shape == (7, 3, 5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_dropout_follows_the_seed_and_passes_the_gradient_of_what_is_kept(dtype):
    x = torch.ones(50, 4, 13, dtype=dtype, requires_grad=True)
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(Dropout(0.4)(x))
    assert torch.equal(outs[0], outs[1]) and not torch.equal(outs[0], outs[2])
    assert outs[0].dtype == dtype
    (g,) = torch.autograd.grad(outs[0].sum(), x)
    assert torch.equal(g, outs[0].detach())
    masks = Dropout(0.4)(torch.ones(50, 4, 13))
    assert not torch.equal(masks[0], masks[1]) and not torch.equal(masks[:, 0], masks[:, 1])


@pytest.mark.parametrize(("p", "bits"), [(0.5, 8), (0.4, 16), (1 / 3, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_compiled_product_with_the_mask_is_the_plain_one(p, bits, dtype, threads):
    x = torch.randn(31, 9, 17, dtype=dtype)[:, 1:].requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(2)
        out = Dropout(p)(x)
        g = torch.randn(out.shape, dtype=dtype)
        (g_x,) = torch.autograd.grad(out, x, g)
    finally:
        torch.set_num_threads(before)
    torch.manual_seed(2)
    mask = draw(x.shape, p, bits).mask(dtype)
    assert torch.equal(out, x * mask) and torch.equal(g_x, g * mask)


def test_its_gradient_can_be_differentiated_again():
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)

    def dropped(x):
        torch.manual_seed(0)
        return Dropout(0.5)(x) ** 3

    assert torch.autograd.gradcheck(dropped, x) and torch.autograd.gradgradcheck(dropped, x)


def test_a_network_with_dropout_says_how_it_draws():
    assert drawn_as(DeckersNetwork(6, 3)) == 3
    assert drawn_as(DeckersNetwork(6, 3, dropout=0.0)) is None
