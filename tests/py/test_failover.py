"""A standby is promoted under load: the roles find it by themselves, and what is lost is known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.brokers import until
from tests.cluster import pair
from tests.pipeline import ROLES, RUN, Pipeline

pytestmark = pytest.mark.heavy

ROUNDS = max(1, int(os.environ.get("ROUNDS", "5")) // 5)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_with_synchronous_replication_nothing_acknowledged_is_lost(
    tmp_path: Path, round_: int
) -> None:
    config = tmp_path / "tidegate.toml"
    config.write_text(RUN)
    roles = (("run", "--config", str(config)), ("maintain",))
    with pair() as servers:
        servers.synchronous()
        with Pipeline(servers.url, tmp_path, roles=roles).running() as pipeline:
            # given all roles at work, in one process, and a maintainer that stands by
            pipeline.put(300)
            # when the primary is gone, and the standby becomes the primary
            servers.kill()
            until(lambda: sum("connect failed" in line for line in pipeline.herd.logged()) >= 4)
            servers.promote()
            pipeline.put(300)
            pipeline.drain(servers.standby)
        # then every event has arrived
        pipeline.check()
        _told(pipeline, servers.standby)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_with_asynchronous_replication_only_the_tail_is_lost(tmp_path: Path, round_: int) -> None:
    is_behind = round_ % 2 == 0
    with pair() as servers:
        with Pipeline(servers.url, tmp_path).running() as pipeline:
            pipeline.put(300)
            # given a standby that may be behind
            if is_behind:
                servers.cut()
            kept = set(pipeline.acknowledged)
            pipeline.put(300 if is_behind else 1)
            # when the primary is gone, and the standby becomes the primary
            servers.kill()
            servers.promote()
            before = set(pipeline.acknowledged)
            pipeline.put(300)
            pipeline.drain(servers.standby)
        # then what the standby had, and all that came later, has arrived, each under an id of its
        # own: a broker or a consumer that knows the ids of what is lost takes nothing for a repeat
        tail = before - kept if is_behind else before
        arrived = pipeline.check(lost=tail)
        _told(pipeline, servers.standby)
        given = list(pipeline.acknowledged.values())
        print(
            f"behind: {is_behind}. Acknowledged {len(given)},"
            f" without trace {len(tail - set(arrived))},"
            f" message_ids given twice {len(given) - len(set(given))}"
        )


def _told(pipeline: Pipeline, url: str) -> None:
    """Every role said that it lost the database and that it found it, in a few lines; and nothing
    was noted in the schema: no floor had to be forgotten, nobody was stranded."""
    log = pipeline.herd.logged()
    print(*log, sep="\n")
    print(f"doubtful {len(pipeline.doubtful)}, repeats {pipeline.repeats()}")
    assert sum("event=reconnected" in line for line in log) >= len(ROLES)
    assert len(log) < 20 * len(ROLES)
    with psycopg.connect(url) as conn:
        row: Any = conn.execute("select count(*) from tidegate.incident").fetchone()
        assert row == (0,)
