select plan(9);
select t.clock_stands();
select queue_create('q');
select results_eq(
    $$select outcome from queue_send_specs('q', '[
        {"payload": 1},
        {"payload": 2, "priority": 3, "headers": {"a": 1}, "tenant": "t", "run_id": "r", "max_attempts": 9},
        {"payload": 3, "run_at": "2026-01-01 13:00+00"},
        {"payload": 4, "group_key": "g"},
        {"payload": 5, "job_key": "k"},
        {"payload": 6, "job_key": "k", "key_mode": "dedupe"},
        {"payload": 7, "job_key": "k"},
        {"payload": 8, "idempotency_key": "i"},
        {"payload": 9, "idempotency_key": "i"},
        {"payload": null, "backoff": {"base": "1 hour"}, "event_id": "11111111-1111-4111-8111-111111111111"}
    ]')$$,
    array['inserted', 'inserted', 'inserted', 'inserted', 'inserted', 'deduplicated', 'replaced', 'inserted',
        'deduplicated', 'inserted'], 'one answer each, in order'
);
select results_eq(
    $$select priority::int, headers, tenant, run_id, max_attempts from ready where payload = '2'$$,
    $$values (3, '{"a": 1}'::jsonb, 't', 'r', 9)$$, 'each with its options'
);
select is((select due_at - clock_now() from scheduled), interval '1 hour', 'its time');
select is((select group_key::text from blocked), 'g', 'its group');
select is((select payload from ready where job_key = 'k'), '7', 'its job key');
select results_eq(
    $$select backoff, event_id from ready where payload = 'null'$$,
    $$values ('{"base": "1 hour"}'::jsonb, '11111111-1111-4111-8111-111111111111'::uuid)$$, 'its backoff and identity'
);
select throws_ok($$select queue_send_specs('q', '[{"payload": 1, "prio": 1}]')$$, 'TG010', null, 'an unknown key');
select throws_ok($$select queue_send_specs('q', '[{"priority": 1}]')$$, 'TG010', null, 'no payload');
select is_empty($$select * from queue_send_specs('q', '[]')$$, 'none');
select * from finish();
