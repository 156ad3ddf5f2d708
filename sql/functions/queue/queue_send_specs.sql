create or replace function {{ schema }}.queue_send_specs(p_queue text, p_specs jsonb)
returns setof {{ schema }}.sent
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_specs constant jsonb[] := array(
        select s.spec from _specs_check(p_specs, array[
            'payload', 'headers', 'run_at', 'priority', 'group_key', 'job_key', 'key_mode', 'idempotency_key',
            'event_id', 'run_id', 'tenant', 'max_attempts', 'backoff'
        ]) s (spec)
    );
    v_spec jsonb;
begin
    if cardinality(v_specs) > 1 then
        perform _idempotency_keys_lock('queue', p_queue, v_specs);
        perform _job_keys_lock(p_queue, v_specs);
    end if;
    foreach v_spec in array v_specs loop
        return query
        select p.*
        from queue_send(
            p_queue, v_spec -> 'payload',
            p_headers => nullif(v_spec -> 'headers', 'null'),
            p_run_at => (v_spec ->> 'run_at')::timestamptz,
            p_priority => coalesce((v_spec ->> 'priority')::integer, 0),
            p_group_key => v_spec ->> 'group_key',
            p_job_key => v_spec ->> 'job_key',
            p_key_mode => coalesce(v_spec ->> 'key_mode', 'replace'),
            p_idempotency_key => v_spec ->> 'idempotency_key',
            p_event_id => (v_spec ->> 'event_id')::uuid,
            p_run_id => v_spec ->> 'run_id',
            p_tenant => v_spec ->> 'tenant',
            p_max_attempts => (v_spec ->> 'max_attempts')::integer,
            p_backoff => nullif(v_spec -> 'backoff', 'null')
        ) p;
    end loop;
end;
$$;

comment on function {{ schema }}.queue_send_specs(text, jsonb) is
'Send many messages with options of their own: a JSON array of objects with payload and, as in queue_send, headers, run_at, priority, group_key, job_key, key_mode, idempotency_key, event_id, run_id, tenant, max_attempts, backoff. One answer an element, in order. Errors: TG010 bad argument, TG020 no such queue, TG023 it is draining; a value of the wrong type raises what its cast raises (22P02, 22007).';
