"""hominy.models beside the same networks written out in PyTorch's functions, by the names of their weights."""

import hominy
import numpy as np
import pytest
from hominy import models

COUNTS = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "mobilenet_v2": 3_504_872,
          "efficientnet_lite0": 4_652_008, "unet": 482_449}  # fmt: skip


class Twin:
    """PyTorch's functions on a state dict; notes which names they read."""

    def __init__(self, state, training, eps=1e-5, momentum=0.1):
        import torch.nn.functional

        self.F, self.state, self.training, self.read = torch.nn.functional, state, training, set()
        self.eps, self.momentum = eps, momentum

    def get(self, name):
        self.read.add(name)
        return self.state[name]

    def conv(self, x, name, stride=1, padding=None, groups=1):
        weight = self.get(name + ".weight")
        bias = self.get(name + ".bias") if name + ".bias" in self.state else None
        padding = weight.shape[2] // 2 if padding is None else padding
        return self.F.conv2d(x, weight, bias, stride, padding, 1, groups)

    def norm(self, x, name):
        of = [self.get(f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")]
        self.read.add(name + ".num_batches_tracked")
        return self.F.batch_norm(x, *of, self.training, self.momentum, self.eps)

    def linear(self, x, name):
        return self.F.linear(x.mean((2, 3)), self.get(name + ".weight"), self.get(name + ".bias"))


def resnet(twin, x, counts, sizes):
    """sizes: kernels of a block's convolutions."""
    F = twin.F
    x = F.max_pool2d(F.relu(twin.norm(twin.conv(x, "conv1", 2), "bn1")), 3, 2, 1)
    for layer, count in enumerate(counts, 1):
        for block in range(count):
            at, y = f"layer{layer}.{block}.", x
            stride = 2 if layer > 1 and block == 0 else 1
            for i, size in enumerate(sizes, 1):
                down = stride if (size == 3 and y is x) or (i == 2 and len(sizes) == 3) else 1
                y = twin.norm(twin.conv(y, f"{at}conv{i}", down), f"{at}bn{i}")
                y = F.relu(y) if i < len(sizes) else y
            if block == 0 and (layer > 1 or len(sizes) == 3):
                x = twin.norm(twin.conv(x, at + "downsample.0", stride), at + "downsample.1")
            x = F.relu(x + y)
    return twin.linear(x, "fc")


# (channels, stride) of the 17 blocks.
MOBILE = [(16, 1), (24, 2), (24, 1), (32, 2), *[(32, 1)] * 2, (64, 2), *[(64, 1)] * 3, *[(96, 1)] * 3, (160, 2),
          *[(160, 1)] * 2, (320, 1)]  # fmt: skip


def mobilenet(twin, x):
    F = twin.F
    x = F.relu6(twin.norm(twin.conv(x, "features.0.0", 2), "features.0.1"))
    channels = 32
    for i, (outputs, stride) in enumerate(MOBILE, 1):
        at, y, place = f"features.{i}.conv.", x, 0
        if i > 1:
            y, place = F.relu6(twin.norm(twin.conv(y, at + "0.0"), at + "0.1")), 1
        y = F.relu6(twin.norm(twin.conv(y, f"{at}{place}.0", stride, groups=y.shape[1]), f"{at}{place}.1"))
        y = twin.norm(twin.conv(y, f"{at}{place + 1}"), f"{at}{place + 2}")
        x = x + y if stride == 1 and outputs == channels else y
        channels = outputs
    x = F.relu6(twin.norm(twin.conv(x, "features.18.0"), "features.18.1"))
    return twin.linear(x, "classifier.1")


# (kernel, channels, stride) of the 16 blocks.
LITE = [(3, 16, 1), (3, 24, 2), (3, 24, 1), (5, 40, 2), (5, 40, 1), (3, 80, 2), *[(3, 80, 1)] * 2, *[(5, 112, 1)] * 3,
        (5, 192, 2), *[(5, 192, 1)] * 3, (3, 320, 1)]  # fmt: skip


def efficientnet(twin, x):
    F = twin.F

    def same(x, name, size, stride=1, groups=1):
        """TensorFlow's padding: ceil(size / stride) pixels, the odd zero behind."""
        sides = []
        for length in (x.shape[3], x.shape[2]):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            sides += [total // 2, total - total // 2]
        return twin.conv(F.pad(x, sides), name, stride, 0, groups)

    x = F.relu6(twin.norm(same(x, "_conv_stem", 3, 2), "_bn0"))
    channels = 32
    for i, (size, outputs, stride) in enumerate(LITE):
        at, y = f"_blocks.{i}.", x
        if i:
            y = F.relu6(twin.norm(twin.conv(y, at + "_expand_conv"), at + "_bn0"))
        y = F.relu6(twin.norm(same(y, at + "_depthwise_conv", size, stride, y.shape[1]), at + "_bn1"))
        y = twin.norm(twin.conv(y, at + "_project_conv"), at + "_bn2")
        x = x + y if stride == 1 and outputs == channels else y
        channels = outputs
    return twin.linear(F.relu6(twin.norm(twin.conv(x, "_conv_head"), "_bn1")), "_fc")


def unet(twin, x):
    import torch

    F, kept = twin.F, []

    def two(x, at):
        for i in (0, 3):
            x = F.relu(twin.norm(twin.conv(x, f"{at}.{i}"), f"{at}.{i + 1}"))
        return x

    for level in range(4):
        x = two(F.max_pool2d(x, 2) if level else x, f"down.{level}")
        kept.append(x)
    kept.pop()
    for level in range(3):
        up = F.conv_transpose2d(x, *(twin.get(f"enlarge.{level}.{part}") for part in ("weight", "bias")), 2)
        x = two(torch.cat([kept.pop(), up], 1), f"up.{level}")
    return twin.conv(x, "head")


# Model, its settings without chance, twin, input, batch norm's eps and momentum.
TWINS = {
    "resnet18": ({}, lambda t, x: resnet(t, x, (2, 2, 2, 2), (3, 3)), (2, 3, 64, 64), (1e-5, 0.1)),
    "resnet50": ({}, lambda t, x: resnet(t, x, (3, 4, 6, 3), (1, 3, 1)), (2, 3, 64, 64), (1e-5, 0.1)),
    "mobilenet_v2": ({"dropout": 0.0}, mobilenet, (2, 3, 64, 64), (1e-5, 0.1)),
    "efficientnet_lite0": ({"dropout": 0.0, "drop_connect": 0.0}, efficientnet, (2, 3, 67, 64), (1e-3, 0.01)),
    "unet": ({}, unet, (2, 1, 16, 24), (1e-5, 0.1)),
}


def built(name, **settings):
    hominy.manual_seed(0)
    return getattr(models, name)(**settings)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name):
    assert sum(parameter.numel() for parameter in built(name).parameters()) == COUNTS[name]


def test_shapes():
    x = hominy.randn(2, 3, 64, 96)
    with hominy.no_grad():
        for name in ("resnet18", "mobilenet_v2", "efficientnet_lite0"):
            model = built(name, num_classes=7).eval()
            assert model(x).shape == (2, 7)
        assert built("resnet18").features(x).shape == (2, 512)
        assert built("efficientnet_lite0").features(x).shape == (2, 1280)
        assert built("unet", in_channels=3, num_classes=5, width=4, depth=2)(x).shape == (2, 5, 64, 96)


def difference(a, b):
    """The largest one, in units of b's largest magnitude, or of 0.001 (gradients that norms make 0)."""
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-3))


@pytest.mark.torch
@pytest.mark.parametrize("name", TWINS)
def test_same_as_pytorchs_functions(name):
    import torch

    settings, function, shape, (eps, momentum) = TWINS[name]
    picture = np.random.default_rng(1).standard_normal(shape)
    start = {key: value.numpy().copy() for key, value in built(name, **settings).state_dict().items()}

    def of_torch(dtype):
        """Output, gradients by name, running statistics, output in evaluation mode."""
        state = {key: torch.from_numpy(value.copy()) for key, value in start.items()}
        state = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
        learnt = {key: value.requires_grad_() for key, value in state.items() if key.endswith(("weight", "bias"))}
        x = torch.from_numpy(picture).to(dtype).requires_grad_()
        twin = Twin(state, True, eps, momentum)
        output = function(twin, x)
        assert twin.read == set(state)
        output.square().sum().backward()
        twin.training = False
        with torch.no_grad():
            after = function(twin, x)
        results = {"output": output, "evaluated": after, "x": x.grad}
        results |= {key: value.grad for key, value in learnt.items()}
        results |= {key: value for key, value in state.items() if "running" in key}
        return {key: value.detach().numpy() for key, value in results.items()}

    def of_hominy(dtype, **layout):
        model = built(name, **settings).to(dtype, **layout)
        x = hominy.from_numpy(picture).to(dtype, **layout).requires_grad_()
        output = model(x)
        output.square().sum().backward()
        with hominy.no_grad():
            after = model.eval()(x)
        results = {"output": output, "evaluated": after, "x": x.grad}
        results |= {key: value.grad for key, value in model.named_parameters()}
        results |= {key: value for key, value in model.state_dict().items() if "running" in key}
        return {key: value.detach().numpy() for key, value in results.items()}

    exact, single = of_torch(torch.float64), of_torch(torch.float32)
    for layout in ({}, {"memory_format": hominy.channels_last}):
        own = of_hominy(hominy.float64, **layout)
        assert own.keys() == exact.keys()
        for key, value in own.items():
            assert difference(value, exact[key]) < 1e-9, (key, layout)
        # Float32: the error that PyTorch's own has through the whole network, some times over. Gradients are left out:
        # a unit that is nearly 0 may count as below it, and jump.
        own = of_hominy(hominy.float32, **layout)
        for key in ("output", "evaluated"):
            assert difference(own[key], exact[key]) < 16 * difference(single[key], exact[key]) + 1e-6, (key, layout)


def test_weights_come_from_files_and_dictionaries(tmp_path):
    model = built("mobilenet_v2", num_classes=3)
    state = model.state_dict()
    hominy.save(state, tmp_path / "weights.pt")
    for weights in (state, tmp_path / "weights.pt", str(tmp_path / "weights.pt")):
        other = models.mobilenet_v2(num_classes=3, weights=weights)
        assert all(np.array_equal(other.state_dict()[key].numpy(), value.numpy()) for key, value in state.items())
    with pytest.raises(RuntimeError, match=r"classifier\.1\.weight: expected shape \(1000, 1280\), got \(3, 1280\)"):
        models.mobilenet_v2(weights=state)
    with pytest.raises(TypeError, match=r"\[MobileNetV2\] weights: expected a path, a state dict or None"):
        models.mobilenet_v2(weights=3)


def test_stochastic_depth_leaves_blocks_out():
    model = built("efficientnet_lite0", num_classes=2, drop_connect=0.9)
    block = model._blocks[14].train()
    x = hominy.randn(64, 192, 2, 2)
    added = (block(x) - x).detach().numpy()
    kept = np.abs(added).max((1, 2, 3)) > 0
    assert 0 < kept.sum() < 32
    block.eval()
    assert (np.abs((block(x) - x).detach().numpy()).max((1, 2, 3)) > 0).all()


def test_refusals():
    with pytest.raises(ValueError, match=r"\[UNet\] x: expected \(N, C, H, W\), H and W multiples of 8, got"):
        built("unet")(hominy.zeros(1, 1, 12, 16))
    with pytest.raises(ValueError, match=r"\[UNet\] depth"):
        models.unet(depth=0)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "efficientnet_lite0"])
def test_fused_networks_compute_the_same(name):
    model = built(name, num_classes=5)
    for size in (32, 45):
        x = hominy.randn(2, 3, size, 32)
        with hominy.no_grad():
            model.train()(x)  # statistics that are not 0 and 1
            for dtype, bound in ((hominy.float64, 1e-10), (hominy.float32, 1e-3)):
                model.eval().to(dtype)
                fused = model.fused()
                for layout in (hominy.contiguous_format, hominy.channels_last):
                    y = x.to(dtype, memory_format=layout)
                    assert difference(fused(y).numpy(), model(y).numpy()) < bound
    with hominy.no_grad():
        next(fused.parameters()).zero_()
        with pytest.raises(RuntimeError, match="changed since it was prepared"):
            fused(x)
    with pytest.raises(ValueError, match="evaluation mode"):
        model.train().fused()


def test_fused_layers_take_their_weights_dtype():
    model = models.mobilenet_v2(num_classes=3).eval().fused()
    with hominy.no_grad(), pytest.raises(TypeError, match=r"dtype"):
        model(hominy.ones(1, 3, 32, 32, dtype=hominy.float64))
