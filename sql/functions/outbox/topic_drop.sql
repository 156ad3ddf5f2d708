{% from "macros/channel.sql" import drop_body %}
create or replace function {{ schema }}.topic_drop(p_topic text) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set lock_timeout = '2s'
as $$
{{ drop_body("topic", "p_topic") }}
$$;

comment on function {{ schema }}.topic_drop(text) is
'Drop an empty topic with the routes that name it exactly; dead letters and archived messages stay. Commit at once: until then every call of every channel waits. Errors: TG020 no such topic, TG022 it still holds messages, TG030 not READ COMMITTED, 55P03 a transaction that has used a channel stayed open: try again.';
