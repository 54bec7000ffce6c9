"""A feed-forward network written out by hand, and the same network in layers.

By hand it is only arrays and kernels, no tape: for a batch X (N, D) with one-hot targets T,

    H = max(0, X W1 + b1)        P = softmax(H W2 + b2)        L = -mean(sum(T log P))

and backwards, with the derivative of softmax and cross entropy together being P - T,

    dZ = (P - T) / N             dW2 = H' dZ        db2 = sum(dZ)
    dH = (dZ W2') [H > 0]        dW1 = X' dH        db1 = sum(dH)

In layers, the tape derives the second half. Both learn three interleaved spiral arms (600 points in the plane, 64
hidden units, 2,000 steps of gradient descent) from the same weights (times on two AVX-512 cores):

    by hand:   loss 0.0037, 100.0% of the points right, 85 us a step
    in layers: loss 0.0037, 100.0% of the points right, 180 us a step
"""

import time

import hominy
import numpy as np
from hominy import kernels, nn, optim

STEPS, RATE, HIDDEN = 2000, 1.0, 64


def spirals(rng, points=200, arms=3):
    """Points (N, 2) along `arms` spiral arms, and the arm (N,) that each belongs to."""
    arm = np.repeat(np.arange(arms), points)
    radius = np.tile(np.linspace(0.1, 1, points), arms)
    angle = 4 * radius + arm * 2 * np.pi / arms + 0.15 * rng.standard_normal(arms * points)
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1).astype("float32"), arm


def by_hand(x, labels, w1, b1, w2, b2):
    """Gradient descent with arrays; the last loss and scores."""
    t = np.eye(3, dtype="float32")[labels]
    for _ in range(STEPS):
        h = kernels.relu(kernels.add(kernels.matmul(x, w1), b1))  # (N, H)
        p = kernels.softmax(kernels.add(kernels.matmul(h, w2), b2), 1)  # (N, 3)

        dz = kernels.multiply(kernels.subtract(p, t), 1 / len(x))  # (N, 3)
        dh = kernels.relu_backward(kernels.matmul(dz, w2.T), h)  # (N, H)

        w2 = w2 - RATE * kernels.matmul(h.T, dz)
        b2 = b2 - RATE * kernels.sum(dz, 0)
        w1 = w1 - RATE * kernels.matmul(x.T, dh)
        b1 = b1 - RATE * kernels.sum(dh, 0)
    return -np.log(p[np.arange(len(x)), labels]).mean(), p


def in_layers(x, labels, w1, b1, w2, b2):
    """The same, with the tape; the last loss and scores."""
    model = nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 3))
    with hominy.no_grad():
        for parameter, start in zip(model.parameters(), (w1.T, b1, w2.T, b2), strict=True):
            parameter.copy_(hominy.from_numpy(start))
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    x, labels = hominy.from_numpy(x), hominy.from_numpy(labels)
    for _ in range(STEPS):
        optimizer.zero_grad()
        scores = model(x)
        loss = criterion(scores, labels)
        loss.backward()
        optimizer.step()
    return loss.item(), scores.detach().numpy()


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    x, labels = spirals(rng)
    w1 = rng.standard_normal((2, HIDDEN)).astype("float32")
    w2 = (rng.standard_normal((HIDDEN, 3)) / np.sqrt(HIDDEN)).astype("float32")
    start = w1, np.zeros(HIDDEN, "float32"), w2, np.zeros(3, "float32")
    for name, train in (("by hand", by_hand), ("in layers", in_layers)):
        began = time.perf_counter()
        loss, scores = train(x, labels, *start)
        step = (time.perf_counter() - began) / STEPS
        print(f"{name + ':':<10} loss {loss:.4f}, {(scores.argmax(1) == labels).mean():.1%} of the points right, "
              f"{step * 1e6:.0f} us a step")  # fmt: skip
