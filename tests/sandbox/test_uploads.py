"""
Uploads of both flows: accepted statements, and errors of the others.
"""

import base64
import datetime
import io

import aiohttp
import pypdf
import pytest

from bankconnect_async.errors import ConfigurationError, InvalidRequestError
from bankconnect_async.sandbox import UNPAID_API_KEY, Sandbox, statement_pdf
from bankconnect_async.sandbox.fake_data import pdfs as _pdfs
from bankconnect_async.sandbox.fake_data import pypdf_files
from bankconnect_async.sandbox.fake_data.file_errors import (
    UnreadableError,
    WrongPasswordError,
)


KEY = {"x-api-key": "sandbox-api-key"}
BOTH = {**KEY, "server-hash": "sandbox-server-hash"}
LINK_ID = "cust-7f31-0042"
UNKNOWN = "f5057fee-4c3e-4459-82dd-21250b729601"
PDF = statement_pdf("axis", LINK_ID)
TEXT = base64.b64encode(PDF).decode()
NO_COLUMNS = PDF.replace(b"Balance", b"Ballast")
NO_BANK = PDF.replace(b"Axis Bank", b"Some Bank")
NO_DETAILS = PDF.replace(b"Account number", b"Patient number")
PASSWORD_INCORRECT = "error.upload.session.password_incorrect.json"
ENTITY_PATHS = [
    "upload",
    "bankless_upload",
    "upload_base64",
    "bankless_upload_base64",
]


ALGORITHMS = ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"]


def written(writer):
    """
    Return the bytes of a PDF.
    """
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def encrypted(algorithm, password):
    """
    Return an encrypted statement, whose owner has another password.
    """
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(PDF))
    writer.encrypt(password, owner_password="owner", algorithm=algorithm)
    return written(writer)


@pytest.fixture(name="post")
def _post(http, form):
    """
    Post a form to one of the uploads, and return status and JSON.
    """

    async def post(sandbox, path, fields, *, headers=KEY, **kwargs):
        url = f"{sandbox.base_url}/v1/statement/{path}/"
        data = form(fields) if isinstance(fields, dict) else fields
        async with http.post(
            url, data=data, headers=headers, **kwargs
        ) as answer:
            return answer.status, await answer.json()

    return post


def good_fields(path):
    """
    Return the good fields of an upload of the entity flow.
    """
    return {
        "file": TEXT if "base64" in path else PDF,
        "link_id": LINK_ID,
        "bank_name": None if "bankless" in path else "axis",
    }


class TestEntityUploads:
    """
    The four uploads of the entity flow.
    """

    @pytest.mark.parametrize("path", ENTITY_PATHS)
    @pytest.mark.parametrize(
        ("dialect", "sample"),
        [
            ("seed", "upload.entity.response.seed.json"),
            ("entity", "upload.entity.response.json"),
        ],
    )
    async def test_shape(
        self, post, differences, sample_json, path, dialect, sample
    ):
        """
        All four answer as documented, with the identity if asked for it.
        """
        async with Sandbox(dialect) as sandbox:
            status, body = await post(
                sandbox, path, good_fields(path), params={"identity": "true"}
            )
            _, short = await post(sandbox, path, good_fields(path))
            (entity,) = sandbox.entities.values()

        assert status == 200
        assert not differences(body, sample_json(sample))
        assert not differences(
            short, sample_json("upload.entity.response.no_identity_query.json")
        )
        assert body["entity_id"] == short["entity_id"] == entity.entity_id
        assert entity.link_id == LINK_ID
        assert body["bank_name"] == "axis"

    async def test_urlencoded(self, post, sandbox):
        """
        A form without a file may be URL-encoded.
        """
        fields = good_fields("upload_base64")

        status, body = await post(
            sandbox, "upload_base64", aiohttp.FormData(fields)
        )

        assert (status, body["bank_name"]) == (200, "axis")

    async def test_which_entity(self, post, sandbox):
        """
        An entity's id wins over a link id, which creates an entity the first
        time.
        """
        fields = good_fields("upload")
        _, first = await post(sandbox, "upload", fields)
        _, other = await post(sandbox, "upload", {**fields, "link_id": "b"})
        _, again = await post(
            sandbox, "upload", {**fields, "entity_id": other["entity_id"]}
        )
        unknown = await post(
            sandbox, "upload", {**fields, "entity_id": UNKNOWN}
        )

        assert first["entity_id"] != other["entity_id"]
        assert again["entity_id"] == other["entity_id"]
        assert unknown == (404, {"detail": "Not found."})

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    @pytest.mark.parametrize(
        ("path", "fields", "sample"),
        [
            ("upload", {"file": None}, "field_required"),
            ("bankless_upload_base64", {"file": None}, "field_required"),
            ("upload_base64", {"file": "<>"}, "invalid_base64"),
            ("upload", {"bank_name": "moon"}, "invalid_bank_name"),
            ("upload", {"file": b"%PDF-1.4 junk"}, "not_parsable"),
            ("upload", {"file": b"junk"}, "not_parsable"),
            (
                "upload",
                {"file": statement_pdf("axis", scanned=True)},
                "not_parsable",
            ),
            (
                "upload",
                {"file": statement_pdf("axis", password="secret")},
                "password_incorrect",
            ),
            (
                "upload",
                {
                    "file": statement_pdf("axis", password="secret"),
                    "pdf_password": "x",
                },
                "password_incorrect",
            ),
            ("upload", {"file": statement_pdf("hdfc")}, "bank_mismatch"),
            ("bankless_upload", {"file": NO_BANK}, "bank_undetected"),
            ("upload", {"file": NO_COLUMNS}, "unsupported_columns"),
        ],
    )
    async def test_errors(
        self, post, sample_json, dialect, path, fields, sample
    ):
        """
        Each case has its documented body; the seed's has no `status`.
        """
        documented = sample_json(f"error.upload.entity.{sample}.json")
        async with Sandbox(dialect) as sandbox:
            status, body = await post(
                sandbox, path, {**good_fields(path), **fields}
            )

        if dialect == "seed":
            documented.pop("status")
        if "entity_id" in documented:
            documented["entity_id"] = body["entity_id"]
            assert body["entity_id"] in sandbox.entities
        if sample == "invalid_bank_name":
            (text,) = body["bank_name"]
            assert "axis, " in text
            documented["bank_name"] = [text]
        assert (status, body) == (400, documented)

    @pytest.mark.parametrize(
        ("path", "fields", "field"),
        [
            ("upload", {"file": b""}, "file"),
            ("upload", {"file": "text"}, "file"),
            ("upload_base64", {"file": b"bytes"}, "file"),
            ("upload", {"bank_name": None}, "bank_name"),
            ("upload", {"file": None, "file_url": "x"}, "file_url"),
            (
                "upload",
                {"file": None, "file_url": "https://a.example/missing.pdf"},
                "file_url",
            ),
        ],
    )
    async def test_fields(self, post, path, fields, field):
        """
        The error names a missing or bad field.
        """
        async with Sandbox("entity") as sandbox:
            status, body = await post(
                sandbox, path, {**good_fields(path), **fields}
            )

        assert (status, set(body)) == (400, {field, "status"})

    async def test_content_type(self, http, sample_json):
        """
        These endpoints refuse JSON.
        """
        async with (
            Sandbox("entity") as sandbox,
            http.post(
                f"{sandbox.base_url}/v1/statement/upload/",
                json=good_fields("upload_base64"),
                headers=KEY,
            ) as answer,
        ):
            body = await answer.json()

        assert (answer.status, body) == (
            400,
            sample_json("error.upload.entity.content_type.json"),
        )

    @pytest.mark.parametrize("dialect", ["seed", "entity"])
    async def test_trial(self, post, sample_json, dialect):
        """
        An upload with an unpaid key is refused.
        """
        documented = sample_json("error.upload.entity.trial_expired.json")
        if dialect == "seed":
            documented.pop("status")
        async with Sandbox(dialect) as sandbox:
            answer = await post(
                sandbox,
                "upload",
                good_fields("upload"),
                headers={"x-api-key": UNPAID_API_KEY},
            )

        assert answer == (402, documented)

    async def test_single_account(self, post, http):
        """
        An entity of one account refuses statements of another account.
        """
        other = statement_pdf("axis", account_number="999999")
        async with Sandbox("entity") as sandbox:
            async with http.post(
                f"{sandbox.base_url}/v1/entity/",
                data={"is_single_account": "true"},
                headers=KEY,
            ) as answer:
                entity_id = (await answer.json())["entity_id"]
            fields = {**good_fields("upload"), "entity_id": entity_id}
            first, _ = await post(sandbox, "upload", fields)
            second = await post(sandbox, "upload", {**fields, "file": other})

        assert first == 200
        assert second == (
            400,
            {"file": ["Statement is of another account."], "status": 0},
        )

    async def test_fraud(self, post, differences, sample_json):
        """
        A file that an editor wrote is reported as fraud.
        """
        pdf = statement_pdf("axis", LINK_ID, edited=True)
        async with Sandbox("entity") as sandbox:
            _, body = await post(
                sandbox,
                "upload",
                {**good_fields("upload"), "file": pdf},
                params={"identity": "true"},
            )

        assert not differences(
            body, sample_json("upload.entity.response.fraud.json")
        )
        assert (body["is_fraud"], body["fraud_type"]) == (True, "author_fraud")

    async def test_nothing_read_yet(self, post, sample_json, http):
        """
        An unknown layout shows no identity; the data come later.
        """
        async with Sandbox("entity", processing_time=0) as sandbox:
            _, body = await post(
                sandbox,
                "upload",
                {**good_fields("upload"), "file": NO_DETAILS},
                params={"identity": "true"},
            )
            async with http.get(
                f"{sandbox.base_url}/v1/entity/{body['entity_id']}/accounts/",
                headers=BOTH,
            ) as answer:
                (account,) = (await answer.json())["accounts"]

        documented = sample_json("upload.entity.response.identity_null.json")
        assert (body["identity"], body["date_range"]) == (
            None,
            documented["date_range"],
        )
        assert len(account["months"]) == 7

    async def test_password(self, post):
        """
        An encrypted statement is accepted and stored with its password.
        """
        pdf = statement_pdf("axis", LINK_ID, password="secret")
        async with Sandbox("entity") as sandbox:
            status, body = await post(
                sandbox,
                "upload",
                {
                    **good_fields("upload"),
                    "file": pdf,
                    "pdf_password": "secret",
                },
            )

        assert (status, body["bank_name"]) == (200, "axis")

    async def test_other_banks(self, post, sandbox):
        """
        A statement may mention another bank.
        """
        pdf = PDF.replace(b"SAMPLE LANDLORD", b"HDFC Bank Ltd. ").replace(
            b"Axis Bank", b"axis bank"
        )
        fields = {**good_fields("upload"), "file": pdf}

        status, body = await post(sandbox, "upload", fields)

        assert (status, body["bank_name"]) == (200, "axis")

    async def test_unnamed_bank(self, post, sandbox):
        """
        A statement that names no bank belongs to the bank of the form.
        """
        fields = {**good_fields("upload"), "file": NO_BANK}

        status, body = await post(sandbox, "upload", fields)

        assert (status, body["bank_name"]) == (200, "axis")


class TestURLs:
    """
    `file_url`, which the sandbox never fetches.
    """

    @pytest.mark.parametrize(
        ("name", "fields", "outcome"),
        [
            ("statement.pdf", {}, "axis"),
            ("hdfc-2026.pdf", {}, "hdfc"),
            ("statement.pdf", {"bank_name": "SBI"}, "sbi"),
            ("encrypted.pdf", {"pdf_password": "x"}, "axis"),
            ("encrypted.pdf", {}, "PASSWORD_INCORRECT"),
            ("hdfc.pdf", {"bank_name": "axis"}, "BANK_NAME_MISMATCH"),
            ("unknown.pdf", {}, "BANK_NAME_UNDETECTED"),
            ("missing.pdf", {}, "INVALID_FILE_URL"),
            ("empty.pdf", {}, "EMPTY_FILE"),
            ("damaged.pdf", {}, "INVALID_FILE_OBJECT"),
            ("scanned.pdf", {}, "PDF_IS_IMAGE"),
            ("unsupported.pdf", {}, "STATEMENT_UNSUPPORTED_FORMAT"),
        ],
    )
    async def test_by_name(self, post, create, name, fields, outcome):
        """
        The words in a URL's file name decide what it stands for.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            _, body = await post(
                sandbox,
                "upload_session",
                {
                    "file_url": f"https://files.example/{name}",
                    "session_id": session.session_id,
                    "upload_type": "PDF",
                    **fields,
                },
            )

        found = body["error"]["code"] if "error" in body else body["bank_name"]
        assert found == outcome

    async def test_own(self, post, http, create):
        """
        The sandbox reads a link to its own storage.
        """
        async with Sandbox("session") as sandbox:
            first, second, third = [await create(sandbox) for _ in range(3)]
            fields = {
                "file": PDF,
                "session_id": first.session_id,
                "upload_type": "PDF",
            }
            await post(sandbox, "upload_session", fields)
            async with http.get(
                f"{sandbox.base_url}/v1/session_data/{first.session_id}"
                "/get_pdfs/",
                headers=BOTH,
            ) as answer:
                (stored,) = (await answer.json())["statements"]
            status, _ = await post(
                sandbox,
                "upload_session",
                {
                    "file_url": stored["pdf_url"],
                    "session_id": second.session_id,
                    "upload_type": "PDF",
                },
            )
            _, broken = await post(
                sandbox,
                "upload_session",
                {
                    "file_url": stored["pdf_url"] + "x",
                    "session_id": third.session_id,
                    "upload_type": "PDF",
                },
            )

        assert status == 200
        assert broken["error"]["code"] == "INVALID_FILE_URL"


class TestSessionUploads:
    """
    `statement/upload_session/`.
    """

    @pytest.fixture(name="put")
    def _put(self, post):
        """Upload into a session of our own, or that of *session_id*."""

        async def put(sandbox, session=None, *, params=None, **fields):
            return await post(
                sandbox,
                "upload_session",
                {
                    "file": PDF,
                    "upload_type": "PDF",
                    "session_id": session and session.session_id,
                    **fields,
                },
                params=params or {},
            )

        return put

    @pytest.mark.parametrize(
        ("params", "sample"),
        [
            ({"identity": "true"}, "upload.session.response.json"),
            ({}, "upload.session.response.minimal.json"),
        ],
    )
    async def test_shape(
        self, put, create, differences, sample_json, params, sample
    ):
        """
        A statement is accepted as documented.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            status, body = await put(
                sandbox, session, params=params, bank_name="AXIS"
            )

        assert status == 200
        assert not differences(body, sample_json(sample))
        assert body["session_id"] == session.session_id

    async def test_base64(self, put, create):
        """
        A file may be sent as Base64 text.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            status, body = await put(
                sandbox,
                session,
                file=TEXT,
                upload_type="BASE64",
                params={"progress": "true"},
            )

        assert status == 200
        assert [entry["status"] for entry in body["progress"]] == ["completed"]

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"file": None}, "MISSING_FILE_OBJECT"),
            ({"file": "text"}, "INVALID_FILE_OBJECT"),
            ({"upload_type": "BASE64"}, "INVALID_FILE_OBJECT"),
            ({"file": b"junk"}, "INVALID_FILE_OBJECT"),
            ({"file": b""}, "EMPTY_FILE"),
            ({"file": None, "file_url": "x"}, "INVALID_FILE_URL"),
            ({"file": "<>", "upload_type": "BASE64"}, "INVALID_BASE_64"),
            (
                {"file": statement_pdf(password="secret")},
                "PASSWORD_INCORRECT",
            ),
            ({"file": statement_pdf(scanned=True)}, "PDF_IS_IMAGE"),
            ({"file": NO_COLUMNS}, "STATEMENT_UNSUPPORTED_FORMAT"),
            ({"file": NO_BANK}, "BANK_NAME_UNDETECTED"),
            ({"bank_name": "hdfc"}, "BANK_NAME_MISMATCH"),
            (
                {
                    "file": statement_pdf(
                        from_date=datetime.date(2019, 1, 1),
                        to_date=datetime.date(2019, 6, 30),
                    )
                },
                "OUT_OF_DATE_RANGE",
            ),
            ({"account_category": "PIRATE"}, "INVALID_ACCOUNT_CATEGORY"),
            ({"upload_type": "DOC"}, "INVALID_REQUEST"),
            ({"upload_type": None}, "INVALID_REQUEST"),
        ],
    )
    async def test_codes(
        self, put, create, differences, sample_json, fields, code
    ):
        """
        Each documented code appears in the documented envelope.
        """
        documented = sample_json(
            "error.upload.session.password_incorrect.json"
        )
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            status, body = await put(sandbox, session, **fields)

        assert (status, body["error"]["code"]) == (400, code)
        assert not differences(body, documented)
        assert body["session_id"] == session.session_id

    async def test_text_of_password(self, put, create, sample_json):
        """
        The error of a wrong password equals the sample.
        """
        documented = sample_json(
            "error.upload.session.password_incorrect.json"
        )
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            _, body = await put(
                sandbox, session, file=statement_pdf(password="secret")
            )

        assert body == {
            **documented,
            "session_id": session.session_id,
            "statement_id": body["statement_id"],
        }
        assert body["statement_id"]

    async def test_duplicate(self, put, create):
        """
        The same file is refused the second time, so a retry does no harm.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            first, taken = await put(sandbox, session)
            second, body = await put(sandbox, session)

        assert (first, second) == (200, 400)
        assert body["error"]["code"] == "STATEMENT_DUPLICATE"
        assert body["statement_id"] == taken["statement_id"]

    @pytest.mark.parametrize(
        ("until", "status", "sample"),
        [
            ("unknown", 404, "session_not_found"),
            ("expired", 400, "session_expired"),
            ("processing", 400, "session_expired"),
        ],
    )
    async def test_closed(
        self, put, create, sample_json, until, status, sample
    ):
        """
        A finished or unknown session accepts no uploads.
        """
        documented = sample_json(f"error.upload.session.{sample}.json")
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            if until == "expired":
                sandbox.expire(session.session_id)
            if until == "processing":
                await put(sandbox, session)
                await post_nothing(sandbox, session)
            answer = await put(
                sandbox, session if until != "unknown" else None
            )

        if documented["session_id"]:
            documented["session_id"] = session.session_id
        assert answer == (status, documented)

    async def test_deleted(self, put, create, http):
        """
        A deleted session answers 410 to uploads, too.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            await http.delete(
                f"{sandbox.base_url}/v1/session_data/{session.session_id}"
                "/delete/",
                headers=BOTH,
            )
            status, body = await put(sandbox, session)

        assert (status, body["error"]["code"]) == (410, "SESSION_DELETED")

    async def test_trial(self, post, create, sample_json):
        """
        An upload with an unpaid key is refused.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            answer = await post(
                sandbox,
                "upload_session",
                {
                    "file": PDF,
                    "session_id": session.session_id,
                    "upload_type": "PDF",
                },
                headers={"x-api-key": UNPAID_API_KEY},
            )

        documented = sample_json("error.upload.session.trial_expired.json")
        assert answer == (
            402,
            {**documented, "session_id": session.session_id},
        )

    async def test_other_flow(self, sandbox, put, create, sample_json):
        """
        A customer of the entity flow may not use this endpoint.
        """
        session = await create(sandbox)

        answer = await put(sandbox, session)

        assert answer == (403, sample_json("error.message_only.json"))

    async def test_bank_of_no_list(self, put, create):
        """
        An unknown bank is reported as a bad field.
        """
        async with Sandbox("session") as sandbox:
            session = await create(sandbox)
            status, body = await put(sandbox, session, bank_name="moon")

        assert (status, set(body)) == (400, {"bank_name", "status"})

    @pytest.mark.parametrize(
        ("data", "content_type"),
        [
            (b"{}", "application/json"),
            (b"x", "text/plain"),
            (b"--x\r\n", "multipart/form-data; boundary=y"),
        ],
    )
    async def test_no_form(self, http, data, content_type):
        """
        A body that is not a form is refused as a bad file.
        """
        async with (
            Sandbox("session") as sandbox,
            http.post(
                f"{sandbox.base_url}/v1/statement/upload_session/",
                data=data,
                headers={**KEY, "Content-Type": content_type},
            ) as answer,
        ):
            body = await answer.json()

        assert answer.status == 400
        assert body["error"]["code"] == "INVALID_FILE_OBJECT"


async def post_nothing(sandbox, session):
    """
    Send an empty POST to start processing.
    """
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{sandbox.base_url}/v1/session_data/{session.session_id}"
            "/initiate_processing/",
            headers=BOTH,
        ) as answer,
    ):
        assert answer.status == 202


@pytest.mark.long
@pytest.mark.parametrize(("size", "is_taken"), [(20, True), (25, False)])
async def test_bounded(post, form, sandbox, size, is_taken):
    """
    A large file is accepted; a too large one is not read to its end.
    """
    padded = io.BytesIO(PDF + b"\n" * (size * 2**20))
    data = form({**good_fields("upload"), "file": None})
    data.add_field("file", padded, filename="statement.pdf")
    url = f"{sandbox.base_url}/v1/statement/upload/"
    async with (
        aiohttp.ClientSession() as http,
        http.post(url, data=data, headers=KEY) as answer,
    ):
        assert (answer.status == 200) is is_taken
        assert (answer.status == 413) is not is_taken


class TestStatementPDF:
    """
    PDFs for tests.
    """

    def test_plain(self):
        """
        Any reader finds its text, and every call returns the same bytes.
        """
        day = datetime.date(2026, 3, 31)
        pdf = statement_pdf("HDFC", "a", to_date=day)
        reader = pypdf.PdfReader(io.BytesIO(pdf), strict=True)
        text = "\n".join(page.extract_text() for page in reader.pages)

        assert "HDFC Bank" in text
        assert "01/09/2025 to 31/03/2026" in text
        assert len(reader.pages) > 1
        assert pdf == statement_pdf("hdfc", "a", to_date=day)
        assert pdf != statement_pdf("hdfc", "b", to_date=day)

    def test_encrypted(self):
        """
        Only its password opens it.
        """
        reader = pypdf.PdfReader(io.BytesIO(statement_pdf(password="s")))

        assert reader.is_encrypted
        assert not reader.decrypt("x")
        assert reader.decrypt("s")

    def test_aes(self):
        """
        AES encryption, which banks use, is read, too.
        """
        writer = pypdf.PdfWriter(clone_from=io.BytesIO(PDF))
        writer.encrypt("s", algorithm="AES-256")
        content = written(writer)

        with pytest.raises(WrongPasswordError):
            _pdfs.read_pdf(content, "x")
        assert "Axis" in _pdfs.read_pdf(content, "s").text

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize("password", ["s", "ключ", "pässwörd", "x" * 200])
    def test_right_password(self, algorithm, password):
        """
        The right password opens a file of any encryption.
        """
        content = encrypted(algorithm, password)

        assert "Axis" in _pdfs.read_pdf(content, password).text
        with pytest.raises(WrongPasswordError):
            _pdfs.read_pdf(content, "another")

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    @pytest.mark.parametrize("password", [None, "", "any"])
    def test_permissions_only(self, algorithm, password):
        """
        A file that only its owner's password restricts is open to all.
        """
        content = encrypted(algorithm, "")

        assert "Axis" in _pdfs.read_pdf(content, password).text

    @pytest.mark.parametrize(
        ("metadata", "is_edited"),
        [
            ({"/Creator": "sejda.com (5.3.7)"}, True),
            ({"/Producer": "iLovePDF"}, True),
            ({"/Producer": "Smallpdf.com"}, True),
            ({"/Creator": "PDFescape Online"}, True),
            ({"/Creator": "Adobe Acrobat Pro 24.1"}, True),
            ({"/Producer": "Foxit PDF Editor"}, True),
            ({"/Producer": "Acrobat Distiller 9.0 (Windows)"}, False),
            ({"/Creator": "Acrobat PDFMaker 19 for Word"}, False),
            ({"/Producer": "iText 2.1.7 by 1T3XT"}, False),
        ],
        ids=str,
    )
    def test_editors(self, metadata, is_edited):
        """
        The metadata of common editors show that a file was edited.
        """
        writer = pypdf.PdfWriter(clone_from=io.BytesIO(PDF))
        writer.add_metadata(metadata)
        content = written(writer)

        assert _pdfs.read_pdf(content, None).is_edited is is_edited
        assert _pdfs._scan_pdf(content, None).is_edited is is_edited

    def test_scanned(self):
        """
        A scan has an image and no text.
        """
        pdf = statement_pdf(scanned=True)
        (page,) = pypdf.PdfReader(io.BytesIO(pdf)).pages

        assert not page.extract_text()
        assert "/XObject" in page["/Resources"]

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({"bank_name": "moon"}, "bank_name"),
            ({"account_number": "x"}, "account_number"),
            (
                {
                    "from_date": datetime.date(2026, 2, 1),
                    "to_date": datetime.date(2026, 1, 1),
                },
                "from_date",
            ),
        ],
    )
    def test_bad_arguments(self, arguments, field):
        """
        The error names a bad argument.
        """
        with pytest.raises(InvalidRequestError) as caught:
            statement_pdf(**arguments)

        assert caught.value.fields.keys() == {field}

    @pytest.mark.parametrize(
        ("text", "period"),
        [
            ("01/02/2026 to 28/02/2026", True),
            ("31/02/2026 to 28/02/2026", False),
            ("28/02/2026 to 01/02/2026", False),
            ("", False),
        ],
    )
    def test_period(self, text, period):
        """
        Impossible days are not a period.
        """
        document = _pdfs.StatementDocument(text=text, page_count=1)

        assert bool(document.period) is period


def test_without_cryptography(monkeypatch, caplog):
    """
    A file that pypdf cannot decrypt alone is scanned, and the log says so.
    """

    def decrypt(*_):
        raise pypdf.errors.DependencyError

    content = encrypted("AES-256", "s")
    monkeypatch.setattr(pypdf.PdfReader, "decrypt", decrypt)
    _pdfs._log_missing_extra.cache_clear()

    assert _pdfs.read_pdf(content, "s").has_columns
    assert "[sandbox]" in caplog.text


class TestWithoutPypdf:
    """
    The sandbox without its extra.
    """

    @pytest.fixture(autouse=True)
    def _hidden(self, monkeypatch):
        monkeypatch.setattr(pypdf_files, "pypdf", None)
        _pdfs._log_missing_extra.cache_clear()

    def test_password(self):
        """
        The error of an encrypted PDF without the extra names the extra.
        """
        with pytest.raises(ConfigurationError, match=r"\[sandbox\]"):
            statement_pdf(password="secret")

    def test_looked_at(self):
        """
        The sandbox reads its own PDFs without the extra, too.
        """
        document = _pdfs.read_pdf(PDF, None)
        edited = _pdfs.read_pdf(statement_pdf(edited=True), None)

        assert document.bank.identifier == "AXIS"
        assert document.account_number
        assert document.period
        assert document.page_count > 1
        assert (document.is_edited, edited.is_edited) == (False, True)
        assert _pdfs.read_pdf(statement_pdf(scanned=True), None).is_scanned

    def test_encrypted(self):
        """
        Any password opens an encrypted file; a missing one does not.
        """
        content = b"%PDF-1.4 /Encrypt"

        assert not _pdfs.read_pdf(content, "any").is_scanned
        with pytest.raises(WrongPasswordError):
            _pdfs.read_pdf(content, None)

    def test_compressed(self):
        """
        A compressed text is assumed to be a statement's.
        """
        assert _pdfs.read_pdf(b"%PDF-1.4 /Font", None).has_columns

    async def test_log(self, post, caplog):
        """
        The log names the extra once, at the first upload that needs it.
        """
        fields = good_fields("upload")
        secret = {"file": encrypted("AES-256", "s"), "pdf_password": "s"}
        async with Sandbox("entity") as sandbox:
            plain, _ = await post(sandbox, "upload", fields)
            before = list(caplog.messages)
            statuses = [
                (await post(sandbox, "upload", {**fields, **secret}))[0]
                for _ in range(2)
            ]

        assert (plain, before, statuses) == (200, [], [200, 200])
        (message,) = caplog.messages
        assert "pip install 'bankconnect-async[sandbox]'" in message

    def test_no_pdf(self):
        """
        Other bytes are not a PDF.
        """
        with pytest.raises(UnreadableError):
            _pdfs.read_pdf(b"MZ", None)
