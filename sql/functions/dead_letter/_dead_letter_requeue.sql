{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._dead_letter_requeue(
    p_dead_letter_ids bigint[],
    p_reset_attempts boolean,
    p_note text,
    p_waits boolean,
    p_from timestamptz default null,
    p_every interval default null,
    out dead_letter_id bigint,
    out message_id bigint,
    out outcome text
) returns setof record
language plpgsql volatile rows 100
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
/*
 * The entry stays and its child carries its id: the state is requeued exactly while the child is alive.
 *
 * Job keys first, in order, as everywhere. Whoever holds the row of a key has the only live message of that key: so
 * nobody's death lands in an entry whose key was got here, and an entry whose key somebody else has is left alone.
 * Then the entries that are dead, in order of their ids: nobody settles a child of those, so no settlement is waited
 * for. Of two requeues at once the second finds nothing left to lock; one that does not wait takes other entries. What
 * was not locked is read afterwards, in a new snapshot.
 *
 * A pace makes nobody wait either: the n-th message is due n - 1 steps of p_every after p_from.
 *
 * A plan made while the table was one page must do when it is large: entries are found by their ids, so they are
 * looked up one by one (limit 1), and conditions on the state are written so that no index of it is chosen (is true).
 */
declare
    v_now constant timestamptz := clock_now();
    v_keyed bigint[];
    v_keyed_children bigint[];
    v_locked bigint[];
    v_requeued bigint[];
    v_children bigint[];
    v_batch record;
begin
    with wanted as materialized (
        select k.*, nextval('position_seq') as child
        from (
            select d.dead_letter_id, d.channel_id, d.job_key
            from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
            cross join lateral (select * from dead_letter n where n.dead_letter_id = i.id limit 1) d
            inner join channel c on c.channel_id = d.channel_id
            where d.state = 'dead' and d.job_key is not null
            order by d.channel_id, d.job_key, i.ordinality
        ) k
    ), got as (
        insert into job_key (channel_id, key, message_id)
        select w.channel_id, w.job_key, w.child from wanted w
        on conflict do nothing
        returning job_key.message_id
    )
    select array_agg(w.dead_letter_id), array_agg(w.child) into v_keyed, v_keyed_children
    from wanted w
    inner join got g on g.message_id = w.child;

    if p_waits then
        select array_agg(l.dead_letter_id) into v_locked
        from (
            select d.dead_letter_id from dead_letter d
            where d.dead_letter_id = any(p_dead_letter_ids) and (d.state = 'dead') is true
                and (d.job_key is null or d.dead_letter_id in (select unnest(v_keyed)))
            order by d.dead_letter_id
            for update of d
        ) l;
    else
        select array_agg(l.dead_letter_id) into v_locked
        from (
            select d.dead_letter_id from dead_letter d
            where d.dead_letter_id = any(p_dead_letter_ids) and (d.state = 'dead') is true
                and (d.job_key is null or d.dead_letter_id in (select unnest(v_keyed)))
            order by d.dead_letter_id
            for update of d skip locked
        ) l;
    end if;
    -- A key whose entry somebody else has taken meanwhile is given back.
    delete from job_key k
    using unnest(v_keyed, v_keyed_children) u (id, child)
    cross join lateral (select * from dead_letter n where n.dead_letter_id = u.id limit 1) d
    where not exists (select from unnest(v_locked) l (id) where l.id = u.id)
        and k.channel_id = d.channel_id and k.key = d.job_key and k.message_id = u.child;

    for v_batch in
        with wanted as (
            select i.id, min(i.ordinality) as ordinality
            from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
            inner join unnest(v_locked) l (id) on l.id = i.id
            group by i.id
        ), chosen as materialized (
            select
                e.*, n.event_prefix, row_number() over (order by w.ordinality) as ordinal,
                coalesce(u.child, nextval('position_seq')) as child,
                case when e.body_id is not null then nextval('body_body_id_seq') end as own_body_id
            from wanted w
            cross join lateral (select * from dead_letter n where n.dead_letter_id = w.id limit 1) e
            inner join channel c on c.channel_id = e.channel_id
            left join unnest(v_keyed, v_keyed_children) u (id, child) on u.id = w.id
            cross join installation n
        ), copied as (
            insert into body (body_id, payload) overriding system value
            select h.own_body_id, b.payload
            from chosen h
            inner join body b on b.body_id = h.body_id
        ), marked as (
            update dead_letter d
            set state = 'requeued', requeued_count = d.requeued_count + 1, last_requeued_at = v_now,
                notes = d.notes || jsonb_build_object(
                    'at', v_now, 'by', session_user, 'did', 'requeue', 'note', p_note
                )
            where d.dead_letter_id = any(array(select h.dead_letter_id from chosen h))
        ), counted as (
            insert into tally (channel_id, outcome, amount)
            select h.channel_id, 'requeued', count(*) from chosen h group by h.channel_id
        )
        select
            h.channel_id,
            array_agg(h.dead_letter_id order by h.ordinal) as ids,
            array_agg(h.child order by h.ordinal) as children,
            array_agg(coalesce(p_from + p_every * (h.ordinal - 1), '-infinity') order by h.ordinal) as due,
            array_agg(row({{ message_names("h", {
                "message_id": "h.child",
                "attempts": "case when p_reset_attempts then 0 else h.attempts end",
                "event_id": "coalesce(h.event_id, _event_id(h.event_prefix, h.message_id, h.enqueued_at))",
                "body_id": "h.own_body_id",
                "max_batch": "null",
                "requeued_from": "h.dead_letter_id",
            }) }})::message order by h.ordinal) as messages
        from chosen h
        group by h.channel_id
        order by h.channel_id
    loop
        insert into scheduled (due_at, channel_id, {{ message_names() }})
        select
            greatest(d.due_at, clock_now() + interval '1 microsecond'), v_batch.channel_id, {{ message_names("m") }}
        from unnest(v_batch.messages) with ordinality m
        inner join unnest(v_batch.due) with ordinality d (due_at, ordinality) on d.ordinality = m.ordinality
        where d.due_at > v_now;
        perform _message_enter(v_batch.channel_id, e.messages)
        from (
            select array_agg(row({{ message_names("m") }})::message order by m.ordinality) as messages
            from unnest(v_batch.messages) with ordinality m
            inner join unnest(v_batch.due) with ordinality d (due_at, ordinality) on d.ordinality = m.ordinality
            where d.due_at <= v_now
        ) e
        where e.messages is not null;
        perform _doorbell_ring(c.channel_id, c.kind, c.name, c.doorbell)
        from channel c
        where c.channel_id = v_batch.channel_id and c.doorbell is not null;
        v_requeued := v_requeued || v_batch.ids;
        v_children := v_children || v_batch.children;
    end loop;

    return query
    select
        w.id, u.child,
        case
            when u.id is not null then 'requeued'
            when d.dead_letter_id is null then 'unknown'
            when d.state <> 'dead' then 'already_' || d.state
            when c.channel_id is null then 'no_channel'
            when d.job_key is not null and not exists (select from unnest(v_keyed) k (id) where k.id = w.id)
                then 'key_in_use'
            -- Its child was alive when this looked, and has died since; or somebody is at it, who is not waited for.
            when p_waits then 'already_requeued'
            else 'busy'
        end
    from (
        select i.id, min(i.ordinality) as ordinality
        from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
        group by i.id
    ) w
    left join unnest(v_requeued, v_children) u (id, child) on u.id = w.id
    left join lateral (select * from dead_letter n where n.dead_letter_id = w.id limit 1) d on true
    left join channel c on c.channel_id = d.channel_id
    order by w.ordinality;
end;
$$;

comment on function {{ schema }}._dead_letter_requeue(bigint[], boolean, text, boolean, timestamptz, interval) is
'Send dead letters back to where they died; one row an id, in the order given. p_waits: wait for entries that others hold, or pass them over as busy. With p_from and p_every the messages become due one step after the other.';
