"""NT-Xent's kernel against all scores in memory, in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from blocks.ops import nt_xent as op
from blocks.ops.kernels import nt_xent as kernel
from blocks.ops.nt_xent import nt_xent
from blocks.random import key, normal


@pytest.fixture(autouse=True, scope="module")
def _narrow():
    """A few rows are several tiles and parts."""
    before = kernel.ROWS, kernel.COLS, kernel.PROGRAMS
    kernel.ROWS, kernel.COLS, kernel.PROGRAMS = 16, 16, 3
    yield
    kernel.ROWS, kernel.COLS, kernel.PROGRAMS = before


def unit(device, *shape, strided=False):
    wide = normal(key(sum(shape)), (*shape[:-1], 2 * shape[-1]), torch.float32).to(device)
    rows = F.normalize(wide[..., ::2], dim=-1)
    return rows.transpose(0, 1).contiguous().transpose(0, 1) if strided else rows


def value_and_grad(z, temperature, impl):
    z = z.detach().requires_grad_()
    loss = nt_xent(z, temperature, impl=impl)
    return loss.detach().double(), torch.autograd.grad(loss, z)[0].double()


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    views=st.integers(2, 3),
    images=st.sampled_from([1, 2, 8, 13]),
    width=st.sampled_from([1, 5, 16, 17]),
    temperature=st.sampled_from([0.01, 0.1, 0.5, 100.0]),
    strided=st.booleans(),
)
def test_it_is_what_it_is_in_float64(device, views, images, width, temperature, strided):
    z = unit(device, views, images, width, strided=strided)
    ours, theirs = value_and_grad(z, temperature, "triton"), value_and_grad(z.double(), temperature, "plain")
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=2e-6 / temperature)  # scores are rounded, then / T
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=1e-7 + 3e-7 / temperature**2)


def test_rows_of_any_length_are_safe(device):
    z = 100 * unit(device, 2, 4, 8)  # scores of 1e4 and more
    ours, theirs = value_and_grad(z, 0.5, "triton"), value_and_grad(z.double(), 0.5, "plain")
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2)


def test_processes_say_what_one_does_of_their_own_rows(device, monkeypatch):
    """What they exchange is simulated: a process's own rows come first, then everyone else's."""
    z = unit(device, 2, 6, 5)
    rows = z.transpose(0, 1).flatten(0, 1)
    grads = torch.linspace(-1, 1, 12, device=device)
    whole = op.FORWARD(rows, rows, 2, 5.0)
    pulled = op.BACKWARD(rows, rows, whole, grads, 2, 5.0)
    for first in (0, 4):
        everyone, sums, their_grads = (x.roll(-first, 0) for x in (rows, whole, grads))
        own = everyone[:4]
        torch.testing.assert_close(op.FORWARD(own, everyone, 2, 5.0), sums[:4])
        torch.testing.assert_close(op.BACKWARD(own, everyone, sums, their_grads, 2, 5.0), pulled[first : first + 4])


def test_it_composes_with_func_grad_and_vmap_and_compiles_into_one_graph(device):
    z = unit(device, 2, 2, 4, 8)
    ours, theirs = (torch.vmap(torch.func.grad(lambda z, i=i: nt_xent(z, 0.1, impl=i)))(z) for i in ("triton", "plain"))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    first = z[0].detach().requires_grad_()
    compiled = torch.compile(lambda z: nt_xent(z, 0.1, impl="triton"), fullgraph=True, backend="aot_eager")(first)
    (grad,) = torch.autograd.grad(compiled, first)
    assert torch.equal(grad.double(), value_and_grad(z[0], 0.1, "triton")[1])


def test_the_kernel_refuses_what_it_cannot_do(device):
    with pytest.raises(ValueError, match="float64 is not float32"):
        nt_xent(unit(device, 2, 2, 3).double(), 0.1, impl="triton")
    with pytest.raises(ValueError, match="rows of 300 numbers are longer than 128"):
        nt_xent(unit(device, 2, 2, 300), 0.1, impl="triton")


def test_the_definitions_are_sound(device):
    rows, checks = unit(device, 6, 5), ("test_schema", "test_faketensor")
    sums = (rows @ rows.T).logsumexp(1)
    torch.library.opcheck(torch.ops.blocks.nt_xent_log_sums, (rows, rows, 2, 5.0), test_utils=checks)
    backward = rows, rows, sums, sums, 2, 5.0
    torch.library.opcheck(torch.ops.blocks.nt_xent_log_sums_backward, backward, test_utils=checks)
