-- R14
select plan(4);
select topic_create('orders');
select count(*) from outbox_put_many('orders', array['1', '2', '3']::jsonb[]);
select lease_id, array_agg(message_id order by message_id) as ids from outbox_claim('orders') group by 1 \gset

-- given a delay that no clock can hold
select lives_ok(
    format(
        $$select outbox_settle(%L, (%L::bigint[])[1:1], jsonb_build_array(
            jsonb_build_object('message_id', (%2$L::bigint[])[2], 'error', 'e', 'retry_in', '300000 years'),
            jsonb_build_object('message_id', (%2$L::bigint[])[3], 'error', 'e', 'retry_in', '-1 hour')
        ))$$,
        :'lease_id', :'ids'
    ),
    'a settlement with an absurd delay is taken'
);
select is(t.total('orders', 'acked'), 1::bigint, 'what succeeded is done');
select is((select count(*) from lease), 0::bigint, 'nothing is left behind');
select is(
    (select count(*) from ready) + (select count(*) from scheduled), 2::bigint, 'the failed ones will be tried again'
);

select * from finish();
