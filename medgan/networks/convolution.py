"""A 3D convolution whose second derivative is made of convolutions that libraries are fast in."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolve(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """`layer(x)`, with a fast gradient of its gradient.

    A gradient penalty differentiates the gradient of a volume. PyTorch's formula for that makes a
    convolution with batch and channels exchanged and a window as large as the volume. The same
    numbers are those of an ordinary weight gradient, as the gradient of an input is linear in it.
    In a gradient that is to be differentiated again, weights and biases get none.

    Args:
        layer: without dilation and groups.
        x: (B, C, X, Y, Z).

    Reference: Dumoulin and Visin 2016, arXiv 1603.07285, section 4: the gradient of a convolution
        is its transpose.
    """
    if not (torch.is_grad_enabled() and x.requires_grad and layer.weight.requires_grad):
        return layer(x)
    stride, padding = list(layer.stride), [int(n) for n in layer.padding]
    result = _Convolution.apply(x, layer.weight, layer.bias, stride, padding)
    assert isinstance(result, Tensor)
    return result


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: list[int],
    wanted: list[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """Of input, weight and bias, those that are wanted, computed in the gradient's precision."""
    kind, inputs = gradient.dtype, (x, weight, weight)
    found = torch.ops.aten.convolution_backward(
        gradient, x.to(kind), weight.to(kind), [weight.shape[0]], stride, padding, [1, 1, 1], False,
        [0, 0, 0], 1, wanted,
    )  # fmt: skip
    return tuple(
        one if one is None else one.to(like.dtype) for one, like in zip(found, inputs, strict=True)
    )  # pyright: ignore[reportReturnType]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):  # noqa: ANN001, ANN205
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled():  # that of the input is to be differentiated once more
            of_input = _InputGradient.apply(gradient, x, weight, ctx.stride, ctx.padding)
            return of_input, None, None, None, None
        wanted = list(ctx.needs_input_grad[:3])
        return *_gradients(gradient, x, weight, ctx.stride, ctx.padding, wanted), None, None


class _InputGradient(torch.autograd.Function):
    """The gradient of an input; linear in what comes back and in the weight."""

    @staticmethod
    def forward(ctx, gradient, x, weight, stride, padding):  # noqa: ANN001, ANN205
        ctx.save_for_backward(gradient, weight)
        ctx.stride, ctx.padding = stride, padding
        only_input = [True, False, False]
        return _gradients(gradient, x, weight, stride, padding, only_input)[0]

    @staticmethod
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205
        (again,), (gradient, weight) = gradients, ctx.saved_tensors
        again = again.to(gradient.dtype)
        kernel = weight.to(gradient.dtype)
        of_gradient = F.conv3d(again, kernel, None, ctx.stride, ctx.padding)
        only_weight = [False, True, False]
        of_weight = _gradients(gradient, again, weight, ctx.stride, ctx.padding, only_weight)[1]
        return of_gradient, None, of_weight, None, None
