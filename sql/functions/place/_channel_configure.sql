create or replace function {{ schema }}._channel_configure(p_kind text, p_name text, p_policy jsonb) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_known constant text[] := array[
        'lease', 'max_runtime', 'max_attempts', 'backoff_base', 'backoff_cap', 'backoff_factor', 'jitter',
        'retention', 'archive', 'max_in_flight', 'inline_limit', 'tenant_required', 'doorbell'
    ];
    v_unknown text;
    v_rule text;
    v_sequence text;
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
    select k into v_unknown from unnest(array['lease', 'max_runtime', 'retention']) k
    where not _is_duration((p_policy ->> k)::interval);
    if found then
        perform _bad_argument(
            'p_policy', p_policy::text, format('%s is a positive interval, at most 100 years.', v_unknown)
        );
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
        -- null is a value here, and with doorbell: no limit, no doorbell
        max_in_flight = case
            when p_policy ? 'max_in_flight' then (p_policy ->> 'max_in_flight')::integer else c.max_in_flight
        end,
        inline_limit = coalesce((p_policy ->> 'inline_limit')::integer, c.inline_limit),
        tenant_required = coalesce((p_policy ->> 'tenant_required')::boolean, c.tenant_required),
        doorbell = case when p_policy ? 'doorbell' then (p_policy ->> 'doorbell')::interval else c.doorbell end
    where c.kind = p_kind and c.name = p_name and p_policy <> '{}';
    if not found and not exists (select from channel c where c.kind = p_kind and c.name = p_name) then
        perform _no_such_channel(p_kind, p_name);
    end if;

    -- Where the last ring is kept. It belongs to the column, and goes with the channel or the installation.
    if p_policy ->> 'doorbell' is not null then
        select format('doorbell_%s', c.channel_id) into v_sequence
        from channel c
        where c.kind = p_kind and c.name = p_name;
        if to_regclass(v_sequence) is null then
            execute format('create sequence %I as bigint minvalue 0 owned by channel.doorbell', v_sequence);
            execute format(
                'comment on sequence %I is %L', v_sequence,
                'When the doorbell of this channel was last rung, in microseconds of the epoch.'
            );
        end if;
    end if;
exception
    when check_violation then
        get stacked diagnostics v_rule = constraint_name;
        perform _bad_argument(
            'p_policy', p_policy::text,
            case v_rule
                when 'channel_lease_fits_max_runtime' then 'lease may not be above max_runtime.'
                when 'channel_max_attempts_in_range' then 'max_attempts is 1 to 32767, or 0 for ever.'
                when 'channel_backoff_base_not_negative' then 'backoff_base is not below 0.'
                when 'channel_backoff_cap_not_below_base'
                    then 'backoff_cap (5 minutes unless set) may not be below backoff_base.'
                when 'channel_backoff_cap_within_a_century' then 'backoff_cap is at most 100 years.'
                when 'channel_backoff_factor_from_1_to_10' then 'backoff_factor is 1 to 10.'
                when 'channel_jitter_is_a_share' then 'jitter is a share, 0 to 1.'
                when 'channel_max_in_flight_is_positive' then 'max_in_flight is above 0, or null for no limit.'
                when 'channel_doorbell_within_a_minute'
                    then 'doorbell is 0 to 1 minute, as in "10 ms", or null for none.'
                when 'channel_inline_limit_in_range' then 'inline_limit is 0 to 8192 bytes.'
                else format('It breaks the rule %s.', v_rule)
            end
        );
    when data_exception then
        perform _bad_argument('p_policy', p_policy::text, sqlerrm);
end;
$$;

comment on function {{ schema }}._channel_configure(text, text, jsonb) is
'Apply a policy to a channel: keys given change, the others stay. Errors: TG010 unknown key or bad value, TG020 no such channel.';
