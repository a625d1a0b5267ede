"""
A campaign as an Airflow DAG: one mapped task for each shard of its rows.

Put it into the DAGs folder, and set BANKCONNECT_API_KEY and the other
variables for the workers. If a task fails or its worker dies, a retry goes on
where the journal ends. `CAMPAIGN_LINKS` names a file with a link id on each
line, `CAMPAIGN_JOURNALS` a folder that all workers share.
"""

import itertools
import os

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag, task

from bankconnect_async import run_shard


SHARDS = 8


def _rows(index: int) -> Iterator[str]:
    with Path(os.environ["CAMPAIGN_LINKS"]).open(encoding="utf-8") as file:
        for row in itertools.islice(file, index, None, SHARDS):
            yield row.strip()


@task(retries=5, retry_delay=timedelta(minutes=1))
async def create_sessions(index: int) -> dict[str, int]:
    """
    Create the sessions of a shard; those in its journal are skipped.
    """
    stats = await run_shard(
        _rows(index),
        Path(os.environ["CAMPAIGN_JOURNALS"]) / f"{index}-of-{SHARDS}.jsonl",
    )
    return {
        "created": stats.created,
        "skipped": stats.skipped,
        "failed": sum(stats.failures.values()),
    }


@task
def add_up(counts: list[dict[str, int]]) -> dict[str, int]:
    """
    Add up what the shards did.
    """
    return {
        name: sum(each[name] for each in counts)
        for name in ("created", "skipped", "failed")
    }


@dag(schedule=None, catchup=False)
def bank_connect_campaign() -> None:
    """
    All shards, and their sum.
    """
    add_up(create_sessions.expand(index=list(range(SHARDS))))


bank_connect_campaign()
