"""Running moments of the batch norms in heads: noted by a loss, remembered, moved once a step."""

import pytest
import torch

from blocks import tree
from blocks.objectives.barlow_twins import BarlowTwins
from blocks.objectives.byol import BYOL
from tests.objectives.views import OBJECTIVES, assert_close, batch_of, features, head, model, same, start


@pytest.mark.parametrize("name", OBJECTIVES)
def test_running_moments_follow_the_heads_batch_norms_and_a_skip_changes_nothing(name):
    objective = OBJECTIVES[name]()
    params, memory = start(objective)
    before = tree.clone(memory)
    _, noted, _ = objective.loss(params, memory, batch_of(), None)
    _, twice, _ = objective.loss(params, tree.clone(noted), batch_of(), None)  # as in a second micro-batch
    settled, _ = objective.settle_(params, tree.clone(noted), torch.tensor(True))
    assert same(settled, before)
    in_two, _ = objective.settle_(params, tree.clone(twice), torch.tensor(False))
    settled, _ = objective.settle_(params, noted, torch.tensor(False))
    assert_close(in_two["moments"], settled["moments"])
    running = settled["moments"]["head"]["norms"]["0"]
    z = [objective.model.head.layers[0](params["head"]["layers"]["0"], f) for f in features(objective, params)]
    torch.testing.assert_close(running["running_mean"].double(), 0.1 * sum(x.mean(0) for x in z) / 2)
    torch.testing.assert_close(running["running_var"].double(), 0.9 + 0.1 * sum(x.var(0) for x in z) / 2)
    assert ("predictor" in settled["moments"]) == ("byol" in name)


class Forgetful(BYOL):
    """It notes its predictor's moments, and does not say that they are to be remembered."""

    def parts(self):
        return {"head": self.model.head}


class Boastful(BarlowTwins):
    """It says that a predictor's moments are to be remembered, and has none that would leave them."""

    def parts(self):
        return {**super().parts(), "predictor": head()}


@pytest.mark.parametrize("objective", [Forgetful(model(), head(inputs=6)), Boastful(model())])
def test_moments_that_are_noted_or_remembered_alone_are_an_error(objective):
    params, memory = start(objective)
    _, memory, _ = objective.loss(params, memory, batch_of(), None)
    told = r"moments\.predictor\.norms\.0\.running_mean, .*parts\(\) name other blocks; name the same in both"
    with pytest.raises(ValueError, match=told):
        objective.settle_(params, memory)
