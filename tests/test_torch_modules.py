"""PyTorch as oracle for layers: its own samples of modules (`module_db`), results and gradients of inputs and
parameters, float32 and float64, in training and, where that differs, in evaluation mode.

Every module of `module_db` that hominy has takes part. The error bounds are those of test_torch_samples.py, whose
machinery this file uses: a module is a function of its inputs and parameters. A sample that hominy does not compute
must be in `UNSUPPORTED` with the reason; an entry there that no sample needs any more fails.
"""

import copy
import re
from collections import Counter
from types import SimpleNamespace

import hominy
import numpy as np
import pytest
import test_torch_samples as samples
from conftest import TORCH
from hominy import nn

if TORCH:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's test modules warn about their own dependencies
        from torch.testing._internal.common_modules import module_db
    MODULES = [info for info in module_db if hasattr(nn, info.name.removeprefix("nn."))]
else:
    MODULES = []

pytestmark = pytest.mark.torch

# module: [(what the sample's description matches, why hominy does not compute it)]
UNSUPPORTED: dict[str, list[tuple[str, str]]] = {}

# Modules whose terms cancel: the error is relative to the tensor's largest element, as in the kernels' headers
# (softmax's, tanh's and the sigmoid's gradients), or to this number, where that is larger.
LARGEST_TERM = {
    "CrossEntropyLoss": 2.0,  # logarithms of a softmax: 48 u, near 0 too
    "GELU": 1.0,  # PyTorch computes 1 + erf
    "GLU": 0.0,
    "LogSoftmax": 2.0,
    "PoissonNLLLoss": 0.0,
    "Sigmoid": 1.0,
    "Softmax": 0.0,
    "Softmax2d": 0.0,
    "Softmin": 0.0,
    "Tanh": 1.0,
    "Tanhshrink": 0.0,
    # A gate errs by some u, so its slope, s (1 - s) or 1 - t^2, does too, however small; inputs of up to 9 multiply it.
    **dict.fromkeys(("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"), 9.0),
}

counts: Counter = Counter()
unsupported: Counter = Counter()


def short(info):
    return info.name.removeprefix("nn.")


def text_of(sample, training):
    made, called = sample.constructor_input, sample.forward_input
    parts = [samples.mapped(list(made.args), samples.described), samples.mapped(made.kwargs, samples.described)]
    parts += [samples.mapped(list(called.args), samples.described), samples.mapped(called.kwargs, samples.described)]
    return f"{sample.desc} {parts} {'training' if training else 'evaluation'}"


def as_function(name, theirs, ours, sample):
    """The module as an operator of its inputs and parameters: (PyTorch's operator, hominy's function, their sample)."""
    state = {key: value.detach().clone() for key, value in theirs.state_dict().items()}

    def in_torch(*inputs, parameters, **keywords):
        if name == "BCELoss":  # probabilities, which the bounds' small changes may not push out of [0, 1]
            inputs = tuple(x.clamp(0, 1) for x in inputs)
        floats = [x for x in samples.leaves_of([inputs, keywords, parameters], torch.Tensor) if x.is_floating_point()]
        module = copy.deepcopy(theirs).to(floats[0].dtype) if floats else theirs
        return torch.func.functional_call(module, parameters, inputs, keywords)

    def in_hominy(*inputs, parameters, **keywords):
        module = ours()
        module.load_state_dict(state)
        for key, tensor in parameters.items():
            path, _, attribute = key.rpartition(".")
            owner = module.get_submodule(path)
            assert isinstance(getattr(owner, attribute), nn.Parameter)
            vars(owner)[attribute] = tensor
        return module(*inputs, **keywords)

    called = sample.forward_input
    keywords = dict(called.kwargs)
    first, *rest = called.args or [keywords.pop("input")]
    parameters = {key: value.detach().clone().requires_grad_() for key, value in theirs.named_parameters()}
    as_sample = SimpleNamespace(input=first, args=tuple(rest), kwargs={**keywords, "parameters": parameters})
    op = SimpleNamespace(name=f"nn.{name}", op=in_torch)
    if name in LARGEST_TERM:
        op.terms = lambda x: max(samples.finite(x).max(initial=0.0), LARGEST_TERM[name])
    return op, in_hominy, as_sample


def in_numpy(value):
    """Constructor arguments as hominy takes them."""
    return hominy.from_numpy(value.detach().numpy()) if isinstance(value, torch.Tensor) else value


def cases(info, dtype):
    """(sample, training, text, the module in PyTorch, a function that makes it in hominy)."""
    for training in (True, False) if info.train_and_eval_differ else (True,):
        torch.manual_seed(20240717)
        for sample in info.module_inputs_func(info, "cpu", dtype, True, training):
            made = sample.constructor_input
            theirs = info.module_cls(*made.args, **made.kwargs).to(dtype).train(training)

            def ours(made=made, training=training):
                cls = getattr(nn, short(info))
                arguments = samples.mapped(list(made.args), in_numpy)
                module = cls(*arguments, **samples.mapped(made.kwargs, in_numpy))
                return module.to(str(dtype).removeprefix("torch.")).train(training)

            yield sample, text_of(sample, training), theirs, ours


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("info", MODULES, ids=short)
@pytest.mark.filterwarnings("ignore")  # PyTorch's advice on its own arguments
def test_modules(info, dtype):
    wanted, name, failures = getattr(torch, dtype), short(info), []
    for sample, text, theirs, ours in cases(info, wanted):
        counts[name] += 1
        reason = next((reason for pattern, reason in UNSUPPORTED.get(name, ()) if re.search(pattern, text)), None)
        try:
            op, function, as_sample = as_function(name, theirs, ours, sample)
            got = samples.in_hominy(function, as_sample, wanted)
        except Exception as error:
            if reason is None:
                failures.append(f"{text}: {type(error).__name__}: {error}")
            else:
                unsupported[name, reason] += 1
            continue
        try:
            assert reason is None, f"computed, though listed as unsupported: {reason}"
            samples.compare(op, as_sample, wanted, got)
        except AssertionError as error:
            failures.append(f"{text}: {error}")
    assert not failures, f"{len(failures)} samples of {name} fail:\n" + "\n".join(failures)


def test_summary(capsys):
    """Prints the counts; every reason that is listed must still be needed."""
    if not counts:
        pytest.skip("run together with test_modules")
    with capsys.disabled():
        print(f"\nPyTorch modules: {sum(counts.values())} samples of {len(counts)} modules, "
              f"{sum(unsupported.values())} unsupported:")  # fmt: skip
        for (name, reason), number in sorted(unsupported.items()):
            print(f"  {number:4d} of {counts[name]:4d}  {name}: {reason}")
    stale = [
        (name, reason)
        for name, entries in UNSUPPORTED.items()
        for _, reason in entries
        if name in counts and (name, reason) not in unsupported
    ]
    assert not stale, f"listed as unsupported, but no sample needs it: {stale}"
    assert np.isfinite(sum(counts.values()))
