"""
Good and bad lines of a file.
"""

import io

import pytest

from bankconnect_async.cli.input import lines as _lines
from bankconnect_async.cli.input.lines import InputLines


def read(data):
    """
    Read all lines of some bytes.
    """
    return list(InputLines(io.BytesIO(data)))


def test_numbers_and_ends():
    """
    Lines have numbers from 1 and their line ends; a BOM is dropped.
    """
    lines = read(b"\xef\xbb\xbfa\r\n\nb")

    assert [(line.number, line.text) for line in lines] == [
        (1, "a\r\n"),
        (2, "\n"),
        (3, "b"),
    ]
    assert all(line.problem is None for line in lines)


@pytest.mark.parametrize(
    ("raw", "problem", "text"),
    [
        (
            b"caf\xe9,1\n",
            "holds bytes that are not UTF-8: save the file in UTF-8",
            "caf\ufffd,1\n",
        ),
        (b"a\0b\n", "holds a NUL byte: export the file again", "a\0b\n"),
        (
            b"a\x1a\r\n",
            "ends with the byte 0x1A, an end-of-file mark of old programs: "
            "remove it",
            "a\x1a\r\n",
        ),
    ],
)
def test_bad_line(raw, problem, text):
    """
    A bad line has a problem and its text as far as it can be decoded.
    """
    bad, good = read(raw + b"good\n")

    assert (bad.problem, bad.text) == (problem, text)
    assert (good.number, good.problem) == (2, None)


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["at the end", "before"])
def test_long_line(monkeypatch, end):
    """
    A line beyond the limit is skipped, and the next line has its number.
    """
    monkeypatch.setattr(_lines, "_LONGEST", 10)

    long, *rest = read(b"x" * 35 + end + (b"ok\n" if end else b""))

    assert long.problem is not None
    assert long.problem.startswith("is longer than 10 bytes: ")
    assert len(long.raw) == 10
    assert [(line.number, line.text) for line in rest] == (
        [(2, "ok\n")] if end else []
    )


def test_put_back():
    """
    Lines that are put back come first, in their order.
    """
    lines = InputLines(io.BytesIO(b"a\nb\nc\n"))
    first, second = next(lines), next(lines)
    lines.put_back([first, second])

    assert [line.number for line in lines] == [1, 2, 3]
