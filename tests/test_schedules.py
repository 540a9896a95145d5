"""Sigma annealing: as the published code does it, as the text reads, by hand and in Lightning."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from snn_delay_plugins import snntorch
from snn_delay_plugins.schedules import ExponentialSigma, PublishedSigma, anneal_sigma, sigma_annealing


def published_sigmas(epochs, max_delay):
    """The published loop: SIG shrinks after each of the first epochs // 4 epochs; the library adds 0.27."""
    start, final_epoch = (max_delay + 1) // 2, epochs // 4
    width, sigmas = float(start), []
    for epoch in range(epochs):
        sigmas.append(width + 0.27)
        if epoch < final_epoch and width > 0.23:
            width *= (0.23 / start) ** (1 / final_epoch)
    return sigmas


@pytest.mark.parametrize(("epochs", "max_delay"), [(150, 24), (60, 30), (100, 30), (7, 3)])
def test_published_annealing_is_that_of_the_published_loop(epochs, max_delay):
    schedule = PublishedSigma(epochs, max_delay)
    assert [schedule(epoch) for epoch in range(epochs)] == pytest.approx(published_sigmas(epochs, max_delay), abs=1e-9)
    assert schedule(epochs - 1) == pytest.approx(0.5)


def test_annealing_as_the_text_reads_takes_all_epochs_by_equal_factors():
    schedule = ExponentialSigma(epochs=11, initial=12.0)
    sigmas = [schedule(epoch) for epoch in range(11)]
    assert sigmas[0] == 12.0
    assert sigmas[-1] == pytest.approx(0.5)
    factors = [b / a for a, b in pairwise(sigmas)]
    assert factors == pytest.approx([factors[0]] * 10)
    assert schedule(100) == pytest.approx(0.5)
    assert ExponentialSigma(epochs=1, initial=12.0)(0) == 0.5


@pytest.mark.parametrize("max_delay", [0, 1])
def test_short_delays_and_short_trainings_end_at_the_final_sigma(max_delay):
    assert PublishedSigma(100, max_delay)(99) == pytest.approx(0.5)
    assert PublishedSigma(3, 24)(0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PublishedSigma(0, 24),
        lambda: PublishedSigma(10, -1),
        lambda: PublishedSigma(10, 24, final=0.27),
        lambda: ExponentialSigma(10, initial=0.0),
        lambda: ExponentialSigma(10, initial=math.nan),
        lambda: ExponentialSigma(10, initial=3.0, final=-1.0),
    ],
)
def test_schedules_that_cannot_be_meant_are_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()


def gaussian(**options):
    return snntorch.DelayedLinear(3, 2, max_delay=24, delay_gradient="gaussian", step_mode=False, **options)


def test_annealing_sets_every_layer_but_those_that_learn_their_sigma():
    net = nn.Sequential(gaussian(), gaussian(learn_sigma=True), snntorch.DelayedLinear(3, 2, max_delay=4))
    assert anneal_sigma(net, PublishedSigma(100, 24), 25) == pytest.approx(0.5)
    assert net[0].sigma.item() == pytest.approx(0.5)
    assert net[1].sigma.item() == pytest.approx(12.27)
    with pytest.raises(ValueError, match="no layer"):
        anneal_sigma(net[2], PublishedSigma(100, 24), 0)
    with pytest.raises(ValueError, match="finished epochs"):
        anneal_sigma(net, PublishedSigma(100, 24), -1)


def test_the_lightning_callback_anneals_before_every_epoch_and_after_a_resume(tmp_path):
    lightning = pytest.importorskip("lightning", reason="Lightning is missing")
    seen = []

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = gaussian()

        def training_step(self, batch, index):
            seen.append((self.current_epoch, self.layer.sigma.item()))
            return self.layer(torch.ones(4, 1, 3)).square().sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=1e-3)

    def fit(epochs, **options):
        trainer = lightning.Trainer(
            max_epochs=epochs, callbacks=[sigma_annealing(PublishedSigma(8, 24))], accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(Module(), torch.utils.data.DataLoader([0]), **options)
        return trainer

    fit(2).save_checkpoint(tmp_path / "last.ckpt")
    fit(4, ckpt_path=tmp_path / "last.ckpt")
    schedule = PublishedSigma(8, 24)
    assert seen == [(epoch, pytest.approx(schedule(epoch), rel=1e-6)) for epoch in range(4)]
