"""
The files of collected data, one for each id and kind.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from bankconnect_async._threads import run_in_thread
from bankconnect_async.cli.messages import CommandError
from bankconnect_async.collecting.kinds import FILES
from bankconnect_async.collecting.names import safe_name
from bankconnect_async.collecting.outcomes import Collected
from bankconnect_async.journal.file_system import fsync_directory
from bankconnect_async.models import Rows
from bankconnect_async.tables import (
    Format,
    encode_json,
    encode_table,
    write_file,
)


#: The name of the journal of a collection.
JOURNAL: Final = "collected.jsonl"
_PRIVATE: Final = 0o700


@attrs.frozen
class CollectedFiles:
    """
    The directory for collected data.

    Attributes:
        directory: The directory.
        format: The format of tables; what is no table is JSON.
    """

    directory: Path
    format: Format

    def prepare(self, kinds: Sequence[str]) -> None:
        """
        Create the directories.

        Raises:
            CommandError: If the directories cannot be created.
        """
        try:
            for kind in kinds:
                folder = self.directory / kind
                folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        except OSError as exc:
            raise CommandError(
                f"{self.directory}: cannot be written: {exc.strerror}"
            ) from exc

    async def save(self, collected: Collected) -> None:
        """
        Write the file of one kind of data, whole or not at all.

        Raises:
            OSError: If it cannot be written.
        """
        await run_in_thread(self._write, collected)

    def _write(self, collected: Collected) -> None:
        encode, suffix = self._choose(collected)
        name = f"{safe_name(collected.id)}.{suffix}"
        path = self.directory / collected.kind / name
        write_file(encode(), path)
        fsync_directory(path)

    def _choose(self, collected: Collected) -> tuple[Callable[[], bytes], str]:
        data = collected.data
        if collected.kind in FILES:
            # Their links are of no use in an hour.
            return lambda: encode_json(_describe_files(collected)), "json"
        if not isinstance(data, Rows):
            return lambda: encode_json(data.raw), "json"
        return lambda: encode_table(data, self.format), self.format


def _describe_files(collected: Collected) -> list[dict[str, Any]]:
    link, _ = FILES[collected.kind]
    return [
        {
            **{
                name: value
                for name, value in each.row.raw.items()
                if name != link
            },
            "file": each.path and f"{each.path.parent.name}/{each.path.name}",
            "size": each.size,
        }
        for each in collected.files
    ]
