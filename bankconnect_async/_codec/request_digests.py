"""
Digests of session requests: what journals and stores compare.
"""

import hashlib

from bankconnect_async.models.sessions import SessionRequest

from .redirects import without_state
from .session_requests import canonical_session


def request_digest(request: SessionRequest) -> str:
    """
    Digest the parameters of a request, except its link id.

    The signature of a `ReturnURL` is left out, as it differs each time.
    """
    url = request.redirect_url
    if isinstance(url, str):
        return _digest(request, without_state(url, request.link_id))
    return _digest(request, None)


def journey_digest(request: SessionRequest) -> str:
    """
    Digest the journey that a request is for: its parameters and workflow.

    It leaves out the link id and the redirect URL, but tells whether there
    is one.
    """
    is_frame = request.redirect_url is None
    return _digest(request, None if is_frame else "")


def _digest(request: SessionRequest, redirect_url: str | None) -> str:
    raw = canonical_session(request, redirect_url=redirect_url)
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
