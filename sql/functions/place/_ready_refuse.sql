{% from "macros/message.sql" import message_names %}
{% from "macros/run.sql" import is_stopped %}
create or replace function {{ schema }}._ready_refuse(p_channel_id integer, p_ctids tid[]) returns tid[]
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Called when one of these has a run, after all of them were locked: in this later snapshot every cancel that has
 * committed meanwhile is seen.
 */
declare
    v_refused tid[];
    v_messages message[];
begin
    with refused as (
        delete from ready r
        where r.ctid = any(p_ctids) and r.run_id is not null and {{ is_stopped("r.run_id") }}
        returning r.ctid as row_id, r.*
    )
    select array_agg(f.row_id), array_agg(row({{ message_names("f") }})::message order by f.priority, f.position)
    into v_refused, v_messages
    from refused f;
    if v_refused is null then
        return p_ctids;
    end if;
    perform _message_refuse(p_channel_id, v_messages);
    return (
        select array_agg(c.row_id order by c.ordinality)
        from unnest(p_ctids) with ordinality c (row_id, ordinality)
        where c.row_id <> all(v_refused)
    );
end;
$$;

comment on function {{ schema }}._ready_refuse(integer, tid[]) is
'Take those of a stopped run out of locked messages of a channel that are about to be delivered. Returns the others, in their order, or null when there are none.';
