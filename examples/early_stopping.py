"""Early stopping and cross-validation with `hominy.fit`, on two of scikit-learn's sets.

Diabetes: 10 measurements of each of 442 patients foretell how far the disease has come a year later. A network of 256
hidden units can learn half of the patients by heart. Its error on the other half falls, then rises: there training
should have stopped. EarlyStopping stops 20 epochs after the best and puts the best weights back. (An error of 1 is that
of the mean.)

Digits: 1,797 of 8 by 8 pixels. How wide should a network be? Each is trained five times on four fifths of the digits
and scored on the fifth that it has not seen. The spread says which differences mean something.

    diabetes                                 error, learnt from   held out
        300 epochs      300 epochs, best  86        0.223        0.498
        early stopping   60 epochs, best  40        0.399        0.422

    digits
          4 hidden units: loss 0.9625 ± 0.36, accuracy 0.6793 ± 0.18 (5 folds)
         16 hidden units: loss 0.176 ± 0.019, accuracy 0.9544 ± 0.0072 (5 folds)
         64 hidden units: loss 0.1197 ± 0.02, accuracy 0.9661 ± 0.01 (5 folds)
        256 hidden units: loss 0.09233 ± 0.033, accuracy 0.9733 ± 0.012 (5 folds)
"""

import hominy
import numpy as np
from hominy import nn, optim
from hominy.callbacks import EarlyStopping
from hominy.training import accuracy, evaluate
from hominy.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_diabetes, load_digits

diabetes = load_diabetes()
train, unseen = slice(0, None, 2), slice(1, None, 2)
x = (diabetes.data - diabetes.data[train].mean(0)) / diabetes.data[train].std(0)
y = (diabetes.target - diabetes.target[train].mean()) / diabetes.target[train].std()
x, y = (hominy.from_numpy(array.astype("float32")) for array in (x, y[:, None]))
patients, others = TensorDataset(x[train], y[train]), TensorDataset(x[unseen], y[unseen])

print("diabetes                                 error, learnt from   held out")
for name, callbacks in (("300 epochs", []), ("early stopping", [EarlyStopping(patience=20)])):
    hominy.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 256), nn.ReLU(), nn.Linear(256, 1))
    history = hominy.fit(
        model, DataLoader(patients, 20, shuffle=True), nn.MSELoss(), optim.Adam(model.parameters(), lr=3e-4), 300,
        validation=DataLoader(others, 300), callbacks=callbacks, verbose=False,
    )  # fmt: skip
    best = int(np.argmin(history["val_loss"]))
    errors = [evaluate(model, DataLoader(half, 300), nn.MSELoss())["loss"] for half in (patients, others)]
    print(
        f"    {name:<15} {len(history):>3} epochs, best {best + 1:>3}" + "".join(f"{error:13.3f}" for error in errors)
    )

digits = load_digits()
x = hominy.from_numpy((digits.data / 16).astype("float32"))
data = TensorDataset(x, hominy.from_numpy(digits.target.astype("int64")))

print("\ndigits")
for hidden in (4, 16, 64, 256):
    hominy.manual_seed(0)
    scores = hominy.cross_validate(
        lambda hidden=hidden: nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)),
        data, nn.CrossEntropyLoss(), lambda parameters: optim.Adam(parameters, lr=3e-3), epochs=15,
        folds=5, stratify=digits.target, metrics={"accuracy": accuracy},
    )  # fmt: skip
    print(f"    {hidden:>3} hidden units: {scores}")
