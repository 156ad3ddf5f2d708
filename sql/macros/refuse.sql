{#- For down migrations: refuse, with the count, while rows would be lost. The tables are locked first, so that
    nothing arrives between the count and the drop. `derived` says, by table, which rows are no loss. -#}
{% macro refuse_while_rows(tables, derived={}) -%}
{% for table in tables -%}
lock table {{ schema }}.{{ table }} in access exclusive mode;
{% endfor %}
do $$
declare
    v_count bigint;
begin
{%- for table in tables %}
    select count(*) into v_count from {{ schema }}.{{ table }}
    {%- if table in derived %} where not ({{ derived[table] }}){% endif %};
    if v_count > 0 then
        raise exception using
            errcode = 'TG060',
            message = '{{ table }} still holds ' || v_count || ' row(s) that this rollback would lose',
            hint = 'Drain, drop or delete them first; nothing was undone.';
    end if;
{%- endfor %}
end;
$$;
{%- endmacro %}
