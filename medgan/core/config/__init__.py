"""All settings: frozen sections, unknown keys refused with the nearest known one."""

from medgan.core.config.data import Condition, DataConfig, Preprocessing
from medgan.core.config.executor import ExecutorConfig
from medgan.core.config.fields import Section, Share
from medgan.core.config.gate import GateConfig, GateMetric, Limit
from medgan.core.config.generators import BaselineConfig, CompareConfig, ConvergenceConfig
from medgan.core.config.inference import GenerateConfig, LatentConfig, ScoreConfig
from medgan.core.config.node import PacsConfig
from medgan.core.config.reading import build, merge, read_yaml, without_names
from medgan.core.config.serving import ServeConfig
from medgan.core.config.settings import Config
from medgan.core.config.studies import (
    AuditConfig,
    AugmentConfig,
    DetectionConfig,
    DrawConfig,
    EvaluateConfig,
    LesionsConfig,
    ResolutionConfig,
    TranslationConfig,
    UtilityConfig,
)
from medgan.core.config.sweep import Range, SweepConfig
from medgan.core.config.training import LocaliserConfig, ModelConfig, TrainConfig
from medgan.core.config.translation import ImageTask, TranslateConfig
from medgan.core.config.windows import WINDOWS

__all__ = [
    "WINDOWS",
    "AuditConfig",
    "AugmentConfig",
    "BaselineConfig",
    "CompareConfig",
    "Condition",
    "Config",
    "ConvergenceConfig",
    "DataConfig",
    "DetectionConfig",
    "DrawConfig",
    "EvaluateConfig",
    "ExecutorConfig",
    "GateConfig",
    "GateMetric",
    "GenerateConfig",
    "ImageTask",
    "LatentConfig",
    "LesionsConfig",
    "Limit",
    "LocaliserConfig",
    "ModelConfig",
    "PacsConfig",
    "Preprocessing",
    "Range",
    "ResolutionConfig",
    "ScoreConfig",
    "Section",
    "ServeConfig",
    "Share",
    "SweepConfig",
    "TrainConfig",
    "TranslateConfig",
    "TranslationConfig",
    "UtilityConfig",
    "build",
    "merge",
    "read_yaml",
    "without_names",
]
