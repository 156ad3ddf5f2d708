-- R87, R88, R89
select plan(27);
select t.clock_stands();
select results_eq(
    $$select * from leader_acquire('maintain', 'a')$$,
    $$values ('won', 1::bigint, 'a', clock_now() + interval '10 seconds')$$, 'the first leads, in epoch 1'
);
select results_eq(
    $$select * from leader_acquire('maintain', 'b')$$,
    $$values ('held', null::bigint, 'a', clock_now() + interval '10 seconds')$$, 'the second is told who does'
);
select is((select epoch from leader_acquire('maintain', 'a')), 1::bigint, 'a repeat is the same epoch');
select is((select epoch from leader_acquire('other', 'b')), 1::bigint, 'another name is another leader');

-- renew
select t.clock_moves('9 seconds');
select is(leader_renew('maintain', 1), true, 'it goes on');
select t.clock_moves('9 seconds');
select is((select outcome from leader_acquire('maintain', 'b')), 'held', 'beyond its first lease');
select is(_leader_check('maintain', 1), true, 'and writes');
select t.clock_moves('1 second');
select is(_leader_check('maintain', 1), true, 'late, while nobody came');

-- take-over
select is((select epoch from leader_acquire('maintain', 'b')), 2::bigint, 'a silent leader is replaced, in the next epoch');
select is(leader_renew('maintain', 1), false, 'it is told when it comes back');
select is(leader_resign('maintain', 1), false, 'it has nothing to resign');
select throws_ok(
    $$select _leader_check('maintain', 1)$$, 'TG090', 'epoch 1 of leader ''maintain'' is over: now it is 2, of b',
    'and its writes are refused'
);
select throws_ok(
    $$update channel set is_paused = true where _leader_check('maintain', 1)$$, 'TG090', null, 'in the statement that writes'
) from queue_create('q');
select is(_leader_check('maintain', null), true, 'without an epoch nothing is asked');
select throws_ok($$select _leader_check('nothing', 1)$$, 'TG090', null, 'nobody leads what was never led');
select is((select outcome from leader_acquire('maintain', 'a')), 'held', 'now the other one leads');

-- resign
select is(leader_resign('maintain', 2), true, 'it resigns');
select is(leader_resign('maintain', 2), true, 'once more');
select is(leader_renew('maintain', 2), false, 'and leads no more');
select throws_ok(
    $$select _leader_check('maintain', 2)$$, 'TG090', 'epoch 2 of leader ''maintain'' is over: it was resigned', 'nor writes'
);
select is((select epoch from leader_acquire('maintain', 'b')), 3::bigint, 'so the next one, even itself, need not wait');

-- the same name after its lease: another process, perhaps
select t.clock_moves('10 seconds');
select is((select epoch from leader_acquire('maintain', 'b')), 4::bigint, 'who comes back late is a new leader');

-- the clock is set back
select t.clock_moves('-1 hour');
select is((select epoch from leader_acquire('maintain', 'a')), 5::bigint, 'nobody waits for an hour that has been already');

select throws_ok($$select leader_acquire('maintain', null)$$, 'TG010', null, 'a leader is somebody');
select throws_ok($$select leader_acquire('maintain', 'a', '0')$$, 'TG010', null, 'a lease is positive');
select throws_ok($$select leader_renew('maintain', 5, null)$$, 'TG010', null, 'also to go on');
begin;
set transaction isolation level repeatable read;
select throws_ok($$select _leader_check('maintain', 5)$$, 'TG030', null, 'an old snapshot would not tell');
rollback;
select * from finish();
