"""Settings of a model whose training data may be larger than memory."""

from typing import Literal

from pydantic import Field

from etalage.models.recipe import TrainingConfig

MEGABYTE = 2**20


class StreamedConfig(TrainingConfig):
    """The order of a stream follows from `buffer`, so both settings decide what a run learns."""

    stream: Literal["auto", "always", "never"] = "auto"
    """Read the training data by shard, through a buffer, instead of holding all of it. `auto`: where it would
    take more than `buffer`."""
    buffer: int = Field(1024, ge=1)
    """MB of training data that are held at once, half of them read ahead. The larger, the better the shuffle;
    each of several workers reads its share."""

    @property
    def buffer_bytes(self) -> int:
        """`buffer` in bytes."""
        return self.buffer * MEGABYTE

    def streams(self, size: int) -> bool:
        """Whether data of so many bytes are read as a stream."""
        return self.stream == "always" or (self.stream == "auto" and size > self.buffer_bytes)
