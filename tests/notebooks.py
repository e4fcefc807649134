"""Runs a notebook as Jupyter does, without Jupyter: its cells in order, in one namespace; what each shows is
kept.

`python -m tests.notebooks FILE` runs it in a temporary folder and writes what the cells show into the file.
"""

import ast
import contextlib
import io
import json
import os
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Shown:
    """What one cell showed: what it printed, and its last value by kind of MIME."""

    out: str = ""
    err: str = ""
    value: dict[str, str] = field(default_factory=dict)


def cells(file: Path) -> list[str]:
    """The code of each cell that has code."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(code: str, names: dict[str, Any]) -> Shown:
    """Run the cell in the namespace `names`; its last line is shown where it is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    out, err = io.StringIO(), io.StringIO()
    value: dict[str, str] = {}
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        exec(compile(tree, "<cell>", "exec"), names)
        if last is not None and not code.rstrip().endswith(";"):
            value = displayed(eval(compile(ast.Expression(last.value), "<cell>", "eval"), names))  # noqa: S307
    return Shown(out.getvalue(), err.getvalue(), value)


def displayed(value: Any) -> dict[str, str]:
    """As a notebook displays a value: in HTML too, where the value has it."""
    if value is None:
        return {}
    html = getattr(value, "_repr_html_", None)
    made = html() if html is not None else None
    return {"text/plain": repr(value)} | ({"text/html": made} if made is not None else {})


def recorded(file: Path) -> str:
    """The notebook's text, with what its cells show."""
    notebook = json.loads(file.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        count += 1
        shown = run("".join(cell["source"]), names)
        streams = [("stdout", shown.out), ("stderr", shown.err)]
        outputs: list[dict[str, Any]] = [
            {"name": name, "output_type": "stream", "text": text.splitlines(keepends=True)}
            for name, text in streams
            if text
        ]
        if shown.value:
            data = {kind: text.splitlines(keepends=True) for kind, text in shown.value.items()}
            outputs.append(
                {"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"}
            )
        cell |= {"execution_count": count, "outputs": outputs}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        where = Path(name).resolve()
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            text = recorded(where)
        where.write_text(text, encoding="utf-8")
    os._exit(0)  # what the cells left open need not be taken apart
