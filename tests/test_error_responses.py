"""
Errors of error responses, compared with every sample.
"""

import json

from pathlib import Path

import pytest

from yarl import URL

from bankconnect_async import (
    AuthenticationError,
    BadRequestError,
    Delivery,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)
from bankconnect_async._codec.error_responses import (
    decode_error_body,
    error_from_response,
)


ERRORS = {
    # file: (shape, code, status number, fields, first words)
    "error.detail.401.json": ("S3", None, None, [], "Authentication"),
    "error.message_only.json": ("S4", None, None, [], "Route not"),
    "error.upload.entity.bank_mismatch.json": ("S5", None, 4, [], "Not axis"),
    "error.upload.entity.bank_undetected.json": ("S5", None, 5, [], "Unable"),
    "error.upload.entity.content_type.json": (
        "S6",
        None,
        0,
        ["file"],
        "file: This field must",
    ),
    "error.upload.entity.field_required.json": (
        "S6",
        None,
        0,
        ["file"],
        "file: This field is",
    ),
    "error.upload.entity.field_required.seed.json": (
        "S6",
        None,
        None,
        ["file"],
        "file: This field is",
    ),
    "error.upload.entity.invalid_bank_name.json": (
        "S6",
        None,
        0,
        ["bank_name"],
        "bank_name: Please",
    ),
    "error.upload.entity.invalid_base64.json": (
        "S6",
        None,
        0,
        ["file"],
        "file: Invalid",
    ),
    "error.upload.entity.not_parsable.json": ("S5", None, 6, [], "PDF is"),
    "error.upload.entity.password_incorrect.json": (
        "S5",
        None,
        3,
        [],
        "Password",
    ),
    "error.upload.entity.password_incorrect.seed.json": (
        "S5",
        None,
        None,
        [],
        "Password",
    ),
    "error.upload.entity.trial_expired.json": ("S4", None, 2, [], "Your"),
    "error.upload.entity.unsupported_columns.json": (
        "S5",
        None,
        7,
        [],
        "Unsupported",
    ),
    "error.upload.session.legacy_entity_key.json": (
        "S2",
        "SESSION_NOT_FOUND",
        None,
        [],
        "The provided",
    ),
    "error.upload.session.password_incorrect.json": (
        "S2",
        "PASSWORD_INCORRECT",
        None,
        [],
        "The provided",
    ),
    "error.upload.session.session_expired.json": (
        "S2",
        "SESSION_EXPIRED",
        None,
        [],
        "This session",
    ),
    "error.upload.session.session_not_found.json": (
        "S2",
        "SESSION_NOT_FOUND",
        None,
        [],
        "The provided",
    ),
    "error.upload.session.trial_expired.json": (
        "S2",
        "TRIAL_PERIOD_EXPIRED",
        None,
        [],
        "Your trial",
    ),
    "error.v2.bare_fragment.txt": (
        "S1",
        "INVALID_DATE_FORMAT",
        None,
        [],
        "Invalid format",
    ),
    "error.v2.invalid_request.link_id_required.json": (
        "S1",
        "INVALID_REQUEST",
        None,
        ["link_id"],
        "link_id, This field",
    ),
    "error.v2.invalid_request.link_id_too_long.json": (
        "S1",
        "INVALID_REQUEST",
        None,
        ["link_id"],
        "link_id, Ensure",
    ),
    "error.v2.invalid_request.mode_choice.json": (
        "S1",
        "INVALID_REQUEST",
        None,
        ["mode"],
        'mode, "no"',
    ),
    "error.v2.invalid_request.generic.json": (
        "S1",
        "INVALID_REQUEST",
        None,
        [],
        "Something went",
    ),
    "error.v2.auth_missing.json": (
        "S1",
        "AUTHENTICATION_CREDENTIALS_NOT_PROVIDED",
        None,
        [],
        "Authentication",
    ),
} | {
    # These are named after their code.
    f"error.{name}.json": (
        "S1",
        name.partition(".")[2].upper(),
        None,
        [],
        words,
    )
    for name, words in {
        "session_data.access_denied": "Authentication",
        "session_data.duplicate_processing_request": "Request for",
        "session_data.key_required": "valid session_id",
        "session_data.processing_not_completed": "The processing",
        "session_data.processing_not_requested": "Cannot proceed",
        "session_data.session_deleted": "The provided",
        "session_data.session_not_found": "The provided",
        "session_data.unparsable_statements": "The uploaded",
        "v2.invalid_aa_parameter": "Tenure must",
        "v2.invalid_bank_name": "Invalid bank",
        "v2.invalid_date_format": "Invalid format",
        "v2.invalid_date_range": "`from_date` cannot",
        "v2.invalid_length": "Field length",
        "v2.invalid_mobile_number": "Invalid mobile",
        "v2.invalid_parameter_count": "Invalid number",
        "v2.invalid_session_expiry": "Session expiry",
        "v2.invalid_url": "Enter a",
        "v2.method_not_allowed": "Method GET",
        "v2.missing_aa_parameter": "Frequency",
        "v2.missing_bank_name": "`bank_name` is",
        "v2.missing_date_field": "`from_date` and",
        "v2.mode_not_available": "Specified mode",
        "v2.mode_not_enabled": "Specified mode",
        "v2.payment_required": "Payment",
        "v2.unsupported_media_type": "Unsupported",
    }.items()
}


class TestDecodeErrorBody:
    """
    decode_error_body
    """

    @pytest.mark.parametrize("name", ERRORS)
    def test_reads_the_samples(self, name, sample):
        """
        Every documented error body gives its shape, code, fields and message.
        """
        shape, code, status, fields, words = ERRORS[name]

        body = decode_error_body(sample(name))

        assert (body.shape, body.code, body.status) == (shape, code, status)
        assert list(body.fields) == fields
        assert body.message.startswith(words)

    def test_no_error_sample_is_forgotten(self):
        """
        The table above has every sample of an error.
        """
        fixtures = Path(__file__).parent / "fixtures"

        assert {path.name for path in fixtures.glob("error.*")} == set(ERRORS)

    def test_reads_the_ids_beside_an_error(self, sample):
        """
        Ids are kept, and blank ones are ignored.
        """
        body = decode_error_body(
            sample("error.upload.session.password_incorrect.json")
        )
        blank = decode_error_body(
            sample("error.upload.session.session_not_found.json")
        )

        assert body.session_id == "d8aaa1f6-d2b6-41ba-9e97-f5f843c901ee"
        assert body.statement_id == "43c243ee-0945-46ce-9f76-663f8330df68"
        assert (blank.session_id, blank.statement_id) == (None, None)

    @pytest.mark.parametrize(
        ("raw", "shape", "message"),
        [
            (b"", "S8", ""),
            (b"<h1>502  Bad\nGateway</h1>", "S8", "<h1>502 Bad Gateway</h1>"),
            (b"\xff\x00\x1b[31m", "S8", "���[31m"),
            (b"x" * 500, "S8", "x" * 119 + "…"),
            (b'["text"]', "S8", '["text"]'),
            (b'{"error": "text"}', "S7", "text"),
            (b'{"error": {}, "message": "m"}', "S4", "m"),
            (b'{"error": {"code": "X"}}', "S1", "X"),
            (b'{"error": {"message": 7, "code": 8}}', "S1", ""),
            (b'{"non_field_errors": ["a", "b"]}', "S6", "non_field_errors: a"),
            (b'{"a": [], "b": [1], "c": {}}', "S8", '{"a": [], "b": [1], "c"'),
            (b'{"session_id": ["bad"]}', "S6", "session_id: bad"),
            (b'{"status": true}', "S8", '{"status": true}'),
            (b'{"detail": "a\\nb\\u001b[31m"}', "S3", "a b�[31m"),
            (b'{"message": "%b"}' % (b"x" * 9000), "S4", "x" * 499 + "…"),
            (
                b'{"redirect_url": "https://x.example/?session_id=1&token=2"}',
                "S6",
                "redirect_url: https://x.example/?…",
            ),
            (
                b"see https://x.example/a#token and http://y.example?b=c.",
                "S8",
                "see https://x.example/a?… and http://y.example?…",
            ),
        ],
    )
    def test_survives_the_undocumented(self, raw, shape, message):
        """
        Any other body gives a short, printable excerpt.
        """
        body = decode_error_body(raw)

        assert body.shape == shape
        assert body.message.startswith(message)
        assert body.status is None


class TestRefusal:
    """
    refusal
    """

    @pytest.mark.parametrize(
        ("status", "body", "retry_after", "cls", "delivery"),
        [
            (400, {}, None, BadRequestError, Delivery.REJECTED),
            (401, {"detail": "x"}, None, AuthenticationError, None),
            (402, {}, None, PaymentRequiredError, None),
            (403, {"detail": "x"}, None, AuthenticationError, None),
            (
                403,
                {"error": {"code": "ACCESS_DENIED"}},
                None,
                AuthenticationError,
                None,
            ),
            (
                403,
                {"error": {"code": "INVALID_API_KEY"}},
                None,
                AuthenticationError,
                None,
            ),
            (
                403,
                {"error": {"code": "MODE_NOT_ENABLED"}},
                None,
                PermissionDeniedError,
                None,
            ),
            (403, {"message": "x"}, None, PermissionDeniedError, None),
            (404, {}, None, NotFoundError, None),
            (410, {}, None, NotFoundError, None),
            (405, {}, None, BadRequestError, None),
            (415, {}, None, BadRequestError, None),
            (418, {}, None, BadRequestError, None),
            (429, {}, None, RateLimitError, None),
            (429, {}, 7.0, RateLimitError, None),
            (301, {}, None, BadRequestError, None),
            (307, {}, None, BadRequestError, None),
            (408, {}, None, ServerError, Delivery.AMBIGUOUS),
            (500, {}, None, ServerError, Delivery.AMBIGUOUS),
            (502, {}, None, ServerError, Delivery.AMBIGUOUS),
            (503, {}, None, ServerError, Delivery.AMBIGUOUS),
            (503, {}, 0.0, ServerError, Delivery.REJECTED),
            (504, {}, None, ServerError, Delivery.AMBIGUOUS),
            (520, {}, 3.0, ServerError, Delivery.AMBIGUOUS),
        ],
    )
    def test_is_chosen_by_status_then_code(
        self, status, body, retry_after, cls, delivery
    ):
        """
        The class of the error tells the caller what to do.
        """
        error = error_from_response(
            status, json.dumps(body).encode(), retry_after=retry_after
        )

        assert type(error) is cls
        assert error.delivery is (delivery or Delivery.REJECTED)
        assert (error.status, error.retry_after) == (status, retry_after)

    def test_carries_every_fact(self, sample):
        """
        The facts of the body are attributes of the error.
        """
        raw = sample("error.upload.entity.password_incorrect.json")

        error = error_from_response(400, raw, headers={"x-trace": "t"})

        assert error.entity_status == 3
        assert error.entity_id == "f5057fee-4c3e-4459-82dd-21250b729601"
        assert error.headers == {"x-trace": "t"}
        assert error.body == raw
        assert str(error) == "the server answered 400: Password incorrect"

    def test_names_the_code(self, sample):
        """
        The message has the vendor's code.
        """
        error = error_from_response(
            400, sample("error.v2.invalid_bank_name.json")
        )

        assert error.code == "INVALID_BANK_NAME"
        assert str(error) == (
            "the server answered 400 INVALID_BANK_NAME: "
            "Invalid bank identifier."
        )

    def test_strikes_our_secrets_out(self):
        """
        A key that the server echoes is nowhere in the error.
        """
        key = 'ab/cd+"ef"'
        raw = json.dumps(
            {
                "error": {"code": key, "message": f"x_y, bad {key}"},
                "session_id": key,
            }
        ).replace("/", "\\/")

        error = error_from_response(
            400, raw.encode(), headers={"X-Echo": key}, secrets=[key]
        )
        plain = error_from_response(400, f"bad {key}".encode(), secrets=[key])

        assert error.headers == {"x-echo": "***"}
        assert error.session_id == error.code == "***"
        assert key not in f"{error} {error.__dict__} {plain} {plain.body!r}"

    @pytest.mark.parametrize(
        ("status", "body", "path", "is_told"),
        [
            (404, b"", "/v1/session/", True),
            (404, b"<h1>Not Found</h1>", "/bank-connector/v1/session/", True),
            (404, b'{"message": "No such entity"}', "/v1/session/", False),
            (404, b"", "/bank-connect/v1/session/", False),
            (404, b"", "/x/bank-connect/v1/session/", False),
            (410, b"", "/v1/session/", False),
        ],
    )
    def test_says_where_to_look(self, status, body, path, is_told):
        """
        The message of a 404 suggests a base URL without the vendor's path.
        """
        url = URL("https://portal.finbox.in").with_path(path)
        told = "look at the base URL: the vendor's all end in /bank-connect"

        assert (
            told in str(error_from_response(status, body, url=url))
        ) is is_told

    def test_says_that_redirects_are_not_followed(self):
        """
        The error for a redirect says that redirects are not followed.
        """
        assert str(error_from_response(307, b"")) == (
            "the server answered 307: a redirect, which is never followed"
        )
