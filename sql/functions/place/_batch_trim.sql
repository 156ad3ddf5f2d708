{% from "macros/message.sql" import message_names %}
create or replace function {{ schema }}._batch_trim(
    p_channel_id integer, p_messages {{ schema }}.message[], p_positions bigint[]
) returns {{ schema }}.message[]
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/*
 * A message that was in a lease that crashed is with no more others than its max_batch allows, and the bodies of a
 * claim are together at most 16 MB; but it always gets its first message. The rest goes back to the very positions
 * it was taken from, in the same transaction: to others it has never been away.
 */
declare
    v_kept integer;
begin
    select count(*) into v_kept
    from (
        select bool_and(f.fits) over (order by f.ordinality) as is_kept
        from (
            select
                m.ordinality,
                m.ordinality = 1
                or (
                    m.ordinality <= coalesce(min(m.max_batch) over w, m.ordinality)
                    and coalesce(sum(m.body_bytes) over w, 0) <= 16777216
                ) as fits
            from unnest(p_messages) with ordinality m
            window w as (order by m.ordinality)
        ) f
    ) k
    where k.is_kept;

    insert into ready (position, channel_id, {{ message_names() }})
    select p_positions[m.ordinality], p_channel_id, {{ message_names("m") }}
    from unnest(p_messages) with ordinality m
    where m.ordinality > v_kept;
    return p_messages[:v_kept];
end;
$$;

comment on function {{ schema }}._batch_trim(integer, {{ schema }}.message[], bigint[]) is
'Cut what a claim has taken to the longest prefix that max_batch and the size of the bodies allow, and put the rest back in place. Returns the prefix; at least one message.';
