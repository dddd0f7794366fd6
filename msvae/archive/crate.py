"""The metadata of an archive: a Workflow Run RO-Crate.

RO-Crate 1.1 (Soiland-Reyes et al. 2022, Data Science 5, 97), profile Workflow Run Crate 0.5 (Leo et al. 2024, PLOS ONE
19, e0309210): the study is the workflow, msvae the engine, the run an action with its inputs and results.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["METADATA", "README", "crate"]

METADATA, README = "ro-crate-metadata.json", "README.md"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
TERMS = {name: f"https://w3id.org/ro/terms/workflow-run#{name}" for name in ("ContainerImage", "containerImage")}
FORMATS = {
    ".toml": "application/toml", ".json": "application/json", ".jsonl": "application/x-ndjson",
    ".h5": "application/x-hdf5", ".html": "text/html", ".png": "image/png", ".py": "text/x-python",
    ".txt": "text/plain", ".csv": "text/csv", ".tif": "image/tiff", ".md": "text/markdown",
}  # fmt: skip
MEANT = {
    "study.toml": "The study: every setting of the run, with every default written out",
    "provenance.json": "Versions of all packages, plugins, MPI, host, processor and seed",
    "requirements.txt": "The installed packages with their versions, for pip",
    "structures.h5": "The structures of the data set, as loaded",
    "model.safetensors": "The trained model's weights",
    "summary.json": "The table of results",
    "report.html": "The report with its figures",
    "log.jsonl": "What happened, and when",
}


def crate(files: Mapping[str, int], about: Mapping[str, Any], *, inputs: Sequence[str], license_name: str) -> bytes:
    """Return the metadata file for files with their sizes in bytes, by their path in the archive.

    about: title, description, campaign, digest of the study, created, ended (ISO 8601), version of msvae, python, the
    user's host, image.
    inputs: those of the files that the run has read. license_name: an SPDX identifier or a URL, of the archive.
    """
    results = [name for name in files if name not in inputs and name != "study.toml"]
    graph = [
        {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"},
         "conformsTo": [{"@id": "https://w3id.org/ro/crate/1.1"},
                        {"@id": "https://w3id.org/workflowhub/workflow-ro-crate/1.0"}]},
        {"@id": "./", "@type": "Dataset", "name": about["title"], "description": about["description"],
         "datePublished": about["created"], "license": {"@id": license_name}, "mainEntity": {"@id": "study.toml"},
         "conformsTo": [{"@id": profile} for profile in PROFILES], "mentions": {"@id": "#run"},
         "hasPart": [{"@id": name} for name in files]},
        *({"@id": profile, "@type": "CreativeWork", "name": name, "version": version}
          for profile, (name, version) in PROFILES.items()),
        {"@id": license_name, "@type": "CreativeWork", "name": license_name},
        *(_file(name, size, about) for name, size in files.items()),
        {"@id": "#msvae-study", "@type": "ComputerLanguage", "name": "msvae study", "alternateName": "TOML",
         "identifier": {"@id": "https://toml.io/"}, "url": {"@id": "https://toml.io/"}},
        {"@id": "#msvae", "@type": "SoftwareApplication", "name": "msvae",
         "softwareVersion": about["version"], "softwareRequirements": f"Python {about['python']}"},
        {"@id": "#host", "@type": "Person", "name": f"user of {about['host']}"},
        {"@id": "#engine", "@type": "OrganizeAction", "name": f"msvae {about['version']} runs the study",
         "instrument": {"@id": "#msvae"}, "object": [], "result": {"@id": "#run"}, "agent": {"@id": "#host"},
         "startTime": about["created"], "endTime": about["ended"]},
        {"@id": "#run", "@type": "CreateAction", "name": f"campaign {about['campaign']}",
         "description": about["description"],
         "instrument": {"@id": "study.toml"}, "agent": {"@id": "#host"}, "startTime": about["created"],
         "endTime": about["ended"], "actionStatus": "http://schema.org/CompletedActionStatus",
         "object": [{"@id": name} for name in inputs], "result": [{"@id": name} for name in results],
         **({"containerImage": {"@id": "#image"}} if about.get("image") else {})},
    ]  # fmt: skip
    if about.get("image"):
        graph.append({"@id": "#image", "@type": "ContainerImage", "name": about["image"]})
    context = ["https://w3id.org/ro/crate/1.1/context", TERMS]
    return json.dumps({"@context": context, "@graph": graph}, indent=1).encode()


def _file(name: str, size: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entity of a file."""
    suffix = "." + name.rpartition(".")[2]
    entity: dict[str, Any] = {"@id": name, "@type": "File", "name": name, "contentSize": str(size),
              "encodingFormat": FORMATS.get(suffix, "application/octet-stream")}  # fmt: skip
    if name == README:
        entity["about"] = {"@id": "./"}
    if name in MEANT:
        entity["description"] = MEANT[name]
    if name == "study.toml":
        kinds: Any = ["File", "SoftwareSourceCode", "ComputationalWorkflow"]
        return {**entity, "@type": kinds, "programmingLanguage": {"@id": "#msvae-study"},
                "version": about["digest"]}  # fmt: skip
    return entity
