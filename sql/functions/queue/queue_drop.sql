{% from "macros/channel.sql" import drop_body %}
create or replace function {{ schema }}.queue_drop(p_queue text, p_to text default null) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
set lock_timeout = '2s'
as $$
{{ drop_body("queue", "p_queue") }}
$$;

comment on function {{ schema }}.queue_drop(text, text) is
'Drop a queue: an empty one, or, with p_to (dead_letter or discard, as in queue_purge), one whose messages all wait; dead letters and archived messages stay. Commit at once: until then every call of every channel waits. Errors: TG010 bad p_to, TG020 no such queue, TG022 it still holds messages or is routed to, TG030 not READ COMMITTED, 55P03 a transaction that has used a channel stayed open: try again.';
