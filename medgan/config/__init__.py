"""Every knob: frozen sections, unknown keys refused with the nearest known one."""

from medgan.config.data import Condition, DataConfig, Preprocessing
from medgan.config.fields import Section, Share
from medgan.config.inference import GenerateConfig, LatentConfig, ScoreConfig
from medgan.config.reading import build, merge, read_yaml, without_names
from medgan.config.settings import Config
from medgan.config.studies import (
    AuditConfig,
    AugmentConfig,
    BaselineConfig,
    CompareConfig,
    DetectionConfig,
    EvaluateConfig,
    UtilityConfig,
)
from medgan.config.training import LocaliserConfig, ModelConfig, TrainConfig
from medgan.config.windows import WINDOWS

__all__ = [
    "WINDOWS",
    "AuditConfig",
    "AugmentConfig",
    "BaselineConfig",
    "CompareConfig",
    "Condition",
    "Config",
    "DataConfig",
    "DetectionConfig",
    "EvaluateConfig",
    "GenerateConfig",
    "LatentConfig",
    "LocaliserConfig",
    "ModelConfig",
    "Preprocessing",
    "ScoreConfig",
    "Section",
    "Share",
    "TrainConfig",
    "UtilityConfig",
    "build",
    "merge",
    "read_yaml",
    "without_names",
]
