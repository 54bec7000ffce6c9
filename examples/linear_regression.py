"""Linear regression, y = w . x + b, without a penalty and with those of L1 (lasso) and L2 (ridge).

    L(w, b) = mean((w . x + b - y)^2) + l1 sum|w| + l2 sum w^2

The data are scikit-learn's: 442 diabetics, 10 measurements each, and how far the disease has come a year later, all of
mean 0 and deviation 1; every second patient is held out. Two measurements of blood serum, s1 and s2, say nearly the
same. Least squares gives them large weights of opposite signs; L2 shrinks both; L1 makes the weights that are worth
least exactly 0. That comes from its step: after the gradient's step each weight moves rate * l1 toward 0 and stops
there (proximal gradient descent).

                    age    sex    bmi     bp     s1     s2     s3     s4     s5     s6   error  held out  closed form
    no penalty    -0.02  -0.08   0.30   0.23  -0.62   0.39   0.16   0.24   0.47  -0.01   0.447     0.444      2e-07
    L2 = 0.1      -0.01  -0.07   0.28   0.21  -0.05  -0.03  -0.10   0.14   0.25   0.01   0.454     0.440      5e-16
    L1 = 0.15         0      0   0.29   0.15      0      0  -0.11   0.01   0.25      0   0.473     0.446

The last column is the largest difference from the solution of the normal equations, (X'X / N + l2) w = X'y / N, which
has no L1.
"""

import hominy
import numpy as np
from sklearn.datasets import load_diabetes

STEPS, RATE = 10_000, 0.1


def descend(x, y, l1=0.0, l2=0.0):
    """The weights (10,) and b () that minimise L."""
    w = hominy.zeros(x.shape[1], dtype=hominy.float64, requires_grad=True)
    b = hominy.zeros((), dtype=hominy.float64, requires_grad=True)
    for _ in range(STEPS):
        loss = ((x @ w + b - y) ** 2).mean() + l2 * (w**2).sum()
        loss.backward()
        with hominy.no_grad():
            for parameter in (w, b):
                parameter -= RATE * parameter.grad
                parameter.grad = None
            w.copy_(w.sign() * (w.abs() - RATE * l1).clamp(min=0.0))
    return w.detach(), b.detach()


def closed_form(x, y, l2=0.0):
    """The same without l1, by the normal equations; x and y have mean 0 in the training half, so b = 0."""
    return np.linalg.solve(x.T @ x / len(x) + l2 * np.eye(x.shape[1]), x.T @ y / len(x))


data = load_diabetes()
train, test = slice(0, None, 2), slice(1, None, 2)
x = (data.data - data.data[train].mean(0)) / data.data[train].std(0)
y = (data.target - data.target[train].mean()) / data.target[train].std()
print(f"{'':<12}" + "".join(f"{name:>7}" for name in data.feature_names) + "   error  held out  closed form")
for name, l1, l2 in (("no penalty", 0, 0), ("L2 = 0.1", 0, 0.1), ("L1 = 0.15", 0.15, 0)):
    w, b = descend(hominy.from_numpy(x[train]), hominy.from_numpy(y[train]), l1, l2)
    train_error, test_error = (((x[rows] @ w.numpy() + b.item() - y[rows]) ** 2).mean() for rows in (train, test))
    same = "" if l1 else f"{np.abs(w.numpy() - closed_form(x[train], y[train], l2)).max():10.0e}"
    weights = "".join(f"{value:7.2f}" if value else f"{0:7d}" for value in w.tolist())
    print(f"{name:<12}{weights}{train_error:8.3f}{test_error:10.3f} {same}".rstrip())
