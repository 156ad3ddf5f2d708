create or replace function {{ schema }}.counter_sync(p_values jsonb) returns setof {{ schema }}.counted
language plpgsql volatile rows 1000
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_keys text[];
    v_values numeric[];
    v_run_ids text[];
    v_bad record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        perform _require_read_committed('counter_sync');
    end if;
    if jsonb_typeof(p_values) = 'object' then
        for v_bad in
            select e.key, e.value from jsonb_each(p_values) e where jsonb_typeof(e.value) <> 'number' limit 1
        loop
            perform _bad_argument(
                'p_values', left(v_bad.key, 100) || ': ' || left(v_bad.value::text, 100), 'Values are whole numbers.'
            );
        end loop;
        select array_agg(e.key), array_agg(e.value::text::numeric) into v_keys, v_values
        from jsonb_each(p_values) e;
    elsif jsonb_typeof(p_values) = 'array' then
        for v_bad in
            select e.value
            from jsonb_array_elements(p_values) as e (value)
            where (
                jsonb_typeof(e.value) = 'object' and jsonb_typeof(e.value -> 'key') = 'string'
                and jsonb_typeof(e.value -> 'value') = 'number'
                and coalesce(jsonb_typeof(e.value -> 'run_id'), 'null') in ('string', 'null')
                and e.value - '{key,value,run_id}'::text[] = '{}'
            ) is not true
            limit 1
        loop
            perform _bad_argument(
                'p_values', left(v_bad.value::text, 100),
                'Write each as {"key": "…", "value": 12}, with "run_id": "…" where the end of a run closes it.'
            );
        end loop;
        select array_agg(e.value ->> 'key'), array_agg((e.value ->> 'value')::numeric), array_agg(e.value ->> 'run_id')
        into v_keys, v_values, v_run_ids
        from jsonb_array_elements(p_values) as e (value);
    else
        perform _bad_argument(
            'p_values', left(p_values::text, 100),
            'Give values by key, {"orders.open": 12}, or a list of {"key": "…", "value": 12, "run_id": "…"}.'
        );
    end if;
    if cardinality(v_keys) > 10000 then
        perform _bad_argument(
            'p_values', cardinality(v_keys) || ' counters', 'Set at most 10000 in one call, so that none takes long.'
        );
    end if;
    for v_bad in
        select p.key, p.value, count(*) over (partition by p.key) > 1 as is_repeated
        from unnest(v_keys, v_values) as p (key, value)
        order by 3 desc, (octet_length(p.key) between 1 and 1000) is not true desc,
            (p.value = trunc(p.value) and abs(p.value) <= 1e15) is not true desc
        limit 1
    loop
        if v_bad.is_repeated then
            perform _bad_argument('p_values', left(v_bad.key, 100), 'Name each counter once.');
        elsif octet_length(v_bad.key) not between 1 and 1000 then
            perform _bad_argument('p_values', left(v_bad.key, 100), 'A counter is named by 1 to 1000 bytes.');
        elsif v_bad.value <> trunc(v_bad.value) or abs(v_bad.value) > 1e15 then
            perform _bad_argument(
                'p_values', left(v_bad.key, 100) || ': ' || left(v_bad.value::text, 100),
                'Values are whole numbers up to 10^15.'
            );
        end if;
    end loop;

    return query select * from _counter_write(v_keys, v_values::bigint[], v_run_ids);
end;
$$;

comment on function {{ schema }}.counter_sync(jsonb) is
'Set counters to what somebody else counted: {"key": value, …}, or [{"key", "value", "run_id"}, …] where the end of a run closes its counters. Values below 0 are written as 0. Returns a row a counter: what it says now, what it said before, how far apart they were. No rows for an empty object. Syncs wait for each other: call it in a transaction of its own. Errors: TG010 bad argument (at most 10000 at a time), TG030 not READ COMMITTED.';
