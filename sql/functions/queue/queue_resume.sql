create or replace function {{ schema }}.queue_resume(p_queue text) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    update channel set is_paused = false, is_draining = false where kind = 'queue' and name = p_queue;
    if not found then
        perform _no_such_channel('queue', p_queue);
    end if;
end;
$$;

comment on function {{ schema }}.queue_resume(text) is
'Hand out again what stands in a paused queue, and take messages again in a draining one. A repeat changes nothing. Errors: TG020 no such queue.';
