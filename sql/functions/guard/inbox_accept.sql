create or replace function {{ schema }}.inbox_accept(p_consumer text, p_event_id uuid) returns boolean
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    if p_consumer is null or p_event_id is null then
        perform _bad_argument(
            case when p_consumer is null then 'p_consumer' else 'p_event_id' end, null,
            'An inbox remembers events by consumer and event_id.'
        );
    end if;
    insert into guard (scope, key, owner, state, claimed_at, finished_at)
    values ('inbox:' || p_consumer, p_event_id::text, p_consumer, 'done', clock_now(), clock_now())
    on conflict do nothing;
    return found;
end;
$$;

comment on function {{ schema }}.inbox_accept(text, uuid) is
'Accept an event in the consumer''s own transaction: true the first time, false for a duplicate. Of two at once the second waits for the first to end. Remembered until retention. Errors: TG010 bad argument.';
