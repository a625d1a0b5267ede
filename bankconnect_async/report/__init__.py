"""
The counts, errors, latencies and rates of a campaign.
"""

from .creation import report_journals
from .figures import (
    CreationReport,
    JourneyReport,
    LatencyBucket,
    RatePoint,
)
from .journeys import report_store
from .report import CampaignReport


__all__ = [
    "CampaignReport",
    "CreationReport",
    "JourneyReport",
    "LatencyBucket",
    "RatePoint",
    "report_journals",
    "report_store",
]
