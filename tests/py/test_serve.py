"""`--listen`: what a scrape, a liveness and a readiness probe are answered, and what garbage is."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from pyshim import serve
from pyshim.config import Database
from pyshim.connect import Connection, connect
from pyshim.errors import ConfigError, DatabaseUnavailable
from pyshim.meter import BUCKETS, OWN, Meter, Sample, exposition, number
from pyshim.serve import Address, Endpoint, address, label

LINE = re.compile(
    r'[a-z_]+(?:\{[a-z_]+="(?:[^"\\\n]|\\.)*"(?:,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})?'
    r" (?:[0-9.e+-]+|\+Inf)"
)


def _well_formed(text: str) -> dict[str, str]:
    """Sample → value, of an exposition whose every line is one."""
    found = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if not line.startswith(("# HELP ", "# TYPE ")):
            assert LINE.fullmatch(line), line
            name, _, value = line.rpartition(" ")
            assert name not in found, "twice"
            found[name] = value
    return found


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
async def endpoint(database: str, meter: Meter) -> AsyncIterator[Endpoint]:
    async def opener() -> Connection:
        return await connect(Database(database, "the test"), attempts=1)

    endpoint = Endpoint(opener, "tidegate", meter, {"env": 'sta"ging\\'})
    yield endpoint
    await endpoint.close()


async def _ask(port: int, request: bytes, *, close: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    if close:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def _get(port: int, path: str) -> tuple[int, str]:
    answer = await _ask(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert f"Content-Length: {len(body.encode())}" in head
    return int(head.split()[1]), body


@pytest.fixture
async def port(endpoint: Endpoint) -> AsyncIterator[int]:
    server = await endpoint.start(Address("127.0.0.1", 0))
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_scrape_tells_what_the_database_says_and_what_this_process_counts(
    database: str, port: int, meter: Meter
) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("select tidegate.queue_create('q')")
        conn.execute("select tidegate.metrics_snapshot()")
    meter.watch("relay orders", 60)
    meter.stepped("relay orders", "full", 0.02)
    meter.stepped("relay orders", "error", 7)
    status, text = await _get(port, "/metrics")
    assert status == 200
    found = _well_formed(text)
    env = 'env="sta\\"ging\\\\"'
    assert found[f"tidegate_up{{{env}}}"] == "1"
    depth = f'tidegate_depth{{{env},kind="queue",place="ready",channel="q"}}'
    assert found[depth] == "0"
    of_loop = f'{env},loop="relay",channel="orders"'
    assert found[f'tidegate_loop_iterations_total{{{of_loop},outcome="full"}}'] == "1"
    assert found[f'tidegate_loop_iterations_total{{{of_loop},outcome="error"}}'] == "1"
    buckets = f"tidegate_loop_duration_seconds_bucket{{{of_loop}"
    assert found[f'{buckets},outcome="success",le="0.01"}}'] == "0"
    assert found[f'{buckets},outcome="success",le="0.025"}}'] == "1"
    assert found[f'{buckets},outcome="success",le="+Inf"}}'] == "1"
    assert all(env in name for name in found), "constant labels stand on every sample"
    assert len(re.findall(r"^# TYPE tidegate_depth gauge$", text, re.MULTILINE)) == 1


async def test_a_database_that_is_down_is_told_and_the_rest_is_there(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opener() -> Connection:
        raise DatabaseUnavailable("cannot connect", hint="is it up?")

    endpoint = Endpoint(opener, "tidegate", meter)
    meter.count("tidegate_loop_iterations_total", loop="sweep", channel="", outcome="none")
    found = _well_formed(await endpoint.metrics())
    assert found["tidegate_up"] == "0"
    assert found['tidegate_loop_iterations_total{loop="sweep",outcome="none"}'] == "1"
    assert not [name for name in found if name.startswith("tidegate_schema_version")]
    assert (await endpoint._answer("/readyz"))[0] == 503
    await endpoint.close()


async def test_a_database_that_hangs_hangs_no_scrape(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_SCRAPE_DEADLINE", 0.1)
    monkeypatch.setattr(serve, "_GIVING_UP", 0.1)
    unread: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))

    async def opener() -> Connection:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.5)  # psycopg cancels no query at once
        raise AssertionError

    endpoint = Endpoint(opener, "tidegate", meter)
    texts = await asyncio.wait_for(asyncio.gather(*(endpoint.metrics() for _ in range(5))), 5)
    assert all(_well_formed(text)["tidegate_up"] == "0" for text in texts)
    assert (await asyncio.wait_for(endpoint._answer("/readyz"), 5))[0] == 503
    assert endpoint._scraping is not None and endpoint._scraping.done()
    endpoint._scraping = None
    gc.collect()
    assert unread == [], "an exception that nobody read"
    await endpoint.close()


async def test_a_scrape_that_waits_for_a_lock_ends(database: str, port: int) -> None:
    with psycopg.connect(database) as holder:
        holder.execute("lock table tidegate.tally in access exclusive mode")
        _, text = await _get(port, "/metrics")
        assert _well_formed(text)['tidegate_up{env="sta\\"ging\\\\"}'] == "0"
    _, text = await _get(port, "/metrics")
    assert _well_formed(text)['tidegate_up{env="sta\\"ging\\\\"}'] == "1"


async def test_health_is_progress_and_nothing_else(port: int, meter: Meter) -> None:
    assert await _get(port, "/healthz") == (200, "ok\n")
    meter.watch("sweep", 60)
    assert (await _get(port, "/healthz"))[0] == 200
    for watched in meter._watched.values():
        watched.progress_at -= 61
    meter.stepped("sweep", "error", 0.1)  # a step that failed is no progress
    status, text = await _get(port, "/healthz")
    assert status == 503
    assert text.startswith("sweep: no progress for ")
    meter.waits("sweep", 30)  # a server that is away is none, but nothing that a restart would mend
    assert (await _get(port, "/healthz"))[0] == 200
    for watched in meter._watched.values():
        watched.waits_until -= 91
    assert (await _get(port, "/healthz"))[0] == 503
    meter.stepped("sweep", "none", 0.1)  # finding nothing is
    assert (await _get(port, "/healthz"))[0] == 200
    meter.watch("work q", 60, lambda: True)
    for watched in meter._watched.values():
        watched.progress_at -= 59
    meter._watched[("loop", "work"), ("channel", "q")].progress_at -= 59  # and so is a handler
    assert (await _get(port, "/healthz"))[0] == 200


async def test_readiness_is_a_database_and_a_schema_that_fits(
    port: int, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await _get(port, "/readyz") == (200, "ok\n")
    monkeypatch.setattr(serve, "_READY_FOR", 0.0)

    async def opener() -> Connection:
        raise DatabaseUnavailable("password=secret is wrong")

    endpoint._opener = opener
    status, text = await _get(port, "/readyz")
    assert status == 503
    assert "secret" not in text


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /other HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405"),
        (b"DELETE /healthz HTTP/1.1\r\n\r\n", b"405"),
        (b"POST /other HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics\r\n\r\n", b"400"),
        (b"GET /metrics\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", b"400"),
        (b"GET /healthz?x=1 HTTP/1.0\r\n\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\n\n", b"200"),
        (b"GET /" + b"a" * 20000, b""),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 3000 + b"\r\n", b""),
        (b"", b""),
        (b"GET /healthz HTTP/1.1\r\nX: y", b""),
    ],
)
async def test_garbage_is_answered_or_dropped(port: int, request_: bytes, status: bytes) -> None:
    answer = await _ask(port, request_, close=True)
    assert answer.split(b" ")[1:2] == ([status] if status else [])
    assert (await _get(port, "/healthz"))[0] == 200


async def test_who_says_nothing_is_let_go(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_HEAD_TIMEOUT", 0.1)
    assert await _ask(port, b"GET /healthz HTTP/1.1\r\n") == b""


async def test_a_head_has_no_body(port: int) -> None:
    answer = await _ask(port, b"HEAD /healthz HTTP/1.1\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n")
    assert b"200 OK" in answer


async def test_a_crowd_is_sent_away(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_MOST_CONNECTIONS", 3)
    waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert (await _get(port, "/healthz"))[0] == 503
    for _, writer in waiting:
        writer.close()
    await asyncio.sleep(0.05)
    assert (await _get(port, "/healthz"))[0] == 200


async def test_a_port_that_is_taken_is_told(port: int, endpoint: Endpoint) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        await endpoint.start(Address("127.0.0.1", port))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:9187", Address("127.0.0.1", 9187)),
        (":9187", Address("", 9187)),
        ("[::1]:0", Address("::1", 0)),
    ],
)
def test_an_address_is_read(text: str, found: Address) -> None:
    assert address("--listen", text) == found


@pytest.mark.parametrize("text", ["9187", "host", "host:", "host:http", "::1:9187", "host:65536"])
def test_an_address_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        address("--listen", text)


def test_a_label_is_a_name_that_is_still_free() -> None:
    assert label("--label", "env=a=b") == ("env", "a=b")
    for bad in ("env", "=x", "a-b=c", "__a=b", "1a=b"):
        with pytest.raises(ConfigError, match="NAME=VALUE"):
            label("--label", bad)
    with pytest.raises(ConfigError, match="a label kind already"):
        label("--label", "kind=x")


def test_every_label_of_a_sample_is_reserved(database: str) -> None:
    with psycopg.connect(database) as conn:
        conn.execute("set search_path = tidegate")
        conn.execute("select queue_create('q'), queue_send('q', '{}'), metrics_snapshot()")
        row = conn.execute(
            "select array_agg(distinct k) from metrics() m, jsonb_object_keys(m.labels) k"
        ).fetchone()
    assert row is not None
    assert set(row[0]) | {"loop", "le", "job", "instance"} == serve.RESERVED


def test_numbers_and_meanings_are_written_as_prometheus_reads_them() -> None:
    assert [number(each) for each in (0, 1.0, 0.5, 1e300, float("inf"))] == [
        "0", "1", "0.5", str(int(1e300)), "+Inf"
    ]  # fmt: skip
    text = exposition([Sample("a", {}, 1)], {"a": ("gauge", "one\\two\nthree")}, {})
    assert text == "# HELP a one\\\\two\\nthree\n# TYPE a gauge\na 1\n"
    assert tuple(sorted(BUCKETS)) == BUCKETS
    assert all(re.fullmatch(r"tidegate_[a-z_]+", name) for name in OWN)


@pytest.fixture
def start(database: str) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Start a role with `--listen` on a free port, and say where it listens."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "pyshim", *words, "--listen", "127.0.0.1:0", "--label", "env=t"],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "TIDEGATE_DATABASE_URL": database,
                "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)]),
            },
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if match := re.search(r"event=listening address=(\S+)", line):
                return process, f"http://{match[1]}"
        raise AssertionError("it never listened")

    yield run
    for process in started:
        process.kill()
        process.communicate()


def _fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("words", "loop"),
    [
        (("sweep", "--follow"), 'loop="sweep"'),
        (("relay", "t", "--to", "stdout"), 'loop="relay",channel="t"'),
        (("work", "served_registry:registry"), 'loop="work",channel="q"'),
        (("maintain",), 'loop="maintain"'),
    ],
)
def test_every_role_answers(
    start: Callable[..., tuple[subprocess.Popen[str], str]],
    database: str,
    words: tuple[str, ...],
    loop: str,
) -> None:
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("select tidegate.topic_create('t'), tidegate.queue_create('q')")
        conn.execute("select tidegate.queue_send('q', '{}'), tidegate.outbox_put('t', '{}')")
    process, url = start(*words)
    end = time.monotonic() + 30
    wanted = f'tidegate_loop_duration_seconds_count{{env="t",{loop},outcome="success"}}'
    took = {"relay": "publish", "work": "handler"}.get(words[0])
    channel = "t" if took == "publish" else "q"
    name = f"tidegate_{took}_duration_seconds_count"
    name += f'{{env="t",channel="{channel}",outcome="success"}}'
    while True:
        found = _well_formed(_fetch(f"{url}/metrics")[1])
        if float(found.get(wanted, 0)) and (took is None or float(found.get(name, 0))):
            break
        assert time.monotonic() < end, found
        time.sleep(0.1)
    assert found['tidegate_up{env="t"}'] == "1"
    assert _fetch(f"{url}/healthz") == (200, "ok\n")
    assert _fetch(f"{url}/readyz") == (200, "ok\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
