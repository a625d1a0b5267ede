"""
Single steps, measured by pyperf in processes of their own.

Run as a program it takes pyperf's own options.
"""

import atexit
import functools
import shutil
import subprocess
import sys
import tempfile

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import pyperf

from bankconnect_async import (
    Created,
    ReturnURL,
    Session,
    SessionRequest,
    decode_event,
    decode_redirect,
    decode_webhook,
)
from bankconnect_async._codec.error_responses import error_from_response
from bankconnect_async._codec.session_requests import (
    decode_session,
    encode_session,
)
from bankconnect_async.journal import Journal

from .contenders import KEY, RETURN
from .curves import all_parameters
from .server import BODY


_ROOT: Final = Path(__file__).parent.parent
_MODULE: Final = "benchmarks.micro"

_SAMPLES: Final = _ROOT / "tests" / "fixtures"
_EVENTS: Final = {
    "SuccessEvent": "event.iframe.success.v1.json",
    "ExitEvent": "event.iframe.exit.v1.json",
    "ErrorEvent": "event.iframe.error.v1.json",
    "InfoEvent": "event.iframe.info.v1.bank_selected.json",
}
_WEBHOOKS: Final = {
    "ExtractionWebhook": "webhook.entity.completed.json",
    "UploadWebhook": "webhook.session.requirement_completion.json",
    "EnrichmentWebhook": "webhook.session.enrichment.completed.json",
    "ExpiryWebhook": "webhook.session.expiry.json",
}
_REFUSAL: Final = b'{"error": {"code": "KEY_REQUIRED", "message": "no key"}}'


def steps() -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    small = SessionRequest(link_id="customer-42", redirect_url=RETURN)
    parameters = all_parameters()
    large = SessionRequest(
        link_id="customer-42", redirect_url=RETURN, **parameters
    )
    returns = ReturnURL(RETURN, secret="s" * 32)
    returned = f"{returns.build('customer-42')}?success=true&entity_id=1d1f"
    left = f"{RETURN}?success=false"
    unknown = '{"type": "finbox-bankconnect", "status": "new", "payload": {}}'
    return {
        "validate a request, 2 parameters": lambda: SessionRequest(
            link_id="customer-42", redirect_url=RETURN
        ),
        "validate a request, all parameters": lambda: SessionRequest(
            link_id="customer-42", redirect_url=RETURN, **parameters
        ),
        "encode a request, 2 parameters": lambda: encode_session(small, KEY),
        "encode a request, all parameters": lambda: encode_session(large, KEY),
        "decode: Session": lambda: decode_session(BODY),
        "decode: ResponseError": lambda: error_from_response(401, _REFUSAL),
        **_decoding(decode_event, _EVENTS),
        "decode: UnknownEvent": lambda: decode_event(unknown),
        "decode: a redirect": lambda: decode_redirect(left),
        **_decoding(decode_webhook, _WEBHOOKS),
        "build a signed return URL": lambda: returns.build("customer-42"),
        "verify a signed return URL": lambda: returns.decode(returned),
        "append to a journal": partial(_journal().record, _outcome(small)),
    }


@functools.cache
def _journal() -> Journal:
    # One for each process of the benchmark, and gone with it.
    home = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, home)
    journal = Journal(f"{home}/journal.jsonl", api="benchmark")
    journal.open()
    atexit.register(journal.close)
    return journal


def _outcome(request: SessionRequest) -> Created:
    answer = decode_session(BODY)
    session = Session(
        link_id=request.link_id,
        redirect_url=answer.redirect_url,
        session_id=answer.session_id,
    )
    return Created(
        index=0, item=request.link_id, request=request, session=session
    )


def _decoding(
    decode: Callable[[bytes], object], samples: Mapping[str, str]
) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    for kind, name in samples.items():
        raw = (_SAMPLES / name).read_bytes()
        assert type(decode(raw)).__name__ == kind
        found[f"decode: {kind}"] = partial(decode, raw)
    return found


def measure_steps(*, quick: bool) -> dict[str, float]:
    """
    Run pyperf on all steps.

    Returns:
        Microseconds by step: the median of all values of all processes.
    """
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        output = Path(home) / "micro.json"
        effort = ["-p2", "-n2"] if quick else ["-p5", "-n3"]
        subprocess.run(
            [
                sys.executable, "-m", _MODULE, "--quiet", "-w1", *effort,
                "--min-time=0.05", "--output", str(output),
            ],
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
            check=True,
        )  # fmt: skip
        suite = pyperf.BenchmarkSuite.load(str(output))
    return {
        bench.get_name(): bench.median() * 1e6
        for bench in suite.get_benchmarks()
    }


def main() -> None:
    """Be the program that pyperf starts again and again."""
    runner = pyperf.Runner(program_args=("-m", _MODULE))
    for name, step in steps().items():
        runner.bench_func(name, step)


if __name__ == "__main__":
    main()
