"""Gradients and parameters of the wrong kind: an error before anything has changed."""

import re
from collections.abc import Callable

import pytest
import torch
from torch.nn import Parameter
from torch.testing._internal.two_tensor import TwoTensor

from conftest import Kind
from optimizer.spoiling import WRONG, fails_and_changes_nothing, ready
from parity.cases import STATE_KEYS, shapes
from parity.pairs import weights
from parity.targets import Target


def sparse(p: Parameter) -> None:
    """A sparse gradient, as nn.Embedding(sparse=True) makes."""
    p.grad = p.grad.to_sparse()


def complex_(p: Parameter) -> None:
    """A complex gradient."""
    p.grad_dtype = None
    p.grad = p.grad.to(torch.complex64)


def other_dtype(p: Parameter) -> None:
    """A gradient in double precision."""
    p.grad_dtype = None
    p.grad = p.grad.double()


def other_shape(p: Parameter) -> None:
    """Weights replaced after backward by transposed ones."""
    p.data = p.data.t().contiguous()


def converted(p: Parameter) -> None:
    """Weights converted to half precision after backward."""
    p.data = p.data.half()


def other_device(p: Parameter) -> None:
    """Weights moved away from their gradient."""
    if p.device.type == "cpu":
        pytest.skip("torch lets a gradient differ in device only between a CPU and a GPU")
    p.data = p.data.cpu()


BAD_GRADIENTS: list[tuple[Callable[[Parameter], None], str]] = [
    (sparse, r"(?i)sparse.*dense.*to_dense"),
    (complex_, r"(?i)complex64"),
    (other_dtype, r"(?i)float64.*float32.*(\.to\(|convert)"),
    (other_shape, r"(?i)\(5, 8\).*\(8, 5\)"),
    (converted, r"(?i)float32.*float16"),
    (other_device, r"(?i)cuda.*cpu"),
]


NAMES = [spoil.__name__ for spoil, _ in BAD_GRADIENTS]


@pytest.mark.parametrize("later", [False, True], ids=["first_step", "later_step"])
@pytest.mark.parametrize(
    ("spoil", "message"), BAD_GRADIENTS, ids=lambda x: getattr(x, "__name__", "")
)
def test_gradients(
    backend: Target, kind: Kind, spoil: Callable[[Parameter], None], message: str, later: bool
) -> None:
    """A gradient of the last parameter that does not fit stops the step before its start."""
    optimizer, params = ready(kind, backend)
    if later:
        optimizer.step()
    spoil(params[-1])
    error = str(fails_and_changes_nothing(optimizer, params))
    assert re.search(message, error, re.DOTALL), error
    params[-1].grad = torch.ones_like(params[-1])
    if spoil in (sparse, complex_, other_dtype):
        optimizer.step()  # a repaired gradient is welcome again


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64])
def test_parameters(kind: Kind, dtype: torch.dtype) -> None:
    """Parameters of 8 bits and complex ones that ask for gradients are refused right away."""
    bad = Parameter(torch.ones(3, 4).to(dtype))
    for params in ([bad], [{"params": weights(*shapes("odd"))}, {"params": bad}]):
        with pytest.raises(WRONG, match=rf"{dtype}.*float32.*(convert|leave)"):
            kind.make(params)
    optimizer = kind.make([weights(*shapes("odd"))])
    with pytest.raises(WRONG, match=str(dtype)):
        optimizer.add_param_group({"params": bad})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("what", ["parameter", "gradient", "state"])
def test_memory_taken_away(backend: Target, kind: Kind, what: str) -> None:
    """A tensor whose storage was freed stops the step instead of being read."""
    optimizer, params = ready(kind, backend)
    optimizer.step()
    p = params[-1]
    moment = optimizer.state[p][STATE_KEYS[kind.name][0]]
    freed = {"parameter": p, "gradient": p.grad, "state": moment}
    before = [q.detach().clone() for q in params[:-1]]
    freed[what].untyped_storage().resize_(0)
    with pytest.raises(ValueError, match=r"parameter 0 of group 1 .*no memory.*give it memory"):
        optimizer.step()
    assert all(map(torch.equal, params[:-1], before))


def test_parameter_listed_twice(backend: Target, kind: Kind) -> None:
    """A parameter that comes twice would be stepped by two threads at once."""
    again = r"parameter 2 of group 0 is parameter 0 of group 0 again; list each parameter once"
    a, b = (weights(*shapes(shape), device=backend.device) for shape in ("odd", "bias"))
    with pytest.raises(ValueError, match=again), pytest.warns(match="duplicate parameters"):
        kind.make([a, b, a], backend)
    optimizer = kind.make([a, b], backend)
    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
    optimizer.step()
    optimizer.param_groups[0]["params"].append(a)
    assert re.search(again, str(fails_and_changes_nothing(optimizer, [a, b])))


def flattened(p: Parameter) -> Parameter:
    """As FSDP marks the parameters that it has flattened."""
    p._is_flat_param = True
    return p


@pytest.mark.parametrize("wrap", [lambda p: Parameter(TwoTensor(p.data, p.data)), flattened])
def test_wrapped_parameters(kind: Kind, wrap: Callable[[Parameter], Parameter]) -> None:
    """Parameters that hide their rows are refused rather than updated as if they had none."""
    with pytest.raises(WRONG, match=r"parameter 0 of group 0.*whole rows.*give the optimizer"):
        kind.make([wrap(weights(*shapes("odd")))])
