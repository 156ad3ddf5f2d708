create or replace function {{ schema }}._job_keys_lock(p_queue text, p_specs jsonb[]) returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * Job keys come before messages in the order of locks, and among each other in their own. For who sends several in one
 * call: whoever settles a message of one of them holds its key, and may wait for one that was replaced here before.
 *
 * One statement goes along all of them, whoever uses them. The update of none locks the row that is there; a key that
 * nobody uses is inserted and deleted again, which also keeps others waiting for it until this transaction ends.
 */
declare
    v_keys constant text[] := array(
        select distinct s.spec ->> 'job_key' from unnest(p_specs) s (spec)
        where octet_length(s.spec ->> 'job_key') <= 512
    );
begin
    insert into job_key (channel_id, key, message_id)
    select c.channel_id, k.key, 0
    from unnest(v_keys) k (key)
    inner join channel c on c.kind = 'queue' and c.name = p_queue
    order by k.key collate "C"
    on conflict (channel_id, key) do update set message_id = 0 where false;
    if found then
        delete from job_key j
        using channel c
        where c.kind = 'queue' and c.name = p_queue and j.channel_id = c.channel_id and j.key = any(v_keys)
            and j.message_id = 0;
    end if;
end;
$$;

comment on function {{ schema }}._job_keys_lock(text, jsonb[]) is
'Lock the job keys of these specs of a queue, in order, until the transaction ends: those of which a message is alive, and the others.';
