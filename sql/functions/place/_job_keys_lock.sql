create or replace function {{ schema }}._job_keys_lock(p_queue text, p_keys text[]) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Job keys come before messages in the order of locks, and among each other in their own. For who sends several in one
 * call: whoever settles a message of one of them holds its key, and may wait for one that was replaced here before.
 */
begin
    perform
    from (select distinct u.key collate "C" as key from unnest(p_keys) u (key) order by 1) k
    inner join channel c on c.kind = 'queue' and c.name = p_queue
    cross join lateral (
        select from job_key j where j.channel_id = c.channel_id and j.key = k.key limit 1 for update
    ) l;
end;
$$;

comment on function {{ schema }}._job_keys_lock(text, text[]) is
'Lock those of these job keys of which a message is alive in a queue, in order; those that nobody uses have nothing to lock.';
