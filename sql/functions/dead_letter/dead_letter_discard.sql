create or replace function {{ schema }}.dead_letter_discard(
    p_dead_letter_ids bigint[], p_reason text, out dead_letter_id bigint, out outcome text
) returns setof record
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_locked bigint[];
begin
    if coalesce(btrim(p_reason), '') = '' then
        perform _bad_argument(
            'p_reason', p_reason, 'Say why nobody needs these messages any more; it is kept with them.'
        );
    end if;
    -- As in dead_letter_requeue: only dead entries are locked.
    select array_agg(l.dead_letter_id) into v_locked
    from (
        select d.dead_letter_id from dead_letter d
        where d.dead_letter_id = any(p_dead_letter_ids) and (d.state = 'dead') is true
        order by d.dead_letter_id
        for update
    ) l;

    return query
    with discarded as (
        update dead_letter d
        set state = 'discarded', resolved_at = clock_now(),
            notes = d.notes || jsonb_build_object(
                'at', clock_now(), 'by', session_user, 'did', 'discard', 'note', p_reason
            )
        where d.dead_letter_id = any(v_locked)
        returning d.dead_letter_id, d.channel_id
    ), counted as (
        insert into tally (channel_id, outcome, amount)
        select d.channel_id, 'discarded', count(*) from discarded d group by d.channel_id
        returning 1
    )
    select
        w.id,
        case
            when d.dead_letter_id is null then 'unknown'
            when d.dead_letter_id = any(v_locked) then 'discarded'
            else 'already_' || case d.state when 'dead' then 'requeued' else d.state end
        end
    from (
        select i.id, min(i.ordinality) as ordinal
        from unnest(p_dead_letter_ids) with ordinality i (id, ordinality)
        group by i.id
    ) w
    left join lateral (select * from dead_letter n where n.dead_letter_id = w.id limit 1) d on true
    order by w.ordinal;
end;
$$;

comment on function {{ schema }}.dead_letter_discard(bigint[], text) is
'Give up dead letters, with a reason that is kept; cleanup removes them after their retention. One row an id: discarded, already_requeued, already_resolved, already_discarded, or unknown. Errors: TG010 no reason.';
