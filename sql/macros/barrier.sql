{% from "macros/run.sql" import is_stopped %}
{#-
  What barrier_open and barrier_send have in common.

  options      their arguments after those that are their own.
  types        the types of these, for `comment on function`.
  passed       the same, by name, for the call of _barrier_open.
  progress     how barriers stand, as barrier_state: of the view barrier_progress and of barrier_status.
-#}
{% set arguments = [
    ("callback_queue", "text", "null"),
    ("callback_payload", "jsonb", "'{}'"),
    ("policy", "text", "'abort'"),
    ("quorum", "integer", "null"),
    ("failure_queue", "text", "null"),
    ("failure_payload", "jsonb", "'{}'"),
    ("expire_queue", "text", "null"),
    ("expires_in", "interval", "'6 hours'"),
    ("stall_after", "interval", "'2.5 hours'"),
    ("run_id", "text", "null"),
    ("tenant", "text", "null"),
    ("sealed", "boolean", "true"),
    ("callback_headers", "jsonb", "null"),
    ("callback_priority", "integer", "0"),
    ("inline_limit", "integer", "1048576"),
    ("key", "text", "null"),
] %}

{% macro options(with_defaults=true) -%}
{%- for name, type, default in arguments -%}
p_{{ name }} {{ type }}{{ " default " ~ default if with_defaults }}{{ ",\n    " if not loop.last }}
{%- endfor -%}
{%- endmacro %}

{% macro types() -%}
{%- for name, type, default in arguments -%}
{{ type }}{{ ", " if not loop.last }}
{%- endfor -%}
{%- endmacro %}

{% macro passed() -%}
{%- for name, type, default in arguments -%}
p_{{ name }} => p_{{ name }}{{ ",\n        " if not loop.last }}
{%- endfor -%}
{%- endmacro %}

{% macro progress(prefix="") -%}
select
    b.name,
    b.epoch,
    b.state,
    b.outcome,
    b.reason,
    b.policy,
    b.is_sealed,
    b.member_count as members,
    b.member_count - s.failed - s.outstanding as arrived,
    s.failed,
    s.outstanding,
    b.opened_at,
    s.progress_at,
    b.expires_at,
    greatest(b.opened_at, s.progress_at, b.kept_at) + b.stall_after as stalls_at,
    b.closed_at,
    b.run_id,
    b.tenant
from {{ prefix }}barrier b
cross join lateral (
    select
        coalesce(sum(bit_count(n.failed::bit(64))), 0)::integer as failed,
        coalesce(sum(bit_count(n.pending::bit(64))), 0)::integer as outstanding,
        max(n.arrived_at) as progress_at
    from {{ prefix }}barrier_slot n
    where n.epoch = b.epoch
) s
{%- endmacro %}

{#- Whether what becomes of a member still matters to its barrier. Once it does not, it never will again: a closed epoch
    stays closed, and a stopped run stopped. -#}
{% macro is_awaited(name, epoch) -%}
exists (
            select from barrier b
            where b.name = {{ name }} and b.epoch = {{ epoch }} and b.state = 'open'
                and (b.run_id is null or not {{ is_stopped("b.run_id") }})
        )
{%- endmacro %}
