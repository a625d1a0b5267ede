"""
``bankconnect merge``: one journal of several.
"""

import click

from bankconnect_async.journal.merging import merge_journals

from .messages import print_message


@click.command()
@click.argument("output", metavar="OUT")
@click.argument("shards", metavar="JOURNAL...", nargs=-1, required=True)
def merge(*, output: str, shards: tuple[str, ...]) -> None:
    """
    Merge journals, such as OUT.shard-*, into the new journal OUT.

    OUT has the last record of each row, and one session of each link id: the
    latest one. A batch with --output OUT resumes from it. The journals stay
    as they are.
    """
    result = merge_journals(output, *shards)
    for each in result.conflicts:
        print_message(
            f"line {each.line}: the link id has a session in {each.dropped} "
            f"and a later one in {each.kept}, which is kept"
        )
    if more := result.conflicting - len(result.conflicts):
        print_message(f"and {more} more")
    print_message(
        f"{output}: {result.created} created, {result.failed} failed, from "
        f"{len(shards)} journals"
    )
