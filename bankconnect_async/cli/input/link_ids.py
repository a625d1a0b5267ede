"""
Link ids that several rows of an input have, before any of them is used.
"""

import attrs

from bankconnect_async._compact_map import CompactMap
from bankconnect_async.batch.outcomes import duplicate_error

from .rows import InputRow


@attrs.define
class LinkIds:
    """
    The link ids of the rows so far, and the line of the first row of each.
    """

    _lines: CompactMap = attrs.field(factory=CompactMap, init=False)

    def add(self, row: InputRow) -> None:
        """
        Remember the link id of a row.

        Raises:
            InvalidRequestError: If an earlier row has the same link id.
        """
        link_id = row.request.link_id
        before = self._lines.exchange(link_id, row.line)
        if before is not None:
            self._lines.exchange(link_id, before)
            raise duplicate_error(before)
