"""
Types of keyword arguments, for functions that pass them on.

They are read by type checkers; a client needs none of them at run time.
"""

import datetime
import ssl

from collections.abc import Mapping
from typing import Any, TypedDict

import aiohttp

from yarl import URL

from ._codec.return_urls import ReturnURL
from ._codec.session_requests import Encoding
from .clock import Clock
from .config import Pool, Timeouts
from .models.parameter_groups import Consent, Metadata
from .models.sessions import Unset
from .retry import RetryPolicy
from .stats import AttemptHook, Telemetry
from .store import SessionStore
from .tls import TLS


class WorkerSettings(TypedDict, total=False):
    """
    The settings that a worker process takes from its coordinator.
    """

    base_url: str | URL | None
    version: str
    redirect_url: str | URL | ReturnURL | None | Unset
    allow_http: bool
    encoding: Encoding
    retry: RetryPolicy
    timeouts: Timeouts
    pool: Pool


class ClientSettings(WorkerSettings, total=False):
    """
    The arguments of `AsyncBankConnect`, for functions that pass them on.
    """

    api_key: str
    server_hash: str | None
    tls: TLS | ssl.SSLContext | None
    proxy: str | URL | None
    client_session: aiohttp.ClientSession | None
    store: SessionStore | None
    telemetry: Telemetry | None
    on_attempt: AttemptHook | None
    clock: Clock


class SessionParameters(TypedDict, total=False):
    """
    The parameters of a `SessionRequest` besides its `link_id`.
    """

    redirect_url: str | URL | None | Unset
    from_date: datetime.date | None
    to_date: datetime.date | None
    bank_name: str | None
    bank: str | None
    logo_url: str | URL | None
    mode: str | None
    mobile_number: str | None
    journey_mode: str | None
    session_expiry: int | None
    accept_anything: bool | None
    is_mobile_field_editable: bool | None
    aa_journey_mode: str | None
    aa_recurring_tenure_month_count: int | None
    aa_recurring_tenure_month: float | None
    aa_recurring_frequency_unit: str | None
    aa_recurring_frequency_value: int | None
    aa_journey_code: str | None
    consents: Mapping[str, Consent | str] | None
    metadata: Metadata | None
    max_from_date: datetime.date | None
    max_to_date: datetime.date | None
    program_id: str | None
    aa_vendor: str | None
    extra: Mapping[str, Any] | None
