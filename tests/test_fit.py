"""fit and cross_validate: the same numbers as by hand, callbacks, what is not finite, and what is printed."""

import io
import math
import subprocess
import sys

import hominy
import numpy as np
import pytest
from hominy import nn, optim
from hominy.callbacks import BestWeights, Callback, Checkpoint, EarlyStopping
from hominy.optim import lr_scheduler
from hominy.training import NotFinite, accuracy, evaluate
from hominy.utils.data import DataLoader, TensorDataset


def problem(samples=60, seed=0):
    """Points in the plane and on which side of a line they lie."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((samples, 2)).astype("float32")
    return TensorDataset(hominy.from_numpy(x), hominy.from_numpy((x[:, 0] > x[:, 1]).astype("int64")))


def network(seed=0):
    hominy.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))


def weights(model):
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in model.parameters()])


def test_the_same_as_by_hand():
    loss, data = nn.CrossEntropyLoss(), problem()
    loader, held_out = DataLoader(data, 16), DataLoader(problem(30, 1), 7)
    model = network()
    optimizer = optim.Adam(model.parameters(), 0.05)
    schedule = lr_scheduler.StepLR(optimizer, 2)
    expected = {"loss": [], "accuracy": [], "val_loss": [], "val_accuracy": [], "lr": []}
    for _ in range(4):
        total = right = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            output = model(x)
            value = loss(output, y)
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            total, right = total + value.item() * len(y), right + accuracy(output, y) * len(y)
        unseen, target = held_out.dataset.tensors
        with hominy.no_grad():
            scores = model(unseen)
        rate = optimizer.param_groups[0]["lr"]
        row = total / 60, right / 60, loss(scores, target).item(), accuracy(scores, target), rate
        for column, value in zip(expected.values(), row, strict=True):
            column.append(value)
        schedule.step()

    other = network()
    optimizer = optim.Adam(other.parameters(), 0.05)
    history = hominy.fit(other, loader, loss, optimizer, 4, validation=held_out, metrics={"accuracy": accuracy},
                         scheduler=lr_scheduler.StepLR(optimizer, 2), clip_norm=0.1, verbose=False)  # fmt: skip
    assert np.array_equal(weights(model), weights(other))
    assert list(history.columns) == [*expected, "seconds"] and len(history) == 4 and not history.stopped
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, rel=1e-6), name


def test_a_scheduler_of_batches():
    model = network()
    optimizer = optim.SGD(model.parameters(), 0.1, momentum=0.9)
    schedule = lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=3, steps_per_epoch=6)
    hominy.fit(model, DataLoader(problem(), 10), nn.CrossEntropyLoss(), optimizer, 3, scheduler=schedule, verbose=False)
    assert schedule.last_epoch == 18


@pytest.mark.parametrize("validation", [False, True])
def test_plateaus_read_the_validation_loss(validation):
    """A rate of 0: nothing becomes better, and the rate is reduced after each epoch but the first."""
    model, data = network(), DataLoader(problem(), 60)
    optimizer = optim.SGD([{"params": model.parameters()}], 0.0)
    optimizer.add_param_group({"params": [nn.Parameter(hominy.zeros(1))], "lr": 1.0})
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    seen = []
    hominy.fit(model, data, nn.CrossEntropyLoss(), optimizer, 3, scheduler=schedule, verbose=False,
               validation=data if validation else None, callbacks=[lambda run: seen.append(schedule.best)])  # fmt: skip
    assert optimizer.param_groups[1]["lr"] == pytest.approx(0.01)
    assert seen[0] == pytest.approx(math.log(2), rel=0.5)


def test_several_inputs_and_one():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, *inputs):
            return self.layer(sum(inputs[1:], inputs[0]))

    x = hominy.randn(10, 2)
    for data in (TensorDataset(x), TensorDataset(x, x * 2.0), TensorDataset(x, x * 2.0, x * 3.0)):
        model = Sum()
        history = hominy.fit(model, DataLoader(data, 5), nn.MSELoss(), optim.SGD(model.parameters(), 0.05), 40,
                             verbose=False)  # fmt: skip
        assert history["loss"][-1] < 0.5 * history["loss"][0]
    model = Sum()  # batches that are tensors themselves
    hominy.fit(model, [x[:5], x[5:]], nn.MSELoss(), optim.SGD(model.parameters(), 0.05), 1, verbose=False)


def test_evaluate_leaves_modes_and_weights():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh()))
    model[1].eval()
    before = weights(model)
    seen = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(module.training))
    row = evaluate(model, DataLoader(problem(), 7), nn.CrossEntropyLoss(), {"accuracy": accuracy})
    assert set(row) == {"loss", "accuracy"} and not any(seen) and hominy.is_grad_enabled()
    assert model.training and model[0].training and not model[1].training
    assert np.array_equal(before, weights(model))
    with pytest.raises(ValueError, match="loader: expected at least one sample"):
        evaluate(model, [], nn.CrossEntropyLoss())


class Scripted(Callback):
    """Puts given values into the column "score", ahead of the callbacks after it, and marks the weights."""

    def __init__(self, values):
        self.values, self.ended = values, 0

    def after_epoch(self, run):
        run.history.columns.setdefault("score", []).append(self.values[run.epoch])
        with hominy.no_grad():
            next(run.model.parameters()).fill_(float(run.epoch))

    def end(self, run):
        self.ended += 1


def scripted(values, *callbacks):
    model, script = nn.Linear(2, 2), Scripted(values)
    history = hominy.fit(model, [next(iter(DataLoader(problem(), 8)))], nn.CrossEntropyLoss(),
                         optim.SGD(model.parameters(), 0.0), len(values), callbacks=[script, *callbacks],
                         verbose=False)  # fmt: skip
    assert script.ended == 1
    return model, history


def test_early_stopping():
    stop = EarlyStopping(2, "score", restore_best=True)
    for _ in range(2):  # the second run begins anew
        model, history = scripted([5.0, 3.0, 4.0, 3.0, 1.0], stop)
        assert len(history) == 4 and stop.best == 3.0 and stop.best_epoch == 1
        assert model.weight.detach().numpy().tolist() == [[1.0, 1.0]] * 2
        assert history.stopped == "no better for 2 epochs than 3 in epoch 2"
    model, history = scripted([5.0, 3.0, 4.0, 3.0, 1.0], EarlyStopping(2, "score", restore_best=False))
    assert model.weight.detach().numpy()[0, 0] == 3.0
    _, history = scripted([0.1, 0.3, 0.2, 0.9], EarlyStopping(2, "score", mode="max"))
    assert len(history) == 4 and not history.stopped
    _, history = scripted([5.0, 4.9, 4.8, 4.7], EarlyStopping(2, "score", min_delta=0.5))
    assert len(history) == 3
    _, history = scripted([math.nan] * 4, EarlyStopping(2, "score"))  # no number is better than nothing
    assert len(history) == 3


def test_best_weights_and_checkpoints(tmp_path):
    best = BestWeights("score", mode="max")
    checkpoint = Checkpoint(tmp_path / "{epoch}.npz", "score", mode="max")
    model, _ = scripted([1.0, 3.0, 2.0], best, checkpoint)
    assert best.best == 3.0 and model.weight.detach().numpy()[0, 0] == 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.npz", "2.npz"]
    with np.load(tmp_path / "2.npz") as saved:
        assert saved["weight"].tolist() == [[1.0, 1.0]] * 2
    scripted([1.0, 3.0, 2.0], Checkpoint(tmp_path / "all{epoch}.npz", "score", best_only=False))
    assert len(list(tmp_path.glob("all*"))) == 3


def test_not_finite():
    """The message names where it began; the weights are as they were before the step."""

    class Explode(nn.Module):
        def forward(self, x):
            return x * math.inf

    class Root(nn.Module):
        def forward(self, x):
            return (x * 0.0).sqrt()  # finite, and its derivative at 0 is not

    data = DataLoader(problem(), 60)

    def attempt(model, pattern, data=data, loss=nn.CrossEntropyLoss()):  # noqa: B008
        before = weights(model)
        with pytest.raises(NotFinite, match=pattern):
            hominy.fit(model, data, loss, optim.SGD(model.parameters(), 0.1), 2, verbose=False)
        assert np.array_equal(before, weights(model), equal_nan=True)

    attempt(nn.Sequential(nn.Linear(2, 2), Explode(), nn.ReLU(), nn.Linear(2, 2)),
            r"loss: expected a finite number, got nan in epoch 1; layer '1' \(Explode\) is the first")  # fmt: skip
    attempt(nn.Sequential(nn.Linear(2, 2), Root(), nn.Linear(2, 2)),
            r"gradient: .* epoch 1; on the way back they begin in layer '1' \(Root\), .*'0.weight', '0.bias'$",
            )  # fmt: skip
    attempt(nn.Linear(2, 2), "gradient: .* they begin in the loss, .* 'weight', 'bias'$",
            loss=lambda x, y: (x * 0.0).sqrt().sum())  # fmt: skip
    attempt(nn.Linear(2, 2), "the model's output is finite: it is the loss", loss=lambda x, y: x.sum() * math.nan)
    model = nn.Linear(2, 2)
    with hominy.no_grad():
        model.bias.fill_(math.inf)
    attempt(model, "the weight 'bias' holds NaN or infinity")
    x, y = data.dataset.tensors
    attempt(nn.Linear(2, 2), "the batch itself holds NaN", DataLoader(TensorDataset(x * math.nan, y), 60))


def test_large_gradients_are_finite():
    """Whose squares overflow."""
    model = nn.Linear(2, 1)
    history = hominy.fit(model, [(hominy.ones(1, 2), hominy.zeros(1, 1))], lambda x, y: x.sum() * 1e30,
                         optim.SGD(model.parameters(), 0.0), 1, verbose=False)  # fmt: skip
    assert math.isfinite(history["loss"][0])


def test_bad_arguments():
    model, loss, data = network(), nn.MSELoss(), DataLoader(problem(), 8)
    optimizer = optim.SGD(model.parameters(), 0.1)
    for arguments, settings, pattern in [
        ((abs, data, loss, optimizer, 1), {}, "model: expected a hominy.nn.Module"),
        ((model, data, loss, 0.1, 1), {}, "optimizer: expected a hominy.optim.Optimizer, got 'float'"),
        ((model, data, "mse", optimizer, 1), {}, "loss: expected a function of output and target, got 'mse'"),
        ((model, data, loss, optimizer, 1.5), {}, "epochs: expected an integer of 0 or more, got 1.5"),
        ((model, data, loss, optimizer, 1), {"clip_norm": math.nan}, "clip_norm: expected a finite number"),
        ((model, data, loss, optimizer, 1), {"scheduler": 3}, "scheduler: expected one of hominy.optim.lr_scheduler"),
        ((model, [3.0], loss, optimizer, 1), {}, r"loader: expected batches \(input, ..., target\), got 'float'"),
        ((model, [], loss, optimizer, 1), {}, "loader: expected at least one sample"),
    ]:
        with pytest.raises((TypeError, ValueError), match=pattern):
            hominy.fit(*arguments, verbose=False, **settings)
    with pytest.raises(KeyError, match=r"\[EarlyStopping\] monitor: expected one of 'loss', .*got 'val_loss'"):
        hominy.fit(network(), data, nn.CrossEntropyLoss(), optimizer, 1, verbose=False,
                   callbacks=[EarlyStopping(monitor="val_loss")])  # fmt: skip
    for make in (lambda: EarlyStopping(0), lambda: BestWeights(mode="up"), lambda: Checkpoint(3)):
        with pytest.raises((TypeError, ValueError), match="expected"):
            make()


def test_the_table_and_what_is_printed(capsys):
    model, data = network(), DataLoader(problem(), 8)
    optimizer = optim.SGD(model.parameters(), 0.1)
    history = hominy.fit(model, data, nn.CrossEntropyLoss(), optimizer, 2, verbose=False)
    assert capsys.readouterr() == ("", "")
    history = hominy.fit(model, data, nn.CrossEntropyLoss(), optimizer, 2, callbacks=[lambda run: run.stop("enough")])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("epoch 1 of 2: loss ") and printed[0].endswith("samples/s")
    assert printed[1] == "stopped: enough" and len(history) == 1
    lines = str(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "lr", "seconds"] and lines[1].split()[0] == "1"
    assert lines[-1] == "stopped: enough" and len({len(line) for line in lines[:-1]}) == 1


@pytest.mark.extra("tqdm")
def test_a_bar_on_a_terminal(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    model = network()
    settings = nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1), 2
    hominy.fit(model, DataLoader(problem(), 8), *settings)
    assert "epoch 1 of 2" in terminal.getvalue() and "0/8" in terminal.getvalue()
    assert capsys.readouterr().out.count("samples/s") == 2
    with pytest.raises(NotFinite):  # the bar is closed after an error, too
        hominy.fit(model, DataLoader(problem(), 8), lambda x, y: x.sum() * math.inf, *settings[1:])
    monkeypatch.setitem(sys.modules, "tqdm", None)  # as where it is not installed
    hominy.fit(model, DataLoader(problem(), 8), *settings)
    assert capsys.readouterr().out.count("samples/s") == 2


@pytest.mark.extra("matplotlib")
def test_plot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    model, data = network(), DataLoader(problem(), 20)
    history = hominy.fit(model, data, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1), 3, validation=data,
                         metrics={"accuracy": accuracy}, verbose=False)  # fmt: skip
    losses, metrics = history.plot()
    assert [line.get_label() for line in losses.lines] == ["loss", "val_loss"]
    assert [line.get_label() for line in metrics.lines] == ["accuracy", "val_accuracy"]
    assert losses.lines[0].get_ydata().tolist() == history["loss"]
    pyplot.close("all")


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_folds(folds):
    """Each sample is left out once; folds differ by one sample at most, labels within them too."""
    labels = np.array([0] * 23 + [1] * 11 + [2] * 6)
    data = TensorDataset(hominy.arange(40).reshape(40, 1).float(), hominy.from_numpy(labels))
    for stratify in (None, labels):
        seen = []

        class Remember(nn.Module):
            def __init__(self, seen=seen):
                super().__init__()
                self.weight, self.seen = nn.Parameter(hominy.zeros(1, 3)), seen
                seen.append(([], []))

            def forward(self, x):
                self.seen[-1][self.training].append(x.numpy().ravel())
                return x @ self.weight

        scores = hominy.cross_validate(Remember, data, nn.CrossEntropyLoss(), lambda p: optim.SGD(p, 1e-4), 1,
                                       folds=folds, stratify=stratify, metrics={"accuracy": accuracy})  # fmt: skip
        held_out = [np.unique(np.concatenate(unseen)).astype(int) for unseen, _ in seen]
        trained = [np.unique(np.concatenate(batches)).astype(int) for _, batches in seen]
        assert sorted(np.concatenate(held_out)) == list(range(40))
        assert all(not set(a) & set(b) and len(a) + len(b) == 40 for a, b in zip(held_out, trained, strict=True))
        assert np.ptp([len(part) for part in held_out]) <= 1
        if stratify is not None:
            counts = np.array([np.bincount(labels[part], minlength=3) for part in held_out])
            assert (np.ptp(counts, axis=0) <= 1).all()
        assert len(scores["loss"]) == len(scores["accuracy"]) == len(scores.histories) == folds


def test_scores():
    data, calls = problem(), []
    scores = hominy.cross_validate(
        network, data, nn.CrossEntropyLoss(), lambda p: optim.Adam(p, 0.05), 8, folds=4, metrics={"accuracy": accuracy},
        make_scheduler=lambda o: calls.append(o) or lr_scheduler.StepLR(o, 3), callbacks=[EarlyStopping(3)],
    )  # fmt: skip
    again = hominy.cross_validate(network, data, nn.CrossEntropyLoss(), lambda p: optim.Adam(p, 0.05), 8, folds=4)
    assert len(calls) == 4 and len(again["loss"]) == 4
    assert scores.mean["accuracy"] == pytest.approx(np.mean(scores["accuracy"])) and scores.mean["accuracy"] > 0.8
    assert scores.std["loss"] == pytest.approx(np.std(scores["loss"], ddof=1))
    assert str(scores).startswith("loss 0.") and str(scores).endswith("(4 folds)")
    same = hominy.cross_validate(network, data, nn.CrossEntropyLoss(), lambda p: optim.Adam(p, 0.05), 8, folds=4)
    assert again.values == same.values
    for settings, pattern in [
        ({"folds": 1}, "folds: expected an integer of 2 or more, got 1"),
        ({"folds": 61}, "folds: expected at most 60, the number of samples, got 61"),
        ({"stratify": [1, 2]}, r"stratify: expected labels of shape \(60,\)"),
    ]:
        with pytest.raises(ValueError, match=pattern):
            hominy.cross_validate(network, data, nn.CrossEntropyLoss(), lambda p: optim.SGD(p, 0.1), 1, **settings)


def test_imported_when_asked_for():
    program = "import sys, hominy; assert 'hominy.training' not in sys.modules; assert callable(hominy.fit)"
    subprocess.run([sys.executable, "-c", program], check=True)
