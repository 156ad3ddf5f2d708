create or replace function {{ schema }}._priorities(p_channel_id integer) returns smallint[]
language sql stable
begin atomic
select array(
    select 0::smallint
    union
    select p.priority from {{ schema }}.channel_priority p where p.channel_id = p_channel_id
    order by 1
);
end;

comment on function {{ schema }}._priorities(integer) is 'Priorities in use in a channel, in order; 0 always is.';
