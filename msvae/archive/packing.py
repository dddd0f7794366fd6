"""Writing an archive of a run, and opening one: a zip of regular files, whose sizes are known before they are read."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import msvae
from msvae.archive.crate import METADATA, README, crate
from msvae.errors import RunError
from msvae.files.border import check_folder, fitting
from msvae.files.json_values import read_json
from msvae.run.directory import Run
from msvae.run.outside import named_paths

__all__ = ["inputs_of", "pack", "unpack"]

WRITTEN = ("scratch",)  # settings that name a folder that is written to
INPUTS = "inputs.json"  # the files that the study names, by key, and their path in the archive
LEFT_OUT = (README, "run.lock", "workers", "checkpoint.safetensors", "status.json", INPUTS, METADATA)
LICENSE = "https://creativecommons.org/licenses/by/4.0/"
PAGE = """# {title}

{description}

`msvae reproduce` with this archive repeats the run from the inputs in it and compares the results
(msvae {version}, Python {python}; all versions are in requirements.txt). `study.toml` has every setting,
`evaluations/` what the solver said, `report.html` the figures, if they were drawn.
"""
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in the zip, so that one run gives one archive
MOST, DENSEST = 200_000, 1100  # files; bytes that a packed byte can stand for (deflate: 1032)
PIECE = 1 << 20


def pack(directory: Path, output: Path, *, trust: bool = False, license_name: str = LICENSE) -> Path:
    """Write a finished run as a zip and return its path; the files that its study names go into it.

    RunError if the run is not finished, or the file is there already.
    """
    run = Run.open(directory, trust=trust)
    if run.read_json("summary.json") is None:
        raise RunError(f"'{directory}' is not finished: go on with --resume, and archive it then")
    if output.exists():
        raise RunError(f"'{output}' is there already: give another --output")
    entries = dict(_of_run(directory))
    inputs, keys = _inputs(run)
    provenance = run.read_json("provenance.json", dict[str, Any]) or {}
    packages = provenance.get("packages", {})
    written = {
        "requirements.txt": "".join(f"{name}=={version}\n" for name, version in sorted(packages.items())).encode(),
        INPUTS: json.dumps(keys, indent=1).encode(),
        README: PAGE.format(**_about(run, provenance)).encode(),
    }
    sizes = {name: path.stat().st_size for name, path in {**entries, **inputs}.items()}
    sizes |= {name: len(content) for name, content in written.items()}
    about = _about(run, provenance)
    written[METADATA] = crate(dict(sorted(sizes.items())), about, inputs=sorted(inputs), license_name=license_name)
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(written.items()):
                archive.writestr(_info(name), content)
            for name, path in sorted({**entries, **inputs}.items()):
                with path.open("rb") as source, archive.open(_info(name), "w", force_zip64=True) as target:
                    shutil.copyfileobj(source, target, PIECE)
        os.replace(temporary, output)
    except OSError as error:
        raise RunError(
            f"'{output}' cannot be written: {error.strerror}; free some space, or give another --output"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return output


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into a folder that is not there yet.

    RunError for a file that is no archive, or that would write outside of the folder, or more than it can hold.
    """
    if folder.exists():
        raise RunError(f"'{folder}' is there already: remove it, or give another --output")
    try:
        with zipfile.ZipFile(archive) as content:
            entries = _checked(archive, content)
            folder.mkdir(parents=True)
            for entry in entries:
                place = folder / entry.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                with content.open(entry) as source, place.open("xb") as target:
                    _copied(source, target, entry.file_size)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError, zlib.error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunError(f"'{archive}' is no archive of a run: {error}") from None
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise RunError(f"'{archive}' cannot be unpacked into '{folder}': {error.strerror}") from None
    check_folder(folder)


def inputs_of(folder: Path) -> list[str]:
    """Return settings that name the inputs of an unpacked archive, "key.path=value"."""
    with fitting(folder, "inputs"):
        keys = read_json(folder / INPUTS) or {}
        return [f"{key}='{(folder / path).resolve()}'" for key, path in _texts(keys)]


def _of_run(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a run, without those of a job that works on it; links are followed only within it."""
    check_folder(directory)
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name.split("/")[0] not in LEFT_OUT and not path.name.startswith("."):
            yield name, path


def _inputs(run: Run) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the files outside of the run that its study names, by their path in the archive, and these by key."""
    files: dict[str, Path] = {}
    keys: dict[str, str] = {}
    for key, text in named_paths(run.study):
        path = Path(text)
        if key[0] not in ("dataset", "solver") or not path.exists() or not _is_one_file(run, key):
            continue
        place = f"inputs/{len(keys)}-{re.sub(r'[^A-Za-z0-9._-]', '_', path.name)}"
        keys[".".join(key)] = place
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.is_file() and not p.is_symlink())
            files |= {f"{place}/{p.relative_to(path).as_posix()}": p for p in inside}
        else:
            files[place] = path
    return files, keys


def _is_one_file(run: Run, key: tuple[str, ...]) -> bool:
    """Return whether a setting is a path alone, which another can take the place of, of something that is read."""
    return key[1] not in WRITTEN and isinstance(getattr(getattr(run.study, key[0]), key[1]), (str, Path))


def _about(run: Run, provenance: dict[str, Any]) -> dict[str, Any]:
    summary = run.read_json("summary.json", dict[str, Any]) or {}
    title = run.study.title or summary.get("title") or run.path.name
    created = str(provenance.get("created", "1970-01-01T00:00:00+00:00"))
    log = run.path / "log.jsonl"
    last = log.read_text(errors="replace").splitlines()[-1:] if log.is_file() else []
    ended = next((str(json.loads(line).get("time", created)) for line in last), created)
    host = provenance.get("host", {})
    image = provenance.get("environment", {}).get("APPTAINER_CONTAINER")
    said = f"A run of msvae: campaign {run.study.campaign.name}. {summary.get('title', '')}"
    return {"title": title, "description": said,
            "campaign": run.study.campaign.name,
            "digest": run.study.digest[:16], "created": created, "ended": ended, "version": msvae.__version__,
            "python": provenance.get("python", "3"), "host": host.get("name", "a machine"), "image": image}  # fmt: skip


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info


def _checked(archive: Path, content: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files in an archive; ValueError if one may not be unpacked."""
    entries = [entry for entry in content.infolist() if not entry.is_dir()]
    names = [entry.filename for entry in entries]
    if len(names) > MOST or len(set(names)) < len(names):
        raise ValueError(f"expected at most {MOST} files, none of them twice")
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        kind = entry.external_attr >> 28  # of the file's mode: 0 unknown, 8 regular
        if kind not in (0, 8) or not parts or entry.filename.startswith("/") or "\\" in entry.filename or ".." in parts:
            raise ValueError(f"'{entry.filename}' is no regular file below the archive")
        if entry.file_size > DENSEST * entry.compress_size + PIECE:
            raise ValueError(f"'{entry.filename}' claims {entry.file_size} bytes of {entry.compress_size}")
    total = sum(entry.file_size for entry in entries)
    free = shutil.disk_usage(archive.resolve().parent).free
    if total > 0.9 * free:
        raise ValueError(f"it needs {total} bytes, and {free} are free")
    if "study.toml" not in names:
        raise ValueError("it has no study.toml")
    return entries


def _copied(source: Any, target: Any, size: int) -> None:
    """Copy exactly so many bytes; ValueError if there are more or fewer."""
    left = size
    while piece := source.read(min(PIECE, left + 1)):
        left -= len(piece)
        if left < 0:
            raise ValueError("a file is larger than it claims")
        target.write(piece)
    if left:
        raise ValueError("a file is cut off")


def _texts(keys: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(keys, dict):
        raise ValueError(f"{INPUTS} is a table of keys")
    for key, path in keys.items():
        if not re.fullmatch(r"(dataset|solver)(\.\w+)+", str(key)) or not re.fullmatch(r"inputs/[\w.-]+", str(path)):
            raise ValueError(f"{INPUTS}: '{key}' is no key of a study with a file of the archive")
        yield str(key), str(path)
