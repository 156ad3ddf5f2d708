-- R49, R57: move over from another system
select plan(16);
select t.clock_stands();
select queue_create('work', '{"inline_limit": 20}');
select topic_create('orders', '{"tenant_required": true}');

-- given dead jobs of another system
select results_eq(
    $$select outcome from dead_letter_put('work', '[
        {"payload": {"n": 1}, "error": "smtp 550", "attempts": 25, "failed_at": "2025-12-24 12:00+00",
            "enqueued_at": "2025-12-23 12:00+00", "headers": {"task": "mail"}, "priority": 3, "group_key": "g",
            "job_key": "k", "idempotency_key": "old:1", "max_attempts": 25, "run_id": "r", "tenant": "acme"},
        {"payload": {"text": "longer than the inline limit"}, "idempotency_key": "old:2"},
        {"payload": {"n": 1}, "idempotency_key": "old:1"}
    ]')$$,
    array['inserted', 'inserted', 'deduplicated'],
    'one answer an element, in order'
);
-- then they are dead letters with what was known of them
select results_eq(
    $$select reason, last_error, attempts::int, headers, priority::int, group_key collate "default", job_key collate "default", max_attempts, run_id,
        tenant, enqueued_at, dead_at
    from dead_letter_list(p_channel => 'work') where attempts > 0$$,
    $$values ('exhausted', 'smtp 550', 25, '{"task": "mail"}'::jsonb, 3, 'g', 'k', 25, 'r', 'acme',
        '2025-12-23 12:00+00'::timestamptz, clock_now())$$,
    'with error, attempts, keys and options'
);
select dead_letter_id as first from dead_letter where attempts > 0 \gset
select dead_letter_id as second from dead_letter where attempts = 0 \gset
select results_eq(
    format('select at, attempt, error from dead_letter_history(%s)', :first),
    $$values ('2025-12-24 12:00+00'::timestamptz, 25, 'smtp 550')$$,
    'and the instant of the failure'
);
select is(
    dead_letter_payload(:second), '{"text": "longer than the inline limit"}', 'a large payload is kept as any other'
);
select is(t.places('work'), 'dead=2', 'and nothing is anywhere else');
select is(t.total('work', 'dead_letter.exhausted'), 1::bigint, 'what is dead is counted');

-- when the call is repeated, nothing comes twice
select is(
    (select outcome from dead_letter_put('work', '[{"payload": 9, "idempotency_key": "old:2"}]')), 'deduplicated',
    'a repeat changes nothing'
);
select is(
    (select outcome from queue_send('work', '9', p_idempotency_key => 'old:1')), 'deduplicated',
    'one key is either alive or dead'
);

-- and when they are requeued, they are claimed by their priority, and resolved by their success
select is(
    (select array_agg(outcome) from dead_letter_requeue(array[:first, :second])), array['requeued', 'requeued'],
    'both go back'
);
select t.clock_moves('1 second');
select array_agg(c.payload order by c.priority) as payloads, min(c.lease_id::text) as lease_id
from queue_claim('work', 9) as c \gset
select is(
    :'payloads'::jsonb[], array['{"text": "longer than the inline limit"}', '{"n": 1}']::jsonb[],
    'a claim finds them, whatever their priority'
);
select is((select acked from queue_ack(:'lease_id')), 2, 'and settles them');
select is(
    (select array_agg(distinct d.state) from dead_letter as d), array['resolved'], 'their success resolves their entries'
);

-- two of one job key are one entry, with the later payload
select count(*) from dead_letter_put('work', '[{"payload": 1, "job_key": "twice"}, {"payload": 2, "job_key": "twice"}]');
select results_eq(
    $$select payload, failure_count from dead_letter_list('work')$$, $$values ('2'::jsonb, 2)$$, 'a job key has one entry'
);

-- a topic takes them too, by its own rules
select throws_ok(
    $$select dead_letter_put('orders', '[{"payload": 1}]', 'topic')$$, 'TG010', null, 'a tenant is required there'
);
select throws_ok(
    $$select dead_letter_put('work', '[{"payload": 1, "reason": "exhausted"}]')$$, 'TG010', null,
    'nobody is exhausted without an attempt'
);
select throws_ok($$select dead_letter_put('nobody', '[]')$$, 'TG020', null, 'a channel is needed');

select * from finish();
