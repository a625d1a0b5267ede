"""
The names that the package was built with first are gone.
"""

import ast

from pathlib import Path

import pytest

import bankconnect_async


PACKAGE = Path(bankconnect_async.__file__).parent
pytestmark = pytest.mark.long

CLASSES = """
    Alarm Alarms Gate Exchange Answer Bound Call Caller Outbox _Course Pace
    _Gauge _Spell _Trouble Line Turn Made Creator Hints Watch _Nap _Intake
    _Shelf Syncer DigestTable Station Order Wish Visit Reply Handlers
    Endpoints Claim Seen Texts Attendant Trouble _Dice Refusal
    Journeys Holding Question Inquiry Poster Feed _Courier Tally Target
    RateLimitedError NotAllowedError ServerFaultError ConnectFailedError
    QueueTimeoutError UnreadableAnswerError AlreadyRequestedError
    BankUndetectedError RejectedError JournalInUseError SessionAnswer
    EntityAnswer
"""
FUNCTIONS = """
    translate refusal repeat is_worth_repeating fingerprint take_event
    take_return take_webhook read_return write_notice see_through greet
    is_given made_up_account made_up_document
"""
PARAMETERS = """
    give_up_at stopped_by longest_pause continue_to
"""
# The owner, and the members that it had under its old name.
MEMBERS = {
    "_http/deadlines.py Deadline": "rang expect move",
    "_http/deadlines.py DeadlineScheduler": "ring rang expect move",
    "_http/semaphore.py FifoSemaphore": "enter queue leave widen try_enter",
    "_http/executor.py RequestExecutor": "run once under_way",
    "_http/operation.py Operation": "repeatable",
    "_http/coalescing.py WriteCoalescer": "put",
    "_http/retrying.py RetryState": "price pay",
    "batch/adaptive_rate.py AdaptiveRate": (
        "is_calm is_free in_vain wait leave obey rate note_served "
        "note_refused note_failed note_lost note_turned_away"
    ),
    "batch/throttle.py SendQueue": "join turn_back again held pace",
    "batch/throttle.py BatchThrottle": "join turn_back again held",
    "_resources/session_creation.py SessionCreator": "assign ask make",
    "batch/item_source.py ItemSource": "held pass_over",
    "batch/result_buffer.py ResultBuffer": "held pass_over",
    "journal/journal.py Journal": (
        "claim hand_over absorbing serving heal put_aside"
    ),
    "_compact_map.py CompactMap": "swap",
    "distributed/worker.py WorkerRunner": "heed look leave forsake",
    "web/service.py CallbackService": "take_event continue_to",
    "client.py AsyncBankConnect": (
        "api feed creator admit dismiss open resolve"
    ),
    "config.py Timeouts": "queue",
    "errors.py Phase": "ANSWERED",
    "sandbox/faults/behaviours.py FaultBehaviour": "spoil",
    "sandbox/fake_data/ledgers.py FakeTransaction": "note",
}


def definitions(kind: type[ast.AST]) -> dict[str, str]:
    """
    Return where the package defines what is of a *kind* of syntax, by name.
    """
    return {
        node.name: str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, kind)
    }


def members(class_: ast.ClassDef) -> set[str]:
    """
    Return the names of the methods and attributes of a class.
    """
    names = {
        target.id
        for node in class_.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(class_):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Attribute(
                value=ast.Name(id="self"), attr=name, ctx=ast.Store()
            ):
                names.add(name)
    return names


def test_old_classes():
    """
    No class has a name of the first version.
    """
    found = definitions(ast.ClassDef)

    assert not {name: found[name] for name in CLASSES.split() if name in found}


def test_old_functions():
    """
    No function or method has a name of the first version.
    """
    found = definitions(ast.FunctionDef | ast.AsyncFunctionDef)

    assert not {
        name: found[name] for name in FUNCTIONS.split() if name in found
    }


def test_old_parameters():
    """
    No function takes a parameter by a name of the first version.
    """
    found = {
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.arg}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.arg) and node.arg in PARAMETERS.split()
    }

    assert not found


@pytest.mark.parametrize("owner", MEMBERS)
def test_old_members(owner):
    """
    No class has a member by a name of the first version.
    """
    file, name = owner.split()
    [class_] = [
        node
        for node in ast.parse((PACKAGE / file).read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == name
    ]

    assert members(class_)
    assert not members(class_) & set(MEMBERS[owner].split())
