"""Elman's network from its formulas, with kernels alone: no tape, the gradient by hand, the same as nn.RNN's.

A sequence X (T, N, I) of N rows passes, from h_-1 = 0 on,

    h_t = tanh(x_t W + h_t-1 U + b)              (N, H)
    P = softmax(h_T-1 V + d)                     (N, C), L = -mean(sum(Y log P)) for one-hot targets Y

and backwards, where h_t takes a gradient from what comes after it alone, with dz_t the gradient of tanh's argument,

    dS = (P - Y) / N         dV = h_T-1' dS      dd = sum(dS)            dh_T-1 = dS V'
    dz_t = dh_t (1 - h_t^2)                      dh_t-1 = dz_t U'
    dW = sum_t x_t' dz_t     dU = sum_t h_t-1' dz_t                      db = sum_t sum(dz_t)

The task is one of memory: the sum of T random bits, odd or even, T from 1 to 5. Elman's "Finding structure in time"
(1990, https://doi.org/10.1207/s15516709cog1402_1) let such a network solve XOR over time. `python examples/elman.py`:

    largest difference of a gradient from nn.RNN's: 8.3e-17
    1 to 5 bits: 100.0% right each
"""

import argparse

import hominy
import numpy as np
from hominy import kernels, nn
from hominy.nn import functional as F

HIDDEN, RATE = 16, 0.5


def forward(x, w, u, b, v, d):
    """(all h (T + 1, N, H), of which the first is 0; P (N, C)) for x (T, N, I)."""
    states = [np.zeros((x.shape[1], len(u)), x.dtype)]
    for step in x:
        z = kernels.add(kernels.add(kernels.matmul(step, w), kernels.matmul(states[-1], u)), b)
        states.append(kernels.tanh(z))
    return states, kernels.softmax(kernels.add(kernels.matmul(states[-1], v), d), 1)


def gradients(x, y, states, p, u, v):
    """Those of w, u, b, v and d, from what `forward` gave."""
    ds = kernels.multiply(kernels.subtract(p, y), 1 / len(y))
    dh = kernels.matmul(ds, v.T)
    dw, du, db = np.zeros((x.shape[2], len(u)), x.dtype), np.zeros_like(u), np.zeros(len(u), x.dtype)
    for t in reversed(range(len(x))):
        dz = kernels.tanh_backward(dh, states[t + 1])
        dw = dw + kernels.matmul(x[t].T, dz)
        du = du + kernels.matmul(states[t].T, dz)
        db = db + kernels.sum(dz, 0)
        dh = kernels.matmul(dz, u.T)
    return dw, du, db, kernels.matmul(states[-1].T, ds), kernels.sum(ds, 0)


def by_layers(x, y, w, u, b, v, d):
    """The same gradients by nn.RNN, nn.Linear and the tape."""
    rnn, out = nn.RNN(x.shape[2], HIDDEN, dtype=hominy.float64), nn.Linear(HIDDEN, 2, dtype=hominy.float64)
    ours = (rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, out.weight, out.bias)
    with hominy.no_grad():
        for parameter, value in zip(ours, (w.T, u.T, b, v.T, d), strict=True):
            parameter.copy_(hominy.from_numpy(np.ascontiguousarray(value)))
        rnn.bias_hh_l0.zero_()  # PyTorch's layer has two biases, the formula one
    _, h = rnn(hominy.from_numpy(x))
    F.cross_entropy(out(h[0]), hominy.from_numpy(y.argmax(1))).backward()
    return [parameter.grad.numpy().T for parameter in ours]


def bits(rng, count, length):
    """(X (T, N, 1) of -1 and 1, one-hot Y (N, 2): whether the number of ones is odd)."""
    ones = rng.integers(0, 2, (length, count, 1))
    return ones * 2.0 - 1.0, np.eye(2)[ones.sum(0)[:, 0] % 2]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000, help="of gradient descent")
    arguments = parser.parse_args()

    rng = np.random.default_rng(0)
    w, u = rng.standard_normal((1, HIDDEN)), rng.standard_normal((HIDDEN, HIDDEN)) / np.sqrt(HIDDEN)
    v = rng.standard_normal((HIDDEN, 2)) / np.sqrt(HIDDEN)
    weights = [w, u, np.zeros(HIDDEN), v, np.zeros(2)]

    x, y = bits(rng, 64, 5)
    states, p = forward(x, *weights)
    mine, theirs = gradients(x, y, states, p, weights[1], weights[3]), by_layers(x, y, *weights)
    difference = max(abs(a - b).max() for a, b in zip(mine, theirs, strict=True))
    print(f"largest difference of a gradient from nn.RNN's: {difference:.1e}")

    for _ in range(arguments.steps):
        x, y = bits(rng, 64, int(rng.integers(1, 6)))
        states, p = forward(x, *weights)
        found = gradients(x, y, states, p, weights[1], weights[3])
        # Gradients through time may be long: at most a length of 1 all together.
        rate = RATE / max(1.0, np.sqrt(sum((g * g).sum() for g in found)))
        weights = [weight - rate * g for weight, g in zip(weights, found, strict=True)]

    for length in range(1, 6):
        x, y = bits(rng, 1000, length)
        right = (forward(x, *weights)[1].argmax(1) == y.argmax(1)).mean()
        print(f"{length} bits: {right:.1%} right")
