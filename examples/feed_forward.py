"""A feed-forward network written out by hand, and the same network in three layers.

By hand it is only arrays and kernels, no tape: for a batch X (N, 784) of digits with one-hot targets T (N, 10),

    H = max(0, X W1 + b1)        P = softmax(H W2 + b2)        L = -mean(sum(T log P))

and backwards, with the derivative of softmax and cross entropy together being P - T,

    dZ = (P - T) / N             dW2 = H' dZ        db2 = sum(dZ)
    dH = (dZ W2') [H > 0]        dW1 = X' dH        db1 = sum(dH)

In layers, the tape derives the second half. Both learn MNIST (60,000 digits in batches of 128, 128 hidden units, 3
epochs of gradient descent) from the same weights, in the same order (times on two AVX-512 cores):

    by hand:   96.15% of the test's digits right, 1.4 s
    in layers: 96.12% of the test's digits right, 1.3 s
"""

import sys
import time

import hominy
import numpy as np
from hominy import kernels, nn, optim

EPOCHS, BATCH, RATE, HIDDEN = 3, 128, 0.2, 128


def load(folder):
    """Training pictures (60000, 784) of values from 0 to 1, their digits, and those of the test."""
    with np.load(f"{folder}/mnist.npz") as data:
        return (
            data["x_train"].reshape(-1, 784).astype("float32") / 255, data["y_train"].astype("int64"),
            data["x_test"].reshape(-1, 784).astype("float32") / 255, data["y_test"].astype("int64"),
        )  # fmt: skip


def batches(x, y):
    """Batches of BATCH rows, in an order that is the same for both networks."""
    for epoch in range(EPOCHS):
        order = np.random.default_rng(epoch).permutation(len(x))
        for first in range(0, len(x), BATCH):
            rows = order[first : first + BATCH]
            yield x[rows], y[rows]


def by_hand(x, y, w1, b1, w2, b2):
    """Gradient descent with arrays; the function from pictures to scores."""
    for x_batch, labels in batches(x, y):
        t = np.eye(10, dtype="float32")[labels]
        h = kernels.relu(kernels.add(kernels.matmul(x_batch, w1), b1))  # (N, H)
        p = kernels.softmax(kernels.add(kernels.matmul(h, w2), b2), 1)  # (N, 10)

        dz = kernels.multiply(kernels.subtract(p, t), 1 / len(labels))  # (N, 10)
        dh = kernels.relu_backward(kernels.matmul(dz, w2.T), h)  # (N, H)

        w2 = w2 - RATE * kernels.matmul(h.T, dz)
        b2 = b2 - RATE * kernels.sum(dz, 0)
        w1 = w1 - RATE * kernels.matmul(x_batch.T, dh)
        b1 = b1 - RATE * kernels.sum(dh, 0)
    return lambda x: kernels.relu(x @ w1 + b1) @ w2 + b2


def in_layers(x, y, w1, b1, w2, b2):
    """The same, with the tape."""
    model = nn.Sequential(nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
    with hominy.no_grad():
        for parameter, start in zip(model.parameters(), (w1.T, b1, w2.T, b2), strict=True):
            parameter.copy_(hominy.from_numpy(start))
    loss = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    for x_batch, labels in batches(x, y):
        optimizer.zero_grad()
        loss(model(hominy.from_numpy(x_batch)), hominy.from_numpy(labels)).backward()
        optimizer.step()
    return lambda x: model(hominy.from_numpy(x)).detach().numpy()


if __name__ == "__main__":
    x, y, x_test, y_test = load(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    rng = np.random.default_rng(0)
    w1 = (rng.standard_normal((784, HIDDEN)) * np.sqrt(2 / 784)).astype("float32")
    w2 = (rng.standard_normal((HIDDEN, 10)) * np.sqrt(2 / HIDDEN)).astype("float32")
    start = w1, np.zeros(HIDDEN, "float32"), w2, np.zeros(10, "float32")
    for name, train in (("by hand", by_hand), ("in layers", in_layers)):
        began = time.perf_counter()
        scores = train(x, y, *start)
        seconds = time.perf_counter() - began
        right = (scores(x_test).argmax(1) == y_test).mean()
        print(f"{name + ':':<10} {right:.2%} of the test's digits right, {seconds:.1f} s")
