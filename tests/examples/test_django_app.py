"""
The Django example, under servers of both kinds.
"""

import asyncio
import signal

import pytest

from django.core.signing import TimestampSigner


CUSTOMERS = [f"customer-{number}" for number in range(8)]


def log_in(link_id):
    """Return the cookie of a customer who is logged in."""
    signer = TimestampSigner(key="s" * 32, salt="logins", fallback_keys=[])
    return f"customer={signer.sign(link_id)}"


def under_gunicorn(descriptor):
    """Return the command that runs it under WSGI, in four processes."""
    options = ["--workers=4", "--threads=2", f"--bind=fd://{descriptor}"]
    return ["-m", "gunicorn", *options, "django_app:wsgi"]


def under_uvicorn(descriptor):
    """Return the command that runs it under ASGI."""
    return ["-m", "uvicorn", f"--fd={descriptor}", "django_app:asgi"]


@pytest.mark.parametrize(
    ("command", "expected"),
    # uvicorn ends itself by the signal that stopped it.
    [(under_gunicorn, 0), (under_uvicorn, -signal.SIGTERM)],
)
async def test_service(run_service, command, expected):
    """
    Every customer is served by whichever process, and all outcomes come; it
    ends cleanly.
    """
    async with run_service(command, cookie=log_in) as service:
        session_ids = await asyncio.gather(
            *map(service.finish_in_frame, CUSTOMERS)
        )
        await asyncio.gather(
            *(service.go_and_return(f"{link_id}-r") for link_id in CUSTOMERS)
        )
        async with service.browser("customer-0") as http:
            url = service.protocol.base.origin() / "uploads" / session_ids[0]
            async with http.get(url) as answer:
                assert await answer.json() == {"is_uploaded": True}
        status, stdout, stderr = await service.stop()

    assert status == expected, stderr
    for link_id in CUSTOMERS:
        assert f"{link_id} has submitted statements" in stdout
        assert f"{link_id}-r has submitted statements" in stdout
    assert stdout.count("UploadWebhook") == len(CUSTOMERS)
    assert "Warning" not in stderr
    assert "Traceback" not in stderr
