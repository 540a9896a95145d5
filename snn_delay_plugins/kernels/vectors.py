"""The pieces that intrinsics for compiled loops are built of: LLVM's vector operations.

LLVM's vectoriser of straight-line code is off in numba, so that a loop over as many numbers as a register holds takes one
after the other. Where a processor's vectors are shorter than these, LLVM breaks them up.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

__all__ = [
    "NARROW", "WIDE", "data", "fused", "index", "load", "pointer", "shuffle", "spread", "store", "total", "vector", "zeros",
]  # fmt: skip

NARROW, WIDE = ir.IntType(32), ir.IntType(64)


def vector(of: Any, size: int) -> Any:
    return ir.VectorType(of, size)


def zeros(kind: Any) -> Any:
    """Of a vector of floating numbers."""
    return ir.Constant(kind, [0.0] * kind.count)


def index(value: int) -> Any:
    """A constant to count numbers with."""
    return ir.Constant(WIDE, value)


def data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Pointer to the first number of a contiguous array."""
    return context.make_array(kind)(context, builder, array).data


def pointer(builder: Any, first: Any, more: Any, kind: Any) -> Any:
    """To the vector that begins ``more`` numbers, a constant or a value, behind ``first``."""
    more = index(more) if isinstance(more, int) else more
    return builder.bitcast(builder.gep(first, [more]), kind.as_pointer())


def load(builder: Any, at: Any) -> Any:
    """A vector from where numbers lie, not aligned to more than one of them."""
    return builder.load(at, align=_bytes(at.type.pointee))


def store(builder: Any, value: Any, at: Any) -> None:
    builder.store(value, at, align=_bytes(value.type))


def shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    """Lane k is number order[k] of a and b, one behind the other."""
    return builder.shuffle_vector(a, b, ir.Constant(vector(NARROW, len(order)), order))


def spread(builder: Any, value: Any, size: int) -> Any:
    """The same number in every lane."""
    none = ir.Constant(vector(value.type, size), ir.Undefined)
    return shuffle(builder, builder.insert_element(none, value, ir.Constant(NARROW, 0)), none, [0] * size)


def total(builder: Any, a: Any) -> Any:
    """The sum of the lanes, in double precision; their number is a power of two."""
    if a.type.element != ir.DoubleType():
        a = builder.fpext(a, vector(ir.DoubleType(), a.type.count))
    while a.type.count > 1:
        half = a.type.count // 2
        low, high = (shuffle(builder, a, a, list(range(k * half, (k + 1) * half))) for k in range(2))
        a = builder.fadd(low, high)
    return builder.extract_element(a, ir.Constant(NARROW, 0))


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, one instruction where the processor has it."""
    kind = a.type
    name = f"llvm.fmuladd.v{kind.count}f{8 * _bytes(kind)}"
    return builder.call(builder.module.declare_intrinsic(name, (), ir.FunctionType(kind, [kind] * 3)), [a, b, c])


def _bytes(kind: Any) -> int:
    """Of one number of a vector."""
    element = kind.element
    return element.width // 8 if isinstance(element, ir.IntType) else 4 if isinstance(element, ir.FloatType) else 8
