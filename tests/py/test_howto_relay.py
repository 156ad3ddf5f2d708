"""docs/howto/relay.md is tried: the publisher of its last section, installed as it says."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from pyshim.errors import ConfigError
from pyshim.publishers import publisher_for
from tests.commands import Told
from tests.py.test_howto import snippets


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip would leave of the howto's distribution, in `folder`."""
    (module,) = snippets("relay.md", "python")
    (toml,) = snippets("relay.md", "toml")
    assert '[project.entry-points."tidegate.publishers"]' in toml
    ((name, value),) = re.findall(r'^(\w+) = "(.*)"$', toml, flags=re.MULTILINE)
    (folder / f"{value.partition(':')[0]}.py").write_text(module)
    info = folder / "tidegate_spool-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tidegate-spool\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[tidegate.publishers]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_a_publisher_of_somebody_elses_is_found_by_its_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str, tell: Callable[..., Told]
) -> None:
    install(tmp_path, monkeypatch)
    spool = tmp_path / "spool"
    spool.mkdir()
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("select tidegate.topic_create('payments')")
        for key in ("open", "secret"):
            conn.execute(
                "select tidegate.outbox_put('payments', '{\"n\": 1}', p_group_key => %s)", (key,)
            )
        told = tell("relay", "payments", "--to", f"spool://{spool}", "--drain")
        assert told.code == 0, told.err
        (written,) = spool.iterdir()
        envelope = json.loads(written.read_text())
        assert (envelope["event_id"], envelope["payload"]) == (written.stem, {"n": 1})
        dead = conn.execute("select reason, last_error from tidegate.dead_letter_list()").fetchall()
        assert dead == [("not_retryable", "not for a file")]


def test_one_that_does_not_load_is_a_mistake_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    (tmp_path / "tidegate_spool.py").write_text("import nothing_of_that_name\n")
    monkeypatch.delitem(sys.modules, "tidegate_spool", raising=False)
    with pytest.raises(ConfigError, match="'tidegate_spool:SpoolPublisher' for spool:// does not"):
        publisher_for("spool:///tmp")
    with pytest.raises(ConfigError, match=r"unknown target 'other://x'.*spool://…"):
        publisher_for("other://x")


def test_every_target_of_the_page_is_one() -> None:
    commands = [
        shlex.split(line)
        for block in snippets("relay.md", "")
        for line in block.splitlines()
        if "tidegate relay" in line
    ]
    targets = [words[words.index("--to") + 1] for words in commands]
    schemes = {re.split("[:]", target)[0] for target in targets}
    assert schemes == {"stdout", "redis", "nats", "amqp", "kafka", "https"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOOK_SECRET", "whsec_" + "A" * 44)
        for target in targets:
            publisher_for(target)
