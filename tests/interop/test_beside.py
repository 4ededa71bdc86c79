"""What a config beside weights tells, as it is published."""

import json

import pytest

from blocks.interop.beside import told_beside

CONFIGS = {
    "a whole CLIP": (
        {"model_type": "clip", "vision_config": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6}},
        ("gelu_tanh", 1e-6),
    ),
    "of a whole CLIP what is usual": (
        {"model_type": "clip", "vision_config": {"layer_norm_eps": 1e-5}},
        ("quick_gelu", 1e-5),
    ),
    "of a tower what is usual": ({"model_type": "siglip_vision_model"}, ("gelu_tanh", None)),
    "an activation that is not ours": ({"model_type": "clip_vision_model", "hidden_act": "relu"}, ("relu", None)),
    "another name of one that is": ({"model_type": "vit", "hidden_act": "gelu_python"}, ("gelu", None)),
    "none": ({"model_type": "vit", "hidden_act": None}, (None, None)),
    "no config of a tower": ({"model_type": "clip", "vision_config": 3, "hidden_act": "gelu"}, ("quick_gelu", None)),
    "an eps that is no number": ({"hidden_act": "gelu", "layer_norm_eps": "1e-5"}, ("gelu", None)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_tells_activation_and_eps(tmp_path, name):
    config, told = CONFIGS[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert told_beside(tmp_path / "model.safetensors") == told
