"""Event-driven EventProp of linear neurons with up to three states on the CPU: compiled loops.

Between events x' = M x, with an M for every neuron. Time is cut into steps of length h, short beside all time constants.
An arrival of weight w at the fraction f in [-1, 1] of step n changes the state at the step's end by

    w exp(M h (1 - f) / 2) B = w sum_k f^k C_k,   k < 8,

a polynomial in f (Chebyshev interpolation, error below 1e-14 w). So forwards every arrival adds w, w f, ..., w f^7 to the
eight moments m of its step and neuron, without an exponential and without a word about the model, and

    x(n + 1) = P x(n) + sum_k m_k[n] C_k,   P = exp(M h),    is the exact state at every step's end.

Only in a step in which V may reach the threshold, by a bound on V' from above and from below, are the arrivals looked at
one by one (they are chained per step), and the crossing is searched interval by interval.

Backwards, with p = dL/dx, an arrival in step n reads the polynomial q(f) = sum_k f^k (C_k . p(n + 1)), eight numbers per
step and neuron: dL/dw = sum q(f), dL/dd = w sum q'(f) 2 / h. In a step with jumps of p (spikes of the neuron itself) there
is one polynomial for the time before, between and after them. dL/dM is the sum of what P and the C_k receive from whole
steps (p(n + 1) x(n)^T and p(n + 1) m_k[n]), and of int p x^T dt over the parts of steps that have spikes.

The cost of an arrival does not depend on the model, nor on its delay.
"""
