"""What the policies draw: arguments against timm's tables, probabilities and magnitudes by many keys."""

import math

import pytest
import timm.data.auto_augment as theirs
import torch

from blocks.data.augment import AutoAugment, Op, Plan, RandAugment
from blocks.data.augment.auto_augment import ORIGINAL_TABLE, POLICIES, RESEARCH_TABLE
from blocks.data.augment.magnitudes import INCREASING, PLAIN, make_plan
from tests.data.draws import expected_often, follows, keys, uniform_below

OPS = [op for op in Op if Op.AUTO_CONTRAST <= op <= Op.TRANSLATE_Y]
TIMMS = {op: op.name.title().replace("_", "") for op in OPS}  # timm's names, without the ending that names a variant
TIMMS |= {Op.TRANSLATE_X: "TranslateXRel", Op.TRANSLATE_Y: "TranslateYRel"}
FACTORS = {Op.COLOR, Op.CONTRAST, Op.BRIGHTNESS, Op.SHARPNESS}
VARIANTS = {
    "plain": (PLAIN, {}),
    "increasing": (INCREASING, dict.fromkeys({Op.POSTERIZE, Op.SOLARIZE, *FACTORS}, "Increasing")),
    "original": (ORIGINAL_TABLE, {Op.POSTERIZE: "Original"}),
    "research": (RESEARCH_TABLE, {Op.POSTERIZE: "Increasing"}),
}


def timm_args(name, magnitudes, sign, monkeypatch):
    monkeypatch.setattr(theirs, "_randomly_negate", lambda value: sign * value)
    function = theirs.LEVEL_TO_ARG[name]
    return torch.tensor([function(level, {})[0] if function else 0.0 for level in magnitudes])


def our_args(table, op, magnitudes, sign):
    shape = (len(magnitudes), 1)
    ops, applied, negative = (torch.full(shape, value) for value in (op, True, sign < 0))
    return make_plan(table, ops, applied, torch.tensor(magnitudes, dtype=torch.float64)[:, None], negative).args[:, 0]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_arguments_are_timms_for_every_magnitude(variant, sign, monkeypatch):
    table, endings = VARIANTS[variant]
    magnitudes = [step / 20 for step in range(201)]
    for op in OPS:
        wanted = timm_args(TIMMS[op] + endings.get(op, ""), magnitudes, sign, monkeypatch)
        assert torch.equal(our_args(table, op, magnitudes, sign), wanted.float()), op.name


@pytest.mark.parametrize(
    ("op", "plain", "increasing"),
    [
        (Op.ROTATE, 27, 27),
        (Op.POSTERIZE, 3, 1),
        (Op.SOLARIZE, 230, 26),
        (Op.SOLARIZE_ADD, 99, 99),
        (Op.COLOR, 1.72, 1.81),
        (Op.SHEAR_X, 0.27, 0.27),
        (Op.TRANSLATE_Y, 0.405, 0.405),
    ],
)
def test_arguments_at_magnitude_9_are_the_published_ones(op, plain, increasing):
    assert our_args(PLAIN, op, [9.0], 1).item() == pytest.approx(plain)
    assert our_args(INCREASING, op, [9.0], 1).item() == pytest.approx(increasing)


def test_magnitudes_above_ten_stay_in_every_operations_range():
    assert our_args(INCREASING, Op.POSTERIZE, [30.0], 1) == 0
    assert our_args(ORIGINAL_TABLE, Op.POSTERIZE, [30.0], 1) == 8
    assert our_args(INCREASING, Op.SOLARIZE, [30.0], 1) == 0
    assert our_args(PLAIN, Op.POSTERIZE, [30.0], 1) == 8
    assert our_args(PLAIN, Op.SOLARIZE, [30.0], 1) == 256
    assert our_args(PLAIN, Op.SOLARIZE_ADD, [30.0], 1) == 128
    assert our_args(INCREASING, Op.COLOR, [30.0], -1) == pytest.approx(0.1)


def test_rand_augment_draws_15_operations_equally_often_and_independently():
    """A place does nothing in half of the cases; the other half is even over the operations and pairs of them."""
    ops = RandAugment().draw(keys(40_000)).ops
    pairs = torch.bincount(ops[:, 0] * 16 + ops[:, 1], minlength=256).double()
    single = torch.tensor([0.5] + [0.5 / 15] * 15, dtype=torch.float64)
    assert expected_often(pairs, torch.outer(single, single).flatten() * len(ops))


def nine_below_ten(magnitude):
    """The distribution of a normal number of mean 9 and deviation 0.5, given that it is below 10."""
    return torch.special.ndtr((magnitude - 9) / 0.5) / torch.special.ndtr(torch.tensor(2.0))


def test_the_magnitudes_of_rand_augment_are_normal_and_cut_off_at_10():
    plan = RandAugment(prob=1.0).draw(keys(40_000))
    for op, most in ((Op.ROTATE, 30), (Op.SHEAR_Y, 0.3), (Op.TRANSLATE_X, 0.45)):
        drawn = plan.args[plan.ops == op].double()
        magnitude, inside = drawn.abs() / most * 10, drawn.abs() < most * (1 - 1e-6)
        assert drawn.abs().max() <= torch.tensor(most)
        assert expected_often((drawn > 0).double().sum(), 0.5, len(drawn))
        assert expected_often(
            (~inside).double().sum(), 0.5 * math.erfc(math.sqrt(2)), len(drawn)
        )  # 2 deviations above 9
        assert follows(magnitude[inside], nine_below_ten)


@pytest.mark.parametrize("policy", [RandAugment(prob=1.0), AutoAugment("v0", mstd=0.5)], ids=["rand", "auto"])
def test_two_operations_of_a_picture_have_their_own_signs_and_magnitudes(policy):
    plan = policy.draw(keys(40_000))
    args = plan.args[(plan.ops == torch.tensor([Op.ROTATE, Op.TRANSLATE_Y])).all(1)]
    assert expected_often((args.prod(1) > 0).double().sum(), 0.5, len(args))
    assert abs(torch.corrcoef(args.abs().T)[0, 1]) < 4 / math.sqrt(len(args))


def test_magnitudes_are_cut_off_at_0_and_the_largest_that_is_asked_for():
    plan = RandAugment(magnitude=6, mstd=8, max_magnitude=12, prob=1.0).draw(keys(5_000))
    drawn = plan.args[plan.ops == Op.ROTATE].abs()
    assert (drawn.min(), drawn.max()) == (0, 36)
    assert expected_often((drawn == 36).double().sum(), 0.5 * math.erfc(0.75 / math.sqrt(2)), len(drawn))


def test_the_factors_of_rand_augment_go_both_ways():
    plan = RandAugment(prob=1.0, mstd=0.0).draw(keys(5_000))
    drawn = torch.stack([plan.args[plan.ops == op].unique() for op in FACTORS])
    assert torch.equal(drawn, torch.tensor([0.19, 1.81]).expand(4, 2))


def test_an_infinite_deviation_is_uniform_up_to_the_magnitude():
    plan = RandAugment(magnitude=6, mstd=math.inf, prob=1.0).draw(keys(20_000))
    assert follows(plan.args[plan.ops == Op.ROTATE].abs(), uniform_below(0, 18))


def test_the_number_of_operations_and_their_probability_are_as_asked():
    plan = RandAugment(num_ops=3, prob=0.8).draw(keys(5_000))
    assert plan.ops.shape == (5_000, 3)
    assert expected_often((plan.ops != Op.NOTHING).double().sum(), 0.8, 15_000)
    assert not RandAugment(prob=0.0).draw(keys(500)).ops.any()


@pytest.mark.parametrize("name", POLICIES)
def test_the_searched_policies_are_timms(name, monkeypatch):
    """Operation, probability and argument at either sign, all 25 pairs."""
    steps, table = POLICIES[name]
    policy = theirs.auto_augment_policy(name, {})
    assert len(policy) == len(steps)
    for pair, wanted in zip(steps, policy, strict=True):
        for (op, prob, magnitude), their in zip(pair, wanted, strict=True):
            assert their.name.startswith(TIMMS[op])
            assert (prob, magnitude) == (their.prob, their.magnitude)
            for sign in (1, -1):
                arg = timm_args(their.name, [float(magnitude)], sign, monkeypatch)
                assert torch.equal(our_args(table, op, [float(magnitude)], sign), arg.float())


@pytest.mark.parametrize("name", ["original", "v0"])
def test_auto_augment_draws_its_pairs_equally_often(name):
    plan = AutoAugment(name).draw(keys(20_000))
    drawn = torch.bincount(plan.ops[:, 0] * 16 + plan.ops[:, 1], minlength=256).double()
    wanted = torch.zeros(256, dtype=torch.float64)
    for (first, p, _), (second, q, _) in POLICIES[name][0]:
        for op, share in ((first, p), (Op.NOTHING, 1 - p)):
            for other, other_share in ((second, q), (Op.NOTHING, 1 - q)):
                wanted[op * 16 + other] += share * other_share / 25
    possible = wanted > 1e-12
    assert not drawn[~possible].any()
    assert expected_often(drawn[possible], wanted[possible] * len(plan))


def test_auto_augment_takes_the_magnitudes_of_the_pair_that_it_drew():
    plan = AutoAugment("original").draw(keys(5_000))
    columns = plan.ops.flatten().tolist(), plan.args.flatten().abs().tolist()
    drawn = {(op, round(arg, 4)) for op, arg in zip(*columns, strict=True)}
    steps, table = POLICIES["original"]
    possible = {(op, round(our_args(table, op, [float(m)], 1).item(), 4)) for p in steps for op, prob, m in p if prob}
    assert drawn == {(int(op), arg) for op, arg in possible} | {(0, 0.0)}


def test_auto_augments_magnitudes_may_vary():
    plan = AutoAugment("original", mstd=0.5).draw(keys(2_000))
    assert plan.args[plan.ops == Op.ROTATE].unique().numel() > 100


@pytest.mark.parametrize("shapes", [((3, 2), (3, 1)), ((3,), (3,))])
def test_a_plan_of_other_shapes_is_refused(shapes):
    with pytest.raises(ValueError, match="do not make a plan"):
        Plan(torch.zeros(shapes[0], dtype=torch.int64), torch.zeros(shapes[1]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandAugment(num_ops=0), "num_ops 0"),
        (lambda: RandAugment(prob=1.5), "prob 1.5"),
        (lambda: RandAugment(mstd=-1), "mstd -1"),
        (lambda: RandAugment(magnitude=math.nan), "magnitude nan"),
        (lambda: AutoAugment("cifar"), "'cifar' is not known; use one of original"),
    ],
)
def test_a_policy_out_of_range_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
