{% from "macros/dead_letter.sql" import dead_letter_filters, dead_letter_filters_check %}
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
        select c.count
        from _dead_letter_count(p_channel, p_reason, p_tenant, p_run_id, p_state, p_since, p_until) c (count)
    );
end;
$$;

comment on function {{ schema }}.dead_letter_count(
    text, text, text, text, text, timestamptz, timestamptz
) is
'How many dead letters match the filters of dead_letter_list, whatever its page. Errors: TG010 unknown state or reason.';
