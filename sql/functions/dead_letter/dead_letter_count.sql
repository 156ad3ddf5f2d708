{% from "macros/dead_letter.sql" import dead_letter_filters, dead_letter_filters_check, dead_letter_matches %}
create or replace function {{ schema }}.dead_letter_count(
    {{ dead_letter_filters() }}
) returns bigint
language plpgsql stable
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    {{ dead_letter_filters_check() }}
    return (
        select count(*) from dead_letter d
        where {{ dead_letter_matches("d") | indent(4) }}
    );
end;
$$;

comment on function {{ schema }}.dead_letter_count(
    text, text, text, text, text, timestamptz, timestamptz
) is
'How many dead letters match the filters of dead_letter_list, whatever its page. Errors: TG010 unknown state or reason.';
