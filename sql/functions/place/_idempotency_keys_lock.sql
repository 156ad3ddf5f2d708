create or replace function {{ schema }}._idempotency_keys_lock(p_kind text, p_channel text, p_specs jsonb[])
returns void
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
set enable_seqscan = off
set jit = off
as $$
/*
 * For who sends several in one call: two that bring the same new keys in different orders would wait for each other.
 * The shorter comes first: so the elements of an array, whose keys are one with their places behind it, are in order
 * as they are. These come before job keys, as in each send.
 *
 * A key that is used is final and needs no lock. Any other is inserted and deleted again: who wants it waits for the
 * end of the transaction that did so. That leaves it to each message to use its key, or not.
 */
declare
    v_keys constant text[] := array(
        select distinct s.spec ->> 'idempotency_key' from unnest(p_specs) s (spec)
        where octet_length(s.spec ->> 'idempotency_key') <= 512
    );
begin
    insert into idempotency_key (channel_id, key, message_id, created_at)
    select c.channel_id, k.key, 0, clock_now()
    from unnest(v_keys) k (key)
    inner join channel c on c.kind = p_kind and c.name = p_channel
    order by octet_length(k.key), k.key collate "C"
    on conflict do nothing;
    if found then
        delete from idempotency_key i
        using channel c
        where c.kind = p_kind and c.name = p_channel and i.channel_id = c.channel_id and i.key = any(v_keys)
            and i.message_id = 0;
    end if;
end;
$$;

comment on function {{ schema }}._idempotency_keys_lock(text, text, jsonb[]) is
'Lock the idempotency keys of these specs that are not used yet in a channel, in order, until the transaction ends.';
