"""A sweep's runs are the runs that they would be alone."""

import attrs
import pytest
import torch

from blocks import convit, tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.optim.clip import ClipAdaptive, ClipEach, ClipNorm, ClipValue
from blocks.optim.lamb import lamb
from blocks.optim.lars import lars
from blocks.optim.lion import lion
from blocks.optim.muon import muon
from blocks.optim.schedule import cosine, warmup_cosine
from blocks.optim.sgd import sgd
from blocks.random import key, normal
from blocks.train.distributed import Processes
from blocks.train.loop import run
from blocks.train.step import init_state, make_step
from blocks.train.sweep import sweep
from blocks.train.sweep_step import init_sweep, make_sweep_step, run_of, vmappable_attention
from tests.train import small_problem
from tests.train.small_problem import assert_close, same
from tests.train.tiny import Classifier, TrainData, ValData

RUNS = ((1e-4, 0.0, 3), (1e-3, 0.05, 3), (1e-3, 0.5, 4), (3e-2, 0.05, 5))  # learning rate, weight decay, seed
STEPS = 4


@pytest.fixture(scope="module")
def objective():
    """A ConViT of one GPSA layer and one plain, with drop path and label smoothing."""
    model = convit(
        img_size=8, patch_size=4, embed_dim=16, depth=2, num_heads=4, mlp_ratio=2.0, num_classes=5,
        local_up_to_layer=1, drop_path_rate=0.5,
    )  # fmt: skip
    return Supervised(model, label_smoothing=0.1)


def optimizers(runs=RUNS):
    return [adamw(warmup_cosine(lr, 2, STEPS, start=1e-6), weight_decay=decay) for lr, decay, _ in runs]


def keys(runs=RUNS):
    return [key(seed) for _, _, seed in runs]


def batch_of(step, dtype=torch.float32):
    return {"images": normal(key(step), (6, 3, 8, 8), dtype), "labels": torch.arange(6) % 5}


def together_and_alone(objective, runs, dtype, **knobs):
    """(the sweep's state and last metrics, [those of each run alone])."""
    many = tree.cast(init_sweep(objective, optimizers(runs), keys(runs)), dtype)
    step = make_sweep_step(objective, optimizers(runs), **knobs)
    for number in range(STEPS):
        many, metrics = step(many, batch_of(number, dtype))
    alone = []
    for optimizer, seed in zip(optimizers(runs), keys(runs), strict=True):
        state, one = tree.cast(init_state(objective, optimizer, seed), dtype), make_step(objective, optimizer, **knobs)
        for number in range(STEPS):
            state, row = one(state, batch_of(number, dtype))
        alone.append((state, row))
    return (many, metrics), alone


@pytest.mark.parametrize("knobs", [{}, {"clip_norm": 0.3}], ids=["free", "clipped"])
def test_each_run_equals_the_run_alone(objective, knobs):
    """In float64: rounding that Adam makes into full steps where a gradient is zero stays far below the tolerance."""
    (many, metrics), alone = together_and_alone(objective, RUNS, torch.float64, **knobs)
    for place, (state, row) in enumerate(alone):
        assert_close(run_of(many, place), state, rtol=1e-9, atol=1e-10)
        assert_close(run_of(metrics, place), row, rtol=1e-9, atol=1e-10)
    assert len({round(loss, 6) for loss in metrics["loss"].tolist()}) == len(RUNS)
    assert (metrics["grad_norm"] > 0.3).any()


def test_in_float32_each_run_equals_the_run_alone_to_a_hundred_thousandth(objective):
    (many, metrics), alone = together_and_alone(objective, RUNS[1:3], torch.float32)
    for place, (state, row) in enumerate(alone):
        assert_close(run_of(many, place).params, state.params, rtol=0, atol=1e-5)
        assert_close(run_of(metrics, place), row, rtol=1e-5, atol=1e-5)


def test_runs_with_one_seed_start_alike_and_drop_alike(objective):
    runs = [(1e-3, 0.1, 7), (1e-3, 0.1, 7), (1e-3, 0.1, 8)]
    state = init_sweep(objective, optimizers(runs), keys(runs))
    assert same(run_of(state.params, 0), run_of(state.params, 1))
    _, metrics = make_sweep_step(objective, optimizers(runs))(state, batch_of(0))
    torch.testing.assert_close(metrics["loss"][0], metrics["loss"][1])
    assert (metrics["loss"][0] - metrics["loss"][2]).abs() > 1e-3


def test_only_the_key_tells_apart_runs_that_start_alike(objective):
    """The fourth run, with the first one's params, drops other paths."""
    state = init_sweep(objective, optimizers(), keys())
    alike = attrs.evolve(state, params=tree.map(lambda p: p[:1].expand_as(p).clone(), state.params))
    losses = make_sweep_step(objective, optimizers())(alike, batch_of(0))[1]["loss"]
    torch.testing.assert_close(losses[0], losses[1])
    assert (losses[0] - losses[3]).abs() > 1e-3


def test_the_step_is_a_pure_function(objective):
    state, batch = init_sweep(objective, optimizers(), keys()), batch_of(0)
    step, before, given = make_sweep_step(objective, optimizers()), tree.clone(state), tree.clone(batch)
    random_state = torch.get_rng_state()
    one, two = step(state, batch), step(state, batch)
    assert same(one[0], two[0])
    assert same(one[1], two[1])
    assert same(state, before)
    assert same(batch, given)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not same(one[0].params, state.params)
    assert not any(t.requires_grad for t in tree.flatten({"state": one[0], "metrics": one[1]}).values())


def test_a_donated_state_gives_the_same_and_keeps_its_storage(objective):
    state = init_sweep(objective, optimizers(), keys())
    expected, _ = make_sweep_step(objective, optimizers())(state, batch_of(0))
    places = [leaf.data_ptr() for leaf in tree.leaves(state.params)]
    found, _ = make_sweep_step(objective, optimizers(), donate=True)(state, batch_of(0))
    assert same(found, expected)
    assert [leaf.data_ptr() for leaf in tree.leaves(found.params)] == places


def test_a_run_that_is_not_finite_stands_still_alone():
    """Its params, optimizer and memory stay; the other runs do not notice, bit for bit."""
    objective = small_problem.Remembering(Supervised(small_problem.net(), 0.1))
    step, healthy = make_sweep_step(objective, optimizers(), clip_norm=1.0), init_sweep(objective, optimizers(), keys())
    ill = tree.clone(healthy)
    ill.params["fc1"]["weight"][1, 0, 0] = torch.nan
    for number in range(2):
        healthy, _ = step(healthy, small_problem.batch_of(seed=number))
        ill, metrics = step(ill, small_problem.batch_of(seed=number))
    for place in (0, 2, 3):
        assert same(run_of(ill, place), run_of(healthy, place))
    assert ill.skipped.tolist() == metrics["skipped"].tolist() == [0, 2, 0, 0]
    assert ill.step.tolist() == [2, 2, 2, 2]
    start = init_sweep(objective, optimizers(), keys())
    for part in ("optimizer", "memory"):
        assert same(run_of(getattr(ill, part), 1), run_of(getattr(start, part), 1)), part
    assert torch.equal(ill.params["fc2"]["weight"][1], start.params["fc2"]["weight"][1])


@attrs.frozen(eq=False)
class Seen:
    """A memory that is no dict."""

    count: torch.Tensor
    mean: torch.Tensor


@attrs.frozen
class Averaging:
    """Its memory follows the params."""

    supervised: Supervised
    draws: bool = False

    def init(self, key):
        return self.supervised.init(key)[0], Seen(torch.zeros((), dtype=torch.int64), torch.zeros(5))

    def loss(self, params, memory, batch, key):
        assert key is None
        loss, _, metrics = self.supervised.loss(params, {}, batch, None)
        mean = 0.9 * memory.mean + 0.1 * params["fc2"]["bias"] + batch["index"].sum()
        return loss, Seen(memory.count + 1, mean), metrics


def test_each_run_has_its_own_memory_which_may_be_any_tree():
    objective = Averaging(Supervised(small_problem.net(rate=0.0)))
    (many, _), alone = _three_steps(objective)
    assert isinstance(many.memory, Seen)
    assert many.memory.count.tolist() == [3, 3, 3, 3]
    for place, state in enumerate(alone):
        assert_close(run_of(many.memory, place), state.memory)
    assert not torch.equal(many.memory.mean[0], many.memory.mean[3])


def _three_steps(objective):
    batches = [{"images": b["images"], "labels": b["labels"]} for b in map(small_problem.batch_of, (8, 8, 8))]
    many, step = init_sweep(objective, optimizers(), keys()), make_sweep_step(objective, optimizers())
    alone = [init_state(objective, o, k) for o, k in zip(optimizers(), keys(), strict=True)]
    for batch in batches:
        many, metrics = step(many, batch)
        alone = [make_step(objective, o)(s, batch)[0] for o, s in zip(optimizers(), alone, strict=True)]
    return (many, metrics), alone


RATES = (1e-3, 1e-2)
FAMILIES = {
    "AdamW with rates and decays of their own": lambda lr: adamw(
        lr, weight_decay=cosine(10 * lr, 0, STEPS), lr_scales={"fc1.*": 0.5}
    ),
    "SGD": lambda lr: sgd(lr, weight_decay=1e-3, nesterov=True),
    "LAMB": lamb,
    "LARS": lars,
    "Lion": lion,
    "Muon": muon,
}
CLIPS = (ClipNorm(0.1), ClipEach(0.05), ClipValue(1e-3), ClipAdaptive())
PAIRS = [(family, None) for family in FAMILIES] + [("SGD", clip) for clip in CLIPS]


@pytest.mark.parametrize(("family", "clip"), PAIRS, ids=str)
def test_any_optimizer_and_any_clip_do_to_a_run_what_they_do_to_it_alone(family, clip):
    objective, many = Supervised(small_problem.net(), 0.1), [FAMILIES[family](lr) for lr in RATES]
    state = tree.cast(init_sweep(objective, many, [key(1), key(2)]), torch.float64)
    alone = tree.cast(init_state(objective, many[1], key(2)), torch.float64)
    together, one = make_sweep_step(objective, many, clip=clip), make_step(objective, many[1], clip=clip)
    for number in range(3):
        batch = small_problem.batch_of(seed=number)
        batch["images"] = batch["images"].double()
        state, metrics = together(state, batch)
        alone, row = one(alone, batch)
    assert_close(run_of(state, 1), alone, rtol=1e-9, atol=1e-10)
    assert_close(run_of(metrics, 1), row)


def test_a_metric_that_only_some_runs_have_is_left_out(objective):
    """One run's weight decay is scheduled, the other's is not."""
    pair = [adamw(1e-3, weight_decay=cosine(0.1, 0, STEPS)), adamw(1e-3)]
    _, metrics = make_sweep_step(objective, pair)(init_sweep(objective, pair, [key(3), key(4)]), batch_of(0))
    assert set(metrics) == {"loss", "top1", "lr", "grad_norm", "skipped"}


def test_an_optimizer_without_a_state_will_do(objective):
    class Descent:
        def init(self, params):
            return {}

        def update_(self, params, grads, state, *, skip=None):
            for value, grad in zip(tree.leaves(params), tree.leaves(grads), strict=True):
                value.sub_(0.1 * grad.where(~skip, 0))
            return {}

    pair = [Descent(), Descent()]
    state = init_sweep(objective, pair, [key(3), key(4)])
    found, _ = make_sweep_step(objective, pair)(state, batch_of(0))
    alone, _ = make_step(objective, pair[1])(init_state(objective, pair[1], key(4)), batch_of(0))
    assert_close(run_of(found.params, 1), alone.params)


@pytest.mark.filterwarnings("error:There is a performance drop")
def test_no_operation_falls_back_to_a_loop_over_runs(objective):
    make_sweep_step(objective, optimizers())(init_sweep(objective, optimizers(), keys()), batch_of(0))


def test_the_choice_of_attention_ends_with_the_step():
    fused = torch.backends.cuda.flash_sdp_enabled()
    with vmappable_attention(torch.device("cpu")):
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() == fused


def swept(runs, epochs=2, **options):
    steps = TrainData().steps_per_epoch
    chosen = [adamw(warmup_cosine(lr, 1, 2 * steps), weight_decay=decay) for lr, decay, _ in runs]
    options = {"processes": Processes(), "quiet": True, "seeds": [seed for _, _, seed in runs]} | options
    return chosen, lambda: sweep(Supervised(Classifier()), chosen, TrainData(), ValData(), epochs=epochs, **options)


def test_a_sweep_is_the_training_loop_for_many(tmp_path):
    chosen, start = swept(RUNS[1:], clip_norm=1.0)
    found = start()
    for place, (optimizer, (_, _, seed)) in enumerate(zip(chosen, RUNS[1:], strict=True)):
        alone = run(
            Supervised(Classifier()), optimizer, TrainData(), ValData(), epochs=2, out=tmp_path / str(place),
            processes=Processes(), seed=seed, clip_norm=1.0,
        )  # fmt: skip
        assert_close(run_of(found.state.params, place), alone.state.params, rtol=0, atol=1e-5)
        for epoch, record in enumerate(alone.history):
            for name in ("loss", "top1", "grad_norm"):
                assert found.curves[name][epoch, place].item() == pytest.approx(record[f"train_{name}"], abs=1e-5)
        assert found.scores[place]["top1"] == record["val_top1"]
        assert found.scores[place]["loss"] == pytest.approx(record["val_loss"], abs=1e-5)


def test_a_sweep_tells_a_good_rate_from_bad_ones():
    _, start = swept([(1e-6, 0.0, 0), (1e-2, 0.0, 0), (1e4, 0.0, 0)], epochs=4)
    found = start()
    assert found.curves["loss"].shape == (4, 3)
    assert found.curves["loss"][-1].argmin() == 1
    assert min(score["loss"] for score in found.scores) == found.scores[1]["loss"]


def test_one_seed_serves_all_runs_and_no_validation_is_needed():
    chosen, _ = swept(RUNS)
    found = sweep(
        Supervised(Classifier()), chosen, TrainData(), epochs=1, processes=Processes(), seeds=7, quiet=True
    )  # fmt: skip
    assert found.scores == []
    assert len(found.state.key.unique(dim=0)) == 1


def test_an_epoch_with_a_step_that_is_not_finite_has_no_mean_and_the_stream_is_closed(capsys):
    def poison(step, images):
        return images * torch.nan if step == 4 else images

    data = TrainData(poison=poison)
    chosen, _ = swept(RUNS)
    found = sweep(Supervised(Classifier()), chosen, data, epochs=3, processes=Processes(), seeds=[1, 2, 3, 4])
    assert found.curves["loss"].isfinite().all(1).tolist() == [True, False, True]
    assert found.state.skipped.tolist() == [0, 0, 0, 0]
    assert data.closed
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 3
    assert "(run " in lines[0]
    assert lines[1] == "epoch   2  loss not finite in any of 4 runs"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs 0"),
        ({"seeds": [1, 2]}, "4 optimizers and 2 seeds"),
        ({"clip_norm": 0.0}, r"clip_norm 0\.0"),
        ({"processes": Processes(0, 2)}, "in one process, not in 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(change, message):
    with pytest.raises(ValueError, match=message):
        swept(RUNS, **change)[1]()


def test_optimizers_of_several_kinds_are_refused(objective):
    @attrs.frozen
    class Other:
        """Never asked for anything."""

    with pytest.raises(ValueError, match="AdamW and Other; sweep each kind apart"):
        init_sweep(objective, [*optimizers(RUNS[:1]), Other()], keys(RUNS[:2]))


def test_a_sweep_of_no_run_is_refused(objective):
    with pytest.raises(ValueError, match="0 optimizers and 0 seeds"):
        init_sweep(objective, [], [])


def test_the_state_of_one_run_or_of_another_sweep_is_refused(objective):
    step = make_sweep_step(objective, optimizers())
    for state in (init_state(objective, optimizers()[0], key(3)), init_sweep(objective, optimizers()[:2], keys()[:2])):
        with pytest.raises(ValueError, match="not one of 4 runs"):
            step(state, batch_of(0))


def test_validation_data_wants_a_model_to_score():
    @attrs.frozen
    class Modelless:
        """An objective without `model`."""

    with pytest.raises(ValueError, match="Modelless has no `model`"):
        sweep(Modelless(), optimizers(), TrainData(), ValData(), epochs=1, processes=Processes())
