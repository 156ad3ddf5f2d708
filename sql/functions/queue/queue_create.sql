{% from "macros/channel.sql" import create_body %}
create or replace function {{ schema }}.queue_create(p_queue text, p_policy jsonb default '{}') returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
{{ create_body("queue", "p_queue", 5) }}
$$;

comment on function {{ schema }}.queue_create(text, jsonb) is
'Create a queue; on one that exists, apply the policy. Keys as in queue_configure; max_attempts is 5 unless given. Errors: TG010 bad name, unknown key or bad value.';
