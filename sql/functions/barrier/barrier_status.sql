{% from "macros/barrier.sql" import progress %}
create or replace function {{ schema }}.barrier_status(p_name text) returns setof {{ schema }}.barrier_state
language plpgsql stable rows 1
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    return query
    {{ progress() | indent }}
    where b.name = p_name;
end;
$$;

comment on function {{ schema }}.barrier_status(text) is
'How the latest epoch of a barrier stands: state, outcome, members arrived, failed and outstanding, deadlines. No rows when there is no such barrier. It reads a row for 62 members.';
