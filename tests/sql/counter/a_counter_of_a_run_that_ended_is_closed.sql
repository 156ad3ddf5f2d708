-- R116: runs are asked about in one place, _counter_closed.
create table if not exists tidegate.run (
    run_id text primary key, state text not null, opened_at timestamptz, finished_at timestamptz
);
select plan(6);
insert into tidegate.run (run_id, state, opened_at) values ('r1', 'open', now()), ('r2', 'open', now());
select count(*) from counter_sync(
    '[{"key": "a", "value": 3, "run_id": "r1"}, {"key": "b", "value": 4, "run_id": "r2"}, {"key": "c", "value": 5, "run_id": "r3"}]'
);
-- given that a run ended
update tidegate.run set state = 'completed', finished_at = now() where run_id = 'r1';
-- when its counters are set again, with and without naming it
select results_eq(
    $$select s.key, s.value, s.counted, s.skew, s.outcome from counter_sync('{"a": 9, "b": 9, "c": 9}') s$$,
    $$values ('a', 3::bigint, 3::bigint, 6::bigint, 'closed'), ('b', 9, 4, 5, 'written'), ('c', 9, 5, 4, 'written')$$,
    'a counter of a run that ended stays, and the skew is told'
);
select is(
    (select s.outcome from counter_sync('[{"key": "a", "value": 9, "run_id": "r1"}]') s), 'closed', 'named or not'
);
select is((select c.value from counters c where c.key = 'a'), 3::bigint, 'it says what it said');
select is(
    (select s.outcome from counter_sync('[{"key": "new", "value": 9, "run_id": "r1"}]') s), 'closed',
    'no counter is made for it'
);
select is_empty($$select * from counters c where c.key = 'new'$$, 'none');
-- a counter passes to another run by being told so
select is(
    (select s.outcome from counter_sync('[{"key": "a", "value": 3, "run_id": "r2"}]') s), 'written', 'it may move to a live one'
);
select * from finish();
