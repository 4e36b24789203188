"""Trained weights as a checkpoint directory in upstream's layout: float16, codec in `audio_tokenizer/`."""

import json
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from .codec import Codec
from .model import LocalModel
from .tokenizer import save_tokenizer

# Sampling that suits the small voice: at 0.8 a recogniser misses nearly twice as many words.
GENERATION = {"temperature": 0.2, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.0, "do_sample": True}
# The text channel only chooses when to end; upstream's temperature of 1.5 would end one frame in a hundred too early.
GENERATION |= {"text_temperature": 0.4}
# What it learned from: letters, punctuation without quotes; nineteen in twenty sentences have at most 74 characters.
TEXTS = {
    "alphabet": f" !',-.?{ascii_uppercase}{ascii_lowercase}",
    "ends_in_stop": True,
    "follows": [],
    "language": "en",
    "longest_segment": 74,
    "numbers": "words",
}
UNUSED = "model.language_model.embed_tokens.weight"


def half(model: nn.Module) -> dict[str, Tensor]:
    """state_dict() in float16; a value that float16 cannot hold is an error."""
    tensors = {name: value.detach().cpu().to(torch.float16).contiguous() for name, value in model.state_dict().items()}
    lost = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if lost:
        raise ValueError(f"not finite in float16: {', '.join(lost)}")
    return tensors


def write_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file that everyone may read; safetensors itself makes it private."""
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def export_codec(codec: Codec, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / "model.safetensors", half(codec))
    write_json(folder / "config.json", codec.config)


def export_model(model: LocalModel, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = half(model)
    # Upstream's backbone has a text embedding that nothing reads; as zeros it costs nothing once compressed.
    tensors[UNUSED] = torch.zeros_like(tensors["model.embedding_list.0.weight"])
    write_weights(folder / "model.safetensors", tensors)
    write_json(folder / "config.json", {**model.config, "text_preparation": TEXTS})
    write_json(folder / "generation_config.json", {**GENERATION, "pad_token_id": model.config["pad_token_id"]})
    save_tokenizer(tokenizer, folder)


def export(codec: Codec, model: LocalModel, tokenizer: Tokenizer, folder: Path) -> None:
    """A directory that the runtime loads like any checkpoint."""
    export_model(model, tokenizer, folder)
    export_codec(codec, folder / "audio_tokenizer")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.2f} MB")
