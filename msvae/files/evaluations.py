"""Evaluations on disk: one HDF5 file with a checksum.

The HDF5 superblock is preceded by 512 bytes of text with the SHA-256 of everything after them. It is checked before the
HDF5 library opens the file, so that damage is an error and never a crash or a wrong number.

/index, /cost, /seed, /rank, /iterations, /attempts, /cached   (n,)
/structure              (n,) ids of 16 characters            /latents           (n, d)
/status, /message, /solver, /study   (n,) numbers into the texts of the attribute or dataset "NAME texts"
/properties/NAME        (n, *shape), attribute "unit"        /packed            (n, bytes), if structures are kept
/errors/NAME, /iteration_errors/NAME   (n, *shape), NaN where there is no estimate
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from msvae.errors import RunError
from msvae.files.border import opened
from msvae.files.hdf5 import UNREADABLE, own
from msvae.structures import Array
from msvae.structures.evaluations import COLUMNS, ESTIMATES, ORIGIN, Evaluations

__all__ = ["evaluations_to_bytes", "read_evaluations"]

HEAD = 512  # bytes before the HDF5 superblock
MAGIC = b"msvae evaluations, HDF5 after 512 bytes, sha256 "


def evaluations_to_bytes(table: Evaluations) -> bytes:
    """Return the content of a file with this table."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=HEAD) as file:
        for name, column in table.columns.items():
            if column.dtype == object:
                _write_texts(file, name, column)
            else:
                file[name] = column.astype("S16") if column.dtype.kind == "U" else column
        for name, array in table.properties.items():
            file.create_dataset(f"properties/{name}", data=array).attrs["unit"] = table.units.get(name, "1")
        for family in ESTIMATES:
            for name, array in getattr(table, family).items():
                file[f"{family}/{name}"] = array
        if table.packed is not None:
            file.create_dataset("packed", data=table.packed, compression="gzip", compression_opts=1)
    body = memoryview(buffer.getbuffer())[HEAD:]
    return _head(hashlib.sha256(body).hexdigest()) + body


def read_evaluations(path: Path) -> Evaluations:
    """Return the table in a file; RunError if it is damaged or of another kind, FileNotFoundError if missing."""
    try:
        with opened(path) as content:
            _verify(content)
            content.seek(0)
            with h5py.File(content, "r") as file:
                return _read(file)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise RunError(
            f"'{path}' is not a complete file of evaluations ({error}): restore it from a copy, or delete it to "
            "evaluate its structures again"
        ) from None


def _verify(file: BinaryIO) -> None:
    digest = hashlib.sha256()
    head = file.read(HEAD)
    if not head.startswith(MAGIC):
        raise ValueError("its first line is not the expected one")
    while piece := file.read(1 << 20):
        digest.update(piece)
    if head != _head(digest.hexdigest()):
        raise ValueError("its content does not have the SHA-256 that it was written with")


def _head(digest: str) -> bytes:
    return (MAGIC + digest.encode() + b"\n").ljust(HEAD, b"\0")


def _read(file: Any) -> Evaluations:
    columns: dict[str, Array] = {}
    for name, kind in {**COLUMNS, **dict.fromkeys(ORIGIN, object), "latents": np.float64}.items():
        if name in file:
            columns[name] = _read_texts(file, name) if kind is object else own(file, name)[()].astype(kind, copy=False)
        elif name not in ORIGIN:
            raise KeyError(f"no column '{name}'")
    lengths = {len(c) for c in columns.values()}
    families = [_read_family(file, family) for family in ("properties", *ESTIMATES)]
    if len(lengths | {len(array) for family in families for array in family.values()}) != 1:
        raise ValueError("its columns have different lengths")
    properties, *estimates = families
    units = {name: str(own(file, f"properties/{name}").attrs["unit"]) for name in properties}
    return Evaluations(columns, properties, units, own(file, "packed")[()] if "packed" in file else None, *estimates)


def _read_family(file: Any, family: str) -> dict[str, Array]:
    names = list(own(file, family)) if family in file else []
    return {name: own(file, f"{family}/{name}")[()] for name in names}


def _write_texts(file: Any, name: str, column: Array) -> None:
    """Write a column of texts with many duplicates as integers and a list of distinct texts."""
    numbers: dict[str, int] = {}
    codes = np.fromiter((numbers.setdefault(text, len(numbers)) for text in column.tolist()), np.uint32, len(column))
    file[name] = codes
    file.create_dataset(f"{name} texts", data=[_clean(t) for t in numbers] or None, dtype=h5py.string_dtype(),
                        shape=(len(numbers),))  # fmt: skip


def _read_texts(file: Any, name: str) -> Array:
    texts = np.array([t.decode() for t in own(file, f"{name} texts")[()]] or [""], dtype=object)
    return np.asarray(texts[own(file, name)[()]])


def _clean(text: str) -> bytes:
    """Return a text without characters that HDF5 cannot store; a message may quote arbitrary solver output."""
    return text.replace("\0", "").encode(errors="replace")
