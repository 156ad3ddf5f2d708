{% from "macros/channel.sql" import drop_body %}
create or replace function {{ schema }}.queue_drop(p_queue text) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set lock_timeout = '2s'
as $$
{{ drop_body("queue", "p_queue") }}
$$;

comment on function {{ schema }}.queue_drop(text) is
'Drop an empty queue; dead letters and archived messages stay. Commit at once: until then every call of every channel waits. Errors: TG020 no such queue, TG022 it still holds messages or is routed to, TG030 not READ COMMITTED, 55P03 a transaction that has used a channel stayed open: try again.';
