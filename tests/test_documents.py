"""What the pages say is so: keys of studies, plugins, files, targets of make; and what runs before a commit."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import msvae
from msvae import plugins
from msvae.plugins.registration import Hooks
from msvae.structures.evaluations import COLUMNS, ESTIMATES
from msvae.study.schema import schema

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *(page for pattern in ("CONTRIBUTING.md", "docs/*.md", "*/README.md", "examples/*/README.md",
                                        "benchmarks/*.md") for page in sorted(ROOT.glob(pattern))
                  if not page.parent.name.startswith("."))]  # fmt: skip
SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4,}\S.*$", re.MULTILINE)
KEY = re.compile(r"(?:\[(?P<table>\w+)\](?: (?P<key>\w+))?|(?P<path>\w+(?:\.\w+)+)|(?P<alone>\w+)(?= = ))(?: = .*)?")
FILE = re.compile(r"\.(h5|jsonl?|py|toml)$")
Json = dict[str, Any]


def named(paths: list[Path]) -> list[Any]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


@cache
def whole() -> Json:
    return schema()


def keys_of(node: Json) -> dict[str, list[Json]]:
    """Return the keys of a table, and of the tables in a list, in whichever of its alternatives they are."""
    found: dict[str, list[Json]] = {}
    if "$ref" in node:
        node = whole()["$defs"][node["$ref"].rpartition("/")[2]]
    for key, value in node.get("properties", {}).items():
        found.setdefault(key, []).append(value)
    for inner in (*node.get("anyOf", ()), *node.get("oneOf", ()), *([node["items"]] if "items" in node else ())):
        for key, values in keys_of(inner).items():
            found.setdefault(key, []).extend(values)
    return found


def named_only(node: Json, name: object) -> Json:
    """Return the alternative of a plugin's table that has this name, or the table as it is."""
    return next(
        (c for c in node.get("anyOf", ()) if c.get("properties", {}).get("name", {}).get("const") == name), node
    )


def unknown(value: Any, nodes: list[Json], place: str = "") -> Iterator[str]:
    """Yield the keys of a table that the schema has not."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict) or any(isinstance(node.get("additionalProperties"), dict) for node in nodes):
            continue
        keys: dict[str, list[Json]] = {}
        for node in nodes:
            keys |= keys_of(named_only(node, item.get("name")))
        for key, inner in item.items():
            if key not in keys:
                yield f"{place}{key}"
            else:
                yield from unknown(inner, keys[key], f"{place}{key}.")


def anywhere() -> set[str]:
    """Return every key of every table."""
    tables = [*whole()["$defs"].values(), whole()]
    plugged = [choice for table in whole()["properties"].values() for choice in table.get("anyOf", ())]
    return {key for table in [*tables, *plugged, *whole()["properties"].values()] for key in keys_of(table)}


def mistakes(block: str) -> list[str]:
    """Return what is wrong in a block of TOML: a whole study is valid, and in a part of one every key is known."""
    tables = tomllib.loads(block)
    wrong = [] if "plugin_files" in tables else list(unknown(tables, [whole()]))  # a file may bring tables
    if "campaign" in tables:
        wrong += [error.message for error in jsonschema.Draft202012Validator(whole()).iter_errors(tables)]
    return wrong


def keys_in(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys that a page names in `code` and in commands, with their tables; "" where it names no table."""
    prose = INDENTED.sub("", FENCED.sub("", text))
    for span in SPAN.findall(prose):
        match = KEY.fullmatch(" ".join(span.split()))
        if match and match["table"]:
            yield (match["table"], match["key"]) if match["key"] else (match["table"],)
        elif match and match["alone"]:
            yield ("", match["alone"])
        elif match and match["path"].split(".")[0] in whole()["properties"] and not FILE.search(span):
            yield tuple(match["path"].split("."))
    for path in re.findall(r"--set '?([\w.]+)=", text):
        yield tuple(path.split(".")) if "." in path else ("", path)


def is_known(path: tuple[str, ...]) -> bool:
    if path[0] == "":
        return path[1] in anywhere()
    nodes = [whole()]
    for key in path:
        found: dict[str, list[Json]] = {}
        for node in nodes:
            found |= keys_of(node)
        if key not in found:
            return False
        nodes = found[key]
    return True


@pytest.mark.parametrize("page", named([page for page in PAGES if page.parent.parent != ROOT / "examples"]))
def test_every_key_that_a_page_names_is_a_key_of_a_study(page: Path) -> None:
    text = page.read_text()
    assert [".".join(path) for path in keys_in(text) if not is_known(path)] == []
    assert [wrong for language, block in FENCED.findall(text) if language == "toml" for wrong in mistakes(block)] == []


def test_a_wrong_key_would_be_found() -> None:
    said = (
        "`[modell]`, `[model] latent`, `trainings = 3`, `training.epoch = 3`, `--set design.bugdet=3`; `training.gap`"
    )
    assert [path for path in keys_in(said) if not is_known(path)] == [
        ("modell",), ("model", "latent"), ("", "trainings"), ("training", "epoch"), ("design", "bugdet"),
    ]  # fmt: skip
    assert mistakes("[training]\nepoch = 3\n[design]\ntargets = [{ property = 'a', walue = 1.0 }]") == [
        "training.epoch",
        "design.targets.walue",
    ]
    assert mistakes('[solver]\nname = "conductivity"\nphases = [{ conductivity = 1.0, density = 2.0 }]') != []
    assert mistakes("[training]\nepochs = 3\n[executor]\nretries = { crashed = 1 }") == []
    assert mistakes('campaign = "label"\n[training]\nepochs = 0') != []


def test_every_word_with_an_underscore_in_readme_is_a_key_a_column_or_a_hook() -> None:
    words = {span for span in SPAN.findall(README.read_text()) if re.fullmatch(r"[a-z]+(_[a-z]+)+", span)}
    assert sorted(words - anywhere() - {*COLUMNS, *ESTIMATES} - set(vars(Hooks))) == []


def test_what_readme_imports_exists() -> None:
    code = "\n".join(block for language, block in FENCED.findall(README.read_text()) if language == "python")
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "msvae":
            assert node.attr in msvae.__all__


@pytest.mark.parametrize("page", named(PAGES))
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[\w-]*)?\)", FENCED.sub("", page.read_text()))
    assert [t for t in targets if "://" not in t and not (page.parent / t).exists()] == []


def test_readme_names_every_plugin_and_every_example() -> None:
    spans = {" ".join(span.split()) for span in SPAN.findall(FENCED.sub("", README.read_text()))}
    ours = {name for (_, name), entry in plugins.registry().loaded.items() if entry.distribution == "msvae"}
    assert sorted(ours - spans) == []
    examples = {f"examples/{path.name}" for path in (ROOT / "examples").iterdir() if path.is_dir()}
    assert sorted(examples - spans) == []


@pytest.mark.parametrize("page", named(PAGES))
def test_every_target_of_make_that_a_page_names_exists(page: Path) -> None:
    known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    lines = [*SPAN.findall(page.read_text()), *(line.strip() for line in INDENTED.findall(page.read_text()))]
    assert {match[1] for line in lines if (match := re.match(r"make ([\w-]+)", line))} <= known


def commands(target: str) -> list[str]:
    """Return the commands of a target of make, the set-up left out."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    command = ["make", "--dry-run", "--no-print-directory", "--old-file=setup", target]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_what_runs_before_a_commit_is_make_lint() -> None:
    hooks = [hook for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
             for hook in repository["hooks"]]  # fmt: skip
    assert {hook["language"] for hook in hooks} == {"system"}
    assert not any(hook["pass_filenames"] for hook in hooks)
    entries = [hook["entry"].split() for hook in hooks]
    assert all(program == "make" for program, _ in entries)
    lint = commands("lint")
    assert [command for _, target in entries for command in commands(target)] == lint
    assert [" ".join(command.split("/bin/")[1].split()[:2]) for command in lint] == [
        "ruff format",
        "ruff check",
        "mypy",
    ]


def test_a_report_of_a_bug_is_asked_for_what_is_needed() -> None:
    forms = {
        path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")
    }
    assert {name: [field["id"] for field in form["body"]] for name, form in forms.items()} == {
        "bug": ["study", "command", "version", "message", "log"],
        "feature": ["question", "study", "now", "source"],
    }
