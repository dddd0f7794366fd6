"""The paths of a run's files."""

from __future__ import annotations

from pathlib import Path

__all__ = ["RunFiles"]


class RunFiles:
    """The files of a run's directory."""

    path: Path

    @property
    def frozen_study(self) -> Path:
        """The file with the study that workers read."""
        return self.path / "study.toml"

    @property
    def structures_file(self) -> Path:
        """The file with the data set's structures."""
        return self.path / "structures.h5"

    @property
    def model_file(self) -> Path:
        """The file with the model's weights."""
        return self.path / "model.safetensors"

    def own_model_file(self, stage: str) -> Path:
        """The weights of the model retrained for a stage, if there is one."""
        return self.path / f"model-{stage}.safetensors"

    def model_file_of(self, stage: str) -> Path:
        """The weights of the model that decodes a stage's latents."""
        own = self.own_model_file(stage)
        return own if own.exists() else self.model_file

    @property
    def structure_head_file(self) -> Path:
        """The file with the structure-space head."""
        return self.path / "structure_head.safetensors"
