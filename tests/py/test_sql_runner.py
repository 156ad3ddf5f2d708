"""The runner of .sql files must never let a broken file pass."""

from __future__ import annotations

import pytest

from tests.pgtap import TapFailure, judge, run_file


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("1..2\nok 1\nok 2 - two\n", None),
        ("ok 1\n1..1\n", None),
        ("ok 1\n", "no plan"),
        ("1..2\nok 1\n", "2 tests planned, 1 ran"),
        ("1..1\nnot ok 1 - no\n", "not ok 1 - no"),
        ("1..1\nok 1 # SKIP not here\n", "ok 1 # SKIP"),
        ("1..1\nnot ok 1 # TODO later\n", "not ok 1"),
        ("1..2\nok 1\nok 3\n", "test 3 came as number 2"),
        ("1..0\n", "nothing was tested"),
        ("", "nothing was tested"),
    ],
)
def test_tap_is_judged_strictly(output: str, problem: str | None) -> None:
    problems = judge(output, "", 0).problems
    if problem is None:
        assert problems == []
    else:
        assert any(problem in found for found in problems)


def test_an_error_or_a_bad_exit_fails_whatever_tap_says() -> None:
    assert judge("1..1\nok 1\n", "psql:a.sql:3: ERROR:  no\n", 0).problems
    assert judge("1..1\nok 1\n", "", 3).problems


def test_a_file_is_stopped_at_its_first_error(tmp_path, psql: str, database: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "broken.sql"
    path.write_text("select plan(2);\nselect ok(true);\nselect 1 / 0;\nselect ok(true);\n")
    with pytest.raises(TapFailure, match="division by zero"):
        run_file(path, psql, database)


def test_a_good_file_says_how_many_tests_ran(tmp_path, psql: str, database: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "good.sql"
    path.write_text("select plan(1);\nselect is(1, 1, 'one');\nselect * from finish();\n")
    assert run_file(path, psql, database) == 1
