"""Networks for pictures, with the names of PyTorch's weights: each takes `weights`, a path or a state dict.

    from hominy import models

    model = models.resnet18(weights="resnet18-f37072fd.pth").eval()

docs/models.md says where files of weights are, and how to use a network for classes that it has not learnt.
"""

from .efficientnet import EfficientNetLite, efficientnet_lite0
from .mobilenet import MobileNetV2, mobilenet_v2
from .resnet import ResNet, resnet18, resnet34, resnet50
from .unet import UNet, unet

__all__ = [
    "EfficientNetLite", "MobileNetV2", "ResNet", "UNet", "efficientnet_lite0", "mobilenet_v2", "resnet18", "resnet34",
    "resnet50", "unet",
]  # fmt: skip
