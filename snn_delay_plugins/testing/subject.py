"""A plug-in under test, and what the kit finds out about it by running it: framework, forms, shape, states, gain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .frameworks import Form, Framework, framework_of
from .registry import Kind, NotApplicable

__all__ = ["Case", "Plugin", "Subject", "UnclearPlugin"]

STEPS, BATCH = 8, 3
_GAINS = (1.0, 2.0, 4.0, 0.5, 8.0, 16.0, 32.0, 64.0, 0.25, 128.0, 256.0)
_SHARE = (0.05, 0.8)  # of the places of time, sample and neuron that have a spike
_RANDOM = (
    "another seed gives another output: where random numbers are meant, as of dropout or initial states, check the module "
    "in evaluation, lambda: MyModule().eval(), and declare what does not hold in training, expected_failures={...}"
)
_SHAPE_NAMES = ("in_features", "features", "linear_features", "channels", "num_inputs", "in_channels")


class UnclearPlugin(Exception):
    """The kit cannot find out what it has to know; the message names the keyword that says it."""


@dataclass(frozen=True)
class Plugin:
    """A factory of modules, and what the kit cannot find out by itself.

    :param factory: makes a fresh module at every call, with the same options. The kit seeds torch before each.
    :param kind: ``"neuron"`` (its output is spikes) or ``"layer"``.
    :param framework: ``"snntorch"`` or ``"spikingjelly"``.
    :param form: ``"step"`` or ``"sequence"``, for a module of snnTorch. SpikingJelly's say it in ``supported_step_mode()``.
    :param sequence: of a step module of snnTorch, the factory of the class that does the same over whole sequences.
    :param shape: of the input of one sample at one step, ``(5,)`` or ``(2, 8, 8)``.
    :param inputs: ``inputs(steps, batch)`` makes ``[T, N, *shape]`` in place of the kit's own, which are currents at which
        a neuron fires now and then, and for layers spikes.
    :param states: the names of the tensors that the module carries from call to call.
    :param bounds: intervals of parameters by name, ``{"beta": (0.0, 1.0)}``. A module may say so itself, by an attribute
        ``parameter_bounds``.
    :param reset: ``reset(net)`` in place of the framework's own function.
    :param detach: ``detach(net)`` likewise.
    :param expected_failures: by the key of the check, the reason.
    """

    factory: Callable[[], nn.Module]
    kind: Kind | None = None
    framework: str | None = None
    form: Form | None = None
    sequence: Callable[[], nn.Module] | None = None
    shape: tuple[int, ...] | None = None
    inputs: Callable[[int, int], Tensor] | None = None
    states: tuple[str, ...] | None = None
    bounds: Mapping[str, tuple[float, float]] | None = None
    reset: Callable[[nn.Module], object] | None = None
    detach: Callable[[nn.Module], object] | None = None
    expected_failures: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random numbers from a seed, and torch's own as they were afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def first_of(output: Tensor | tuple) -> Tensor:
    """The spikes or currents, without the states that come with them."""
    return output[0] if isinstance(output, tuple | list) else output


class Subject:
    """A :class:`Plugin`, and what is found out about it once, when it is first asked for."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin

    def made(self, factory: Callable[[], nn.Module] | None = None) -> nn.Module:
        with seeded():
            module = (factory or self.plugin.factory)()
        if not isinstance(module, nn.Module):
            raise UnclearPlugin(f"the factory must make a torch.nn.Module, it made {type(module).__name__}")
        return module

    @cached_property
    def framework(self) -> Framework:
        first, second = self.made(), self.made()
        if first is second:
            raise UnclearPlugin("the factory gave the same module twice; it must make a fresh one at every call")
        return framework_of(first, self.plugin.framework)

    @cached_property
    def title(self) -> str:
        return type(self.made()).__name__

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the input of one sample at one step."""
        if self.plugin.shape is not None:
            return tuple(self.plugin.shape)
        if self.plugin.inputs is not None:
            return tuple(self.plugin.inputs(2, 2).shape[2:])
        errors = []
        for shape in self._candidates():
            for rank in (2, 1):  # sequences first: they are refused by a form that takes steps alone
                try:
                    with torch.no_grad(), self.framework.alone():
                        self._fresh("step" if rank == 1 else "sequence")(torch.ones(*(3, 2)[:rank], *shape))
                    return shape
                except Exception as error:
                    errors.append(f"{shape}: {type(error).__name__}: {error}")
        raise UnclearPlugin("no shape of an input fits; pass shape=. Tried " + "; ".join(dict.fromkeys(errors)))

    def _candidates(self) -> list[tuple[int, ...]]:
        module: Any = self.made()
        sizes: list[tuple[int, ...]] = []
        for name in _SHAPE_NAMES:
            size = getattr(module, name, None)
            if isinstance(size, int) and not isinstance(size, bool):
                sizes.append((size,))
            elif isinstance(size, tuple | torch.Size) and all(isinstance(n, int) for n in size):
                sizes.append(tuple(size))
        if hasattr(module, "in_channels"):
            axes = len(module.kernel_size) if isinstance(getattr(module, "kernel_size", 0), tuple) else 2
            return [(int(module.in_channels), *(8,) * axes), (int(module.in_channels), 8), *sizes]
        return [*sizes, (5,), (4, 5), (2, 6, 6)]

    def _fresh(self, form: Form) -> nn.Module:
        factory = self.plugin.sequence if form == "sequence" and self.plugin.sequence else None
        module = self.made(factory)
        self.framework.set_form(module, form)
        return module

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """Steps, sequences or both."""
        said = self.framework.forms(self.made())
        if said is not None:
            return said
        if self.plugin.sequence is not None:
            return ("step", "sequence")
        return (self.plugin.form or self._form_by_behaviour(),)

    def _form_by_behaviour(self) -> Form:
        """A module that takes no ``[N, *]``, or whose later rows follow the first one, takes whole sequences."""
        try:
            with torch.no_grad():
                self.made()(torch.ones(3, *self.shape))
        except Exception:
            return "sequence"
        for gain in _GAINS[:5]:
            x = self._drawn(7, 3) * gain
            other = x.clone()
            other[0] += 10 * gain
            try:
                with torch.no_grad(), seeded():
                    one = self._all_outputs(self.made()(x))
                with torch.no_grad(), seeded():
                    two = self._all_outputs(self.made()(other))
            except Exception:
                return "step"  # a sample of two axes that it does not take
            if any(a.shape[:1] == (7,) and not torch.equal(a[1:], b[1:]) for a, b in zip(one, two, strict=True)):
                return "sequence"
        return "step"

    @staticmethod
    def _all_outputs(output: Tensor | tuple) -> list[Tensor]:
        return [value for value in (output if isinstance(output, tuple | list) else (output,)) if isinstance(value, Tensor)]

    def _drawn(self, steps: int, batch: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(steps, batch, *self.shape, generator=generator, dtype=torch.float64).float()

    def inputs(self, steps: int, batch: int, seed: int = 0) -> Tensor:
        """``[T, N, *]`` in float32: currents at which a neuron fires now and then, or spikes."""
        if self.plugin.inputs is not None:
            with seeded(seed):
                return self.plugin.inputs(steps, batch)
        drawn = self._drawn(steps, batch, seed)
        return (drawn < 0.35).float() if self.kind == "layer" else drawn * self.gain

    @cached_property
    def kind(self) -> Kind:
        if self.plugin.kind is not None:
            return self.plugin.kind
        module = self.made()
        if any(hasattr(each, name) for each in module.modules() for name in self.framework.spikes()):
            return "neuron"
        with torch.no_grad(), self.framework.alone():
            return "neuron" if _binary(self._ran(self._drawn(STEPS, BATCH) * 4)) else "layer"

    def _ran(self, x: Tensor) -> Tensor:
        case = Case(self, self.forms[-1])
        with seeded():
            return case.run(self._fresh(case.form), x)

    @cached_property
    def gain(self) -> float:
        """What uniform currents are multiplied by, so that the neuron fires now and then."""
        shares = {}
        for gain in _GAINS:
            with torch.no_grad(), self.framework.alone():
                shares[gain] = float((self._ran(self._drawn(16, 4) * gain) != 0).double().mean())
            if _SHARE[0] <= shares[gain] <= _SHARE[1]:
                return gain
        some = [gain for gain, share in shares.items() if 0 < share < 1]
        if not some:
            raise UnclearPlugin(
                f"uniform currents times {min(_GAINS):g} to {max(_GAINS):g} make the neuron fire never or always, which "
                'proves nothing; pass inputs=lambda steps, batch: ..., or kind="layer"'
            )
        return min(some, key=lambda gain: abs(shares[gain] - 0.3))

    @cached_property
    def dtype(self) -> torch.dtype:
        """That the checks compute in: float64 (rounding flips no spike), or float32 where the module cannot."""
        try:
            with torch.no_grad(), self.framework.alone():
                case = Case(self, self.forms[0], torch.float64)
                case.run(case.module(), case.inputs(2))
        except Exception:
            return torch.float32
        return torch.float64

    @cached_property
    def draws(self) -> bool:
        """Whether what it computes depends on random numbers."""
        case = Case(self, self.forms[0])
        try:
            with torch.no_grad(), self.framework.alone():
                one, two = (case.run(case.module(), case.inputs(), seed=seed) for seed in (1, 2))
        except Exception:
            return False
        return not torch.equal(one, two)

    @cached_property
    def _carried(self) -> dict[Form, tuple[str, ...] | bool]:
        found: dict[Form, tuple[str, ...] | bool] = {form: Case(self, form).found_states() for form in self.forms}
        if self.plugin.sequence is None and any(found.values()):  # one module: what one form carries, the other has to
            names = tuple(sorted({name for each in found.values() if isinstance(each, tuple) for name in each}))
            return dict.fromkeys(self.forms, names or True)
        return found

    def carried(self, form: Form) -> tuple[str, ...] | bool:
        """The states of a form by name; True: it carries something that has no name; False: nothing."""
        return self._carried[form]

    def cases(self) -> list[Case]:
        return [Case(self, form) for form in self.forms]

    def __repr__(self) -> str:
        carried = {form: self.carried(form) for form in self.forms}
        names = sorted({name for each in carried.values() if isinstance(each, tuple) for name in each})
        states = ", ".join(names) or ("unnamed" if any(carried.values()) else "none")
        return (
            f"{self.title}: {self.kind} of {self.framework.name}, {' and '.join(self.forms)}, input {list(self.shape)} per "
            f"sample and step, states: {states}, computed in {str(self.dtype).removeprefix('torch.')}"
        )


def _binary(x: Tensor) -> bool:
    return x.numel() > 0 and bool(((x == 0) | (x == 1)).all())


class Case:
    """A subject in one form. What a check is given: fresh modules, inputs, and how the two are put together."""

    def __init__(self, subject: Subject, form: Form, dtype: torch.dtype | None = None) -> None:
        self.subject = subject
        self.form: Form = form
        self._dtype = dtype
        self.was_reset = False

    @property
    def framework(self) -> Framework:
        return self.subject.framework

    @property
    def kind(self) -> Kind:
        return self.subject.kind

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype or self.subject.dtype

    def in_dtype(self, dtype: torch.dtype) -> Case:
        return Case(self.subject, self.form, dtype)

    def in_form(self, form: Form) -> Case:
        if form not in self.subject.forms:
            raise NotApplicable(f"there is no form over {'single steps' if form == 'step' else 'sequences'}")
        return Case(self.subject, form, self._dtype)

    @property
    def carried(self) -> tuple[str, ...] | bool:
        return self.subject.carried(self.form)

    def needs_states(self) -> None:
        """
        :raises NotApplicable: for a module that keeps nothing between its calls.
        """
        if not self.carried:
            raise NotApplicable("keeps no state between its calls")

    # modules

    def module(self, dtype: torch.dtype | None = None) -> nn.Module:
        """A fresh module in this form: the same weights at every call."""
        module = self.subject._fresh(self.form)
        if self.form == "sequence" and self.subject.plugin.sequence is not None:
            module.load_state_dict(Case(self.subject, "step", torch.float32).module().state_dict())
        if any(is_lazy(value) for value in chain(module.parameters(), module.buffers())):
            with torch.no_grad(), seeded():
                self.run(module, self.subject.inputs(1, 2))
            self.framework.reset_one(module)
        return module.to(dtype or self.dtype)

    def inputs(self, steps: int = STEPS, batch: int = BATCH, seed: int = 0) -> Tensor:
        return self.subject.inputs(steps, batch, seed).to(self.dtype)

    # running

    def run(self, net: Callable, x: Tensor, seed: int = 1) -> Tensor:
        """The main output ``[T, N, *]`` of ``net`` for ``x`` ``[T, N, *]``, from the states that it has."""
        with seeded(seed):
            if self.form == "sequence":
                return first_of(net(x))
            outputs = [first_of(net(step)) for step in x]
            if not outputs:
                raise NotApplicable("a loop over no steps calls nothing")
            return torch.stack(outputs)

    def calls(self, net: Callable, x: Tensor) -> list[Tensor]:
        """The very tensors that come out of the calls, whose number is that of the steps, or one."""
        with seeded(1):
            return [first_of(net(x))] if self.form == "sequence" else [first_of(net(step)) for step in x]

    def ran(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """The output of a fresh module."""
        return self.run(self.module(dtype), x)

    def reset(self, net: nn.Module) -> None:
        """Through the framework's own function, or what the plug-in names in its place."""
        self.was_reset = True
        (self.subject.plugin.reset or self.framework.reset)(net)

    def hints(self) -> str:
        """What a failure may come from."""
        found = [_RANDOM] if self.subject.draws else []
        if self.was_reset and self.subject.plugin.reset is None:
            found.append(self.framework.reset_hint(self.module()))
        return "".join(f" ({hint})" for hint in found if hint)

    def detach(self, net: nn.Module) -> None:
        try:
            (self.subject.plugin.detach or self.framework.detach)(net)
        except NotImplementedError as why:
            raise NotApplicable(str(why)) from None

    def as_net(self, module: nn.Module) -> nn.Module:
        """The module inside of a network, as the frameworks' functions for networks are given one."""
        return nn.Sequential(nn.Identity(), module)

    # states

    def states(self, net: nn.Module) -> dict[str, Tensor]:
        """The tensors that the modules of ``net`` carry, by path."""
        named = self.carried if isinstance(self.carried, tuple) else ()
        return {
            f"{path}.{name}".lstrip("."): value
            for path, module in net.named_modules()
            for name, value in self.framework.states(module).items()
            if name in named
        }

    def found_states(self) -> tuple[str, ...] | bool:
        """What a run leaves behind that was not there before, if a second one is not like the first."""
        for seed in (0, 4):
            with torch.no_grad(), self.framework.alone():
                net, x = self.module(), self.inputs(seed=seed)
                before = self._snapshot(net)
                first = self.run(net, x)
                changed = self._changed(net, before)
                try:
                    differs = not torch.equal(first, self.run(net, x))
                    self.run(net, self.inputs(batch=BATCH + 1, seed=seed))
                except Exception:  # it refuses to go on: it remembers something
                    differs = True
            if differs or (changed and self.framework.declares_states):
                return self.subject.plugin.states or tuple(sorted(changed)) or True
        return False

    def _changed(self, net: nn.Module, before: dict[tuple[str, str], Tensor]) -> set[str]:
        after = self._snapshot(net)
        same = {
            key
            for key, value in before.items()
            if key in after and after[key].shape == value.shape and torch.equal(after[key], value)
        }
        return {name for _, name in after.keys() - same} - {name.rpartition(".")[2] for name in net.state_dict()}

    def _snapshot(self, net: nn.Module) -> dict[tuple[str, str], Tensor]:
        return {
            (path, name): value.clone()
            for path, module in net.named_modules()
            for name, value in self.framework.states(module).items()
        }

    # parameters

    def has_spike_function(self) -> bool:
        return any(
            name in vars(m) or name in m._modules for m in self.module().modules() for name in self.framework.spikes()
        )

    def smoothed(self, module: nn.Module) -> nn.Module:
        """The module with a spike function that is smooth in the forward pass, of which its gradient is the derivative.

        :raises NotApplicable: for a neuron that keeps its spike function nowhere that the kit knows.
        """
        found = False
        for each in module.modules():
            for name in self.framework.spikes():
                if name in vars(each) or name in each._modules:
                    each._modules.pop(name, None)
                    setattr(each, name, self.framework.smooth())
                    found = True
        if self.kind == "neuron" and not found:
            raise NotApplicable(f"no attribute {' or '.join(self.framework.spikes())} to put a smooth function into")
        return module

    def bounds(self, module: nn.Module) -> dict[str, tuple[float, float]]:
        if self.subject.plugin.bounds is not None:
            return dict(self.subject.plugin.bounds)
        found = {}
        for path, each in module.named_modules():
            # a parameter that is clamped where it is read may be anywhere
            declared = getattr(each, "projected_bounds", getattr(each, "parameter_bounds", None))
            if isinstance(declared, Mapping):
                found |= {f"{path}.{name}".lstrip("."): tuple(interval) for name, interval in declared.items()}
        return found
