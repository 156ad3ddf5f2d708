{#- What stands in indexes has a length: one too long would be refused there, wherever a message comes to one. -#}
{% macro lengths_check(names) -%}
{%- for each in names %}
    if octet_length({{ each }}) > 512 then -- they stand in indexes
        perform _bad_argument('{{ each }}', left({{ each }}, 100), 'It has at most 512 bytes; hash a longer one.');
    end if;
{%- endfor %}
{%- endmacro %}
