"""Embedding tables, and what several workers do with their gradients.

Tables whose gradient is as large as they are stand in `layers.table`; theirs is averaged like any weight's.
Here are those of which a step touches only the rows of its batch (`RowwiseTables`), and the optimiser that
moves them: their gradients lie beside `.grad`, so they add up their own over the ranks (`OwnGradients`), as
any backend does that keeps tables in another way, such as sharded over the ranks.

Papers: J. Duchi et al., Adaptive Subgradient Methods, JMLR 2011 (Adagrad); D. Mudigere et al.,
Software-Hardware Co-design for Fast and Scalable Training of Deep Learning Recommendation Models,
ISCA 2022, section 4.1 (row-wise: one accumulator a row, of the mean of the squared gradient).

    B batch   S tables   D dimension   T rows of all tables that a batch touches
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from etalage.errors import LossNotFinite


@runtime_checkable
class OwnGradients(Protocol):
    """A module whose gradients are not in its parameters' `.grad`, so that it adds them up itself."""

    def sum_gradients(self, gather_rows: Callable[[Tensor], Tensor]) -> None:
        """After backward, in every rank: the sum over all ranks and all lookups, the same in each rank.

        gather_rows: (T, …) of this rank, T another one in each → those of all ranks, in one order.
        """
        ...

    def squared_norm(self) -> Tensor:
        """Of all gradients of all ranks, after `sum_gradients`: a scalar, the same in each rank."""
        ...

    def scale_gradients(self, factor: Tensor) -> None:
        """Multiply them by a scalar."""
        ...


class FusedTables(Protocol):
    """Tables that move their rows themselves, such as those that lie in shards."""

    rate: Callable[[], float]
    """The learning rate of the step at hand; the optimiser sets it."""

    def forget(self) -> None:
        """Drop the lookups since the last step."""
        ...

    def step(self) -> None:
        """Move the rows that were looked up since the last step, by their gradients."""
        ...


class Tables(nn.Module):
    """S tables of one width, and which of their rows a batch means.

    Row 0 of each table (unknown) starts at zero, so that what was never trained says nothing; the other
    rows are uniform in ±1/√n, n the table's rows (Naumov et al. 2019, their code).
    """

    def __init__(self, sizes: Sequence[int], dimension: int, kept: Tensor | None = None) -> None:
        """sizes: rows of each table. kept: (rows of all,) bool; a row that is not kept is unknown, and takes
        no memory but a number; None: all are."""
        super().__init__()
        counts = torch.tensor(sizes, dtype=torch.int64)
        self.place: Tensor | None
        self.register_buffer("place", None)
        first_S = torch.cumsum(counts, 0) - counts
        self.register_buffer("sizes_S", counts, persistent=False)
        self.register_buffer("first_S", first_S, persistent=False)
        if kept is not None:
            kept = kept.index_fill(0, first_S, True)
            place = torch.cumsum(kept, 0) - 1
            unknown = torch.repeat_interleave(place[first_S], counts)
            self.place = torch.where(kept, place, unknown)
            counts = torch.stack([part.sum() for part in torch.split(kept, list(sizes))])
        self.counts: list[int] = counts.tolist()
        """Rows of each table that are there."""
        self.dimension = dimension

    def at(self, rows_BS: Tensor) -> Tensor:
        """(B, S) int64 rows, each of its table → rows of all tables, one behind the other; a row outside its
        table is unknown."""
        sizes_S, first_S = self.get_buffer("sizes_S"), self.get_buffer("first_S")
        known_BS = (rows_BS >= 0) & (rows_BS < sizes_S)
        at_BS = torch.where(known_BS, rows_BS, torch.zeros_like(rows_BS)) + first_S
        return at_BS if self.place is None else self.place[at_BS]


class RowwiseTables(Tables):
    """S tables of one width as one matrix (rows of all, D): one lookup, one update."""

    def __init__(
        self,
        sizes: Sequence[int],
        dimension: int,
        kept: Tensor | None = None,
        *,
        weight: Tensor | None = None,
    ) -> None:
        """weight: (rows that are kept, D), where somebody has them already."""
        super().__init__(sizes, dimension, kept)
        drawn = weight is None
        self.weight = nn.Parameter(torch.empty(sum(self.counts), dimension) if weight is None else weight)
        self.touched: list[tuple[Tensor, Tensor]] = []
        """(T,) rows and (T, D) copies of them that got the gradient; the optimiser takes them."""
        with torch.no_grad():
            for part in torch.split(self.weight, self.counts) if drawn else ():
                part.uniform_(-(len(part) ** -0.5), len(part) ** -0.5)
                part[0] = 0

    def zero(self) -> None:
        """All rows start from nothing."""
        nn.init.zeros_(self.weight)

    def forward(self, rows_BS: Tensor) -> Tensor:
        """(B, S) int64 rows, each of its table → (B, S, D) float32; a row outside its table is unknown."""
        at_BS = self.at(rows_BS)
        if not (self.training and torch.is_grad_enabled()):
            return nn.functional.embedding(at_BS, self.weight)
        # The weights get no gradient of their own: it would be as large as all tables, at every step.
        rows_T, place_BS = torch.unique(at_BS, return_inverse=True)
        copies_TD = self.weight.detach()[rows_T].requires_grad_()
        self.touched.append((rows_T, copies_TD))
        return nn.functional.embedding(place_BS, copies_TD)

    def sum_gradients(self, gather_rows: Callable[[Tensor], Tensor]) -> None:
        """Every rank gets the rows that any of them touched, each once, with the sum of their gradients."""
        told = [(rows_T, copies_TD.grad) for rows_T, copies_TD in self.touched if copies_TD.grad is not None]
        rows = torch.cat([self.weight.new_empty(0, dtype=torch.int64), *(rows_T for rows_T, _ in told)])
        gradients = torch.cat([self.weight.new_empty(0, self.weight.shape[1]), *(one for _, one in told)])
        every_T = gather_rows(rows)
        if len(told) == 1 and every_T is rows:  # one worker's one lookup: its rows are there once
            return
        rows_T, place = torch.unique(every_T, return_inverse=True)
        copies_TD = self.weight.detach()[rows_T].requires_grad_()
        copies_TD.grad = torch.zeros_like(copies_TD).index_add_(0, place, gather_rows(gradients))
        self.touched = [(rows_T, copies_TD)]

    def squared_norm(self) -> Tensor:
        """Of the gradients that `touched` holds."""
        found = [copies.grad.square().sum() for _, copies in self.touched if copies.grad is not None]
        return torch.stack(found).sum() if found else self.weight.new_zeros(())

    def scale_gradients(self, factor: Tensor) -> None:
        """Multiply what `touched` holds."""
        for _, copies_TD in self.touched:
            if copies_TD.grad is not None:
                copies_TD.grad *= factor


class RowwiseAdagrad(torch.optim.Optimizer):
    """Row-wise Adagrad for tables, and any dense optimiser for the rest, as one optimiser.

    For row r with gradient g: a_r += mean(g²); w_r -= rate · g / (√a_r + eps). `decay` is an L2 penalty on
    the rows that a step touches. `start` is where a_r starts: from 0 the first step of a row is as long as
    `rate`, however weak its gradient, so that values seen once or twice become noise; with a start, only rows
    that occur often outgrow it and move fast. adaptive=False: plain gradient descent on the tables.
    """

    def __init__(
        self,
        tables: Iterable[RowwiseTables],
        dense: torch.optim.Optimizer,
        sharded: Iterable[FusedTables] = (),
        *,
        lr: float,
        eps: float = 1e-8,
        decay: float = 0.0,
        start: float = 0.0,
        adaptive: bool = True,
    ) -> None:
        self.tables, self.dense, self.adaptive = list(tables), dense, adaptive
        self.sharded = list(sharded)
        for module in self.sharded:
            module.rate = lambda: float(self.param_groups[-1]["lr"])
        weights = [table.weight for table in self.tables]
        group = {"params": weights, "lr": lr, "eps": eps, "decay": decay}
        super().__init__([*dense.param_groups, group], {})
        for weight in weights if adaptive else []:
            self.state[weight]["sum"] = torch.full((len(weight),), start, device=weight.device)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients. Lookups whose backward is still to come stay."""
        super().zero_grad(set_to_none)
        for table in self.tables:
            table.touched = [(rows, copies) for rows, copies in table.touched if copies.grad is None]
        for module in self.sharded:
            module.forget()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Raises LossNotFinite when a table's gradient is not finite; no row has moved then.

        Several lookups of one table before a step are applied one after the other.
        """
        if closure is not None:
            raise ValueError("a closure is not supported")
        for table in self.tables:
            for _, copies in table.touched:
                if copies.grad is not None and not bool(torch.isfinite(copies.grad.sum())):
                    raise LossNotFinite("the gradient of an embedding table; lower the learning rate")
        # load_state_dict makes new groups and a new state: the dense optimiser sees those of today.
        self.dense.param_groups, self.dense.state = self.param_groups[:-1], self.state
        self.dense.step()
        for table in self.tables:
            for rows_T, copies_TD in table.touched:
                if copies_TD.grad is not None:
                    self._move(table.weight, rows_T, copies_TD)
            table.touched.clear()
        for module in self.sharded:
            module.step()

    def _move(self, weight: nn.Parameter, rows_T: Tensor, copies_TD: Tensor) -> None:
        group = self.param_groups[-1]
        assert copies_TD.grad is not None
        gradient_TD = copies_TD.grad
        if group["decay"]:
            gradient_TD = gradient_TD.add(copies_TD.detach(), alpha=group["decay"])
        step_T = copies_TD.new_full((len(rows_T), 1), -float(group["lr"]))
        if self.adaptive:
            total: Tensor = self.state[weight]["sum"]
            now_T = total[rows_T] + gradient_TD.square().mean(dim=1)
            total[rows_T] = now_T
            step_T /= (now_T.sqrt() + group["eps"])[:, None]
        weight.index_add_(0, rows_T, gradient_TD * step_T)
