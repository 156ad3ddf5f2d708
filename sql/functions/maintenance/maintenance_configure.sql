create or replace function {{ schema }}.maintenance_configure(
    p_job text, p_every interval default null, p_arguments jsonb default null, p_paused boolean default null
) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
declare
    v_job record;
    v_argument record;
begin
    select * into v_job from _maintenance_jobs() j where j.job = p_job;
    if not found then
        perform _bad_argument(
            'p_job', p_job,
            'Jobs are ' || (select string_agg(j.job, ', ' order by j.job) from _maintenance_jobs() j) || '.'
        );
    end if;
    if (p_every between '100 milliseconds' and '1 year') is false then
        perform _bad_argument(
            'p_every', p_every::text, 'Give 100 milliseconds to a year; p_paused => true switches a job off.'
        );
    end if;
    if jsonb_typeof(p_arguments) <> 'object' then
        perform _bad_argument(
            'p_arguments', left(p_arguments::text, 100), 'Give arguments of the function by name: {"p_limit": 5000}.'
        );
    end if;
    for v_argument in
        select a.key, a.value, format_type(p.proargtypes[n.position - 1], null) as type, p.names
        from jsonb_each_text(p_arguments) a
        left join (
            select f.proargtypes, f.proargnames, f.proargnames[:f.pronargs] as names
            from pg_proc f
            where f.oid = to_regproc(format('%I.%I', current_schema, v_job.routine))
        ) p on true
        left join lateral (
            select array_position(p.names, a.key) as position where a.key <> 'p_leader_epoch'
        ) n on true
    loop
        if v_argument.type is null then
            perform _bad_argument(
                'p_arguments', v_argument.key,
                format(
                    '%s takes %s.', v_job.routine,
                    array_to_string(array_remove(v_argument.names, 'p_leader_epoch'), ', ')
                )
            );
        end if;
        begin
            execute format('select %L::%s', v_argument.value, v_argument.type);
        exception
            when data_exception then
                perform _bad_argument(
                    'p_arguments', v_argument.key || ': ' || left(v_argument.value, 100),
                    format('It is of type %s.', v_argument.type)
                );
        end;
    end loop;

    insert into maintenance_setting as s (job, every, arguments, is_paused)
    values (p_job, p_every, coalesce(p_arguments, '{}'), coalesce(p_paused, false))
    on conflict (job) do update
    set every = coalesce(p_every, s.every),
        arguments = coalesce(p_arguments, s.arguments),
        is_paused = coalesce(p_paused, s.is_paused);
end;
$$;

comment on function {{ schema }}.maintenance_configure(text, interval, jsonb, boolean) is
'Say how often a job of the upkeep runs, with which arguments, or that it is not to run at all. Null leaves things as they are; arguments replace all that were given before. Errors: TG010 no such job or argument, or a value that is none.';
