-- R52, R62: rows that share whatever key never collide on their way to the dead
select plan(3);
select topic_create('orders', '{"max_attempts": 1}');
select outbox_put('orders', '{}', p_group_key => 'g', p_event_id => '11111111-1111-4111-8111-111111111111')
from generate_series(1, 3);

select is((select count(*) from outbox_claim('orders', 10)), 3::bigint, 'three events of one identity and group');
select is(
    (select s::text from lease as l, outbox_settle(l.lease_id, '{}', (
        select jsonb_agg(jsonb_build_object('message_id', m.message_id, 'error', 'no')) from unnest(l.messages) as m
    )) as s),
    '(0,0,3,f)',
    'all die in one settlement'
);
select is(dead_letter_count(), 3::bigint, 'none replaces another');

select * from finish();
