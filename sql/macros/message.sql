{#-
  The columns of a message, written once for every place it can stand in.

  `message_columns` is what migration 0003 creates tables and the type from; it is frozen with it. A later migration
  adds its column to each place and to the type, and to `message_names` below, which the routines expand.
  Order: after a key of 8 + 4 bytes (position or instant, channel_id) nothing is padded, up to the payload; then what most
  messages leave null (a null costs one bit).
-#}
{% macro message_columns(constrained=true) -%}
{%- set required = " not null" if constrained else "" -%}
    attempts smallint{{ required }},
    priority {{ schema ~ ".priority not null" if constrained else "smallint" }},
    message_id bigint{{ required }},
    enqueued_at timestamptz{{ required }},
    payload jsonb,
    headers jsonb,
    event_id uuid,
    body_id bigint,
    body_bytes integer,
    max_attempts integer,
    max_batch integer,
    requeued_from bigint,
    backoff jsonb,
    topic text,
    group_key text collate "C",
    job_key text collate "C",
    run_id text,
    tenant text,
    errors jsonb,
    barrier text collate "C",
    epoch bigint,
    member integer
{%- endmacro %}

{#- The names of those columns as a list, for `insert into` and `select`; `of` is the alias they are read from,
    `replaced` gives other expressions for some of them. -#}
{% macro message_names(of="", replaced={}) -%}
{%- set names = [
    "attempts", "priority", "message_id", "enqueued_at", "payload", "headers", "event_id", "body_id", "body_bytes",
    "max_attempts", "max_batch", "requeued_from", "backoff", "topic", "group_key", "job_key", "run_id", "tenant", "errors",
    "barrier", "epoch", "member",
] -%}
{%- for name in names -%}
{{ replaced[name] if name in replaced else (of ~ "." ~ name if of else name) }}{{ ", " if not loop.last }}
{%- endfor -%}
{%- endmacro %}
