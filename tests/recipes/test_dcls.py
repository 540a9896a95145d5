"""The networks and recipes of Hammouamri et al.: sizes, published models, training, annealing, resume, audio."""

from __future__ import annotations

import argparse
import dataclasses
import math
import shutil

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("lightning", reason="recipes need: pip install 'snn_delay_plugins[recipes]'")

import soundfile
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from stopping import Stop, stop_at, timeless

from recipes import dcls_fig5, dcls_table2
from recipes.dcls.network import DclsObjective, DclsTraining, HammouamriNetwork, TimedCounts
from recipes.engine.data import miniature, miniature_speech
from recipes.engine.data.speech_commands import MelSpectrogram, SpeechCommands
from recipes.engine.errors import OptionError
from recipes.engine.training import trainer
from recipes.engine.training.networks import count_parameters
from recipes.engine.training.objectives import Moment


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_DELAY_PLUGINS_CACHE", str(tmp_path / "cache"))


# ------------------------------------------------------------------------------------------------------------ sizes


def test_the_shd_network_has_the_papers_parameter_count():
    network = HammouamriNetwork(140, 20)
    assert count_parameters(network) == sum(p.numel() for p in network.parameters()) == 214_016  # "0.2M"
    assert count_parameters(HammouamriNetwork(140, 35, hidden=(512, 512), max_delay=30)) == 705_536  # "0.7M"
    assert count_parameters(HammouamriNetwork(140, 35, hidden=(512, 512, 512), max_delay=30)) == 1_230_848  # "1.2M"


def test_all_variants_of_figure_5_have_equal_parameter_counts():
    counts = {}
    for row in dcls_fig5.RECIPE.rows:
        network = HammouamriNetwork(140, 20, **dcls_fig5.RECIPE.network_settings | row.settings)
        counts.setdefault(row.key.partition("-")[0], []).append(count_parameters(network))
    assert [len(of) for of in counts.values()] == [5, 5]
    for of in counts.values():
        assert max(of) <= 1.001 * min(of)
    assert counts["sparse"][0] == 2 * 10 * (256 + 256 + 20) + 4 * 256


def test_variants_start_from_the_same_weights_delays_and_synapses():
    networks = []
    for connections in ("learned delays", "fixed random delays"):
        torch.manual_seed(3)
        networks.append(HammouamriNetwork(20, 5, hidden=(8, 8), connections=connections, synapses=4))
    for learned, fixed in zip(*(network.connections for network in networks), strict=True):
        assert torch.equal(learned.weight, fixed.weight)
        assert torch.equal(learned.mask, fixed.mask)
        assert torch.equal(learned.delay.round(), fixed.delay)
        assert isinstance(learned.delay, nn.Parameter)
        assert not isinstance(fixed.delay, nn.Parameter)


def test_initial_delays_cover_the_kernel_and_a_25th_of_them_is_at_the_maximum():
    delays = HammouamriNetwork(140, 20).hidden[0].connection.delay
    assert delays.min() >= 0
    assert delays.max() == 24
    assert (delays == 24).float().mean().item() == pytest.approx(1 / 25, abs=0.005)


# ------------------------------------------------------------------------------------------------- published models


class Published(nn.Module):
    """The published model class in its parts: what its state dict holds, and its forward pass."""

    def __init__(self, inputs, hidden, classes, taps):
        super().__init__()
        Dcls1d = pytest.importorskip("DCLS.construct.modules").Dcls1d
        self.padding = taps - 1, (taps - 1) // 2
        lif = {"tau": 1.005, "surrogate_function": surrogate.ATan(5.0), "detach_reset": True, "step_mode": "m"}
        lif |= {"decay_input": False, "store_v_seq": True}
        parts = []
        for before, after in ((inputs, hidden), (hidden, hidden)):
            parts += [
                Dcls1d(before, after, 1, dilated_kernel_size=taps, bias=False, version="gauss"),
                layer.BatchNorm1d(after, step_mode="m"),
                neuron.LIFNode(v_threshold=1.0, **lif),
                layer.Dropout(0.4, step_mode="m"),
            ]
        parts += [Dcls1d(hidden, classes, 1, dilated_kernel_size=taps, bias=False, version="gauss")]
        parts += [neuron.LIFNode(v_threshold=1e9, **lif)]
        self.model = nn.Sequential(*parts)
        for part in self.delays:
            nn.init.kaiming_uniform_(part.weight, nonlinearity="relu")
            nn.init.uniform_(part.P, -taps // 2, taps // 2)
            part.clamp_parameters()
            nn.init.constant_(part.SIG, 1.7)

    @property
    def delays(self):
        return [part for part in self.model if hasattr(part, "DCK")]

    def forward(self, x):
        for part in self.model[:-1]:
            if hasattr(part, "DCK"):
                x = part(nn.functional.pad(x.permute(1, 2, 0), self.padding)).permute(2, 0, 1)
            elif isinstance(part, layer.BatchNorm1d):
                x = part(x.unsqueeze(3)).squeeze(3)
            else:
                x = part(x)
        self.model[-1](x)
        return self.model[-1].v_seq

    def discrete(self):
        with torch.no_grad():
            for part in self.delays:
                part.SIG.zero_()
                part.version = part.DCK.version = "max"
                part.P.round_()
                part.clamp_parameters()


def test_a_published_model_gives_the_same_outputs_in_training_and_evaluation():
    torch.manual_seed(0)
    theirs = Published(20, 16, 4, taps=9).double()
    ours = HammouamriNetwork(20, 4, hidden=(16, 16), max_delay=8).double()
    ours.load_published(theirs.state_dict())
    counts = torch.randint(0, 3, (30, 6, 20)).double()
    for training_mode in (True, False):
        outputs = []
        for network in (theirs.train(training_mode), ours.train(training_mode)):
            functional.reset_net(network)
            if not training_mode and network is theirs:
                theirs.discrete()
            torch.manual_seed(1)  # dropout
            output = network(counts)
            outputs.append(output if network is theirs else output.membrane)
        # evaluation: the published one-hot kernel is divided by 1 + 1e-7, to which the membrane potentials add up
        tolerance = 1e-9 if training_mode else 1e-5
        torch.testing.assert_close(*outputs, rtol=tolerance, atol=tolerance)


def test_a_published_model_of_another_size_is_refused():
    ours = HammouamriNetwork(20, 4, hidden=(16, 16), max_delay=8)
    with pytest.raises(RuntimeError, match="size mismatch"):
        ours.load_published(Published(20, 12, 4, taps=9).state_dict())
    with pytest.raises(ValueError, match="positions mean delays"):
        ours.load_published(Published(20, 16, 4, taps=25).state_dict())


# --------------------------------------------------------------------------------------------------------- training


def test_one_dropout_mask_serves_all_steps():
    torch.manual_seed(0)
    network = HammouamriNetwork(20, 4, hidden=(16, 16), max_delay=8)
    spikes = torch.ones(5, 3, 16)
    dropped = network.hidden[0].dropout(spikes)
    assert torch.equal(dropped, dropped[:1].expand(5, -1, -1))
    assert 0 < (dropped == 0).float().mean() < 1


def test_learning_rates_and_sigma_follow_the_published_schedules():
    torch.manual_seed(0)
    network = HammouamriNetwork(20, 4, hidden=(16, 16), max_delay=24)
    hyper = DclsTraining(epochs=40, batch_size=8)
    objective = DclsObjective(network, hyper)
    optimizer = objective.optimizer()
    groups = {group["kind"]: group for group in optimizer.param_groups}
    assert [groups[kind]["weight_decay"] for kind in ("weight", "norm", "delay")] == [1e-5, 0.0, 0.0]
    assert sum(len(group["params"]) for group in groups.values()) == len(list(network.parameters()))

    weights, delays = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))  # two optimizers, as published
    of_weights, of_delays = torch.optim.Adam([weights], lr=1e-3), torch.optim.Adam([delays], lr=0.1)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(of_weights, max_lr=5e-3, total_steps=40)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(of_delays, T_max=40)
    for epoch in range(40):
        objective.before_epoch(epoch)
        objective.before_batch(optimizer, Moment(epoch, 0, 3))
        for kind in ("weight", "norm"):
            assert groups[kind]["lr"] == pytest.approx(of_weights.param_groups[0]["lr"])
            assert groups[kind]["betas"] == pytest.approx(of_weights.param_groups[0]["betas"])
        assert groups["delay"]["lr"] == pytest.approx(of_delays.param_groups[0]["lr"])
        assert groups["delay"]["betas"] == (0.9, 0.999)
        width = 12 * (0.23 / 12) ** (min(epoch, 10) / 10)
        assert [c.sigma.item() for c in network.connections] == pytest.approx([width + 0.27] * 3, rel=1e-5)
        of_weights.step()
        of_delays.step()
        if epoch < 39:
            one_cycle.step()
            cosine.step()


@pytest.mark.parametrize(("sigma", "middle"), [("constant", 0.5), ("text", (12.27 * 0.5) ** 0.5)])
def test_the_other_sigma_schedules(sigma, middle):
    network = HammouamriNetwork(20, 4, hidden=(8,), max_delay=24)
    objective = DclsObjective(network, DclsTraining(epochs=41, batch_size=8, sigma=sigma))
    objective.before_epoch(20)
    assert network.readout.sigma.item() == pytest.approx(middle, rel=1e-5)
    with pytest.raises(ValueError, match="sigma must be"):
        DclsTraining(epochs=4, batch_size=8, sigma="no")


@pytest.mark.parametrize("variant", ["sparse-decreasing", "sparse-fixed-delays", "sparse-fixed-weights", "full-no-delays"])
def test_a_training_step_changes_what_is_learned_and_nothing_else(variant):
    row = next(row for row in dcls_fig5.RECIPE.rows if row.key == variant)
    torch.manual_seed(0)
    network = HammouamriNetwork(20, 4, **{"hidden": (12, 12), "max_delay": 8} | row.settings | {"hidden": (12, 12)})
    with torch.no_grad():
        for hidden in network.hidden:
            hidden.norm.bias.fill_(0.5)  # spikes from the start
    before = {name: value.clone() for name, value in network.state_dict().items()}
    objective = DclsObjective(network, DclsTraining(epochs=8, batch_size=8))
    optimizer = objective.optimizer()
    objective.before_epoch(0)
    for batch in range(2):
        objective.before_batch(optimizer, Moment(0, batch, 2))
        measured = objective.measure(torch.randint(0, 4, (6, 20, 20), dtype=torch.uint8), torch.arange(6) % 4)
        optimizer.zero_grad()
        measured.loss.backward()
        optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert ("readout.weight" in changed) == (variant != "sparse-fixed-weights")
    assert ("readout.delay" in changed) == (variant in ("sparse-decreasing", "sparse-fixed-weights"))
    assert "hidden.0.norm.weight" in changed
    for connection in network.connections:
        if connection.mask is not None:
            assert not connection.weight[~connection.mask].any()


def test_a_run_that_was_stopped_while_sigma_shrinks_ends_with_the_same_weights(tmp_path):
    source, folder = TimedCounts(1.0), miniature.make(tmp_path / "data", sizes={"train": 48, "valid": 16, "test": 16})
    splits = source.load(folder, "clean")
    hyper = DclsTraining(epochs=8, batch_size=16)

    def build():
        network = HammouamriNetwork(140, splits.classes, hidden=(12, 12), max_delay=8, synapses=6)
        return DclsObjective(network, hyper)

    def run(folder, share=math.inf):
        folder.mkdir(exist_ok=True)
        return trainer.train(build, splits, 5, folder, stop_at(share))

    whole = run(tmp_path / "whole")
    with pytest.raises(Stop):
        run(tmp_path / "stopped", 0.3)
    resumed = run(tmp_path / "stopped")
    assert resumed["resumed"]
    weights = [torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "stopped")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    assert timeless(whole["history"]) == timeless(resumed["history"])


def test_the_duration_of_a_sample_is_an_option():
    given = argparse.Namespace(duration=0.5, allow_silence=False)
    source = TimedCounts(1.4).with_options(given)
    assert (source.binning.steps, source.binning.duration) == (50, 0.5)
    assert source.matches(given, source.settings)
    assert not TimedCounts(1.4).matches(given, TimedCounts(1.4).settings)
    for wrong in (-1.0, 1.005, float("nan")):
        with pytest.raises(OptionError, match="--duration"):
            TimedCounts(1.4).with_options(argparse.Namespace(duration=wrong, allow_silence=False))


# ------------------------------------------------------------------------------------------------------------ audio


@pytest.fixture
def words(tmp_path):
    return miniature_speech.make(tmp_path / "words")


def test_audio_folders_become_three_splits_of_spectrograms(words):
    splits = SpeechCommands().load(words, "clean")
    assert (splits.name, splits.classes, splits.inputs) == ("GSC-3", 3, 140)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [96, 24, 36]
    features, labels = splits.train.batch(np.array([0, 95]), np.random.default_rng(0))
    assert features.shape == (2, 101, 140)
    assert features.dtype == torch.float32
    assert labels.tolist() == [0, 2]
    again = SpeechCommands().load(words, "clean")  # from the cache
    assert again.digest == splits.digest
    assert splits.criterion == SpeechCommands().load(words, "paper").criterion == "valid_accuracy"


def test_wav_and_flac_give_the_same_features(words, tmp_path):
    other = tmp_path / "as_wav"
    for path in words.rglob("*.flac"):
        target = other / path.relative_to(words).with_suffix(".wav")
        target.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(target, *soundfile.read(path, dtype="int16"))
    for name in ("validation_list.txt", "testing_list.txt"):
        shutil.copy(words / name, other / name)
    assert SpeechCommands().load(other, "clean").digest == SpeechCommands().load(words, "clean").digest


def test_features_are_those_of_the_reference_transforms():
    transforms = pytest.importorskip("torchaudio.transforms")
    torch.manual_seed(0)
    clip = torch.randn(1, 16000)
    reference = nn.Sequential(
        transforms.Resample(16000, 8000),
        transforms.Spectrogram(n_fft=256, hop_length=80, power=2),
        transforms.MelScale(n_mels=140, sample_rate=8000, f_min=50, f_max=14000, n_stft=129),
        transforms.AmplitudeToDB(),
    )
    expected = reference(clip).transpose(1, 2)
    torch.testing.assert_close(MelSpectrogram().features(clip, 16000), expected, rtol=1e-4, atol=1e-3)


def test_short_and_long_clips_are_brought_to_one_second():
    clip = torch.randn(1, 20000)
    features = MelSpectrogram().features(clip, 16000)
    torch.testing.assert_close(features, MelSpectrogram().features(clip[:, :16000], 16000))
    assert MelSpectrogram().features(clip[:, :500], 16000).shape == features.shape


def test_a_tone_is_seen_in_its_band_at_its_time():
    time = torch.arange(16000) / 16000
    tone = torch.sin(2 * torch.pi * 1000 * time) * (time > 0.5)
    features = MelSpectrogram().features(tone[None], 16000)[0]
    assert features[75].max() > features[25].max() + 40
    edges = 700 * (10 ** (torch.linspace(*(2595 * np.log10(1 + f / 700) for f in (50, 14000)), 142) / 2595) - 1)
    band = features[75].argmax().item()
    assert edges[band] < 1100
    assert edges[band + 2] > 900


def test_background_noise_and_other_files_are_left_out(words):
    (words / "_background_noise_").mkdir()
    shutil.copy(next((words / "rise").iterdir()), words / "_background_noise_" / "noise.flac")
    (words / "rise" / "notes.txt").write_text("not audio")
    (words / "validation_list.txt").write_text((words / "validation_list.txt").read_text() + "bird/0_nohash_0.wav\n")
    assert SpeechCommands().load(words, "clean").name == "GSC-3"


def test_every_part_of_table_2_names_its_networks_once():
    for part in dcls_table2.RECIPE.parts.values():
        assert len({row.key for row in part.rows}) == len(part.rows)
        for row in part.rows:
            HammouamriNetwork(140, 35, **part.network_settings | row.settings)
        assert dataclasses.asdict(part.training)["epochs"] in (60, 100, 150)


@pytest.mark.parametrize(
    ("options", "sums", "next_number"),
    [({}, [1.405358, 81.18683, 2.0, 0.0, -0.827684, 31.540378], 0.048368632793426514),
     ({"synapses": 3}, [0.209088, 64.846595, 2.0, 0.0, 0.364941, 28.127273], 0.03059476613998413),
     ({"connections": "no delays"}, [1.405358, 2.0, 0.0, -0.827684, 1.0, 0.0], 0.29679805040359497)],
)  # fmt: skip
def test_a_seed_gives_the_network_that_the_published_tables_were_made_with(options, sums, next_number):
    torch.manual_seed(3)
    network = HammouamriNetwork(14, 5, hidden=(8, 6), max_delay=9, **options)
    found = [p.detach().double().flatten()[::7].sum().item() for p in list(network.parameters())[:6]]
    assert found == pytest.approx(sums, abs=1e-5)
    assert torch.rand(1).item() == pytest.approx(next_number, abs=1e-7)  # and what is drawn after it
