"""
The client against the sandbox, over real sockets.
"""

import asyncio
import gc
import inspect
import json
import logging
import pickle
import ssl
import threading
import traceback

from datetime import date

import aiohttp
import attrs
import pytest

from yarl import URL

from bankconnect_async import (
    CURRENT_BASE_URL,
    DEFAULT_BASE_URL,
    UNSET,
    AsyncBankConnect,
    AuthenticationError,
    BadRequestError,
    BankConnectError,
    ClientClosedError,
    ConfigurationError,
    ConnectError,
    Delivery,
    ExitEvent,
    HeadTooLargeError,
    InvalidRequestError,
    InvalidResponseError,
    PaymentRequiredError,
    Pool,
    ProxyAuthenticationError,
    RetryPolicy,
    ReturnURL,
    ServerError,
    Session,
    SessionRequest,
    SuccessEvent,
    Timeouts,
    decode_event,
)
from bankconnect_async._codec.error_responses import error_from_response
from bankconnect_async.arguments import ClientSettings, SessionParameters
from bankconnect_async.sandbox import UNPAID_API_KEY, Sandbox


RETURN = "https://lender.example/return"


def connect(server, **settings):
    """Make a client of *server*, in the inline-frame workflow."""
    return AsyncBankConnect(
        settings.pop("api_key", "sandbox-api-key"),
        **{"base_url": server.base_url, "redirect_url": None, **settings},
    )


@pytest.fixture(name="bank")
async def _bank(sandbox):
    """Return a client of the sandbox."""
    async with connect(sandbox) as bank:
        yield bank


class TestCreateSession:
    """
    AsyncBankConnect.create_session
    """

    async def test_takes_a_bare_link_id(self, bank, sandbox):
        """
        A link id is enough if the client has all other settings.
        """
        session = await bank.create_session("customer-42")

        assert session.link_id == "customer-42"
        assert session.attempts == 1
        assert session.session_id in sandbox.sessions
        assert str(session.redirect_url) == (
            sandbox.sessions[session.session_id].redirect_url
        )
        assert sandbox.created("customer-42") == 1

    @pytest.mark.parametrize("encoding", ["json", "form"])
    async def test_sends_what_was_asked_for(self, sandbox, encoding):
        """
        Parameters arrive in either encoding.
        """
        async with connect(sandbox, encoding=encoding) as bank:
            session = await bank.create_session(
                SessionRequest(
                    link_id="customer-42",
                    redirect_url=RETURN,
                    from_date=date(2026, 1, 1),
                    to_date=date(2026, 6, 30),
                    bank_name="axis",
                )
            )

        assert sandbox.sessions[session.session_id].parameters == {
            "link_id": "customer-42",
            "redirect_url": RETURN,
            "from_date": date(2026, 1, 1),
            "to_date": date(2026, 6, 30),
            "bank_name": "axis",
        }

    @pytest.mark.parametrize("dialect", ["seed", "entity", "session"])
    @pytest.mark.parametrize("version", ["v1", "v2"])
    async def test_speaks_every_dialect(self, dialect, version):
        """
        The id comes from its field or from the URL, and a token stays in the
        URL.
        """
        async with (
            Sandbox(dialect) as sandbox,
            connect(sandbox, version=version) as bank,
        ):
            session = await bank.create_session("customer-42")

            assert session.session_id in sandbox.sessions
            assert ("token" in session.redirect_url.query) is (version == "v2")

    @pytest.mark.parametrize(
        ("of_client", "of_request", "sent"),
        [
            (RETURN, UNSET, RETURN),
            (RETURN, None, None),
            (None, RETURN, RETURN),
            (URL(RETURN), UNSET, RETURN),
            (UNSET, RETURN, RETURN),
        ],
    )
    async def test_the_request_s_redirect_url_wins(
        self, sandbox, of_client, of_request, sent
    ):
        """
        A request's `redirect_url` wins; `UNSET` means the client's.
        """
        async with connect(sandbox, redirect_url=of_client) as bank:
            session = await bank.create_session(
                SessionRequest(link_id="c", redirect_url=of_request)
            )

        parameters = sandbox.sessions[session.session_id].parameters
        assert parameters.get("redirect_url") == sent

    async def test_some_redirect_url_has_to_be_given(self, sandbox):
        """
        Without any `redirect_url`, nothing is sent and the error says so.
        """
        async with connect(sandbox, redirect_url=UNSET) as bank:
            with pytest.raises(InvalidRequestError, match="inline-frame"):
                await bank.create_session("customer-42")

        assert sandbox.requests == 0

    async def test_refuses_what_is_no_request(self, bank, sandbox):
        """
        A request of another type is a local error that names the type.
        """
        with pytest.raises(InvalidRequestError, match="not int"):
            await bank.create_session(42)
        assert sandbox.requests == 0

    async def test_a_wrong_key(self, sandbox):
        """
        A 401 is an authentication error and is not retried.
        """
        async with connect(sandbox, api_key="wrong-key") as bank:
            with pytest.raises(AuthenticationError) as caught:
                await bank.create_session("customer-42")

        assert caught.value.status == 401
        assert [each.number for each in caught.value.attempts] == [1]
        assert sandbox.requests == 1

    async def test_an_unpaid_plan(self, sandbox):
        """
        A 402 has an error of its own.
        """
        async with connect(sandbox, api_key=UNPAID_API_KEY) as bank:
            with pytest.raises(PaymentRequiredError) as caught:
                await bank.create_session("customer-42")

        assert caught.value.delivery is Delivery.REJECTED

    async def test_the_server_s_refusal_has_its_fields(self):
        """
        The error has the vendor's code and the field that it is about.
        """
        request = SessionRequest(
            link_id="c", redirect_url=None, bank_name="no such bank"
        )
        async with Sandbox("session") as sandbox, connect(sandbox) as bank:
            with pytest.raises(BadRequestError) as caught:
                await bank.create_session(request)

        assert caught.value.code == "INVALID_BANK_NAME"
        assert caught.value.status == 400


class TestParameters:
    """
    create_session with a link_id and parameters
    """

    async def test_sends_them(self, bank, sandbox):
        """
        Parameters beside a link_id arrive as those of a SessionRequest do.
        """
        session = await bank.create_session(
            "customer-42", bank_name="axis", from_date=date(2026, 1, 1)
        )

        assert sandbox.sessions[session.session_id].parameters == {
            "link_id": "customer-42",
            "bank_name": "axis",
            "from_date": date(2026, 1, 1),
        }
        assert session.link_id == "customer-42"
        assert session.url == str(session.redirect_url)

    async def test_takes_a_redirect_url(self, bank, sandbox):
        """
        A redirect_url among the parameters replaces the client's.
        """
        url = "https://lender.example/elsewhere"

        session = await bank.create_session("customer-42", redirect_url=url)

        found = sandbox.sessions[session.session_id].parameters
        assert found["redirect_url"] == url

    @pytest.mark.parametrize(
        ("parameters", "field"),
        [({"mode": "fax"}, "mode"), ({"session_expiry": 1}, "session_expiry")],
    )
    async def test_refuses_bad_ones(self, bank, sandbox, parameters, field):
        """
        A bad parameter is an error that names it, and nothing is sent.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await bank.create_session("customer-42", **parameters)

        assert caught.value.fields.keys() == {field}
        assert sandbox.requests == 0

    async def test_refuses_them_beside_a_request(self, bank, sandbox):
        """
        Parameters beside a SessionRequest are an error.
        """
        request = SessionRequest(link_id="customer-42", redirect_url=None)

        with pytest.raises(InvalidRequestError, match="not in both"):
            await bank.create_session(request, bank_name="axis")

        assert sandbox.requests == 0

    def test_lists_every_parameter(self):
        """
        The typed parameters are those of a SessionRequest but its link_id.
        """
        assert SessionParameters.__annotations__.keys() == (
            attrs.fields_dict(SessionRequest).keys() - {"link_id"}
        )


class TestSettings:
    """
    Settings, and their effects
    """

    @pytest.mark.parametrize(
        ("version", "host"),
        [("v1", DEFAULT_BASE_URL), ("v2", CURRENT_BASE_URL)],
    )
    def test_the_version_decides_the_base_url(self, version, host):
        """
        Without a base_url, v2 goes to the vendor's current host.
        """
        bank = AsyncBankConnect("key", version=version)

        assert repr(bank) == f"<AsyncBankConnect {host}/{version}/session/>"
        assert repr(
            AsyncBankConnect.from_env(
                {
                    "BANKCONNECT_API_KEY": "key",
                    "BANKCONNECT_API_VERSION": version,
                }
            )
        ) == repr(bank)

    def test_lists_every_setting(self):
        """
        The typed settings are the arguments of the client.
        """
        parameters = inspect.signature(AsyncBankConnect).parameters

        assert ClientSettings.__annotations__.keys() == parameters.keys()

    @pytest.mark.parametrize(
        "redirect_url",
        [RETURN, None, UNSET, ReturnURL(RETURN, secret="k" * 32)],
    )
    def test_tells_its_redirect_url(self, redirect_url):
        """
        The client's `redirect_url` property has the given value.
        """
        bank = AsyncBankConnect("key", redirect_url=redirect_url)

        assert bank.redirect_url == redirect_url

    async def test_makes_a_handle_of_a_session(self, bank):
        """
        A session can be passed instead of its id, unless the server sent no
        id.
        """
        url = "https://journey.example/"
        session = Session(link_id="c", redirect_url=url, session_id="s-1")

        assert bank.session(session) == bank.session("s-1")
        with pytest.raises(InvalidRequestError, match="session_id"):
            bank.session(attrs.evolve(session, session_id=None))


class TestRetries:
    """
    Failures of attempts, and their effects on the caller
    """

    async def test_goes_on_after_a_fault(
        self, raw_server, answer, created_answer, clock
    ):
        """
        A 500 is retried, and the session has the number of attempts.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            writer.write(answer(status="500 Oops"))
            await server.read_request(reader)
            writer.write(created_answer)

        async with (
            raw_server(script) as server,
            connect(server, clock=clock) as bank,
        ):
            session = await bank.create_session("customer-42")

        assert session.attempts == 2
        assert len(clock.slept) == 1
        assert server.requests[0] == server.requests[1]

    async def test_at_most_once_sends_once(self, raw_server, answer, clock):
        """
        With at-most-once an ambiguous outcome is raised, not retried.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            writer.write(answer(status="502 Bad Gateway"))

        policy = RetryPolicy(delivery="at-most-once")
        async with (
            raw_server(script) as server,
            connect(server, clock=clock, retry=policy) as bank,
        ):
            with pytest.raises(ServerError) as caught:
                await bank.create_session("customer-42")

        assert caught.value.delivery is Delivery.AMBIGUOUS
        assert len(server.requests) == 1

    async def test_a_call_may_have_a_policy_of_its_own(
        self, raw_server, answer, clock
    ):
        """
        The policy of one call replaces the client's.
        """

        async def script(server, reader, writer):
            while True:
                await server.read_request(reader)
                writer.write(answer(status="500 Oops"))

        async with (
            raw_server(script) as server,
            connect(server, clock=clock) as bank,
        ):
            with pytest.raises(ServerError) as caught:
                await bank.create_session("c", retry=RetryPolicy(attempts=5))

        assert len(caught.value.attempts) == 5
        assert len(server.requests) == 5

    async def test_html_with_200_is_no_session(
        self, raw_server, answer, clock
    ):
        """
        A 2xx response that cannot be decoded is retried, then raised.
        """

        async def script(server, reader, writer):
            while True:
                await server.read_request(reader)
                writer.write(answer(b"<html>OK</html>"))

        async with (
            raw_server(script) as server,
            connect(server, clock=clock) as bank,
        ):
            with pytest.raises(InvalidResponseError) as caught:
                await bank.create_session("customer-42")

        assert caught.value.delivery is Delivery.CREATED_UNREADABLE
        assert len(server.requests) == 3

    async def test_waits_as_long_as_told(
        self, raw_server, answer, created_answer, clock
    ):
        """
        A Retry-After in seconds is waited for.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            writer.write(
                answer(status="429 Slow", headers="Retry-After: 4\r\n")
            )
            await server.read_request(reader)
            writer.write(created_answer)

        async with (
            raw_server(script) as server,
            connect(server, clock=clock) as bank,
        ):
            session = await bank.create_session("customer-42")

        assert clock.slept == [4]
        assert session.attempts == 2

    async def test_an_outage_ends_at_the_deadline(self, raw_server):
        """
        One deadline covers all attempts and the waits between them.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        policy = RetryPolicy(attempts=100, deadline=0.3, wait_initial=0.01)
        loop = asyncio.get_running_loop()
        async with (
            raw_server(script) as server,
            connect(server, retry=policy, timeouts=Timeouts(read=0.1)) as bank,
        ):
            started = loop.time()
            with pytest.raises(BankConnectError):
                await bank.create_session("customer-42")
            took = loop.time() - started

        assert took < 0.3 + 0.25
        assert 2 <= len(server.requests) <= 4

    async def test_no_retries_after_a_refused_certificate(self, clock):
        """
        A server with a bad certificate gets no second attempt.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server = await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        async with AsyncBankConnect(
            "key",
            base_url=f"https://127.0.0.1:{port}/",
            redirect_url=None,
            tls=context,
            clock=clock,
        ) as bank:
            with pytest.raises(ConnectError) as caught:
                await bank.create_session("customer-42")
        server.close()

        assert caught.value.delivery is Delivery.NOT_SENT

    @pytest.mark.parametrize("status", ["421 Misdirected", "425 Too Early"])
    async def test_unprocessed_requests_are_sent_again(
        self, raw_server, answer, created_answer, status
    ):
        """
        421 and 425 are retried even at most once, 421 on another connection.
        """

        async def script(server, reader, writer):
            while True:
                await server.read_request(reader)
                is_first = len(server.requests) == 1
                writer.write(
                    answer(status=status) if is_first else created_answer
                )

        async with (
            raw_server(script) as server,
            AsyncBankConnect(
                "key",
                base_url=server.base_url,
                redirect_url=None,
                retry=RetryPolicy(
                    attempts=2, wait_initial=0, delivery="at-most-once"
                ),
            ) as bank,
        ):
            session = await bank.create_session("customer-42")

        assert session.attempts == 2
        assert server.connections == (2 if "421" in status else 1)

    async def test_a_head_too_large_is_asked_for_once(
        self, raw_server, answer
    ):
        """
        A failure that a retry cannot change is not retried.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            writer.write(answer(headers=f"X-Trace: {'x' * 70_000}\r\n"))
            await writer.drain()

        async with (
            raw_server(script) as server,
            AsyncBankConnect(
                "key", base_url=server.base_url, redirect_url=None
            ) as bank,
        ):
            with pytest.raises(HeadTooLargeError):
                await bank.create_session("customer-42")

        assert len(server.requests) == 1

    async def test_large_refusals_are_read_off_the_loop(
        self, raw_server, answer, monkeypatch
    ):
        """
        A thread reads an error response of 1 MiB while the loop goes on.
        """
        threads = []

        def read(*args, **kwargs):
            threads.append(threading.current_thread())
            return error_from_response(*args, **kwargs)

        monkeypatch.setattr(
            "bankconnect_async._http.deferred.error_from_response", read
        )
        filler = "x" * (1024 * 1024 - 100)
        large = json.dumps({"detail": "no", "filler": filler}).encode()
        left = [answer(large, status="400 No"), answer(status="400 No")]

        async def script(server, reader, writer):
            while left:
                await server.read_request(reader)
                writer.write(left.pop(0))
                await writer.drain()

        async with (
            raw_server(script) as server,
            AsyncBankConnect(
                "key", base_url=server.base_url, redirect_url=None
            ) as bank,
        ):
            with pytest.raises(BadRequestError, match="no"):
                await bank.create_session("customer-42")
            with pytest.raises(BadRequestError):
                await bank.create_session("customer-42")

        main = threading.main_thread()
        assert [thread is main for thread in threads] == [False, True]

    @pytest.mark.parametrize(
        ("status", "error"),
        [("200 OK", InvalidResponseError), ("400 No", BadRequestError)],
    )
    async def test_what_reading_raises_is_an_outcome(
        self, raw_server, answer, monkeypatch, status, error
    ):
        """
        Any exception while a response is read becomes an outcome.
        """

        def fail(raw, *args, **kwargs):
            if raw:
                raise MemoryError
            return error_from_response(400, raw)

        monkeypatch.setattr(
            "bankconnect_async._resources.session_creation.decode_session",
            fail,
        )
        monkeypatch.setattr(
            "bankconnect_async._http.deferred.error_from_response",
            lambda _, raw, **kwargs: fail(raw, **kwargs),
        )

        async def script(server, reader, writer):
            await server.read_request(reader)
            writer.write(answer(b'{"canary": 1}', status=status))

        async with (
            raw_server(script) as server,
            AsyncBankConnect(
                "key",
                base_url=server.base_url,
                redirect_url=None,
                retry=RetryPolicy(attempts=1),
            ) as bank,
        ):
            with pytest.raises(error) as caught:
                await bank.create_session("customer-42")
            assert bank.stats().attempts == {caught.value.delivery: 1}

        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


class TestSetup:
    """
    Making and closing clients.
    """

    @pytest.mark.parametrize(
        ("settings", "name"),
        [
            ({"api_key": ""}, "api_key"),
            ({"api_key": "a\nb"}, "api_key"),
            ({"server_hash": ""}, "server_hash"),
            ({"base_url": "http://api.example"}, "base_url"),
            ({"version": "2"}, "version"),
            ({"version": "v3"}, "version"),
            ({"retry": 3}, "retry"),
            ({"timeouts": 5}, "timeouts"),
            ({"pool": 10}, "pool"),
            ({"redirect_url": "nowhere"}, "redirect_url"),
            ({"redirect_url": RETURN + "x" * 200}, "redirect_url"),
            ({"encoding": "xml"}, "encoding"),
            ({"proxy": "socks5://127.0.0.1"}, "proxy"),
            ({"proxy": "nowhere"}, "proxy"),
        ],
    )
    def test_bad_settings_are_named(self, settings, name):
        """
        The error names the bad setting, and no client is made.
        """
        with pytest.raises(ConfigurationError) as caught:
            AsyncBankConnect(**{"api_key": "key", **settings})

        assert list(caught.value.fields) == [name]

    @pytest.mark.parametrize(
        "settings",
        [
            {"encoding": "xml"},
            {"base_url": "http://api.example"},
            {"api_key": f"canary-{'x' * 100} "},
            {"proxy": "socks5://user:canary@127.0.0.1"},
            {"retry": 3},
            {"pool": 1},
            {"tls": False},
        ],
    )
    def test_secrets_stay_out_of_tracebacks(self, settings):
        """
        The traceback of a failed construction shows no secret, locals
        included.
        """
        given = {"api_key": "canary-key", "server_hash": "canary-hash"}

        for make in (
            lambda: AsyncBankConnect(**(given | settings)),
            lambda: AsyncBankConnect.from_env(
                {"BANKCONNECT_API_KEY": "canary-env"}, **(given | settings)
            ),
        ):
            with pytest.raises(ConfigurationError) as caught:
                make()
            frames = caught.value.__traceback__
            while frames is not None and "test_" in str(frames.tb_frame):
                frames = frames.tb_next
            text = "".join(
                traceback.TracebackException(
                    ConfigurationError,
                    caught.value,
                    frames,
                    capture_locals=True,
                ).format()
            )
            assert "AsyncBankConnect" in text
            assert "canary" not in text

    def test_reads_the_environment(self):
        """
        Every variable is read, arguments win, and blank values are ignored.
        """
        environ = {
            "BANKCONNECT_API_KEY": "key",
            "BANKCONNECT_SERVER_HASH": "hash",
            "BANKCONNECT_BASE_URL": CURRENT_BASE_URL,
            "BANKCONNECT_API_VERSION": "v2",
            "BANKCONNECT_REDIRECT_URL": RETURN,
        }

        bank = AsyncBankConnect.from_env(environ)
        other = AsyncBankConnect.from_env(
            environ | {"BANKCONNECT_BASE_URL": " "}, version="v1"
        )

        assert repr(bank) == (
            f"<AsyncBankConnect {CURRENT_BASE_URL}/v2/session/>"
        )
        assert bank.redirect_url == RETURN
        assert "portal.finbox.in/bank-connect/v1/" in repr(other)

    @pytest.mark.parametrize(
        ("environ", "proxy"),
        [
            (
                {"HTTPS_PROXY": "http://p.example:3128"},
                "http://p.example:3128",
            ),
            ({"https_proxy": "p.example:3128"}, "http://p.example:3128"),
            (
                {
                    "HTTPS_PROXY": "http://p.example:3128",
                    "BANKCONNECT_PROXY": "http://ours.example:1",
                },
                "http://ours.example:1",
            ),
            (
                {
                    "HTTPS_PROXY": "http://p.example:3128",
                    "NO_PROXY": "localhost,.finbox.in",
                },
                "None",
            ),
            (
                {
                    "HTTPS_PROXY": "http://p.example:3128",
                    "BANKCONNECT_BASE_URL": "http://127.0.0.1:1/bank-connect",
                },
                "None",
            ),
            ({"HTTP_PROXY": "http://p.example:3128"}, "None"),
            (
                {"https_proxy": " ", "HTTPS_PROXY": "http://p.example:3128"},
                "http://p.example:3128",
            ),
            ({"HTTPS_PROXY": " "}, "None"),
        ],
    )
    def test_takes_the_proxy_of_other_programs(self, environ, proxy):
        """
        Without BANKCONNECT_PROXY, an https API is reached through
        HTTPS_PROXY, unless NO_PROXY or an argument exempts it.
        """
        environ = {"BANKCONNECT_API_KEY": "key", **environ}
        bank = AsyncBankConnect.from_env(environ)
        without = AsyncBankConnect.from_env(environ, proxy=None)

        assert str(bank._executor.transport._proxy) == proxy
        assert without._executor.transport._proxy is None

    async def test_the_environment_names_a_ca(self):
        """
        A file of BANKCONNECT_CA_FILE that cannot be read is an error.
        """
        bank = AsyncBankConnect.from_env(
            {
                "BANKCONNECT_API_KEY": "key",
                "BANKCONNECT_CA_FILE": "/no/such.pem",
            }
        )

        with pytest.raises(
            ConfigurationError, match=r"ca_file: /no/such\.pem"
        ):
            await bank.create_session("customer-42", redirect_url=None)

    @pytest.mark.parametrize("proxy", ["ftp://canary@p.example", "http://a b"])
    def test_a_bad_proxy_of_other_programs_is_named(self, proxy):
        """
        The error names the variable, and shows no password.
        """
        with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
            AsyncBankConnect.from_env(
                {"BANKCONNECT_API_KEY": "key", "HTTPS_PROXY": proxy}
            )
        assert "canary" not in str(caught.value)

    def test_the_environment_needs_a_key(self):
        """
        Without a key the error names the variable to set.
        """
        with pytest.raises(ConfigurationError, match="BANKCONNECT_API_KEY"):
            AsyncBankConnect.from_env({})

    async def test_a_mistyped_parameter_is_corrected(self, sandbox):
        """
        The error names the parameter that was meant; nothing is sent.
        """
        async with connect(sandbox) as bank:
            with pytest.raises(TypeError, match=r"did you mean bank_name\?"):
                await bank.create_session("customer-42", bank_nmae="axis")

        assert sandbox.requests == 0

    async def test_a_server_that_is_silent_is_named(self, raw_server):
        """
        A handshake that takes too long names the host and the port.
        """

        async def wait(server, reader, writer):
            await reader.read()

        async with raw_server(wait) as server:
            place = URL(server.base_url).authority
            async with AsyncBankConnect(
                "key",
                base_url=f"https://{place}/bank-connect",
                redirect_url=None,
                timeouts=Timeouts(connect=0.05),
                retry=RetryPolicy(attempts=1),
            ) as bank:
                with pytest.raises(ConnectError, match=f"long .{place}."):
                    await bank.create_session("customer-42")

    async def test_a_closed_client_says_so(self, sandbox):
        """
        After the block the client sends nothing more.
        """
        async with connect(sandbox) as bank:
            pass

        with pytest.raises(ClientClosedError, match="closed") as caught:
            await bank.create_session("customer-42")
        assert caught.value.delivery is Delivery.NOT_SENT
        assert sandbox.requests == 0

    async def test_works_without_a_block(self, sandbox):
        """
        A service that calls `close` needs no `async with`.
        """
        bank = connect(sandbox)
        await bank.create_session("customer-42")
        await bank.aclose()
        await bank.aclose()

        assert sandbox.created() == 1

    async def test_a_forgotten_close_is_told(self, sandbox):
        """
        An unclosed client warns when it is garbage-collected.
        """
        bank = connect(sandbox)
        await bank.create_session("customer-42")
        transport = bank._executor.transport

        with pytest.warns(ResourceWarning) as caught:
            del bank
            gc.collect()
        await asyncio.sleep(0)

        assert len(caught) == 1
        assert f"made at {__file__}:" in str(caught[0].message)
        assert not transport.is_open

    async def test_a_borrowed_session_is_left_open(self, sandbox):
        """
        The caller's session is used and stays open.
        """
        async with aiohttp.ClientSession() as session:
            async with connect(sandbox, client_session=session) as bank:
                await bank.create_session("customer-42")
            assert not session.closed

        assert sandbox.created("customer-42") == 1

    async def test_closing_can_wait(self, raw_server, created_answer):
        """
        With drain, calls in flight succeed and new ones are refused.
        """
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def script(server, reader, writer):
            await server.read_request(reader)
            asked.set()
            await go_on.wait()
            writer.write(created_answer)

        async with raw_server(script) as server:
            bank = connect(server)
            call = asyncio.create_task(bank.create_session("customer-42"))
            await asked.wait()
            closing = asyncio.create_task(bank.aclose(drain=60))
            await asyncio.sleep(0)
            with pytest.raises(ClientClosedError, match="closing"):
                await bank.create_session("customer-43")
            go_on.set()
            await closing

        assert (await call).session_id == "1d"

    async def test_closed_in_another_thread(self, sandbox, bank):
        """
        Only the thread of the client's event loop can close it.
        """
        await bank.create_session("customer-42")
        with pytest.raises(ClientClosedError, match="close it there"):
            await asyncio.to_thread(lambda: asyncio.run(bank.aclose()))

        assert (await bank.create_session("customer-43")).session_id
        assert sandbox.created() == 2

    async def test_closing_twice_waits_no_longer(
        self, raw_server, created_answer
    ):
        """
        Two closings that drain both end with the last call.
        """
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def script(server, reader, writer):
            await server.read_request(reader)
            asked.set()
            await go_on.wait()
            writer.write(created_answer)

        async with raw_server(script) as server:
            bank = connect(server)
            call = asyncio.create_task(bank.create_session("customer-42"))
            await asked.wait()
            closings = [
                asyncio.create_task(bank.aclose(drain=3600)) for _ in range(2)
            ]
            await asyncio.sleep(0)
            go_on.set()
            await asyncio.wait_for(asyncio.gather(*closings), 20)

        assert (await call).session_id == "1d"

    async def test_closed_after_a_head_came(self, raw_server, monkeypatch):
        """
        A call whose client is closed between head and body has the right
        delivery class.
        """
        start = aiohttp.ClientResponse.start

        async def start_and_close(head, connection):
            started = await start(head, connection)
            await bank.aclose()
            return started

        monkeypatch.setattr(aiohttp.ClientResponse, "start", start_and_close)

        async def script(server, reader, writer):
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
            await writer.drain()
            await asyncio.Event().wait()

        async with raw_server(script) as server:
            bank = connect(server, retry=RetryPolicy(attempts=1))
            with pytest.raises(BankConnectError) as caught:
                await bank.create_session("customer-42")

        assert caught.value.delivery is Delivery.CREATED_UNREADABLE

    async def test_closing_does_not_wait_for_ever(self, raw_server):
        """
        Calls that are still in flight after the drain are aborted with an
        error.
        """
        asked = asyncio.Event()

        async def script(server, reader, writer):
            await server.read_request(reader)
            asked.set()
            await asyncio.Event().wait()

        async with raw_server(script) as server:
            bank = connect(server)
            call = asyncio.create_task(bank.create_session("customer-42"))
            await asked.wait()
            await bank.aclose(drain=0.05)
            with pytest.raises(BankConnectError) as caught:
                await call

        assert caught.value.delivery is Delivery.AMBIGUOUS

    async def test_signs_a_return_url_for_each_customer(self, sandbox):
        """
        A ReturnURL as redirect URL identifies the customer on return.
        """
        signing = ReturnURL(RETURN, secret=b"s" * 32)
        async with connect(sandbox, redirect_url=signing) as bank:
            session = await bank.create_session("customer-42")

        sent = sandbox.sessions[session.session_id].parameters["redirect_url"]
        event = signing.decode(f"{sent}?success=true&entity_id=e")
        assert event == SuccessEvent(entity_id="e", link_id="customer-42")

    def test_a_signing_key_signs_the_redirect_url(self):
        """
        With BANKCONNECT_SIGNING_KEY the redirect URL carries a signed state.
        """
        environ = {
            "BANKCONNECT_API_KEY": "key",
            "BANKCONNECT_REDIRECT_URL": RETURN,
            "BANKCONNECT_SIGNING_KEY": "k" * 32,
        }

        bank = AsyncBankConnect.from_env(environ)

        url = str(bank.redirect_url.build("customer-42"))
        assert url.startswith(f"{RETURN}/")
        assert ReturnURL(RETURN, secret="k" * 32).decode(
            f"{url}?success=false"
        ) == ExitEvent(link_id="customer-42")

    @pytest.mark.parametrize(
        "given", [None, ReturnURL(RETURN, secret="s" * 32)]
    )
    def test_a_signing_key_that_signs_no_redirect_url(self, given):
        """
        A redirect URL of `None` or a `ReturnURL` stays as it is.
        """
        environ = {
            "BANKCONNECT_API_KEY": "key",
            "BANKCONNECT_SIGNING_KEY": "k" * 32,
        }

        bank = AsyncBankConnect.from_env(environ, redirect_url=given)

        assert bank.redirect_url is given

    async def test_a_proxy_of_the_environment(self, raw_server, answer):
        """
        BANKCONNECT_PROXY is the proxy, credentials included.
        """
        heads = []

        async def script(server, reader, writer):
            heads.append(await server.read_request(reader))
            writer.write(answer(status="407 Proxy Authentication Required"))

        async with raw_server(script) as proxy:
            host = URL(proxy.base_url).authority
            environ = {
                "BANKCONNECT_API_KEY": "key",
                "BANKCONNECT_BASE_URL": "http://localhost/bank-connect",
                "BANKCONNECT_PROXY": f"http://u:p@{host}",
            }
            async with AsyncBankConnect.from_env(
                environ, redirect_url=None
            ) as bank:
                with pytest.raises(ProxyAuthenticationError, match=host):
                    await bank.create_session("customer-42")

        assert b"Proxy-Authorization: Basic dTpw\r\n" in heads[0]

    def test_clients_do_not_travel(self):
        """
        A client cannot be pickled, and the error says what to do instead.
        """
        with pytest.raises(TypeError, match="from_env"):
            pickle.dumps(AsyncBankConnect("key"))


class TestStats:
    """
    Counts of a client, and its hook.
    """

    async def test_counts_what_became_of_attempts(
        self, raw_server, answer, created_answer, clock
    ):
        """
        The stats have attempts by class, tokens, sockets and latency.
        """

        async def script(server, reader, writer):
            for said in (
                answer(status="500 Oops"),
                created_answer,
                answer(status="400 No"),
                created_answer,
            ):
                await server.read_request(reader)
                writer.write(said)

        async with (
            raw_server(script) as server,
            connect(server, clock=clock) as bank,
        ):
            await bank.create_session("a")
            with pytest.raises(BadRequestError):
                await bank.create_session("b")
            await bank.create_session("c")
            stats = bank.stats()

        assert stats.attempts == {
            "ambiguous": 1,
            "rejected": 1,
            "succeeded": 2,
        }
        assert (stats.in_flight, stats.waiting) == (0, 0)
        assert stats.tokens == 500
        assert stats.connections_opened == server.connections == 1
        assert stats.latency.count == 2
        assert 0 < stats.latency.p50 <= stats.latency.max < 5

    async def test_shows_what_is_going_on(self, raw_server):
        """
        The stats distinguish requests in flight from queued ones.
        """

        async def script(server, reader, writer):
            await server.read_request(reader)
            await asyncio.Event().wait()

        async with (
            raw_server(script) as server,
            connect(server, pool=Pool(limit=2)) as bank,
        ):
            tasks = [
                asyncio.create_task(bank.create_session(f"c{n}"))
                for n in range(5)
            ]
            while len(server.requests) < 2:
                await asyncio.sleep(0)
            stats = bank.stats()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

            assert (stats.in_flight, stats.waiting) == (2, 3)
            after = bank.stats()
            assert (after.in_flight, after.waiting) == (0, 0)

    async def test_a_borrowed_session_tells_no_sockets(self, sandbox):
        """
        The stats do not count the sockets of a borrowed session.
        """
        async with (
            aiohttp.ClientSession() as session,
            connect(sandbox, client_session=session) as bank,
        ):
            assert bank.stats().connections_opened is None

    async def test_the_hook_sees_every_attempt(
        self, raw_server, answer, created_answer, clock
    ):
        """
        The hook receives the start, the end and the error of each attempt.
        """
        seen = []

        def hook(start):
            seen.append((start.operation, start.number))
            return lambda end: seen.append(
                (type(end.error).__name__, end.cancelled)
            )

        async def script(server, reader, writer):
            await server.read_request(reader)
            writer.write(answer(status="500 Oops"))
            await server.read_request(reader)
            writer.write(created_answer)
            await server.read_request(reader)
            await asyncio.Event().wait()

        async with (
            raw_server(script) as server,
            connect(server, clock=clock, on_attempt=hook) as bank,
        ):
            await bank.create_session("customer-42")
            call = asyncio.create_task(bank.create_session("customer-43"))
            while len(server.requests) < 3:
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

        assert seen == [
            ("POST session", 1),
            ("ServerError", False),
            ("POST session", 2),
            ("NoneType", False),
            ("POST session", 1),
            ("NoneType", True),
        ]

    async def test_a_hook_may_look_at_starts_only(self, sandbox):
        """
        A hook that returns `None` is not called at the end.
        """
        seen = []
        async with connect(sandbox, on_attempt=seen.append) as bank:
            await bank.create_session("customer-42")

        assert [start.number for start in seen] == [1]


CANARY = "canary-5c1f9d"


async def failure_of(bank):
    """Fail once, outside the test's own locals, which hold the canary."""
    with pytest.raises(BankConnectError) as caught:
        await bank.create_session("customer-42")
    return caught.value


async def test_secrets_show_nowhere(raw_server, answer, caplog, clock):
    """
    Key, server hash and token are in no log, repr, traceback or pickle.
    """
    caplog.set_level(logging.DEBUG)
    token = f"https://x.example/?session_id=1&token={CANARY}"

    def said(text, status="200 OK"):
        return answer(
            text.encode(), status=status, headers="Connection: close\r\n"
        )

    answers = [
        said(f'{{"detail": "bad key {CANARY}-key"}}', "401 No"),
        said(f'{{"api_key": ["{CANARY}-key"]}}', "400 No"),
        said(f"oops {CANARY}-hash", "500 Oops"),
        said(f'{{"redirect_url": "{token} "}}'),
        said(f'{{"redirect_url": ["{token}"]}}'),
        said(f"<html>{CANARY}</html>"),
        f"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{token}".encode(),
        f"{CANARY} garbage\r\n\r\n".encode(),
        b"",
        said(f'{{"redirect_url": "{token}"}}'),
    ]

    async def script(server, reader, writer):
        await server.read_request(reader)
        writer.write(answers[len(server.requests) - 1])

    shown = []
    async with (
        raw_server(script) as server,
        connect(
            server,
            api_key=f"{CANARY}-key",
            server_hash=f"{CANARY}-hash",
            retry=RetryPolicy(attempts=1),
            clock=clock,
        ) as bank,
    ):
        shown.append(repr(bank))
        for _ in answers[:-1]:
            error = await failure_of(bank)
            trace = traceback.TracebackException.from_exception(
                error, capture_locals=True
            )
            shown += [
                str(error),
                repr(error),
                *trace.format(),
                pickle.dumps(error).decode("latin-1"),
            ]
        shown.append(repr(await bank.create_session("customer-42")))

    assert len(server.requests) == len(answers)
    assert not [
        line
        for text in (*shown, caplog.text)
        for line in text.splitlines()
        if CANARY in line
    ]


class TestConfirm:
    """
    AsyncBankConnect.confirm
    """

    @pytest.fixture(name="entity_bank")
    async def _entity_bank(self):
        """
        Return a sandbox of the entity flow and a client that has the hash.
        """
        async with (
            Sandbox("entity") as sandbox,
            connect(sandbox, server_hash=sandbox.server_hash) as bank,
        ):
            yield sandbox, bank

    @pytest.fixture(name="session_bank")
    async def _session_bank(self):
        """Return a sandbox of the session flow and its client."""
        async with (
            Sandbox("session") as sandbox,
            connect(sandbox, server_hash=sandbox.server_hash) as bank,
        ):
            yield sandbox, bank

    async def succeed(self, sandbox, bank, link_id):
        """Play a success of a customer; return session and event."""
        session = await bank.create_session(link_id)
        played = await sandbox.play(session.session_id, "success")
        return session, decode_event(played.messages[-1])

    async def test_an_entity_of_the_customer(self, entity_bank):
        """
        The entity's link id equals the event's.
        """
        _, event = await self.succeed(*entity_bank, "customer-42")

        confirmed = await entity_bank[1].confirm(event)

        assert confirmed.confirmed is True
        assert confirmed == event
        assert event.confirmed is None

    async def test_an_entity_of_somebody_else(self, entity_bank):
        """
        Another customer's id behind one's own link id is refused.
        """
        sandbox, bank = entity_bank
        _, event = await self.succeed(sandbox, bank, "victim")

        forged = attrs.evolve(event, link_id="attacker")

        assert (await bank.confirm(forged)).confirmed is False

    async def test_an_entity_that_is_none(self, entity_bank):
        """
        An id that does not exist is no success.
        """
        event = SuccessEvent(entity_id="../x?y", link_id="customer-42")

        assert (await entity_bank[1].confirm(event)).confirmed is False

    @pytest.mark.parametrize("key", ["session_id", "entity_id"])
    async def test_a_session_of_the_customer(self, session_bank, key):
        """
        The session was created for the customer and has uploads; the id may be
        under the other flow's name.
        """
        sandbox, bank = session_bank
        session, event = await self.succeed(sandbox, bank, "customer-42")
        moved = SuccessEvent(
            **{key: session.session_id}, link_id=event.link_id
        )

        assert (await bank.confirm(event)).confirmed is True
        assert (await bank.confirm(moved)).confirmed is True

    async def test_a_session_without_uploads(self, session_bank):
        """
        A success that is reported before the uploads are complete is refused.
        """
        _, bank = session_bank
        session = await bank.create_session("customer-42")
        event = SuccessEvent(
            session_id=session.session_id, link_id="customer-42"
        )

        assert (await bank.confirm(event)).confirmed is False

    async def test_a_session_of_somebody_else(self, session_bank):
        """
        Another customer's session is refused without a request.
        """
        sandbox, bank = session_bank
        _, event = await self.succeed(sandbox, bank, "victim")
        seen = sandbox.requests

        forged = attrs.evolve(event, link_id="attacker")

        assert (await bank.confirm(forged)).confirmed is False
        assert sandbox.requests == seen

    async def test_a_session_of_another_process(self, session_bank):
        """
        A client confirms a session of another process only if it is given the
        link id.
        """
        sandbox, bank = session_bank
        session, event = await self.succeed(sandbox, bank, "customer-42")
        async with connect(sandbox, server_hash=sandbox.server_hash) as other:
            unknown = await other.confirm(event)
            known = await other.confirm(event, session=session)

        assert (unknown.confirmed, known.confirmed) == (None, True)

    async def test_a_session_that_is_gone(self, session_bank):
        """
        A session that the server does not know has no uploads.
        """
        _, bank = session_bank
        session = Session(
            link_id="customer-42",
            redirect_url=URL("https://x.example/"),
            session_id="gone",
        )
        event = SuccessEvent(session_id="gone", link_id="customer-42")

        found = await bank.confirm(event, session=session)

        assert found.confirmed is False

    async def test_nothing_can_be_said_without_a_customer(self, entity_bank):
        """
        Without a link id, and for other events, nothing is sent.
        """
        sandbox, bank = entity_bank
        for event in (SuccessEvent(entity_id="e"), ExitEvent(link_id="c")):
            assert (await bank.confirm(event)) is event
        assert sandbox.requests == 0

    async def test_the_hash_is_asked_for(self, entity_bank):
        """
        Without the server hash the error names the missing setting.
        """
        sandbox, _ = entity_bank
        async with connect(sandbox) as bank:
            with pytest.raises(AuthenticationError):
                await bank.confirm(SuccessEvent(entity_id="e", link_id="c"))


class TestWebhooks:
    """
    update_webhook and webhook_payloads
    """

    @pytest.mark.parametrize("flow", ["entity", "session"])
    async def test_sets_the_endpoint(self, flow):
        """
        The mode is sent with every update.
        """
        async with (
            Sandbox(flow) as sandbox,
            connect(sandbox, server_hash=sandbox.server_hash) as bank,
        ):
            await bank.update_webhook("https://lender.example/h", flow=flow)
            assert sandbox.requests == 1

    async def test_knows_two_flows(self):
        """
        Another flow is refused locally, by name.
        """
        with pytest.raises(InvalidRequestError) as caught:
            await AsyncBankConnect("key").update_webhook(
                "https://lender.example/h", flow="both"
            )

        assert list(caught.value.fields) == ["flow"]

    async def test_recovers_what_was_missed(self):
        """
        Webhooks of a customer can be fetched, newest first.
        """
        async with (
            Sandbox("entity") as sandbox,
            connect(sandbox, server_hash=sandbox.server_hash) as bank,
        ):
            session = await bank.create_session("customer & 42")
            await sandbox.play(session.session_id, "success")

            (webhook,) = await bank.webhook_payloads("customer & 42")

        assert webhook.link_id == "customer & 42"
        assert webhook.progress == "completed"
