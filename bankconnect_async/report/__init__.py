"""
What became of a campaign: counts, errors, latencies and rates.
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
