"""
A campaign as a Temporal workflow: one activity for each shard of its rows.

Start a worker on each machine that reaches the shared folder::

    BANKCONNECT_API_KEY=… python temporal_worker.py

and the workflow `Campaign` with a `CampaignInput`. If a worker dies, Temporal
runs its shard on another one, which goes on where the journal ends.
"""

import asyncio
import itertools
import os

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker


with workflow.unsafe.imports_passed_through():
    from bankconnect_async import BatchStats, run_shard


QUEUE = "bank-connect"


@dataclass(frozen=True)
class ShardInput:
    """
    One shard: every row whose place leaves *index* modulo *count*.

    `links` is a file with a link id on each line.
    """

    links: str
    journals: str
    index: int
    count: int


@dataclass(frozen=True)
class CampaignInput:
    """
    A file of link ids, and a folder for the journals of its shards.
    """

    links: str
    journals: str
    count: int = 8


def _rows(shard: ShardInput) -> Iterator[str]:
    with Path(shard.links).open(encoding="utf-8") as file:
        for row in itertools.islice(file, shard.index, None, shard.count):
            yield row.strip()


@activity.defn
async def create_sessions(shard: ShardInput) -> dict[str, int]:
    """
    Create the sessions of a shard; those in its journal are skipped.
    """

    def heartbeat(stats: BatchStats) -> None:
        activity.heartbeat(stats.created, stats.skipped)

    stats = await run_shard(
        _rows(shard),
        Path(shard.journals) / f"{shard.index}-of-{shard.count}.jsonl",
        heartbeat=heartbeat,
    )
    return {
        "created": stats.created,
        "skipped": stats.skipped,
        "failed": sum(stats.failures.values()),
    }


@workflow.defn
class Campaign:
    """
    All shards at once; each is retried as often as it takes.
    """

    @workflow.run
    async def run(self, campaign: CampaignInput) -> list[dict[str, int]]:
        """Return the counts of each shard."""
        shards = [
            workflow.execute_activity(
                create_sessions,
                ShardInput(
                    campaign.links, campaign.journals, index, campaign.count
                ),
                start_to_close_timeout=timedelta(hours=12),
                heartbeat_timeout=timedelta(minutes=1),
            )
            for index in range(campaign.count)
        ]
        return list(await asyncio.gather(*shards))


async def main() -> None:
    """Work until interrupted."""
    address = os.environ.get("TEMPORAL_ADDRESS", "localhost:7233")
    worker = Worker(
        await Client.connect(address),
        task_queue=QUEUE,
        workflows=[Campaign],
        activities=[create_sessions],
    )
    await worker.run()


if __name__ == "__main__":
    asyncio.run(main())
