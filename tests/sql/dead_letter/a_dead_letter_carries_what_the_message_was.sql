-- R49
select plan(3);
select t.clock_stands();
select topic_create('orders', '{"max_attempts": 1}');
select queue_create('work', '{"max_attempts": 1}');
select outbox_put(
    'orders', '{"n": 1}', p_headers => '{"trace": "t"}', p_priority => 3, p_run_id => 'r', p_tenant => 'acme',
    p_group_key => 'g'
);
select queue_send('work', '{"n": 2}', p_tenant => 'acme');

-- given one message that is settled as failed, and one whose worker died
select lease_id, message_id from outbox_claim('orders') \gset
select outbox_settle(
    :'lease_id', '{}', jsonb_build_array(jsonb_build_object('message_id', :message_id, 'error', 'no'))
);
select count(*) from queue_claim('work', p_worker => 'w1');
select t.clock_moves('2 minutes');
select count(*) from queue_claim('work');

-- then one store holds both, with the columns of the live places
select results_eq(
    $$select kind, channel::text collate "default", reason, last_error, attempts::int, payload, tenant
    from dead_letter order by dead_letter_id$$,
    $$values
        ('topic', 'orders', 'exhausted', 'no', 1, '{"n": 1}'::jsonb, 'acme'),
        ('queue', 'work', 'expired', 'lease expired: worker w1 did not settle', 1, '{"n": 2}', 'acme')$$,
    'topics and queues share one store'
);
select results_eq(
    $$select message_id, headers, priority::int, run_id, group_key collate "default", dead_at from dead_letter where kind = 'topic'$$,
    format(
        $$values (%s::bigint, '{"trace": "t"}'::jsonb, 3, 'r', 'g', '2026-01-01 12:00+00'::timestamptz)$$,
        :message_id
    ),
    'nothing of the message is lost'
);
select is_empty(
    $$select conname from pg_constraint where conrelid = 'tidegate.dead_letter'::regclass and contype = 'f'$$,
    'and it outlives its owners'
);

select * from finish();
