"""Models on disk: weights as safetensors, the blueprint as TOML beside them; nothing is pickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli_w
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from msvae.errors import RunError
from msvae.files.atomic import write_atomically
from msvae.files.border import content_of, fitting, read_toml
from msvae.files.hdf5 import UNREADABLE
from msvae.plugins.interfaces import Architecture
from msvae.structures import Quantity, Specification
from msvae.study import load_plugin
from msvae.study.settings import ModelSettings, StructureHeadSettings
from msvae.study.source import Source
from msvae.vae.blueprint import Blueprint
from msvae.vae.model import VAE
from msvae.vae.priors.aggregate import Aggregate
from msvae.vae.priors.latent_flow import LatentFlow
from msvae.vae.spatial import Texture
from msvae.vae.structure_head import StructureHead

DIGEST = "sha256"
FEW = 1 << 12  # latents, features, layers' widths that need no weights to back them
VOXELS, VOXELS_PER_WIDTH = 1 << 24, 1 << 12  # of a structure: that need none, and for each unit of the widest layer

__all__ = ["load_model", "load_structure_head", "load_tensors", "save_model", "save_structure_head", "save_tensors"]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and plain metadata to one safetensors file, atomically, with the SHA-256 of both."""
    contiguous = {name: t.detach().contiguous() for name, t in tensors.items()}
    header, body = _parts(to_bytes(contiguous, {"msvae": json.dumps(metadata)}))
    header["__metadata__"][DIGEST] = _digest(header, body)
    head = json.dumps(header).encode()
    head = head.ljust(-(-len(head) // 8) * 8)  # tensors begin at multiples of eight bytes
    write_atomically(path, len(head).to_bytes(8, "little") + head + body)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the metadata of a file that `save_tensors` wrote; RunError if it is not one, or changed.

    A file of an older version, which has no SHA-256, is read without that check.
    """
    try:
        content = content_of(path)
        header, body = _parts(content)
        metadata = header["__metadata__"]
        if DIGEST in metadata and metadata[DIGEST] != _digest(header, body):
            raise ValueError("its content does not have the SHA-256 that it was written with")
        return from_bytes(content), json.loads(metadata["msvae"])
    except (SafetensorError, RecursionError, *UNREADABLE) as error:
        raise RunError(
            f"'{path}' is not a file of msvae tensors ({error}): delete it, or restore it from a copy"
        ) from None


def _parts(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Return the header and the tensors' bytes of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    if end > len(content):
        raise ValueError("it is cut off")
    return json.loads(content[8:end]), memoryview(content)[end:]


def _digest(header: Mapping[str, Any], body: memoryview) -> str:
    """Return the SHA-256 of a header without its digest, and of the tensors' bytes."""
    metadata = {name: text for name, text in header["__metadata__"].items() if name != DIGEST}
    digest = hashlib.sha256(json.dumps({**header, "__metadata__": metadata}, sort_keys=True).encode())
    digest.update(body)
    return digest.hexdigest()


def save_structure_head(head: StructureHead, path: Path) -> None:
    """Write a structure-space head's weights, and the quantities that it predicts, to `path` (.safetensors)."""
    save_tensors(path, head.state_dict(), {"quantities": [dataclasses.asdict(q) for q in head.quantities]})


def load_structure_head(
    path: Path, specification: Specification, settings: StructureHeadSettings, architecture: Architecture
) -> StructureHead:
    """Return the head that `save_structure_head` wrote, for structures of this specification; RunError if not valid."""
    tensors, metadata = load_tensors(path)
    try:
        quantities = TypeAdapter(tuple[Quantity, ...]).validate_python(metadata["quantities"])
    except (KeyError, TypeError, ValidationError) as error:
        raise RunError(f"'{path}' is not a structure-space head ({error}): delete it, and --resume") from None
    head = StructureHead(specification, quantities, settings, architecture)
    restore(head, tensors, path)
    return head.eval()


def save_model(vae: VAE, path: Path) -> None:
    """Write the weights to `path` (.safetensors) and the blueprint beside it, under the same name with .toml."""
    blueprint = vae.blueprint
    architecture = {"name": blueprint.architecture.name, **dataclasses.asdict(blueprint.architecture)}
    tables = {
        "specification": dataclasses.asdict(blueprint.specification),
        "settings": dataclasses.asdict(blueprint.settings),
        "architecture": architecture,
        "quantities": [dataclasses.asdict(q) for q in blueprint.quantities],
        "aggregate": None if vae.aggregate is None else vae.aggregate.description,
        "latent_flow": None if vae.latent_flow is None else {"properties": vae.latent_flow.properties},
    }
    write_atomically(path.with_suffix(".toml"), tomli_w.dumps(_without_none(tables)).encode())
    save_tensors(path, vae.state_dict(), {})


def load_model(path: Path) -> VAE:
    """Return the model that `save_model` wrote; RunError if the files are not a model."""
    with fitting(path, "loading"):
        return _loaded_model(path)


def _loaded_model(path: Path) -> VAE:
    toml = path.with_suffix(".toml")
    tables = read_toml(toml, "the description of a model")
    tensors, _ = load_tensors(path)
    try:
        _check_size(tables, tensors, path)
        blueprint = Blueprint(
            specification=_typed(Specification, tables["specification"]),
            settings=_typed(ModelSettings, tables["settings"]),
            architecture=load_plugin(Architecture, tables["architecture"], Source(str(toml), "")),
            quantities=tuple(_typed(Quantity, q) for q in tables["quantities"]),
        )
        aggregate = _aggregate(blueprint, tables.get("aggregate"))
        names = tables.get("latent_flow", {}).get("properties", ())
        flow = LatentFlow(blueprint.settings.latents, tuple(names)) if names else None
    except (KeyError, TypeError, ValidationError) as error:
        raise RunError(
            f"'{toml}' does not describe a model ({type(error).__name__}: {error}): restore it from a copy"
        ) from None
    _check_weights(blueprint, tensors, path)
    vae = VAE(blueprint, aggregate, flow)
    restore(vae, tensors, path)
    return vae.eval()


def _check_size(tables: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    """RunError if tables describe a model far larger than the weights in a file; checked before allocating memory."""
    widest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    sized = (tables["settings"], tables["architecture"], tables.get("aggregate", {}))
    asked = max((n for table in sized for n in _integers(table)), default=0)
    voxels = math.prod(_integers(tables["specification"]))
    if asked > max(widest, FEW) or voxels > max(VOXELS, VOXELS_PER_WIDTH * widest):
        raise RunError(f"'{path}' holds the weights of another model: a far smaller one than is described")


def _check_weights(blueprint: Blueprint, tensors: Mapping[str, Tensor], path: Path) -> None:
    """RunError if a model's weights differ in shape from those in a file; checked before allocating memory."""
    try:
        with torch.device("meta"):
            expected = VAE(blueprint).state_dict()
    except (RuntimeError, TypeError, ValueError):  # an architecture that computes something while it is made
        return
    for name, tensor in expected.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            raise RunError(f"'{path}' holds the weights of another model: those of '{name}' do not fit")


def _integers(value: Any) -> Iterator[int]:
    """Yield every integer in nested plain values."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _integers(item)


def _aggregate(blueprint: Blueprint, description: dict[str, Any] | None) -> Aggregate | Texture | None:
    settings, width = blueprint.settings, blueprint.settings.condition_width
    if description is None:
        return None
    if description["kind"] != Texture.kind:
        return Aggregate(settings.latents, width, **description)
    above = Aggregate(settings.global_latents, width, **description["above"]) if "above" in description else None
    return Texture(settings.latents, width, blueprint.sites, blueprint.specification.grid.periodic, above)


def restore(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a module; RunError if they do not fit it."""
    try:
        module.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise RunError(f"'{path}' holds the weights of another model: {str(error).splitlines()[0]}") from None


def _typed(cls: type[Any], table: Mapping[str, Any]) -> Any:
    return TypeAdapter(cls).validate_json(json.dumps(table))


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, (list, tuple)) else value
