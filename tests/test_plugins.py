"""Plugins: announced, found, refused with a reason, and held to their contract."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import msvae
from msvae import PluginError, plugins
from msvae.plugins import Announced, Registry, conformance, registration
from msvae.plugins.interfaces import Solver


@dataclass(frozen=True)
class Counting(msvae.Solver):
    """Counts."""

    name = "counting"
    computes = (msvae.Quantity("count", "1"),)
    dimensions = (0, 2, 3)

    def evaluate(self, structures: msvae.Structures) -> dict[str, Any]:
        return {"count": np.full(len(structures), 1.0)}


def module(name: str, **members: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(members)
    return made


def announce(registry: Registry, made: types.ModuleType, distribution: str = "dist") -> str | None:
    return registry.add(Announced(made.__name__, made.__name__, distribution), lambda: made)


def solvers(*classes: Any) -> Any:
    @msvae.hook
    def msvae_solvers() -> list[Any]:
        return list(classes)

    return msvae_solvers


def test_a_solver_is_found_by_its_name_and_by_no_other() -> None:
    registry = Registry()
    assert announce(registry, module("a", msvae_solvers=solvers(Counting))) is None
    assert registry.find(Solver, "counting") is Counting
    with pytest.raises(PluginError, match="did you mean 'counting'"):
        registry.find(Solver, "countng")


class Undecorated(Counting):
    pass


@dataclass(frozen=True)
class Abstract(msvae.Solver):
    name = "abstract"
    computes = (msvae.Quantity("q"),)


@dataclass(frozen=True)
class Computeless(msvae.Solver):
    name = "computeless"

    def evaluate(self, structures: msvae.Structures) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Strange(Counting):
    kinds = ("voxels",)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (module("empty"), "announces nothing"),
        (module("misspelt", msvae_solver=msvae.hook(lambda: [Counting])), "unknown hook"),
        (module("wrong", msvae_solvers=solvers(int)), "expected a subclass of msvae.Solver"),
        (module("undecorated", msvae_solvers=solvers(Undecorated)), "not a dataclass"),
        (module("abstract", msvae_solvers=solvers(Abstract)), "lacks the method evaluate"),
        (module("computeless", msvae_solvers=solvers(Computeless)), "computes"),
        (module("strange", msvae_solvers=solvers(Strange)), "kinds names voxels"),
        (module("twice", msvae_solvers=solvers(Counting, Counting)), "has the name"),
    ],
    ids=lambda v: v.__name__ if isinstance(v, types.ModuleType) else "",
)
def test_a_faulty_plugin_is_refused_with_its_reason_and_leaves_nothing_behind(made: Any, says: str) -> None:
    registry = Registry()
    reason = announce(registry, made)
    assert reason is not None
    assert says in reason
    assert not registry.loaded
    assert not registry.manager.get_plugins()
    assert registry.refused[0].name == made.__name__
    assert announce(registry, module("good", msvae_solvers=solvers(Counting))) is None


def test_a_second_plugin_of_the_same_name_is_refused_with_both_distributions_named() -> None:
    registry = Registry()
    announce(registry, module("a", msvae_solvers=solvers(Counting)), "first-dist")
    reason = announce(registry, module("b", msvae_solvers=solvers(Counting)), "second-dist")
    assert reason is not None
    assert "first-dist" in reason
    assert "second-dist" in reason


def test_an_import_error_is_reported_when_an_unknown_name_is_asked_for() -> None:
    registry = registration.build([Announced("broken", "no_such_module_at_all", "their-dist")])
    assert "ModuleNotFoundError" in registry.refused[0].reason
    with pytest.raises(PluginError, match=r"'broken' did not load.*no_such_module_at_all"):
        registry.find(Solver, "anything")


def test_first_party_plugins_all_load() -> None:
    registry = registration.build(plugins.discover())
    assert not [r for r in registry.refused if r.distribution == "msvae"]
    names = {name for _, name in registry.loaded}
    assert {"simulated", "tiff", "mechanical-mnist", "hdf5", "convolutional", "perceptron"} <= names
    assert {"conductivity", "elasticity"} <= names


def test_a_plugin_file_is_loaded_once_and_a_faulty_one_is_one_sentence(tmp_path: Path) -> None:
    good = tmp_path / "my_counting.py"
    good.write_text(
        "from dataclasses import dataclass\nimport msvae\n"
        "@dataclass(frozen=True)\nclass Mine(msvae.Solver):\n"
        "    '''Mine.'''\n    name = 'mine'\n    computes = (msvae.Quantity('q'),)\n"
        "    def evaluate(self, structures):\n        return {'q': structures.fractions[:, 0]}\n"
        "@msvae.hook\ndef msvae_solvers():\n    return [Mine]\n"
    )
    plugins.add_file(good)
    plugins.add_file(good)
    assert msvae.load_solver("mine").name == "mine"
    for content, says in (
        ("import nothing_like_this", "nothing_like_this"),
        ("x = (", "SyntaxError"),
        ("", "announces"),
    ):
        bad = tmp_path / "bad_plugin.py"
        bad.write_text(content)
        with pytest.raises(PluginError, match=says):
            plugins.add_file(bad)
    with pytest.raises(PluginError, match="no such file"):
        plugins.add_file(tmp_path / "absent.py")
    assert not [name for name in sys.modules if "bad_plugin" in name]


def all_checks() -> list[Any]:
    entries = registration.build(plugins.discover()).loaded.values()
    return [
        pytest.param(check, id=f"{e.plugin.name}: {check}")
        for e in entries
        if e.distribution == "msvae"
        for check in conformance.checks(e.plugin)
    ]


@pytest.mark.parametrize("check", all_checks())
def test_first_party_plugins_pass_the_conformance_battery(check: conformance.Check) -> None:
    check()


@pytest.mark.parametrize("name", sorted({name for _, name in registration.build(plugins.discover()).loaded}))
def test_every_plugin_is_shown(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from msvae.cli.plugins import plugin_show

    plugin_show(name)
    assert f" {name} (from " in capsys.readouterr().out


@dataclass(frozen=True)
class Liar(Counting):
    """Breaks one promise after the other."""

    name = "liar"
    kinds = ("phases",)
    dimensions = (2,)
    computes = (msvae.Quantity("count", "m^2"),)
    fault: str = "scaling"

    def evaluate(self, structures: msvae.Structures) -> dict[str, Any]:
        n = len(structures)
        if self.fault == "shape":
            return {"count": np.zeros((n, 2))}
        if self.fault == "name":
            return {"number": np.zeros(n)}
        if self.fault == "batch":
            return {"count": np.full(n, float(n))}
        if self.fault == "random":
            return {"count": np.random.default_rng().random(n)}
        if self.fault == "dtype":
            return {"count": np.zeros(n, dtype=np.float32)}
        return {"count": np.ones(n)}

    @classmethod
    def example(cls) -> Liar:
        return cls(fault=Liar.current)

    current = "scaling"


@pytest.mark.parametrize("fault", ["shape", "name", "batch", "random", "dtype", "scaling"])
def test_the_battery_catches_a_solver_that_breaks_its_contract(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Liar, "current", fault)
    broken = []
    for check in conformance.checks(Liar):
        try:
            check()
        except (AssertionError, LookupError) as error:
            broken.append(str(error))
    assert broken


@pytest.mark.parametrize("kind", ["phases", "field", "composition", "occupation"])
def test_the_battery_runs_over_every_kind_of_structure(kind: str) -> None:
    made = dataclass(frozen=True)(type("Any", (Counting,), {"kinds": (kind,), "name": f"any-{kind}"}))
    checks = conformance.checks(made)
    assert len(checks) > 4
    for check in checks[1:]:
        check()
