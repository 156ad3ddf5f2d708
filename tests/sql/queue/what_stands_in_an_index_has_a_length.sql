-- One key too long for an index would hold up all others of its batch, wherever it came to one.
select plan(19);
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
-- what a barrier, a guard or a run is told comes to its messages, or stands in an index itself
select throws_ok(
    format('select barrier_open(%L, 1, %s => %L)', 'b', a, repeat('x', 513)), 'TG010', null, a || ' of a barrier'
) from unnest(array['p_run_id', 'p_tenant', 'p_key']) a;
select throws_ok(
    format('select barrier_send(%L, %L, array[1]::text[]::jsonb[], %s => %L)', 'b', 'q', a, repeat('x', 513)),
    'TG010', null, a || ' of its members'
) from unnest(array['p_run_id', 'p_tenant']) a;
select throws_ok(
    format('select guard_claim(%L, %L, %L, p_run_id => %L)', 's', 'k', 'o', repeat('x', 513)),
    'TG010', null, 'the run of a guard'
);
select throws_ok(format('select run_open(%L)', repeat('x', 513)), 'TG010', null, 'a run');
select throws_ok(format('select run_open(%L, p_tenant => %L)', 'r', repeat('x', 513)), 'TG010', null, 'its tenant');

select * from finish();
