{% from "macros/group.sql" import next_of_group %}
{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._group_advance(
    p_channel_id integer, p_from bigint, p_safe bigint, p_recent bigint, p_limit integer,
    out grouped_to bigint, out arrived integer, out has_more boolean
)
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * Gives the turn to whoever came into a group that nobody holds. Of the messages that came in above p_from only the
 * first of each group matters.
 *
 * What keeps a message from being overlooked: behind grouped_to, every group with something in blocked has a holder,
 * and whoever ends that holder looks for the next one in a snapshot taken after he has locked the turn. So the lock is
 * asked for here, in a snapshot that sees the message. Got, and held: its holder ends later than this, and will see
 * what is seen here; the lock is let go at once, so that no settlement waits for the claim that ticks. Got, and free:
 * the turn is given. Not got: somebody is at it now, and grouped_to stays below the message until he is done.
 * Nobody waits here, so nobody who acks waits for a producer.
 *
 * One that drew its position early and committed late stands below its group's holder: the mark from which the next
 * one is looked for is taken back to it.
 *
 * A producer or a settlement that stays open keeps grouped_to where it is, and what waits above it in held groups is
 * looked at again by each tick. So that nobody starves behind many of those, pages follow each other for a while, and
 * then comes what was drawn lately, above p_recent. The first of a group on a later page need not be its first: that
 * one may stand between the pages, or on an earlier one, where its group was in somebody's hands and is free by now.
 * So there the first is looked for in the group itself, in the snapshot that finds it free.
 */
declare
    v_stop constant timestamptz := clock_timestamp() + interval '25 ms';
    v_from bigint := p_from;
    v_cut bigint;
    v_sure_to bigint := p_safe;
    v_amount integer;
    v_groups text[];
    v_firsts bigint[];
    v_last bigint;
    v_turns bigint[];
    v_holders bigint[];
    v_marks bigint[];
    v_sure text[];
    v_locked text[];
    v_may_begin boolean;
    v_rows tid[];
    v_groups_free text[];
    v_firsts_free bigint[];
    v_ids_free bigint[];
    v_turns_free bigint[];
    v_given text[];
begin
    arrived := 0;
    has_more := false;
    loop
        select array_agg(h.group_key), array_agg(h.first), max(h.last), sum(h.amount)
        into v_groups, v_firsts, v_last, v_amount
        from (
            select a.group_key, min(a.position) as first, max(a.position) as last, count(*) as amount
            from (
                select b.position, b.group_key from blocked b
                where b.channel_id = p_channel_id and b.position > v_from
                order by b.position
                limit p_limit
            ) a
            group by a.group_key
            order by a.group_key
        ) h;
        exit when v_amount is null;
        arrived := arrived + v_amount;

        select
            array_agg(t.turn order by u.ordinality), array_agg(t.message_id order by u.ordinality),
            array_agg(t.position order by u.ordinality),
            array_agg(coalesce(f.position, u.first) order by u.ordinality)
        into v_turns, v_holders, v_marks, v_firsts
        from unnest(v_groups, v_firsts) with ordinality u (group_key, first, ordinality)
        left join lateral (
            select n.turn, n.message_id, n.position from group_turn n
            where n.channel_id = p_channel_id and n.group_key = u.group_key
            order by n.turn desc
            limit 1
        ) t on true
        left join lateral (
            {{ next_of_group(
                "u.group_key", "p_from", "v_from > p_from and (t.message_id is null or t.position >= u.first)"
            ) }}
        ) f on true;

        -- Held, and nothing to change: asked for and let go.
        v_sure := '{}';
        if exists (select from unnest(v_holders) h (id) where h.id is not null) then
            begin
                select coalesce(array_agg(l.group_key), '{}') into v_sure
                from unnest(v_groups, v_firsts, v_turns, v_holders, v_marks)
                    as u (group_key, first, turn, holder, mark)
                cross join lateral (
                    select n.group_key from group_turn n
                    where n.channel_id = p_channel_id and n.group_key = u.group_key and n.turn = u.turn
                        and n.message_id is not null
                    limit 1
                    for update skip locked
                ) l
                where u.holder is not null and u.mark < u.first;
                raise exception 'let go';
            exception
                when raise_exception then
                    null; -- what was found is kept, the locks are not
            end;
        end if;

        -- Free, or held with a late one below its mark: locked to the end.
        select coalesce(array_agg(l.group_key), '{}') into v_locked
        from unnest(v_groups, v_firsts, v_turns, v_holders, v_marks) as u (group_key, first, turn, holder, mark)
        cross join lateral (
            select n.group_key from group_turn n
            where n.channel_id = p_channel_id and n.group_key = u.group_key and n.turn = u.turn
            limit 1
            for update skip locked
        ) l
        where u.turn is not null and (u.holder is null or u.mark >= u.first);

        if exists (
            select from unnest(v_groups, v_holders) u (group_key, holder)
            where u.holder is not null and u.group_key = any(v_locked)
        ) then
            update group_turn t
            set position = u.first - 1
            from unnest(v_groups, v_firsts, v_turns, v_holders, v_marks) as u (group_key, first, turn, holder, mark)
            where t.channel_id = p_channel_id and t.group_key = u.group_key and t.turn = u.turn
                and u.holder is not null and u.mark >= u.first and u.group_key = any(v_locked);
        end if;

        -- Two that begin a group at once would wait for each other's first row: one at a time, and nobody waits for it.
        v_may_begin := array_position(v_turns, null) is null
            or pg_try_advisory_xact_lock(_lock_key('group_turn'::regclass, p_channel_id));

        -- Locked here and moved in the next statement, whose snapshot sees each as it was locked: one that was replaced
        -- a moment ago has a version that this statement would lock and not find.
        select
            array_agg(c.row_id), array_agg(c.group_key), array_agg(c.first), array_agg(c.message_id), array_agg(c.turn)
        into v_rows, v_groups_free, v_firsts_free, v_ids_free, v_turns_free
        from (
            select b.row_id, u.group_key, u.first, b.message_id, coalesce(u.turn, 0) + 1 as turn
            from unnest(v_groups, v_firsts, v_turns, v_holders) as u (group_key, first, turn, holder)
            cross join lateral (
                select n.ctid as row_id, n.message_id from blocked n
                where n.channel_id = p_channel_id and n.group_key = u.group_key and n.position = u.first
                limit 1
                for update skip locked
            ) b
            where u.holder is null and (u.turn is null and v_may_begin or u.group_key = any(v_locked))
        ) c;

        with candidate as (
            select c.*
            from unnest(v_rows, v_groups_free, v_firsts_free, v_ids_free, v_turns_free)
                as c (row_id, group_key, first, message_id, turn)
        ), given as (
            insert into group_turn (channel_id, group_key, turn, position, message_id, taken_at)
            select p_channel_id, c.group_key, c.turn, c.first, c.message_id, clock_now()
            from candidate c
            order by c.group_key
            on conflict do nothing
            returning group_turn.group_key, group_turn.turn
        ), former as (
            delete from group_turn where ctid = any(array(
                select f.row_id
                from given g
                cross join lateral (
                    select n.ctid as row_id from group_turn n
                    where n.channel_id = p_channel_id and n.group_key = g.group_key and n.turn = g.turn - 1
                    limit 1
                ) f
            ))
        ), taken as (
            delete from blocked where ctid = any(array(
                select c.row_id from candidate c inner join given g on g.group_key = c.group_key
            ))
            returning *
        ), entered as (
            insert into ready (position, channel_id, {{ message_names() }})
            select nextval('position_seq'), t.channel_id, {{ message_names("t") }}
            from (select * from taken order by position) t
            returning ready.group_key
        )
        select coalesce(array_agg(e.group_key), '{}') into v_given from entered e;

        select least(v_sure_to, min(u.first) - 1) into v_sure_to
        from unnest(v_groups, v_firsts, v_holders) as u (group_key, first, holder)
        where not (
            u.group_key = any(v_given) or u.group_key = any(v_sure)
            or (u.holder is not null and u.group_key = any(v_locked))
        );

        exit when v_amount < p_limit;
        v_from := v_last;
        if v_cut is null and (v_sure_to >= v_last or clock_timestamp() > v_stop) then
            v_cut := v_last;
            has_more := true;
            -- A page without doubt is enough: the next tick goes on from there.
            exit when v_sure_to >= v_last or v_last >= p_recent;
            v_from := p_recent;
        elsif clock_timestamp() > v_stop + interval '10 ms' then
            has_more := true;
            v_cut := coalesce(v_cut, v_last);
            exit;
        end if;
    end loop;
    grouped_to := greatest(p_from, least(v_sure_to, v_cut));
end;
$$;

comment on function {{ schema }}._group_advance(integer, bigint, bigint, bigint, integer) is
'Look at messages of groups that came into a queue above p_from, p_limit at a time, and let the first of each group without a holder enter ready. p_safe: positions up to it are visible or gone; p_recent: what was drawn above it is looked at even when there is too much before it. Returns up to where every group is known to be in somebody''s hands, how many messages were looked at, and whether there are more.';
