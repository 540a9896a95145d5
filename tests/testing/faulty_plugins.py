"""A small faulty plug-in for every check: each differs from a right one in the single thing that the check is to find."""

from __future__ import annotations

import torch
from spikingjelly.activation_based.base import MemoryModule
from torch import Tensor, nn
from torch.nn import functional as F

from snn_delay_plugins.testing import Plugin

from .right_plugins import RightNeuron, RightNode, alive, reset


def of_snntorch(factory, **keywords) -> Plugin:
    return Plugin(factory, framework="snntorch", form="step", kind="neuron", shape=(5,), **{"reset": reset, **keywords})


# time


class OtherLeakOverSequences(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        return super().multi_step_functional_forward((inputs[0] * 1.1,), states, **kwargs)


class DetachedOverSequences(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        first, rest = inputs[0][:1].detach(), inputs[0][1:]
        return super().multi_step_functional_forward((torch.cat([first, rest]),), states, **kwargs)


class StartsEverySequenceAnew(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        return super().multi_step_functional_forward(inputs, (torch.zeros_like(states[0]),), **kwargs)


class TwoStates(RightNode):
    """The sequence keeps its state where steps do not look."""

    def multi_step_forward(self, x_seq, *args, **kwargs):
        here, self.v = self.v, self.__dict__.get("other", 0.0)
        output = super().multi_step_forward(x_seq)
        self.__dict__["other"], self.v = self.v, here
        return output


class ForgetsBetweenBlocks(RightNode):
    """The sequence runs in blocks of 32 steps, and the second one starts anew."""

    def multi_step_functional_forward(self, inputs, states, **kwargs):
        blocks = []
        for block in inputs[0].split(32):
            outputs, last = super().multi_step_functional_forward((block,), states, **kwargs)
            blocks.append(outputs[0])
            states = tuple(torch.zeros_like(state) for state in last)
        return (torch.cat(blocks),), last


class ForgetsGradientsBetweenBlocks(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        blocks = []
        for block in inputs[0].split(32):
            outputs, states = super().multi_step_functional_forward((block,), states, **kwargs)
            blocks.append(outputs[0])
            states = tuple(state.detach() for state in states)
        return (torch.cat(blocks),), states


class TakesNoInhibition(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        return super().multi_step_functional_forward((inputs[0].clamp_min(0),), states, **kwargs)


class DetachesAfterEverySequence(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        outputs, states = super().multi_step_functional_forward(inputs, states, **kwargs)
        return outputs, tuple(state.detach() for state in states)


class ReturnsADetachedState(RightNeuron):
    def forward(self, x, mem=None):
        spk, mem = super().forward(x, mem)
        return spk, mem.detach()


class MixesTheBatch(RightNeuron):
    def step(self, x, mem):
        return super().step(x - 0.3 * x.mean(0, keepdim=True), mem)


class KnowsTheFuture(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        return super().multi_step_functional_forward((inputs[0] - inputs[0].mean(0),), states, **kwargs)


class Squeezes(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        outputs, states = super().multi_step_functional_forward(inputs, states, **kwargs)
        return (outputs[0].squeeze(0),), states


class StacksNothing(RightNode):
    def multi_step_functional_forward(self, inputs, states, **kwargs):
        return MemoryModule.multi_step_functional_forward(self, inputs, states, **kwargs)


class DividesByTheLargest(RightNeuron):
    def step(self, x, mem):
        return super().step(x / x.max().clamp_min(1), mem)


# reset


class NeverForgets(RightNeuron):
    def reset_mem(self):
        self.starts_anew()
        return self.mem


def reset_children(net: nn.Module) -> None:
    for module in net.children():
        if isinstance(module, RightNeuron):
            module.reset_mem()


def reset_all(net: nn.Module) -> None:
    for module in list(alive):
        module.reset_mem()


class HasNoReset(RightNeuron):
    reset_mem = property()


class ResetsToZeroTimesItself(RightNeuron):
    def reset_mem(self):
        self.starts_anew()
        self.mem = None if self.mem is None else self.mem * 0
        return self.mem


class ResetsWhatIsThere(RightNeuron):
    def reset_mem(self):
        self.mem = torch.zeros_like(self.mem)
        return self.mem


class Broadcasts(RightNeuron):
    def before(self, x, mem):
        mem = self.mem if mem is None else mem
        return torch.zeros_like(x) if mem is None or not mem.numel() else mem


# inputs


class Views(RightNeuron):
    def step(self, x, mem):
        return super().step(x.view(-1).view(x.shape), mem)


class WritesItsInput(RightNeuron):
    def step(self, x, mem):
        with torch.no_grad():
            return super().step(x.mul_(1.01), mem)


class GivesOneBuffer(RightNeuron):
    def forward(self, x, mem=None):
        spk, mem = super().forward(x, mem)
        buffer = self.__dict__.setdefault("buffer", torch.zeros_like(spk))
        with torch.no_grad():
            buffer.copy_(spk)
        return buffer, mem


class HidesNaN(RightNeuron):
    def step(self, x, mem):
        return super().step(x.nan_to_num(), mem)


# number types and devices


class AnswersInFloat32(RightNeuron):
    def step(self, x, mem):
        spk, mem = super().step(x, mem)
        return spk.float(), mem


class StartsInFloat32(RightNeuron):
    def start(self, x):
        return torch.zeros(x.shape, device=x.device)


class MixesTypesUnderAutocast(nn.Linear):
    def forward(self, x):
        return x.new_zeros(len(x), self.out_features).index_add(0, torch.arange(len(x)), F.linear(x, self.weight))


class LeavesItsStateBehind(RightNeuron):
    def _apply(self, fn, recurse=True):
        return nn.Module._apply(self, fn, recurse)


class StartsOnTheCPU(RightNeuron):
    def start(self, x):
        return torch.zeros(x.shape, dtype=x.dtype)


# gradients


class LeaksWithoutGradient(RightNeuron):
    def step(self, x, mem):
        return super().step(x, mem.detach())


class NeverDetaches(RightNeuron):
    def detach_mem(self):
        pass


class GivesItsState(MemoryModule):
    """A leaky integrator whose output is its memory, which SpikingJelly detaches in place."""

    def __init__(self):
        super().__init__()
        self.beta = nn.Parameter(torch.full((5,), 0.8))
        self.register_memory("v", 0.0)

    def single_step_functional_forward(self, inputs, states, **kwargs):
        v = self.beta * states[0] + inputs[0]
        return (v,), (v,)


class GivesACopyOfItsState(GivesItsState):
    def single_step_functional_forward(self, inputs, states, **kwargs):
        (v,), states = super().single_step_functional_forward(inputs, states)
        return (v.clone(),), states


class AlwaysDifferentiates(RightNeuron):
    def step(self, x, mem):
        with torch.enable_grad():
            return super().step(x, mem)


class RemembersAConstant(RightNeuron):
    def step(self, x, mem):
        return super().step(x * self.__dict__.setdefault("one", torch.ones_like(x[0])), mem)


# copies


class CopiesItsGraph(RightNeuron):
    def __getstate__(self):
        return self.__dict__


class HoldsALambda(RightNeuron):
    def __init__(self):
        super().__init__()
        self.spike_grad = lambda x: spike_of(x)


def spike_of(x: Tensor) -> Tensor:
    return RightNeuron().spike_grad(x)


class SavesItsState(RightNeuron):
    def state_dict(self, *args, **kwargs):
        return {**super().state_dict(*args, **kwargs), **({} if self.mem is None else {"mem": self.mem})}


class RemembersItsWeights(RightNeuron):
    def step(self, x, mem):
        beta = self.__dict__.setdefault("remembered", self.beta.detach().clone())
        mem = beta * mem + x - self.spike_grad(mem - 1)
        return self.spike_grad(mem - 1), mem


class MakesWeightsInItsFirstStep(RightNeuron):
    def __init__(self):
        super().__init__()
        self.gain = None

    def step(self, x, mem):
        if self.gain is None:
            self.gain = nn.Parameter(torch.ones(x.shape[1:], dtype=x.dtype))
        return super().step(x * self.gain, mem)


class KeepsASecondReference(RightNeuron):
    def __init__(self):
        super().__init__()
        self.weights = [self.beta]

    def step(self, x, mem):
        mem = self.weights[0] * mem + x - self.spike_grad(mem - 1)
        return self.spike_grad(mem - 1), mem


class KeepsStatesInBuffers(RightNeuron):
    """As snnTorch 1.0 does."""

    def __init__(self):
        super().__init__()
        del self.mem
        self.register_buffer("mem", torch.zeros(0), persistent=False)

    def reset_mem(self):
        self.starts_anew()
        self.mem = torch.zeros(0)
        return self.mem

    def _apply(self, fn, recurse=True):
        return nn.Module._apply(self, fn, recurse)


class IsListed(RightNeuron):
    instances: list = []  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.instances.append(self)


# training


class LeavesItsBounds(RightNeuron):
    def keep_in_bounds(self):
        pass


class DropsOutInEvaluation(RightNeuron):
    def step(self, x, mem):
        return super().step(F.dropout(x, 0.5), mem)


class ForgetsInEvaluation(RightNeuron):
    def train(self, mode=True):
        self.mem = None
        return super().train(mode)


class CountsItsCalls(RightNeuron):
    calls = 0

    def step(self, x, mem):
        self.calls += 1
        return super().step(x * (1 + 0.01 * self.calls), mem)


class TakesEveryCheckpoint(RightNeuron):
    def refuse_second_time(self):
        pass

    def step(self, x, mem):  # torch itself finds a second graph that is larger than the first
        return super().step(x, mem.detach())


class LooksAtValues(RightNeuron):
    def step(self, x, mem):
        return super().step(x if x.max() > 100 else x * 1.0, mem)


class AdaptsByItself(RightNeuron):
    def step(self, x, mem):
        with torch.no_grad():
            self.beta.mul_(1 - 0.01 * x.mean())
        return super().step(x, mem * 1.0)


# snnTorch


class ReturnsAnotherState(RightNeuron):
    def forward(self, x, mem=None):
        spk, mem = super().forward(x, mem)
        return spk, mem - 0.2 * spk


class PrefersItsOwnState(RightNeuron):
    def before(self, x, mem):
        return super().before(x, mem if self.mem is None else self.mem)


class ReturnsNoStates(RightNeuron):
    def reset_mem(self):
        super().reset_mem()


class CallsForwardItself(RightNeuron):
    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


# SpikingJelly


class TakesAnyMode(RightNode):
    def supported_step_mode(self):
        return type("Any", (tuple,), {"__contains__": lambda self, mode: True})(("s", "m"))


class ForwardDiffers(RightNode):
    def single_step_forward(self, x, *args, **kwargs):
        return super().single_step_forward(x * 1.2, *args, **kwargs)


class FunctionalWritesTheModule(RightNode):
    def single_step_functional_forward(self, inputs, states, **kwargs):
        outputs, states = super().single_step_functional_forward(inputs, states, **kwargs)
        self.v = states[0]
        return outputs, states


class RemembersBesideItsMemories(RightNode):
    last = None

    def single_step_functional_forward(self, inputs, states, **kwargs):
        before, self.last = self.last, inputs[0].detach()
        both = inputs[0] if before is None or before.shape != inputs[0].shape else inputs[0] + 0.3 * before
        return super().single_step_functional_forward((both,), states, **kwargs)


class NodeCallsForwardItself(RightNode):
    def __call__(self, *args, **kwargs):
        return self.forward(*args, **kwargs)


class StoresPotentialsBeforeTheReset(RightNode):
    def _append_v_seq(self, v):
        super()._append_v_seq(v + 1)

    def multi_step_forward(self, x_seq, *args, **kwargs):
        output = super().multi_step_forward(x_seq, *args, **kwargs)
        if self.store_v_seq:
            self.v_seq = self.v_seq + output
        return output


class ReadsItsOwnMemory(RightNode):
    """The functional form starts from the module's memory, not from the states that it is given."""

    def single_step_functional_forward(self, inputs, states, **kwargs):
        own = self.v if isinstance(self.v, Tensor) and self.v.shape == states[0].shape else states[0]
        return super().single_step_functional_forward(inputs, (own,), **kwargs)

    def forward(self, *args, **kwargs):
        return MemoryModule.forward(self, *args, **kwargs)


NEURON, NODE = of_snntorch(RightNeuron), Plugin(RightNode)
RIGHT = {"a neuron of snnTorch": NEURON, "a node of SpikingJelly": NODE}
# check -> faulty plug-in, right one
FAULTY: dict[str, tuple[Plugin, Plugin]] = {
    "steps-equal-sequence": (Plugin(OtherLeakOverSequences), NODE),
    "steps-equal-sequence-gradients": (Plugin(DetachedOverSequences), NODE),
    "parts-equal-whole": (Plugin(StartsEverySequenceAnew), NODE),
    "forms-share-states": (Plugin(TwoStates), NODE),
    "batch-equals-samples": (of_snntorch(MixesTheBatch), NEURON),
    "causal": (Plugin(KnowsTheFuture), NODE),
    "one-step": (Plugin(Squeezes), NODE),
    "no-steps": (Plugin(StacksNothing), NODE),
    "no-samples": (of_snntorch(DividesByTheLargest), NEURON),
    "reset": (of_snntorch(NeverForgets), NEURON),
    "reset-depth": (of_snntorch(RightNeuron, reset=reset_children), NEURON),
    "reset-others": (of_snntorch(RightNeuron, reset=reset_all), NEURON),
    "reset-itself": (of_snntorch(HasNoReset), NEURON),
    "reset-graph": (of_snntorch(ResetsToZeroTimesItself), NEURON),
    "reset-unused": (of_snntorch(ResetsWhatIsThere), NEURON),
    "batch-size": (of_snntorch(ResetsToZeroTimesItself), NEURON),
    "batch-size-without-reset": (of_snntorch(Broadcasts), NEURON),
    "non-contiguous": (of_snntorch(Views), NEURON),
    "input-untouched": (of_snntorch(WritesItsInput), NEURON),
    "output-stays": (of_snntorch(GivesOneBuffer), NEURON),
    "nan": (of_snntorch(HidesNaN), NEURON),
    "float64": (of_snntorch(AnswersInFloat32), NEURON),
    "bfloat16": (of_snntorch(StartsInFloat32), NEURON),
    "autocast": (Plugin(lambda: MixesTypesUnderAutocast(5, 4, bias=False)), Plugin(lambda: nn.Linear(5, 4))),
    "dtype-change": (of_snntorch(LeavesItsStateBehind), NEURON),
    "meta": (of_snntorch(StartsOnTheCPU), NEURON),
    "cuda": (of_snntorch(StartsOnTheCPU), NEURON),
    "gradients": (of_snntorch(LeaksWithoutGradient), NEURON),
    "detach": (of_snntorch(NeverDetaches), NEURON),
    "detach-is-local": (
        Plugin(GivesItsState, kind="layer", shape=(5,)),
        Plugin(GivesACopyOfItsState, kind="layer", shape=(5,)),
    ),
    "no-grad": (of_snntorch(AlwaysDifferentiates), NEURON),
    "inference-mode": (of_snntorch(RemembersAConstant), NEURON),
    "deepcopy": (of_snntorch(CopiesItsGraph), NEURON),
    "pickle": (of_snntorch(HoldsALambda), NEURON),
    "save": (of_snntorch(HoldsALambda), NEURON),
    "no-state-in-state-dict": (of_snntorch(SavesItsState), NEURON),
    "state-dict": (of_snntorch(RemembersItsWeights), NEURON),
    "state-dict-lazy": (of_snntorch(MakesWeightsInItsFirstStep), NEURON),
    "functional-call": (of_snntorch(KeepsASecondReference), NEURON),
    "average": (of_snntorch(KeepsStatesInBuffers), NEURON),
    "freed": (of_snntorch(IsListed), NEURON),
    "bounds": (of_snntorch(LeavesItsBounds), NEURON),
    "evaluation": (of_snntorch(DropsOutInEvaluation), NEURON),
    "train-eval-states": (of_snntorch(ForgetsInEvaluation), NEURON),
    "checkpoint": (of_snntorch(CountsItsCalls), NEURON),
    "checkpoint-carried": (of_snntorch(TakesEveryCheckpoint), NEURON),
    "compile": (of_snntorch(LooksAtValues), NEURON),
    "ddp-gradients": (of_snntorch(AdaptsByItself), NEURON),
    "ddp-states": (of_snntorch(KeepsStatesInBuffers), NEURON),
    "explicit-states": (of_snntorch(ReturnsAnotherState), NEURON),
    "explicit-states-win": (of_snntorch(PrefersItsOwnState), NEURON),
    "reset-mem-returns": (of_snntorch(ReturnsNoStates), NEURON),
    "hooks": (of_snntorch(CallsForwardItself), NEURON),
    "step-mode": (Plugin(TakesAnyMode), NODE),
    "functional-form": (Plugin(ForwardDiffers), NODE),
    "functional-pure": (Plugin(FunctionalWritesTheModule), NODE),
    "memories": (Plugin(RemembersBesideItsMemories), NODE),
    "output-monitor": (Plugin(NodeCallsForwardItself), NODE),
    "attribute-monitor": (Plugin(NodeCallsForwardItself), NODE),
    "v-seq": (Plugin(StoresPotentialsBeforeTheReset), NODE),
    "memopt": (Plugin(ReadsItsOwnMemory), NODE),
}

MORE_FAULTY = (
    ("steps-equal-sequence", Plugin(ForgetsBetweenBlocks)),
    ("steps-equal-sequence", Plugin(TakesNoInhibition)),
    ("steps-equal-sequence-gradients", Plugin(ForgetsGradientsBetweenBlocks)),
    ("parts-equal-whole", Plugin(DetachesAfterEverySequence)),
    ("explicit-states", of_snntorch(ReturnsADetachedState)),
)
"""Faults that show in less simple inputs."""
