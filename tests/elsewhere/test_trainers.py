"""Others' training loops around a module of ours take the very steps that ours takes."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from blocks import convit, from_timm, key, to_module, tree
from blocks.objectives.supervised import Supervised
from blocks.optim.adamw import adamw
from blocks.train.step import init_state, make_step

MODEL = convit(img_size=8, patch_size=4, num_classes=5, embed_dim=8, num_heads=2, depth=2, local_up_to_layer=1)
LR, STEPS = 1e-2, 3
ADAMW = {"lr": LR, "weight_decay": 0.0, "eps": 1e-8}
SAMPLES = [
    {"pixel_values": image, "labels": label}
    for image, label in zip(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)), range(4), strict=True)
]  # one batch: each epoch is a step, whatever the order


def batch():
    return {"images": torch.stack([s["pixel_values"] for s in SAMPLES]), "labels": torch.arange(4)}


@pytest.fixture(scope="module")
def start():
    return MODEL.init(key(0))


@pytest.fixture(scope="module")
def ours(start):
    """(the losses of three of our steps, the params after them)."""
    objective, optimizer = Supervised(MODEL), adamw(LR, weight_decay=0.0)
    state, step, losses = init_state(objective, optimizer, key(1), params=start), make_step(objective, optimizer), []
    for _ in range(STEPS):
        state, metrics = step(state, batch())
        losses.append(metrics["loss"].item())
    return losses, tree.flatten(state.params)


def assert_ours(losses, state_dict, ours):
    """Adam divides by the root of squares: rounding of the smallest gradients shows in a step's size, lr."""
    assert losses == pytest.approx(ours[0], abs=1e-5)
    assert losses[0] - losses[-1] > 0.01
    for name, leaf in ours[1].items():
        torch.testing.assert_close(state_dict[name], leaf, atol=LR / 50, rtol=1e-5, msg=lambda s, n=name: f"{n}: {s}")


def test_lightning_fits_as_our_step_does(start, ours, tmp_path):
    lightning = pytest.importorskip("lightning.pytorch", reason="pip install 'vitmason[test]'")

    class Classifier(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model, self.losses = to_module(MODEL, start), []

        def training_step(self, batch):
            loss = F.cross_entropy(self.model(batch["pixel_values"]), batch["labels"])
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), **ADAMW)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    fit = lightning.Trainer(max_epochs=STEPS, accelerator="cpu", devices=1, default_root_dir=tmp_path, **quiet)
    classifier = Classifier()
    fit.fit(classifier, DataLoader(SAMPLES, batch_size=4, shuffle=True))
    assert_ours(classifier.losses, classifier.model.state_dict(), ours)
    checkpoint = torch.load(next(tmp_path.rglob("*.ckpt")), weights_only=False)["state_dict"]
    again = Classifier()
    again.load_state_dict(checkpoint)
    x = batch()["images"]
    assert torch.equal(again.model.eval()(x), classifier.model.eval()(x))


class ForTrainer(nn.Module):
    """Hugging Face's protocol: keyword inputs -> loss and logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values, labels=None):
        logits = self.model(pixel_values)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


def test_hugging_face_s_trainer_fits_as_our_step_does(start, ours, tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install 'vitmason[test]'")
    pytest.importorskip("accelerate", reason="pip install 'vitmason[test]'")
    from safetensors.torch import load_file

    arguments = transformers.TrainingArguments(
        tmp_path, num_train_epochs=STEPS, per_device_train_batch_size=4, learning_rate=LR, weight_decay=0.0,
        lr_scheduler_type="constant", max_grad_norm=0.0, logging_steps=1, save_strategy="no", report_to=[],
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(ForTrainer(to_module(MODEL, start)), arguments, train_dataset=SAMPLES)
    trainer.train()
    losses = [float(line["loss"]) for line in trainer.state.log_history if "loss" in line]
    assert_ours(losses, trainer.model.model.state_dict(), ours)
    trainer.save_model(tmp_path / "saved")
    leaves = {name.removeprefix("model."): t for name, t in load_file(tmp_path / "saved/model.safetensors").items()}
    params = from_timm(MODEL, leaves)
    predicted = torch.from_numpy(trainer.predict(SAMPLES).predictions)
    assert torch.equal(predicted, MODEL(params, batch()["images"]))
