create or replace function {{ schema }}.run_status(
    p_run_id text,
    out run_id text,
    out state text,
    out reason text,
    out parent_id text,
    out tenant text,
    out opened_at timestamptz,
    out finished_at timestamptz,
    out open_children bigint,
    out waiting bigint,
    out dead_letters bigint
) returns setof record
language plpgsql stable rows 1
security definer
set search_path = {{ schema }}, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    select
        r.run_id, r.state, r.reason, r.parent_id, r.tenant, r.opened_at, r.finished_at,
        (select count(*) from run c where c.parent_id = r.run_id and c.state = 'open'),
        (select count(*) from ready m where m.run_id = r.run_id)
        + (select count(*) from scheduled m where m.run_id = r.run_id)
        + (select count(*) from blocked m where m.run_id = r.run_id),
        (select count(*) from dead_letter d where d.run_id = r.run_id and d.state = 'dead')
    from run r
    where r.run_id = p_run_id;
end;
$$;

comment on function {{ schema }}.run_status(text) is
'What became of a run: its state (open, completed, error, stopped), why and when, how many children are open, how many of its messages wait (leased ones are not counted) and how many are dead. No row for a run that was neither opened nor cancelled.';
