"""Where a run ran: versions, hardware, processes, the code's commit."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("vitmason", "torch", "torchvision", "numpy", "pillow", "einops", "attrs", "webdataset", "safetensors")
PATIENCE_S = 5  # for git, on a slow file system


def environment(device: torch.device, world_size: int) -> dict[str, Any]:
    """{"date", "versions", "hardware", "device", "world_size", "git"}, JSON-able, of this process's machine now."""
    return {
        "date": now(),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "hardware": _hardware(),
        "device": str(device),
        "world_size": world_size,
        "git": _git(Path.cwd()),
    }


def now() -> str:
    """The date and time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    gpus = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    system = {"platform": platform.platform(), "cpu": _cpu(), "cores": cores, "memory_gb": round(memory / 1e9, 1)}
    return system | {"gpus": gpus, "cuda": torch.version.cuda if gpus else None}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _git(folder: Path) -> dict[str, Any] | None:
    """{"commit", "changed": whether files differ from it} of the repository around a folder; None where is none."""
    commit = _said(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    return {"commit": commit, "changed": bool(_said(folder, "status", "--porcelain", "--untracked-files=no"))}


def _said(folder: Path, *command: str) -> str:
    try:
        run = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
