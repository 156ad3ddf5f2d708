create or replace function {{ schema }}._channel_configure(p_kind text, p_name text, p_policy jsonb) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_known constant text[] := array[
        'lease', 'max_runtime', 'max_attempts', 'backoff_base', 'backoff_cap', 'backoff_factor', 'jitter',
        'retention', 'archive', 'max_in_flight', 'inline_limit', 'tenant_required'
    ];
    v_unknown text;
    v_rule text;
begin
    if jsonb_typeof(p_policy) is distinct from 'object' then
        perform _bad_argument(
            'p_policy', p_policy::text, 'A policy is a JSON object, for example {"lease": "30 seconds"}.'
        );
    end if;
    select k into v_unknown from jsonb_object_keys(p_policy) k where k <> all(v_known) limit 1;
    if found then
        perform _bad_argument('a key of p_policy', v_unknown, 'The keys are ' || array_to_string(v_known, ', ') || '.');
    end if;

    update channel c
    set lease = coalesce((p_policy ->> 'lease')::interval, c.lease),
        max_runtime = coalesce((p_policy ->> 'max_runtime')::interval, c.max_runtime),
        max_attempts = coalesce((p_policy ->> 'max_attempts')::integer, c.max_attempts),
        backoff_base = coalesce((p_policy ->> 'backoff_base')::interval, c.backoff_base),
        backoff_cap = coalesce((p_policy ->> 'backoff_cap')::interval, c.backoff_cap),
        backoff_factor = coalesce((p_policy ->> 'backoff_factor')::double precision, c.backoff_factor),
        jitter = coalesce((p_policy ->> 'jitter')::double precision, c.jitter),
        retention = coalesce((p_policy ->> 'retention')::interval, c.retention),
        archive = coalesce((p_policy ->> 'archive')::boolean, c.archive),
        -- null is a value here: no limit
        max_in_flight = case
            when p_policy ? 'max_in_flight' then (p_policy ->> 'max_in_flight')::integer else c.max_in_flight
        end,
        inline_limit = coalesce((p_policy ->> 'inline_limit')::integer, c.inline_limit),
        tenant_required = coalesce((p_policy ->> 'tenant_required')::boolean, c.tenant_required)
    where c.kind = p_kind and c.name = p_name and p_policy <> '{}';
    if not found and not exists (select from channel c where c.kind = p_kind and c.name = p_name) then
        perform _no_such_channel(p_kind, p_name);
    end if;
exception
    when check_violation then
        get stacked diagnostics v_rule = constraint_name;
        perform _bad_argument(
            'p_policy', p_policy::text,
            format('It breaks the rule: %s.', replace(substr(v_rule, length('channel_') + 1), '_', ' '))
        );
    when data_exception then
        perform _bad_argument('p_policy', p_policy::text, sqlerrm);
end;
$$;

comment on function {{ schema }}._channel_configure(text, text, jsonb) is
'Apply a policy to a channel: keys given change, the others stay. Errors: TG010 unknown key or bad value, TG020 no such channel.';
