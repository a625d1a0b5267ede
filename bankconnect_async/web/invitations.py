"""
Invitations: signed links for mail and SMS, whose tap begins a journey.
"""

import datetime

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypedDict

import attrs

from yarl import URL

from bankconnect_async.errors import InvalidCallbackError, InvalidRequestError
from bankconnect_async.models.sessions import SessionRequest

from .tokens import load_signed


# Programs cut or wrap links that are much longer.
_MAX_LENGTH: Final = 1000
_MAX_ID: Final = 100


class InvitationParameters(TypedDict, total=False):
    """
    The session's parameters that an invitation can have.

    Anyone who gets the link can read them, so there are no others.
    """

    from_date: datetime.date | None
    to_date: datetime.date | None
    bank_name: str | None
    mode: str | None


_NAMES: Final = tuple(InvitationParameters.__annotations__)
_DATES: Final = frozenset({"from_date", "to_date"})


@attrs.frozen(kw_only=True)
class Invitation:
    """
    A genuine invitation, as its link names it.

    Attributes:
        link_id: Your id of the customer.
        invitation_id: Your id of the invitation, which is the store's
            `scope`.
        parameters: The session's parameters.
        path: The path of the link.
    """

    link_id: str
    invitation_id: str
    parameters: InvitationParameters
    path: str = attrs.field(repr=False)

    def request(self) -> SessionRequest:
        """Return the request for its session, without a redirect URL."""
        return _build_request(self.link_id, self.parameters)


@attrs.frozen(eq=False)
class InvitationLinks:
    """
    Builds and verifies the links below *base*.
    """

    base: URL
    _serializer: Any = attrs.field(repr=False)

    def build(
        self,
        link_id: str,
        *,
        invitation_id: str,
        max_age: datetime.timedelta,
        parameters: InvitationParameters,
    ) -> str:
        """
        Implement `CallbackProtocol.invitation_url`.
        """
        _check(invitation_id, max_age, parameters)
        _build_request(link_id, parameters)
        # By position, which is shorter than by name.
        values = [parameters.get(name) for name in _NAMES]
        while values and values[-1] is None:
            values.pop()
        lifetime = int(max_age.total_seconds())
        token = self._serializer.dumps(
            [
                *(link_id, invitation_id, lifetime),
                *(value and str(value) for value in values),
            ]
        )
        url = f"{self.base}/{token}"
        if len(url) > _MAX_LENGTH:
            problem = (
                f"makes a link of {len(url)} characters, at most "
                f"{_MAX_LENGTH} are allowed: shorten link_id, invitation_id "
                f"or the parameters"
            )
            raise InvalidRequestError(fields={"invitation": (problem,)})
        return url

    def verify(self, path: str) -> Invitation:
        """
        Return the invitation of a link.

        Args:
            path: The path; a query, which programs that track clicks append,
                is ignored.

        Raises:
            InvalidCallbackError: If the link is forged or expired.
        """
        path = path.partition("?")[0]
        prefix = f"{self.base.raw_path.rstrip('/')}/"
        token = path.removeprefix(prefix)
        found = (
            load_signed(self._serializer, token)
            if token != path and len(token) <= _MAX_LENGTH
            else None
        )
        if found is None:
            raise InvalidCallbackError("the link is not an invitation of ours")
        link_id, invitation_id, lifetime, *values = found.value
        if found.age > lifetime:
            raise InvalidCallbackError(
                "the invitation has expired", expired=True
            )
        return Invitation(
            link_id=link_id,
            invitation_id=invitation_id,
            parameters=_parse_parameters(values),
            path=path,
        )


def _check(
    invitation_id: object,
    max_age: object,
    parameters: Mapping[str, Any],
) -> None:
    fields: dict[str, tuple[str, ...]] = {
        name: (
            "cannot be in an invitation, because anyone who gets the link can "
            f"read it; it can have {', '.join(_NAMES)}",
        )
        for name in sorted(parameters.keys() - {*_NAMES})
    }
    if (
        not isinstance(invitation_id, str)
        or not invitation_id.strip()
        or not invitation_id.isprintable()
        or len(invitation_id) > _MAX_ID
    ):
        fields["invitation_id"] = (
            f"must be a printable text of 1 to {_MAX_ID} characters",
        )
    if (
        not isinstance(max_age, datetime.timedelta)
        or max_age.total_seconds() < 1
    ):
        fields["max_age"] = ("must be a timedelta of a second or more",)
    if fields:
        raise InvalidRequestError(fields=fields)


def _build_request(
    link_id: str, parameters: InvitationParameters
) -> SessionRequest:
    return SessionRequest(link_id=link_id, redirect_url=None, **parameters)


def _parse_parameters(values: Iterable[str | None]) -> InvitationParameters:
    parsed: Any = {
        name: datetime.date.fromisoformat(text) if name in _DATES else text
        for name, text in zip(_NAMES, values, strict=False)
        if text is not None
    }
    return parsed  # type: ignore[no-any-return] # signed by `build`
