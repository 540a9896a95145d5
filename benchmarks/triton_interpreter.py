"""Triton's interpreter for a dry run: importing this chooses it, mends it for today's numpy, and makes it faster."""

from __future__ import annotations

import os

os.environ["TRITON_INTERPRET"] = "1"  # which triton looks at when it is imported

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

_patch = interpreter._patch_lang_tensor
_call, _called = interpreter.InterpretedFunction.__call__, set()


def _patch_for_numpy(tensor, *scope):
    """Triton up to 3.6 takes int() of arrays of one element for loop bounds, which numpy 2.4 refuses."""
    _patch(tensor, *scope)
    set_attribute = scope[0].set_attr if scope else setattr
    set_attribute(tensor, "__index__", lambda self: self.handle.data.item())


def _call_without_patching_again(self, *args, **kwargs):
    """It prepares triton.language at every call of a function by a kernel; once is enough."""
    if self.fn in _called:
        return self.rewrite()(*args, **kwargs)
    _called.add(self.fn)
    return _call(self, *args, **kwargs)


interpreter._patch_lang_tensor = _patch_for_numpy
interpreter.InterpretedFunction.__call__ = _call_without_patching_again


def expm1_of_numpy() -> None:
    """In place of EventProp's own, whose thirty operations take half of the interpreter's time."""
    from snn_delay_plugins.kernels.eventprop.triton import flow

    flow.expm1 = lambda x: tl.tensor(interpreter.TensorHandle(np.expm1(x.handle.data), x.handle.dtype), x.type)
