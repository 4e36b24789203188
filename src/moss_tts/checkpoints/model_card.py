"""The model card of a converted checkpoint: fields for the hub, and a description for people."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData, metadata_load

from moss_tts.checkpoints.plan import Plan
from moss_tts.device.memory import size

log = logging.getLogger(__name__)

# The licence in a card; a copy has the licence of its source.
LICENSE = ("license", "license_name", "license_link")
TAGS = ("mlx", "moss-tts")


@dataclass(frozen=True)
class Purpose:
    """What a card says of a kind of model.

    Attributes:
        task: the hub's name of what it does.
        example: a command with the name of the copy in it.
        kept: the parts that are never quantised.
    """

    task: str
    example: str
    kept: str


SPEECH = Purpose(
    "text-to-speech",
    'moss-tts generate "Hello there." --model {name} --output hello.wav',
    "Embeddings, norms and audio heads",
)
SOUND = Purpose(
    "text-to-audio",
    'moss-tts sound "Rain on a tin roof" --model {name} --output rain.wav',
    "Text encoder, decoder, norms and modulations",
)


def model_card(
    name: str, base_model: str | None, planned: Plan, source: Path, codec: str = "", purpose: Purpose = SPEECH
) -> str:
    """README.md of a copy.

    Args:
        name: the name of the copy, or its hub id.
        base_model: hub id of the source, if it has one.
        planned: what was written.
        source: directory of the source; the copy has the same licence.
        codec: a line that says where the codec is.
        purpose: what the model is for.
    """
    origin = base_model or source.resolve().name
    return "\n".join(
        [
            "---",
            _front_matter(base_model, planned, source, purpose.task),
            "---",
            "",
            f"# {name}",
            "",
            f"{origin}, {_words(planned)}, for [MLX](https://github.com/ml-explore/mlx). Made with `moss-tts convert`.",
            "",
            "```bash",
            purpose.example.format(name=name),
            "```",
            "",
            *_details(planned, purpose.kept),
            *([codec, ""] if codec else []),
        ]
    )


def _front_matter(base_model: str | None, planned: Plan, source: Path, task: str) -> str:
    said = _license(source)
    if base_model is not None and planned.precisions:
        said["base_model_relation"] = "quantized"
    card = ModelCardData(base_model=base_model, library_name="mlx", pipeline_tag=task, tags=[*TAGS, task], **said)
    return card.to_yaml()


def _license(source: Path) -> dict[str, Any]:
    card = source / "README.md"
    if not card.is_file():
        return {}
    try:
        said = metadata_load(card) or {}
    except (ValueError, yaml.YAMLError) as error:
        log.warning("%s says no licence that can be read, so the copy's card names none: %s", card, error)
        return {}
    return {key: said[key] for key in LICENSE if said.get(key)}


def _words(planned: Plan) -> str:
    if planned.recipe is None:
        return "unquantised"
    low, high = planned.recipe.low, planned.recipe.high
    bits = f"{low.bits}" if low == high else f"{low.bits} and {high.bits}"
    return f"quantised to {bits} bit ({low.mode}, groups of {low.group_size})"


def _details(planned: Plan, kept: str) -> list[str]:
    baked = ", ".join(f"`{name}` with weight {weight:g}" for name, weight in planned.adapters)
    return [
        *([f"LoRA adapters are baked into the weights: {baked}.", ""] if baked else []),
        *_precisions(planned, kept),
    ]


def _precisions(planned: Plan, kept: str) -> list[str]:
    if planned.recipe is None:
        return []
    lines = [f"{planned.bits_per_weight:.2f} bits per weight, {size(planned.nbytes)}. {kept} are not quantised."]
    if planned.recipe.low != planned.recipe.high:
        high = sum(precision == planned.recipe.high for precision in planned.precisions.values())
        lines.append(f"{high} of {len(planned.precisions)} quantised layers have {planned.recipe.high.bits} bit.")
    if planned.calibrated:
        lines.append("Rounded by what the layers hear while the source speaks (GPTQ, arXiv:2210.17323).")
    return [*lines, ""]
