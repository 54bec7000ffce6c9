"""The tape: what is recorded, how it is walked, in-place writes and views, hooks, custom functions, threads."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import hominy
import numpy as np
import pytest
from hominy.autograd import Function


def leaf(*values):
    return hominy.tensor(values, dtype="float64", requires_grad=True)


def same(tensor, *values):
    np.testing.assert_array_equal(tensor.detach().numpy(), np.asarray(values, np.float64))


# ---- recording -------------------------------------------------------------------------------------------------------


def test_what_is_recorded():
    x, plain = leaf(1, 2), hominy.ones(2, dtype="float64")
    y = x * plain
    assert x.is_leaf and not y.is_leaf and plain.is_leaf
    assert y.requires_grad and not (plain * 2).requires_grad
    assert repr(y.grad_fn) == "<multiplyBackward>" and (plain * 2).grad_fn is None
    assert [target for target, _ in y.grad_fn.next_functions] == [x]
    assert not (x > 1).requires_grad and not x.argmax().requires_grad
    assert not x.to("int64").requires_grad


def test_only_floats_require_grad():
    for dtype in ("int64", "bool", "uint8"):
        with pytest.raises(RuntimeError, match="only floating-point tensors can require grad"):
            hominy.ones(2, dtype=dtype).requires_grad_()
    with pytest.raises(RuntimeError, match="only a leaf can stop"):
        (leaf(1) * 2).requires_grad = False


def test_gradients_add_up():
    x = leaf(1, 2)
    (x * 3).sum().backward()
    same(x.grad, 3, 3)
    (x * x).sum().backward()
    same(x.grad, 5, 7)
    x.grad = None
    y = x * 2
    (y * y + y).sum().backward()
    same(x.grad, 10, 18)


def test_a_deep_and_a_wide_graph():
    x = leaf(1)
    y = x
    for _ in range(20000):
        y = y + 0
    y.backward()
    same(x.grad, 1)
    x.grad = None
    hominy.stack([x * i for i in range(500)]).sum().backward()
    same(x.grad, 500 * 499 / 2)


def test_leaves_never_share_a_gradient():
    a, b = leaf(1, 2), leaf(3, 4)
    (a + b).backward(hominy.ones(2, dtype="float64"))
    a.grad.zero_()
    same(b.grad, 1, 1)
    weight = hominy.ones(2, dtype="float64")
    a.grad = None
    (a * 1 + 0).backward(weight)
    (a + 0).backward(weight)
    same(weight, 1, 1)
    same(a.grad, 2, 2)


def test_no_grad_enable_grad_and_set_grad_enabled():
    x = leaf(1)
    with hominy.no_grad():
        assert not hominy.is_grad_enabled() and not (x * 2).requires_grad
        with hominy.enable_grad():
            assert (x * 2).requires_grad
        assert not hominy.is_grad_enabled()
    assert hominy.is_grad_enabled()

    @hominy.no_grad()
    def quiet():
        return x * 2

    assert not quiet().requires_grad and quiet.__name__ == "quiet"
    with hominy.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    with pytest.raises(ZeroDivisionError), hominy.no_grad():
        raise ZeroDivisionError
    assert hominy.is_grad_enabled()
    switch = hominy.no_grad()
    with switch, switch:
        assert not hominy.is_grad_enabled()
    assert hominy.is_grad_enabled()


def test_detach_shares_memory_and_ends_the_graph():
    x = leaf(1, 2)
    y = x * 2
    d = y.detach()
    assert not d.requires_grad and d.grad_fn is None and d.data_ptr() == y.data_ptr()
    (d * x).sum().backward()
    same(x.grad, 2, 4)
    y.detach_()
    assert y.is_leaf and not y.requires_grad


def test_the_graph_is_freed_with_its_last_tensor():
    x = leaf(1, 2)
    y = (x * 2).exp().sum()
    node = weakref.ref(y.grad_fn)
    assert node() is not None
    del y
    assert node() is None, "a reference cycle keeps the graph alive"
    z = (x.exp() * x.sigmoid()).softmax(0)
    memory = weakref.ref(z)
    del z
    assert memory() is None
    assert gc.collect() >= 0


# ---- walking ---------------------------------------------------------------------------------------------------------


def test_a_second_walk_needs_retain_graph():
    x = leaf(1, 2)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    same(x.grad, 4, 8)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_the_starting_gradient():
    x = leaf(1, 2)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"tensor of one element, got shape \(2,\)"):
        y.backward()
    with pytest.raises(ValueError, match=r"\[backward\] gradient: expected shape \(2,\), got \(3,\)"):
        y.backward(hominy.ones(3, dtype="float64"))
    y.backward(hominy.tensor([1.0, 10.0], dtype="float64"))
    same(x.grad, 2, 20)
    with pytest.raises(RuntimeError, match="does not require grad"):
        hominy.ones(()).backward()
    hominy.autograd.backward([x.sum(), (x * x).sum()])
    same(x.grad, 2 + 1 + 2, 20 + 1 + 4)


def test_backward_into_named_inputs_alone():
    a, b = leaf(2), leaf(3)
    middle = a * b
    (middle * a).backward(inputs=[a, middle])
    same(a.grad, 12)
    same(middle.grad, 2)
    assert b.grad is None


def test_grad_touches_no_grad():
    a, b, c = leaf(2), leaf(3), leaf(5)
    middle = a * b
    ga, gm = hominy.autograd.grad(middle * a, (a, middle))
    same(ga, 12)
    same(gm, 2)
    assert a.grad is None and b.grad is None
    with pytest.raises(RuntimeError, match=r"\[grad\] inputs: number 1 was not used"):
        hominy.autograd.grad(a * b, (a, c))
    used, unused = hominy.autograd.grad(a * b, (a, c), allow_unused=True)
    same(used, 3)
    assert unused is None
    with pytest.raises(RuntimeError, match="does not require grad"):
        hominy.autograd.grad(a * 2, hominy.ones(1))
    (weighted,) = hominy.autograd.grad(
        [a * 2, a * 3], [a], [hominy.tensor([10.0], dtype="float64"), hominy.tensor([1.0], dtype="float64")]
    )
    same(weighted, 23)


def test_gradients_of_gradients():
    x = leaf(2)
    (first,) = hominy.autograd.grad(x**4, x, create_graph=True)
    (second,) = hominy.autograd.grad(first, x, create_graph=True)
    (third,) = hominy.autograd.grad(second, x)
    same(first, 32)
    same(second, 48)
    same(third, 48)
    assert not third.requires_grad
    y = (x**3).sum()
    y.backward(create_graph=True)
    (x.grad * x.grad).sum().backward()  # d (3 x^2)^2 / dx = 36 x^3, on top of 12
    np.testing.assert_allclose(x.grad.detach().numpy(), [12 + 36 * 8])


def test_hooks():
    x = leaf(1, 2)
    seen = []
    first = x.register_hook(lambda grad: seen.append(grad.numpy().copy()))
    x.register_hook(lambda grad: grad * 10)
    y = x * 2
    y.register_hook(lambda grad: grad + 1)
    y.sum().backward()
    same(x.grad, 40, 40)
    np.testing.assert_array_equal(seen[0], [4, 4])
    first.remove()
    first.remove()
    (x * 1).sum().backward()
    assert len(seen) == 1
    with pytest.raises(RuntimeError, match="does not require grad"):
        hominy.ones(2).register_hook(print)


def test_retain_grad():
    x = leaf(1, 2)
    y = x * 2
    y.retain_grad()
    y.retain_grad()
    (y * y).sum().backward()
    same(y.grad, 4, 8)


def test_a_gradient_is_checked_when_it_is_set():
    x = leaf(1, 2)
    with pytest.raises(ValueError, match="expected shape"):
        x.grad = hominy.ones(3, dtype="float64")
    with pytest.raises(TypeError, match="expected dtype float64, got float32"):
        x.grad = hominy.ones(2)
    with pytest.raises(TypeError, match="expected a tensor or None"):
        x.grad = np.ones(2)
    x.grad = hominy.ones(2, dtype="float64")
    (x * 2).sum().backward()
    same(x.grad, 3, 3)


def test_an_argument_of_another_dtype_gets_its_gradient_in_its_own():
    a = hominy.ones(3, requires_grad=True)
    b = hominy.ones(3, dtype="float64", requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.dtype == np.float32 and b.grad.dtype == np.float64


# ---- in-place writes and views ---------------------------------------------------------------------------------------


def test_a_value_that_a_gradient_needs_must_not_change():
    x = leaf(1, 2)
    for operation, change in (
        (lambda y: y * y, lambda y: y.add_(1)),
        (lambda y: y.exp(), None),
        (lambda y: y.sigmoid(), None),
        (lambda y: y @ y, lambda y: y.mul_(2)),
    ):
        y = x * 1
        z = operation(y)
        (change(y) if change else z.detach().add_(1))
        with pytest.raises(RuntimeError, match=r"modified in place: it is at version 1, expected version 0"):
            z.sum().backward()
    y = x * 1
    z = y + y  # keeps nothing
    y.add_(1)
    z.sum().backward()


def test_writes_around_the_tape_are_seen_through_every_alias():
    x = leaf(1, 2)
    y = x * 1
    alias = y.detach()
    z = y.exp()
    alias.mul_(3)
    z.sum().backward()  # exp keeps its result, not its argument
    w = (x * 1).square()
    kept = x * 1
    z = kept * kept
    kept.detach()[0] = 7
    assert kept._version == 1
    with pytest.raises(RuntimeError, match="modified in place"):
        z.sum().backward()
    w.sum().backward()


def test_in_place_arithmetic_is_recorded():
    x = leaf(1, 2)
    y = x * 1
    y *= 3
    y += x
    y.sub_(1)
    y.sum().backward()
    same(y, 3, 7)
    same(x.grad, 4, 4)
    x.grad = None
    y = x * 1
    y.exp_()
    with pytest.raises(RuntimeError, match="modified in place"):
        y.mul_(y)
        y.sum().backward()
    y = x * 1
    y[0] = x[1] * 5
    y.sum().backward()
    same(x.grad, 0, 6)


def test_leaves_and_views_refuse_recorded_writes():
    x = leaf(1, 2)
    with pytest.raises(RuntimeError, match=r"\[add_\] a leaf that requires grad"):
        x.add_(1)
    with pytest.raises(RuntimeError, match="a leaf that requires grad"):
        x[0] = 1
    with hominy.no_grad():
        x.add_(1)
    same(x, 2, 3)
    y = x * 1
    view = y[:1]
    for target in (y, view):
        with pytest.raises(RuntimeError, match="shares memory with a view"):
            target.mul_(2)
    same(x, 2, 3)
    same(y, 2, 3)


def test_views_share_memory_and_version():
    x = hominy.arange(6, dtype="float64")
    views = [
        x.reshape(2, 3),
        x[1:4],
        x.view(3, 2).t(),
        x.unsqueeze(0),
        x.reshape(2, 3).permute(1, 0),
        x.flatten(),
        x.detach(),
    ]
    for view in views:
        assert np.shares_memory(view.numpy(), x.numpy())
        view += 1
    assert x._version == len(views) and all(view._version == len(views) for view in views)
    assert not np.shares_memory(x[[0, 1]].numpy(), x.numpy())
    assert not np.shares_memory(x.clone().numpy(), x.numpy())
    assert not np.shares_memory((x[::2].reshape(3, 1) + 0).numpy(), x.numpy())


def test_gradients_through_views():
    x = hominy.arange(6, dtype="float64").requires_grad_()
    (x.reshape(2, 3).t()[1:] * hominy.arange(4, dtype="float64").reshape(2, 2)).sum().backward()
    same(x.grad, 0, 0, 2, 0, 1, 3)


def test_a_failed_write_changes_nothing():
    x = hominy.ones(2, 3)
    for write in (
        lambda: x.add_(hominy.ones(4)),
        lambda: x.add_(hominy.ones(5, 2, 3)),
        lambda: x.copy_(hominy.ones(7)),
        lambda: hominy.ones(2, dtype="int64").add_(0.5),
        lambda: x.__setitem__(slice(0, 1), hominy.ones(9)),
    ):
        with pytest.raises((ValueError, TypeError)):
            write()
    assert (x.numpy() == 1).all() and x._version == 0


# ---- custom functions ------------------------------------------------------------------------------------------------


class Scale(Function):
    @staticmethod
    def forward(ctx, x, factor, unused=None):
        ctx.save_for_backward(x)
        ctx.factor = factor
        assert not hominy.is_grad_enabled()
        return x * factor, x + 1

    @staticmethod
    def backward(ctx, grad, other):
        (_x,) = ctx.saved_tensors
        assert ctx.needs_input_grad == (True, False, False)
        return grad * ctx.factor + other, None, None


class Exp(Function):
    @staticmethod
    def forward(ctx, x):
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * y


def test_function():
    x = leaf(1, 2)
    scaled, moved = Scale.apply(x, 3, None)
    assert repr(scaled.grad_fn) == "<ScaleBackward>"
    (scaled * 2 + moved).sum().backward()
    same(x.grad, 7, 7)
    assert not Scale.apply(x.detach(), 3)[0].requires_grad
    with hominy.no_grad():
        assert not Scale.apply(x, 3)[0].requires_grad


def test_function_twice_differentiable_and_guarded():
    x = leaf(0.5)
    assert hominy.autograd.gradgradcheck(Exp.apply, (x,))
    y = Exp.apply(x)
    y.detach().add_(1)
    with pytest.raises(RuntimeError, match="modified in place"):
        y.sum().backward()


def test_function_says_what_is_wrong():
    class Short(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, grad):
            return grad

    with pytest.raises(RuntimeError, match=r"\[Short\] backward: expected 2 gradients, got 1"):
        Short.apply(leaf(1), leaf(2)).backward()
    with pytest.raises(TypeError, match="forward: a subclass must define it"):
        Function.apply(leaf(1))

    class Marked(Function):
        @staticmethod
        def forward(ctx, x):
            indices = x.argmax()
            ctx.mark_non_differentiable(indices)
            return x * 1, indices

        @staticmethod
        def backward(ctx, grad, _):
            return grad

    value, index = Marked.apply(leaf(1, 2))
    assert value.requires_grad and not index.requires_grad
    value.sum().backward()


# ---- threads ---------------------------------------------------------------------------------------------------------


def test_every_thread_has_its_own_switch():
    entered, leave = threading.Event(), threading.Event()
    inside = []

    def quiet():
        with hominy.no_grad():
            inside.append(hominy.is_grad_enabled())
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=quiet)
    thread.start()
    assert entered.wait(10)
    assert hominy.is_grad_enabled() and (leaf(1) * 2).requires_grad
    leave.set()
    thread.join()
    assert inside == [False]
    with hominy.no_grad(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(hominy.is_grad_enabled).result()


def test_many_threads_walk_graphs_of_their_own():
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((64, 32)).astype(np.float32) for _ in range(16)]
    weight = rng.standard_normal((32, 32)).astype(np.float32)

    def train(x):
        w = hominy.tensor(weight, requires_grad=True)
        for _ in range(20):
            loss = ((hominy.tensor(x) @ w).tanh() ** 2).mean()
            w.grad = None
            loss.backward()
            with hominy.no_grad():
                w -= 0.1 * w.grad
        return w.detach().numpy()

    expected = [train(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        for got, want in zip(pool.map(train, inputs), expected, strict=True):
            np.testing.assert_array_equal(got, want)


def test_threads_share_a_retained_graph():
    x = leaf(*range(50))
    y = (x.exp() * x).sum()
    want = hominy.autograd.grad(y, x, retain_graph=True)[0].numpy()
    with ThreadPoolExecutor(8) as pool:
        for (got,) in pool.map(lambda _: hominy.autograd.grad(y, x, retain_graph=True), range(64)):
            np.testing.assert_array_equal(got.numpy(), want)
