"""
The DAG of the Airflow example, run by Airflow itself.
"""

import asyncio
import os
import shutil
import sys

from pathlib import Path

from bankconnect_async.journal import read_journal
from bankconnect_async.sandbox import Sandbox


DAG = Path(__file__).with_name("airflow_dag.py")


async def airflow(*args, env):
    """Run a command of Airflow, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "airflow", *args),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_mapped_tasks_create_all_sessions(tmp_path):
    """
    Every row has a session, in the journal of its shard.
    """
    (tmp_path / "dags").mkdir()
    shutil.copy(DAG, tmp_path / "dags")
    links = tmp_path / "links.txt"
    links.write_text("".join(f"customer-{number}\n" for number in range(30)))
    async with Sandbox() as sandbox:
        env = {
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path / "home"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
            "BANKCONNECT_API_KEY": sandbox.api_key,
            "BANKCONNECT_BASE_URL": sandbox.base_url,
            "BANKCONNECT_REDIRECT_URL": "https://lender.example/return",
            "CAMPAIGN_LINKS": str(links),
            "CAMPAIGN_JOURNALS": str(tmp_path),
        }
        await airflow("db", "migrate", env=env)
        await airflow("dags", "reserialize", env=env)
        await airflow("dags", "test", "bank_connect_campaign", env=env)

        assert sandbox.created() == 30
    journals = sorted(tmp_path.glob("*-of-8.jsonl"))
    assert len(journals) == 8
    assert {each.link_id for each in read_journal(*journals)} == {
        f"customer-{number}" for number in range(30)
    }
