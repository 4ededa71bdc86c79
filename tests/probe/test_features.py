"""Features of a data set, in memory and in a file."""

import numpy as np
import pytest
import torch

from blocks.probe.feature_file import load_features, save_features
from blocks.probe.features import UNKNOWN, Features, features, gathered
from blocks.random import key
from tests.probe.small import HERE, Images, cloud, trunk


def test_features_are_the_model_s_in_stored_order():
    model, data = trunk(), Images(10)  # batches of 4, 4, 2
    params = model.init(key(0))
    found = features(model, params, data, HERE)
    torch.testing.assert_close(found.values, model.features(params, data.images))
    assert torch.equal(found.labels, data.labels)
    assert found.index.tolist() == list(range(10)) == [*range(len(found))]


def test_images_without_labels_have_features_too():
    model, data = trunk(), Images(10)
    params = model.init(key(0))
    batches = [{name: x for name, x in batch.items() if name != "labels"} for batch in data]
    found = features(model, params, batches, HERE)
    assert torch.equal(found.values, features(model, params, data, HERE).values)
    assert found.labels.tolist() == [UNKNOWN] * 10 == [-1] * 10  # as saved files have it


def test_no_gradient_is_kept_and_an_objective_s_own_parts_are_not_looked_at():
    model = trunk()
    params = model.init(key(0))
    params["norm"]["weight"].requires_grad_()
    found = features(model, params | {"predictor": {"weight": torch.ones(2)}}, Images(4), HERE)
    assert not found.values.requires_grad


class Pixels:
    """A model without params."""

    def features(self, params, images):
        return images.flatten(1)


def test_pixels_are_features_of_a_model_without_params():
    data = Images(10)
    assert torch.equal(features(Pixels(), {}, data, HERE).values, data.images.flatten(1))


def test_in_bfloat16_they_are_computed_and_held_in_it():
    model = trunk()
    params = model.init(key(0))
    exact = features(model, params, Images(), HERE)
    half = features(model, params, Images(), HERE, dtype=torch.bfloat16)
    assert half.values.dtype == torch.bfloat16
    torch.testing.assert_close(half.values.float(), exact.values, atol=0.05, rtol=0.05)


def test_no_image_and_broken_weights_are_errors():
    model = trunk()
    params = model.init(key(0))
    with pytest.raises(ValueError, match="no image"):
        features(model, params, [], HERE)
    torn = Images()
    torn.images[-1, 0, 0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match="not finite"):
        features(model, params, torn, HERE)
    params["norm"]["bias"][0] = torch.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        features(model, params, Images(), HERE)


def test_what_is_gathered_is_in_stored_order():
    found = cloud(6, 0)
    mixed = torch.tensor([3, 1, 0, 5, 4, 2])
    back = gathered(Features(found.values[mixed], found.labels[mixed], found.index[mixed]))
    assert torch.equal(back.values, found.values)
    assert torch.equal(back.labels, found.labels)
    assert torch.equal(back.index, found.index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_file_gives_back_what_was_saved(tmp_path, dtype):
    found = cloud(7, 1, dtype=torch.float64)
    found = Features(found.values.to(dtype), found.labels, found.index)
    save_features(tmp_path / "found", found)
    back = load_features(tmp_path / "found")
    assert torch.equal(back.values.to(dtype), found.values)
    assert torch.equal(back.labels, found.labels)
    assert torch.equal(back.index, found.index)


def test_a_save_that_is_cut_short_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    save_features(tmp_path / "f.npz", cloud(3, 1))
    before = (tmp_path / "f.npz").read_bytes()

    def cut(file, **arrays):
        file.write(b"PK")
        raise KeyboardInterrupt

    monkeypatch.setattr("numpy.savez", cut)
    with pytest.raises(KeyboardInterrupt):
        save_features(tmp_path / "f.npz", cloud(5, 2))
    assert (tmp_path / "f.npz").read_bytes() == before


def test_numpy_reads_the_names_of_the_samples(tmp_path):
    save_features(tmp_path / "f.npz", cloud(3, 1), names=["a, sample 0", "a, sample 1", "ü"])
    with np.load(tmp_path / "f.npz") as file:
        assert file["names"].tolist() == ["a, sample 0", "a, sample 1", "ü"]
        assert file["features"].shape == (3, 6)


def test_names_that_do_not_fit_and_other_files_are_errors(tmp_path):
    with pytest.raises(ValueError, match="2 names for 3 features"):
        save_features(tmp_path / "f.npz", cloud(3, 1), names=["a", "b"])
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"holds \['x'\], not features, labels, index"):
        load_features(tmp_path / "other.npz")


def test_what_is_no_such_file_is_an_error(tmp_path):
    """An array alone, half a file, and none."""
    np.save(tmp_path / "x.npy", np.zeros(3))
    save_features(tmp_path / "f.npz", cloud(3, 1))
    whole = (tmp_path / "f.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("x.npy", "half.npz"):
        with pytest.raises(ValueError, match=rf"{name} is no \.npz file, or not a whole one"):
            load_features(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        load_features(tmp_path / "none.npz")
