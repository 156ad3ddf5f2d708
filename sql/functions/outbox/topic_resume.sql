create or replace function {{ schema }}.topic_resume(p_topic text) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    update channel set is_paused = false where kind = 'topic' and name = p_topic;
    if not found then
        perform _no_such_channel('topic', p_topic);
    end if;
end;
$$;

comment on function {{ schema }}.topic_resume(text) is
'Hand out again what stands in a paused topic. A repeat changes nothing. Errors: TG020 no such topic.';
