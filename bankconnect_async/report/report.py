"""
The report of a campaign, as an object for JSON and as a page.
"""

import datetime

from typing import Any

import attrs

from .figures import CreationReport, JourneyReport
from .html import render_report


@attrs.frozen(kw_only=True)
class CampaignReport:
    """
    The figures of a campaign. They name no customer.

    Attributes:
        creation: The figures of its journals; `None` without any.
        journeys: The figures of its store; `None` without one.
    """

    creation: CreationReport | None = None
    journeys: JourneyReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """
        Return the figures as an object for JSON, with times as texts.
        """
        figures = attrs.asdict(self, value_serializer=_json_value)
        if self.creation is not None:
            figures["creation"] |= {
                "rows": self.creation.rows,
                "failed": self.creation.failed,
            }
        if self.journeys is not None:
            figures["journeys"] |= {
                "sessions": self.journeys.sessions,
                "funnel": self.journeys.funnel,
            }
        return figures

    def to_html(self) -> str:
        """
        Return a page with the figures and plots.

        It needs no network and no scripts.
        """
        return render_report(self.creation, self.journeys)


def _json_value(_: type, __: Any, value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return value
