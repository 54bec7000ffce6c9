"""A perceptron, p = sigmoid(w . x + b), taught by two losses to tell benign tumours from malignant ones.

The data are scikit-learn's: 569 tumours, 30 measurements each (mean 0, deviation 1 after scaling), a fifth of them held
out. With p the probability of "benign" and t what is true (0 or 1),

    mean squared error    L = mean((p - t)^2)                          dL/dz = 2 (p - t) p (1 - p)
    cross entropy         L = -mean(t log p + (1 - t) log(1 - p))      dL/dz = p - t

Where the perceptron is sure and wrong, p (1 - p) is near 0 and the squared error has hardly a gradient; cross entropy
has the largest there. So it learns faster at the same rate, and recovers from a start that is sure and wrong (w = -1
for each measurement that speaks for "benign", 1 for each that speaks against it). The loss named, after 0, 10, 100 and
1,000 steps of gradient descent over all the tumours, and the share of the held-out ones that is right at the end:

    from w = 0
        mean squared error   0.2500   0.0446   0.0225   0.0139    98.2% right
        cross entropy        0.6931   0.1209   0.0708   0.0522    98.2% right
    from sure and wrong
        mean squared error   0.9024   0.9005   0.8645   0.0156    97.3% right
        cross entropy       14.6437   0.1483   0.0741   0.0529    99.1% right
"""

import hominy
import numpy as np
from hominy import nn, optim
from sklearn.datasets import load_breast_cancer

STEPS, RATE = 1000, 0.5


def split(seed=0):
    """(x, t) of four fifths of the tumours, and of the others."""
    data = load_breast_cancer()
    order = np.random.default_rng(seed).permutation(len(data.target))
    test, train = np.split(order, [len(order) // 5])
    x = (data.data - data.data[train].mean(0)) / data.data[train].std(0)
    x, t = x.astype("float32"), data.target.astype("float32")[:, None]
    return [hominy.from_numpy(array[rows]) for rows in (train, test) for array in (x, t)]


def squared_error(z, t):
    """The mean of (p - t)^2."""
    return ((z.sigmoid() - t) ** 2).mean()


def learn(loss, x, t, w):
    """The perceptron, and its loss at each step, from the weights w (1, 30)."""
    model = nn.Linear(30, 1)  # z; p = sigmoid(z)
    with hominy.no_grad():
        model.weight.copy_(w)
        model.bias.zero_()
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    losses = []
    for _ in range(STEPS + 1):
        optimizer.zero_grad()
        value = loss(model(x), t)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return model, losses


x, t, x_test, t_test = split()
toward = hominy.from_numpy(np.sign(x.numpy().T @ (t.numpy() - 0.5)).T)  # (1, 30): which way each measurement speaks
for start, w in (("from w = 0", toward * 0.0), ("from sure and wrong", toward * -1.0)):
    print(start)
    for name, loss in (("mean squared error", squared_error), ("cross entropy", nn.BCEWithLogitsLoss())):
        model, losses = learn(loss, x, t, w)
        right = ((model(x_test) > 0.0).numpy() == (t_test > 0.5).numpy()).mean()
        curve = "  ".join(f"{losses[step]:7.4f}" for step in (0, 10, 100, 1000))
        print(f"    {name:<20}{curve}    {right:.1%} right")
