"""Cross-entropy of labels: the forms against the formula, and what the kernel refuses."""

import pytest
import torch
import torch.nn.functional as F

from blocks.ops.cross_entropy import cross_entropy
from blocks.random import key, normal

LOGITS = normal(key(1), (5, 7), torch.float64)
LABELS = {"integer": torch.tensor([0, 6, 3, 3, 1]), "soft": normal(key(2), (5, 7), torch.float64).softmax(-1)}


@pytest.mark.parametrize("impl", ["auto", "plain", "torch"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_it_is_the_sum_over_classes_with_its_gradient(labels, smoothing, impl):
    logits = LOGITS.clone().requires_grad_()
    loss = cross_entropy(logits, labels, smoothing, impl=impl)
    target = labels if labels.is_floating_point() else torch.eye(7, dtype=torch.float64)[labels]
    target = target * (1 - smoothing) + smoothing / 7
    expected = -(target * (LOGITS.exp() / LOGITS.exp().sum(-1, keepdim=True)).log()).sum(-1)
    torch.testing.assert_close(loss, expected.mean(), rtol=1e-12, atol=1e-12)
    (grad,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(grad, (LOGITS.softmax(-1) - target) / 5, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precisions_are_summed_in_float32(dtype):
    logits = LOGITS.to(dtype)
    for labels in LABELS.values():
        loss = cross_entropy(logits, labels)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, cross_entropy(logits.float(), labels))


def test_rows_labelled_minus_100_do_not_count_as_in_torch():
    labels = torch.tensor([0, -100, 3, -100, 1])
    expected = F.cross_entropy(LOGITS, labels, label_smoothing=0.1)
    for impl in ("torch", "plain"):
        torch.testing.assert_close(cross_entropy(LOGITS, labels, 0.1, impl=impl), expected)


def test_probabilities_get_their_gradient_too():
    labels = LABELS["soft"].clone().requires_grad_()
    (grad,) = torch.autograd.grad(cross_entropy(LOGITS, labels), labels)
    torch.testing.assert_close(grad, -LOGITS.log_softmax(-1) / 5)
    with pytest.raises(ValueError, match="the labels want a gradient"):
        cross_entropy(LOGITS, labels, impl="triton")


def test_the_kernel_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="float64 is not one of float32"):
        cross_entropy(LOGITS, LABELS["integer"], impl="triton")
    with pytest.raises(ValueError, match=r"logits \[5, 7\] and labels \[4\] are not"):
        cross_entropy(LOGITS.float(), LABELS["integer"][:4], impl="triton")
    with pytest.raises(ValueError, match="there is no class"):
        cross_entropy(torch.zeros(5, 0), LABELS["integer"], impl="triton")
