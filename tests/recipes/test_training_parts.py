"""Schedules, averages of weights, and what else the flagship's training is made of."""

import copy
import itertools
import math

import pytest
import torch
from stopping import Stop, stop_at, timeless
from torch import nn

from recipes import flagship_ladder, flagship_shd
from recipes.engine.data.augmented_counts import AugmentedCounts
from recipes.engine.data.binned import Binning
from recipes.engine.results import comparison
from recipes.engine.training import trainer
from recipes.engine.training.averages import WeightAverage
from recipes.engine.training.losses import rates_above
from recipes.engine.training.objectives import Moment
from recipes.engine.training.schedules import cosine, one_cycle, share_done
from recipes.flagship.network import FlagshipNetwork, LeakyReadout
from recipes.flagship.training import FlagshipObjective, FlagshipTraining
from recipes.flagship_ladder import network_of_rung


def test_one_cycle_is_torch_s():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2.0, total_steps=101, pct_start=31 / 101)
    for step in range(100):
        assert 2 * one_cycle(step / 100, rising=0.3) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        torchs.step()


def test_a_cosine_falls_from_one_to_zero():
    assert [round(cosine(done), 12) for done in (0, 1 / 3, 1 / 2, 1)] == [1, 0.75, 0.5, 0]
    assert share_done(Moment(epoch=3, batch=5, batches=10), epochs=7) == pytest.approx(0.5)


def test_an_average_of_weights_follows_its_equation():
    network = nn.Linear(1, 1, bias=False)
    average, expected = WeightAverage(network, 0.5), network.weight.item()
    for step in range(1, 20):
        nn.init.constant_(network.weight, math.sin(step))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * math.sin(step)
    with average.used():
        assert network.weight.item() == pytest.approx(expected, rel=1e-5)
        with pytest.raises(RuntimeError, match="swap it back"):
            average.update()
    assert network.weight.item() == pytest.approx(math.sin(19))


def test_an_average_without_decay_is_the_network_and_buffers_are_averaged():
    network = nn.BatchNorm1d(2)
    plain, slow = WeightAverage(network, 0.0), WeightAverage(network, 0.999)
    network.running_mean.fill_(11.0)
    plain.update()
    slow.update()
    assert plain.state_dict()["average"]["running_mean"].tolist() == [11.0, 11.0]
    assert slow.state_dict()["average"]["running_mean"].tolist() == pytest.approx([9.0, 9.0])  # d_1 = 2/11


def test_an_average_is_taken_over_from_a_checkpoint_and_another_network_s_refused():
    network = nn.Linear(2, 3)
    one = WeightAverage(network, 0.9)
    nn.init.ones_(network.weight)
    one.update()
    other = WeightAverage(copy.deepcopy(network), 0.9)
    other.load_state_dict(one.state_dict())
    assert other.steps == 1 and other.state_dict()["average"]["weight"].equal(one.state_dict()["average"]["weight"])
    with pytest.raises(ValueError, match="another network"):
        WeightAverage(nn.Linear(3, 3), 0.9).load_state_dict(one.state_dict())


def test_rates_above_a_bound_cost_their_square():
    rates = torch.tensor([0.1, 0.5, 0.3], requires_grad=True)
    cost = rates_above(rates, 0.2)
    assert cost.item() == pytest.approx((0.09 + 0.01) / 3)
    cost.backward()
    assert rates.grad.tolist() == pytest.approx([0.0, 0.2, 0.2 / 3], abs=1e-6)


def test_a_leaky_readout_follows_its_equation():
    readout, current = LeakyReadout(3), torch.randn(20, 2, 3)
    membrane, expected = torch.zeros(2, 3), []
    for step in current:
        membrane = readout.alpha * membrane + (1 - readout.alpha) * step
        expected.append(membrane)
    assert torch.allclose(readout(current), torch.stack(expected), atol=1e-6)
    readout(current).sum().backward()
    assert readout.alpha.grad.isfinite().all() and (readout.alpha.grad != 0).all()


@pytest.mark.parametrize("neuron", ["CSiLIF", "SiLIF", "AdLIF+", "AdLIF", "LIF"])
@pytest.mark.parametrize("delays", ["none", "axonal"])
def test_every_parameter_of_the_flagship_learns(neuron, delays):
    torch.manual_seed(0)
    network = FlagshipNetwork(20, 4, hidden=(16, 12), neuron=neuron, delays=delays, max_delay=5, dropout=0.0)
    for hidden in network.hidden:
        nn.init.constant_(hidden.norm.weight, 6.0)  # so that all neurons spike
    counts = torch.randint(0, 8, (6, 40, 20), dtype=torch.uint8)
    objective = FlagshipObjective(network, FlagshipTraining(epochs=1, batch_size=6, spike_cost=1.0))
    objective.optimizer()
    objective.measure(counts, torch.arange(6) % 4).loss.backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_words_that_the_flagship_does_not_know_are_refused():
    for name in ("neuron", "delays", "readout"):
        with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'other'"):
            FlagshipNetwork(4, 2, **{name: "other"})
    with pytest.raises(ValueError, match="schedule must be one of"):
        FlagshipTraining(epochs=1, batch_size=1, schedule="other")


def test_the_average_is_evaluated_and_the_training_goes_on_with_its_own_weights():
    torch.manual_seed(0)
    network = FlagshipNetwork(4, 2, hidden=(20,), dropout=0.0)
    objective = FlagshipObjective(network, FlagshipTraining(epochs=2, batch_size=2, learning_rate=0.1, average=0.9))
    optimizer = objective.optimizer()
    objective.before_batch(optimizer, Moment(0, 3, 10))
    objective.measure(torch.randint(0, 8, (2, 30, 4), dtype=torch.uint8), torch.tensor([0, 1])).loss.backward()
    before = network.readout[0].weight.detach().clone()
    optimizer.step()
    own = network.readout[0].weight.detach().clone()
    objective.before_evaluation()
    averaged = network.readout[0].weight.detach().clone()
    objective.after_epoch(optimizer, {}, "valid_accuracy")
    assert network.readout[0].weight.equal(own) and not own.equal(before)
    assert torch.allclose(averaged, before + 9 / 11 * (own - before), atol=1e-6)


def test_a_stopped_run_with_augmentations_and_an_average_ends_where_the_uninterrupted_one_does(small_data, tmp_path):
    splits = AugmentedCounts(Binning(steps=20), {"channel_shift": 50.0, "event_drop": 0.3}).load(small_data, "clean")

    def build():
        network = FlagshipNetwork(140, 4, hidden=(8, 8), dropout=0.1)
        return FlagshipObjective(network, FlagshipTraining(epochs=3, batch_size=16, learning_rate=0.02, average=0.9))

    def trained(folder, **options):
        folder.mkdir(exist_ok=True)
        return trainer.train(build, splits, 0, folder, **options)

    whole = trained(tmp_path / "whole")
    with pytest.raises(Stop):
        trained(tmp_path / "stopped", report=stop_at(0.5))
    again = trained(tmp_path / "stopped")
    assert again["resumed"] and timeless(again["history"]) == timeless(whole["history"])
    of_whole, of_stopped = (torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("whole", "stopped"))
    for name, value in of_whole.items():
        torch.testing.assert_close(of_stopped[name], value, rtol=0, atol=0)
    last = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)
    average, own = last["objective"]["average"]["average"], last["state_dict"]
    assert not average["readout.0.weight"].equal(own["network.readout.0.weight"])


def test_every_rung_of_the_ladder_changes_one_thing_and_the_last_is_the_flagship():
    settings = [comparison.flat(flagship_ladder.RECIPE.settings_of(row)) for row in flagship_ladder.RECIPE.rows]
    changed = [comparison.differing(pair) for pair in itertools.pairwise(settings)]
    told = [{name.partition(" ")[0] for name in names} for names in changed]
    assert all(len(kinds) == 1 for kinds in told), told
    together = {"network learned_step", "network neuron"}, {"network dropout", "network hidden"}
    assert all(len(names) == 1 or set(names) in together or "augmentation" in names[0] for names in changed), changed
    flagship = flagship_shd.RECIPE
    ours = flagship_ladder.RECIPE.settings_of(flagship_ladder.RECIPE.rows[-1])
    theirs = flagship.settings_of(next(row for row in flagship.rows if row.key == "75k"))
    assert ours["training"] == theirs["training"] | {"epochs": 20} and ours["augmentation"] == theirs["augmentation"]
    torch.manual_seed(0)
    here = flagship_ladder.RECIPE.build(140, 20, ours).network
    torch.manual_seed(0)
    there = flagship.build(140, 20, theirs).network
    for (name, ours), (other, theirs) in zip(here.state_dict().items(), there.state_dict().items(), strict=True):
        assert name == other and torch.equal(ours, theirs)


def test_a_time_step_that_is_not_learned_stays_as_it_was_drawn():
    rung = next(row for row in flagship_ladder.RECIPE.rows if row.key == "c-silif")
    network = flagship_ladder.RECIPE.build(20, 3, flagship_ladder.RECIPE.settings_of(rung)).network
    fixed = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert fixed == {"hidden.0.neuron.log_dt", "hidden.1.neuron.log_dt"}


@pytest.mark.parametrize(
    "asked, said",
    [({"start": "nowhere"}, "Deckers or here"), ({"start": "Deckers", "neuron": "LIF"}, "not LIF, memoryless")],
)
def test_a_start_of_the_ladder_that_is_none_is_refused(asked, said):
    with pytest.raises(ValueError, match=said):
        network_of_rung(10, 2, **asked)
