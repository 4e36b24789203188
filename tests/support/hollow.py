"""Checkpoints of the published sizes whose weights are a hole in the disk: only their headers can be read."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

from moss_tts.architectures import ARCHITECTURES
from moss_tts.config import parse_config


def hollow_checkpoint(directory: Path, raw: dict[str, Any]) -> Path:
    """Write the config.json and a header with upstream's names and shapes in bfloat16."""
    directory.mkdir()
    config = parse_config(raw)
    kind = ARCHITECTURES[type(config)]
    header, end = {}, 0
    for name, shape in kind.layout.upstream_shapes(kind.network_class(config), config.n_vq).items():
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    content = json.dumps(header).encode()
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end)
    (directory / "config.json").write_text(json.dumps(raw))
    return directory
