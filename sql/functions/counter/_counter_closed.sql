create or replace function {{ schema }}._counter_closed(p_run_ids text[]) returns text[]
language plpgsql stable
set search_path = {{ schema }}, pg_temp
as $$
/* The one place where counters ask about runs. A run that nobody opened has no end that anybody knows of: active. */
declare
    v_closed text[] := '{}';
begin
    if p_run_ids <> '{}' and to_regclass('run') is not null then
        execute format(
            'select array(select r.run_id from %I r where r.run_id = any($1) and r.state <> ''open'')', 'run'
        )
        into v_closed
        using p_run_ids;
    end if;
    return v_closed;
end;
$$;

comment on function {{ schema }}._counter_closed(text[]) is
'Which of these runs have ended: their counters take no more values. An empty array when none has.';
