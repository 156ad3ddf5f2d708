create or replace function {{ schema }}.outbox_put_specs(p_topic text, p_specs jsonb)
returns setof {{ schema }}.sent
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_specs constant jsonb[] := array(
        select s.spec from _specs_check(p_specs, array[
            'payload', 'group_key', 'headers', 'run_at', 'priority', 'run_id', 'tenant', 'event_id', 'idempotency_key'
        ]) s (spec)
    );
    v_spec jsonb;
begin
    if cardinality(v_specs) > 1 then
        perform _idempotency_keys_lock('topic', p_topic, v_specs);
    end if;
    foreach v_spec in array v_specs loop
        return query
        select p.*
        from outbox_put(
            p_topic, v_spec -> 'payload',
            p_group_key => v_spec ->> 'group_key',
            p_headers => nullif(v_spec -> 'headers', 'null'),
            p_run_at => (v_spec ->> 'run_at')::timestamptz,
            p_priority => coalesce((v_spec ->> 'priority')::integer, 0),
            p_run_id => v_spec ->> 'run_id',
            p_tenant => v_spec ->> 'tenant',
            p_event_id => (v_spec ->> 'event_id')::uuid,
            p_idempotency_key => v_spec ->> 'idempotency_key'
        ) p;
    end loop;
end;
$$;

comment on function {{ schema }}.outbox_put_specs(text, jsonb) is
'Put many events with options of their own: a JSON array of objects with payload and, as in outbox_put, group_key, headers, run_at, priority, run_id, tenant, event_id, idempotency_key. One answer an element, in order. Errors: TG010 bad argument, TG020 no such topic; a value of the wrong type raises what its cast raises (22P02, 22007).';
