"""Reads shop.toml into frozen typed models. An unknown key is an error that suggests the right one."""

from etalage.config.catalogue import ClassifyConfig, PhotosConfig, TaxonomyConfig
from etalage.config.funnel import FunnelConfig, IndexConfig, OrderConfig, PublishConfig
from etalage.config.learning import BehaviourConfig, EvaluateConfig, SplitConfig, TextConfig
from etalage.config.machines import (
    LEAST_MEMORY,
    SPARK_RESERVED,
    EngineConfig,
    ServeConfig,
    StorageConfig,
    memory_size,
)
from etalage.config.settings import Settings, as_values, parse_pairs, suggestion, validated
from etalage.config.shop import ShopConfig, read_config
from etalage.config.tables import IngestConfig, Joined, MappingConfig, Source, texts_of

__all__ = [
    "LEAST_MEMORY",
    "SPARK_RESERVED",
    "BehaviourConfig",
    "ClassifyConfig",
    "EngineConfig",
    "EvaluateConfig",
    "FunnelConfig",
    "IndexConfig",
    "IngestConfig",
    "Joined",
    "MappingConfig",
    "OrderConfig",
    "PhotosConfig",
    "PublishConfig",
    "ServeConfig",
    "Settings",
    "ShopConfig",
    "Source",
    "SplitConfig",
    "StorageConfig",
    "TaxonomyConfig",
    "TextConfig",
    "as_values",
    "memory_size",
    "parse_pairs",
    "read_config",
    "suggestion",
    "texts_of",
    "validated",
]
