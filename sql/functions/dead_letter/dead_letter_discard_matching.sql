{% from "macros/dead_letter.sql" import dead_letter_filters, dead_letter_filters_check %}
create or replace function {{ schema }}.dead_letter_discard_matching(
    p_note text,
    {{ dead_letter_filters(with_state=false) }},
    p_limit integer default 1000,
    p_dry_run boolean default false
) returns bigint
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/* As a sweep does, it skips what others hold: the pages after those entries are looked at too. */
declare
    v_now constant timestamptz := clock_now();
    v_from_at timestamptz := coalesce(p_since, '-infinity');
    v_from_id bigint := 0;
    v_to_at constant timestamptz := coalesce(p_until, 'infinity');
    v_limit integer;
    v_ids bigint[];
    v_step bigint;
    v_discarded bigint := 0;
begin
    {{ dead_letter_filters_check(with_state=false) }}
    if coalesce(btrim(p_note), '') = '' then
        perform _bad_argument(
            'p_note', p_note, 'Say why nobody needs these messages any more; it is kept with them.'
        );
    end if;
    if p_limit is null or p_limit not between 1 and 100000 then
        perform _bad_argument('p_limit', p_limit::text, 'Discard between 1 and 100000 dead letters at a time.');
    end if;
    loop
        v_limit := p_limit - v_discarded;
        v_ids := _dead_letter_oldest(
            p_channel, p_reason, p_tenant, p_run_id, 'dead', v_from_at, v_from_id, v_to_at, 0, v_limit
        );
        if p_dry_run then
            return cardinality(v_ids);
        end if;
        with locked as (
            select d.dead_letter_id from dead_letter d
            where d.dead_letter_id = any(v_ids) and (d.state = 'dead') is true
            order by d.dead_letter_id
            for update skip locked
        ), discarded as (
            update dead_letter d
            set state = 'discarded', resolved_at = v_now,
                notes = d.notes || jsonb_build_object('at', v_now, 'by', session_user, 'did', 'discard', 'note', p_note)
            where d.dead_letter_id = any(array(select l.dead_letter_id from locked l))
            returning d.channel_id
        ), counted as (
            insert into tally (channel_id, outcome, amount)
            select d.channel_id, 'discarded', count(*) from discarded d group by d.channel_id
        )
        select count(*) into v_step from discarded;
        v_discarded := v_discarded + v_step;
        exit when v_discarded = p_limit or cardinality(v_ids) < v_limit;
        select d.dead_at, d.dead_letter_id into v_from_at, v_from_id
        from dead_letter d
        where d.dead_letter_id = v_ids[v_limit];
    end loop;
    return v_discarded;
end;
$$;

comment on function {{ schema }}.dead_letter_discard_matching(
    text, text, text, text, text, timestamptz, timestamptz, integer, boolean
) is
'Give up the dead letters that match the filters of dead_letter_list, oldest death first, up to p_limit, for a reason that is kept with them (p_note); no filter means all. Cleanup removes them after their retention. Returns how many were discarded, or with p_dry_run would be; 0 when nothing matches. Entries that somebody else is at are left. Errors: TG010 no note, unknown reason, bad limit.';
