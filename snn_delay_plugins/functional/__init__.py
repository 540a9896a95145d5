"""The maths: pure functions on ``[T, N, *]`` tensors with explicit state. Every file opens with its equation."""
