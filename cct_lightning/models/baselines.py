"""Other architectures under the same recipe, in the form that suits small images.

Sources: He et al., arXiv 1512.03385 (ResNet-18; ResNet-56 of its section 4.2); Sandler et al., arXiv 1801.04381
(MobileNetV2); Dosovitskiy et al., arXiv 2010.11929 (ViT-B/16); Touvron et al., arXiv 2012.12877 (DeiT). The layers are
torchvision's and timm's; ours is the stem: on images of 32 pixels the first strides are left out, as is common for
CIFAR. (The Compact Transformers paper compares with ImageNet stems at 32 pixels, hence its 0.04G MACs for
ResNet-18 and 0.02G for MobileNetV2.)

Letters: B batch, C channels, (H, W) image or feature map, K classes.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torchvision.models import MobileNetV2, resnet18, vit_b_16
from torchvision.models.resnet import BasicBlock
from torchvision.models.vision_transformer import VisionTransformer

from cct_lightning.errors import InputError
from cct_lightning.system.importing import require_extra


def _conv(in_chans: int, out_chans: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_chans, out_chans, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _resnet18(img_size: tuple[int, int], in_chans: int, num_classes: int) -> nn.Module:
    model = resnet18(num_classes=num_classes)
    model.conv1 = _conv(in_chans, 64)  # 3x3 without stride for 7x7 with stride 2
    model.maxpool = nn.Identity()
    return model


class _Subsample(nn.Module):
    """The parameter-free shortcut of the CIFAR ResNets (option A): every second pixel, zeros for the new channels."""

    def __init__(self, new_chans: int) -> None:
        super().__init__()
        self.new_chans = new_chans

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.new_chans))


class SmallResNet(nn.Module):
    """ResNet for CIFAR: three stages of 16, 32 and 64 channels, 6n + 2 layers (He et al., section 4.2).

    Args:
        blocks: Blocks n of each stage; 9 make ResNet-56.
        in_chans: Channels C of the image.
        num_classes: Classes K.
    """

    def __init__(self, *, blocks: int, in_chans: int, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(in_chans, 16), nn.BatchNorm2d(16)
        more = range(blocks - 1)
        self.layer1 = nn.Sequential(BasicBlock(16, 16), *(BasicBlock(16, 16) for _ in more))
        self.layer2 = nn.Sequential(BasicBlock(16, 32, 2, _Subsample(16)), *(BasicBlock(32, 32) for _ in more))
        self.layer3 = nn.Sequential(BasicBlock(32, 64, 2, _Subsample(32)), *(BasicBlock(64, 64) for _ in more))
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, H, W) to logits (B, K)."""
        x = self.bn1(self.conv1(images)).relu()
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def _mobilenet_v2(img_size: tuple[int, int], in_chans: int, num_classes: int) -> nn.Module:
    # Expansion, channels, blocks, stride: the paper's table 2 with stride 1 in the stem and in the second row.
    rows = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
    model = MobileNetV2(num_classes=num_classes, inverted_residual_setting=rows)
    model.features[0][0] = _conv(in_chans, 32)
    return model


def _vit_b_16(img_size: tuple[int, int], in_chans: int, num_classes: int) -> nn.Module:
    height, width = img_size
    if height != width or height % 16:
        raise InputError(
            f"vit_b_16 takes square images whose side is a multiple of 16 pixels, not {height}x{width}: "
            "choose another img_size or model."
        )
    model: VisionTransformer = vit_b_16(image_size=height, num_classes=num_classes)
    if in_chans != 3:
        model.conv_proj = nn.Conv2d(in_chans, 768, 16, stride=16)
        nn.init.trunc_normal_(model.conv_proj.weight, std=(in_chans * 16 * 16) ** -0.5)
        nn.init.zeros_(model.conv_proj.bias)
    return model


def _deit(name: str, img_size: tuple[int, int], in_chans: int, num_classes: int) -> nn.Module:
    require_extra("timm", "timm", purpose=f"The model {name}")
    import timm

    if img_size[0] % 16 or img_size[1] % 16:
        raise InputError(
            f"{name} takes images whose sides are multiples of 16 pixels, not {img_size[0]}x{img_size[1]}: "
            "choose another img_size or model."
        )
    return timm.create_model(f"{name}_patch16_224", img_size=img_size, in_chans=in_chans, num_classes=num_classes)


# Name -> builder of a model with fresh weights: (H, W) in pixels, channels C, classes K -> nn.Module.
BUILDERS: dict[str, Callable[[tuple[int, int], int, int], nn.Module]] = {
    "resnet18": _resnet18,
    "resnet56": lambda _, in_chans, num_classes: SmallResNet(blocks=9, in_chans=in_chans, num_classes=num_classes),
    "mobilenet_v2": _mobilenet_v2,
    "vit_b_16": _vit_b_16,
    "deit_tiny": partial(_deit, "deit_tiny"),
    "deit_small": partial(_deit, "deit_small"),
}
