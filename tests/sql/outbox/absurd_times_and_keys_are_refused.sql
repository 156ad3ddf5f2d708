-- R107: a value that would break every later call is refused when it is given
select plan(21);
select topic_create('orders');
select queue_create('work');

select throws_ok(
    format($$select topic_configure('orders', %L)$$, jsonb_build_object(k, v)), 'TG010', null, format('%s %s', k, v)
)
from unnest(array['lease', 'max_runtime', 'backoff_base', 'backoff_cap', 'retention']) as k
cross join unnest(array['300000 years', '101 years']) as v;
select throws_ok($$select topic_configure('orders', '{"lease": "tomorrow"}')$$, 'TG010', null, 'a lease that is no interval');
select throws_ok($$select topic_configure('orders', '{"jitter": "NaN"}')$$, 'TG010', null, 'a jitter that is no number');
select lives_ok($$select topic_configure('orders', '{"retention": "100 years"}')$$, 'a century is allowed');

select throws_ok(
    $$select outbox_put('orders', '1', p_idempotency_key => repeat('k', 513))$$, 'TG010', null, 'an endless key'
);
select throws_ok(
    $$select queue_send_many('work', '{1}', p_idempotency_key => repeat('k', 3000))$$, 'TG010', null, 'also of many'
);
select is(
    (select p.outcome from outbox_put('orders', '1', p_idempotency_key => repeat('k', 512)) as p), 'inserted',
    'one of 512 bytes is allowed'
);

select throws_ok($$select cleanup_sweep(2147483647)$$, 'TG010', null, 'a cleanup without an end');
select throws_ok($$select cleanup_sweep(10, '300000 years')$$, 'TG010', null, 'a retention beyond the calendar');
select throws_ok(
    $$select guard_claim('s', 'k', 'o', '300000 years')$$, 'TG010', null, 'a guard that is never given back'
);
select lives_ok(
    $$select queue_send_many('work', '[0:1]={1,2}', p_idempotency_key => 'z')$$, 'an array may begin anywhere'
);
select results_eq(
    $$select payload from ready inner join channel using (channel_id) where name = 'work' order by position$$,
    $$values ('1'::jsonb), ('2')$$,
    'and all of it is sent'
);

select * from finish();
