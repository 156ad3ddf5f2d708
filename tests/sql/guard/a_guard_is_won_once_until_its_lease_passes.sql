-- R76, R78, R84
select plan(9);
select t.clock_stands();
select is((select outcome from guard_claim('invoice', '7', 'a', '1 minute')), 'won', 'the first wins');
select is((select outcome from guard_claim('invoice', '7', 'b', '1 minute')), 'held', 'the second is told so');
select is((select outcome from guard_claim('invoice', '7', 'a', '1 minute')), 'won', 'a repeat by the owner wins again');
select is((select outcome from guard_claim('invoice', '8', 'b')), 'won', 'another key is free');

-- when the owner is dead
select t.clock_moves('61 seconds');
select is((select outcome from guard_claim('invoice', '7', 'b')), 'won', 'its claim is taken over after its lease');
select is(guard_finish('invoice', '7', 'a', '"late"'), 'lost', 'and the old owner cannot finish it');

-- when it is finished
select is(guard_finish('invoice', '7', 'b', '{"paid": true}'), 'done', 'the new owner can');
select results_eq(
    $$select outcome, result from guard_claim('invoice', '7', 'c')$$,
    $$values ('done', '{"paid": true}'::jsonb)$$,
    'whoever comes later gets the first result'
);
select throws_ok($$select guard_claim('invoice', '9', 'a', '-1 s')$$, 'TG010', null, 'a lease is positive');

select * from finish();
