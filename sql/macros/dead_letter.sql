{#- The reasons of migration 0003, of which a test asks whether they are all here. -#}
{% set reasons = [
    "exhausted", "not_retryable", "expired", "malformed", "unknown_handler", "cancelled", "purged",
] %}
{% set states = ["dead", "requeued", "resolved", "discarded"] %}

{#- The filters of dead_letter_list, _count, _requeue_matching and _discard_matching. The last two are about what is
    dead, and have no p_state. -#}
{% macro dead_letter_filters(with_state=true) -%}
    p_channel text default null,
    p_reason text default null,
    p_tenant text default null,
    p_run_id text default null,
{%- if with_state %}
    p_state text default 'dead',
{%- endif %}
    p_since timestamptz default null,
    p_until timestamptz default null
{%- endmacro %}

{% macro dead_letter_filters_check(with_state=true) -%}
{%- if with_state %}
    if p_state not in ('{{ states | join("', '") }}') then
        perform _bad_argument('p_state', p_state, 'The states are {{ states | join(", ") }}; null is any.');
    end if;
{%- endif %}
    if p_reason not in ('{{ reasons | join("', '") }}') then
        perform _bad_argument('p_reason', p_reason, 'The reasons are {{ reasons | join(", ") }}; null is any.');
    end if;
{%- endmacro %}

{#-
  What a page, newest or oldest first, is read by. One statement for each index, chosen here and not by the planner: a
  page costs the same whatever is rare and whatever the statistics say. Each is a range of its index for every state
  and reason asked for, bounded by the limit; only a run, which is small, is filtered further.
  See docs/decisions/0007.
-#}
{% macro dead_letter_ids_body(order) -%}
declare
    v_states constant text[] := case
        when p_state is null then array['{{ states | join("', '") }}'] else array[p_state]
    end;
    v_reasons constant text[] := case
        when p_reason is null then array['{{ reasons | join("', '") }}'] else array[p_reason]
    end;
begin
{%- for condition, keys in [
    ("p_run_id is not null", [
        "n.run_id = p_run_id", "(p_tenant is null or n.tenant = p_tenant)", "(p_channel is null or n.channel = p_channel)",
    ]),
    ("p_tenant is not null and p_channel is not null", ["n.tenant = p_tenant", "n.channel = p_channel"]),
    ("p_tenant is not null", ["n.tenant = p_tenant"]),
    ("p_channel is not null", ["n.channel = p_channel"]),
    ("", []),
] %}
    {{ "if " ~ condition ~ " then" if loop.first else "elsif " ~ condition ~ " then" if condition else "else" }}
        return array(
            select p.dead_letter_id
            from unnest(v_states) s (state)
            cross join unnest(v_reasons) r (reason)
            cross join lateral (
                select n.dead_at, n.dead_letter_id from dead_letter n
                where n.state = s.state and n.reason = r.reason
{%- for key in keys %}
                    and {{ key }}
{%- endfor %}
                    and (n.dead_at, n.dead_letter_id) > (p_from_at, p_from_id)
                    and (n.dead_at, n.dead_letter_id) < (p_to_at, p_to_id)
                order by n.dead_at {{ order }}, n.dead_letter_id {{ order }}
                limit p_limit
            ) p
            order by p.dead_at {{ order }}, p.dead_letter_id {{ order }}
            limit p_limit
        );
{%- endfor %}
    end if;
end;
{%- endmacro %}
