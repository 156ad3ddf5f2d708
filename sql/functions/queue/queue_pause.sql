create or replace function {{ schema }}.queue_pause(p_queue text) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    update channel set is_paused = true where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
end;
$$;

comment on function {{ schema }}.queue_pause(text) is
'Stop handing out what stands in a queue; what comes in is kept, and leases run on. A repeat changes nothing. Errors: TG020 no such queue.';
