-- R76, R77, R78, R80, R81, R83, R84
select plan(30);
select t.clock_stands();
select guard_claim('invoice', '7', 'a', '1 minute');
select is((select is_repeat from guard_claim('invoice', '7', 'a', '1 minute')), true, 'a repeat is told from the first');
select is((select is_repeat from guard_claim('invoice', '7', 'b')), false, 'and from somebody else''s duplicate');

-- renew
select t.clock_moves('50 seconds');
select results_eq(
    $$select outcome, expires_at from guard_renew('invoice', '7', 'a', '1 minute')$$,
    $$values ('renewed', clock_now() + interval '1 minute')$$, 'the owner renews'
);
select results_eq(
    $$select outcome, expires_at from guard_renew('invoice', '7', 'b')$$, $$values ('lost', null::timestamptz)$$,
    'nobody else does'
);
select is((select outcome from guard_renew('invoice', 'none', 'a')), 'lost', 'what nobody holds is not renewed');
select t.clock_moves('50 seconds');
select is((select outcome from guard_claim('invoice', '7', 'b')), 'held', 'it is held beyond the first lease');

-- release
select is(guard_release('invoice', '7', 'b'), 'lost', 'a stranger releases nothing');
select is((select outcome from guard_claim('invoice', '7', 'b')), 'held', 'it stays held');
select is(guard_release('invoice', '7', 'a'), 'released', 'the owner releases it');
select is(guard_release('invoice', '7', 'a'), 'released', 'a repeat changes nothing');
select is((select outcome from guard_renew('invoice', '7', 'a')), 'lost', 'it is not his any more');
select results_eq(
    $$select outcome, is_repeat from guard_claim('invoice', '7', 'b', '1 minute')$$, $$values ('won', false)$$,
    'the next try wins: a failed attempt re-runs'
);

-- a stale owner, after a take-over
select t.clock_moves('1 minute');
select is((select outcome from guard_renew('invoice', '7', 'b', '1 minute')), 'renewed', 'late, but nobody came: renewed');
select t.clock_moves('1 minute');
select is((select outcome from guard_claim('invoice', '7', 'c', '1 minute')), 'won', 'a crashed owner is replaced after its lease');
select is(guard_release('invoice', '7', 'b'), 'lost', 'it cannot release the newer claim');
select is((select outcome from guard_renew('invoice', '7', 'b')), 'lost', 'nor renew it');
select is(guard_finish('invoice', '7', 'b'), 'lost', 'nor finish it');
select is((select owner from guard where key = '7'), 'c', 'which stands');

-- finish
select is(guard_finish('invoice', '7', 'c', '"paid"'), 'done', 'the owner finishes');
select is(guard_finish('invoice', '7', 'c', '"again"'), 'done', 'a repeat is done');
select results_eq(
    $$select outcome, result, is_repeat from guard_claim('invoice', '7', 'd')$$, $$values ('done', '"paid"'::jsonb, false)$$,
    'a redelivery elsewhere is skipped with the first result'
);
select results_eq(
    $$select outcome, result, is_repeat from guard_claim('invoice', '7', 'c')$$, $$values ('done', '"paid"'::jsonb, true)$$,
    'and the retry of who finished it is told so'
);
select is(guard_release('invoice', '7', 'c'), 'done', 'a tombstone is not released');
select is(guard_release('invoice', '7', 'd'), 'lost', 'by nobody');
select is((select outcome from guard_renew('invoice', '7', 'c')), 'done', 'nor renewed');
select t.clock_moves('6 days 23 hours');
select cleanup_sweep();
select is((select outcome from guard_claim('invoice', '7', 'd')), 'done', 'it stands until its retention');
select t.clock_moves('2 hours');
select cleanup_sweep();
select is((select outcome from guard_claim('invoice', '7', 'd')), 'won', 'and no longer');

select throws_ok($$select guard_renew('invoice', '7', 'd', '0')$$, 'TG010', null, 'a lease is positive');
select throws_ok($$select guard_release('invoice', null, 'd')$$, 'TG010', null, 'a guard has a key');
select throws_ok(
    $$select guard_claim('invoice', repeat('x', 1020), 'd')$$, 'TG010', null, 'a key that no index holds is refused'
);
select * from finish();
