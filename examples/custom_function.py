"""An operator of one's own with a gradient of one's own: `hominy.autograd.Function`, as PyTorch spells it.

log(1 + exp(x)) overflows for large x where it is written so; max(x, 0) + log(1 + exp(-|x|)) does not. Its derivative is
1 / (1 + exp(-x)), which is simpler than what the tape would derive from that, and has no kink at 0:

    x             -100       -1      0       1       100
    softplus(x)   3.784e-44  0.3133  0.6931  1.313   100
    derivative    3.784e-44  0.2689  0.5     0.7311  1

gradcheck compares the rule with differences of the function in float64, and finds them equal.
"""

import hominy
from hominy.autograd import Function, gradcheck


class Softplus(Function):
    """log(1 + exp(x)) for any x."""

    @staticmethod
    def forward(ctx, x):
        """The value."""
        ctx.save_for_backward(x)
        return x.relu() + (-x.abs()).exp().log1p()

    @staticmethod
    def backward(ctx, grad):
        """The gradient of x, given that of the result."""
        (x,) = ctx.saved_tensors
        return grad * x.sigmoid()


x = hominy.tensor([-100.0, -1.0, 0.0, 1.0, 100.0], requires_grad=True)
y = Softplus.apply(x)
y.sum().backward()
for name, values in (("x", x), ("softplus(x)", y), ("derivative", x.grad)):
    print(f"{name:<14}" + "".join(f"{value:<11.4g}" for value in values.tolist()).rstrip())
print("gradcheck     " + str(gradcheck(Softplus.apply, (x.detach().double().requires_grad_(),))))
