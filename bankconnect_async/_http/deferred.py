"""
The names that an operation which succeeds at once does without.

They are imported with the first client. Once the process is out of file
descriptors, an import fails, and its error would replace the one that says
what was sent.
"""

# The event loop imports it for its first thread.
from concurrent.futures import ThreadPoolExecutor

from bankconnect_async._codec.error_responses import error_from_response
from bankconnect_async._redaction import redactor
from bankconnect_async.stats import (
    AttemptEnd,
    AttemptStart,
    Latency,
    ResponseHead,
    Stats,
)

from .retrying import RetryState


__all__ = [
    "AttemptEnd",
    "AttemptStart",
    "Latency",
    "ResponseHead",
    "RetryState",
    "Stats",
    "ThreadPoolExecutor",
    "error_from_response",
    "redactor",
]
