"""What a page says of the machine: parts and versions, but no name of it, of its user, or of a folder."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, metadata, version

import mlx.core as mx

from moss_tts.checkpoints.footprint import machine_memory
from moss_tts.checkpoints.inspection import machine
from moss_tts.device.memory import size

PACKAGE = "moss-tts-mlx"
LIBRARIES = ("mlx", "mlx-metal", "mlx-cuda-12", "mlx-cuda-13", "mlx-cpu", "mlx-lm", "transformers", "numpy")


def facts() -> dict[str, str]:
    """The name of each fact -> the fact, in the order in which people read them."""
    ours, on_cpu = machine(), mx.default_device() == mx.cpu
    found = {
        "device": ours.device,
        "device memory": "" if on_cpu else size(machine_memory()),
        "processor": f"{mx.device_info(mx.Device(mx.cpu)).get('device_name', 'unknown')}, {os.cpu_count()} cores",
        "memory": size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        "system": _system(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        PACKAGE: version(PACKAGE),
        "libraries": _libraries(),
        "load before the run": f"{os.getloadavg()[0]:.1f}, over the last minute",
    }
    if on_cpu:
        found["products on the CPU"] = (
            f"OpenBLAS {_words(ours.openblas.status)}, C code {_words(ours.c.status)}, "
            f"packed weights in {'C' if ours.packed.in_use else 'mlx'}"
        )
    return {name: fact for name, fact in found.items() if fact}


def issues_address() -> str:
    """Where this project takes issues."""
    addresses = dict(line.split(", ", 1) for line in metadata(PACKAGE).get_all("Project-URL") or [])
    return addresses.get("Issues", "the issues of the project")


def _words(status: object) -> str:
    return str(getattr(status, "name", status)).lower().replace("_", " ")


def _system() -> str:
    if platform.system() == "Darwin":
        name = f"macOS {platform.mac_ver()[0]}"
    else:
        try:
            name = platform.freedesktop_os_release()["PRETTY_NAME"]
        except (OSError, KeyError):
            name = f"{platform.system()} {platform.release()}"
    return f"{name}, {platform.machine()}"


def _libraries() -> str:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
