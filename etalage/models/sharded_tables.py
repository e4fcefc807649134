"""Embedding tables in shards on the workers of one training, by TorchRec: for tables that do not fit into the
memory of one, and for updates that are shared out.

Papers: D. Ivchenko et al., TorchRec: a PyTorch Domain Library for Recommendation Systems, RecSys 2022;
D. Mudigere et al., ISCA 2022, section 4 (table-wise, column-wise, row-wise, data-parallel).

A rank asks for the rows of its part of a batch, and gets them from whoever holds them; the gradient goes the
same way back and ends in the kernel that also moves the rows (row-wise Adagrad, fused). That second half
waits for the optimiser's step (`ShardedTables.step`): by then the loss is known to be finite, the gradient
clipped, and every accumulated part in.

Nothing of TorchRec is a parameter or a submodule of the network: a state dict, an average over the ranks and
an export concern what each rank holds alike. The shards are asked for by themselves (`pieces`).

    B batch   S tables   D dimension   P dimension that a shard's kernel needs, the next multiple of 4
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from etalage.errors import ConfigError, installing
from etalage.models.embedding_tables import RowwiseTables, Tables
from etalage.models.ranks import Ranks
from etalage.models.recipe import TrainingConfig

log = logging.getLogger(__name__)
CHUNK = 1 << 18
"""Numbers that are drawn, or sent, at a time."""
EPS = 1e-8


@dataclass(frozen=True)
class Sharding:
    """How tables are laid out, and how their rows move (models/recipe.py: the settings `table_*`)."""

    kind: str
    adaptive: bool
    """Row-wise Adagrad; False: plain gradient descent."""
    rate: float
    start: float = 0.0
    clipped: bool = False
    """Whether the exact norm of the gradient is asked for at each step."""

    @classmethod
    def of(cls, config: TrainingConfig) -> "Sharding":
        """As a model's config says."""
        return cls(
            config.table_sharding,
            config.table_optimiser == "rowwise_adagrad",
            config.learning_rate if config.table_rate is None else config.table_rate,
            config.table_start,
            config.clip_norm is not None,
        )


@dataclass(frozen=True)
class Piece:
    """A shard of one table: `rows` rows from `row` on, `columns` columns from `column` on."""

    table: int
    row: int
    rows: int
    column: int
    columns: int
    rank: int
    weight: Tensor | None = None
    """(rows, columns), in the rank that holds it."""
    sums: Tensor | None = None
    """(rows,) of row-wise Adagrad."""


class ShardedTables(Tables):
    """Looks up as RowwiseTables does; starts from the same numbers, too, with the same seed of torch."""

    def __init__(
        self,
        sizes: Sequence[int],
        dimension: int,
        kept: Tensor | None = None,
        *,
        sharding: Sharding,
        ranks: Ranks,
        title: str = "tables",
    ) -> None:
        """Raises ConfigError: TorchRec is not installed, or has no kernel for this kind on this device."""
        super().__init__(sizes, dimension, kept)
        self.sharding, self.title = sharding, title
        self.device, self.world_size, self.rank = ranks.device, ranks.world_size, ranks.rank
        self.padded = -(-dimension // 4) * 4
        begin = torch.tensor(self.counts).cumsum(0) - torch.tensor(self.counts)
        self.register_buffer("begin_S", begin, persistent=False)
        self.rate: Callable[[], float] = lambda: sharding.rate
        """The learning rate of the step at hand, which the optimiser knows."""
        self.announce: Callable[[ShardedTables], None] | None = None
        """Called ahead of a lookup that this rank makes alone, so that the others take part in it."""
        self.touched: list[tuple[Tensor, Tensor, Tensor]] = []
        """What was asked for (B, S) of the sharded tables, (B, S × P) found, and a leaf that equals it."""
        with torch.random.fork_rng(devices=[]):  # what TorchRec draws is drawn over in `_fill`
            self.kernels = _Kernels(self)
        self._gather: Callable[[Tensor], Tensor] = lambda rows: rows
        together = [s for s in range(len(sizes)) if s not in self.kernels.tables]
        self.whole = together
        """Tables that every rank has whole."""
        self.replicated: RowwiseTables | None = None
        if together:
            counts = [self.counts[s] for s in together]
            weight = torch.zeros(sum(counts), dimension)
            self.replicated = RowwiseTables(counts, dimension, weight=weight)
        place = {s: n for n, s in enumerate([*together, *self.kernels.tables])}
        self.order = [place[s] for s in range(len(sizes))]
        self._fill()

    def _fill(self) -> None:
        """The numbers that RowwiseTables draws, of which each rank keeps its own."""
        own = {s: [piece for piece in self.pieces() if piece.table == s] for s in self.kernels.tables}
        first = 0
        for s, count in enumerate(self.counts):
            for start, drawn in _drawn(count, self.dimension):
                end = start + len(drawn)
                if s in own:
                    for piece in own[s]:
                        _overlay(piece, start, drawn)
                else:
                    assert self.replicated is not None
                    self.replicated.weight.detach()[first + start : first + end] = drawn
            first += 0 if s in own else count

    def zero(self) -> None:
        """All rows start from nothing."""
        if self.replicated is not None:
            self.replicated.zero()
        for piece in self.pieces():
            assert piece.weight is not None
            piece.weight.zero_()

    # -- lookups ---------------------------------------------------------------------------------

    def forward(self, rows_BS: Tensor) -> Tensor:
        """(B, S) int64 rows, each of its table → (B, S, D) float32. Every rank has to call it in training."""
        at_BS = self.at(rows_BS) - self.get_buffer("begin_S")
        parts = [] if self.replicated is None else [self.replicated(at_BS[:, self.whole])]
        if self.kernels.tables:
            asked = at_BS[:, self.kernels.tables]
            if self.training and torch.is_grad_enabled():
                # The kernel's backward takes the rate of its forward.
                self.kernels.set_rate(self.rate())
                found = self.kernels.look_up(asked)
                leaf = found.detach().requires_grad_()
                self.touched.append((asked, found, leaf))
            else:
                leaf = self.alone(asked)
            shaped = leaf.view(len(leaf), len(self.kernels.tables), self.padded)
            parts.append(shaped[:, self.kernels.order, : self.dimension])
        return torch.cat(parts, dim=1)[:, self.order]

    def alone(self, asked: Tensor) -> Tensor:
        """A lookup without a gradient; the others are told of it, and follow."""
        if self.announce is not None:
            self.announce(self)
        with torch.inference_mode(False), torch.no_grad():  # of kernels that training goes on with
            return self.kernels.look_up(asked.clone())

    def follow(self) -> None:
        """Take part in another rank's lookup."""
        nothing = torch.zeros(0, len(self.kernels.tables), dtype=torch.int64, device=self.device)
        with torch.no_grad():
            self.kernels.look_up(nothing)

    # -- gradients -------------------------------------------------------------------------------

    def sum_gradients(self, gather_rows: Callable[[Tensor], Tensor]) -> None:
        """TorchRec adds them up where the rows lie, at the step."""
        self._gather = gather_rows

    def squared_norm(self) -> Tensor:
        """Of the sum over the ranks, row by row, if gradients are clipped; else of each rank's by itself."""
        if not self.touched:
            return torch.zeros((), device=self.device)
        if not self.sharding.clipped:
            return self._gather(torch.stack([part.square().sum() for part in self._gradients()])).sum()
        first_S = self.get_buffer("begin_S")[self.kernels.tables]
        rows = torch.cat([(asked + first_S).flatten() for asked, _, _ in self.touched])
        parts = self._gradients()
        in_order = [
            part.view(len(part), -1, self.padded)[:, self.kernels.order].reshape(-1, self.padded)
            for part in parts
        ]
        rows_T, place = torch.unique(self._gather(rows), return_inverse=True)
        gathered = self._gather(torch.cat(in_order))
        sums_TP = gathered.new_zeros(len(rows_T), self.padded).index_add_(0, place, gathered)
        return sums_TP.square().sum()

    def scale_gradients(self, factor: Tensor) -> None:
        """Those that are still to go to the shards."""
        for _, _, leaf in self.touched:
            if leaf.grad is not None:
                leaf.grad *= factor

    def _gradients(self) -> list[Tensor]:
        """(B, S × P) of each lookup; zeros where its loss hung on nothing of it."""
        leaves = [leaf for _, _, leaf in self.touched]
        return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]

    def forget(self) -> None:
        """The lookups so far."""
        self.touched.clear()

    def step(self) -> None:
        """Move the rows of all lookups since the last step, by their gradients. Every rank has to call it."""
        if self.touched:
            gradients = self._gradients()
            found = self.touched[0][1]
            if len(gradients) > 1:  # a row that several parts look up moves once
                with torch.enable_grad():
                    found = self.kernels.look_up(torch.cat([asked for asked, _, _ in self.touched]))
            found.backward(torch.cat(gradients))  # type: ignore[no-untyped-call]
        self.touched.clear()

    # -- shards ----------------------------------------------------------------------------------

    def pieces(self) -> list[Piece]:
        """The shards that this rank holds; their tensors are those that are trained."""
        return [piece for piece in self.kernels.pieces if piece.rank == self.rank]

    def unsharded(self, weight: Tensor | None) -> RowwiseTables | None:
        """The same tables in one process: rank 0 gives the place for them (rows, D), and gets them; the
        others send theirs. Every rank has to call it."""
        first = torch.tensor(self.counts).cumsum(0) - torch.tensor(self.counts)
        for piece in self.kernels.pieces:
            into = None
            if weight is not None:
                begin = int(first[piece.table]) + piece.row
                width = min(piece.columns, self.dimension - piece.column)
                into = weight[begin : begin + piece.rows, piece.column : piece.column + width]
            for start in range(0, piece.rows, max(1, CHUNK // piece.columns)):
                stop = min(piece.rows, start + max(1, CHUNK // piece.columns))
                held = piece.weight
                sent = torch.empty(stop - start, piece.columns, device=self.device)
                if held is not None:
                    sent.copy_(held[start:stop])
                dist.broadcast(sent, src=piece.rank)
                if into is not None:
                    into[start:stop] = sent[:, : into.shape[1]].to(into.device)
        if weight is None:
            return None
        begin = 0
        for s in self.whole:
            assert self.replicated is not None
            rows = slice(int(first[s]), int(first[s]) + self.counts[s])
            weight[rows] = self.replicated.weight.detach()[begin : begin + self.counts[s]].to(weight.device)
            begin += self.counts[s]
        made = self.around(weight)
        for name in ("place", "sizes_S", "first_S"):
            setattr(made, name, getattr(self, name))
        return made

    def around(self, weight: Tensor) -> RowwiseTables:
        """Tables of one process that have this weight."""
        return RowwiseTables(self.counts, self.dimension, weight=weight)


class _Kernels:
    """What TorchRec holds: not a module, so that nobody else's business with a network concerns it."""

    def __init__(self, tables: ShardedTables) -> None:
        modules = _torchrec()
        sharding, world = tables.sharding, tables.world_size
        self.modules, self.device = modules, tables.device
        if sharding.kind == "row_wise" and tables.device.type == "cpu":
            raise ConfigError(
                'table_sharding = "row_wise": TorchRec has no row-wise kernel for processors; take '
                '"table_wise" or "column_wise", or train where there are GPUs'
            )
        collection = modules.EmbeddingBagCollection(
            device=torch.device("meta"),
            tables=[
                modules.EmbeddingBagConfig(
                    name=f"t{s}", embedding_dim=tables.padded, num_embeddings=count, feature_names=[f"f{s}"]
                )
                for s, count in enumerate(tables.counts)
            ],
        )
        # A mean of the squares over padding, which is 0, is less than one over the columns that count.
        self.share = tables.dimension / tables.padded if sharding.adaptive else 1.0
        sharder = modules.EmbeddingBagCollectionSharder(fused_params=self._fused(sharding))
        plan = self._planned(tables, collection, sharder)
        self.tables = [s for s in range(len(tables.counts)) if plan[f"t{s}"].sharding_type != "data_parallel"]
        self.pieces: list[Piece] = []
        if not self.tables:
            return
        if len(self.tables) < len(tables.counts):
            collection = modules.EmbeddingBagCollection(
                device=torch.device("meta"),
                tables=[one for s, one in enumerate(collection.embedding_bag_configs()) if s in self.tables],
            )
        kept = modules.EmbeddingModuleShardingPlan({f"t{s}": plan[f"t{s}"] for s in self.tables})
        # Ours is the sum of the ranks' gradients: each computes its share of one loss.
        modules.set_gradient_division(False)
        environment = modules.ShardingEnv.from_process_group(dist.group.WORLD)
        self.sharded: Any = sharder.shard(collection, kept, environment, self.device)
        self.order = list(range(len(self.tables)))
        self.pieces = list(self._pieces(tables, sharding))
        assert world == dist.get_world_size()

    def _fused(self, sharding: Sharding) -> dict[str, Any]:
        kinds = self.modules.EmbOptimType
        fused = {
            "optimizer": kinds.EXACT_ROWWISE_ADAGRAD if sharding.adaptive else kinds.EXACT_SGD,
            "learning_rate": sharding.rate,
        }
        if sharding.adaptive:
            fused["eps"] = EPS * self.share**0.5
        return fused

    def _planned(self, tables: ShardedTables, collection: Any, sharder: Any) -> dict[str, Any]:
        """TorchRec's planner's choice, by table; said in the log."""
        modules, world, kind = self.modules, tables.world_size, tables.sharding.kind
        kinds = [kind] if kind != "auto" else ["table_wise", "column_wise", "data_parallel"]
        if kind == "auto" and self.device.type != "cpu":
            kinds.append("row_wise")
        narrow = tables.padded < 8 or tables.padded != tables.dimension
        if narrow and "column_wise" in kinds:  # nothing to cut, or columns that are padding
            kinds = [one for one in kinds if one != "column_wise"] or ["table_wise"]
        least = -(-tables.padded // world // 4) * 4 if kind == "column_wise" else None
        limits = {
            f"t{s}": modules.ParameterConstraints(sharding_types=kinds, min_partition=least)
            for s in range(len(tables.counts))
        }
        topology = modules.Topology(world_size=world, compute_device=self.device.type)
        planner = modules.EmbeddingShardingPlanner(topology=topology, constraints=limits)
        try:
            found: dict[str, Any] = planner.collective_plan(collection, [sharder], dist.group.WORLD).plan[""]
        except modules.PlannerError as error:
            raise ConfigError(f"table_sharding = {kind!r}: TorchRec finds no plan: {error}") from error
        for s, count in enumerate(tables.counts):
            chosen = found[f"t{s}"]
            if chosen.sharding_type != "data_parallel":
                chosen.compute_kernel = (
                    "fused"  # one that is not would wait for a gradient as large as the table
                )
            where = ", ".join(str(rank) for rank in sorted(set(chosen.ranks or range(world))))
            size = count * tables.dimension * 4 / 2**20
            log.info(
                "%s %d: %d rows of %d (%.1f MiB) %s on ranks %s",
                tables.title, s, count, tables.dimension, size, chosen.sharding_type, where,
            )  # fmt: skip
        return found

    def _pieces(self, tables: ShardedTables, sharding: Sharding) -> Iterator[Piece]:
        weights = self.sharded.state_dict()
        sums = self.sharded.fused_optimizer.state_dict()["state"] if sharding.adaptive else {}
        for s in self.tables:
            name = f"embedding_bags.t{s}.weight"
            whole = weights[name]
            held = {tuple(one.metadata.shard_offsets): one.tensor for one in whole.local_shards()}
            totals = iter(sums[name][f"t{s}.momentum1"].local_shards() if name in sums else ())
            for about in whole.metadata().shards_metadata:
                (row, column), (rows, columns) = about.shard_offsets, about.shard_sizes
                weight = held.get((row, column))
                total = next(totals).tensor if weight is not None and sharding.adaptive else None
                if total is not None:
                    total.fill_(sharding.start * self.share)
                rank = about.placement.rank()
                yield Piece(s, row, rows, column, columns, rank, weight, total)

    def look_up(self, rows_BS: Tensor) -> Tensor:
        """(B, S) int64 → (B, S × P)."""
        lengths = torch.ones(rows_BS.numel(), dtype=torch.int32, device=rows_BS.device)
        keys = [f"f{s}" for s in self.tables]
        asked = self.modules.KeyedJaggedTensor(keys=keys, values=rows_BS.T.reshape(-1), lengths=lengths)
        with torch.autocast(self.device.type, enabled=False):
            found = self.sharded(asked).wait()
            values: Tensor = found.values()
        places = {key: n for n, key in enumerate(found.keys())}
        self.order = [places[key] for key in keys]
        return values

    def set_rate(self, rate: float) -> None:
        """The learning rate of the backward of what is looked up next."""
        optimiser = self.sharded.fused_optimizer
        for group in optimiser.param_groups:
            group["lr"] = rate * self.share**0.5
        optimiser.step()  # moves nothing, but tells the kernels


def _drawn(count: int, dimension: int) -> Iterator[tuple[int, Tensor]]:
    """The rows of a table before training, some at a time: torch draws the same numbers, however many at once
    (a draw of `uniform_` on a processor is one of the generator)."""
    bound, at_once = count**-0.5, max(1, CHUNK // dimension)
    for start in range(0, count, at_once):
        rows = torch.empty(min(at_once, count - start), dimension).uniform_(-bound, bound)
        if start == 0:
            rows[0] = 0
        yield start, rows


def _overlay(piece: Piece, start: int, rows: Tensor) -> None:
    """Put of these rows of the table, from `start` on, what the piece holds into it; its padding is 0."""
    assert piece.weight is not None
    begin, end = max(start, piece.row), min(start + len(rows), piece.row + piece.rows)
    if begin < end:
        given = rows[begin - start : end - start, piece.column : piece.column + piece.columns]
        into = piece.weight[begin - piece.row : end - piece.row]
        into.zero_()
        into[:, : given.shape[1]] = given.to(into.device)


def tables_of(
    config: TrainingConfig,
    ranks: Ranks,
    sizes: Sequence[int],
    dimension: int,
    kept: Tensor | None = None,
    title: str = "tables",
) -> RowwiseTables | ShardedTables:
    """Sharded while several ranks train a model whose config says so; whole in one process."""
    if not config.sharded or ranks.world_size == 1:
        return RowwiseTables(sizes, dimension, kept)
    sharding = Sharding.of(config)
    return ShardedTables(sizes, dimension, kept, sharding=sharding, ranks=ranks, title=title)


def sharded_of(network: nn.Module) -> dict[str, ShardedTables]:
    """The sharded tables of a network, by their path in it."""
    return {name: one for name, one in network.named_modules() if isinstance(one, ShardedTables)}


class _Modules:
    """The parts of TorchRec and FBGEMM that are used here."""

    def __init__(self) -> None:
        for name in ("torchrec", "MethodLogger-NullHandler"):  # pages about its own workings; the plan we say
            logging.getLogger(name).setLevel(logging.ERROR)
        from fbgemm_gpu.split_embedding_configs import EmbOptimType
        from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor
        from torchrec.distributed.comm_ops import set_gradient_division
        from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
        from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
        from torchrec.distributed.planner.types import PlannerError
        from torchrec.distributed.types import EmbeddingModuleShardingPlan, ShardingEnv

        self.EmbOptimType = EmbOptimType
        self.EmbeddingBagCollection, self.EmbeddingBagConfig = EmbeddingBagCollection, EmbeddingBagConfig
        self.KeyedJaggedTensor, self.set_gradient_division = KeyedJaggedTensor, set_gradient_division
        self.EmbeddingBagCollectionSharder = EmbeddingBagCollectionSharder
        self.EmbeddingShardingPlanner, self.Topology = EmbeddingShardingPlanner, Topology
        self.ParameterConstraints, self.PlannerError = ParameterConstraints, PlannerError
        self.EmbeddingModuleShardingPlan, self.ShardingEnv = EmbeddingModuleShardingPlan, ShardingEnv


def _torchrec() -> Any:
    """Raises ConfigError, which says what to install."""
    try:
        return _Modules()
    except ImportError as error:
        raise ConfigError(
            f'embeddings = "torchrec" needs TorchRec ({error}): {installing("torchrec")}, then '
            "`python -m pip install --no-deps torchrec==1.8.0` (what it names as needed brings CUDA along)"
        ) from error
