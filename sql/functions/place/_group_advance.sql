{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._group_advance(
    p_channel_id integer, p_from bigint, p_safe bigint, p_limit integer,
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
 * and whoever ends that holder looks for the next one in a snapshot taken after he has locked the turn. So the turn is
 * locked here too. Got, and held: its holder ends later than this, and will see what is seen here. Got, and free: the
 * turn is given. Not got: somebody is at it now, and grouped_to stays below the message until he is done.
 * Nobody waits here, so nobody who acks waits for a producer.
 *
 * One that drew its position early and committed late stands below its group's holder: the mark from which the next
 * one is looked for is taken back to it.
 */
declare
    v_groups text[];
    v_firsts bigint[];
    v_last bigint;
    v_turns bigint[];
    v_holders bigint[];
    v_locked text[];
    v_given text[];
    v_unsure bigint;
begin
    select array_agg(h.group_key), array_agg(h.first), max(h.last), sum(h.amount)
    into v_groups, v_firsts, v_last, arrived
    from (
        select a.group_key, min(a.position) as first, max(a.position) as last, count(*) as amount
        from (
            select b.position, b.group_key from blocked b
            where b.channel_id = p_channel_id and b.position > p_from
            order by b.position
            limit p_limit
        ) a
        group by a.group_key
    ) h;
    arrived := coalesce(arrived, 0);
    has_more := arrived = p_limit;
    if arrived = 0 then
        grouped_to := greatest(p_from, p_safe);
        return;
    end if;

    select array_agg(t.turn order by u.ordinality), array_agg(t.message_id order by u.ordinality)
    into v_turns, v_holders
    from unnest(v_groups) with ordinality u (group_key, ordinality)
    left join lateral (
        select n.turn, n.message_id from group_turn n
        where n.channel_id = p_channel_id and n.group_key = u.group_key
        order by n.turn desc
        limit 1
    ) t on true;

    select coalesce(array_agg(l.group_key), '{}') into v_locked
    from (
        select t.group_key
        from unnest(v_groups, v_turns) u (group_key, turn)
        inner join group_turn t
            on t.channel_id = p_channel_id and t.group_key = u.group_key and t.turn = u.turn
        for update of t skip locked
    ) l;

    update group_turn t
    set position = u.first - 1
    from unnest(v_groups, v_firsts, v_turns) u (group_key, first, turn)
    where t.channel_id = p_channel_id and t.group_key = u.group_key and t.turn = u.turn
        and t.message_id is not null and t.position >= u.first and t.group_key = any(v_locked);

    with candidate as (
        select b.group_key, b.position, b.message_id, coalesce(u.turn, 0) + 1 as turn
        from unnest(v_groups, v_firsts, v_turns, v_holders) u (group_key, first, turn, holder)
        inner join blocked b
            on b.channel_id = p_channel_id and b.group_key = u.group_key and b.position = u.first
        where u.holder is null and (u.turn is null or u.group_key = any(v_locked))
        for update of b skip locked
    ), given as (
        insert into group_turn (channel_id, group_key, turn, position, message_id, taken_at)
        select p_channel_id, c.group_key, c.turn, c.position, c.message_id, clock_now()
        from candidate c
        on conflict do nothing
        returning group_turn.group_key, group_turn.position, group_turn.turn
    ), former as (
        delete from group_turn t using given g
        where t.channel_id = p_channel_id and t.group_key = g.group_key and t.turn = g.turn - 1
    ), taken as (
        delete from blocked b using given g
        where b.channel_id = p_channel_id and b.group_key = g.group_key and b.position = g.position
        returning b.*
    ), entered as (
        insert into ready (position, channel_id, {{ message_names() }})
        select nextval('position_seq'), t.channel_id, {{ message_names("t") }}
        from (select * from taken order by position) t
        returning ready.group_key
    )
    select coalesce(array_agg(e.group_key), '{}') into v_given from entered e;

    select min(u.first) into v_unsure
    from unnest(v_groups, v_firsts, v_holders) u (group_key, first, holder)
    where not (u.group_key = any(v_given) or (u.holder is not null and u.group_key = any(v_locked)));
    grouped_to := greatest(p_from, least(p_safe, v_unsure - 1, case when has_more then v_last end));
end;
$$;

comment on function {{ schema }}._group_advance(integer, bigint, bigint, integer) is
'Look at up to p_limit messages of groups that came into a queue above p_from, and let the first of each group without a holder enter ready. p_safe: positions up to it are visible or gone. Returns up to where every group is known to be in somebody''s hands, how many messages were looked at, and whether there are more.';
