create or replace function {{ schema }}.outbox_put_specs(p_topic text, p_specs jsonb)
returns setof {{ schema }}.sent
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_known constant text[] := array[
        'payload', 'group_key', 'headers', 'run_at', 'priority', 'run_id', 'tenant', 'event_id', 'idempotency_key'
    ];
    v_spec jsonb;
    v_unknown text;
begin
    if jsonb_typeof(p_specs) is distinct from 'array' then
        perform _bad_argument(
            'p_specs', left(p_specs::text, 200), 'Give a JSON array of objects: [{"payload": {"id": 1}}]'
        );
    end if;
    for v_spec in select s.value from jsonb_array_elements(p_specs) s loop
        if jsonb_typeof(v_spec) <> 'object' or not v_spec ? 'payload' then
            perform _bad_argument(
                'an element of p_specs', left(v_spec::text, 200), 'Each is an object with a payload.'
            );
        end if;
        select k into v_unknown from jsonb_object_keys(v_spec) k where k <> all(v_known) limit 1;
        if found then
            perform _bad_argument(
                'a key of p_specs', v_unknown, 'The keys are ' || array_to_string(v_known, ', ') || '.'
            );
        end if;
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
