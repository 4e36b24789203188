"""Checkpoints that travel: weights in float32, Adam's moments in bfloat16, in files of at most 14 MiB.

A checkpoint is a folder; it is written beside the old one and then takes its place, so a kill never harms it: at
every moment one of the two is whole and is found.
"""

import json
import shutil
from itertools import count
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

PART_BYTES = 14 << 20


def split(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors in order, in groups of at most PART_BYTES."""
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        size += tensor.nbytes
        if size > PART_BYTES and parts[-1]:
            parts.append({})
            size = tensor.nbytes
        parts[-1][name] = tensor.contiguous().cpu()
    return parts


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter, {})
        for key in ("exp_avg", "exp_avg_sq"):
            if key in state:
                found[f"{key}/{name}"] = state[key].to(torch.bfloat16)
    return found


def save(folder: Path, step: int, models: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> None:
    """Models and optimizers by name; buffers that state_dict() leaves out are kept too."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tensors = {}
    for name, model in models.items():
        tensors |= {f"{name}/{k}": v for k, v in [*model.named_parameters(), *model.named_buffers()]}
        tensors |= {f"{name}/{k}": v for k, v in moments(model, optimizers[name]).items()}
    for number, part in enumerate(split({k: v.detach() for k, v in tensors.items()})):
        save_file(part, fresh / f"part-{number:02d}.safetensors")
    (fresh / "step.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(earlier(folder), ignore_errors=True)
    if folder.exists():
        folder.rename(earlier(folder))
    fresh.rename(folder)
    shutil.rmtree(earlier(folder), ignore_errors=True)


def earlier(folder: Path) -> Path:
    """Where the last checkpoint is while a newer one takes its place."""
    return folder.with_name(folder.name + ".old")


def whole(folder: Path) -> Path | None:
    """The newest complete checkpoint of `folder`; None where there is none."""
    return next((path for path in (folder, earlier(folder)) if (path / "step.json").exists()), None)


def read(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number in count():
        part = folder / f"part-{number:02d}.safetensors"
        if not part.exists():
            return tensors
        tensors |= load_file(part)


def restore(folder: Path, models: dict[str, nn.Module], optimizers: dict[str, torch.optim.Optimizer]) -> int:
    """The step of the checkpoint in `folder`, its values put in place; 0 and nothing done where there is none."""
    found = whole(folder)
    if found is None:
        return 0
    step = int(json.loads((found / "step.json").read_text())["step"])
    tensors = read(found)
    for name, model in models.items():
        if any(key.startswith(f"{name}/") for key in tensors):
            restore_one(name, model, optimizers.get(name), tensors, step)
    return step


@torch.no_grad()
def restore_one(
    name: str, model: nn.Module, optimizer: torch.optim.Optimizer | None, tensors: dict[str, Tensor], step: int
) -> None:
    for key, value in [*model.named_parameters(), *model.named_buffers()]:
        value.copy_(tensors[f"{name}/{key}"])
    for key, parameter in model.named_parameters() if optimizer else ():
        if f"{name}/exp_avg/{key}" in tensors:
            found = {part: tensors.get(f"{name}/{part}/{key}") for part in ("exp_avg", "exp_avg_sq")}
            kept = {part: value.to(parameter) for part, value in found.items() if value is not None}
            optimizer.state[parameter] = {"step": torch.tensor(float(step)), **kept}


def slim(folder: Path, to: Path, name: str) -> None:
    """A copy of the checkpoint with nothing but the values of one model."""
    kept = {key: value for key, value in read(folder).items() if key.startswith(f"{name}/") and "/exp_avg" not in key}
    to.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(split(kept)):
        save_file(part, to / f"part-{number:02d}.safetensors")
    shutil.copy(folder / "step.json", to / "step.json")


def demand(folder: Path, models: dict[str, nn.Module]) -> int:
    """As `restore` without optimizers, but a missing checkpoint is an error."""
    if whole(folder) is None:
        raise FileNotFoundError(f"no checkpoint in {folder}: run that training stage first")
    return restore(folder, models, {})
