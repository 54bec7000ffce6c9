"""A convolutional network that reads digits: 24,778 parameters, 5 epochs.

Pictures x (N, 1, 28, 28), shifted so that pixels have mean 0 and deviation 1, pass three layers of

    max over 2 x 2 of relu(batch norm(conv 3 x 3))       (N, 16, 14, 14), (N, 32, 7, 7), (N, 64, 3, 3)

and a linear one, to scores (N, 10). Each epoch sees every digit once, turned by up to 10 degrees, moved by up to 2
pixels and scaled by up to a tenth, so that no picture comes twice. The rate rises to 0.01 in the first quarter of the
steps and falls to almost 0 (one cycle, https://arxiv.org/abs/1708.07120).

    epoch 1 of 5: loss 0.3576, accuracy 0.8933 (while learning, on changed digits)
    epoch 5 of 5: loss 0.0401, accuracy 0.9875
    99.30% of the test's digits right

The data is MNIST in NumPy's format: x_train (60000, 28, 28) and y_train of bytes, x_test and y_test.
"""

import argparse
import time

import hominy
import numpy as np
from hominy import nn, optim
from hominy import transforms as T
from hominy.training import accuracy, evaluate
from hominy.utils.data import DataLoader, TensorDataset

MEAN, DEVIATION = 0.1307, 0.3081  # of MNIST's pixels, 0 to 1


class Augmented:
    """The batches of a loader, their pictures changed."""

    def __init__(self, loader, augment):
        self.loader, self.augment = loader, augment

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return ((self.augment(x), y) for x, y in self.loader)


def load(path, part, limit):
    """Pictures (N, 1, 28, 28) and digits (N,)."""
    with np.load(path) as data:
        x, y = data[f"x_{part}"][:limit, None], data[f"y_{part}"][:limit]
    x = (x.astype("float32") / 255 - MEAN) / DEVIATION
    return TensorDataset(hominy.from_numpy(x), hominy.from_numpy(y.astype("int64")))


def network(widths=(16, 32, 64)):
    """(N, 1, 28, 28) -> (N, 10)."""
    layers, channels = [], 1
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(9 * channels, 10))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data/mnist.npz", help="mnist.npz")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--limit", type=int, help="so many pictures of each part alone")
    arguments = parser.parse_args()
    hominy.manual_seed(0)

    train, test = (load(arguments.data, part, arguments.limit) for part in ("train", "test"))
    model, loss = network(), nn.CrossEntropyLoss()
    augment = T.RandomAffine(10, (0.08, 0.08), (0.9, 1.1), fill=-MEAN / DEVIATION)
    loader = Augmented(DataLoader(train, 128, shuffle=True, drop_last=True), augment)
    optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, epochs=arguments.epochs, steps_per_epoch=len(loader), pct_start=0.25
    )
    began = time.perf_counter()
    hominy.fit(model, loader, loss, optimizer, arguments.epochs, metrics={"accuracy": accuracy}, scheduler=schedule)
    seconds = time.perf_counter() - began
    right = evaluate(model, DataLoader(test, 500), loss, {"accuracy": accuracy})["accuracy"]
    print(f"{right:.2%} of the test's digits right, {seconds:.0f} s")
