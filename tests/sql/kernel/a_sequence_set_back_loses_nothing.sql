-- Must hold 4: a logical copy carries no sequences, or somebody called setval
select plan(5);
select t.clock_stands();
select topic_create('orders', '{"lease": "1 day", "max_runtime": "1 day"}');

-- given floors that have risen
select count(*) from outbox_put_many('orders', array(select to_jsonb(n) from generate_series(1, 100) as n));
select count(*) from outbox_claim('orders', 90);
select t.clock_moves('2 seconds');
select _tick((select channel_id from channel));
select cmp_ok((select floors[1] from floor order by floor_id desc limit 1), '>=', 90::bigint, 'the floor has risen');

-- when the sequence is set back and messages are put below it
select setval('position_seq', 5);
select outbox_put('orders', '"after"');
select t.clock_moves('1 second');

-- then they are found, with what was there
select is(
    (select count(*) from outbox_claim('orders', 1000)), 11::bigint, 'the ten that were left and the new one are claimed'
);
select t.clock_moves('1 second');
select outbox_put('orders', '"later"');
select t.clock_moves('1 second');
select results_eq($$select payload from outbox_claim('orders')$$, $$values ('"later"'::jsonb)$$, 'and so is what follows');
select cmp_ok(
    (select p.message_id from outbox_put('orders', '"newest"') as p), '>', 100::bigint,
    'the sequence has moved past all that it gave before'
);
select isnt_empty($$select * from incident where routine = '_tide_forget'$$, 'and it is noted');

select * from finish();
