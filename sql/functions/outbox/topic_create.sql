{% from "macros/channel.sql" import create_body %}
create or replace function {{ schema }}.topic_create(p_topic text, p_policy jsonb default '{}') returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
{{ create_body("topic", "p_topic", 10) }}
$$;

comment on function {{ schema }}.topic_create(text, jsonb) is
'Create a topic; on one that exists, apply the policy. Keys as in topic_configure; max_attempts is 10 unless given. Errors: TG010 bad name, unknown key or bad value.';
