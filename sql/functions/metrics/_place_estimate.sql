create or replace function {{ schema }}._place_estimate(p_place text) returns jsonb
language plpgsql volatile
set search_path = {{ schema }}, pg_temp
as $$
/* Live rows in a thousand pages at random, whatever the table has, scaled up: statistics may be old. */
declare
    v_share constant double precision := least(
        100, 100.0 * 1000 * current_setting('block_size')::integer / greatest(pg_relation_size(p_place::regclass), 1)
    );
    v_found jsonb;
begin
    case p_place
{%- for place in ["ready", "scheduled", "blocked"] %}
        when '{{ place }}' then
            select jsonb_object_agg(n.channel_id, round(n.rows * 100 / v_share)) into v_found
            from (
                select r.channel_id, count(*) as rows
                    from {{ place }} r tablesample system (v_share) group by r.channel_id
            ) n;
{%- endfor %}
    end case;
    return coalesce(v_found, '{}');
end;
$$;

comment on function {{ schema }}._place_estimate(text) is
'About how many messages of each channel stand in a place, by channel_id, from a sample of at most a thousand pages; {} when none was met.';
