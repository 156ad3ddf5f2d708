"""Who may call whom. The table stands here; nothing may point up.

metrics                   reads everything; nobody calls it
maintenance               names what is due; only metrics asks it
recovery  cleanup         sweepers: call below, never each other
run                       cancels and finishes across places
outbox  queue             the faces: sends, claims, settlements
barrier  dead_letter  guard  leader  counter  handler
place                     every move of a message
kernel                    calls nothing above
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyshim import assets, render

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pyshim"

LAYERS = [
    ("kernel",),
    ("place",),
    ("barrier", "dead_letter", "guard", "leader", "counter", "handler"),
    ("outbox", "queue"),
    ("run",),
    ("recovery", "cleanup"),
    ("maintenance",),
    ("metrics",),
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

# Our modules that a module may import, where the design says so.
IMPORTS = {
    "assets": {"errors"},
    "calls": set(),
    "child": {"handling", "registry", "telemetry"},
    "children": {"child", "handling", "registry"},
    "client": {"calls", "config", "errors", "names", "prepared", "telemetry", "written"},
    "config": {"errors", "names"},
    "connect": {"config", "errors", "logs"},
    "doorbell": {"config", "connect", "logs", "loops"},
    "errors": set(),
    "handling": {"registry", "telemetry", "traces"},
    "heart": {"calls", "logs", "session"},
    "migrate": {"assets", "connect", "errors", "names", "render"},
    "names": {"errors"},
    "options": {"config", "connect"},
    "prepared": set(),
    "registry": {"calls", "config", "errors", "traces", "written"},
    "render": {"assets", "errors", "names"},
    "telemetry": {"config", "errors"},
    "traces": {"config"},
    "written": {"errors"},
}


# The one seam that points up: the end of a message is the arrival, or the failure, of the member it
# belongs to, in the same transaction, while what a barrier fires enters through place. Routine by
# routine, so that nothing else slips through.
SEAM = {
    ("_message_finish", "_member_end"),
    ("_message_bury", "_member_end"),
    ("_message_drop", "_member_end"),
    ("_lease_settle", "_member_lock"),
}


def may_call(caller: str, callee: str) -> bool:
    """Whether a routine of room `caller` may call one of room `callee`."""
    return caller == callee or LEVEL[callee] < LEVEL[caller]


@functools.cache
def plain(path: str) -> str:
    """The SQL of a template: macros expanded, comments and `comment on` taken out."""
    text = render.templates("tidegate").render(path)
    text = re.sub(r"/\*.*?\*/|--[^\n]*", " ", text, flags=re.DOTALL)
    return re.sub(r"\bcomment on .*?\sis\s+'(?:[^']|'')*'\s*;", " ", text, flags=re.DOTALL)


def calls(text: str, names: set[str]) -> set[str]:
    """Which of the routines `names` the SQL text calls."""
    found = set(re.findall(r"(?<![\w.])(?:tidegate\.)?(\w+)\s*\(", text))
    return found & names


def relations(text: str, names: set[str]) -> set[str]:
    """Which of the tables or views `names` a statement of the text reads or writes."""
    pattern = r"\b(?:from|join|into|update|table|truncate|using|only)\s+(?:[\w{}\"]*\.)?\"?(\w+)"
    return set(re.findall(pattern, text, flags=re.IGNORECASE)) & names


def routine_files() -> dict[str, str]:
    """Routine name → its file, for everything under sql/functions."""
    return {Path(p).stem: p for p in assets.routines() if p.startswith("functions/")}


def view_names() -> set[str]:
    """The views of install.sql."""
    return {Path(p).stem for p in assets.routines() if p.startswith("views/")}


def table_names() -> set[str]:
    """Every table that a migration makes."""
    made = (re.findall(r"create table tidegate\.(\w+)", plain(m.up)) for m in assets.migrations())
    return {name for names in made for name in names}


def room(path: str) -> str:
    """functions/<room>/<routine>.sql → <room>."""
    return path.split("/")[1]


def test_every_room_has_its_place_in_the_table() -> None:
    assert {room(path) for path in routine_files().values()} <= set(LEVEL)


def test_no_routine_calls_upwards_or_a_room_beside_its_own() -> None:
    files = routine_files()
    arrows = [
        f"{room(path)}/{name} calls {room(files[callee])}/{callee}"
        for name, path in files.items()
        for callee in calls(plain(path), set(files)) - {name}
        if not may_call(room(path), room(files[callee])) and (name, callee) not in SEAM
    ]
    assert arrows == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("perform queue_send('x')", {"queue_send"}),
        ("select tidegate.queue_send ('x')", {"queue_send"}),
        ("select other.queue_send('x'), my_queue_send(1), queue_send", set()),
    ],
)
def test_a_call_is_seen(text: str, found: set[str]) -> None:
    assert calls(text, {"queue_send"}) == found


def test_the_seam_is_used() -> None:
    files = routine_files()
    for caller, callee in SEAM:
        assert callee in calls(plain(files[caller]), {callee})


def test_the_table_forbids_what_it_says() -> None:
    assert may_call("queue", "place")
    assert may_call("queue", "queue")
    assert not may_call("place", "queue")
    assert not may_call("recovery", "cleanup")
    assert not may_call("kernel", "metrics")


def test_tables_know_no_routines_and_routines_know_no_views() -> None:
    names = set(routine_files())
    up = [f"{m.up} calls {name}" for m in assets.migrations() for name in calls(plain(m.up), names)]
    up += [
        f"{path} reads the view {view}"
        for path in routine_files().values()
        for view in relations(plain(path), view_names())
    ]
    assert up == []


def test_sql_does_not_know_python() -> None:
    knowing = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sql").rglob("*.sql")
        if re.search(r"python|pyshim|psycopg", path.read_text(encoding="utf-8"), re.IGNORECASE)
    ]
    assert knowing == []


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string of a module that may be SQL; an f-string with its holes as `{}`."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside.update(id(part) for part in node.values)
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            yield str(node.value)


def is_sql(text: str) -> bool:
    """A statement begins with its verb."""
    verbs = r"\s*(with|select|insert|update|delete|merge|copy|truncate|lock|alter|create|drop)\b"
    return re.match(verbs, text, re.IGNORECASE) is not None


def test_python_touches_no_table() -> None:
    tables = table_names()
    assert {"ready", "lease", "migration"} <= tables
    touched = [
        f"{path.relative_to(ROOT)}: {name} in {text.strip()[:60]!r}"
        for path in PACKAGE.rglob("*.py")
        for text in strings(ast.parse(path.read_text(encoding="utf-8")))
        if is_sql(text)
        for name in relations(text, tables)
    ]
    touched += [
        f"{path.relative_to(ROOT)}: {name}"
        for path in PACKAGE.rglob("*.sql")
        if ROOT / "sql" not in path.parents
        for name in re.findall(r"\btidegate\.(\w+)", path.read_text(encoding="utf-8"))
        if name in tables
    ]
    assert touched == []


def test_a_touched_table_is_seen() -> None:
    module = 'x = f"select * from {schema}.ready"; y = "delete\\nfrom tidegate.lease"; z = "ready"'
    found = [relations(text, {"ready", "lease"}) for text in strings(ast.parse(module))]
    assert found == [{"ready"}, {"lease"}, set()]


def imports() -> dict[str, set[str]]:
    """Module → the modules of ours that it imports, at any depth of its text."""
    graph: dict[str, set[str]] = {}
    modules = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in PACKAGE.rglob("*.py")
    }
    for name, path in modules.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pyshim"):
                base = (node.module or "").removeprefix("pyshim").lstrip(".")
                for alias in node.names:
                    full = f"{base}.{alias.name}".lstrip(".")
                    found.add(full if full in modules else base)
            elif isinstance(node, ast.Import):
                found |= {
                    alias.name.removeprefix("pyshim.")
                    for alias in node.names
                    if alias.name.startswith("pyshim.")
                }
        graph[name] = found - {"", "__init__", name}
    return graph


def test_imports_point_down() -> None:
    graph = imports()
    above = {name: graph[name] - allowed for name, allowed in IMPORTS.items()}
    assert {name: extra for name, extra in above.items() if extra} == {}


def test_imports_form_no_circle() -> None:
    graph = imports()
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_publishers_know_messages_and_nothing_of_the_database() -> None:
    for name, found in imports().items():
        if name.startswith("publishers"):
            strangers = {
                other
                for other in found
                if not other.startswith("publishers") and other not in ("errors", "config", "logs")
            }
            assert strangers == set(), name
