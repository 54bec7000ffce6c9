"""The picture examples run from beginning to end, on a few made-up pictures."""

import pathlib
import runpy
import sys

import hominy
import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run an example with arguments; what it printed."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return call


@pytest.fixture
def pictures(tmp_path):
    """20 cats and 20 dogs for training, and as many for testing."""
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for kind in ("cat", "dog"):
            folder = tmp_path / part / kind
            folder.mkdir(parents=True)
            for i in range(20):
                image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return tmp_path


def test_cnn_mnist(run, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mnist.npz",
        **{f"x_{part}": rng.integers(0, 256, (300, 28, 28), dtype=np.uint8) for part in ("train", "test")},
        **{f"y_{part}": rng.integers(0, 10, 300, dtype=np.uint8) for part in ("train", "test")},
    )
    said = run("cnn_mnist", "--data", tmp_path / "mnist.npz", "--epochs", 1, "--limit", 256)
    assert "epoch 1 of 1: loss" in said and "of the test's digits right" in said


def test_cats_or_dogs(run, pictures):
    said = run("cats_or_dogs", "--data", pictures, "--epochs", 1, "--limit", 16)
    assert "epoch 1 of 1: loss" in said and "of the test's pictures right" in said


def test_cats_or_dogs_transfer(run, pictures):
    weights = pictures / "weights.pth"
    hominy.save(hominy.models.efficientnet_lite0().state_dict(), weights)
    said = run(
        "cats_or_dogs_transfer", "--data", pictures, "--weights", weights, "--epochs", 1, "--limit", 4, "--size", 40
    )
    assert "last layer alone: " in said and "all layers: " in said


@pytest.mark.parametrize("name", ["cnn_mnist", "cats_or_dogs", "cats_or_dogs_transfer"])
def test_help(run, name, capsys):
    with pytest.raises(SystemExit):
        run(name, "--help")
    assert "--data" in capsys.readouterr().out
