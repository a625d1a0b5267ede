"""
Count the files and lines that one session goes through.

Run it with ``python -m benchmarks.code_path``. It prints, for one
`create_session` and for one item of a batch on a warm client, the number of
the package's files and of the moves between them, and the lines of code of
the whole package. With ``--walk`` it prints every call, too.
"""

import argparse
import ast
import asyncio
import contextlib
import io
import sys
import tokenize

from collections.abc import Callable, Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, Final

import attrs

import bankconnect_async

from .serving import serve_ours


_PACKAGE: Final = Path(bankconnect_async.__file__).parent
_BLANK: Final = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}
_WARM_UP: Final = 20


@attrs.define
class CodePath:
    """
    The package's files that some code goes through.

    Attributes:
        calls: The file and the function of each call, in order. A coroutine
            is called again whenever it resumes.
    """

    calls: list[tuple[str, str]] = attrs.Factory(list)

    @property
    def files(self) -> set[str]:
        """The names of the files."""
        return {file for file, _ in self.calls}

    @property
    def moves(self) -> int:
        """The number of moves from one file to another."""
        files = [file for file, _ in self.calls]
        return sum(left != right for left, right in pairwise(files))

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the functions that are called meanwhile."""
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, _: Any) -> None:
        file = Path(frame.f_code.co_filename)
        if event != "call" or not file.is_relative_to(_PACKAGE):
            return
        name = str(file.relative_to(_PACKAGE))
        self.calls.append((name, frame.f_code.co_qualname))


async def trace_create() -> CodePath:
    """Trace one `create_session` on a warm client."""
    path = CodePath()
    with serve_ours() as target:
        async with _client(target.base_url) as bank:
            for _ in range(_WARM_UP):
                await bank.create_session("customer")
            with path.recorded():
                await bank.create_session("customer")
    return path


async def trace_batch_item() -> CodePath:
    """Trace one item of a batch, after others."""
    path = CodePath()
    with serve_ours() as target:
        async with (
            _client(target.base_url) as bank,
            bank.create_sessions(
                map(str, range(2 * _WARM_UP)), concurrency=1
            ) as outcomes,
        ):
            for _ in range(_WARM_UP):
                await anext(outcomes)
            with path.recorded():
                await anext(outcomes)
            outcomes.drain()
            async for _ in outcomes:
                pass
    return path


def _client(base_url: str) -> bankconnect_async.AsyncBankConnect:
    return bankconnect_async.AsyncBankConnect(
        "key", base_url=base_url, redirect_url=None
    )


def count_lines(source: str) -> int:
    """Count lines of code: no blanks, comments or docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _BLANK:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(
            node,
            ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
        ) and ast.get_docstring(node, clean=False):
            first = node.body[0]
            lines -= {*range(first.lineno, (first.end_lineno or 0) + 1)}
    return len(lines)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.code_path")
    parser.add_argument("--walk", action="store_true", help="print all calls")
    options = parser.parse_args()
    cases: dict[str, Callable[[], Coroutine[Any, Any, CodePath]]] = {
        "create_session": trace_create,
        "one batch item": trace_batch_item,
    }
    for name, trace in cases.items():
        path = asyncio.run(trace())
        print(f"{name}: {len(path.files)} files, {path.moves} moves")
        if options.walk:
            for file, function in path.calls:
                print(f"    {file:34} {function}")
        else:
            print("".join(f"    {file}\n" for file in sorted(path.files)))
    files = _PACKAGE.rglob("*.py")
    print(f"lines of code: {sum(count_lines(f.read_text()) for f in files)}")


if __name__ == "__main__":
    main()
