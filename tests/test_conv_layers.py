"""Layers of convolutions: PyTorch's parameters, results and messages of their own, and batch norm folded into them."""

import math

import hominy
import numpy as np
import pytest
from hominy import nn
from hominy.backends.reference_conv import channels_last

torch = pytest.importorskip("torch")

LAYERS = [
    ("Conv1d", (3, 8, 5), {"stride": 2, "padding": 4, "padding_mode": "circular"}, (2, 3, 9)),
    ("Conv1d", (4, 8, 4), {"padding": "same", "groups": 4, "padding_mode": "replicate"}, (2, 4, 9)),
    ("Conv2d", (4, 6, (3, 5)), {"dilation": (2, 1), "padding": (3, 1), "bias": False}, (2, 4, 9, 8)),
    ("Conv2d", (4, 6, 3), {"padding": 2, "padding_mode": "reflect", "groups": 2}, (4, 7, 6)),
    ("Conv2d", (4, 6, 4), {"padding": "same", "dilation": 3, "padding_mode": "reflect"}, (2, 4, 12, 13)),
    ("Conv2d", (4, 4, 3), {"padding": "valid"}, (2, 4, 7, 6)),
    ("Conv3d", (2, 3, 2), {"padding": (1, 0, 2), "padding_mode": "circular"}, (1, 2, 3, 4, 5)),
    ("ConvTranspose1d", (3, 4, 4), {"stride": 3, "output_padding": 1}, (2, 3, 5)),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1, 2, False), {}, (2, 4, 5, 6)),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2, "dilation": 3}, (2, 3, 2, 4)),
]


@pytest.mark.parametrize(("name", "made", "options", "shape"), LAYERS)
def test_layers_are_pytorchs(name, made, options, shape, rng):
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*made, **options, dtype=torch.float64)
    ours = getattr(nn, name)(*made, **options, dtype="float64")
    assert repr(ours) == repr(theirs)
    assert [(key, tuple(x.shape)) for key, x in ours.state_dict().items()] == [
        (key, tuple(x.shape)) for key, x in theirs.state_dict().items()
    ]
    bound = 1 / math.sqrt(math.prod(theirs.weight.shape[1:]))
    drawn_ = np.concatenate([x.numpy().ravel() for x in ours.state_dict().values()])
    assert 0.8 * bound < abs(drawn_).max() <= bound and abs(drawn_.mean()) < bound / 2
    ours.load_state_dict({key: hominy.from_numpy(x.numpy().copy()) for key, x in theirs.state_dict().items()})
    x = rng.standard_normal(shape)
    want = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(hominy.from_numpy(x)).detach().numpy(), want, rtol=1e-12, atol=1e-12)


def test_the_output_size_of_a_transposed_layer(rng):
    theirs, ours = torch.nn.ConvTranspose2d(3, 4, 3, stride=(2, 3)), nn.ConvTranspose2d(3, 4, 3, stride=(2, 3))
    x = hominy.from_numpy(rng.standard_normal((2, 3, 5, 4)).astype(np.float32))
    for size in ((11, 12), (12, 13), (2, 4, 12, 14)):
        expected = tuple(theirs(torch.from_numpy(x.numpy()), size).shape)
        assert ours(x, size).shape == expected
    for size in ((13, 12), (11, 15), (10, 12)):
        with pytest.raises(
            ValueError, match=r"\[ConvTranspose2d\] output_size: expected sizes from 11 to 12 in|12 to 14"
        ):
            ours(x, size)
    with pytest.raises(ValueError, match=r"\[ConvTranspose2d\] output_size: expected 2 sizes"):
        ours(x, (1, 2, 3, 4, 5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(0, 4, 3), r"\[Conv2d\] in_channels: expected a positive integer, got 0"),
        (lambda: nn.Conv2d(4, 6, 3, groups=4), r"\[Conv2d\] out_channels: expected a multiple of groups=4, got 6"),
        (lambda: nn.Conv2d(4, 6, (3, 3, 3)), r"\[Conv2d\] kernel_size: expected an integer or 2 integers"),
        (lambda: nn.Conv2d(4, 6, 0), r"\[Conv2d\] kernel_size: expected a positive integer, got 0"),
        (lambda: nn.Conv2d(4, 6, 3, stride=0), r"\[Conv2d\] stride: expected a positive integer, got 0"),
        (lambda: nn.Conv2d(4, 6, 3, padding=-1), r"\[Conv2d\] padding: expected an integer of 0 or more, got -1"),
        (lambda: nn.Conv2d(4, 6, 3, padding="all"), r"\[Conv2d\] padding: expected one of 'same', 'valid', got 'all'"),
        (lambda: nn.Conv2d(4, 6, 3, 2, padding="same"), r"\[Conv2d\] stride: expected 1 with padding='same', got 2"),
        (
            lambda: nn.Conv1d(4, 6, 3, padding_mode="wrap"),
            r"\[Conv1d\] padding_mode: expected one of 'zeros', 'reflect'",
        ),
        (lambda: nn.ConvTranspose1d(4, 6, 3, padding_mode="reflect"), r"padding_mode: expected one of 'zeros', got"),
        (lambda: nn.ConvTranspose1d(4, 6, 3, padding="same"), r"\[ConvTranspose1d\] padding: expected integers"),
        (lambda: nn.Conv2d(4, 6, 3, device="cuda"), r"\[Conv2d\] device: expected one of None, 'cpu'"),
    ],
)
def test_layers_that_are_refused(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_layer_trains_in_channels_last(rng):
    """Gradients of parameters are in the parameters' own layout."""
    x = hominy.from_numpy(np.moveaxis(rng.standard_normal((2, 8, 8, 3)).astype(np.float32), -1, 1))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3))
    model = model.to(memory_format=hominy.channels_last)
    y = model(x)
    assert channels_last(y.detach().numpy())
    (y * y).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad.numpy().strides == parameter.detach().numpy().strides


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_folds_into_the_convolution(bias, affine, transpose, rng):
    layer = "ConvTranspose2d" if transpose else "Conv2d"
    modules = []
    for library, draw in ((torch, torch.randn), (hominy, None)):
        conv, norm = getattr(library.nn, layer)(3, 6, 3, bias=bias), library.nn.BatchNorm2d(6, affine=affine)
        if draw is None:
            for mine, theirs in zip((conv, norm), modules, strict=True):
                state = {key: hominy.from_numpy(x.numpy().copy()) for key, x in theirs.state_dict().items()}
                mine.load_state_dict(state)
        else:
            torch.manual_seed(1)
            for name, tensor in norm.state_dict().items():
                if tensor.ndim:
                    tensor.copy_(draw(6).abs() + 0.5 if name == "running_var" else draw(6))
        modules += [conv, norm]
    theirs, ours = modules[:2], modules[2:]
    with pytest.raises(ValueError, match=r"\[fuse_conv_bn_eval\] conv: expected a module in evaluation mode"):
        nn.utils.fuse_conv_bn_eval(*ours, transpose)
    for module in modules:
        module.eval()
    fused = nn.utils.fuse_conv_bn_eval(*ours, transpose)
    expected = torch.nn.utils.fuse_conv_bn_eval(*theirs, transpose)
    assert fused is not ours[0] and list(fused.state_dict()) == list(expected.state_dict())
    for mine, yours in zip(fused.parameters(), expected.parameters(), strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), yours.detach().numpy(), rtol=2e-6, atol=2e-6)
        assert mine.requires_grad == yours.requires_grad
    x = hominy.from_numpy(rng.standard_normal((2, 3, 6, 7)).astype(np.float32))
    want = ours[1](ours[0](x)).detach().numpy()
    np.testing.assert_allclose(fused(x).detach().numpy(), want, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="num_features of out_channels=6, got 5"):
        nn.utils.fuse_conv_bn_eval(ours[0], nn.BatchNorm2d(5).eval(), transpose)
    with pytest.raises(ValueError, match="bn: expected running statistics"):
        nn.utils.fuse_conv_bn_eval(ours[0], nn.BatchNorm2d(6, track_running_stats=False).eval(), transpose)
