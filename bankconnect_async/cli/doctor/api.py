"""
Checks of the API: clock, path, dialect, key and server hash.

They send GET requests only, none of which creates a session or costs money.
"""

import time

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import aiohttp
import attrs

from yarl import URL

from bankconnect_async._codec.error_responses import (
    decode_error_body,
    error_from_response,
)
from bankconnect_async._codec.session_requests import read_url
from bankconnect_async.config import Service
from bankconnect_async.errors import (
    AuthenticationError,
    PaymentRequiredError,
    TransportError,
)
from bankconnect_async.retry import parse_http_date

from .findings import CheckError, Findings
from .requests import send_get
from .settings import Route, Secrets


_MAX_BODY: Final = 2**16
# Signed URLs and the dates of requests bear no more.
_MAX_SKEW: Final = 60
# An id that no session and no entity has.
_NOBODY: Final = "00000000-0000-4000-8000-000000000000"
_MOUNT: Final = "/bank-connect"
_VERSIONS: Final = ("v1", "v2")
_REDIRECTS: Final = range(HTTPStatus.MULTIPLE_CHOICES, HTTPStatus.BAD_REQUEST)
# The shape of a body that is not the API's (contract, `session-api.md`).
_FOREIGN: Final = "S8"
# The shapes of error bodies, and who sends them for a wrong method.
_DIALECTS: Final[Mapping[str, str]] = {
    "S1": "the session flow",
    "S3": "the entity flow or the first documentation",
}


@attrs.frozen(kw_only=True)
class ProbeResponse:
    """
    A response to one of our requests.

    Attributes:
        request: The method and the path.
        status: The HTTP status.
        headers: The headers.
        body: The body, or its beginning.
        skew: The seconds that the server's clock is ahead of this one's.
    """

    request: str
    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    skew: float | None

    @property
    def shape(self) -> str:
        """The contract's number of the shape of an error body."""
        return decode_error_body(self.body).shape

    @property
    def is_foreign(self) -> bool:
        """Whether another server than the API sent an error."""
        return self.status >= HTTPStatus.MULTIPLE_CHOICES and (
            self.shape == _FOREIGN
        )

    def __str__(self) -> str:
        return f"{self.request} answers {self.status}"


@attrs.frozen(kw_only=True)
class ApiProbe:
    """
    Asks the API, and judges its answers.

    Attributes:
        http: The HTTP client.
        service: The API's address.
        route: The way to it.
        secrets: The key and the server hash.
        setting: The variable or option that holds the address.
    """

    http: aiohttp.ClientSession
    service: Service
    route: Route
    secrets: Secrets
    setting: str

    async def check(self, findings: Findings) -> None:
        """
        Run all checks, without those of secrets that are not set.
        """
        try:
            answer = await self._get(self.service.session_url())
        except CheckError as error:
            findings.add_error("path", error)
            return
        await findings.run("clock", self._clock(answer))
        if not await findings.run("path", self._path(answer)):
            return
        await findings.run("dialect", self._dialect(answer))
        if self.secrets.api_key is None:
            return
        is_accepted = await findings.run("key", self._key())
        if is_accepted and self.secrets.server_hash is not None:
            await findings.run("server hash", self._server_hash())

    async def _get(
        self, url: URL, *, with_key: bool = False, with_hash: bool = False
    ) -> ProbeResponse:
        request = f"GET {url.raw_path}"
        began_at = time.time()
        try:
            async with send_get(
                self.http,
                url,
                self.route,
                self.secrets.headers(with_key=with_key, with_hash=with_hash),
            ) as response:
                ended_at = time.time()
                return ProbeResponse(
                    request=request,
                    status=response.status,
                    headers=response.headers,
                    body=await response.content.read(_MAX_BODY),
                    skew=_skew(
                        response.headers.get("Date"), began_at, ended_at
                    ),
                )
        except TransportError as error:
            raise CheckError(
                f"{request} fails: {error}",
                f"look whether {self.setting} is the API's",
            ) from None

    async def _clock(self, answer: ProbeResponse) -> str:
        skew = answer.skew
        if skew is None:
            raise CheckError(
                "the server does not tell the time",
                "compare this machine's clock with another",
                status="warning",
            )
        if abs(skew) > _MAX_SKEW:
            order = "behind" if skew > 0 else "ahead of"
            raise CheckError(
                f"the clock of this machine is {abs(skew):.0f} s {order} the "
                f"server's",
                "set it, by NTP: signed URLs expire by it",
            )
        return f"{abs(skew):.0f} s from the server's"

    async def _path(self, answer: ProbeResponse) -> str:
        location = answer.headers.get("Location", "")
        if answer.status in _REDIRECTS and location:
            raise self._redirect(answer, location)
        if answer.status == HTTPStatus.NOT_FOUND and answer.is_foreign:
            raise await self._astray(answer)
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise CheckError(
                str(answer),
                "the server has a fault: wait, then ask its operator",
            )
        if answer.is_foreign or answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise CheckError(
                f"{answer}, which is not the API's answer",
                f"correct {self.setting}; if a firewall or a proxy answers, "
                f"have this machine allowed",
            )
        return f"{answer}, as the Session API does"

    def _redirect(self, answer: ProbeResponse, location: str) -> CheckError:
        there, place = URL(), "an invalid URL"
        if (url := read_url(location)) is not None:
            there = self.service.base_url.join(url)
            place = f"{there.scheme}://{there.host_port_subcomponent}"
        is_upgrade = (self.service.base_url.scheme, there.scheme) == (
            "http",
            "https",
        )
        advice = (
            f"write https:// in {self.setting}"
            if is_upgrade
            else f"correct {self.setting}"
        )
        return CheckError(
            f"{answer} and redirects to {place}, which no client follows",
            advice,
        )

    async def _astray(self, answer: ProbeResponse) -> CheckError:
        base, version = self.service.base_url, self.service.version
        for other in _VERSIONS:
            if other != version and await self._exists(base / other):
                return CheckError(
                    f"{answer}: this server has {other}, and no {version}",
                    f"set BANKCONNECT_API_VERSION to {other}, or "
                    f"{self.setting} to a server with {version}",
                    check="dialect",
                )
        mounted = base.origin().with_path(_MOUNT)
        if mounted != base and await self._exists(mounted / version):
            return CheckError(f"{answer}", f"set {self.setting} to {mounted}")
        return CheckError(
            f"{answer}: there is no Session API",
            f"correct the path in {self.setting}: the vendor's all end in "
            f"{_MOUNT}",
        )

    async def _exists(self, root: URL) -> bool:
        try:
            answer = await self._get(root / "session" / "")
        except CheckError:
            return False
        return (
            answer.status == HTTPStatus.METHOD_NOT_ALLOWED
            and not answer.is_foreign
        )

    async def _dialect(self, answer: ProbeResponse) -> str:
        flow = _DIALECTS.get(answer.shape, "an unknown flow")
        return f"{self.service.version}, errors of {flow}"

    async def _key(self) -> str:
        answer = await self._get(
            self._url("net_banking_health"), with_key=True
        )
        if answer.status == HTTPStatus.NOT_FOUND:
            # The first documentation has no such endpoint. Its calls need no
            # server hash.
            answer = await self._get(
                self._url("entity", _NOBODY), with_key=True
            )
        return self._judge(
            answer,
            "BANKCONNECT_API_KEY",
            "set it to the key that FinBox gave you for this server: its "
            "development and production keys differ",
        )

    async def _server_hash(self) -> str:
        answer = await self._get(
            self._url("session_data", _NOBODY, "session_upload_status"),
            with_key=True,
            with_hash=True,
        )
        if answer.status == HTTPStatus.NOT_FOUND and answer.is_foreign:
            answer = await self._get(
                self._url("entity", _NOBODY), with_key=True, with_hash=True
            )
        return self._judge(
            answer,
            "BANKCONNECT_SERVER_HASH",
            "set it to the hash that FinBox gave you with this key, which is "
            "right",
        )

    def _judge(self, answer: ProbeResponse, variable: str, advice: str) -> str:
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return f"{answer}: accepted"
        error = error_from_response(
            answer.status,
            answer.body,
            secrets=self.secrets.all(self.route),
        )
        if answer.status == HTTPStatus.NOT_FOUND and not answer.is_foreign:
            return f"{answer} to an unknown id: accepted"
        match error:
            case AuthenticationError():
                raise CheckError(f"{answer}: {variable} is refused", advice)
            case PaymentRequiredError():
                raise CheckError(
                    f"{answer}: the plan or trial has ended",
                    "ask FinBox to extend it",
                )
            case _:
                raise CheckError(
                    f"{answer}: {error.message}",
                    "ask FinBox whether this account may do that",
                )

    def _url(self, *path: str) -> URL:
        return self.service.base_url.joinpath("v1", *path, "")


def _skew(date: str | None, began_at: float, ended_at: float) -> float | None:
    told = parse_http_date(date or "")
    # The date has no fractions of a second.
    return None if told is None else told + 0.5 - (began_at + ended_at) / 2
