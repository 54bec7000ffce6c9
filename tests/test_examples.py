"""The examples of pictures and of sequences run from beginning to end, on a little made-up data."""

import importlib.util
import pathlib
import runpy
import sys

import hominy
import numpy as np
import pytest
from conftest import optional

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
    image = optional("PIL.Image")
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


def test_text_polarity(run, tmp_path):
    for kind, word in (("neg", "dull"), ("pos", "splendid")):
        lines = [f"a {word} film , with {i} scenes" for i in range(20)]
        (tmp_path / f"rt-polarity.{kind}").write_text("\n".join(["!", *lines]))
    said = run("text_polarity", "--data", tmp_path, "--epochs", 1, "--limit", 16)
    assert "LSTM epoch 1: loss" in said and "GRU  epoch 1: loss" in said and "held out right" in said


@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
def test_character_model(run, tmp_path, cell):
    (tmp_path / "text.txt").write_text("To be, or not to be.\n" * 200)
    said = run("character_model", "--data", tmp_path / "text.txt", "--cell", cell, "--hidden", 8, "--layers", 2,
               "--steps", 3, "--write", 20)  # fmt: skip
    assert "step 3: " in said and "(20 characters in " in said


def test_variable_length(run, tmp_path):
    rng = np.random.default_rng(0)
    for part, count in (("TRAIN", 36), ("TEST", 18)):
        lines = ["@dimensions 3", "@data"]
        for i in range(count):
            channels = rng.standard_normal((3, rng.integers(3, 8)))
            lines.append(":".join([*(",".join(f"{value:.4f}" for value in one) for one in channels), str(i % 9 + 1)]))
        (tmp_path / f"JapaneseVowels_{part}.ts").write_text("\n".join(lines) + "\n")
    said = run("variable_length", "--data", tmp_path, "--epochs", 1, "--seeds", 1)
    assert all(f"{way}: " in said for way in ("lengths", "packed", "padded"))
    assert float(said.split()[-1]) < 1e-6


def test_variable_length_names_the_package(run, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        run("variable_length")
    assert "pip install --no-deps aeon" in capsys.readouterr().err


def test_elman(run):
    said = run("elman", "--steps", 20)
    assert float(said.splitlines()[0].split()[-1]) < 1e-12 and "5 bits: " in said


@pytest.mark.parametrize(
    "name",
    ["cnn_mnist", "cats_or_dogs", "cats_or_dogs_transfer", "text_polarity", "character_model", "variable_length"],
)
def test_help(run, name, capsys):
    with pytest.raises(SystemExit):
        run(name, "--help")
    assert "--data" in capsys.readouterr().out
