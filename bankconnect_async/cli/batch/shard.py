"""
``bankconnect batch --shard``: the rows of one process of several.
"""

import os
import re

from collections.abc import Mapping
from typing import Final, Self

import attrs
import click

from bankconnect_async.cli.input.link_ids import LinkIds
from bankconnect_async.cli.input.rows import BadRow, InputRow
from bankconnect_async.errors import InvalidRequestError


_FORM: Final = re.compile("(auto|[0-9]{1,9})(?:/([0-9]{1,9}))?")
# What Kubernetes (indexed jobs) and AWS Batch (array jobs) set.
_INDEXES: Final = "JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX"
_COUNTS: Final = ("AWS_BATCH_JOB_ARRAY_SIZE",)


@attrs.define
class InputShard:
    """
    Every row of an input whose place, from 0, leaves *index* modulo *count*.

    Attributes:
        index: The number of the shard, from 0.
        count: The number of shards.
    """

    index: int
    count: int
    _link_ids: LinkIds = attrs.field(factory=LinkIds, init=False)
    _place: int = attrs.field(default=0, init=False)

    @classmethod
    def parse(cls, text: str, environ: Mapping[str, str]) -> Self:
        """
        Parse ``I/N``, ``auto/N`` or ``auto``.

        Args:
            text: The text.
            environ: The environment, which has what is ``auto``.

        Raises:
            ValueError: If *text* is none of them, or the environment has no
                number.
        """
        match = _FORM.fullmatch(text)
        if match is None or (match[1] != "auto" and match[2] is None):
            raise ValueError("is not I/N, auto/N or auto")
        index = match[1]
        if index == "auto":
            index = _read(environ, _INDEXES, "its number")
        count = match[2] or _read(environ, _COUNTS, "the number of shards")
        if int(index) >= int(count):
            raise ValueError(
                f"names shard {index} of {count}: the first one is 0, and the "
                f"last one {int(count) - 1}"
            )
        return cls(int(index), int(count))

    def path(self, output: str) -> str:
        """Return the path of the shard's own journal."""
        return f"{output}.shard-{self.index}-of-{self.count}"

    def size(self, total: int) -> int:
        """Return the number of its rows, of *total* ones."""
        return (total - self.index + self.count - 1) // self.count

    def select(self, row: InputRow | BadRow) -> InputRow | BadRow | None:
        """
        Return the next row of the input if it is in the shard, else `None`.

        A link id that an earlier row of another shard has makes it a bad row,
        as in a run without shards.
        """
        is_ours = self._place % self.count == self.index
        self._place += 1
        if isinstance(row, InputRow):
            try:
                self._link_ids.add(row)
            except InvalidRequestError as error:
                row = BadRow(
                    line=row.line,
                    link_id=row.request.link_id,
                    error=error,
                    request=row.request,
                )
        return row if is_ours else None


def parse_shard(
    _: click.Context, __: click.Parameter, text: str | None
) -> InputShard | None:
    """
    Parse the option ``--shard``.
    """
    try:
        return None if text is None else InputShard.parse(text, os.environ)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} {exc}") from None


def _read(
    environ: Mapping[str, str], names: tuple[str, ...], what: str
) -> str:
    for name in names:
        if re.fullmatch("[0-9]{1,9}", text := environ.get(name, "")):
            return text
    raise ValueError(f"lacks {what}: {' or '.join(names)} is not set")
