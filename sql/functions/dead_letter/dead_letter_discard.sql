create or replace function {{ schema }}.dead_letter_discard(
    p_dead_letter_ids bigint[], p_reason text, out dead_letter_id bigint, out outcome text
) returns setof record
language plpgsql volatile rows 100
security definer
set search_path = {{ schema }}, pg_temp
as $$
#variable_conflict use_column
begin
    if coalesce(btrim(p_reason), '') = '' then
        perform _bad_argument('p_reason', p_reason, 'Say why nobody needs these messages any more; it is kept with them.');
    end if;
    return query
    with wanted as (
        select w.id, min(w.ordinality) as ordinal from unnest(p_dead_letter_ids) with ordinality w (id, ordinality)
        group by w.id
    ), entry as (
        select d.dead_letter_id, d.state, d.channel_id from dead_letter d
        where d.dead_letter_id = any(p_dead_letter_ids)
        order by d.dead_letter_id
        for update
    ), discarded as (
        update dead_letter d
        set state = 'discarded', resolved_at = clock_now(),
            notes = d.notes || jsonb_build_object(
                'at', clock_now(), 'by', session_user, 'did', 'discard', 'note', p_reason
            )
        from entry e
        where d.dead_letter_id = e.dead_letter_id and e.state = 'dead'
        returning d.dead_letter_id, d.channel_id
    ), counted as (
        insert into tally (channel_id, outcome, amount)
        select d.channel_id, 'discarded', count(*) from discarded d group by d.channel_id
        returning 1
    )
    select
        w.id,
        case
            when e.dead_letter_id is null then 'unknown'
            when e.state = 'dead' then 'discarded'
            else 'already_' || e.state
        end
    from wanted w
    left join entry e on e.dead_letter_id = w.id
    order by w.ordinal;
end;
$$;

comment on function {{ schema }}.dead_letter_discard(bigint[], text) is
'Give up dead letters, with a reason that is kept; cleanup removes them after their retention. One row an id: discarded, already_requeued, already_resolved, already_discarded, or unknown. Errors: TG010 no reason.';
