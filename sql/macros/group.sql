{#- The first that waits in a group behind a position, for _message_end, _turn_seize and _group_advance.
    The comparison of rows leaves no index but that of the group, and the bound keeps the look from walking on over what
    died in the groups behind it. -#}
{% macro next_of_group(group_key, position, condition="true") -%}
select b.position from blocked b
            where {{ condition }} and b.channel_id = p_channel_id
                and (b.group_key, b.position) > ({{ group_key }}, {{ position }})
                and b.group_key <= {{ group_key }}
            order by b.group_key, b.position
            limit 1
{%- endmacro %}
