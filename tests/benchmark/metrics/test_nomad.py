"""NOMAD on random weights in the authors' layout: the architecture part by part, and which files are refused."""

import pickle
from pathlib import Path

import pytest
import soundfile
import torch
from codecbench.benchmark.errors import UserError
from codecbench.benchmark.metrics.hearing.wav2vec import Size, Wav2Vec2, _Layer
from codecbench.benchmark.metrics.nomad import CHECKPOINT, VARIABLE, Nomad, load_nomad, nomad, offered
from codecbench.datamodules.demo import CORPORA
from torch import nn

SMALL = Size(channels=16, width=32, hidden=64, heads=4, layers=2)
CONVOLUTION = "ssl_model.encoder.pos_conv.0.weight"


def random_weights(size=SMALL):
    """A checkpoint as the authors' training saves it: weight norm in two parts, and a part of pre-training."""
    torch.manual_seed(0)
    weights = dict(Nomad(size).state_dict())
    weight = weights.pop(CONVOLUTION)
    weights[f"{CONVOLUTION}_g"] = weight.norm(dim=(0, 1), keepdim=True)
    weights[f"{CONVOLUTION}_v"] = 7 * weight
    return weights | {"ssl_model.mask_emb": torch.zeros(size.width)}


def saved(folder: Path, content) -> Path:
    torch.save(content, folder / CHECKPOINT)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_nomad(saved(tmp_path_factory.mktemp("nomad"), random_weights()), SMALL)


@pytest.fixture(scope="module")
def speech():
    """float32 "3 16000"."""
    files = sorted(CORPORA.glob("demo/*/*.flac"))[::70][:3]
    return torch.stack([torch.from_numpy(soundfile.read(file, frames=16_000, dtype="float32")[0]) for file in files])


# -- architecture -----------------------------------------------------------------------------------------------------


def test_base_has_the_published_number_of_parameters_and_fairseqs_names():
    with torch.device("meta"):
        base = Wav2Vec2()
    weights = base.state_dict()
    # 94 371 712 in the published model: 768 are its mask, 128 the lengths of weight norm
    assert sum(each.numel() for each in weights.values()) == 94_371_712 - 768 - 128
    for name, shape in {
        "feature_extractor.conv_layers.0.0.weight": (512, 1, 10),
        "feature_extractor.conv_layers.0.2.weight": (512,),
        "feature_extractor.conv_layers.6.0.weight": (512, 512, 2),
        "layer_norm.bias": (512,),
        "post_extract_proj.weight": (768, 512),
        "encoder.pos_conv.0.weight": (768, 48, 128),
        "encoder.layer_norm.weight": (768,),
        "encoder.layers.11.self_attn.out_proj.bias": (768,),
        "encoder.layers.11.self_attn_layer_norm.weight": (768,),
        "encoder.layers.11.fc1.weight": (3072, 768),
        "encoder.layers.11.final_layer_norm.weight": (768,),
    }.items():
        assert tuple(weights[name].shape) == shape


def test_a_layer_equals_that_of_torch():
    torch.manual_seed(0)
    ours = _Layer(SMALL).eval()
    theirs = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, activation="gelu", batch_first=True).eval()
    attention = ours.self_attn
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    parts = {
        "self_attn.in_proj_weight": torch.cat([each.weight for each in projections]),
        "self_attn.in_proj_bias": torch.cat([each.bias for each in projections]),
    }
    for mine, name in (("self_attn.out_proj", "self_attn.out_proj"), ("fc1", "linear1"), ("fc2", "linear2")):
        parts |= {f"{name}.{kind}": ours.state_dict()[f"{mine}.{kind}"] for kind in ("weight", "bias")}
    for mine, name in (("self_attn_layer_norm", "norm1"), ("final_layer_norm", "norm2")):
        parts |= {f"{name}.{kind}": ours.state_dict()[f"{mine}.{kind}"] for kind in ("weight", "bias")}
    theirs.load_state_dict(parts)
    features = torch.randn(2, 9, 32)
    assert torch.allclose(ours(features), theirs(features), atol=1e-6)


@pytest.mark.parametrize(("samples", "frames"), [(400, 1), (719, 1), (720, 2), (16_000, 49)])
def test_a_frame_every_320_samples_from_400_on(samples, frames, model):
    assert model.ssl_model(torch.randn(1, samples)).shape == (1, frames, 32)


def test_weight_norm_is_folded_into_one_weight(model):
    torch.manual_seed(0)
    assert torch.allclose(model.state_dict()[CONVOLUTION], Nomad(SMALL).state_dict()[CONVOLUTION])


# -- score ------------------------------------------------------------------------------------------------------------


def test_distance_is_0_to_itself_and_grows_with_noise(model, speech):
    noise = torch.randn(speech.shape, generator=torch.Generator().manual_seed(0)) * speech.std()
    distances = torch.stack([nomad(speech, speech + gain * noise, model) for gain in (0, 0.01, 0.3)])
    assert distances[0].tolist() == [0, 0, 0]
    assert (distances.diff(dim=0) > 0).all() and (distances <= 2).all()
    embeddings = model(torch.stack([speech[0], speech[0] + 0.3 * noise[0]]))
    assert embeddings.norm(dim=1).tolist() == pytest.approx([1, 1])
    assert distances[2, 0].item() == pytest.approx((embeddings[0] - embeddings[1]).norm().item(), abs=1e-5)


def test_what_cannot_be_scored_is_nan(model, speech):
    assert nomad(speech[:, :399], speech[:, :399], model).isnan().all()
    broken = speech.clone()
    broken[0, 3] = torch.nan
    assert nomad(speech, broken, model).isnan().tolist() == [True, False, False]
    with pytest.raises(ValueError, match="must have one shape"):
        nomad(speech, speech[:, 1:], model)


# -- weights ----------------------------------------------------------------------------------------------------------


def refusal(folder, size=SMALL) -> str:
    with pytest.raises(UserError) as caught:
        load_nomad(folder, size)
    message = str(caught.value)
    assert message.isprintable(), "one line"
    return message


class Trap:
    """Code that a pickle would run."""

    def __reduce__(self):
        return Path.touch, (Path("trapped"),)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal(saved(tmp_path, {"ssl_model.mask_emb": Trap()}))
    assert "not readable as weights alone (UnpicklingError)" in message
    (tmp_path / CHECKPOINT).write_bytes(pickle.dumps(Trap(), protocol=2))
    refusal(tmp_path)
    assert not Path("trapped").exists()


def test_what_is_not_nomads_weights_is_told_by_name(tmp_path):
    weights = random_weights()
    lacking = {name: each for name, each in weights.items() if "fc2.bias" not in name}
    assert "2 differ, such as ssl_model.encoder.layers.0.fc2.bias" in refusal(saved(tmp_path, lacking))
    wrong = weights | {"embedding_layer.1.weight": torch.zeros(256, 31)}
    assert "1 differ, such as embedding_layer.1.weight" in refusal(saved(tmp_path, wrong))
    assert "1 differ, such as head.weight" in refusal(saved(tmp_path, weights | {"head.weight": torch.zeros(1)}))
    assert "something else" in refusal(saved(tmp_path, [1, 2]))
    assert "no such file" in refusal(tmp_path / "nowhere")
    for content in (b"", b"not a checkpoint", (saved(tmp_path, weights) / CHECKPOINT).read_bytes()[:5000]):
        (tmp_path / CHECKPOINT).write_bytes(content)
        assert "not readable" in refusal(tmp_path)


def test_it_is_offered_where_the_variable_names_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not offered()
    assert VARIABLE in refusal(None)
    monkeypatch.setenv(VARIABLE, str(saved(tmp_path, random_weights())))
    assert offered()
    assert isinstance(load_nomad(size=SMALL), Nomad)
