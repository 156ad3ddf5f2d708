create or replace function {{ schema }}.topic_configure(p_topic text, p_policy jsonb) returns void
language plpgsql volatile
security definer
set search_path = {{ schema }}, pg_temp
as $$
begin
    perform _channel_configure('topic', p_topic, p_policy);
end;
$$;

comment on function {{ schema }}.topic_configure(text, jsonb) is
'Change the policy of a topic: lease, max_runtime, max_attempts (0 = for ever), backoff_base, backoff_cap, backoff_factor, jitter (a share), retention (of archived messages), archive, max_in_flight (null = unlimited), inline_limit (bytes), tenant_required, doorbell (least interval between two wake-ups of whoever listens; null = none; a transaction that rings cannot be prepared, one with tidegate.doorbell off does not ring). Keys not given stay as they are. Errors: TG010 unknown key or bad value, TG020 no such topic.';
