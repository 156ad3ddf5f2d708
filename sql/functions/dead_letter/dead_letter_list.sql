{% from "macros/dead_letter.sql" import dead_letter_filters, dead_letter_filters_check %}
create or replace function {{ schema }}.dead_letter_list(
    {{ dead_letter_filters() }},
    p_after_id bigint default null,
    p_limit integer default 50,
    p_after_at timestamptz default null
) returns setof {{ schema }}.dead_letter
language plpgsql stable rows 50
security definer
set search_path = {{ schema }}, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set jit = off
as $$
/* Newest first is by dead_at: what died again comes to the top. One pair says where the page begins and p_until. */
declare
    v_ids bigint[];
    v_to_at timestamptz := p_after_at;
    v_to_id bigint := p_after_id;
begin
    {{ dead_letter_filters_check() }}
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'List between 1 and 10000 entries at a time.');
    end if;
    if p_after_id is null and p_after_at is not null then
        perform _bad_argument('p_after_id', null, 'p_after_at is the dead_at that belongs to p_after_id: give both.');
    elsif p_after_id is not null and p_after_at is null then
        select d.dead_at into v_to_at from dead_letter d where d.dead_letter_id = p_after_id;
        if not found then
            perform _bad_argument(
                'p_after_id', p_after_id::text,
                'That entry is gone: give the dead_at it was listed with as p_after_at, or list from the top.'
            );
        end if;
    end if;
    if v_to_id is null or v_to_at >= p_until then
        v_to_at := coalesce(p_until, 'infinity');
        v_to_id := 0;
    end if;
    v_ids := _dead_letter_newest(
        p_channel, p_reason, p_tenant, p_run_id, p_state,
        coalesce(p_since, '-infinity'), 0, v_to_at, v_to_id, p_limit
    );
    return query
    select d.* from dead_letter d
    where d.dead_letter_id = any(v_ids)
    order by d.dead_at desc, d.dead_letter_id desc;
end;
$$;

comment on function {{ schema }}.dead_letter_list(
    text, text, text, text, text, timestamptz, timestamptz, bigint, integer, timestamptz
) is
'Dead letters, newest death first, by channel, reason, tenant, run, state (dead unless given; null = any) and time of death; a filter that is null matches all. Page on with p_after_id = the last dead_letter_id seen, and p_after_at = its dead_at, so that it need not stand where it stood. No rows when nothing matches. A payload above the inline limit is null here: see dead_letter_peek. Errors: TG010 bad limit, unknown state or reason, a p_after_id that is gone.';
