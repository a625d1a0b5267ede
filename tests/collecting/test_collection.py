"""
A collection gives each kind of data of each input one outcome.
"""

import asyncio
import datetime
import itertools
import math
import stat

import pytest

from bankconnect_async import (
    AuthenticationError,
    BatchStoppedError,
    Collected,
    CollectionJournal,
    ConfigurationError,
    InvalidRequestError,
    JournalError,
    JournalMismatchError,
    NotCollected,
    NotFoundError,
    NotReadyError,
    RetryPolicy,
    SessionEntry,
    SessionKey,
)
from bankconnect_async.journal import Journal, read_journal
from bankconnect_async.sandbox import Fault, Sandbox, statement_pdf
from bankconnect_async.testing import FakeClock


async def collect(collection):
    """Exhaust a collection."""
    async with collection as outcomes:
        return [outcome async for outcome in outcomes]


def ids(sessions):
    """Return the ids of sessions."""
    return [each.session_id for each in sessions]


def by_kind(found):
    """Return outcomes by their kinds; there is one of each."""
    assert len({each.kind for each in found}) == len(found)
    return {each.kind: each for each in found}


async def test_each_kind_has_an_outcome(bank, service, complete):
    """
    Each kind of each input has one outcome, and kinds share a request.
    """
    sessions = await complete(5)
    before = service.requests

    found = await collect(
        bank.collect(sessions, what=("transactions", "fraud", "accounts"))
    )

    assert sorted((each.index, each.kind) for each in found) == [
        (index, kind)
        for index in range(5)
        for kind in ("accounts", "fraud", "transactions")
    ]
    assert all(isinstance(each, Collected) for each in found)
    assert {each.link_id for each in found} == {
        each.link_id for each in sessions
    }
    # Insights and status.
    assert service.requests - before == 10
    rows = next(each.data for each in found if each.kind == "transactions")
    assert rows
    assert {each.account_id for each in rows} != {None}


async def test_kinds_of_input(bank, complete, tmp_path):
    """
    Ids, sessions, entries, records and handles name the same session.
    """
    (session,) = await complete(1)
    journal = Journal(tmp_path / "campaign.jsonl")
    async with bank.create_sessions(["", "other"], journal=journal) as made:
        _ = [each async for each in made]
    entry = SessionEntry(
        entry_id="e",
        key=SessionKey(api_id="a", link_id=session.link_id),
        session_id=session.session_id,
        created_at=datetime.datetime.now(datetime.UTC),
    )
    items = [
        session.session_id,
        session,
        entry,
        bank.session(session),
        *read_journal(tmp_path / "campaign.jsonl"),
    ]

    found = await collect(bank.collect(items, what=["upload-status"]))

    assert sorted(each.index for each in found) == [0, 1, 2, 3, 5]
    assert all(isinstance(each, Collected) for each in found)
    assert {each.id for each in found if each.index < 4} == {
        session.session_id
    }


async def test_entities(client_of, tmp_path):
    """
    Entities have kinds of their own, and are not ready while a statement is
    in progress.
    """
    async with (
        Sandbox("entity", processing_time=math.inf) as sandbox,
        client_of(sandbox) as bank,
    ):
        uploaded = await bank.upload(
            statement_pdf(), link_id="a", bank_name="axis"
        )
        handle = bank.entity(uploaded.entity_id)
        early = await collect(bank.collect([handle, "unknown"], flow="entity"))
        sandbox.finish(uploaded.entity_id)
        late = await collect(
            bank.collect(
                [uploaded.entity_id],
                what=("transactions", "accounts", "fraud", "pdfs", "score"),
                flow="entity",
                to=tmp_path,
            )
        )

    errors = {each.index: type(each.error) for each in early}
    assert errors == {0: NotReadyError, 1: NotFoundError}
    assert all(isinstance(each, Collected) for each in late), late
    found = by_kind(late)
    assert found["transactions"].data
    assert found["pdfs"].files[0].path.read_bytes().startswith(b"%PDF")


async def test_not_ready_is_told_apart(bank, complete, service):
    """
    Data that is not complete yet fails with `NotReadyError`, its PDFs too.
    """
    (processed,) = await complete(1)
    (waiting,) = await complete(1, process=False)
    opened = await bank.create_session("later")

    collection = bank.collect(
        [processed, waiting, opened], what=("transactions", "pdfs")
    )
    found = await collect(collection)

    assert {
        (each.index, each.kind): isinstance(each, Collected) for each in found
    } == {
        (0, "transactions"): True,
        (0, "pdfs"): True,
        (1, "transactions"): False,
        (1, "pdfs"): True,
        (2, "transactions"): False,
        (2, "pdfs"): False,
    }
    failed = [each for each in found if isinstance(each, NotCollected)]
    assert all(isinstance(each.error, NotReadyError) for each in failed)
    assert all(each.is_not_ready for each in failed)
    assert collection.stats().not_ready == 3


async def test_what_is_not_ready_is_served(bank):
    """
    Requests for data that is not ready count as served by the server.
    """
    sessions = [await bank.create_session(f"c{number}") for number in range(3)]

    collection = bank.collect(sessions, what=["pdfs"], rate=100)
    found = await collect(collection)

    assert all(each.is_not_ready for each in found)
    assert collection.stats().rate > 0


async def test_pdfs_are_files(bank, complete, tmp_path):
    """
    Each PDF is a whole file for its owner only.
    """
    sessions = await complete(3)

    found = await collect(bank.collect(sessions, what="pdfs", to=tmp_path))

    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert paths == sorted(
        saved.path for each in found for saved in each.files
    )
    assert len(paths) == 3
    for each in found:
        (saved,) = each.files
        content = saved.path.read_bytes()
        assert content.startswith(b"%PDF")
        assert saved.size == len(content)
        assert stat.S_IMODE(saved.path.stat().st_mode) == 0o600
        assert saved.row.pdf_url not in repr(each)


async def test_ids_cannot_leave_the_directory(vendor_of, tmp_path):
    """
    Ids of the vendor and of the input are no paths.
    """
    inner = tmp_path / "inner"
    listing = {
        "statements": [
            {"statement_id": "../../up", "pdf_url": "/file"},
            {"statement_id": "Same", "pdf_url": "/file"},
            {"statement_id": "same", "pdf_url": "/file"},
            {"statement_id": "same", "pdf_url": "/file"},
            {"statement_id": "gone", "pdf_url": ""},
        ]
    }
    async with vendor_of(listing) as bank:
        (found,) = await collect(
            bank.collect(["../x"], what=["pdfs"], flow="entity", to=inner)
        )

    assert isinstance(found, Collected), found
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 4
    assert all(inner / "pdfs" in path.parents for path in files)
    assert found.files[-1].path is None
    assert found.warning == (
        "the vendor has deleted 1 of 5 files, as it does after 30 days"
    )


async def test_processing_that_failed(client_of):
    """
    Data that is empty because processing failed comes with a warning.
    """
    async with (
        Sandbox("session", processing_time=math.inf) as sandbox,
        client_of(sandbox) as bank,
    ):
        session = await bank.create_session("a")
        await sandbox.play(session.session_id, "success")
        await bank.session(session).initiate_processing()
        sandbox.finish(session.session_id, error_code="UNPARSABLE")
        (of_session,) = await collect(bank.collect([session]))
        uploaded = await bank.upload(
            statement_pdf(), link_id="b", bank_name="axis"
        )
        sandbox.finish(uploaded.entity_id, error_code="UNPARSABLE")
        (of_entity,) = await collect(
            bank.collect([uploaded.entity_id], flow="entity")
        )

    assert isinstance(of_session, Collected)
    assert isinstance(of_entity, Collected)
    assert of_session.warning == (
        "processing failed for every account, so there are no rows"
    )
    assert of_entity.warning == "processing failed for 1 of 1 statements"


async def test_an_expired_link_is_fetched_again(vendor_of, tmp_path):
    """
    A PDF whose link has expired fails, and a later run gets it by a new link.
    """
    listing = {
        "statements": [{"statement_id": "a", "pdf_url": "/file"}],
        "file_statuses": [403],
    }
    path = tmp_path / "collected.jsonl"

    async def run(bank):
        (found,) = await collect(
            bank.collect(
                ["entity"],
                what=["pdfs"],
                flow="entity",
                to=tmp_path,
                journal=CollectionJournal(path),
            )
        )
        return found

    async with vendor_of(listing) as bank:
        first, second = await run(bank), await run(bank)

    assert isinstance(first.error, NotFoundError)
    assert isinstance(second, Collected)
    assert second.files[0].path.read_bytes().startswith(b"%PDF")


async def test_requests_of_one_item_keep_the_rate(bank, complete, service):
    """
    The second request of an item waits for its turn, too.
    """
    sessions = await complete(6)
    before = service.requests
    loop = asyncio.get_running_loop()
    started = loop.time()

    found = await collect(bank.collect(sessions, what=["pdfs"], rate=20))

    assert all(isinstance(each, Collected) for each in found)
    assert service.requests - before == 12
    assert loop.time() - started >= 11 / 20 - 0.05


async def test_the_deadline_is_that_of_the_collection(
    service, client_of, complete
):
    """
    A request is repeated within the deadline of the collection, even after
    the one of single calls.
    """
    sessions = await complete(1)
    service.faults.script(Fault.status(503, retry_after=60))
    async with client_of(
        service, clock=FakeClock(), retry=RetryPolicy(deadline=1)
    ) as bank:
        (found,) = await collect(bank.collect(sessions, deadline=300))

    assert isinstance(found, Collected), found


@pytest.mark.parametrize(
    ("days", "is_warned"), [(1, False), (25, True), (31, False)]
)
async def test_pdfs_that_are_deleted_soon(bank, complete, days, is_warned):
    """
    An outcome warns of PDFs that the vendor deletes within a week.
    """
    (session,) = await complete(1)
    created_at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days)
    entry = SessionEntry(
        entry_id="e",
        key=SessionKey(api_id="a", link_id="a"),
        session_id=session.session_id,
        created_at=created_at,
    )

    (found,) = await collect(bank.collect([entry]))

    assert found.pdfs_deleted_at == created_at + datetime.timedelta(30)
    assert (found.warning is not None) is is_warned


async def test_any_time_of_creation(bank, complete):
    """
    A file may say that a session was created at any time.
    """
    (session,) = await complete(1)
    entry = SessionEntry(
        entry_id="e",
        key=SessionKey(api_id="a", link_id="a"),
        session_id=session.session_id,
        created_at=datetime.datetime.max.replace(tzinfo=datetime.UTC),
    )

    (found,) = await collect(bank.collect([entry]))

    assert isinstance(found, Collected)
    assert found.pdfs_deleted_at is None


async def test_bad_inputs_have_outcomes(bank, complete):
    """
    An input that is no id, and a kind of the other flow, fail by themselves.
    """
    (session,) = await complete(1)

    found = await collect(
        bank.collect([7, "", session], what=("insights", "score"))
    )

    assert sorted(
        (each.index, each.kind, type(each).__name__) for each in found
    ) == [
        (0, "insights", "NotCollected"),
        (0, "score", "NotCollected"),
        (1, "insights", "NotCollected"),
        (1, "score", "NotCollected"),
        (2, "insights", "Collected"),
        (2, "score", "NotCollected"),
    ]
    errors = [each.error for each in found if isinstance(each, NotCollected)]
    assert {type(each) for each in errors} == {InvalidRequestError}


@pytest.mark.parametrize(
    "arguments",
    [
        {"what": ("transaction",)},
        {"what": ()},
        {"flow": "both"},
        {"concurrency": 0},
        {"rate": 0},
    ],
)
def test_bad_settings(bank, arguments):
    """
    Settings that cannot work are refused at once.
    """
    with pytest.raises(ConfigurationError):
        bank.collect([], **arguments)


def test_a_single_id_is_no_list(bank):
    """
    One text instead of a list of ids is refused.
    """
    with pytest.raises(ConfigurationError, match="a list of ids"):
        bank.collect("session-1")


async def test_it_needs_async_with(bank):
    """
    Iterating without `async with` says what to do.
    """
    with pytest.raises(RuntimeError, match="use async with"):
        async for _ in bank.collect([]):
            pass


async def test_unknown_ids_do_not_stop_it(bank, complete):
    """
    Ids that the vendor does not know fail by themselves, however many.
    """
    (session,) = await complete(1)
    unknown = [f"unknown-{number}" for number in range(60)]

    found = await collect(bank.collect([*unknown, session], concurrency=4))

    assert [type(each.error) for each in found[:-1]] == 60 * [NotFoundError]
    assert isinstance(found[-1], Collected)


async def test_faults_are_repeated(bank, complete, service):
    """
    503s and resets cost nothing.
    """
    sessions = await complete(20)
    service.faults.random({Fault.status(503): 0.1, Fault.reset(): 0.1}, seed=7)

    found = await collect(bank.collect(sessions))

    assert len(found) == 20
    assert all(isinstance(each, Collected) for each in found)


async def test_a_refused_key_stops_it(service, complete, client_of):
    """
    After a refused key nothing more is sent, and each input has its outcome.
    """
    sessions = await complete(30)
    async with client_of(service, server_hash="another") as stranger:
        before = service.requests
        collection = stranger.collect(sessions, concurrency=2)
        found = await collect(collection)

    assert len(found) == 30
    assert isinstance(collection.abort_cause, AuthenticationError)
    assert {type(each.error) for each in found} == {
        AuthenticationError,
        BatchStoppedError,
    }
    assert service.requests - before <= 2


class TestJournal:
    """
    A journal of a collection
    """

    async def test_resumes(self, bank, complete, service, tmp_path):
        """
        A later run skips collected data, and fetches what was not ready.
        """
        done = await complete(3)
        waiting = await complete(2, process=False)
        path = tmp_path / "collected.jsonl"

        first = await collect(
            bank.collect(done + waiting, journal=CollectionJournal(path))
        )
        for each in waiting:
            await bank.session(each.session_id).initiate_processing()
        second = bank.collect(done + waiting, journal=CollectionJournal(path))
        rest = await collect(second)
        third = await collect(
            bank.collect(done + waiting, journal=CollectionJournal(path))
        )

        assert len(first) == 5
        assert sorted(each.id for each in rest) == sorted(ids(waiting))
        assert all(isinstance(each, Collected) for each in rest)
        assert second.stats().skipped == 3
        assert third == []
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    async def test_an_outcome_in_hand_is_not_recorded(
        self, bank, complete, tmp_path
    ):
        """
        The outcome that the loop failed on is collected again.
        """
        sessions = await complete(6)
        path = tmp_path / "collected.jsonl"
        stored = []
        with pytest.raises(ZeroDivisionError):
            async with bank.collect(
                sessions, journal=CollectionJournal(path), concurrency=2
            ) as outcomes:
                async for outcome in outcomes:
                    if len(stored) == 3:
                        _ = 1 / 0
                    stored.append(outcome.id)

        rest = await collect(
            bank.collect(sessions, journal=CollectionJournal(path))
        )

        assert sorted(stored + [each.id for each in rest]) == sorted(
            ids(sessions)
        )

    async def test_formats_are_told_apart(self, bank, complete, tmp_path):
        """
        Data collected in one format is collected in another again.
        """
        sessions = await complete(1)
        path = tmp_path / "collected.jsonl"
        counts = [
            len(
                await collect(
                    bank.collect(
                        sessions,
                        journal=CollectionJournal(path, format=name),
                    )
                )
            )
            for name in ("json", "csv", "json")
        ]

        assert counts == [1, 1, 0]

    async def test_another_journal_is_refused(self, bank, complete, tmp_path):
        """
        A journal of sessions, or of another API, is refused and left alone.
        """
        sessions = await complete(1)
        campaign, other = tmp_path / "campaign.jsonl", tmp_path / "o.jsonl"
        async with bank.create_sessions(
            ["a"], journal=Journal(campaign)
        ) as made:
            _ = [each async for each in made]
        await collect(
            bank.collect(
                sessions, journal=CollectionJournal(other, api="sandbox")
            )
        )
        for path in (campaign, other):
            before = path.read_bytes()
            with pytest.raises(JournalMismatchError):
                await collect(
                    bank.collect(sessions, journal=CollectionJournal(path))
                )
            assert path.read_bytes() == before

    async def test_a_journal_that_is_used_again_is_checked_again(
        self, bank, complete, client_of, tmp_path
    ):
        """
        A journal that one client has used is refused for another API.
        """
        sessions = await complete(1)
        journal = CollectionJournal(tmp_path / "collected.jsonl")
        await collect(bank.collect(sessions, journal=journal))

        async with (
            Sandbox("session") as other,
            client_of(other) as stranger,
        ):
            with pytest.raises(JournalMismatchError):
                await collect(stranger.collect(sessions, journal=journal))

    async def test_a_torn_record_is_repaired(self, bank, complete, tmp_path):
        """
        A record that was torn by a kill is collected again.
        """
        sessions = await complete(2)
        path = tmp_path / "collected.jsonl"
        await collect(bank.collect(sessions, journal=CollectionJournal(path)))
        path.write_bytes(path.read_bytes()[:-20])

        rest = await collect(
            bank.collect(sessions, journal=CollectionJournal(path))
        )

        assert len(rest) == 1
        assert len(path.read_bytes().splitlines()) == 2


class TestSave:
    """
    A function that stores outcomes
    """

    async def test_it_runs_before_the_outcome(self, bank, complete):
        """
        An outcome is stored before it is handed out.
        """
        sessions = await complete(3)
        saved = []

        async def save(collected):
            saved.append(collected.id)

        async with bank.collect(sessions, save=save) as outcomes:
            async for outcome in outcomes:
                assert outcome.id in saved

        assert sorted(saved) == sorted(ids(sessions))

    async def test_its_error_ends_the_collection(
        self, bank, complete, tmp_path
    ):
        """
        Its error ends the collection, and a later one resumes.
        """
        sessions = await complete(8)
        saved = []
        path = tmp_path / "collected.jsonl"

        async def save(collected):
            if len(saved) == 3:
                raise OSError(28, "No space left on device")
            saved.append(collected.id)

        with pytest.raises(OSError, match="No space left"):
            await collect(
                bank.collect(
                    sessions,
                    save=save,
                    concurrency=1,
                    journal=CollectionJournal(path),
                )
            )
        rest = await collect(
            bank.collect(sessions, journal=CollectionJournal(path))
        )

        assert sorted(saved + [each.id for each in rest]) == sorted(
            ids(sessions)
        )


async def test_a_directory_that_is_a_file(bank, complete, tmp_path):
    """
    Files that cannot be written end the collection with an `OSError`.
    """
    sessions = await complete(3)
    (tmp_path / "file").write_text("")

    with pytest.raises(OSError, match="Not a directory"):
        await collect(
            bank.collect(sessions, what=["pdfs"], to=tmp_path / "file")
        )


async def test_ids_are_in_no_repr(bank, complete):
    """
    The id of a session opens its journey, so no outcome prints it.
    """
    (session,) = await complete(1)

    found = await collect(
        bank.collect([session.session_id], what=("upload-status", "score"))
    )

    assert len(found) == 2
    assert session.session_id not in repr(found)


async def test_a_deleted_journal_stops_it(bank, tmp_path):
    """
    Another program that deletes the journal ends the collection.
    """
    path = tmp_path / "collected.jsonl"
    source = (f"unknown-{number}" for number in itertools.count())

    with pytest.raises(JournalError, match="was deleted"):
        async with bank.collect(
            source,
            what=["upload-status"],
            journal=CollectionJournal(path),
        ) as outcomes:
            async for _ in outcomes:
                path.unlink(missing_ok=True)


async def test_memory_is_constant(bank, complete):
    """
    A collection takes no more from its source than it works on.
    """
    (session,) = await complete(1)
    taken = reported = most = 0

    async def source():
        nonlocal taken
        for _ in range(300):
            taken += 1
            yield session

    async with bank.collect(
        source(), what=["upload-status"], concurrency=4
    ) as outcomes:
        async for _ in outcomes:
            reported += 1
            most = max(most, taken - reported)

    assert reported == 300
    assert most <= 10
