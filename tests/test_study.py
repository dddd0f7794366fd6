"""The study: what is read, what is refused and where, and that a frozen one is the same study."""

from __future__ import annotations

from pathlib import Path

import pytest

from msvae import MsvaeError, Study, plugins
from msvae.campaigns.design.campaign import InverseDesign

GOOD = """campaign = "inverse-design"
seed = 4

[dataset]
name = "simulated"
shape = [8, 8]

[solver]
name = "elasticity"
phases = [
    { youngs_modulus = 70e9, poissons_ratio = 0.33 },
    { youngs_modulus = 0.0 },
]

[model]
latents = 4
heads = ["stiffness"]

[design]
targets = [{ property = "stiffness", component = [0, 0], value = 50e9, unit = "Pa" }]
"""


def test_a_good_study_is_typed_and_has_its_defaults() -> None:
    study = Study.parse(GOOD)
    assert study.solver is not None
    assert study.solver.phases[0].youngs_modulus == 70e9  # type: ignore[attr-defined]
    assert study.need(InverseDesign).targets[0].tolerance == 0.02
    assert study.training.batch_size == 32
    assert study.need_dataset().name == "simulated"


def test_a_frozen_study_is_the_same_study() -> None:
    study = Study.parse(GOOD)
    again = Study.parse(study.frozen())
    assert again == study
    assert again.digest == study.digest
    assert "batch_size = 32" in study.frozen()


def test_the_digest_sees_what_changes_results_and_only_that() -> None:
    study = Study.parse(GOOD)
    assert Study.parse(GOOD, overrides=["executor.workers=2", "title=x"]).digest == study.digest
    other = Study.parse(GOOD, overrides=["training.epochs=7"])
    assert other.digest != study.digest
    assert other.difference(study) == "training.epochs is 7 there and 100 here"


FAULTS = [
    ('seed = "four"', "seed = 4", ["line 2", "seed", '"four"', "valid integer"]),
    ("sed = 4", "seed = 4", ["line 2", "unknown key", "did you mean 'seed'"]),
    ("latents = 0", "latents = 4", ["line 16", "model.latents", "at least 1", "found 0"]),
    ("laten = 4", "latents = 4", ["line 16", "model.laten", "did you mean 'latents'"]),
    ('shape = [8, "a"]', "shape = [8, 8]", ["line 6", "dataset.shape[1]", '"a"']),
    ("shap = [8, 8]", "shape = [8, 8]", ["dataset.shap", "did you mean 'shape'"]),
    ("youngs_modulu = 70e9", "youngs_modulus = 70e9", ["solver.phases[0]", "did you mean 'youngs_modulus'"]),
    ("youngs_modulus = -1.0", "youngs_modulus = 70e9", ["solver.phases[0].youngs_modulus is at least 0 Pa, found -1"]),
    ("poissons_ratio = 0.5", "poissons_ratio = 0.33", ["solver.phases[0]", "below 0.5"]),
    ('name = "elastic"', 'name = "elasticity"', ["line 9", "did you mean 'elasticity'", "conductivity"]),
    ('unit = "GPa"', 'unit = "Pa"', ["design.targets[0].unit", "'GPa'", "'Pa'", "not converted"]),
    ('property = "stifness"', 'property = "stiffness"', ["design.targets[0]", "did you mean 'stiffness'"]),
    ("targets = []", GOOD.splitlines()[-1], ["design", "two objectives"]),
    ('campaign = "design"', 'campaign = "inverse-design"', ["line 1", "campaign", "inverse-design"]),
    ("[dataset", "[dataset]", ["not TOML", "line 4"]),
    ("when = 2020-01-01", "seed = 4", ["unknown key"]),
    ("value = inf", "value = 50e9", ["design.targets[0].value", "finite"]),
]


@pytest.mark.parametrize(("new", "old", "says"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_fault_is_one_sentence_with_its_place(new: str, old: str, says: list[str]) -> None:
    with pytest.raises(MsvaeError) as caught:
        Study.parse(GOOD.replace(old, new, 1), name="study.toml")
    message = str(caught.value)
    assert "\n" not in message
    for word in ["study.toml", *says]:
        assert word in message


@pytest.mark.parametrize(
    ("override", "says"),
    [("nonsense", "key.path=value"), ("seed.x=1", "not a table"), ("training.epochs=many", "valid integer")],
)
def test_a_faulty_override_is_refused(override: str, says: str) -> None:
    with pytest.raises(MsvaeError, match=says):
        Study.parse(GOOD, overrides=[override])


def test_overrides_may_be_words_numbers_or_tables() -> None:
    overrides = [
        "training.epochs=9",
        "title=two words",
        "dataset.length=[1e-6, 2e-6]",
        "model={latents=2, heads=['stiffness']}",
    ]
    study = Study.parse(GOOD, overrides=overrides)
    assert (study.training.epochs, study.title, study.model.latents) == (9, "two words", 2)


def test_tables_that_a_campaign_needs_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(MsvaeError, match=r"no \[design\]"):
        Study.parse('campaign = "inverse-design"')
    with pytest.raises(MsvaeError, match=r"no \[generate\]"):
        Study.parse('campaign = "generate"')
    with pytest.raises(MsvaeError, match="at least one condition"):
        Study.parse('campaign = "generate"\n[generate]\nvalues = [1]')
    with pytest.raises(MsvaeError, match="found 2 values"):
        Study.parse('campaign = "generate"\n[generate]\nvalues = [[1, 2]]\n[model]\nconditions = [{property="p"}]')
    with pytest.raises(MsvaeError, match=r"no \[solver\]"):
        Study.parse('campaign = "label"').need_solver()
    with pytest.raises(MsvaeError, match="No such file"):
        Study.load(tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MsvaeError, match="not a text file"):
        Study.load(tmp_path / "binary.toml")


def test_the_core_finds_its_seven_campaigns_like_anybodys() -> None:
    names = [campaign.name for campaign in plugins.registry().campaigns]
    assert {"compare-dns", "generate", "gradation", "inverse-design", "label", "push-forward", "train"} <= set(names)
