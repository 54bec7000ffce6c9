"""A straight line through noisy points, y = w x + b, by the gradient of the mean squared error.

    L(w, b) = mean((w x + b - y)^2)        w <- w - r dL/dw        b <- b - r dL/db

backward() fills in dL/dw and dL/db. After 200 steps the line is the least-squares one, which has a closed form:

    by descent:    w = 1.9935, b = 0.4927
    least squares: w = 1.9935, b = 0.4927
"""

import hominy
import numpy as np

rng = np.random.default_rng(0)
points = rng.uniform(-1, 1, 100).astype("float32")
values = (2 * points + 0.5 + 0.1 * rng.standard_normal(100)).astype("float32")

x, y = hominy.from_numpy(points), hominy.from_numpy(values)
w = hominy.zeros((), requires_grad=True)
b = hominy.zeros((), requires_grad=True)

for _ in range(200):
    loss = ((w * x + b - y) ** 2).mean()
    loss.backward()
    with hominy.no_grad():
        for parameter in (w, b):
            parameter -= 0.3 * parameter.grad
            parameter.grad = None

slope, intercept = np.polyfit(points.astype("float64"), values.astype("float64"), 1)
print(f"by descent:    w = {w.item():.4f}, b = {b.item():.4f}")
print(f"least squares: w = {slope:.4f}, b = {intercept:.4f}")
