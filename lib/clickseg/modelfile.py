"""A model on disk: weights beside a manifest that says what they are.

``<name>.pt`` holds plain tensors, float16 to halve the size; ``<name>.json`` the recipe, data,
seed, metrics and license. Both are written beside their place and moved there, the manifest
last: it names the hash of the weights, so a half-published pair is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clickseg import __version__
from clickseg.atomic import replacing, write_text
from clickseg.study import INTENSITY

LICENSE = "Apache-2.0"


@cache
def code_version() -> str:
    """Return the version with a hash of the package's source: two states of one version differ."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:8]}"


class ModelError(ValueError):
    """A model file is not what was wanted; the text says what was wanted and what came."""


@dataclass(frozen=True)
class Manifest:
    """What weights are: ``recipe`` is the whole configuration that made them.

    ``sha256`` is of the weights file; ``data`` says what they were trained on, ``intensity`` by
    which rule the images were normalized.
    """

    name: str
    recipe: dict[str, Any]
    data: dict[str, Any]
    metrics: dict[str, float]
    intensity: str = INTENSITY
    code_version: str = field(default_factory=code_version)
    license: str = LICENSE
    sha256: str = ""

    @property
    def short_hash(self) -> str:
        """The first twelve digits of the hash: how a result names its model."""
        return self.sha256[:12]


def save_model(folder: Path, network: nn.Module, manifest: Manifest) -> Manifest:
    """Write weights and manifest; return the manifest with the hash in it.

    Raises:
        ModelError: if a weight is no number, or too large for float16: a training that diverged.
    """
    # One tensor may have several names (MONAI's DynUNet lists its blocks twice): it is kept once.
    halves: dict[int, torch.Tensor] = {}
    state = {
        key: halves.setdefault(value.data_ptr(), _half(key, value))
        for key, value in network.state_dict().items()
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    values = asdict(manifest) | {"sha256": hashlib.sha256(content).hexdigest()}
    with replacing(folder / f"{manifest.name}.pt") as part:
        part.write_bytes(content)
    write_text(folder / f"{manifest.name}.json", json.dumps(values, indent=1) + "\n")
    return Manifest(**values)


def add_metrics(folder: Path, name: str, metrics: dict[str, float]) -> Manifest:
    """Write more metrics into the manifest of a model."""
    manifest = read_manifest(folder, name)
    manifest = replace(manifest, metrics=manifest.metrics | metrics)
    write_text(folder / f"{name}.json", json.dumps(asdict(manifest), indent=1) + "\n")
    return manifest


def read_manifest(folder: Path, name: str) -> Manifest:
    """Read the manifest of a model.

    Raises:
        ModelError: if it is missing or no manifest.
    """
    path = folder / f"{name}.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**values)
        for key in ("recipe", "data", "metrics"):
            if not isinstance(values[key], dict):
                raise TypeError(f"{key} must hold values by name, got {values[key]!r:.60}")
    except OSError as error:
        raise ModelError(f"no model {name!r} in {folder}: {path.name} is missing") from error
    except (ValueError, TypeError) as error:  # no text and no JSON are the former
        raise ModelError(f"{path} is no manifest of a model: {error}") from error
    if values.get("intensity") != INTENSITY:
        came = values.get("intensity")
        raise ModelError(f"{path}: intensity is {came!r}, this version normalizes by {INTENSITY!r}")
    return manifest


def check_weights(folder: Path, manifest: Manifest) -> bytes:
    """Return the content of the weights file that a manifest describes.

    Raises:
        ModelError: if the file is missing or another.
    """
    path = folder / f"{manifest.name}.pt"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"no weights at {path}") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise ModelError(f"{path} is not the file that {manifest.name}.json describes")
    return content


def load_weights(folder: Path, manifest: Manifest, network: nn.Module) -> None:
    """Load the weights a manifest names into a network; every key must fit.

    Raises:
        ModelError: if the file is missing, damaged or of another network.
    """
    path, content = folder / f"{manifest.name}.pt", check_weights(folder, manifest)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path} holds no weights: {error}") from error
    wanted = network.state_dict()
    for key in [*wanted, *state]:
        if key not in wanted or key not in state or wanted[key].shape != state[key].shape:
            came = tuple(state[key].shape) if key in state else "nothing"
            want = tuple(wanted[key].shape) if key in wanted else "nothing"
            raise ModelError(f"{path} is of another network: {key} is {came}, wanted {want}")
    network.load_state_dict(
        {key: value.to(wanted[key].dtype) for key, value in state.items()}, strict=True
    )


def _half(key: str, value: torch.Tensor) -> torch.Tensor:
    value = value.detach().cpu()
    if not value.is_floating_point():
        return value
    half = value.half()
    if not half.isfinite().all():
        raise ModelError(f"{key} holds what is no number of float16: the training diverged")
    return half
