"""
The watch that all browser tests rely on detects every kind of trouble.
"""

import pytest


pytestmark = pytest.mark.asyncio(loop_scope="session")

POLICY = (
    "<meta http-equiv='Content-Security-Policy'"
    " content=\"default-src 'none'; img-src data:\">"
)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (f"{POLICY}<script>1</script>", "CSP violation: script-src-elem"),
        (f"{POLICY}<p style='color: red'>", "CSP violation: style-src-attr"),
        ("<script>console.error('oh')</script>", "error: oh"),
        ("<script>console.warn('oh')</script>", "warning: oh"),
        ("<script>throw new Error('oh')</script>", "oh"),
        ("<img src='/missing.png' alt=''>", "status of 404"),
    ],
)
async def test_sees(serve_page, page, watch, until, text, seen):
    """
    Violations, errors, warnings, exceptions and failed loads are detected.
    """
    async with serve_page(text) as origin:
        await page.goto(origin)
        await until(lambda: any(seen in one for one in watch.seen))

    assert watch.unexpected() == watch.seen
    watch.seen.clear()
