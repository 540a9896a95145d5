r"""How the standard deviation sigma of Gaussian delays shrinks during training (Hammouamri et al., section 3.2, Fig. 4).

A wide Gaussian lets the delay feel the spikes of distant steps, a narrow one is nearly the single tap of evaluation.
sigma falls exponentially, after every epoch, down to 0.5 steps:

- as published in the code: from T_d // 2 in the first quarter of the epochs, then constant. It multiplies the
  parameter SIG of the ``dcls`` package, to which that adds 0.27, by the same factor every epoch; so does
  :class:`PublishedSigma`,

  .. math:: \sigma(e) = 0.27 + S_0 \Bigl(\frac{0.23}{S_0}\Bigr)^{\min(e / E,\, 1)}, \qquad
      S_0 = \lfloor T_d / 2 \rfloor,\ E = \lfloor \text{epochs} / 4 \rfloor;

- as the text reads: all through the training, :class:`ExponentialSigma`,

  .. math:: \sigma(e) = \sigma_0 \Bigl(\frac{\sigma_1}{\sigma_0}\Bigr)^{e / (\text{epochs} - 1)}.

Both are functions of the number e of finished epochs and nothing else, so that a resumed training goes on as it would
have. :func:`anneal_sigma` sets the layers of a network by hand; :func:`sigma_annealing` gives a Lightning callback.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from .checks import check_function, check_number, check_sigma, check_steps, check_whole
from .delays import rules_with_sigma

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer

__all__ = ["ExponentialSigma", "PublishedSigma", "anneal_sigma", "sigma_annealing"]

FINAL_SIGMA = 0.5
_DCLS_OFFSET = 0.27


@dataclass(frozen=True)
class PublishedSigma:
    """The annealing of the published code, as a function of the number of finished epochs.

    :param epochs: of the whole training; the annealing takes ``epochs // 4`` of them (none: sigma is final at once).
    :param max_delay: T_d - 1; sigma starts at T_d // 2 + 0.27.
    :param final: where it ends.
    :raises ValueError: for a training without epochs, a negative ``max_delay``, or a final sigma of at most 0.27.

    Example::

        >>> sigma = PublishedSigma(epochs=150, max_delay=24)
        >>> [round(sigma(epoch), 2) for epoch in (0, 18, 37, 149)]
        [12.27, 2.02, 0.5, 0.5]
    """

    epochs: int
    max_delay: int
    final: float = FINAL_SIGMA

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", check_whole("epochs", self.epochs, least=1))
        object.__setattr__(self, "max_delay", check_steps("max_delay", self.max_delay))
        object.__setattr__(self, "final", check_number("final", self.final, above=_DCLS_OFFSET, unit="time steps"))

    def __call__(self, epoch: int) -> float:
        _check_epoch(epoch)
        start, end = (self.max_delay + 1) // 2, self.final - _DCLS_OFFSET
        if start <= end:
            return self.final
        duration = self.epochs // 4
        share = min(epoch / duration, 1.0) if duration else 1.0
        return _DCLS_OFFSET + start * (end / start) ** share


@dataclass(frozen=True)
class ExponentialSigma:
    """An exponential from ``initial`` in the first to ``final`` in the last epoch, as the paper's text reads.

    :raises ValueError: for a training without epochs, or a sigma that is not positive.

    Example::

        >>> sigma = ExponentialSigma(epochs=5, initial=8.0)
        >>> [sigma(epoch) for epoch in range(5)]
        [8.0, 4.0, 2.0, 1.0, 0.5]
    """

    epochs: int
    initial: float
    final: float = FINAL_SIGMA

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", check_whole("epochs", self.epochs, least=1))
        for name in ("initial", "final"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), above=0.0, unit="time steps"))

    def __call__(self, epoch: int) -> float:
        _check_epoch(epoch)
        share = min(epoch / (self.epochs - 1), 1.0) if self.epochs > 1 else 1.0
        return self.initial * (self.final / self.initial) ** share


def anneal_sigma(network: nn.Module, schedule: Callable[[int], float], epoch: int) -> float:
    """Set the sigma of every layer in ``network`` whose delays have one, for the epoch after ``epoch`` finished ones.

    Call it before each epoch. Layers that learn their sigma are left alone.

    :returns: the sigma that was set.
    :raises ValueError: if no layer of the network has a sigma to set, for a negative epoch, or a schedule that gives no
        positive number. :raises TypeError: for a network that is no module, a schedule that is no function.

    Example::

        >>> from snn_delay_plugins.snntorch import DelayedLinear
        >>> layer = DelayedLinear(3, 2, max_delay=24, delay_gradient="gaussian")
        >>> sigma = anneal_sigma(layer, PublishedSigma(epochs=100, max_delay=24), epoch=25)
        >>> round(sigma, 3), round(layer.sigma.item(), 3)
        (0.5, 0.5)
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, got {type(network).__name__}")
    check_function("schedule", schedule, "PublishedSigma(epochs, max_delay)")
    _check_epoch(epoch)
    layers: list[Any] = [m for m in network.modules() if hasattr(m, "set_sigma") and not m.learn_sigma and m.has_sigma]
    if not layers:
        raise ValueError(f"the network has no layer with {rules_with_sigma()} whose sigma could be set")
    sigma = check_sigma(schedule(epoch))
    for layer in layers:
        layer.set_sigma(sigma)
    return sigma


def sigma_annealing(schedule: Callable[[int], float]) -> Callback:
    """:func:`anneal_sigma` before every training epoch, as a Lightning callback.

    It keeps no state: Lightning tells the epoch, also after a resume.

    :param schedule: sigma as a function of the number of finished epochs.
    :raises ImportError: without Lightning. :raises TypeError: for a schedule that is no function.

    Example::

        >>> from lightning.pytorch import Callback
        >>> isinstance(sigma_annealing(PublishedSigma(epochs=150, max_delay=24)), Callback)
        True
    """
    check_function("schedule", schedule, "PublishedSigma(epochs, max_delay)")
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError as error:
        raise ImportError("sigma_annealing needs Lightning: pip install lightning, or call anneal_sigma") from error

    class SigmaAnnealing(Callback):
        def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
            anneal_sigma(module, schedule, trainer.current_epoch)

    return SigmaAnnealing()


def _check_epoch(epoch: int) -> None:
    check_number("epoch", epoch, least=0, unit="finished epochs")
