"""A 3D convolution that is fast for a single volume, and in the gradient of its gradient."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_OWN_KERNELS = 20_480
"""Batch x channels x X x Y up to which PyTorch (2.13) convolves float32 on a CPU by kernels of its
own, if the batch is 1. They took up to 22 times as long as oneDNN, which it takes else."""
Sizes = Sequence[int]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of input, weight and bias."""


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d` without dilation and groups, sooner done.

    A gradient penalty differentiates the gradient of a volume. PyTorch's formula for that makes a
    convolution with batch and channels exchanged and a window as large as the volume. The same
    numbers are those of an ordinary weight gradient, as the gradient of an input is linear in it.
    In a gradient that is to be differentiated again, weights and biases get none.

    Reference: Dumoulin and Visin 2016, arXiv 1603.07285, section 4: the gradient of a convolution
        is its transpose.
    """

    def forward(self, input: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B D X2 Y2 Z2"]:
        """The convolution of volumes."""
        stride, padding = list(self.stride), [int(n) for n in self.padding]
        if not (torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad)):
            return _conv3d(input, self.weight, self.bias, stride, padding)
        result = _Convolution.apply(input, self.weight, self.bias, stride, padding)
        assert isinstance(result, Tensor)
        return result


def _conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sizes, padding: Sizes
) -> Tensor:
    """`torch.nn.functional.conv3d`, by oneDNN for a single volume as for several."""
    # Stand-ins for tensors, by which memory is predicted, know no oneDNN.
    real = type(x) is Tensor and not torch.is_autocast_enabled("cpu")
    if real and _single(x, weight):
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, [1, 1, 1], 1)
    return F.conv3d(x, weight, bias, list(stride), list(padding))


def _single(x: Tensor, weight: Tensor) -> bool:
    """Whether a volume would be left to PyTorch's own kernels, which are slow."""
    plain = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32
    small = len(x) == 1 and x.shape[:-1].numel() <= _OWN_KERNELS and weight.shape[2:].numel() > 1
    return plain and small and torch.backends.mkldnn.is_available()


def _gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: list[int],
    wanted: list[bool],
) -> Gradients:  # fmt: skip
    """Those that are wanted, computed in the gradient's precision."""
    kind, inputs = gradient.dtype, (x, weight, weight)
    x, weight = x.to(kind), weight.to(kind)
    if _single(x, weight):
        if wanted == [True, False, False] and set(stride) == {1}:
            mirrored = weight.transpose(0, 1).flip(2, 3, 4)
            edges = [n - 1 - p for n, p in zip(weight.shape[2:], padding, strict=True)]
            return _conv3d(gradient, mirrored, None, stride, edges), None, None
        # With an empty volume beside it, it is no single one.
        gradient, x = (torch.cat([one, torch.zeros_like(one)]) for one in (gradient, x))
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, [weight.shape[0]], stride, padding, [1, 1, 1], False, [0, 0, 0], 1,
        wanted,
    )  # fmt: skip
    of_input, of_weight, of_bias = (
        one if one is None else one.to(like.dtype) for one, like in zip(found, inputs, strict=True)
    )
    return of_input if of_input is None else of_input[: len(inputs[0])], of_weight, of_bias


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding):  # noqa: ANN001, ANN205
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return _conv3d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        if torch.is_grad_enabled() and ctx.needs_input_grad[0]:  # which is differentiated again
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
        again, of_weight = again.to(gradient.dtype), None
        kernel = weight.to(gradient.dtype)
        of_gradient = _conv3d(again, kernel, None, ctx.stride, ctx.padding)
        if ctx.needs_input_grad[2]:
            only_weight = [False, True, False]
            of_weight = _gradients(gradient, again, weight, ctx.stride, ctx.padding, only_weight)[1]
        return of_gradient, None, of_weight, None, None
