"""A network to read: the table of its layers, a drawn graph, its weights by name.

`summary` and `draw` take what the network is called with: a tuple for `forward`, or, where it has other
entries, such as a tower each, a mapping of method → tuple.

    B batch: the first dimension of the example inputs
"""

import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from etalage.training.graph_layout import Box, Graph, save

Inputs = tuple[Tensor, ...]
Calls = Inputs | Mapping[str, Inputs]

MOST_BOXES = 40
"""A graph of more is drawn coarser: modules in place of their parts."""
_PASSED_THROUGH = {
    "_to_copy", "alias", "clone", "contiguous", "detach", "detach_", "dropout", "expand", "feature_dropout",
    "lift_fresh_copy", "reshape", "select", "slice", "squeeze", "to", "type_as", "unsqueeze", "view",
    "_unsafe_view", "getitem", "_assert_tensor_metadata", "float", "flatten", "_assert_scalar",
    "sym_size", "permute", "transpose", "t",
}  # fmt: skip
"""Operations that say how numbers are stored, not what is computed; dropout does nothing when used."""
_SIGNS = {"add": "+", "add_": "+", "mul": "×", "mul_": "×", "sub": "−", "div": "÷", "cat": "concatenate",
          "linear": "linear", "matmul": "matrix product", "mm": "matrix product", "bmm": "matrix product",
          "index": "look up", "ne": "≠", "__and__": "and", "__or__": "or"}  # fmt: skip


def summary(network: nn.Module, example_inputs: Calls) -> str:
    """A table in plain text: every layer with its kind, the shapes that come out of it, and its parameters.

    A layer that several entries call, or one entry twice, is counted once. Weights outside any layer
    have lines of their own. The network is run once, without gradients, as it is when it is used.
    """
    shapes = _output_shapes(network, _calls(example_inputs))
    lines = [("layer", "kind", "output", "parameters")]
    for path, module in network.named_modules():
        own = [(f"{path}.{n}".lstrip("."), p) for n, p in module.named_parameters(recurse=False)]
        is_leaf = not any(True for _ in module.children())
        if is_leaf and (path in shapes or own):
            count = sum(p.numel() for _, p in own)
            lines.append(
                (path or "(the network)", _kind(module), shapes.get(path, "not called"), f"{count:,}")
            )
        elif not is_leaf:
            lines += [(name, "Parameter", _shape(p, 0), f"{p.numel():,}") for name, p in own]
    every = list(network.parameters())
    total = sum(p.numel() for p in every)
    learned = sum(p.numel() for p in every if p.requires_grad)
    megabytes = sum(p.numel() * p.element_size() for p in every) / 1e6
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    rule = "-" * (sum(widths) + 6)
    table = [
        f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}".rstrip()
        for a, b, c, d in lines
    ]
    end = f"{total:,} parameters, {learned:,} of them learned, {megabytes:.1f} MB"
    return "\n".join([type(network).__name__, rule, table[0], rule, *table[1:], rule, end])


def draw(network: nn.Module, example_inputs: Calls, file: Path) -> Path:
    """Draw the computation as boxes and arrows, top to bottom, to `file` (.png or .svg); → the file.

    The graph is torch.export's, so it shows what is computed, not what was declared: a box is a layer,
    an operation between layers, an input or a weight outside any layer, each with the shape it makes.
    Where that would be more than MOST_BOXES, modules stand for their parts.
    """
    graphs = []
    for entry, inputs in _calls(example_inputs).items():
        traced = _traced(network, entry, inputs)
        depth = max((len(_path(node)) for node in traced.nodes), default=0)
        while len((graph := _boxes(traced, network, depth)).boxes) > MOST_BOXES and depth > 1:
            depth -= 1
        graphs.append(graph)
    count = sum(parameter.numel() for parameter in network.parameters())
    return save(graphs, f"{type(network).__name__}, {count:,} parameters", file)


def readable_weights(network: nn.Module) -> dict[str, np.ndarray]:
    """Every parameter and kept buffer by its name, as numpy arrays of their own; embeddings row by row of the
    vocabulary (row 0: unknown)."""
    arrays = {}
    for name, tensor in network.state_dict().items():
        plain = tensor.detach().cpu()
        arrays[name] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy().copy()
    return arrays


# -- the table ---------------------------------------------------------------------------------


def _calls(example_inputs: Calls) -> dict[str, Inputs]:
    return dict(example_inputs) if isinstance(example_inputs, Mapping) else {"forward": example_inputs}


def _output_shapes(network: nn.Module, calls: dict[str, Inputs]) -> dict[str, str]:
    """By path of the leaf: the shapes of its first call."""
    found: dict[str, str] = {}
    batch = 0

    def note(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.setdefault(path, _shape(output, batch))

        return hook

    leaves = [
        (path, module) for path, module in network.named_modules() if not any(True for _ in module.children())
    ]
    hooks = [module.register_forward_hook(note(path)) for path, module in leaves]
    before = network.training
    network.eval()
    try:
        with torch.inference_mode():
            for entry, inputs in calls.items():
                batch = _batch(inputs)
                getattr(network, entry)(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
        network.train(before)
    return found


def _batch(inputs: Inputs) -> int:
    return next((int(value.shape[0]) for value in inputs if value.ndim), 0)


def _shape(tensor: Any, batch: int) -> str:
    sizes = [str(size) for size in tensor.shape]
    if batch > 1 and sizes and tensor.shape[0] == batch:
        sizes[0] = "B"
    return f"({', '.join(sizes)})"


def _kind(module: nn.Module) -> str:
    """`Linear 64 → 32`, `Embedding 611 × 32`, `Conv2d 3 → 16, 3×3`, `Dropout .25`."""
    name = type(module).__name__
    if isinstance(module, nn.Linear):
        return f"{name} {module.in_features} → {module.out_features}"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return f"{name} {module.num_embeddings} × {module.embedding_dim}"
    if isinstance(module, nn.Conv2d):
        return (
            f"{name} {module.in_channels} → {module.out_channels}, {'×'.join(map(str, module.kernel_size))}"
        )
    if isinstance(module, nn.Dropout):
        return f"{name} {module.p:g}"
    return name


# -- the graph ---------------------------------------------------------------------------------


class _Entry(nn.Module):
    """A method of the network as a module: export takes a forward. Every path begins with `network`."""

    def __init__(self, network: nn.Module, method: str) -> None:
        super().__init__()
        self.network = network
        self.method = method

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.network, self.method)(*inputs)


@dataclass(frozen=True)
class _Traced:
    entry: str
    nodes: list[Any]
    """fx nodes, inputs and weights among them, in the order of the computation."""
    names: dict[str, str]
    """Of the placeholders: the weight's path, or the input's name."""
    is_weight: set[str]
    batch: int


def _traced(network: nn.Module, entry: str, inputs: Inputs) -> _Traced:
    before = network.training
    network.eval()
    try:
        with torch.no_grad():
            program = torch.export.export(_Entry(network, entry), inputs, strict=False)
    finally:
        network.train(before)
    signature = program.graph_signature
    weights = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    weights |= signature.inputs_to_lifted_tensor_constants
    names = {node: path.removeprefix("network.") for node, path in weights.items()}
    given = [
        node.name for node in program.graph.nodes if node.op == "placeholder" and node.name not in weights
    ]
    names |= dict(zip(given, _input_names(network, entry, given), strict=False))
    return _Traced(entry, list(program.graph.nodes), names, set(weights), _batch(inputs))


def _input_names(network: nn.Module, entry: str, given: list[str]) -> list[str]:
    """What the network itself calls its inputs, else what its method does."""
    named = list(getattr(network, "query_inputs" if entry == "embed_query" else "item_inputs", ()))
    if len(named) == len(given):
        return named
    declared = list(inspect.signature(getattr(network, entry)).parameters)
    return declared if len(declared) == len(given) else given


def _path(node: Any) -> tuple[str, ...]:
    """The modules that the operation stands in, from outside in; a second call of one has another name."""
    stack = (node.meta or {}).get("nn_module_stack") or {}
    # Keys of repeated calls end in @1, @2 …; the wrapper's path is empty.
    paths = [f"{path}@{key.rpartition('@')[2]}" if "@" in key else path for key, (path, _) in stack.items()]
    return tuple(path.removeprefix("network.") for path in paths if path.startswith("network."))


def _boxes(traced: _Traced, network: nn.Module, depth: int) -> Graph:
    """The trace as boxes: all operations of a leaf, or of a module at `depth`, are one of them."""
    modules = dict(network.named_modules())
    graph = Graph()
    feeds: dict[str, tuple[tuple[str, str], ...]] = {}
    """By node: the boxes and weights that it comes from."""
    for node in traced.nodes:
        sources = list(dict.fromkeys(s for arg in node.all_input_nodes for s in feeds.get(arg.name, ())))
        if node.op == "placeholder":
            if node.name in traced.is_weight:
                is_constant = node.name.startswith("c_")  # a number that stands in the code
                feeds[node.name] = () if is_constant else (("weight", node.name),)
            elif node.users or node.meta["val"].numel():  # an input without columns is none
                graph.boxes[node.name] = Box(f"{traced.names[node.name]}\n{_of(node, traced)}", "input")
                feeds[node.name] = (("box", node.name),)
            continue
        if node.op == "output":
            graph.boxes["output"] = Box(f"output of {traced.entry}", "output")
            graph.link(_known(graph, sources, traced, None), "output")
            continue
        path = _path(node)[:depth]
        module = modules.get(path[-1].partition("@")[0]) if path else None
        whole = module is not None and (len(path) == depth or not any(True for _ in module.children()))
        name = _operation(node)
        if not whole and name in _PASSED_THROUGH:
            feeds[node.name] = tuple(sources)
            continue
        if not sources and not whole:  # constants: shapes, ranges
            feeds[node.name] = ()
            continue
        key = path[-1] if whole else node.name
        label = (
            f"{path[-1].partition('@')[0]}\n{_kind(module)}" if whole and module else _SIGNS.get(name, name)
        )
        graph.boxes[key] = Box(
            f"{label}\n{_of(node, traced)}".rstrip("\n"), "layer" if whole else "operation"
        )
        graph.link([s for s in _known(graph, sources, traced, path[-1] if whole else None) if s != key], key)
        feeds[node.name] = (("box", key),)
    graph.keep_reaching("output")
    return graph


def _known(graph: Graph, sources: list[tuple[str, str]], traced: _Traced, inside: str | None) -> list[str]:
    """The boxes of these sources; a weight becomes one, unless the layer `inside` is drawn with it."""
    found = []
    for kind, name in sources:
        if kind == "weight":
            if inside is not None:
                continue
            if name not in graph.boxes:
                graph.boxes[name] = Box("\n".join(textwrap.wrap(traced.names[name], 28)), "weight")
        found.append(name)
    return found


def _operation(node: Any) -> str:
    """`aten.add.Tensor` → `add`."""
    target = getattr(node.target, "__name__", str(node.target))
    parts = target.removeprefix("aten.").split(".")
    return parts[0]


def _of(node: Any, traced: _Traced) -> str:
    value = (node.meta or {}).get("val")
    return _shape(value, traced.batch) if isinstance(value, Tensor) else ""
