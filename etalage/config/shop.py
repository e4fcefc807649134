"""A whole shop.toml."""

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from etalage.config.catalogue import ClassifyConfig, PhotosConfig, TaxonomyConfig
from etalage.config.funnel import FunnelConfig, IndexConfig, PublishConfig
from etalage.config.learning import BehaviourConfig, EvaluateConfig, SplitConfig, TextConfig
from etalage.config.machines import EngineConfig, ServeConfig, StorageConfig
from etalage.config.settings import Settings, validated
from etalage.config.tables import IngestConfig
from etalage.errors import ConfigError


class ShopConfig(Settings):
    """A whole shop.toml."""

    name: str = "A shop"
    """The shop's name, for people."""
    currency: str | None = Field(None, examples=["EUR"])
    """The currency of items that name none, as an ISO 4217 code such as `EUR`. None: not known."""
    ingest: IngestConfig = Field(default_factory=IngestConfig)
    """See [ingest]."""
    photos: PhotosConfig = Field(default_factory=PhotosConfig)
    """See [photos]."""
    split: SplitConfig = Field(default_factory=SplitConfig)
    """See [split]."""
    text: TextConfig = Field(default_factory=TextConfig)
    """See [text]."""
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of each model, by its name: see [models.NAME]."""
    behaviour: BehaviourConfig = Field(default_factory=BehaviourConfig)
    """See [behaviour]."""
    funnel: FunnelConfig = Field(default_factory=FunnelConfig)
    """See [funnel]."""
    index: IndexConfig = Field(default_factory=IndexConfig)
    """See [index]."""
    publish: PublishConfig = Field(default_factory=PublishConfig)
    """See [publish]."""
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    """See [evaluate]."""
    classify: ClassifyConfig = Field(default_factory=ClassifyConfig)
    """See [classify]."""
    taxonomy: TaxonomyConfig = Field(default_factory=TaxonomyConfig)
    """See [taxonomy]."""
    serve: ServeConfig = Field(default_factory=ServeConfig)
    """See [serve]."""
    engine: EngineConfig = Field(default_factory=EngineConfig)
    """See [engine]."""
    storage: StorageConfig = Field(default_factory=StorageConfig)
    """See [storage]."""

    @field_validator("engine", mode="before")
    @classmethod
    def _by_kind_alone(cls, given: Any) -> Any:
        return {"kind": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _that_go_together(self) -> "ShopConfig":
        if self.storage.bundles is not None and self.index.kind == "milvus":
            raise ValueError(
                "[storage] bundles and [index] kind = 'milvus' do not go together: which collections belong "
                "to which bundle is remembered in the shop's folder; leave one of them out"
            )
        return self

    @field_validator("currency")
    @classmethod
    def _a_code(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch("[A-Z]{3}", given):
            raise ValueError("an ISO 4217 code is needed, such as `EUR`")
        return given


def read_config(file: Path) -> ShopConfig:
    """Read a shop.toml; if the file is missing, return the defaults.

    Raises ConfigError: not TOML, an unknown key (with the nearest known one), a wrong value.
    """
    if not file.exists():
        return ShopConfig()
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    return validated(ShopConfig, raw, where=str(file))
