create or replace function {{ schema }}.dead_letter_requeue(
    p_dead_letter_ids bigint[],
    p_reset_attempts boolean default true,
    p_note text default null,
    out dead_letter_id bigint,
    out message_id bigint,
    out outcome text
) returns setof record
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    return query
    select * from _dead_letter_requeue(p_dead_letter_ids, coalesce(p_reset_attempts, true), p_note, p_waits => true);
end;
$$;

comment on function {{ schema }}.dead_letter_requeue(bigint[], boolean, text) is
'Send dead letters back to where they died, in one transaction, with their priority, group, job key, headers and identity; attempts start at 0 unless p_reset_attempts is false. One row an id: requeued, already_requeued (its message is still alive), already_resolved, already_discarded, key_in_use (another message with its job key is alive: it stays dead), no_channel (it was dropped), or unknown. A paused or draining channel takes them too. The success of the message resolves the entry; its death returns it. Not for REPEATABLE READ: two requeues at once then raise 40001.';
