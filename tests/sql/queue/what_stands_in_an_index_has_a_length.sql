-- One key too long for an index would hold up all others of its batch, wherever it came to one.
select plan(11);
select queue_create('q'), topic_create('t');

select throws_ok(
    format('select queue_send(%L, %L, %s => %L)', 'q', '1', a, repeat('x', 513)), 'TG010', null, a || ' of a message'
) from unnest(array['p_group_key', 'p_run_id', 'p_tenant', 'p_job_key', 'p_idempotency_key']) a;
select throws_ok(
    format('select outbox_put(%L, %L, %s => %L)', 't', '1', a, repeat('x', 513)), 'TG010', null, a || ' of an event'
) from unnest(array['p_group_key', 'p_run_id', 'p_tenant', 'p_idempotency_key']) a;
select throws_ok(
    format('select count(*) from queue_send_many(%L, array[%L]::jsonb[], p_tenant => %L)', 'q', '1', repeat('x', 513)),
    'TG010', null, 'one of many'
);
select throws_ok(format('select queue_claim(%L, p_worker => %L)', 'q', repeat('x', 513)), 'TG010', null, 'a worker');

select * from finish();
