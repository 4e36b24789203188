"""Names and shapes in files: the published ones, upstream's own, other converters'; what does not fit is refused."""

from __future__ import annotations

import json
import shutil
import struct
from math import prod
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from moss_tts.config.qwen3 import BackboneConfig
from moss_tts.diffusion.decoder import SoundDecoder
from moss_tts.diffusion.loading import SoundFiles
from moss_tts.diffusion.text_encoder import LAYOUT, TextEncoder
from moss_tts.diffusion.transformer import DiffusionTransformer
from moss_tts.diffusion.weights import TransformerNames, load_decoder, transformer_weights
from moss_tts.errors import CheckpointError, ConfigError, MossTTSError
from moss_tts.weights.layout import Shapes, load_strict, parameter_shapes, read_safetensors
from support import pickles
from support.sounds import GOLDEN, PUBLISHED, PUBLISHED_DECODER, TINY_DECODER, tiny_decoder

D, F = 1536, 8960


def linear(name: str, out: int, width: int) -> Shapes:
    return {f"{name}.weight": (out, width), f"{name}.bias": (out,)}


def published_transformer() -> Shapes:
    """What the published file stores, by hand from the published sizes."""
    shapes: Shapes = {
        "patch_embedding.weight": (D, 128, 1),
        "patch_embedding.bias": (D,),
        **linear("condition_embedder.text_embedder.linear_1", D, 2048),
        **linear("condition_embedder.text_embedder.linear_2", D, D),
        **linear("condition_embedder.time_embedder.linear_1", D, 256),
        **linear("condition_embedder.time_embedder.linear_2", D, D),
        **linear("condition_embedder.time_proj", 6 * D, D),
        "scale_shift_table": (1, 2, D),
        **linear("proj_out", 128, D),
    }
    for i in range(30):
        for attention in (f"blocks.{i}.attn1", f"blocks.{i}.attn2"):
            for part in ("to_q", "to_k", "to_v", "to_out.0"):
                shapes |= linear(f"{attention}.{part}", D, D)
            shapes |= {f"{attention}.norm_q.weight": (D,), f"{attention}.norm_k.weight": (D,)}
        shapes |= {f"blocks.{i}.norm2.weight": (D,), f"blocks.{i}.norm2.bias": (D,)}
        shapes |= linear(f"blocks.{i}.ffn.net.0.proj", F, D) | linear(f"blocks.{i}.ffn.net.2", D, F)
        shapes[f"blocks.{i}.scale_shift_table"] = (1, 6, D)
    return shapes


def weight_norm(name: str, first: int, *rest: int, bias: int) -> Shapes:
    return {f"{name}.weight_g": (first, 1, 1), f"{name}.weight_v": (first, *rest), f"{name}.bias": (bias,)}


def published_decoder() -> Shapes:
    shapes = {"post_quant_conv.weight": (128, 128, 1), "post_quant_conv.bias": (128,)}
    shapes |= weight_norm("decoder.model.0", 2048, 128, 7, bias=2048)
    for stage, stride in enumerate((8, 5, 4, 3, 2), start=1):
        name, wide, half = f"decoder.model.{stage}.block", 4096 >> stage, 2048 >> stage
        shapes[f"{name}.0.alpha"] = (1, wide, 1)
        shapes |= weight_norm(f"{name}.1", wide, half, 2 * stride, bias=half)
        for unit in (2, 3, 4):
            shapes |= {f"{name}.{unit}.block.{i}.alpha": (1, half, 1) for i in (0, 2)}
            shapes |= weight_norm(f"{name}.{unit}.block.1", half, half, 7, bias=half)
            shapes |= weight_norm(f"{name}.{unit}.block.3", half, half, 1, bias=half)
    return shapes | {"decoder.model.6.alpha": (1, 64, 1)} | weight_norm("decoder.model.7", 1, 64, 7, bias=1)


def unread(shapes: Shapes) -> dict[str, mx.array]:
    return {name: mx.zeros(shape) for name, shape in shapes.items()}


def test_the_published_transformer_has_these_weights():
    shapes, names = published_transformer(), TransformerNames()
    assert (len(shapes), sum(map(prod, shapes.values()))) == (825, 1_416_047_744)
    network = DiffusionTransformer(PUBLISHED)
    assert sum(map(prod, parameter_shapes(network).values())) == 1_416_047_744
    assert {names.upstream_name(name) for name in parameter_shapes(network)} == shapes.keys()
    load_strict(network, transformer_weights(unread(shapes), names), names)


def test_the_published_decoder_has_these_weights():
    shapes = published_decoder()
    assert (len(shapes), sum(map(prod, shapes.values()))) == (149, 75_498_690)
    rest = {"encoder.block.0.bias": (128,), "quant_conv.weight": (256, 128, 1), "quant_conv.bias": (256,)}
    load_decoder(SoundDecoder(PUBLISHED_DECODER), unread(shapes | rest))


def test_the_published_text_encoder_has_these_weights():
    layers = {
        "self_attn.q_proj": (2048, 2048),
        "self_attn.k_proj": (1024, 2048),
        "self_attn.v_proj": (1024, 2048),
        "self_attn.o_proj": (2048, 2048),
        "self_attn.q_norm": (128,),
        "self_attn.k_norm": (128,),
        "mlp.gate_proj": (6144, 2048),
        "mlp.up_proj": (6144, 2048),
        "mlp.down_proj": (2048, 6144),
        "input_layernorm": (2048,),
        "post_attention_layernorm": (2048,),
    }
    shapes = {f"model.layers.{i}.{name}.weight": shape for i in range(28) for name, shape in layers.items()}
    shapes |= {"model.embed_tokens.weight": (151936, 2048), "model.norm.weight": (2048,)}
    encoder = TextEncoder(BackboneConfig(2048, 28, 6144, 16, 8, 128, 151936))
    for head in ({}, {"lm_head.weight": (151936, 2048)}):
        load_strict(encoder, LAYOUT.sanitize(unread(shapes | head), 0), LAYOUT)


# ------------------------------------------------------------------------------------------- other spellings


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "sounds"))


NATIVE = TransformerNames(published=False)


def resaved(folder: Path, name, file: str = "transformer/epoch-3.safetensors") -> None:
    """The transformer in one other file; `name` gives the new name of one of our tensors."""
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    weights = {name(TransformerNames().our_name(old)): mx.array(value) for old, value in mx.load(str(path)).items()}
    path.unlink()
    (folder / file).parent.mkdir(exist_ok=True)
    mx.save_safetensors(str(folder / file), weights)


def of_mlx_community(name: str) -> str:
    native = NATIVE.upstream_name(name)
    for sequence in ("text_embedding.", "time_embedding.", "time_projection.", "ffn."):
        native = native.replace(sequence, f"{sequence}layers.")
    return native


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (NATIVE.upstream_name, "transformer/epoch-3.safetensors"),
        (lambda name: f"pipe.dit.{NATIVE.upstream_name(name)}", "transformer/epoch-3.safetensors"),
        (of_mlx_community, "mlx/dit.safetensors"),
    ],
    ids=["upstream's own", "an older fine-tune", "mlx-community"],
)
def test_a_transformer_under_other_names_is_the_same(folder, name, file):
    before = SoundFiles.find(folder).load_transformer(mx.float32)
    resaved(folder, name, file)
    after = SoundFiles.find(folder).load_transformer(mx.float32)
    for (path, was), (_, now) in zip(leaves(before), leaves(after), strict=True):
        assert mx.array_equal(was, now), path


def leaves(network):
    from mlx.utils import tree_flatten

    return tree_flatten(network.parameters())


def test_both_spellings_at_once_are_refused(folder):
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    weights = dict(mx.load(str(path)))
    weights["blocks.0.self_attn.q.weight"] = weights["blocks.0.attn1.to_q.weight"]
    mx.save_safetensors(str(path), weights)
    with pytest.raises(CheckpointError, match=r"twice|does not know"):
        SoundFiles.find(folder).load_transformer(mx.float32)


def torch_weights(decoder: SoundDecoder) -> dict[str, mx.array]:
    """The weights of a decoder as torch has them, without weight norm."""
    weights = {}
    for name, value in leaves(decoder):
        if name.endswith("alpha"):
            value = value.reshape(1, -1, 1)
        elif value.ndim == 3:
            transposed = ".block.1.weight" in name and name.count("block") == 1
            value = value.transpose(1, 2, 0) if transposed else value.transpose(2, 1, 0)
        weights[name] = value
    return weights


def spelt(weights, gain: str, direction: str):
    """The same weights with weight norm: a direction of another length, and the gain."""
    made = {}
    for name, value in weights.items():
        if value.ndim == 3 and name.endswith(".weight") and "post" not in name:
            stem = name.removesuffix("weight")
            made[stem + gain] = mx.sqrt((value * value).sum(axis=(1, 2), keepdims=True))
            made[stem + direction] = 3 * value
        else:
            made[name] = value
    return made


@pytest.mark.parametrize(
    "respell",
    [
        lambda weights: weights,
        lambda weights: spelt(weights, "weight_g", "weight_v"),
        lambda weights: spelt(weights, "parametrizations.weight.original0", "parametrizations.weight.original1"),
    ],
    ids=["plain", "weight norm", "parametrizations"],
)
def test_weight_norm_is_folded(respell):
    before, after = tiny_decoder(), SoundDecoder(TINY_DECODER)
    load_decoder(after, respell(torch_weights(before)))
    for (path, was), (_, now) in zip(leaves(before), leaves(after), strict=True):
        np.testing.assert_allclose(np.array(was), np.array(now), atol=1e-6, err_msg=path)


def test_an_autoencoder_of_mlx_community(folder):
    files = SoundFiles.find(folder)
    before = files.load_decoder()
    made = {}
    for name, value in leaves(before):
        name = name.replace(".model.", ".model.layers.").replace(".block.", ".block.layers.")
        made[name] = (
            value.transpose(2, 0, 1) if value.ndim == 3 else value.reshape(1, 1, -1) if "alpha" in name else value
        )
    (folder / "mlx").mkdir()
    mx.save_safetensors(str(folder / "mlx/vae.safetensors"), made)
    after = SoundFiles.find(folder).load_decoder()
    for (path, was), (_, now) in zip(leaves(before), leaves(after), strict=True):
        assert mx.array_equal(was, now), path


def test_a_mirror_in_safetensors(folder):
    from moss_tts.diffusion.loading import SoundFiles

    files = SoundFiles.find(folder)
    mx.save_safetensors(str(folder / "vae/diffusion_pytorch_model.safetensors"), files.autoencoder_weights())
    before = files.load_decoder()
    files.autoencoder.unlink()
    for (path, was), (_, now) in zip(leaves(before), leaves(SoundFiles.find(folder).load_decoder()), strict=True):
        assert mx.array_equal(was, now), path


# ---------------------------------------------------------------------------------------------- what is refused


def changed(folder: Path, file: str, **values) -> None:
    raw = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(raw | values))


def load(folder: Path) -> None:
    files = SoundFiles.find(folder)
    files.load_prompt_encoder()
    files.load_transformer(mx.float32)
    files.load_decoder()
    files.load_text_encoder("float32")


def without(folder: Path, file: str, name: str) -> None:
    weights = dict(read_safetensors(folder / file))
    del weights[name]
    mx.eval(weights)
    mx.save_safetensors(str(folder / file), weights)


TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
FAULTS = {
    "no transformer": (lambda f: shutil.rmtree(f / "transformer"), r"lacks transformer/ \(transformer\)"),
    "no autoencoder": (lambda f: shutil.rmtree(f / "vae"), r"lacks vae/ \(autoencoder\)"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "lacks tokenizer/"),
    "no file of the tokenizer": (lambda f: (f / "tokenizer/tokenizer.json").unlink(), "no tokenizer.json"),
    "no file of the transformer": (lambda f: (f / TRANSFORMER).unlink(), "transformer holds no"),
    "no file of the encoder": (lambda f: (f / "text_encoder/model.safetensors").unlink(), "holds no model"),
    "no file of the autoencoder": (lambda f: (f / "vae/vae_128d_48k.pth").unlink(), "vae holds neither"),
    "another pipeline": (lambda f: changed(f, "model_index.json", _class_name="FluxPipeline"), "'FluxPipeline'"),
    "another rope": (lambda f: changed(f, "transformer/config.json", vae_type="oobleck"), "vae_type = 'oobleck'"),
    "patches": (lambda f: changed(f, "transformer/config.json", patch_size=[2]), r"patch_size = \[2\]"),
    "pictures": (lambda f: changed(f, "transformer/config.json", has_image_input=True), "has_image_input"),
    "a part that is not known": (
        lambda f: changed(f, "transformer/config.json", add_control_adapter=True),
        "add_control_adapter = True",
    ),
    "heads that do not divide": (lambda f: changed(f, "transformer/config.json", num_heads=5), "num_heads = 5"),
    "odd heads": (lambda f: changed(f, "transformer/config.json", num_heads=4), "heads of an even width"),
    "a key that is not known": (lambda f: changed(f, "transformer/config.json", window=3), "unknown keys: window"),
    "another encoder": (lambda f: changed(f, "text_encoder/config.json", model_type="t5"), "'t5'"),
    "another text width": (lambda f: changed(f, "transformer/config.json", text_dim=48), "text_dim .* is 48"),
    "other latents": (lambda f: changed(f, "transformer/config.json", in_dim=9, out_dim=9), "in_dim .* is 9"),
    "another rate": (lambda f: changed(f, "model_index.json", sample_rate=2400), "sample_rate .* is 2400"),
    "hours": (lambda f: changed(f, "model_index.json", max_inference_seconds=3000), "latents"),
    "more layers": (lambda f: changed(f, "transformer/config.json", num_layers=3), "lacks blocks.2.attn1"),
    "a wider transformer": (lambda f: changed(f, "transformer/config.json", ffn_dim=84), "ffn.net.0.proj"),
    "a missing weight": (lambda f: without(f, TRANSFORMER, "blocks.1.norm2.bias"), "lacks blocks.1.norm2.bias"),
    "a missing weight of the encoder": (
        lambda f: without(f, "text_encoder/model.safetensors", "model.norm.weight"),
        "lacks model.norm.weight",
    ),
    "a tokenizer with more tokens": (
        lambda f: changed(f, "text_encoder/config.json", vocab_size=100),
        "but the text encoder knows 100",
    ),
    "a cut file": (lambda f: cut(f / TRANSFORMER), "incomplete copy"),
    "a cut autoencoder": (lambda f: cut(f / "vae/vae_128d_48k.pth"), "cut off"),
    "two autoencoders": (lambda f: shutil.copy(f / "vae/vae_128d_48k.pth", f / "vae/a.pth"), "several autoencoders"),
}


def test_all_settings_that_upstreams_class_writes_are_read(folder):
    before = SoundFiles.find(folder).config
    unused = ("has_image_pos_emb", "has_ref_conv", "add_control_adapter", "seperated_timestep")
    settings = dict.fromkeys([*unused, "fuse_vae_embedding_in_latents"], False) | {
        "in_dim_control_adapter": 24,
        "require_vae_embedding": True,
        "require_clip_embedding": True,
    }
    changed(folder, "transformer/config.json", **settings)
    assert SoundFiles.find(folder).config == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


@pytest.mark.parametrize(("spoil", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_what_does_not_fit_is_refused_in_a_sentence(folder, spoil, message):
    spoil(folder)
    with pytest.raises(MossTTSError, match=message) as caught:
        load(folder)
    assert isinstance(caught.value, CheckpointError | ConfigError)
    assert len(str(caught.value)) < 500


def entry(key: str, value: bytes) -> bytes:
    return pickles.text(key) + value


def integers(*values: int) -> bytes:
    return b"](" + b"".join(map(pickles.number, values)) + b"e"


def autoencoder(settings: bytes, tensors: bytes = b"") -> bytes:
    """A pickle as DAC.save makes it."""
    table = pickles.TABLE + (b"(" + tensors + b"u" if tensors else b"")
    metadata = b"}" + pickles.text("kwargs") + settings + b"s"
    return b"\x80\x02}(" + entry("state_dict", table) + entry("metadata", metadata) + b"u."


ONE = entry("w", pickles.tensor(pickles.storage("FloatStorage", "0", 4), 0, (4,), (1,)))
SETTINGS = (
    b"}("
    + entry("latent_dim", pickles.number(8))
    + entry("decoder_dim", pickles.number(32))
    + entry("encoder_rates", integers(2, 3, 5))
    + entry("decoder_rates", integers(5, 3, 2))
    + entry("sample_rate", pickles.number(1200))
    + entry("quantizer_dropout", b"G" + struct.pack(">d", 0.5))
    + entry("continuous", b"\x88")
    + b"u"
)
SYSTEM = pickles.name("os", "system") + b"(" + pickles.text("touch was_run") + b"tR"
PICKLES = {
    "a call of the system": (autoencoder(SETTINGS, entry("w", SYSTEM)), r"'os\.system'"),
    "a call in the settings": (autoencoder(SYSTEM, ONE), r"'os\.system'"),
    "no settings": (b"\x80\x02}(" + entry("state_dict", pickles.TABLE) + b"u.", "no state_dict beside metadata"),
    "settings that are a list": (autoencoder(integers(1), ONE), "no settings of an autoencoder"),
    "no rates": (autoencoder(SETTINGS.replace(b"decoder_rates", b"decoder_ratex"), ONE), "unknown keys: decoder_ratex"),
    "text for a size": (autoencoder(SETTINGS.replace(pickles.number(8), pickles.text("8"), 1), ONE), "latent_dim must"),
    "endless rates": (autoencoder(SETTINGS.replace(integers(5, 3, 2), integers(*[2] * 99)), ONE), "1..16 entries"),
    "rates that do not meet": (autoencoder(SETTINGS.replace(integers(5, 3, 2), integers(5, 3, 3)), ONE), "multiply to"),
    "codebooks": (autoencoder(SETTINGS.replace(b"\x88u", b"\x89u"), ONE), "continuous must be true"),
    "other weights": (autoencoder(SETTINGS, ONE), "lacks decoder.model.0"),
    "no weights": (autoencoder(SETTINGS), "tensors by name"),
    "appending to text": (b"\x80\x02" + pickles.text("x") + pickles.number(1) + b"a.", "appends to something"),
}


@pytest.mark.parametrize(("pickle", "message"), PICKLES.values(), ids=PICKLES.keys())
def test_another_pickle_is_refused_in_a_sentence_and_nothing_is_run(folder, monkeypatch, pickle, message):
    monkeypatch.chdir(folder / "vae")
    (folder / "vae/vae_128d_48k.pth").write_bytes(pickles.archive(pickle, {"0": np.zeros(4, np.float32).tobytes()}))
    with pytest.raises(MossTTSError, match=message) as caught:
        load(folder)
    assert len(str(caught.value)) < 500
    assert not (folder / "vae/was_run").exists()
