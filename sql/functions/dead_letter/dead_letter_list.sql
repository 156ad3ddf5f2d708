{% from "macros/dead_letter.sql" import dead_letter_filters, dead_letter_filters_check, dead_letter_matches %}
create or replace function {{ schema }}.dead_letter_list(
    {{ dead_letter_filters() }},
    p_after_id bigint default null,
    p_limit integer default 50
) returns setof {{ schema }}.dead_letter
language plpgsql stable rows 50
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    {{ dead_letter_filters_check() }}
    if p_limit is null or p_limit not between 1 and 10000 then
        perform _bad_argument('p_limit', p_limit::text, 'List between 1 and 10000 entries at a time.');
    end if;
    return query
    select d.*
    from dead_letter d
    where (p_after_id is null or d.dead_letter_id < p_after_id)
        and {{ dead_letter_matches("d") | indent }}
    order by d.dead_letter_id desc
    limit p_limit;
end;
$$;

comment on function {{ schema }}.dead_letter_list(
    text, text, text, text, text, timestamptz, timestamptz, bigint, integer
) is
'Dead letters, newest first, by channel, reason, tenant, run, state (dead unless given; null = any) and time; a filter that is null matches all. Page on with p_after_id = the last dead_letter_id seen. No rows when nothing matches. A payload above the inline limit is null here: see dead_letter_payload. Errors: TG010 bad limit, unknown state or reason.';
