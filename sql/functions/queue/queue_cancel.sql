{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}.queue_cancel(
    p_queue text, p_message_ids bigint[] default null, p_job_key text default null,
    out message_id bigint, out outcome text
) returns setof record
language plpgsql volatile rows 10
security definer
set search_path = {{ schema }}, pg_temp
as $$
#variable_conflict use_column
/*
 * What waits is taken away; what is leased is flagged: its holder learns of it by queue_extend, and it is not handed
 * out again.
 *
 * Locked in the order of a settlement: leases, members, keys, turns, then messages. A message may move on while its key
 * is waited for, and then stand in a lease whose holder, about to settle it, waits for that key. So whenever one was
 * missed, all of this round is undone, locks and all, and begun again with what a fresh look says.
 */
declare
    v_channel_id integer;
    v_ids bigint[];
    v_waiting bigint[];
    v_keys text[];
    v_groups text[];
    v_messages message[];
    v_cancelled bigint[];
    v_leased bigint[];
    v_is_missed boolean;
begin
    if (p_message_ids is null) = (p_job_key is null) then
        perform _bad_argument(
            'p_message_ids and p_job_key',
            coalesce(p_message_ids::text, 'null') || ' and ' || coalesce(p_job_key, 'null'),
            'Name either messages or a job key.'
        );
    end if;
    select c.channel_id into v_channel_id from channel c where c.kind = 'queue' and c.name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;

    loop
        v_is_missed := false;
        v_cancelled := '{}';
        v_leased := '{}';
        v_ids := coalesce(p_message_ids, array(
            select j.message_id from job_key j where j.channel_id = v_channel_id and j.key = p_job_key
        ));
        begin
            -- What waits is not looked for in leases.
            select
                coalesce(array_agg(w.message_id), '{}'),
                array_agg(distinct w.job_key), array_agg(distinct w.group_key) filter (where p_job_key is null),
                array_agg(w.message) filter (where (w.message).barrier is not null)
            into v_waiting, v_keys, v_groups, v_messages
            from (
{%- for place in ["scheduled", "blocked", "ready"] %}
                {{ "union all" if not loop.first }}
                select p.message_id, p.job_key, p.group_key, row({{ message_names("p") }})::message as message
                from {{ place }} p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
{%- endfor %}
            ) w;
            if cardinality(v_waiting) < cardinality(v_ids) then
                with held as (
                    select l.channel_id, l.messages, l.settled from lease l
                    where l.channel_id = v_channel_id and exists (
                        select from unnest(l.messages) m
                        where m.message_id = any(v_ids) and m.message_id <> all(v_waiting)
                    )
                    order by l.lease_id
                    for update
                ), flagged as (
                    insert into cancel_request (channel_id, message_id, requested_at)
                    select h.channel_id, m.message_id, clock_now()
                    from held h
                    cross join lateral unnest(h.messages) with ordinality m
                    where m.message_id = any(v_ids) and m.ordinality <> all(coalesce(h.settled, '{}'))
                    on conflict (channel_id, message_id) do update set requested_at = excluded.requested_at
                    returning cancel_request.message_id
                )
                select coalesce(array_agg(f.message_id), '{}') into v_leased from flagged f;
            end if;

            if v_messages is not null then
                perform _member_lock(v_messages, true);
            end if;

            -- Follow-ups first: the message before one must not hand over to it.
            with taken as (
                select j.key, j.follow_up, j.message_id from job_key j
                where j.channel_id = v_channel_id
                    and (
                        j.key = p_job_key or j.key = any(v_keys)
                        or (p_message_ids is not null and (j.follow_up).message_id = any(p_message_ids))
                    )
                order by j.key
                for update
            ), emptied as (
                update job_key j set follow_up = null, follow_up_due_at = null
                from taken t
                where j.channel_id = v_channel_id and j.key = t.key and t.follow_up is distinct from null
                    and (t.key = p_job_key or (t.follow_up).message_id = any(p_message_ids))
            )
            select
                array_agg(t.follow_up) filter (
                    where t.follow_up is distinct from null
                        and (t.key = p_job_key or (t.follow_up).message_id = any(p_message_ids))
                ),
                case when p_job_key is null then p_message_ids else array_agg(t.message_id) end
            into v_messages, v_ids
            from taken t;
            if v_messages is not null then
                v_cancelled := array(select m.message_id from unnest(v_messages) m);
                perform _message_cancel(v_channel_id, v_messages, 'cancelled while it waited');
            end if;

            perform
            from (select u.key from unnest(v_groups) u (key) where u.key is not null order by u.key) g
            cross join lateral (
                select from group_turn n
                where n.channel_id = v_channel_id and n.group_key = g.key
                order by n.turn desc
                limit 1
                for update
            ) t;

{%- for place in ["scheduled", "blocked", "ready"] %}
            with taken as (
                delete from {{ place }} p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                returning *
            )
            select array_agg(row({{ message_names("t") }})::message order by t.message_id) into v_messages from taken t;
            if v_messages is not null then
                v_cancelled := v_cancelled || array(select m.message_id from unnest(v_messages) m);
                perform _message_cancel(v_channel_id, v_messages, 'cancelled while it waited');
            end if;
{%- endfor %}
            v_ids := array(select i.id from unnest(v_ids) i (id) where i.id <> all(v_cancelled || v_leased));
            -- One statement sees whatever is alive in exactly one place.
            exit when v_ids = '{}' or not exists (
{%- for place in ["scheduled", "blocked", "ready"] %}
                select from {{ place }} p
                where p.channel_id = v_channel_id and p.message_id = any(v_ids)
                    and (p_job_key is null or p.job_key = p_job_key)
                union all
{%- endfor %}
                select from lease l
                cross join lateral unnest(l.messages) with ordinality m
                where l.channel_id = v_channel_id and m.message_id = any(v_ids)
                    and m.ordinality <> all(coalesce(l.settled, '{}'))
            );
            v_is_missed := true;
            raise exception 'let go';
        exception
            when raise_exception then
                if not v_is_missed then
                    raise;
                end if;
        end;
    end loop;

    return query
    select i.id, case
        when i.id = any(v_cancelled) then 'cancelled'
        when i.id = any(v_leased) then 'leased'
        else 'unknown'
    end
    from (
        select u.id from unnest(p_message_ids) as u (id)
        union
        select u.id from unnest(v_cancelled || v_leased) as u (id)
    ) i
    order by i.id;
end;
$$;

comment on function {{ schema }}.queue_cancel(text, bigint[], text) is
'Cancel messages by id, or the one of a job key with its follow-up. One row a message: cancelled (it waited, and is kept as a discarded dead letter until its retention), leased (its holder is told by queue_extend; it is not handed out again, and done if it is acked first), or unknown (it is gone, or never was). No rows when nothing of that job key is alive. By id it reads what waits in the queue. Errors: TG010 bad argument, TG020 no such queue, TG030 a message has a group key, and the caller is not READ COMMITTED.';
