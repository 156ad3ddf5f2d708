create or replace function {{ schema }}._has_turn(p_channel_id integer, p_group_key text, p_message_id bigint)
returns boolean
language sql stable
begin atomic
select coalesce((
    select t.message_id from {{ schema }}.group_turn t
    where t.channel_id = p_channel_id and t.group_key = p_group_key
    order by t.turn desc
    limit 1
) = p_message_id, false);
end;

comment on function {{ schema }}._has_turn(integer, text, bigint) is
'Whether it is this message''s turn in its group: a retry comes back to ready, where one that was only delayed joins blocked.';
