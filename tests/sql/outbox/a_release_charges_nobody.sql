-- R8, R33
select plan(7);
select t.clock_stands();
select topic_create('orders', '{"max_attempts": 1}');
select count(*) from outbox_put_many('orders', array['1', '2', '3']::jsonb[]);

-- given a relay whose broker is down
select lease_id, min(message_id) as first_id from outbox_claim('orders') group by 1 \gset
select is(
    (select s::text from outbox_release(:'lease_id', null, '5 seconds') as s),
    '(0,3,0,f)',
    'everything is given back'
);
select is(t.places('orders'), 'scheduled=3', 'to be tried later');
select is_empty($$select from scheduled where attempts > 0 or errors is not null$$, 'and nobody is charged');
select is((select s.lost from outbox_release(:'lease_id') as s), true, 'a repeat is told that the lease is gone');

-- when the pause is over
select t.clock_moves('5 seconds');
select lease_id as next_lease from outbox_claim('orders') limit 1 \gset
select is(t.places('orders'), 'lease=3', 'all of it is delivered again');

-- and a part may be released
select is(
    (select s::text from outbox_release(:'next_lease', array[:first_id]) as s), '(0,1,0,f)', 'a part goes back'
);
select is(t.places('orders'), 'ready=1 lease=2', 'the rest stays leased');

select * from finish();
