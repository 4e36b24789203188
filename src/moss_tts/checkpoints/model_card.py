"""The model card of a converted checkpoint: what the hub reads, and what people need to know."""

from __future__ import annotations

import re
from pathlib import Path

from moss_tts.checkpoints.plan import Plan
from moss_tts.device.memory import size

# In the front matter of the source's card, if it has one.
LICENSE = re.compile(r"\A---\n(?:.*\n)*?license: *(\S+) *\n")
TAGS = ("mlx", "moss-tts", "text-to-speech")


def model_card(name: str, base_model: str | None, planned: Plan, source: Path, codec: str = "") -> str:
    """README.md of a copy.

    Args:
        name: of the copy, or its hub id.
        base_model: hub id of the source, if it has one.
        planned: what was written.
        source: directory of the source; the copy has the same licence.
        codec: a line that says where the codec is.
    """
    origin = base_model or source.resolve().name
    return "\n".join(
        [
            "---",
            *_front_matter(base_model, planned, source),
            "---",
            "",
            f"# {name}",
            "",
            f"{origin}, {_words(planned)}, for [MLX](https://github.com/ml-explore/mlx). Made with `moss-tts convert`.",
            "",
            "```bash",
            f'moss-tts generate "Hello there." --model {name} --output hello.wav',
            "```",
            "",
            *_details(planned),
            *([codec, ""] if codec else []),
        ]
    )


def _front_matter(base_model: str | None, planned: Plan, source: Path) -> list[str]:
    lines = ["library_name: mlx", "pipeline_tag: text-to-speech"]
    card = source / "README.md"
    found = LICENSE.match(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    if found:
        lines.append(f"license: {found[1]}")
    if base_model is not None:
        lines.append(f"base_model: {base_model}")
        if planned.precisions:
            lines.append("base_model_relation: quantized")
    return [*lines, "tags:", *(f"- {tag}" for tag in TAGS)]


def _words(planned: Plan) -> str:
    if planned.recipe is None:
        return "unquantised"
    low, high = planned.recipe.low, planned.recipe.high
    bits = f"{low.bits}" if low == high else f"{low.bits} and {high.bits}"
    return f"quantised to {bits} bit ({low.mode}, groups of {low.group_size})"


def _details(planned: Plan) -> list[str]:
    if planned.recipe is None:
        return []
    lines = [
        f"{planned.bits_per_weight:.2f} bits per weight, {size(planned.nbytes)}. Embeddings, norms and audio "
        f"heads are not quantised."
    ]
    if planned.recipe.low != planned.recipe.high:
        high = sum(precision == planned.recipe.high for precision in planned.precisions.values())
        lines.append(f"{high} of {len(planned.precisions)} quantised layers have {planned.recipe.high.bits} bit.")
    if planned.calibrated:
        lines.append("Rounded by what the layers hear while the source speaks (GPTQ, arXiv:2210.17323).")
    return [*lines, ""]
