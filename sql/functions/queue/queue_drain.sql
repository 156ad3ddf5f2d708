create or replace function {{ schema }}.queue_drain(p_queue text) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    update channel set is_draining = true where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
end;
$$;

comment on function {{ schema }}.queue_drain(text) is
'Take no more messages: sends are refused with TG023 (but for repeats under an idempotency key), topics routed here wait, and workers finish what is there, retries and requeued dead letters included. queue_resume ends it. A repeat changes nothing. Errors: TG020 no such queue.';
