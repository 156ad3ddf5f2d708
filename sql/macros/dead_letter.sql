{#- The filters of dead_letter_list, _count and _requeue_matching: one predicate, so that a total and its pages agree. -#}
{% macro dead_letter_filters() -%}
    p_channel text default null,
    p_reason text default null,
    p_tenant text default null,
    p_run_id text default null,
    p_state text default 'dead',
    p_since timestamptz default null,
    p_until timestamptz default null
{%- endmacro %}

{% macro dead_letter_matches(of) -%}
    (p_channel is null or {{ of }}.channel = p_channel)
    and (p_reason is null or {{ of }}.reason = p_reason)
    and (p_tenant is null or {{ of }}.tenant = p_tenant)
    and (p_run_id is null or {{ of }}.run_id = p_run_id)
    and (p_state is null or {{ of }}.state = p_state)
    and (p_since is null or {{ of }}.dead_at >= p_since)
    and (p_until is null or {{ of }}.dead_at < p_until)
{%- endmacro %}

{% macro dead_letter_filters_check() -%}
    if p_state not in ('dead', 'requeued', 'resolved', 'discarded') then
        perform _bad_argument('p_state', p_state, 'The states are dead, requeued, resolved and discarded; null is any.');
    end if;
    if p_reason not in (
        'exhausted', 'not_retryable', 'expired', 'malformed', 'unknown_handler', 'cancelled', 'purged'
    ) then
        perform _bad_argument('p_reason', p_reason, 'The reasons stand in dead_letter_summary; null is any.');
    end if;
{%- endmacro %}
